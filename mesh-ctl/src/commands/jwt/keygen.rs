//! `jwt keygen`: a private key, and the key set a `JwtProvider` document names.

use std::path::PathBuf;

use jsonwebtoken::jwk::JwkSet;
use mesh_link::ca::write_new;
use mesh_proto::domain::KeySet;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

use super::{Signing, public_jwk};
use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output;

const KEY_FILE: &str = "jwt-key.pem";
const JWKS_FILE: &str = "jwks.json";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to. Made if it is not there; nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What the key is for.
    #[arg(long, value_enum, default_value = "ES256", ignore_case = true)]
    alg: Signing,
    /// The key's id; its thumbprint if none is given.
    #[arg(long, allow_hyphen_values = true)]
    kid: Option<String>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let pair = match args.alg {
        Signing::Rs256 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        Signing::Es256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
    };
    let pem = pair
        .map_err(|error| Failure::refused(format!("cannot make a key: {error}")))?
        .serialize_pem();
    let key = args
        .alg
        .key(&pem)
        .map_err(|error| Failure::refused(format!("cannot use the key: {error}")))?;
    let jwk = public_jwk(&key, args.alg, args.kid.as_deref()).map_err(Failure::refused)?;
    let kid = jwk.common.key_id.clone().unwrap_or_default();
    let jwks = serde_json::to_string_pretty(&JwkSet { keys: vec![jwk] })
        .map_err(|error| Failure::refused(error.to_string()))?;
    // What we hand out must be what the mesh takes.
    KeySet::parse(jwks.as_bytes()).map_err(|faults| Failure::faults("no key was written", &faults))?;

    let (key_file, jwks_file) = (args.dir.join(KEY_FILE), args.dir.join(JWKS_FILE));
    if jwks_file.symlink_metadata().is_ok() {
        return Err(already_there(format!(
            "{} is already there and is left as it is",
            jwks_file.display()
        )));
    }
    std::fs::create_dir_all(&args.dir)
        .map_err(|error| Failure::usage(format!("cannot make {}: {error}", args.dir.display())))?;
    write_new(&key_file, &pem, true).map_err(already_there)?;
    write_new(&jwks_file, &format!("{jwks}\n"), false).map_err(already_there)?;
    if global.output != Format::Table {
        let value = json!({
            "key": key_file.display().to_string(),
            "jwks": jwks_file.display().to_string(),
            "kid": kid,
            "alg": format!("{:?}", args.alg.algorithm()),
        });
        return output::print_value(global.output, &value);
    }
    let (key_file, jwks_file) = (key_file.display(), jwks_file.display());
    // `mint` finds a thumbprint by itself, and no other id.
    let named = args
        .kid
        .as_ref()
        .map_or_else(String::new, |kid| format!(" --kid {kid}"));
    output::print(&format!(
        "\
{key_file}  the private key, readable by you only
{jwks_file}  its public part, key id {kid}

Next: write `jwks: {{file: {JWKS_FILE}}}` in a JwtProvider document beside it, and
  mesh-ctl jwt mint --key {key_file}{named} --iss https://issuer.example --aud market
",
    ))
}

fn already_there(told: String) -> Failure {
    Failure::refused(told).hint("choose another --dir, or move the old key away")
}
