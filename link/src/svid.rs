//! Reads the SPIFFE ID out of a certificate, as strictly as the X509-SVID standard (sections 2, 4 and 5) asks.
//!
//! Chain, validity and extended key usage are judged by webpki before this; it does not judge URI names, so we do.

use mesh_proto::name::SpiffeId;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The identity of a leaf certificate.
///
/// # Errors
/// Why it is not an X509-SVID, in words.
pub fn identity(leaf: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| "the certificate cannot be read".to_owned())?;
    if certificate.is_ca() {
        return Err("the certificate is an authority's; a leaf is needed".into());
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| "the certificate's key usage cannot be read".to_owned())?
        .ok_or("the certificate has no key usage")?;
    if !usage.critical || !usage.value.digital_signature() {
        return Err("the certificate's key usage is not critical with digitalSignature".into());
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err("the certificate may sign certificates; a leaf may not".into());
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "the certificate's names cannot be read".to_owned())?
        .ok_or("the certificate has no SPIFFE ID")?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri),
        (None, _) => Err("the certificate has no SPIFFE ID".into()),
        (Some(_), Some(_)) => Err("the certificate has more than one URI; an X509-SVID has one".into()),
    }
}
