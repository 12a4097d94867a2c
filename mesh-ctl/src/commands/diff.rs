//! `diff`: what applying the files would change, document by document.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use mesh_proto::document::{self, Loaded};
use mesh_proto::domain::SchemaHash;
use mesh_proto::v1::{SchemaSource, SchemaSpec, document::Resource, schema_source};
use serde_json::json;
use similar::{ChangeTag, TextDiff};

use super::resource_of;
use crate::cli::{Format, Global};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, note, safe};
use crate::sources::{self, Files};
use crate::words;

const CONTEXT_LINES: usize = 3;
const REMOVED: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const HUNK: Style = AnsiColor::Cyan.on_default();

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
}

/// One document, as it is stored and as it would be.
struct Pair {
    label: String,
    origin: String,
    /// Empty: not stored.
    stored: String,
    wanted: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let documents = sources::load_or_fail(&args.files.files, "nothing was compared")?;
    let client = Client::open(global)?;
    let mut pairs = Vec::new();
    for loaded in documents {
        let found = client.get(loaded.resource.kind(), loaded.resource.name()).await?;
        let stored = found
            .as_ref()
            .and_then(resource_of)
            .map(text_of)
            .unwrap_or_default();
        pairs.push(pair(&loaded, stored));
    }
    let differing: Vec<&Pair> = pairs.iter().filter(|pair| pair.stored != pair.wanted).collect();
    match global.output {
        Format::Table => {
            for pair in &differing {
                output::print(&unified(pair))?;
            }
            let counted = words::count(pairs.len(), "document");
            note(&format!("{} of {counted} would change", differing.len()));
        }
        format => {
            let listed: Vec<_> = pairs.iter().map(value_of).collect();
            output::print_value(
                format,
                &json!({"differs": !differing.is_empty(), "documents": listed}),
            )?;
        }
    }
    if differing.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent(Exit::Refused))
    }
}

fn pair(loaded: &Loaded, stored: String) -> Pair {
    Pair {
        label: format!("{}/{}", loaded.resource.kind(), loaded.resource.name()),
        origin: loaded.origin.clone(),
        stored,
        wanted: text_of(&loaded.resource),
    }
}

/// The document as YAML, with a schema by its hash, which is how it is stored.
fn text_of(resource: &Resource) -> String {
    let mut resource = resource.clone();
    match &mut resource {
        Resource::Service(service) => {
            if let Some(SchemaSource { source: Some(source) }) =
                service.spec.as_mut().and_then(|spec| spec.schema.as_mut())
                && let schema_source::Source::Inline(bytes) = source
            {
                *source = schema_source::Source::Hash(SchemaHash::of(bytes).to_string());
            }
        }
        // Its name is the hash of its bytes already.
        Resource::Schema(schema) => schema.spec = Some(SchemaSpec::default()),
        _ => {}
    }
    document::to_yaml(&resource)
}

fn unified(pair: &Pair) -> String {
    let diff = TextDiff::from_lines(&pair.stored, &pair.wanted);
    let from = if pair.stored.is_empty() {
        "nothing stored"
    } else {
        "stored"
    };
    let mut text = String::new();
    let _ = writeln!(text, "{REMOVED}--- {} ({from}){REMOVED:#}", safe(&pair.label));
    let _ = writeln!(
        text,
        "{ADDED}+++ {} ({}){ADDED:#}",
        safe(&pair.label),
        safe(&pair.origin)
    );
    for hunk in diff.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        let _ = writeln!(text, "{HUNK}{}{HUNK:#}", hunk.header());
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ('-', REMOVED),
                ChangeTag::Insert => ('+', ADDED),
                ChangeTag::Equal => (' ', Style::new()),
            };
            let line = safe(change.value().trim_end_matches('\n'));
            let _ = writeln!(text, "{style}{sign}{line}{style:#}");
        }
    }
    text
}

fn value_of(pair: &Pair) -> serde_json::Value {
    let state = match () {
        () if pair.stored.is_empty() => "new",
        () if pair.stored == pair.wanted => "same",
        () => "differs",
    };
    let mut plain = anstream::StripStream::new(Vec::new());
    if state != "same" {
        let _ = std::io::Write::write_all(&mut plain, unified(pair).as_bytes());
    }
    let diff = String::from_utf8_lossy(&plain.into_inner()).into_owned();
    json!({"document": pair.label, "from": pair.origin, "state": state, "diff": diff})
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str =
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a.b}\nspec: {protocol: grpc, timeout: 2s}\n";

    fn loaded(text: &str) -> Loaded {
        document::parse(text, "a.yaml").unwrap().remove(0)
    }

    #[test]
    fn only_the_line_that_differs_is_marked() {
        let stored = text_of(&loaded(SERVICE).resource);
        let pair = pair(&loaded(&SERVICE.replace("2s", "3s")), stored);
        let text = unified(&pair);
        let marked: Vec<&str> = text.lines().filter(|l| l.contains("timeout")).collect();
        assert_eq!(marked.len(), 2, "{text}");
        assert!(
            marked[0].contains("-  timeout") && marked[1].contains("+  timeout"),
            "{text}"
        );
        assert_eq!(value_of(&pair)["state"], "differs");
    }

    #[test]
    fn what_is_not_stored_is_an_addition() {
        let pair = pair(&loaded(SERVICE), String::new());
        assert!(unified(&pair).contains("(nothing stored)"));
        let value = value_of(&pair);
        assert_eq!(value["state"], "new");
        assert!(!value["diff"].as_str().unwrap().contains('\u{1b}'));
    }

    #[test]
    fn a_schema_is_compared_by_its_hash() {
        let Resource::Service(mut service) = loaded(SERVICE).resource else {
            panic!("not a service")
        };
        let spec = service.spec.as_mut().unwrap();
        let bytes = mesh_proto::DESCRIPTORS.to_vec();
        let hash = SchemaHash::of(&bytes).to_string();
        spec.schema = Some(SchemaSource {
            source: Some(schema_source::Source::Inline(bytes)),
        });
        let inline = text_of(&Resource::Service(service.clone()));
        let spec = service.spec.as_mut().unwrap();
        spec.schema = Some(SchemaSource {
            source: Some(schema_source::Source::Hash(hash)),
        });
        assert_eq!(inline, text_of(&Resource::Service(service)));
    }
}
