//! Who says so: reads and verifies one bearer token.
//!
//! ```text
//!  authorization header ─► one token ─► strict parts ─► issuer's provider ─► key by kid ─► signature ─► claims, judged at now
//! ```
//!
//! The library that verifies signatures is lax about everything else (a list as `iss`, a far `exp`, `crit`, doubled
//! claims pass it), so the parts and the claims are judged here; the library is asked for the signature alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey};
use mesh_proto::domain::{JwkMaterial, JwtAlgorithm, JwtProvider, KeySet};
use serde_json::{Map, Value};

use crate::reason::{Reason, Rejection};

mod strict;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Verified tokens that are remembered, each for at most [`REMEMBER`].
const REMEMBERED_MAX: usize = 1_000;
/// A verified token is verified again after this, so that removed keys stop counting.
const REMEMBER: Duration = Duration::from_secs(60);

/// A provider with its keys made ready.
pub struct Provider {
    /// As written.
    pub provider: Arc<JwtProvider>,
    /// `None` while keys that are fetched have not come yet.
    keys: Option<Vec<Key>>,
}

struct Key {
    kid: Option<Arc<str>>,
    algorithm: JwtAlgorithm,
    decoding: DecodingKey,
}

/// The claims of a verified token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Name of the provider that vouches for it.
    pub provider: Arc<str>,
    /// Its claims.
    pub claims: Arc<Map<String, Value>>,
    /// When it must not be used any more.
    pub expires: SystemTime,
}

impl Provider {
    /// Makes the keys ready; those the library cannot use are left out and told in the log.
    #[must_use]
    pub fn new(provider: Arc<JwtProvider>, keys: Option<&KeySet>) -> Self {
        let ready = |set: &KeySet| {
            let ready = set.keys.iter().filter_map(|key| {
                let decoding = match &key.material {
                    JwkMaterial::Rsa { n, e } => DecodingKey::from_rsa_components(n, e),
                    JwkMaterial::P256 { x, y } => DecodingKey::from_ec_components(x, y),
                    JwkMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x),
                };
                match decoding {
                    Ok(decoding) => Some(Key { kid: key.kid.clone(), algorithm: key.algorithm, decoding }),
                    Err(error) => {
                        tracing::warn!(provider = %provider.name, kid = ?key.kid, %error, "a key cannot be used");
                        None
                    }
                }
            });
            ready.collect()
        };
        let keys = keys.map(ready);
        Self { provider, keys }
    }
}

/// All providers of a snapshot, by issuer.
#[derive(Default)]
pub struct Verifier {
    by_issuer: HashMap<Arc<str>, Arc<Provider>>,
}

/// What a token is refused for. `stale` names the provider whose keys should be fetched again.
#[derive(Debug)]
pub struct Refused {
    /// For the caller and the log.
    pub rejection: Rejection,
    /// A key id its provider does not have.
    pub stale: Option<Arc<str>>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            stale: None,
        }
    }
}

impl Verifier {
    /// With these providers. Of two with one issuer the first by name counts; xds-lite refuses such a pair.
    pub fn new(providers: impl IntoIterator<Item = Arc<Provider>>) -> Self {
        let mut by_issuer = HashMap::new();
        for provider in providers {
            by_issuer
                .entry(provider.provider.issuer.clone())
                .or_insert(provider);
        }
        Self { by_issuer }
    }

    /// Verifies the one token of a request.
    ///
    /// # Errors
    /// Why the request has no token to go by.
    pub fn verify(&self, headers: &HeaderMap, now: SystemTime) -> Result<Verified, Refused> {
        let token = bearer(headers)?;
        self.verify_token(token, now)
    }

    fn verify_token(&self, token: &str, now: SystemTime) -> Result<Verified, Refused> {
        let parts = Parts::read(token)?;
        let issuer = match parts.claims.get("iss") {
            Some(Value::String(issuer)) => issuer.as_str(),
            _ => return Err(malformed("iss is not text").into()),
        };
        let provider = self
            .by_issuer
            .get(issuer)
            .ok_or_else(|| refuse(Reason::JwtIssuerUnknown, "no provider has this issuer"))?;
        let key = provider.key(&parts)?;
        let algorithm = match key.algorithm {
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Ps256 => Algorithm::PS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        let genuine =
            jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &key.decoding, algorithm);
        if !genuine.unwrap_or(false) {
            return Err(refuse(Reason::JwtSignatureWrong, "the signature does not verify").into());
        }
        let expires = judge_claims(&parts.claims, &provider.provider, now)?;
        Ok(Verified {
            provider: provider.provider.name.clone(),
            claims: Arc::new(parts.claims),
            expires,
        })
    }
}

impl Provider {
    fn key(&self, parts: &Parts<'_>) -> Result<&Key, Refused> {
        let name = || self.provider.name.clone();
        let unknown = |why: &str, stale| Refused {
            rejection: refuse(Reason::JwtKeyUnknown, why),
            stale,
        };
        let keys = self
            .keys
            .as_ref()
            .ok_or_else(|| unknown("the provider's keys have not been fetched yet", Some(name())))?;
        let key = match (&parts.kid, keys.as_slice()) {
            (Some(kid), keys) => keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid))
                .or_else(|| keys.first().filter(|key| key.kid.is_none()))
                .ok_or_else(|| unknown("no key has this kid", Some(name())))?,
            (None, [only]) => only,
            (None, _) => return Err(unknown("it names no key, and the provider has several", None)),
        };
        if key.algorithm.as_str() != parts.alg {
            return Err(refuse(Reason::JwtSignatureWrong, "alg is not what the key is for").into());
        }
        let typ_ok = parts
            .typ
            .as_ref()
            .is_none_or(|typ| self.provider.types.iter().any(|known| **known == **typ));
        if typ_ok {
            Ok(key)
        } else {
            Err(malformed("typ is not accepted").into())
        }
    }
}

/// The one bearer token of a request, or why there is none.
fn bearer(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value: &HeaderValue = match (values.next(), values.next()) {
        (None, _) => {
            return Err(Rejection::new(
                Reason::JwtMissing,
                "this call needs a token: send `authorization: Bearer <token>`",
            ));
        }
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(malformed("there are several authorization headers")),
    };
    let text = value
        .to_str()
        .map_err(|_| malformed("the authorization header is not text"))?;
    let (scheme, token) = text
        .split_once(' ')
        .ok_or_else(|| malformed("the authorization header is not Bearer"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed("the authorization scheme is not Bearer"));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed("the token is longer than 8 KiB"));
    }
    Ok(token)
}

struct Parts<'a> {
    signed: &'a str,
    signature: &'a str,
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> Parts<'a> {
    /// Takes a token in compact form apart (RFC 7515 3.1): canonical base64url, plain JSON with every name once.
    fn read(token: &'a str) -> Result<Self, Rejection> {
        let mut pieces = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            return Err(malformed("it is not three parts joined by dots"));
        };
        if signature.is_empty() || BASE64_URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(malformed("the signature is not canonical base64url"));
        }
        let header = object(header, "header")?;
        let claims = object(payload, "payload")?;
        for refused in ["crit", "b64", "cty", "jwk", "jku", "x5u", "x5c", "zip"] {
            if header.contains_key(refused) {
                return Err(malformed(&format!(
                    "the header has {refused}, which is never accepted"
                )));
            }
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= 256 => Ok(Some(text.clone())),
            Some(_) => Err(malformed(&format!("{name} is not short text"))),
        };
        let alg = text("alg")?.ok_or_else(|| malformed("it names no alg"))?;
        let (kid, typ) = (text("kid")?, text("typ")?.map(|typ| typ.to_ascii_lowercase()));
        let signed = &token[..token.len() - signature.len() - 1];
        Ok(Self {
            signed,
            signature,
            alg,
            kid,
            typ,
            claims,
        })
    }
}

/// Judges times and audience (RFC 7519 4.1, RFC 8725 3).
fn judge_claims(
    claims: &Map<String, Value>,
    provider: &JwtProvider,
    now: SystemTime,
) -> Result<SystemTime, Rejection> {
    let leeway = provider.leeway;
    let expires = time(claims, "exp")?.ok_or_else(|| malformed("it has no exp"))?;
    if now >= expires + leeway {
        return Err(refuse(Reason::JwtExpired, "exp has passed"));
    }
    if expires > now + provider.max_lifetime + leeway {
        return Err(refuse(
            Reason::JwtLivesTooLong,
            "exp is further away than the provider allows",
        ));
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|begins| begins > now + leeway) {
            return Err(refuse(Reason::JwtNotYetValid, &format!("{name} lies ahead")));
        }
    }
    let meant = |audience: &str| provider.audiences.iter().any(|ours| **ours == *audience);
    let for_us = match claims.get("aud") {
        Some(Value::String(audience)) => meant(audience),
        Some(Value::Array(audiences)) if audiences.iter().all(Value::is_string) => {
            audiences.iter().filter_map(Value::as_str).any(meant)
        }
        _ => return Err(malformed("aud is neither text nor a list of texts")),
    };
    if for_us {
        Ok(expires + leeway)
    } else {
        Err(refuse(
            Reason::JwtAudienceWrong,
            "aud names nobody of the provider's audiences",
        ))
    }
}

fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, Rejection> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    // The year 9999; what lies beyond is no time but an attack on arithmetic.
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..253_402_300_800.0).contains(seconds));
    match seconds {
        Some(seconds) => Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))),
        None => Err(malformed(&format!("{name} is not a time"))),
    }
}

fn refuse(reason: Reason, detail: &str) -> Rejection {
    let message = match reason {
        Reason::JwtExpired => "the token has expired; get a new one",
        Reason::JwtNotYetValid => "the token is not valid yet",
        Reason::JwtLivesTooLong => "the token lives longer than is accepted",
        Reason::JwtIssuerUnknown => "the token's issuer is not accepted here",
        Reason::JwtAudienceWrong => "the token is meant for another audience",
        Reason::JwtKeyUnknown => "the token's key is not known",
        Reason::JwtSignatureWrong => "the token's signature is wrong",
        _ => "the token is malformed",
    };
    Rejection::new(reason, message).with_detail(detail)
}

fn malformed(detail: &str) -> Rejection {
    refuse(Reason::JwtMalformed, detail)
}

fn object(part: &str, which: &str) -> Result<Map<String, Value>, Rejection> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| malformed(&format!("the {which} is not canonical base64url")))?;
    match strict::read(&bytes) {
        Ok(Value::Object(entries)) => Ok(entries),
        Ok(_) => Err(malformed(&format!("the {which} is not a JSON object"))),
        Err(_) => Err(malformed(&format!(
            "the {which} is not JSON with every name once, at most {} deep",
            strict::DEPTH_MAX
        ))),
    }
}

/// Remembers verified tokens for a short while, by their hash, so that the same one is not verified on every call. One
/// a thread and a snapshot: when keys or policies change, all is forgotten.
#[derive(Default)]
pub struct Memory {
    entries: HashMap<[u8; 32], (Verified, SystemTime)>,
}

impl Memory {
    /// Verifies, or remembers having done so.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify(
        &mut self,
        verifier: &Verifier,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Verified, Refused> {
        use sha2::Digest;
        let token = bearer(headers)?;
        let hash: [u8; 32] = sha2::Sha256::digest(token.as_bytes()).into();
        if let Some((verified, until)) = self.entries.get(&hash)
            && now < *until
            && now < verified.expires
        {
            return Ok(verified.clone());
        }
        let verified = verifier.verify_token(token, now)?;
        if self.entries.len() >= REMEMBERED_MAX {
            self.entries.clear();
        }
        self.entries.insert(hash, (verified.clone(), now + REMEMBER));
        Ok(verified)
    }
}

#[cfg(test)]
mod tests;
