//! What `-f` names: files, folders and stdin, read into documents that can be sent as they are.
//!
//! ```text
//!  -f FILE | DIR | -  ──read──► text ──document::parse──► messages ──files read in──► judged ──► Loaded
//! ```
//!
//! A path that cannot be read is wrong usage (exit 2); what stands in it and is wrong is a fault (exit 1).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use mesh_proto::document::{self, FILE_BYTES_MAX, Loaded};
use mesh_proto::fault::{Check, Faults};
use mesh_proto::v1::{document::Resource, schema_source};
use mesh_proto::{Kind, domain};
use serde_json::Value;

use crate::failure::Failure;

/// The option itself, for the commands that take it.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A file of documents, a folder of such files, or `-` for stdin. May be given more than once.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Reads and judges everything that is named.
///
/// # Errors
/// The outer: a path cannot be read, or there is no document at all. The inner: every fault of every document.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Result<Vec<Loaded>, Faults>, Failure> {
    let mut check = Check::default();
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = read(&mut std::io::stdin().lock(), "stdin")?;
            all.extend(judge(&text, "stdin", Path::new("."), &mut check));
            continue;
        }
        let files = document::files(path).map_err(|faults| unreadable(&faults))?;
        if files.is_empty() {
            return Err(Failure::usage(format!(
                "{}: holds no .yaml, .yml or .json file",
                path.display()
            )));
        }
        for file in files {
            let origin = file.display().to_string();
            let mut opened = std::fs::File::open(&file)
                .map_err(|error| unreadable(&Faults::one(format!("{origin}:"), error.to_string())))?;
            let text = read(&mut opened, &origin)?;
            let base = file.parent().unwrap_or_else(|| Path::new("."));
            all.extend(judge(&text, &origin, base, &mut check));
        }
    }
    refuse_twins(&all, &mut check);
    let judged = check.finish(Some(all));
    if judged.as_ref().is_ok_and(Vec::is_empty) {
        return Err(Failure::usage("there is no document in what -f names"));
    }
    Ok(judged)
}

/// As [`load`], where a fault ends the command.
///
/// # Errors
/// As [`load`]; `headline` says what was not done because of the faults.
pub(crate) fn load_or_fail(paths: &[PathBuf], headline: &str) -> Result<Vec<Loaded>, Failure> {
    load(paths)?.map_err(|faults| Failure::faults(headline, &faults))
}

fn unreadable(faults: &Faults) -> Failure {
    Failure::usage(format!("cannot read {faults}"))
        .hint("-f takes a file, a folder of .yaml and .json files, or - for stdin")
}

fn read(from: &mut dyn Read, origin: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&Faults::one(format!("{origin}:"), error.to_string())))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{origin}: is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{origin}: is not UTF-8 text")))
}

/// One text: parsed, its files read in, each document judged.
fn judge(text: &str, origin: &str, base: &Path, check: &mut Check) -> Vec<Loaded> {
    let Some(parsed) = check.part("", parse(text, origin)) else {
        return Vec::new();
    };
    let mut good = Vec::new();
    for mut loaded in parsed {
        let judged = document::resolve_files(&mut loaded.resource, base)
            .and_then(|()| domain::check(&loaded.resource))
            .and_then(|()| compile_schema(&loaded.resource));
        if check.part(&format!("{}:", loaded.origin), judged).is_some() {
            good.push(loaded);
        }
    }
    good
}

/// A text is a YAML stream, a JSON document, or a JSON list of documents as `get -o json` prints it.
fn parse(text: &str, origin: &str) -> Result<Vec<Loaded>, Faults> {
    if !text.trim_start().starts_with('[') {
        return document::parse(text, origin);
    }
    let items: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Faults::one(
            format!("{origin}:"),
            format!("is not a JSON list of documents ({place})"),
        )
    })?;
    let mut check = Check::default();
    let mut loaded = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let origin = format!("{origin}[{index}]");
        if let Some(resource) = check.part(&format!("{origin}:"), document::from_value(item)) {
            loaded.push(Loaded { resource, origin });
        }
    }
    check.finish(Some(loaded))
}

/// What is sent together must not contradict itself.
fn refuse_twins(all: &[Loaded], check: &mut Check) {
    let mut first: BTreeMap<(Kind, &str), &str> = BTreeMap::new();
    for loaded in all {
        let key = (loaded.resource.kind(), loaded.resource.name());
        if let Some(earlier) = first.get(&key) {
            check.fault(
                format!("{}:", loaded.origin),
                format!("{}/{} stands in {earlier} already", key.0, key.1),
            );
        } else {
            first.insert(key, &loaded.origin);
        }
    }
}

/// Whether descriptors link and their HTTP rules are sound, and headers that stand for fields find them, which is the
/// transcoder's to say.
fn compile_schema(resource: &Resource) -> Result<(), Faults> {
    let mut rest = None;
    let (place, bytes) = match resource {
        Resource::Service(service) => {
            let source = service
                .spec
                .as_ref()
                .and_then(|spec| spec.schema.as_ref()?.source.as_ref());
            rest = service.spec.as_ref().and_then(|spec| spec.rest.clone());
            match source {
                Some(schema_source::Source::Inline(bytes)) => ("spec.schema", bytes),
                _ => return Ok(()),
            }
        }
        Resource::Schema(schema) => match &schema.spec {
            Some(spec) => ("spec.descriptorSet", &spec.descriptor_set),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let label = format!("{}/{}:", resource.kind(), resource.name());
    let schema = mesh_transcode::Schema::compile(bytes)
        .map_err(|faults| faults.under(&format!("{label} {place}:")))?;
    let rest = domain::Rest::try_from(rest.unwrap_or_default())?;
    mesh_transcode::HeaderFields::check(&rest, &schema)
        .map_err(|faults| faults.under(&format!("{label} spec.rest")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: &str =
        "apiVersion: mesh/v1\nkind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: mesh.local}\n";

    #[test]
    fn a_json_list_is_read_as_get_prints_it() {
        let value = document::to_value(&document::parse(MESH, "x").unwrap()[0].resource);
        let text = serde_json::to_string(&vec![value]).unwrap();
        let loaded = parse(&text, "stdin").unwrap();
        assert_eq!(
            (loaded[0].resource.name(), loaded[0].origin.as_str()),
            ("default", "stdin[0]")
        );
        assert!(
            parse("[1", "x")
                .unwrap_err()
                .to_string()
                .contains("x: is not a JSON list of documents")
        );
        assert!(
            parse("[1]", "x")
                .unwrap_err()
                .to_string()
                .contains("x[0]: a document holds")
        );
    }

    #[test]
    fn a_document_that_stands_twice_is_refused() {
        let mut check = Check::default();
        let all = judge(
            &format!("{MESH}---\n{MESH}"),
            "a.yaml",
            Path::new("."),
            &mut check,
        );
        refuse_twins(&all, &mut check);
        let told = check.finish(Some(())).unwrap_err().to_string();
        assert_eq!(told, "a.yaml[1]: Mesh/default stands in a.yaml[0] already");
    }

    #[test]
    fn a_path_that_is_not_there_is_wrong_usage() {
        let failure = load(&["/nowhere/at/all.yaml".into()]).unwrap_err();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        assert!(
            failure.lines[0].contains("/nowhere/at/all.yaml"),
            "{:?}",
            failure.lines
        );
    }
}
