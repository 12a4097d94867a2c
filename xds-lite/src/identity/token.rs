//! Join tokens: ES256 JSON Web Tokens of the mesh's own authority, good for the certificate of one service.
//!
//! Every replica has the authority's key, so each accepts the tokens of the others. Nobody else issues or reads them, which
//! is why they are held to the exact form in which they are made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use mesh_link::ca::CertificateAuthority;
use mesh_proto::name::ServiceName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Shortest life.
pub const LIFETIME_MIN: Duration = Duration::from_secs(1);
/// Longest life.
pub const LIFETIME_MAX: Duration = Duration::from_secs(168 * 3600);
/// Life where none is asked for.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// How far the clock of the replica that made a token may be ahead.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);
const TOKEN_BYTES_MAX: usize = 4 << 10;
const AUDIENCE: &str = "mesh-join";
const TYPE: &str = "mesh-join+jwt";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Not a token of ours at all.
    Malformed,
    /// Somebody else signed it.
    WrongSignature,
    /// It was good, and is no more.
    Expired {
        /// Whose it is.
        service: String,
    },
    /// It is not good yet: clocks differ.
    NotYet,
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenError::Malformed => f.write_str(
                "the join token is damaged or of another kind; make one with `mesh-ctl token create --service SERVICE`",
            ),
            TokenError::WrongSignature => f.write_str(
                "the join token was signed by another authority; make one with `mesh-ctl token create` at this xds-lite",
            ),
            TokenError::Expired { service } => write!(
                f,
                "the join token has expired; make another with `mesh-ctl token create --service {service}`"
            ),
            TokenError::NotYet => {
                f.write_str("the join token was made in the future; set the clocks of the xds-lite hosts")
            }
        }
    }
}

/// Makes a token, and says when it expires.
///
/// # Errors
/// The authority's key cannot sign.
pub fn create(
    ca: &CertificateAuthority,
    service: &ServiceName,
    lifetime: Duration,
    now: SystemTime,
) -> Result<(String, SystemTime), String> {
    let iat = seconds(now);
    let exp = iat + lifetime.as_secs().max(1);
    let claims = Claims {
        iss: issuer(ca),
        aud: AUDIENCE.to_owned(),
        sub: service.to_string(),
        iat,
        exp,
    };
    let fail = |error: jsonwebtoken::errors::Error| format!("cannot sign a join token: {error}");
    let key = EncodingKey::from_ec_pem(ca.key_pem_pkcs8().as_bytes()).map_err(fail)?;
    let token = jsonwebtoken::encode(&header(ca), &claims, &key).map_err(fail)?;
    Ok((token, UNIX_EPOCH + Duration::from_secs(exp)))
}

/// Reads a token, and says for which service it is.
///
/// # Errors
/// It is not accepted; see [`TokenError`].
pub fn verify(ca: &CertificateAuthority, token: &str, now: SystemTime) -> Result<ServiceName, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let key_id = check_header(token)?;
    if key_id != self::key_id(ca) {
        return Err(TokenError::WrongSignature);
    }
    let key = DecodingKey::from_ec_der(ca.public_key_raw());
    let mut validation = Validation::new(Algorithm::ES256);
    // Times and names are judged below, exactly; the library's own checks are lenient.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let claims =
        jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::WrongSignature,
            _ => TokenError::Malformed,
        })?;
    let claims = claims.claims;
    if claims.iss != issuer(ca) || claims.aud != AUDIENCE {
        return Err(TokenError::Malformed);
    }
    let service = ServiceName::parse(&claims.sub).map_err(|_| TokenError::Malformed)?;
    let now = seconds(now);
    if now >= claims.exp {
        return Err(TokenError::Expired { service: claims.sub });
    }
    if claims.iat > now + CLOCK_AHEAD.as_secs() {
        return Err(TokenError::NotYet);
    }
    if claims.exp - now > LIFETIME_MAX.as_secs() + CLOCK_AHEAD.as_secs() {
        return Err(TokenError::Malformed);
    }
    Ok(service)
}

fn header(ca: &CertificateAuthority) -> Header {
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(key_id(ca));
    header
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    typ: String,
    alg: String,
    kid: String,
}

/// Holds the header to the one form we write, and gives back the id of the key.
fn check_header(token: &str) -> Result<String, TokenError> {
    let encoded = token.split('.').next().unwrap_or_default();
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::Malformed)?;
    let header: StrictHeader = serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)?;
    if header.typ == TYPE && header.alg == "ES256" {
        Ok(header.kid)
    } else {
        Err(TokenError::Malformed)
    }
}

/// Tells the keys of different authorities apart.
fn key_id(ca: &CertificateAuthority) -> String {
    let hash = Sha256::digest(ca.public_key_raw());
    BASE64_URL_SAFE_NO_PAD.encode(&hash[..12])
}

fn issuer(ca: &CertificateAuthority) -> String {
    mesh_proto::name::SpiffeId::control(ca.trust_domain()).to_string()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use mesh_proto::name::TrustDomain;

    use super::*;

    fn ca() -> CertificateAuthority {
        CertificateAuthority::create(&TrustDomain::parse("mesh.local").unwrap()).unwrap()
    }

    fn service() -> ServiceName {
        ServiceName::parse("market.quotes").unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_is_good_for_its_service_until_the_second_it_expires() {
        let (ca, now) = (ca(), SystemTime::now());
        let (token, expires) = create(&ca, &service(), HOUR, now).unwrap();
        assert_eq!(verify(&ca, &token, now), Ok(service()));
        assert_eq!(
            verify(&ca, &token, expires - Duration::from_secs(1)),
            Ok(service())
        );
        let told = verify(&ca, &token, expires).unwrap_err();
        assert!(
            matches!(&told, TokenError::Expired { service, .. } if service == "market.quotes"),
            "{told}"
        );
        assert!(
            told.to_string()
                .contains("mesh-ctl token create --service market.quotes")
        );
    }

    #[test]
    fn a_token_of_another_authority_is_told_as_such() {
        let now = SystemTime::now();
        let (token, _) = create(&ca(), &service(), HOUR, now).unwrap();
        assert_eq!(verify(&ca(), &token, now), Err(TokenError::WrongSignature));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let (ca, now) = (ca(), SystemTime::now());
        let (token, _) = create(&ca, &service(), HOUR, now).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let claims = BASE64_URL_SAFE_NO_PAD.encode(
            String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap())
                .unwrap()
                .replace("market.quotes", "market.others"),
        );
        let forged = format!("{}.{claims}.{}", parts[0], parts[2]);
        assert_eq!(verify(&ca, &forged, now), Err(TokenError::WrongSignature));
        for bad in [
            "",
            "a",
            "a.b.c",
            &token[..token.len() - 8],
            &format!("{token}x"),
            &"a".repeat(5000),
        ] {
            assert!(verify(&ca, bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_of_the_same_key_in_any_other_form_is_refused() {
        let (ca, now) = (ca(), SystemTime::now());
        let key = EncodingKey::from_ec_pem(ca.key_pem_pkcs8().as_bytes()).unwrap();
        let at = seconds(now);
        let good =
            serde_json::json!({"iss": issuer(&ca), "aud": AUDIENCE, "sub": "a", "iat": at, "exp": at + 60});
        let sign =
            |header: &Header, claims: &serde_json::Value| jsonwebtoken::encode(header, claims, &key).unwrap();
        assert!(verify(&ca, &sign(&header(&ca), &good), now).is_ok());
        for (name, value) in [
            ("aud", serde_json::json!(["mesh-join"])),
            ("aud", "other".into()),
            ("iss", "other".into()),
            ("sub", "A".into()),
            ("sub", serde_json::Value::Null),
            ("exp", serde_json::json!("1")),
            ("exp", serde_json::json!(at as f64 + 0.5)),
            ("exp", serde_json::json!(at + 400 * 24 * 3600)),
            ("iat", serde_json::json!(at + 3600)),
            ("role", "admin".into()),
        ] {
            let mut claims = good.clone();
            claims[name] = value.clone();
            assert!(
                verify(&ca, &sign(&header(&ca), &claims), now).is_err(),
                "{name}={value}"
            );
        }
        let mut plain = header(&ca);
        plain.typ = Some("JWT".into());
        assert!(verify(&ca, &sign(&plain, &good), now).is_err());
        let mut embedded = header(&ca);
        embedded.jku = Some("https://evil.example".into());
        assert!(verify(&ca, &sign(&embedded, &good), now).is_err());
    }
}
