//! A method and the types it leans on, in the words of a .proto file: for people who type its JSON.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::schema::{Method, Schema};

/// Most types that are described for one method.
const TYPES_MAX: usize = 200;
/// Types with a JSON form of their own are named, and not taken apart.
const WELL_KNOWN: &str = "google.protobuf.";

impl Schema {
    /// The method as a .proto file has it, then every message and enum it leans on, the nearest first.
    #[must_use]
    pub fn describe(&self, method: &Method) -> String {
        let mut text = String::new();
        let stream = |yes: bool| if yes { "stream " } else { "" };
        let _ = writeln!(
            text,
            "rpc {} ({}{}) returns ({}{});",
            method.name(),
            stream(method.client_streaming()),
            method.input().full_name(),
            stream(method.server_streaming()),
            method.output().full_name(),
        );
        for (http_method, path) in method.http_rules() {
            let _ = writeln!(text, "  // {http_method} {path}");
        }
        let mut waiting: VecDeque<Kind> = VecDeque::new();
        let pool = self.pool();
        for message in [method.input(), method.output()] {
            waiting.extend(pool.get_message_by_name(message.full_name()).map(Kind::Message));
        }
        let mut seen = BTreeSet::new();
        while let Some(kind) = waiting.pop_front() {
            let name = match &kind {
                Kind::Message(message) => message.full_name().to_owned(),
                Kind::Enum(words) => words.full_name().to_owned(),
                _ => continue,
            };
            if name.starts_with(WELL_KNOWN) || !seen.insert(name) {
                continue;
            }
            if seen.len() > TYPES_MAX {
                let _ = writeln!(text, "\n// and more");
                break;
            }
            match kind {
                Kind::Message(message) => write_message(&mut text, &message, &mut waiting),
                Kind::Enum(words) => write_enum(&mut text, &words),
                _ => {}
            }
        }
        text
    }
}

fn write_message(text: &mut String, message: &MessageDescriptor, waiting: &mut VecDeque<Kind>) {
    let _ = writeln!(text, "\nmessage {} {{", message.full_name());
    for field in message.fields() {
        waiting.push_back(field.kind());
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            waiting.pop_back();
            waiting.push_back(entry.map_entry_value_field().kind());
        }
        let member = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let note = member
            .map(|oneof| format!("  // one of {}", oneof.name()))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "  {} {} = {};{note}",
            type_of(&field),
            field.name(),
            field.number()
        );
    }
    let _ = writeln!(text, "}}");
}

fn type_of(field: &FieldDescriptor) -> String {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map<{}, {}>", kind_name(&key.kind()), kind_name(&value.kind()));
    }
    let label = match field.cardinality() {
        Cardinality::Repeated => "repeated ",
        Cardinality::Required => "required ",
        Cardinality::Optional if field.field_descriptor_proto().proto3_optional() => "optional ",
        Cardinality::Optional => "",
    };
    format!("{label}{}", kind_name(&field.kind()))
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(words) => words.full_name().to_owned(),
        plain => format!("{plain:?}").to_ascii_lowercase(),
    }
}

fn write_enum(text: &mut String, words: &EnumDescriptor) {
    let _ = writeln!(text, "\nenum {} {{", words.full_name());
    for value in words.values() {
        let _ = writeln!(text, "  {} = {};", value.name(), value.number());
    }
    let _ = writeln!(text, "}}");
}
