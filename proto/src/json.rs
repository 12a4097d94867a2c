//! JSON values ⇄ messages, led by descriptors: the protobuf JSON mapping, with enum values in kebab-case, and with every
//! fault reported at its place.
//!
//! The walk itself only looks at shapes; what a leaf may look like is decided by prost-reflect.

use std::sync::OnceLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
};
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use crate::fault::{Check, Faults};
use crate::name::quote;

/// The message of this name in our own vocabulary.
pub(crate) fn descriptor(name: &str) -> Option<MessageDescriptor> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(crate::DESCRIPTORS).unwrap_or_default())
        .get_message_by_name(name)
}

/// Reads a JSON object as a message.
pub(crate) fn read(message: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, Faults> {
    let mut check = Check::default();
    let clean = object(message, value, "", &mut check);
    let read = match message.clone().deserialize(clean) {
        Ok(read) => Some(read),
        Err(error) => {
            check.fault("", error.to_string());
            None
        }
    };
    check.finish(read)
}

/// Writes a message as a JSON value.
pub(crate) fn write(message: &DynamicMessage) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or(Value::Null);
    kebab_enums(&message.descriptor(), &mut value);
    value
}

/// Checks the shape of one object and gives it back with enum values under their protobuf names and without what was wrong.
fn object(message: &MessageDescriptor, value: &Value, place: &str, check: &mut Check) -> Value {
    let Value::Object(entries) = value else {
        check.fault(
            place,
            format!(
                "must hold fields ({}), not {}",
                field_names(message),
                describe(value)
            ),
        );
        return Value::Object(Map::new());
    };
    let mut clean = Map::new();
    for (key, value) in entries {
        let place = if place.is_empty() {
            key.clone()
        } else {
            format!("{place}.{key}")
        };
        let found = message
            .get_field_by_json_name(key)
            .or_else(|| message.get_field_by_name(key));
        let Some(field) = found else {
            check.fault(
                place,
                format!("is not known here; there are {}", field_names(message)),
            );
            continue;
        };
        if let Some(value) = field_value(&field, value, &place, check) {
            if clean.contains_key(field.json_name()) {
                check.fault(place, "is written twice");
            }
            clean.insert(field.json_name().to_owned(), value);
        }
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let written: Vec<_> = oneof
            .fields()
            .filter(|f| clean.contains_key(f.json_name()))
            .map(|f| f.json_name().to_owned())
            .collect();
        if written.len() > 1 {
            check.fault(
                place,
                format!("holds {}; only one of them may be written", written.join(" and ")),
            );
            clean.remove(&written[0]);
        }
    }
    Value::Object(clean)
}

fn field_value(field: &FieldDescriptor, value: &Value, place: &str, check: &mut Check) -> Option<Value> {
    // `allow: []` is the one list whose emptiness means something: nothing is allowed.
    let blank = match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && field.name() != "allow",
        Value::Object(entries) => entries.is_empty() && field.is_map(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if blank {
        check.fault(place, "is blank; write a value or leave the line out");
        return None;
    }
    if field.is_map() {
        let Value::Object(entries) = value else {
            check.fault(
                place,
                format!("must hold names with values, not {}", describe(value)),
            );
            return None;
        };
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let inner = entry.map_entry_value_field();
        let read = |(key, value): (&String, &Value)| {
            let value = single(&inner, value, &format!("{place}.{key}"), check)?;
            Some((key.clone(), value))
        };
        return Some(Value::Object(entries.iter().filter_map(read).collect()));
    }
    if field.is_list() {
        let Value::Array(items) = value else {
            check.fault(place, format!("must be a list, not {}", describe(value)));
            return None;
        };
        let read = |(index, item)| single(field, item, &format!("{place}[{index}]"), check);
        return Some(Value::Array(items.iter().enumerate().filter_map(read).collect()));
    }
    single(field, value, place, check)
}

/// One value: a member of a list, a value of a map, or a field of its own.
fn single(field: &FieldDescriptor, value: &Value, place: &str, check: &mut Check) -> Option<Value> {
    match field.kind() {
        Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => {
            if value.is_null() {
                check.fault(place, "is blank; write a value or leave the line out");
                return None;
            }
            Some(object(&message, value, place, check))
        }
        Kind::Enum(words) => {
            let found = value
                .as_str()
                .and_then(|text| words.values().find(|v| kebab(&words, v.name()) == text));
            let Some(found) = found.filter(|found| found.number() != 0) else {
                let known: Vec<_> = words
                    .values()
                    .filter(|v| v.number() != 0)
                    .map(|v| kebab(&words, v.name()))
                    .collect();
                check.fault(
                    place,
                    format!("{} is not one of {}", describe(value), known.join(", ")),
                );
                return None;
            };
            Some(Value::String(found.name().to_owned()))
        }
        Kind::String => match value {
            Value::String(text) if !text.is_empty() => Some(value.clone()),
            // A value of a map may be empty (labels); a member of a list may not.
            Value::String(_) if field.containing_message_is_map_entry() => Some(value.clone()),
            Value::String(_) | Value::Null => {
                check.fault(place, "is blank; write a value or leave the line out");
                None
            }
            other => {
                check.fault(
                    place,
                    format!(
                        "must be text, not {}; put it in quotes if text is meant",
                        describe(other)
                    ),
                );
                None
            }
        },
        _ => leaf(field, value, place, check),
    }
}

/// Asks prost-reflect whether a leaf is well written, by itself, so that its fault has a place.
fn leaf(field: &FieldDescriptor, value: &Value, place: &str, check: &mut Check) -> Option<Value> {
    let parent = field.parent_message();
    let wrapped = if field.is_list() {
        Value::Array(vec![value.clone()])
    } else {
        value.clone()
    };
    let alone = Value::Object(Map::from_iter([(field.json_name().to_owned(), wrapped)]));
    match parent.clone().deserialize(alone) {
        Ok(_) => Some(value.clone()),
        Err(error) => {
            let wanted = match field.kind() {
                Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => "a whole number within its range",
                Kind::Bool => "true or false",
                Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
                    "a duration in seconds, such as 2s or 0.25s"
                }
                _ => {
                    check.fault(place, format!("{}: {error}", describe(value)));
                    return None;
                }
            };
            check.fault(place, format!("must be {wanted}, not {}", describe(value)));
            None
        }
    }
}

trait InMapEntry {
    fn containing_message_is_map_entry(&self) -> bool;
}

impl InMapEntry for FieldDescriptor {
    fn containing_message_is_map_entry(&self) -> bool {
        self.parent_message().is_map_entry()
    }
}

fn kebab_enums(message: &MessageDescriptor, value: &mut Value) {
    let Value::Object(entries) = value else { return };
    for (key, value) in entries.iter_mut() {
        let Some(field) = message.get_field_by_json_name(key) else {
            continue;
        };
        let inner = match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
            kind => kind,
        };
        let each: Vec<&mut Value> = match value {
            Value::Array(items) => items.iter_mut().collect(),
            Value::Object(entries) if field.is_map() => entries.values_mut().collect(),
            other => vec![other],
        };
        for value in each {
            match &inner {
                Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => {
                    kebab_enums(message, value);
                }
                Kind::Enum(words) => {
                    if let Some(name) = value.as_str() {
                        *value = Value::String(kebab(words, name));
                    }
                }
                _ => {}
            }
        }
    }
}

/// `ALGORITHM_LEAST_REQUEST` of `Algorithm` is written `least-request`.
fn kebab(words: &EnumDescriptor, name: &str) -> String {
    let mut prefix = String::new();
    for letter in words.name().chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    name.strip_prefix(&prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
        .replace('_', "-")
}

fn field_names(message: &MessageDescriptor) -> String {
    message
        .fields()
        .map(|field| field.json_name().to_owned())
        .collect::<Vec<_>>()
        .join(", ")
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quote(text),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "fields".into(),
    }
}
