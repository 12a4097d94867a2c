//! The certificate authorities believed for one trust domain.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::metadata;
use crate::fault::{Check, Faults};
use crate::name::TrustDomain;
use crate::v1;

/// Most authorities in one bundle.
pub const TRUST_ANCHORS_MAX: usize = 20;
const BUNDLE_BYTES_MAX: usize = 256 << 10;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// [`v1::TrustBundle`]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose certificates these authorities may sign.
    pub trust_domain: TrustDomain,
    /// In DER. Whether each is a certificate is for those who verify to say; that each is framed well is known.
    pub authorities: Vec<Vec<u8>>,
}

impl TryFrom<v1::TrustBundle> for TrustBundle {
    type Error = Faults;

    fn try_from(message: v1::TrustBundle) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, TrustDomain::parse);
        let text = message.spec.unwrap_or_default().certificates;
        let authorities = check.leaf("spec.certificates", read_pem(&text));
        let value = name
            .zip(authorities)
            .map(|((trust_domain, _), authorities)| Self {
                trust_domain,
                authorities,
            });
        check.finish(value)
    }
}

/// Takes the certificates out of a PEM text (RFC 7468). Anything else in it is a fault: a key has no business here.
fn read_pem(text: &str) -> Result<Vec<Vec<u8>>, String> {
    if text.trim().is_empty() {
        return Err("is missing; write certificates in PEM".into());
    }
    if text.len() > BUNDLE_BYTES_MAX {
        return Err(format!(
            "is {} bytes; at most {BUNDLE_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    if text.contains("PRIVATE KEY") {
        return Err("holds a private key; write certificates only, and replace that key".into());
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let body = &rest[begin + BEGIN.len()..];
        let end = body.find(END).ok_or("has a certificate that does not end")?;
        let digits: String = body[..end].split_ascii_whitespace().collect();
        let der = BASE64_STANDARD
            .decode(digits)
            .map_err(|_| format!("certificate {} is not base64", found.len() + 1))?;
        // DER of a certificate is a SEQUENCE (RFC 5280 4.1).
        if der.first() != Some(&0x30) {
            return Err(format!(
                "certificate {} is not an X.509 certificate",
                found.len() + 1
            ));
        }
        found.push(der);
        rest = &body[end + END.len()..];
    }
    match found.len() {
        0 => Err("holds no certificate in PEM".into()),
        many if many > TRUST_ANCHORS_MAX => Err(format!(
            "holds {many} certificates; at most {TRUST_ANCHORS_MAX} are allowed"
        )),
        _ => Ok(found),
    }
}
