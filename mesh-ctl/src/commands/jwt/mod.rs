//! `jwt`: keys and tokens for demos and tests, and what a token says.

mod inspect;
mod keygen;
mod mint;

use std::path::Path;

use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::cli::Global;
use crate::failure::Failure;

/// Largest key file.
const KEY_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key pair: a private key in PEM, and a key set with its public part.
    Keygen(keygen::Args),
    /// Sign a token. For demos and tests: real tokens come from your issuer.
    Mint(mint::Args),
    /// Show what a token says, and whether a key set verifies it.
    Inspect(inspect::Args),
}

pub(crate) fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Keygen(args) => keygen::run(global, &args),
        Command::Mint(args) => mint::run(global, args),
        Command::Inspect(args) => inspect::run(global, &args),
    }
}

/// What keys are made for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Signing {
    /// RSA of 2048 bits.
    #[value(name = "RS256", alias = "rs256")]
    Rs256,
    /// ECDSA on P-256.
    #[value(name = "ES256", alias = "es256")]
    Es256,
}

impl Signing {
    fn algorithm(self) -> Algorithm {
        match self {
            Signing::Rs256 => Algorithm::RS256,
            Signing::Es256 => Algorithm::ES256,
        }
    }

    fn key(self, pem: &str) -> Result<EncodingKey, jsonwebtoken::errors::Error> {
        match self {
            Signing::Rs256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Signing::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        }
    }
}

/// The public part of a key, with the id by which tokens refer to it: its thumbprint (RFC 7638), unless one is given.
fn public_jwk(key: &EncodingKey, signing: Signing, kid: Option<&str>) -> Result<Jwk, String> {
    let mut jwk = Jwk::from_encoding_key(key, signing.algorithm()).map_err(|error| error.to_string())?;
    let kid = match kid {
        Some(kid) => kid.to_owned(),
        None => jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|error| error.to_string())?,
    };
    jwk.common.key_id = Some(kid);
    jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
    Ok(jwk)
}

/// Reads a text file of bounded size.
fn read_file(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    use std::io::Read;
    let fail = |why: String| Failure::usage(format!("cannot read {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut text = String::new();
    file.take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > bytes_max {
        return Err(fail(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(text)
}
