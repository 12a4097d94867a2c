//! The command line: options that hold everywhere, and the commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    apply, ca, call, completion, delete, diff, get, instances, jwt, lint, openapi, status, token, validate,
};

/// Where xds-lite listens when nothing else is said.
pub(crate) const SERVER_DEFAULT: &str = "127.0.0.1:18000";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, faulty or different
  2  wrong usage, or input that cannot be read
  3  xds-lite cannot be reached
  4  timed out waiting";

/// Apply, ask, explain and check a mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh-ctl", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Where xds-lite listens for gRPC; several are tried in turn.
    #[arg(
        long,
        global = true,
        env = "MESH_SERVER",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = SERVER_DEFAULT,
        help_heading = "Everywhere"
    )]
    pub(crate) server: Vec<String>,
    /// A folder with ca.pem, operator.pem and operator-key.pem, as `ca init` makes it.
    #[arg(
        long,
        global = true,
        env = "MESH_CREDENTIALS",
        value_name = "DIR",
        help_heading = "Everywhere"
    )]
    pub(crate) credentials: Option<PathBuf>,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table, help_heading = "Everywhere")]
    pub(crate) output: Format,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store documents: all of them, or none.
    Apply(apply::Args),
    /// Show stored documents of a kind.
    Get(get::Args),
    /// Remove stored documents.
    Delete(delete::Args),
    /// Check documents without a server, and tell every fault with its place.
    Validate(validate::Args),
    /// Find HTTP rules in each other's way: ambiguous, unreachable, overlapping, shadowed.
    Lint(lint::Args),
    /// Print what an edge serves as an OpenAPI 3.1 document.
    Openapi(openapi::Args),
    /// Call any method by name with JSON, or list and describe what there is to call.
    Call(call::Args),
    /// Show how documents differ from what is stored.
    Diff(diff::Args),
    /// Show who is connected, and what each sidecar has applied or refused.
    Status(status::Args),
    /// Show the running instances of services.
    Instances(instances::Args),
    /// Join tokens for sidecars.
    #[command(subcommand)]
    Token(token::Command),
    /// The certificate authority of a mesh.
    #[command(subcommand)]
    Ca(ca::Command),
    /// JSON Web Tokens: keys, tokens, and what a token says.
    #[command(subcommand)]
    Jwt(jwt::Command),
    /// Print a completion script for a shell.
    Completion(completion::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_in_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_servers_are_split_at_commas() {
        let cli = Cli::try_parse_from(["mesh-ctl", "--server", "a:1,b:2", "status"]).unwrap();
        assert_eq!(cli.global.server, ["a:1", "b:2"]);
    }
}
