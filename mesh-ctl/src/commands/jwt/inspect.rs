//! `jwt inspect`: header, claims, times in words, and whether a key set verifies it. Whatever is wrong is said.

use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use mesh_proto::domain::{JWKS_BYTES_MAX, Jwk, JwkMaterial, JwtAlgorithm, KeySet};
use serde_json::{Map, Value, json};

use super::read_file;
use crate::cli::{Format, Global};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::words;

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// Claims that are times.
const TIMES: [(&str, &str); 4] = [
    ("iat", "issued"),
    ("nbf", "not before"),
    ("exp", "expires"),
    ("auth_time", "signed in"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The token; `-` or nothing: read it from stdin.
    token: Option<String>,
    /// The key set to verify it with.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let text = match args.token.as_deref() {
        None | Some("-") => from_stdin()?,
        Some(token) => token.to_owned(),
    };
    let token = Token::read(text.trim()).map_err(|why| {
        Failure::usage(format!("this is not a JSON Web Token: {why}"))
            .hint("a token is three parts of base64url with dots between; `Bearer ` does not belong to it")
    })?;
    let keys = match &args.jwks {
        None => None,
        Some(path) => {
            let text = read_file(path, JWKS_BYTES_MAX)?;
            let keys = KeySet::parse(text.as_bytes())
                .map_err(|faults| faults.under(&format!("{}:", path.display())))
                .map_err(|faults| Failure {
                    exit: Exit::Usage,
                    ..Failure::faults("the key set cannot be used", &faults)
                })?;
            Some(keys)
        }
    };
    let now = words::unix_seconds(SystemTime::now());
    let verdict = keys.as_ref().map(|keys| token.verdict(keys, now));
    if global.output == Format::Table {
        output::print(&token.words(verdict.as_ref(), now))?;
    } else {
        let value = json!({
            "header": token.header,
            "claims": token.claims,
            "times": token.times(now).into_iter().map(|(name, told)| (name.to_owned(), told.into())).collect::<Map<_, _>>(),
            "verified": matches!(verdict, Some(Ok(_))),
            "why": why(verdict.as_ref()),
        });
        output::print_value(global.output, &value)?;
    }
    match verdict {
        Some(Err(_)) => Err(Failure::silent(Exit::Refused)),
        _ => Ok(()),
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read a token from stdin: {error}")))?;
    Ok(text)
}

/// A token taken apart. That it can be read says nothing about whether it is true.
#[derive(Debug)]
struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: String,
    signature: String,
}

/// Who signed it, or why it would be refused.
type Judgement = Result<String, String>;

impl Token {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("there is nothing".into());
        }
        if text.len() as u64 > TOKEN_BYTES_MAX {
            return Err(format!("it is longer than {TOKEN_BYTES_MAX} bytes"));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(match parts.len() {
                5 => "it has five parts, so it is encrypted (JWE), which is not read here".into(),
                many => format!("it has {} and not three", words::count(many, "part")),
            });
        };
        Ok(Self {
            header: object(header, "header")?,
            claims: object(claims, "payload")?,
            signed: format!("{header}.{claims}"),
            signature: (*signature).to_owned(),
        })
    }

    fn verdict(&self, keys: &KeySet, now: i64) -> Judgement {
        let key = self.key(keys)?;
        let named = key
            .kid
            .as_ref()
            .map_or_else(|| "the only key of the set".into(), |kid| format!("key {kid}"));
        let written = self.header.get("alg").and_then(Value::as_str).unwrap_or("none");
        if written != key.algorithm.as_str() {
            let right = key.algorithm.as_str();
            return Err(format!(
                "its header says alg {written}, and {named} is for {right}"
            ));
        }
        let (decoding, algorithm) = decoding_key(key)?;
        match jsonwebtoken::crypto::verify(&self.signature, self.signed.as_bytes(), &decoding, algorithm) {
            Ok(true) => {}
            Ok(false) => return Err(format!("its signature is not that of {named}")),
            Err(error) => return Err(format!("its signature cannot be read: {error}")),
        }
        self.in_time(now)?;
        Ok(named)
    }

    fn key<'a>(&self, keys: &'a KeySet) -> Result<&'a Jwk, String> {
        match self.header.get("kid") {
            Some(Value::String(kid)) => {
                let found = keys.keys.iter().find(|key| key.kid.as_deref() == Some(kid));
                let only_nameless = match keys.keys.as_slice() {
                    [only] if only.kid.is_none() => Some(only),
                    _ => None,
                };
                found.or(only_nameless).ok_or_else(|| {
                    let known: Vec<&str> = keys.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
                    format!("no key of the set is named {kid}; there are {}", known.join(", "))
                })
            }
            Some(_) => Err("its kid is not text".into()),
            None => match keys.keys.as_slice() {
                [only] => Ok(only),
                _ => Err("it names no key (kid), and the set has several".into()),
            },
        }
    }

    fn in_time(&self, now: i64) -> Result<(), String> {
        let at = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(value) => seconds(value)
                .map(Some)
                .ok_or_else(|| format!("its {name} is not a time")),
        };
        match at("exp")? {
            None => return Err("it never expires (no exp), which the mesh refuses".into()),
            Some(exp) if exp <= now => return Err(format!("it expired {}", words::relative(exp, now))),
            Some(_) => {}
        }
        match at("nbf")? {
            Some(nbf) if nbf > now => Err(format!("it is not good before {}", words::relative(nbf, now))),
            _ => Ok(()),
        }
    }

    /// Each claim that is a time, in words.
    fn times(&self, now: i64) -> Vec<(&'static str, String)> {
        let told = |(name, label): &(&'static str, &str)| {
            let value = self.claims.get(*name)?;
            let text = match seconds(value) {
                None => format!("{label}: {value} is not a time"),
                Some(at) => {
                    let date = words::rfc3339(at).unwrap_or_else(|| "beyond all calendars".into());
                    let label = if *name == "exp" && at <= now {
                        "expired"
                    } else {
                        label
                    };
                    format!("{label} {} ({date})", words::relative(at, now))
                }
            };
            Some((*name, text))
        };
        TIMES.iter().filter_map(told).collect()
    }

    fn words(&self, verdict: Option<&Judgement>, now: i64) -> String {
        let mut text = String::new();
        let pretty = |map: &Map<String, Value>| output::json(&Value::Object(map.clone()));
        let _ = writeln!(
            text,
            "header {}\nclaims {}",
            pretty(&self.header),
            pretty(&self.claims)
        );
        for (_, told) in self.times(now) {
            let _ = writeln!(text, "{}", output::safe(&told));
        }
        let verified = if matches!(verdict, Some(Ok(_))) {
            "verified"
        } else {
            "not verified"
        };
        let _ = writeln!(text, "{verified}: {}", output::safe(&why(verdict)));
        text
    }
}

fn why(verdict: Option<&Judgement>) -> String {
    match verdict {
        None => "no key set was given; add --jwks FILE".into(),
        Some(Ok(key)) => format!("signed by {key}, and in its time"),
        Some(Err(why)) => why.clone(),
    }
}

fn object(part: &str, name: &str) -> Result<Map<String, Value>, String> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| format!("its {name} is no base64url without padding"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(format!("its {name} is no JSON object")),
    }
}

/// A NumericDate (RFC 7519 2): seconds, perhaps with a fraction.
fn seconds(value: &Value) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let number = value.as_f64().filter(|n| n.is_finite() && n.abs() <= EXACT_MAX)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounded above to what an f64 holds exactly"
    )]
    Some(number.floor() as i64)
}

fn decoding_key(key: &Jwk) -> Result<(DecodingKey, Algorithm), String> {
    let made = match &key.material {
        JwkMaterial::Rsa { n, e } => DecodingKey::from_rsa_components(n, e),
        JwkMaterial::P256 { x, y } => DecodingKey::from_ec_components(x, y),
        JwkMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x),
    };
    let algorithm = match key.algorithm {
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    };
    made.map(|key| (key, algorithm))
        .map_err(|error| format!("the key cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        Token::read(text).unwrap_err()
    }

    #[test]
    fn what_is_no_token_is_told_so() {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        assert_eq!(told(""), "there is nothing");
        assert_eq!(told("abc"), "it has 1 part and not three");
        assert!(told("a.b.c.d.e").contains("encrypted"));
        assert_eq!(told("%%.e30.x"), "its header is no base64url without padding");
        assert_eq!(
            told(&format!("{}.e30.x", encode("[]"))),
            "its header is no JSON object"
        );
        assert_eq!(
            told(&format!("e30.{}.x", encode("{\"a\""))),
            "its payload is no JSON object"
        );
        assert!(told(&"a".repeat(70_000)).contains("longer than"));
    }

    #[test]
    fn times_that_are_none_are_told_and_never_wrap() {
        for (value, read) in [
            (json!(10), Some(10)),
            (json!(10.9), Some(10)),
            (json!("10"), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
        ] {
            assert_eq!(seconds(&value), read, "{value}");
        }
    }
}
