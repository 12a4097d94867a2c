//! `jwt mint`: a signed token with the claims that were asked for, right or wrong: tests need wrong ones.

use std::path::PathBuf;
use std::time::SystemTime;

use jsonwebtoken::Header;
use serde_json::{Map, Value, json};

use super::{KEY_BYTES_MAX, Signing, public_jwk, read_file};
use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output;
use crate::words;

/// Claims that have an option of their own, or are made here.
const RESERVED: [&str; 6] = ["iss", "aud", "sub", "scope", "iat", "exp"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The private key, PKCS#8 in PEM.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// How to sign; found from the key if not given.
    #[arg(long, value_enum, ignore_case = true)]
    alg: Option<Signing>,
    /// The key's id in the header; its thumbprint if not given, as `jwt keygen` writes it.
    #[arg(long, allow_hyphen_values = true)]
    kid: Option<String>,
    /// The issuer.
    #[arg(long)]
    iss: Option<String>,
    /// For whom; may be given more than once.
    #[arg(long)]
    aud: Vec<String>,
    /// About whom.
    #[arg(long)]
    sub: Option<String>,
    /// Scopes, with spaces between.
    #[arg(long)]
    scope: Option<String>,
    /// A further claim; the value is JSON, or text if it is none.
    #[arg(long = "claim", value_name = "NAME=JSON", value_parser = parse_claim)]
    claims: Vec<(String, Value)>,
    /// When it expires; `-5m`: it has.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = words::signed_seconds, allow_hyphen_values = true)]
    expires_in: i64,
}

/// Reads `name=json`.
fn parse_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=JSON, such as admin=true")?;
    if RESERVED.contains(&name) {
        return Err(format!("{name} has an option of its own"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

pub(crate) fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let pem = read_file(&args.key, KEY_BYTES_MAX)?;
    let candidates = args
        .alg
        .map_or_else(|| vec![Signing::Es256, Signing::Rs256], |alg| vec![alg]);
    let found = candidates
        .into_iter()
        .find_map(|signing| signing.key(&pem).ok().map(|key| (signing, key)));
    let Some((signing, key)) = found else {
        let wanted = args
            .alg
            .map_or_else(String::new, |alg| format!(" for {:?}", alg.algorithm()));
        return Err(Failure::usage(format!(
            "{} holds no private key{wanted} in PKCS#8 PEM",
            args.key.display()
        ))
        .hint("`mesh-ctl jwt keygen --dir DIR` makes one"));
    };
    let mut header = Header::new(signing.algorithm());
    header.kid = match args.kid.clone() {
        Some(kid) => Some(kid),
        None => {
            public_jwk(&key, signing, None)
                .map_err(Failure::refused)?
                .common
                .key_id
        }
    };
    let claims = claims(args, words::unix_seconds(SystemTime::now()));
    let token = jsonwebtoken::encode(&header, &claims, &key)
        .map_err(|error| Failure::refused(format!("cannot sign: {error}")))?;
    match global.output {
        Format::Table => output::print(&format!("{token}\n")),
        format => output::print_value(format, &json!({"token": token, "claims": claims})),
    }
}

fn claims(args: Args, now: i64) -> Map<String, Value> {
    let expires = now + args.expires_in;
    let mut claims: Map<String, Value> = args.claims.into_iter().collect();
    let texts = [("iss", args.iss), ("sub", args.sub), ("scope", args.scope)];
    claims.extend(
        texts
            .into_iter()
            .filter_map(|(name, text)| text.map(|text| (name.to_owned(), text.into()))),
    );
    match args.aud.as_slice() {
        [] => {}
        [one] => drop(claims.insert("aud".into(), one.clone().into())),
        many => drop(claims.insert("aud".into(), many.into())),
    }
    // A token that has expired was issued before that.
    claims.insert("iat".into(), now.min(expires).into());
    claims.insert("exp".into(), expires.into());
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_json_or_else_text() {
        assert_eq!(parse_claim("admin=true").unwrap().1, json!(true));
        assert_eq!(parse_claim("roles=[\"a\",\"b\"]").unwrap().1, json!(["a", "b"]));
        assert_eq!(parse_claim("team=blue").unwrap().1, json!("blue"));
        assert_eq!(parse_claim("eq=a=b").unwrap().1, json!("a=b"));
        for bad in ["", "=1", "admin", "exp=1", "aud=x"] {
            assert!(parse_claim(bad).is_err(), "{bad:?}");
        }
    }
}
