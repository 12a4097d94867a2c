//! The commands, one file each. A command reads its arguments, asks, and prints; what several share stands here.

pub(crate) mod apply;
pub(crate) mod ca;
pub(crate) mod call;
pub(crate) mod completion;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod get;
pub(crate) mod instances;
pub(crate) mod jwt;
pub(crate) mod lint;
pub(crate) mod openapi;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod validate;
mod wait;

use mesh_proto::Kind;
use mesh_proto::v1::{StoredDocument, document::Resource};

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Runs what was typed.
///
/// # Errors
/// Why it could not be done.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Apply(args) => apply::run(global, args).await,
        Command::Get(args) => get::run(global, args).await,
        Command::Delete(args) => delete::run(global, args).await,
        Command::Validate(args) => validate::run(global, &args),
        Command::Lint(args) => lint::run(global, args).await,
        Command::Openapi(args) => openapi::run(global, args).await,
        Command::Call(args) => call::run(global, args).await,
        Command::Diff(args) => diff::run(global, args).await,
        Command::Status(args) => status::run(global, args).await,
        Command::Instances(args) => instances::run(global, args).await,
        Command::Token(command) => token::run(global, command).await,
        Command::Ca(command) => ca::run(global, &command),
        Command::Jwt(command) => jwt::run(global, command),
        Command::Completion(args) => completion::run(&args),
    }
}

/// Reads a kind as people type it: `service`, `access-policies`.
///
/// # Errors
/// The kinds there are.
fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("the kinds are {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

/// The resource inside a stored document; a server may leave it out.
pub(crate) fn resource_of(stored: &StoredDocument) -> Option<&Resource> {
    stored
        .document
        .as_ref()
        .and_then(|document| document.resource.as_ref())
}

/// `metadata.name`, empty if the server left the document out.
pub(crate) fn name_of(stored: &StoredDocument) -> &str {
    resource_of(stored).map_or("", Resource::name)
}
