//! What a process shows and whom it believes: its certificate chain and key, and the authorities of its trust domain.

use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_proto::fault::{Check, Faults};
use mesh_proto::name::SpiffeId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::svid;

/// Most certificates in a chain.
pub const CHAIN_MAX: usize = 4;
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A certificate with its key, and the authorities to believe. Whole and consistent, or not there.
pub struct Credentials {
    /// Who this process is.
    pub id: SpiffeId,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Begin of the leaf's validity.
    pub not_before: SystemTime,
    /// End of the leaf's validity.
    pub not_after: SystemTime,
    /// Roots of the trust domain.
    pub authorities: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads credentials from PEM texts.
    ///
    /// # Errors
    /// Every fault, placed at `certificate`, `key` or `ca`.
    pub fn from_pem(chain: &str, key: &str, authorities: &str) -> Result<Self, Faults> {
        let mut check = Check::default();
        let chain = check.leaf("certificate", read_chain(chain));
        let key = check.leaf(
            "key",
            PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| "holds no private key in PEM (PKCS#8, SEC1 or PKCS#1)"),
        );
        let authorities = check.leaf("ca", read_authorities(authorities));
        let value = chain.zip(key).zip(authorities);
        check
            .finish(value)
            .and_then(|((chain, key), authorities)| Self::new(chain, key, authorities))
    }

    /// Puts credentials together and checks that certificate and key belong to each other.
    ///
    /// # Errors
    /// Every fault, placed at `certificate` or `key`.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Faults> {
        let mut check = Check::default();
        let leaf = chain
            .first()
            .ok_or_else(|| Faults::one("certificate", "is empty"))?;
        let id = check.leaf("certificate", svid::identity(leaf));
        let validity = check.leaf("certificate", validity(leaf));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
        match signing.map(|signing| rustls::sign::CertifiedKey::new(chain.clone(), signing).keys_match()) {
            Ok(Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown))) => {}
            Ok(Err(_)) => check.fault("key", "does not belong to the certificate"),
            Err(_) => check.fault(
                "key",
                "is of a kind that is not supported; use ECDSA P-256, Ed25519 or RSA",
            ),
        }
        let value = id.zip(validity).map(|(id, (not_before, not_after))| Self {
            id,
            chain,
            not_before,
            not_after,
            authorities,
            key,
        });
        check.finish(value)
    }

    /// Reads credentials from PEM files.
    ///
    /// # Errors
    /// Every file that cannot be read, or every fault in them.
    pub fn from_files(chain: &Path, key: &Path, authorities: &Path) -> Result<Self, Faults> {
        let mut check = Check::default();
        let mut read = |place: &str, path: &Path| check.leaf(place, read_file(path));
        let texts = (
            read("certificate", chain),
            read("key", key),
            read("ca", authorities),
        );
        let (Some(chain), Some(key), Some(authorities)) = texts else {
            return check.finish(None);
        };
        Self::from_pem(&chain, &key, &authorities)
    }

    /// The private key, for TLS.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Life that is left at `now`; zero once expired.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Reads authorities from PEM.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn read_authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = read_certificates(pem)?;
    for certificate in &found {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| "holds something that is no certificate")?;
        if !parsed.is_ca() {
            return Err("holds a certificate that is no authority's".into());
        }
    }
    Ok(found)
}

fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = read_certificates(pem)?;
    if chain.len() > CHAIN_MAX {
        return Err(format!(
            "holds {} certificates; a chain has at most {CHAIN_MAX}",
            chain.len()
        ));
    }
    Ok(chain)
}

fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM".into()),
        Ok(found) => Ok(found),
        Err(_) => Err("holds a certificate that is not well-formed PEM".into()),
    }
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| "cannot be read".to_owned())?;
    let time = |at: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or("has an impossible validity".to_owned())
    };
    Ok((
        time(parsed.validity().not_before)?,
        time(parsed.validity().not_after)?,
    ))
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(fail)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(fail)?;
    Ok(text)
}
