//! An issuer of tokens, and its keys.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{duration, metadata};
use crate::fault::{Check, Faults};
use crate::name::{document_name, quote};
use crate::v1::{self, jwks_source};

/// Largest key set, in bytes.
pub const JWKS_BYTES_MAX: u64 = 256 << 10;
/// Most keys in a set.
pub const JWKS_KEYS_MAX: usize = 100;
const KID_BYTES_MAX: usize = 256;
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
const LEEWAY_MAX: Duration = Duration::from_secs(300);
const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const AUDIENCES_MAX: usize = 100;

/// [`v1::JwtProvider`]
#[derive(Debug, Clone, PartialEq)]
pub struct JwtProvider {
    /// Its name, which rules refer to.
    pub name: Arc<str>,
    /// The exact `iss`.
    pub issuer: Arc<str>,
    /// One of these must stand in `aud`.
    pub audiences: Vec<Arc<str>>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Allowed clock difference.
    pub leeway: Duration,
    /// Longest remaining life of a token.
    pub max_lifetime: Duration,
    /// Accepted `typ`, lower-case.
    pub types: Vec<Arc<str>>,
    /// Whether the service gets to see the token.
    pub forward: bool,
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySource {
    /// Here.
    Inline(KeySet),
    /// There.
    Uri(Arc<str>),
}

/// The keys of one issuer (RFC 7517), each with the one algorithm it is for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeySet {
    /// At least one, at most [`JWKS_KEYS_MAX`]; key ids are unique.
    pub keys: Vec<Jwk>,
}

/// One verification key.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwk {
    /// Its id. Only a set of one key may go without.
    pub kid: Option<Arc<str>>,
    /// The one algorithm it verifies.
    pub algorithm: JwtAlgorithm,
    /// Its public parts.
    pub material: JwkMaterial,
}

/// What is accepted. No HMAC: a shared secret proves nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// As written in `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Ps256 => "PS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::EdDsa => "EdDSA",
        }
    }
}

/// The public parts of a key, as base64url without padding, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwkMaterial {
    /// Modulus and exponent.
    Rsa {
        /// Modulus, 2,048 bits or more.
        n: String,
        /// Exponent.
        e: String,
    },
    /// A point on P-256.
    P256 {
        /// 32 bytes.
        x: String,
        /// 32 bytes.
        y: String,
    },
    /// An Ed25519 public key.
    Ed25519 {
        /// 32 bytes.
        x: String,
    },
}

impl TryFrom<v1::JwtProvider> for JwtProvider {
    type Error = Faults;

    fn try_from(message: v1::JwtProvider) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, document_name);
        let spec = message.spec.unwrap_or_default();
        if spec.issuer.is_empty() {
            check.fault("spec.issuer", "is missing; write the exact iss of its tokens");
        }
        if spec.audiences.is_empty() {
            check.fault("spec.audiences", "is missing; name at least one audience");
        }
        if spec.audiences.len() > AUDIENCES_MAX {
            check.fault(
                "spec.audiences",
                format!(
                    "has {} entries; at most {AUDIENCES_MAX} are allowed",
                    spec.audiences.len()
                ),
            );
        }
        for (index, audience) in spec.audiences.iter().enumerate() {
            if audience.is_empty() {
                check.fault(format!("spec.audiences[{index}]"), "is blank");
            }
        }
        let keys = check.part("spec.jwks", read_source(spec.jwks));
        let leeway = duration("spec.leeway", spec.leeway, Duration::ZERO, LEEWAY_MAX, &mut check);
        let max_lifetime = duration(
            "spec.maxLifetime",
            spec.max_lifetime,
            Duration::from_secs(1),
            LIFETIME_MAX,
            &mut check,
        );
        let mut types: Vec<Arc<str>> = Vec::new();
        for (index, text) in spec.types.iter().enumerate() {
            if text.is_empty() {
                check.fault(format!("spec.types[{index}]"), "is blank");
            }
            types.push(text.to_ascii_lowercase().into());
        }
        if types.is_empty() {
            types = vec!["jwt".into(), "at+jwt".into()];
        }
        let value = name.zip(keys).map(|((name, _), keys)| Self {
            name,
            issuer: spec.issuer.as_str().into(),
            audiences: spec.audiences.iter().map(|a| a.as_str().into()).collect(),
            keys,
            leeway: leeway.unwrap_or(LEEWAY_DEFAULT),
            max_lifetime: max_lifetime.unwrap_or(LIFETIME_DEFAULT),
            types,
            forward: spec.forward,
        });
        check.finish(value)
    }
}

fn read_source(source: Option<v1::JwksSource>) -> Result<KeySource, Faults> {
    match source.and_then(|source| source.source) {
        None => Err(Faults::one("", "is missing; write uri, inline or file")),
        Some(jwks_source::Source::File(file)) => Err(Faults::one(
            "file",
            format!(
                "{} was not read in; documents are sent with their files inlined",
                quote(&file)
            ),
        )),
        Some(jwks_source::Source::Inline(text)) => KeySet::parse(text.as_bytes())
            .map(KeySource::Inline)
            .map_err(|faults| faults.under("inline")),
        Some(jwks_source::Source::Uri(uri)) => {
            check_uri(&uri).map_err(|why| Faults::one("uri", why))?;
            Ok(KeySource::Uri(uri.into()))
        }
    }
}

/// Keys must not be fetched over a wire that others can write on.
fn check_uri(uri: &str) -> Result<(), String> {
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| format!("{} is not a URI; write https://…", quote(uri)))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let well_formed = !authority.is_empty()
        && !authority.contains('@')
        && uri.bytes().all(|b| b.is_ascii_graphic())
        && !uri.contains('#')
        && uri.len() <= 2048;
    if !well_formed {
        return Err(format!(
            "{} is not a plain URI; write https://host/path",
            quote(uri)
        ));
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("keys are fetched by https only; http is for loopback addresses".into()),
        _ => Err(format!(
            "{} is not a scheme keys are fetched by; write https",
            quote(scheme)
        )),
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set strictly: only public keys, of known kinds, each for one algorithm, each id once. A set
    /// with one bad key is refused whole.
    ///
    /// # Errors
    /// Every fault, placed at `keys[3].n`.
    pub fn parse(json: &[u8]) -> Result<Self, Faults> {
        if json.len() as u64 > JWKS_BYTES_MAX {
            return Err(Faults::one(
                "",
                format!("is {} bytes; at most {JWKS_BYTES_MAX} are allowed", json.len()),
            ));
        }
        let value: Value = serde_json::from_slice(json).map_err(|error| {
            Faults::one(
                "",
                format!("is not JSON (line {}, column {})", error.line(), error.column()),
            )
        })?;
        let Some(Value::Array(entries)) = value.get("keys") else {
            return Err(Faults::one(
                "",
                "is not a JSON Web Key Set: it has no list named keys",
            ));
        };
        let mut check = Check::default();
        if entries.is_empty() {
            check.fault("keys", "is empty");
        }
        if entries.len() > JWKS_KEYS_MAX {
            check.fault(
                "keys",
                format!("has {} keys; at most {JWKS_KEYS_MAX} are allowed", entries.len()),
            );
        }
        let mut keys: Vec<Jwk> = Vec::new();
        for (index, entry) in entries.iter().enumerate().take(JWKS_KEYS_MAX) {
            let place = format!("keys[{index}]");
            // Keys for encryption share sets with keys for signing; they are none of ours.
            if entry
                .get("use")
                .and_then(Value::as_str)
                .is_some_and(|usage| usage == "enc")
            {
                continue;
            }
            let Some(key) = check.part(&place, Jwk::read(entry)) else {
                continue;
            };
            if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                check.fault(format!("{place}.kid"), "stands twice in the set");
            }
            keys.push(key);
        }
        if keys.len() > 1 && keys.iter().any(|key| key.kid.is_none()) {
            check.fault("keys", "every key of several needs a kid");
        }
        if keys.is_empty() {
            check.fault("keys", "holds no key for signatures");
        }
        check.finish(Some(Self { keys }))
    }
}

impl Jwk {
    fn read(entry: &Value) -> Result<Self, Faults> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            if entry.get(private).is_some() {
                return Err(Faults::one(
                    private,
                    "is secret; a key set holds public keys only, and this key is burnt",
                ));
            }
        }
        let mut check = Check::default();
        let kid = match entry.get("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= KID_BYTES_MAX => {
                Some(kid.as_str().into())
            }
            Some(_) => {
                check.fault("kid", format!("must be text of 1 to {KID_BYTES_MAX} bytes"));
                None
            }
        };
        let written = text("alg");
        let (algorithm, material) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                let n = check.part(
                    "n",
                    part(entry, "n", |len| {
                        (RSA_BITS_MIN / 8..=RSA_BITS_MAX / 8 + 1).contains(&len)
                    }),
                );
                let e = check.part("e", part(entry, "e", |len| (1..=8).contains(&len)));
                let algorithm = match written {
                    None | Some("RS256") => JwtAlgorithm::Rs256,
                    Some("PS256") => JwtAlgorithm::Ps256,
                    Some(other) => {
                        check.fault("alg", format!("{} is not one of RS256, PS256", quote(other)));
                        JwtAlgorithm::Rs256
                    }
                };
                (algorithm, n.zip(e).map(|(n, e)| JwkMaterial::Rsa { n, e }))
            }
            (Some("EC"), Some("P-256")) => {
                if written.is_some_and(|alg| alg != "ES256") {
                    check.fault("alg", "is not ES256, which is what a P-256 key is for");
                }
                let x = check.part("x", part(entry, "x", |len| len == 32));
                let y = check.part("y", part(entry, "y", |len| len == 32));
                (
                    JwtAlgorithm::Es256,
                    x.zip(y).map(|(x, y)| JwkMaterial::P256 { x, y }),
                )
            }
            (Some("OKP"), Some("Ed25519")) => {
                if written.is_some_and(|alg| alg != "EdDSA" && alg != "Ed25519") {
                    check.fault("alg", "is not EdDSA, which is what an Ed25519 key is for");
                }
                let x = check.part("x", part(entry, "x", |len| len == 32));
                (JwtAlgorithm::EdDsa, x.map(|x| JwkMaterial::Ed25519 { x }))
            }
            (kty, crv) => {
                let found = format!("{} {}", kty.unwrap_or("nothing"), crv.unwrap_or(""));
                check.fault(
                    "kty",
                    format!(
                        "{} is not accepted; RSA, EC P-256 and OKP Ed25519 are",
                        quote(found.trim())
                    ),
                );
                (JwtAlgorithm::Rs256, None)
            }
        };
        check.finish(material.map(|material| Jwk {
            kid,
            algorithm,
            material,
        }))
    }
}

fn part(entry: &Value, name: &str, length_ok: impl Fn(usize) -> bool) -> Result<String, Faults> {
    let text = entry
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Faults::one("", "is missing"))?;
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Faults::one("", "is not base64url without padding"))?;
    let significant = bytes.iter().skip_while(|byte| **byte == 0).count();
    if length_ok(if name == "n" { significant } else { bytes.len() }) {
        Ok(text.to_owned())
    } else {
        Err(Faults::one(
            "",
            format!("is {} bits long, which is not accepted", significant * 8),
        ))
    }
}
