//! What passes between a sidecar that wants a certificate and the xds-lite that signs it: key, request, refusal, text.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mesh_link::grpc;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why nothing was signed.
pub(super) struct Refusal {
    /// The server understood and said no; otherwise it was not reached, or something else went wrong.
    pub judged: bool,
    /// In one line.
    pub why: String,
}

impl Refusal {
    pub(super) fn of(server: &str, status: &tonic::Status) -> Self {
        use tonic::Code;
        let explained = grpc::explain(server, status);
        let code = matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument
        );
        Self {
            judged: code || explained.contains("refused our certificate"),
            why: explained,
        }
    }
}

/// A fresh key, and the PKCS#10 request that proves it is held here. The key itself is never sent.
///
/// # Errors
/// The system gave no randomness.
pub(super) fn make_key() -> Result<(PrivateKeyDer<'static>, Vec<u8>), String> {
    let fail = |error: rcgen::Error| format!("cannot make a key: {error}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let request = CertificateParams::default()
        .serialize_request(&key)
        .map_err(fail)?;
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((der.into(), request.der().to_vec()))
}

/// A certificate or key as text, RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let digits = BASE64_STANDARD.encode(der);
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_chain_come_back_out_of_one_file() {
        let (key, csr) = make_key().unwrap();
        let text = format!(
            "{}{}",
            pem("PRIVATE KEY", key.secret_der()),
            pem("CERTIFICATE REQUEST", &csr)
        );
        use rustls::pki_types::pem::PemObject;
        let back = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
        assert_eq!(back.secret_der(), key.secret_der());
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
