//! `delete`: one document by its name, or all that files name.

use std::path::PathBuf;

use mesh_proto::Kind;
use mesh_proto::v1::DeleteRequest;
use serde_json::json;
use tonic::Code;

use super::parse_kind;
use crate::cli::{Format, Global};
use crate::client::{Client, Server};
use crate::failure::{Exit, Failure};
use crate::output::{self, cell};
use crate::sources;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kind, in any case.
    #[arg(value_parser = parse_kind, required_unless_present = "files", requires = "name")]
    kind: Option<Kind>,
    /// The name.
    name: Option<String>,
    /// Delete every document that this file, folder or `-` names.
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE|DIR|-",
        conflicts_with = "kind"
    )]
    files: Vec<PathBuf>,
    /// Delete only if this revision is stored now.
    #[arg(long, value_name = "REVISION", conflicts_with = "files")]
    if_revision: Option<String>,
    /// A document that is not there is no error.
    #[arg(long)]
    ignore_missing: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let doomed: Vec<(Kind, String)> = match (args.kind, args.name) {
        (Some(kind), Some(name)) => vec![(kind, name)],
        _ => {
            let mut loaded = sources::load_or_fail(&args.files, "nothing was deleted")?;
            // Who leans on others goes first.
            loaded.sort_by_key(|loaded| std::cmp::Reverse(loaded.resource.kind()));
            loaded
                .iter()
                .map(|l| (l.resource.kind(), l.resource.name().to_owned()))
                .collect()
        }
    };
    let client = Client::open(global)?;
    let mut done: Vec<(Kind, String, &str)> = Vec::new();
    let mut failure: Option<Failure> = None;
    for (kind, name) in doomed {
        let request = DeleteRequest {
            kind: kind.as_str().into(),
            name: name.clone(),
            if_revision: args.if_revision.clone().unwrap_or_default(),
        };
        let question = async |server: Server| match server.documents().delete(request.clone()).await {
            Ok(_) => Ok(tonic::Response::new(true)),
            Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(false)),
            Err(status) => Err(status),
        };
        match client.ask(question).await {
            Ok((_, true)) => done.push((kind, name, "deleted")),
            Ok((_, false)) if args.ignore_missing => done.push((kind, name, "missing")),
            Ok((_, false)) => merge(&mut failure, client.not_found(kind, &name).await),
            Err(refused) => {
                let unreachable = refused.exit == Exit::Unreachable;
                merge(&mut failure, at(kind, &name, refused));
                if unreachable {
                    break;
                }
            }
        }
    }
    print(global.output, &done)?;
    failure.map_or(Ok(()), Err)
}

/// Says which document a refusal is about, since there may be several.
fn at(kind: Kind, name: &str, mut failure: Failure) -> Failure {
    let label = format!("{kind}/{name}");
    if failure.exit == Exit::Refused
        && let Some(first) = failure.lines.first_mut()
        && !first.starts_with(&label)
    {
        *first = format!("{label}: {first}");
    }
    failure
}

/// Several failures become one: every line, each hint once, the graver exit code.
fn merge(all: &mut Option<Failure>, next: Failure) {
    let Some(all) = all else {
        *all = Some(next);
        return;
    };
    all.lines.extend(next.lines);
    for hint in next.hints {
        if !all.hints.contains(&hint) {
            all.hints.push(hint);
        }
    }
    if next.exit as u8 > all.exit as u8 {
        all.exit = next.exit;
    }
}

fn print(format: Format, done: &[(Kind, String, &str)]) -> Result<(), Failure> {
    if format != Format::Table {
        let results: Vec<_> = done
            .iter()
            .map(|(kind, name, action)| json!({"kind": kind.as_str(), "name": name, "action": action}))
            .collect();
        return output::print_value(format, &json!({ "results": results }));
    }
    if done.is_empty() {
        return Ok(());
    }
    let mut table = output::table(&["KIND", "NAME", "ACTION"]);
    for (kind, name, action) in done {
        table.add_row([cell(kind.as_str()), cell(name), cell(action)]);
    }
    output::print_table(&table)
}
