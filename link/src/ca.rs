//! The certificate authority: one ECDSA P-256 key in a folder, leaves of a day for those who may have them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_proto::fault::Faults;
use mesh_proto::name::{SpiffeId, TrustDomain};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateSigningRequestDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::credentials;

/// File of the authority's certificate.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// File of the authority's key.
pub const KEY_FILE: &str = "ca-key.pem";
/// Life of the authority itself.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin a little early, so that clocks may differ.
const BACKDATE: Duration = Duration::from_secs(60);
const CSR_BYTES_MAX: usize = 16 << 10;

/// Signs for one trust domain.
pub struct CertificateAuthority {
    trust_domain: TrustDomain,
    bundle_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with a key that was made for it.
pub struct Issued {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: String,
    /// End of validity.
    pub not_after: SystemTime,
}

/// A certificate for somebody else's key.
pub struct Signed {
    /// DER, leaf first.
    pub chain_der: Vec<Vec<u8>>,
    /// End of validity.
    pub not_after: SystemTime,
}

impl CertificateAuthority {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn create(trust_domain: &TrustDomain) -> Result<Self, String> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("mesh authority of {trust_domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + AUTHORITY_LIFETIME).into();
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
        Self::from_parts(certificate.pem(), key, trust_domain.clone())
    }

    /// Reads the authority a folder holds.
    ///
    /// # Errors
    /// A file is missing or damaged; told with the file and the fix.
    pub fn load(dir: &Path) -> Result<Self, Faults> {
        let read = |file: &str| {
            fs::read_to_string(dir.join(file)).map_err(|error| {
                Faults::one(
                    dir.join(file).display().to_string(),
                    format!(
                        "{error}; make an authority with `mesh-ctl ca init --dir {}`",
                        dir.display()
                    ),
                )
            })
        };
        let (certificate, key) = (read(CERTIFICATE_FILE)?, read(KEY_FILE)?);
        let fault = |file: &str, why: String| Faults::one(dir.join(file).display().to_string(), why);
        let authorities =
            credentials::read_authorities(&certificate).map_err(|why| fault(CERTIFICATE_FILE, why))?;
        let trust_domain = trust_domain_of(&authorities[0]).map_err(|why| fault(CERTIFICATE_FILE, why))?;
        let key = KeyPair::from_pem(&key)
            .map_err(|_| fault(KEY_FILE, "holds no private key in PKCS#8 PEM".into()))?;
        let public = X509Certificate::from_der(&authorities[0]).map(|(_, c)| c.public_key().raw.to_vec());
        if public.ok().as_deref() != Some(key.subject_public_key_info().as_slice()) {
            return Err(fault(KEY_FILE, format!("does not belong to {CERTIFICATE_FILE}")));
        }
        Self::from_parts(certificate, key, trust_domain).map_err(|why| fault(CERTIFICATE_FILE, why))
    }

    fn from_parts(bundle_pem: String, key: KeyPair, trust_domain: TrustDomain) -> Result<Self, String> {
        let issuer = Issuer::from_ca_cert_pem(&bundle_pem, key).map_err(|error| error.to_string())?;
        Ok(Self {
            trust_domain,
            bundle_pem,
            issuer,
        })
    }

    /// Writes the authority into a folder, the key readable by its owner only.
    ///
    /// # Errors
    /// One is already there, or the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), String> {
        fs::create_dir_all(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        write_new(&dir.join(KEY_FILE), &self.issuer.key().serialize_pem(), true)?;
        write_new(&dir.join(CERTIFICATE_FILE), &self.bundle_pem, false)
    }

    /// Whom it signs for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// Its key in PKCS#8 PEM, for signing join tokens with ES256.
    #[must_use]
    pub fn key_pem_pkcs8(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Its public key as the 65 bytes of an uncompressed P-256 point, for verifying join tokens.
    #[must_use]
    pub fn public_key_raw(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// A certificate with a fresh key.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration) -> Result<Issued, String> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
        let (params, not_after) = self.leaf(id, lifetime)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| error.to_string())?;
        Ok(Issued {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after,
        })
    }

    /// A certificate for the public key of a PKCS#10 request. Its signature proves that the asker has the key; everything
    /// else in it is ignored.
    ///
    /// # Errors
    /// The request cannot be read or does not prove possession.
    pub fn sign(&self, csr_der: &[u8], id: &SpiffeId, lifetime: Duration) -> Result<Signed, String> {
        if csr_der.len() > CSR_BYTES_MAX {
            return Err(format!(
                "the request is {} bytes; at most {CSR_BYTES_MAX} are allowed",
                csr_der.len()
            ));
        }
        let mut request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
                .map_err(|error| format!("the certificate request is refused: {error}"))?;
        let (params, not_after) = self.leaf(id, lifetime)?;
        request.params = params;
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(|error| error.to_string())?;
        Ok(Signed {
            chain_der: vec![certificate.der().to_vec()],
            not_after,
        })
    }

    fn leaf(&self, id: &SpiffeId, lifetime: Duration) -> Result<(CertificateParams, SystemTime), String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![uri(id.as_str())?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        let not_after = now + lifetime;
        params.not_before = (now - BACKDATE).into();
        params.not_after = not_after.into();
        Ok((params, not_after))
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

fn uri(text: &str) -> Result<SanType, String> {
    Ia5String::try_from(text)
        .map(SanType::URI)
        .map_err(|error| error.to_string())
}

/// An authority names its trust domain as a SPIFFE ID without a path (X509-SVID 4.1).
fn trust_domain_of(certificate: &[u8]) -> Result<TrustDomain, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "cannot be read".to_owned())?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| "has names that cannot be read".to_owned())?;
    let uri = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
    TrustDomain::parse(uri.ok_or("names no trust domain (a URI name spiffe://<domain>)")?)
}

/// Writes a file that must not be there yet; `secret` ones for their owner only.
///
/// # Errors
/// It is there, or the folder cannot be written.
pub fn write_new(path: &Path, text: &str, secret: bool) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} is already there and is left as it is", path.display())
            }
            _ => format!("cannot write {}: {error}", path.display()),
        })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}
