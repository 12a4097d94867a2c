//! Documents as the stores hold them: text that people can read, and schemas as the bytes they are.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_proto::v1::document::Resource;
use mesh_proto::{Faults, Kind, document, domain};

use super::state::{Item, Key, Stored};
use crate::schema;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For files that people edit.
    Yaml,
    /// For nodes that other programs read.
    Json,
}

/// Writes a document; a schema is its bare `FileDescriptorSet`.
#[must_use]
pub fn encode(resource: &Resource, form: Form) -> Vec<u8> {
    match resource {
        Resource::Schema(schema) => schema
            .spec
            .as_ref()
            .map(|spec| spec.descriptor_set.clone())
            .unwrap_or_default(),
        _ if form == Form::Yaml => document::to_yaml(resource).into_bytes(),
        // Writing a JSON value has no failure of its own.
        _ => serde_json::to_vec_pretty(&document::to_value(resource)).unwrap_or_default(),
    }
}

/// What a stored copy turned out to be.
#[derive(Debug)]
pub struct Decoded {
    /// The document, with files read in and the schema taken out.
    pub item: Arc<Item>,
    /// The schema that was taken out.
    pub schema: Option<Arc<Item>>,
}

impl Decoded {
    /// The stored copy it belongs to.
    #[must_use]
    pub fn stored(self, revision: String, modified: SystemTime) -> Stored {
        Stored {
            item: self.item,
            schema: self.schema,
            revision,
            modified,
        }
    }
}

/// Reads a stored copy as strictly as `apply` reads a new one, and holds it to the name it is stored under. `base` is
/// where `file:` sources are looked for; without one they are faults.
///
/// # Errors
/// Why it is not that document, in one line.
pub fn decode(key: &Key, bytes: &[u8], base: Option<&Path>) -> Result<Decoded, String> {
    let mut resource = match key.kind {
        Kind::Schema => schema::of_bytes(bytes.to_vec()),
        _ => parse(bytes)?,
    };
    if let Some(base) = base {
        document::resolve_files(&mut resource, base).map_err(|faults| one_line(&faults))?;
    }
    let found = Key::of(&resource);
    if found != *key {
        return Err(format!(
            "holds {found}, but is stored as {key}; rename one of them"
        ));
    }
    domain::check(&resource).map_err(|faults| one_line(&faults))?;
    let schema = schema::split(&mut resource);
    schema::compile(schema.as_ref().unwrap_or(&resource))?;
    let schema = schema.map(|schema| Arc::new(Item::new(schema)));
    Ok(Decoded {
        item: Arc::new(Item::new(resource)),
        schema,
    })
}

/// Reads the one document of a text, YAML or JSON.
///
/// # Errors
/// Why it is none, in one line.
pub fn parse(bytes: &[u8]) -> Result<Resource, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return document::from_value(&value).map_err(|faults| one_line(&faults));
    }
    let mut loaded = document::parse(text, "").map_err(|faults| one_line(&faults))?;
    match (loaded.pop(), loaded.len()) {
        (Some(only), 0) => Ok(only.resource),
        (None, _) => Err("holds no document".into()),
        (Some(_), more) => Err(format!("holds {} documents; write one to a file", more + 1)),
    }
}

/// Faults as one line of a log or a status.
#[must_use]
pub fn one_line(faults: &Faults) -> String {
    let lines = faults.0.iter().map(ToString::to_string);
    // What was parsed without an origin has an empty one in front.
    let lines: Vec<String> = lines
        .map(|line| line.trim_start_matches([':', ' ']).to_owned())
        .collect();
    lines.join("; ")
}

/// A name as one segment of a path, of files and of nodes: what is not plain becomes `%XX`.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_:".contains(&byte) || (byte == b'.' && index > 0);
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The name a segment stands for; `None` if [`escape`] never writes such a one.
#[must_use]
pub fn unescape(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (escape(&name) == segment).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, name: &str) -> Key {
        Key {
            kind,
            name: name.into(),
        }
    }

    #[test]
    fn names_survive_being_a_path_segment() {
        for name in [
            "market.quotes",
            "sha256:ab",
            "market.quotes/10.0.0.1:9000",
            "..",
            ".hidden",
            "a%2Fb",
        ] {
            let segment = escape(name);
            assert!(!segment.contains('/') && !segment.starts_with('.'), "{segment}");
            assert_eq!(unescape(&segment).as_deref(), Some(name));
        }
        for segment in ["..", ".x", "a%2", "a%zz", "a%41", "a/b", "a b"] {
            assert_eq!(unescape(segment), None, "{segment}");
        }
    }

    #[test]
    fn a_copy_under_a_wrong_name_is_refused_with_both_names() {
        let text = b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {protocol: grpc}\n";
        let told = decode(&key(Kind::Service, "b"), text, None).unwrap_err();
        assert_eq!(
            told,
            "holds Service/a, but is stored as Service/b; rename one of them"
        );
    }

    #[test]
    fn both_forms_are_read_back_the_same() {
        let text =
            b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {protocol: grpc, timeout: 2s}\n";
        let first = decode(&key(Kind::Service, "a"), text, None).unwrap();
        for form in [Form::Yaml, Form::Json] {
            let bytes = encode(&first.item.resource, form);
            let again = decode(&key(Kind::Service, "a"), &bytes, None).unwrap();
            assert_eq!(again.item, first.item, "{form:?}");
        }
    }

    #[test]
    fn an_inline_schema_is_taken_out_and_the_service_refers_to_it() {
        let set = mesh_proto::DESCRIPTORS;
        let mut resource =
            parse(b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {protocol: grpc}\n")
                .unwrap();
        if let Resource::Service(service) = &mut resource {
            service.spec.as_mut().unwrap().schema = Some(mesh_proto::v1::SchemaSource {
                source: Some(mesh_proto::v1::schema_source::Source::Inline(set.to_vec())),
            });
        }
        let decoded = decode(&key(Kind::Service, "a"), &encode(&resource, Form::Json), None).unwrap();
        let schema = decoded.schema.unwrap();
        assert_eq!(
            schema::referred(&decoded.item.resource),
            Some(schema.name.as_str())
        );
        assert_eq!(encode(&schema.resource, Form::Yaml), set);
    }

    #[test]
    fn what_is_no_document_is_told_in_one_line() {
        let told = |bytes: &[u8]| decode(&key(Kind::Service, "a"), bytes, None).unwrap_err();
        assert_eq!(told(b""), "holds no document");
        assert_eq!(told(b"\xff"), "is not UTF-8 text");
        assert!(told(b"{").contains("is not YAML"));
        let two = b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {protocol: grpc, timeout: 0s, retry: {attempts: 9}}\n";
        assert!(
            !told(two).contains('\n') && told(two).contains("spec.timeout") && told(two).contains("attempts")
        );
    }
}
