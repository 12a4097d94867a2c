//! Writes messages as JSON. Depth is counted here, through `Any`, before anything deeper is looked at: a decoder that
//! starts anew inside each `Any` could otherwise be walked off the end of the stack.

use std::io::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::time::{DURATION_SECONDS_MAX, TIMESTAMP_SECONDS, date};
use super::well_known::WellKnown;
use crate::Limits;

/// Why a message has no JSON form.
type Write<T> = Result<T, String>;

/// Writes a message.
///
/// # Errors
/// It nests too deep, or holds what JSON cannot say.
pub(crate) fn write_message(message: &DynamicMessage, limits: &Limits) -> Write<Vec<u8>> {
    let mut writer = Writer::new(limits);
    writer.message(message)?;
    Ok(writer.out)
}

/// Writes the value of one field; an absent one as its default, `null` where it is a message.
///
/// # Errors
/// As [`write_message`].
pub(crate) fn write_field(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    limits: &Limits,
) -> Write<Vec<u8>> {
    let mut writer = Writer::new(limits);
    let absent_message = matches!(field.kind(), Kind::Message(_))
        && !field.is_list()
        && !field.is_map()
        && !message.has_field(field);
    if absent_message {
        writer.text("null");
    } else {
        writer.depth = 1;
        writer.field(field, &message.get_field(field))?;
    }
    Ok(writer.out)
}

/// An `Any` as a JSON value; `None` where its type is unknown or its content cannot be written.
pub(crate) fn write_any(
    pool: &DescriptorPool,
    type_url: &str,
    content: &[u8],
    limits: &Limits,
) -> Option<serde_json::Value> {
    let mut writer = Writer::new(limits);
    writer.any_content(pool, type_url, content).ok()?;
    serde_json::from_slice(&writer.out).ok()
}

struct Writer<'a> {
    out: Vec<u8>,
    limits: &'a Limits,
    depth: usize,
    any_depth: usize,
}

impl<'a> Writer<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            out: Vec::new(),
            limits,
            depth: 0,
            any_depth: 0,
        }
    }

    fn message(&mut self, message: &DynamicMessage) -> Write<()> {
        self.depth += 1;
        if self.depth > self.limits.proto_depth {
            return Err(format!("messages nest deeper than {}", self.limits.proto_depth));
        }
        let whole = |number| {
            message
                .get_field_by_number(number)
                .and_then(|v| v.as_i64())
                .unwrap_or_default()
        };
        match WellKnown::of(&message.descriptor()) {
            None | Some(WellKnown::Empty) => {
                self.text("{");
                self.fields(message, true)?;
                self.text("}");
            }
            Some(WellKnown::Any) => {
                let (url, content) = (message.get_field_by_number(1), message.get_field_by_number(2));
                let url = url.as_ref().and_then(|url| url.as_str()).unwrap_or_default();
                let content = content
                    .as_ref()
                    .and_then(|content| content.as_bytes().cloned())
                    .unwrap_or_default();
                self.any_content(message.descriptor().parent_pool(), url, &content)?;
            }
            Some(WellKnown::Timestamp) => self.timestamp(whole(1), nanos(message))?,
            Some(WellKnown::Duration) => self.duration(whole(1), nanos(message))?,
            Some(WellKnown::FieldMask) => self.field_mask(message)?,
            Some(WellKnown::Value) => self.value(message)?,
            Some(WellKnown::Wrapper | WellKnown::Struct | WellKnown::ListValue) => {
                let field = message
                    .descriptor()
                    .get_field(1)
                    .ok_or("a well-known type lacks its field")?;
                self.field(&field, &message.get_field(&field))?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn fields(&mut self, message: &DynamicMessage, mut first: bool) -> Write<()> {
        for (field, value) in message.fields() {
            self.comma(&mut first);
            self.string(field.json_name());
            self.text(":");
            self.field(&field, value)?;
        }
        for (extension, value) in message.extensions() {
            self.comma(&mut first);
            self.string(extension.json_name());
            self.text(":");
            match value {
                Value::List(values) => self.list(values, &extension.kind())?,
                value => self.single(value, &extension.kind())?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Write<()> {
        match (value, field.kind()) {
            (Value::Map(values), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let mut entries: Vec<(&MapKey, &Value)> = values.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                self.depth += 1;
                self.text("{");
                let mut first = true;
                for (key, value) in entries {
                    self.comma(&mut first);
                    self.key(key);
                    self.text(":");
                    self.single(value, &kind)?;
                }
                self.text("}");
                self.depth -= 1;
                Ok(())
            }
            (Value::List(values), kind) => self.list(values, &kind),
            (value, kind) => self.single(value, &kind),
        }
    }

    fn list(&mut self, values: &[Value], kind: &Kind) -> Write<()> {
        self.text("[");
        let mut first = true;
        for value in values {
            self.comma(&mut first);
            self.single(value, kind)?;
        }
        self.text("]");
        Ok(())
    }

    fn single(&mut self, value: &Value, kind: &Kind) -> Write<()> {
        match value {
            Value::Bool(truth) => self.show(truth),
            Value::I32(number) => self.show(number),
            Value::U32(number) => self.show(number),
            // More than a JSON reader's double may hold: as text.
            Value::I64(number) => self.show(format_args!("\"{number}\"")),
            Value::U64(number) => self.show(format_args!("\"{number}\"")),
            Value::F32(number) if number.is_finite() => self.json(number),
            Value::F64(number) if number.is_finite() => self.json(number),
            Value::F32(number) => self.not_finite(f64::from(*number)),
            Value::F64(number) => self.not_finite(*number),
            Value::String(text) => self.string(text),
            Value::Bytes(bytes) => self.show(format_args!("\"{}\"", BASE64_STANDARD.encode(bytes))),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(words) if words.full_name() == "google.protobuf.NullValue" => self.text("null"),
                Kind::Enum(words) => match words.get_value(*number) {
                    Some(word) => self.string(word.name()),
                    None => self.show(number),
                },
                _ => self.show(number),
            },
            Value::Message(message) => return self.message(message),
            Value::List(_) | Value::Map(_) => return Err("a list stands inside a list".into()),
        }
        Ok(())
    }

    fn key(&mut self, key: &MapKey) {
        match key {
            MapKey::Bool(key) => self.string(&key.to_string()),
            MapKey::I32(key) => self.string(&key.to_string()),
            MapKey::I64(key) => self.string(&key.to_string()),
            MapKey::U32(key) => self.string(&key.to_string()),
            MapKey::U64(key) => self.string(&key.to_string()),
            MapKey::String(key) => self.string(key),
        }
    }

    fn any_content(&mut self, pool: &DescriptorPool, type_url: &str, content: &[u8]) -> Write<()> {
        if type_url.is_empty() && content.is_empty() {
            self.text("{}");
            return Ok(());
        }
        self.any_depth += 1;
        if self.any_depth > self.limits.any_depth {
            return Err(format!("Any nests deeper than {}", self.limits.any_depth));
        }
        let name = type_url
            .rsplit_once('/')
            .map(|(_, name)| name)
            .unwrap_or_default();
        let descriptor = pool.get_message_by_name(name).ok_or_else(|| {
            format!(
                "an Any holds {}, which the schema does not know",
                crate::quote(name)
            )
        })?;
        let inner = DynamicMessage::decode(descriptor.clone(), content)
            .map_err(|_| format!("an Any does not hold the {name} it says"))?;
        self.text("{\"@type\":");
        self.string(type_url);
        if WellKnown::of(&descriptor).is_some() {
            self.text(",\"value\":");
            self.message(&inner)?;
        } else {
            self.depth += 1;
            if self.depth > self.limits.proto_depth {
                return Err(format!("messages nest deeper than {}", self.limits.proto_depth));
            }
            self.fields(&inner, false)?;
            self.depth -= 1;
        }
        self.text("}");
        self.any_depth -= 1;
        Ok(())
    }

    fn value(&mut self, message: &DynamicMessage) -> Write<()> {
        match message.fields().next() {
            // A Value with no kind is broken on the wire; null is how readers of such a message see it.
            None => self.text("null"),
            Some((_, Value::F64(number))) if !number.is_finite() => {
                return Err("a google.protobuf.Value is no finite number".into());
            }
            Some((field, value)) => self.field(&field, value)?,
        }
        Ok(())
    }

    fn timestamp(&mut self, seconds: i64, nanos: i32) -> Write<()> {
        if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
            return Err("a Timestamp is outside the years 1 to 9999".into());
        }
        let (year, month, day) = date(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        self.show(format_args!(
            "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        ));
        self.fraction(nanos);
        self.text("Z\"");
        Ok(())
    }

    fn duration(&mut self, seconds: i64, nanos: i32) -> Write<()> {
        let signs_differ = (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0);
        let too_long = seconds.unsigned_abs() > DURATION_SECONDS_MAX.unsigned_abs();
        if signs_differ || too_long || nanos.unsigned_abs() > 999_999_999 {
            return Err("a Duration is out of range".into());
        }
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        self.show(format_args!("\"{sign}{}", seconds.unsigned_abs()));
        self.fraction(nanos.abs());
        self.text("s\"");
        Ok(())
    }

    /// 0, 3, 6 or 9 digits after the point.
    fn fraction(&mut self, nanos: i32) {
        match nanos {
            0 => {}
            _ if nanos % 1_000_000 == 0 => self.show(format_args!(".{:03}", nanos / 1_000_000)),
            _ if nanos % 1000 == 0 => self.show(format_args!(".{:06}", nanos / 1000)),
            _ => self.show(format_args!(".{nanos:09}")),
        }
    }

    fn field_mask(&mut self, message: &DynamicMessage) -> Write<()> {
        let paths = message.get_field_by_number(1);
        let paths = paths
            .as_ref()
            .and_then(|paths| paths.as_list())
            .unwrap_or_default();
        let camel: Option<Vec<String>> = paths.iter().map(|path| camel_case(path.as_str()?)).collect();
        let camel = camel.ok_or("a FieldMask holds a path that has no lowerCamelCase form")?;
        self.string(&camel.join(","));
        Ok(())
    }

    fn not_finite(&mut self, number: f64) {
        self.text(match number {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => "\"NaN\"",
        });
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::replace(first, false) {
            self.text(",");
        }
    }

    fn string(&mut self, text: &str) {
        self.json(text);
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // A string or a finite number, into memory: neither can fail.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn show(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn nanos(message: &DynamicMessage) -> i32 {
    message
        .get_field_by_number(2)
        .and_then(|v| v.as_i32())
        .unwrap_or_default()
}

/// `foo_bar` as `fooBar`, if that can be turned back.
fn camel_case(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let mut raise = false;
    for character in path.chars() {
        match character {
            '_' if !raise => raise = true,
            'a'..='z' if raise => {
                camel.push(character.to_ascii_uppercase());
                raise = false;
            }
            'a'..='z' | '0'..='9' | '.' if !raise => camel.push(character),
            _ => return None,
        }
    }
    (!raise).then_some(camel)
}
