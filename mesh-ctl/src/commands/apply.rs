//! `apply`: judge offline, send everything in one request, and follow it to the sidecars if asked to.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mesh_proto::document::Loaded;
use mesh_proto::v1::{self, ApplyRequest, ApplyResponse, ApplyResult, apply_request, apply_result::Action};
use serde_json::{Value, json};

use super::wait;
use crate::cli::{Format, Global};
use crate::client::{Client, Server};
use crate::failure::Failure;
use crate::output::{self, cell, good, note, safe, warn};
use crate::rollout::Target;
use crate::sources::{self, Files};
use crate::words;

/// The revision that means "only if nothing is stored yet".
const NOTHING_STORED: &str = "none";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Let the server judge everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Return when every connected sidecar that uses the documents has applied them.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// With --wait: how long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = words::duration)]
    timeout: Duration,
    /// Store only if this revision is stored now; `none`: only if nothing is.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let documents = load(&args.files.files, args.if_revision.as_deref())?;
    let client = Client::open(global)?;
    let request = ApplyRequest {
        items: documents
            .into_iter()
            .map(|loaded| item(loaded, args.if_revision.as_deref()))
            .collect(),
        dry_run: args.dry_run,
    };
    let started = Instant::now();
    let (server, answer) = client
        .ask(async |server: Server| server.documents().apply(request.clone()).await)
        .await?;
    if !args.wait {
        return print(global.output, &answer, args.dry_run, None);
    }
    // The table first: what is stored is stored, whatever the waiting brings.
    if global.output == Format::Table {
        print(Format::Table, &answer, false, None)?;
    }
    let targets = answer.results.iter().map(target).collect();
    let (outcome, failure) = wait::follow(&client, &server, started, targets, args.timeout).await;
    if global.output == Format::Table {
        outcome.words().iter().for_each(|line| note(line));
    } else {
        print(global.output, &answer, false, Some(outcome.to_json()))?;
    }
    failure.map_or(Ok(()), Err)
}

fn load(files: &[PathBuf], if_revision: Option<&str>) -> Result<Vec<Loaded>, Failure> {
    let documents = sources::load_or_fail(files, "nothing was sent")?;
    if if_revision.is_some_and(|revision| revision != NOTHING_STORED) && documents.len() > 1 {
        let told = format!(
            "--if-revision is about one document, and there are {}",
            documents.len()
        );
        return Err(Failure::usage(told).hint("apply them one by one, or use --if-revision none"));
    }
    Ok(documents)
}

fn item(loaded: Loaded, if_revision: Option<&str>) -> apply_request::Item {
    apply_request::Item {
        document: Some(v1::Document {
            resource: Some(loaded.resource),
        }),
        if_revision: if_revision.unwrap_or_default().to_owned(),
    }
}

fn target(result: &ApplyResult) -> Target {
    Target {
        kind: result.kind.clone(),
        name: result.name.clone(),
        type_url: result.type_url.clone(),
        resource_name: result.resource_name.clone(),
        version: result.version.clone(),
        created: result.action() == Action::Created,
    }
}

fn action_word(result: &ApplyResult) -> &'static str {
    match result.action() {
        Action::Created => "created",
        Action::Changed => "changed",
        Action::Unchanged => "unchanged",
        Action::Unspecified => "stored",
    }
}

fn print(
    format: Format,
    answer: &ApplyResponse,
    dry_run: bool,
    rollout: Option<Value>,
) -> Result<(), Failure> {
    if format != Format::Table {
        let mut value = json!({
            "dryRun": dry_run,
            "results": answer.results.iter().map(result_value).collect::<Vec<_>>(),
        });
        if let Some(rollout) = rollout {
            value["rollout"] = rollout;
        }
        return output::print_value(format, &value);
    }
    let mut table = output::table(&["KIND", "NAME", "ACTION", "VERSION", "REVISION"]);
    for result in &answer.results {
        let word = action_word(result);
        let word = match result.action() {
            Action::Created => good(word),
            Action::Changed => warn(word),
            _ => cell(word),
        };
        let version = cell(&result.version);
        table.add_row([
            cell(&result.kind),
            cell(&result.name),
            word,
            version,
            cell(&result.revision),
        ]);
    }
    output::print_table(&table)?;
    for result in &answer.results {
        for warning in &result.warnings {
            note(&format!(
                "warning: {}/{}: {}",
                safe(&result.kind),
                safe(&result.name),
                safe(warning)
            ));
        }
    }
    if dry_run {
        note("dry run: nothing was stored");
    }
    Ok(())
}

fn result_value(result: &ApplyResult) -> Value {
    json!({
        "kind": result.kind,
        "name": result.name,
        "action": action_word(result),
        "version": result.version,
        "revision": result.revision,
        "typeUrl": result.type_url,
        "resourceName": result.resource_name,
        "warnings": result.warnings,
    })
}
