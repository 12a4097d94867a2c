//! TLS between processes of the mesh: version 1.3 only, ALPN h2, a SPIFFE ID on both sides, nothing resumed.
//!
//! Resumption is off because a resumed session would bring back a client whose certificate has since expired or whose
//! authority was removed; rustls takes the chain out of the stored session without judging it again.

use std::sync::Arc;

use mesh_proto::name::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};

use crate::credentials::Credentials;
use crate::svid;

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// One that is shown is judged; none is let in without an identity.
    Optional,
}

/// The server's side.
///
/// # Errors
/// The authorities or the key cannot be used.
pub fn server_config(credentials: &Credentials, clients: ClientAuth) -> Result<Arc<ServerConfig>, String> {
    let provider = provider();
    let roots = Arc::new(roots(&credentials.authorities)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder = match clients {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    let inner = builder.build().map_err(|error| error.to_string())?;
    let verifier = SvidClientVerifier {
        inner,
        trust_domain: credentials.id.trust_domain().to_owned(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(credentials.chain.clone(), credentials.key())
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The client's side: the server must be exactly `expected`. `own` is shown if the server asks.
///
/// # Errors
/// The authorities or the key cannot be used.
pub fn client_config(
    own: Option<&Credentials>,
    authorities: &[CertificateDer<'static>],
    expected: SpiffeId,
) -> Result<Arc<ClientConfig>, String> {
    let provider = provider();
    let verifier = SvidServerVerifier {
        roots: roots(authorities)?,
        expected,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some(own) => builder
            .with_client_auth_cert(own.chain.clone(), own.key())
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The client's side towards a server that is known by its host name: what `authorities` sign is believed, PEM, or else
/// what this host believes.
///
/// # Errors
/// There are no authorities, or they cannot be used.
pub fn web_client_config(authorities: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let authorities = match authorities {
        Some(pem) => crate::credentials::read_authorities(pem)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut believed = RootCertStore::empty();
    // Hosts have some that nobody can use any more.
    let (good, _) = believed.add_parsable_certificates(authorities);
    if good == 0 {
        return Err("there are no authorities to believe".into());
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(believed)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The identity a handshake proved, if the peer showed one. Call it after the handshake: the verifiers here have judged.
#[must_use]
pub fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> Option<SpiffeId> {
    certificates
        .and_then(<[_]>::first)
        .and_then(|leaf| svid::identity(leaf).ok())
}

/// The one crypto library under everything.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| format!("an authority's certificate cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        Err("there are no authorities to believe".into())
    } else {
        Ok(roots)
    }
}

fn not_accepted(why: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Why(why)))))
}

#[derive(Debug)]
struct Why(String);

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Why {}

#[derive(Debug)]
struct SvidServerVerifier {
    roots: RootCertStore,
    expected: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for SvidServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let id = svid::identity(leaf).map_err(not_accepted)?;
        if id == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(not_accepted(format!("the server is {id}, not {}", self.expected)))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken in the mesh".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct SvidClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl ClientCertVerifier for SvidClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Names of authorities are nobody's business before the client has shown who it is.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        let id = svid::identity(leaf).map_err(not_accepted)?;
        // A bundle speaks for its own trust domain only.
        if id.trust_domain() == self.trust_domain {
            Ok(verified)
        } else {
            Err(not_accepted(format!(
                "{id} is not of trust domain {}",
                self.trust_domain
            )))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken in the mesh".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
