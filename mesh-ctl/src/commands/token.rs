//! `token create`: what a new sidecar shows to get its first certificate.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_proto::name::ServiceName;
use mesh_proto::v1::CreateJoinTokenRequest;
use serde_json::json;

use crate::cli::{Format, Global};
use crate::client::{Client, Server};
use crate::failure::Failure;
use crate::output::{self, note};
use crate::words;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a join token for the sidecars of one service. It is a secret.
    Create(Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service it is for.
    #[arg(long, value_parser = |text: &str| ServiceName::parse(text))]
    service: ServiceName,
    /// How long it can be used: 1s to 168h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = words::duration)]
    lifetime: Duration,
    /// Write it to this file, readable by you only, instead of to stdout.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::Create(args) = command;
    let lifetime = prost_types::Duration::try_from(args.lifetime)
        .map_err(|_| Failure::usage("--lifetime is too long; write 168h or less"))?;
    let client = Client::open(global)?;
    let request = CreateJoinTokenRequest {
        service: args.service.to_string(),
        lifetime: Some(lifetime),
    };
    let (_, answer) = client
        .ask(async |server: Server| server.identity().create_join_token(request.clone()).await)
        .await?;
    // It ends up in files and shell variables: nothing but the characters of a token may.
    if answer.token.is_empty() || !answer.token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::refused(
            "the server answered with something that is no token",
        ));
    }
    let expires = words::timestamp(answer.expires);
    if let Some(file) = &args.file {
        write_secret(file, &answer.token)?;
        let now = SystemTime::now();
        let told = format!(
            "{}: a join token for {}, good until {} ({})",
            file.display(),
            args.service,
            expires.as_deref().unwrap_or("a time it did not tell"),
            words::ago(answer.expires, now)
        );
        note(&told);
        return Ok(());
    }
    match global.output {
        Format::Table => output::print(&format!("{}\n", answer.token)),
        format => {
            let value = json!({"token": answer.token, "service": args.service.as_str(), "expires": expires});
            output::print_value(format, &value)
        }
    }
}

/// Writes beside the file and moves it there: a sidecar that reads it at that moment finds the old or the new, whole.
fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    mesh_link::ca::write_new(&beside, text, true).map_err(Failure::usage)?;
    std::fs::rename(&beside, path).map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        Failure::usage(format!("cannot write {}: {error}", path.display()))
    })
}
