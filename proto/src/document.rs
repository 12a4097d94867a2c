//! Documents: what a person writes, as YAML or JSON, and the messages they stand for.
//!
//! ```text
//!  text ──parse──► Document messages ──resolve_files──► the same, self-contained ──domain::check──► accepted
//! ```

use std::path::{Path, PathBuf};

use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};

use crate::fault::{Check, Faults};
use crate::kind::Kind;
use crate::name::quote;
use crate::v1::{self, document::Resource, jwks_source, schema_source};
use crate::{domain, json};

/// Largest file of documents, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// The one API version there is.
pub const API_VERSION: &str = "mesh/v1";

/// A document and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The message.
    pub resource: Resource,
    /// `quotes.yaml`, or `quotes.yaml[1]` for the second of several.
    pub origin: String,
}

/// Reads every document of a YAML (or JSON) text, whatever their number. Only shapes are judged; [`domain::check`] judges
/// the meaning.
///
/// # Errors
/// Every fault of every document, each with the origin, the document's kind and name, and the place.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Loaded>, Faults> {
    // Places come from our own walk; the parser's excerpt of the source would repeat what may be a secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Faults::one(format!("{origin}:"), format!("is not YAML: {error}")))?;
    let values: Vec<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
    let many = values.len() > 1;
    let mut check = Check::default();
    let mut loaded = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let origin = if many {
            format!("{origin}[{index}]")
        } else {
            origin.to_owned()
        };
        if let Some(resource) = check.part(&format!("{origin}:"), from_value(value)) {
            loaded.push(Loaded { resource, origin });
        }
    }
    check.finish(Some(loaded))
}

/// Reads one document that was already parsed as YAML or JSON.
///
/// # Errors
/// Every fault, with `Kind/name:` in front of the place.
pub fn from_value(value: &Value) -> Result<Resource, Faults> {
    let Value::Object(entries) = value else {
        return Err(Faults::one(
            "",
            "a document holds apiVersion, kind, metadata and spec",
        ));
    };
    let kinds = || Kind::ALL.map(Kind::as_str).join(", ");
    let kind = match entries.get("kind") {
        Some(Value::String(text)) if !text.is_empty() => Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Faults::one("kind", format!("{} is not one of {}", quote(text), kinds())))?,
        _ => {
            return Err(Faults::one(
                "kind",
                format!("is missing; write one of {}", kinds()),
            ));
        }
    };
    let mut check = Check::default();
    match entries.get("apiVersion") {
        Some(Value::String(text)) if text == API_VERSION => {}
        Some(other) => check.fault("apiVersion", format!("{other} is not known; write {API_VERSION}")),
        None => check.fault("apiVersion", format!("is missing; write {API_VERSION}")),
    }
    let mut rest: Map<String, Value> = entries.clone();
    rest.remove("kind");
    rest.remove("apiVersion");
    let name = rest
        .get("metadata")
        .and_then(|m| m.get("name"))
        .and_then(Value::as_str)
        .unwrap_or("?")
        .to_owned();
    let message = json::descriptor(kind.message_name())
        .ok_or_else(|| Faults::one("kind", format!("{kind} has no descriptor in this build")))
        .and_then(|descriptor| json::read(&descriptor, &Value::Object(rest)));
    let decoded = check
        .part("", message)
        .and_then(|dynamic| check.leaf("", Resource::decode(kind, &dynamic.encode_to_vec())));
    check
        .finish(decoded)
        .map_err(|faults| faults.under(&format!("{kind}/{}:", crate::name::printable(&name))))
}

/// Writes a document as JSON: `apiVersion`, `kind`, `metadata`, `spec`.
#[must_use]
pub fn to_value(resource: &Resource) -> Value {
    let kind = resource.kind();
    let mut entries = Map::new();
    entries.insert("apiVersion".into(), API_VERSION.into());
    entries.insert("kind".into(), kind.as_str().into());
    let message = json::descriptor(kind.message_name())
        .and_then(|descriptor| DynamicMessage::decode(descriptor, resource.encode_to_vec().as_slice()).ok());
    if let Some(Value::Object(rest)) = message.as_ref().map(json::write) {
        entries.extend(rest);
    }
    Value::Object(entries)
}

/// Writes a document as YAML, without a leading `---`.
#[must_use]
pub fn to_yaml(resource: &Resource) -> String {
    // Serializing a JSON value has no failure of its own; an empty text would be seen at once.
    serde_saphyr::to_string(&to_value(resource)).unwrap_or_default()
}

/// Loads a file, or every `.yaml`, `.yml` and `.json` file of a directory in the order of their names, with the files they
/// refer to read in.
///
/// # Errors
/// Every fault of every file: unreadable, too large, badly written, or wrong in meaning.
pub fn load(path: &Path) -> Result<Vec<Loaded>, Faults> {
    let mut check = Check::default();
    let mut all = Vec::new();
    for file in files(path)? {
        let origin = file.file_name().map_or_else(
            || file.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        let Some(text) = check.leaf(&format!("{}:", file.display()), read_text(&file, FILE_BYTES_MAX)) else {
            continue;
        };
        let Some(loaded) = check.part("", parse(&text, &origin)) else {
            continue;
        };
        let base = file.parent().unwrap_or_else(|| Path::new("."));
        for mut document in loaded {
            let judged =
                resolve_files(&mut document.resource, base).and_then(|()| domain::check(&document.resource));
            if check.part(&format!("{}:", document.origin), judged).is_some() {
                all.push(document);
            }
        }
    }
    check.finish(Some(all))
}

/// The files a path stands for, sorted.
///
/// # Errors
/// The path cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Faults> {
    let fail = |error: std::io::Error| Faults::one(format!("{}:", path.display()), error.to_string());
    if !std::fs::metadata(path).map_err(fail)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let file = entry.map_err(fail)?.path();
        let wanted = file
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        let hidden = file
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if wanted && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces every `file:` by what the file holds. Relative paths start at `base`.
///
/// # Errors
/// Every file that cannot be read, at the place that names it, with `Kind/name:` in front.
pub fn resolve_files(resource: &mut Resource, base: &Path) -> Result<(), Faults> {
    let mut check = Check::default();
    let label = format!("{}/{}:", resource.kind(), crate::name::printable(resource.name()));
    match resource {
        Resource::Service(v1::Service { spec: Some(spec), .. }) => {
            if let Some(v1::SchemaSource { source: Some(source) }) = &mut spec.schema
                && let schema_source::Source::File(file) = source
                && let Some(bytes) = check.leaf(
                    "spec.schema.file",
                    read_bytes(&base.join(file.as_str()), domain::SCHEMA_BYTES_MAX),
                )
            {
                *source = schema_source::Source::Inline(bytes);
            }
        }
        Resource::JwtProvider(v1::JwtProvider { spec: Some(spec), .. }) => {
            if let Some(v1::JwksSource { source: Some(source) }) = &mut spec.jwks
                && let jwks_source::Source::File(file) = source
                && let Some(text) = check.leaf(
                    "spec.jwks.file",
                    read_text(&base.join(file.as_str()), domain::JWKS_BYTES_MAX),
                )
            {
                *source = jwks_source::Source::Inline(text);
            }
        }
        _ => {}
    }
    check.finish(Some(())).map_err(|faults| faults.under(&label))
}

/// The files a resource refers to, as written. For those who watch them.
#[must_use]
pub fn referred_files(resource: &Resource) -> Vec<&str> {
    let file = match resource {
        Resource::Service(service) => {
            match service
                .spec
                .as_ref()
                .and_then(|s| s.schema.as_ref())
                .and_then(|s| s.source.as_ref())
            {
                Some(schema_source::Source::File(file)) => Some(file),
                _ => None,
            }
        }
        Resource::JwtProvider(provider) => {
            match provider
                .spec
                .as_ref()
                .and_then(|s| s.jwks.as_ref())
                .and_then(|s| s.source.as_ref())
            {
                Some(jwks_source::Source::File(file)) => Some(file),
                _ => None,
            }
        }
        _ => None,
    };
    file.into_iter().map(String::as_str).collect()
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    String::from_utf8(read_bytes(path, bytes_max)?)
        .map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
