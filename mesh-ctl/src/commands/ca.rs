//! `ca init`: a new certificate authority, and the first operator's certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_link::ca::{CERTIFICATE_FILE, CertificateAuthority, KEY_FILE, write_new};
use mesh_proto::name::{SpiffeId, TrustDomain, document_name};
use serde_json::json;

use crate::cli::{Format, Global};
use crate::client::{OPERATOR_FILE, OPERATOR_KEY_FILE};
use crate::failure::Failure;
use crate::output;
use crate::words;

/// Life of an operator's certificate.
const OPERATOR_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an authority and an operator's certificate. Nothing that is there is overwritten.
    Init(Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to. Made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The SPIFFE trust domain: what identities of this mesh begin with.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| TrustDomain::parse(text))]
    trust_domain: TrustDomain,
    /// Name of the operator.
    #[arg(long, value_name = "NAME", default_value = "admin", value_parser = parse_operator)]
    operator: String,
}

fn parse_operator(text: &str) -> Result<String, String> {
    document_name(text).map(|name| name.to_string())
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<(), Failure> {
    let Command::Init(args) = command;
    let dir = args.dir.as_path();
    refuse_overwriting(dir)?;
    let authority = CertificateAuthority::create(&args.trust_domain).map_err(Failure::refused)?;
    let operator = SpiffeId::operator(&args.trust_domain, &args.operator);
    let issued = authority
        .issue(&operator, OPERATOR_LIFETIME)
        .map_err(Failure::refused)?;
    authority.save(dir).map_err(Failure::usage)?;
    write_new(&dir.join(OPERATOR_KEY_FILE), &issued.key_pem, true).map_err(Failure::usage)?;
    write_new(&dir.join(OPERATOR_FILE), &issued.chain_pem, false).map_err(Failure::usage)?;
    let expires = words::rfc3339(words::unix_seconds(issued.not_after)).unwrap_or_default();
    if global.output != Format::Table {
        let value = json!({
            "dir": dir.display().to_string(),
            "trustDomain": args.trust_domain.as_str(),
            "operator": operator.as_str(),
            "operatorExpires": expires,
        });
        return output::print_value(global.output, &value);
    }
    let shown = dir.display();
    output::print(&format!(
        "\
{shown}/{CERTIFICATE_FILE}  the authority of {domain}; every process needs it
{shown}/{KEY_FILE}  its key, for xds-lite only: who has it can be anybody
{shown}/{OPERATOR_FILE}, {shown}/{OPERATOR_KEY_FILE}  {operator}, until {expires}

Next:
  xds-lite --registry file:documents --ca {shown}
  export MESH_CREDENTIALS={shown}
  mesh-ctl status
",
        domain = args.trust_domain,
    ))
}

/// Looks before anything is made, so that no half of an authority is left behind.
fn refuse_overwriting(dir: &Path) -> Result<(), Failure> {
    let there: Vec<String> = [CERTIFICATE_FILE, KEY_FILE, OPERATOR_FILE, OPERATOR_KEY_FILE]
        .iter()
        .map(|file| dir.join(file))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| format!("{} is already there and is left as it is", path.display()))
        .collect();
    let mut there = there.into_iter();
    match there.next() {
        None => Ok(()),
        Some(first) => Err(Failure::refused(first)
            .lines(there)
            .hint("a new authority locks out everybody the old one let in; choose another --dir")),
    }
}
