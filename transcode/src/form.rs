//! A form (`multipart/form-data`) as one request message.
//!
//! ```text
//!  the rule's body is a google.api.HttpBody ─► the form's file is that body; its other parts are query parameters
//!  otherwise ─► each part is a field of the body: text as text, a file as bytes, application/json as JSON
//! ```
//!
//! The fields of a form are text. What each means is the field's own type to say; judged are they by the JSON reader, like
//! any other body.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::http_body::is_http_body;
use crate::multipart::Part;
use crate::schema::Body;
use crate::table::{self, Kind, Shape, Tables};
use crate::{Match, Options, Refusal, quote};

/// Messages whose JSON is a text, or may be one.
const TEXTS: [&str; 10] = [
    "google.protobuf.DoubleValue",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.Timestamp",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];

/// A part with all its data.
#[derive(Debug, Clone)]
pub struct Field {
    /// What it says of itself.
    pub part: Part,
    /// What is in it.
    pub data: Vec<u8>,
}

/// What a part of a form is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The body itself, carried as it is.
    Body,
    /// A query parameter.
    Parameter,
}

impl<T> Match<T> {
    /// Whether the rule has a body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        !matches!(self.rule.body, Body::None)
    }

    /// What a part is, where [`Match::request_body_is_http_body`].
    #[must_use]
    pub fn part_role(&self, part: &Part) -> Role {
        let named = match &self.rule.body {
            Body::Field(field) => {
                let field = self.method.input.tables.field(*field);
                part.name == *field.name || part.name == *field.json_name
            }
            Body::None | Body::Whole => false,
        };
        if named || part.file_name.is_some() {
            Role::Body
        } else {
            Role::Parameter
        }
    }

    /// Whether a form can be the body, or bring it.
    #[must_use]
    pub fn takes_form(&self) -> bool {
        self.request_body_is_http_body() || self.form_message().is_some()
    }

    /// The message that the parts of a form are the fields of.
    fn form_message(&self) -> Option<u32> {
        let input = &self.method.input;
        match &self.rule.body {
            Body::Whole => Some(input.index),
            Body::Field(field) => Some(input.tables.field(*field))
                .filter(|field| field.shape == Shape::Singular && field.is_message())
                .map(|field| field.of),
            Body::None => None,
        }
    }

    /// The request message of a form that was read whole. `dropped` gets what lenient switches drop.
    ///
    /// # Errors
    /// 400 with the field, 413 or 415, as for any other body.
    pub fn form(
        &self,
        query: &str,
        fields: &[Field],
        options: &Options,
        dropped: &mut Vec<String>,
    ) -> Result<Vec<u8>, Refusal> {
        if self.request_body_is_http_body() {
            return self.form_around_file(query, fields, options, dropped);
        }
        let input = &self.method.input;
        let message = self.form_message().ok_or_else(Refusal::unsupported_media_type)?;
        let json = json_of(&input.tables, message, fields)?;
        let mut reader = self.begin(query, None, options)?;
        // Places in this text mean nothing to whoever sent the form.
        let read = reader.push(json.as_bytes()).and_then(|()| reader.finish());
        let message = read.map_err(|refusal| Refusal {
            offset: None,
            ..refusal
        })?;
        dropped.extend(reader.dropped().map(str::to_owned));
        Ok(message)
    }

    fn form_around_file(
        &self,
        query: &str,
        fields: &[Field],
        options: &Options,
        dropped: &mut Vec<String>,
    ) -> Result<Vec<u8>, Refusal> {
        let (files, others): (Vec<&Field>, Vec<&Field>) = fields
            .iter()
            .partition(|field| self.part_role(&field.part) == Role::Body);
        let file = match (files.as_slice(), others.as_slice()) {
            ([file], _) => file,
            // A form of one part needs no file name.
            ([], [only]) => only,
            ([], _) => return Err(Refusal::bad_request("the form has no file")),
            ([_, second, ..], _) => {
                let why = "the form has a second file; this method takes one";
                return Err(Refusal::bad_request(why).at_field(&second.part.name));
            }
        };
        let mut query = query.to_owned();
        for other in others.iter().filter(|other| !std::ptr::eq(**other, *file)) {
            add_parameter(&mut query, &other.part.name, text(other)?);
        }
        let content_type = file.part.content_type.as_deref().unwrap_or_default();
        self.http_body_first(&query, content_type, &file.data, options, dropped)
    }
}

/// Adds one part of a form to a raw query.
pub fn add_parameter(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    encode(query, name);
    query.push('=');
    encode(query, value);
}

fn encode(into: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.extend(DIGITS.get(usize::from(digit)).copied().map(char::from));
            }
        }
    }
}

/// The data of a part that is text.
fn text(field: &Field) -> Result<&str, Refusal> {
    std::str::from_utf8(&field.data)
        .map_err(|_| Refusal::bad_request("is not UTF-8 text").at_field(&field.part.name))
}

/// The parts as one JSON object. Parts of one name that stand apart become one list; of a field that is no list, the second
/// is told as any name is that stands twice.
fn json_of(t: &Tables, message: u32, fields: &[Field]) -> Result<String, Refusal> {
    let mut json = String::from("{");
    let mut seen: Vec<&str> = Vec::new();
    for field in fields {
        let name = field.part.name.as_str();
        let known = t
            .by_any_name(t.message(message), name.as_bytes())
            .map(|known| t.field(known));
        let list = known.is_some_and(|known| known.shape == Shape::List);
        if list && seen.contains(&name) {
            continue;
        }
        seen.push(name);
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&Value::from(name).to_string());
        json.push(':');
        if !list {
            json.push_str(&value_of(t, known, field)?);
            continue;
        }
        let all: Result<Vec<String>, Refusal> = fields
            .iter()
            .filter(|other| other.part.name == name)
            .map(|other| value_of(t, known, other))
            .collect();
        json.push('[');
        json.push_str(&all?.join(","));
        json.push(']');
    }
    json.push('}');
    Ok(json)
}

/// One part as a JSON value of a field's type; of a field that is not known, as text.
fn value_of(t: &Tables, known: Option<&table::Field>, field: &Field) -> Result<String, Refusal> {
    let refuse = |why: String| Refusal::bad_request(why).at_field(&field.part.name);
    let as_text = || Ok(Value::from(text(field)?).to_string());
    let as_json = || {
        let text = text(field)?.trim();
        serde_json::from_str::<Value>(text)
            .map(|_| text.to_owned())
            .map_err(|_| refuse("is not one JSON value".into()))
    };
    let is_json = field.part.content_type.as_deref().is_some_and(|content_type| {
        let media = content_type.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case("application/json")
    });
    let is_map = known.is_some_and(|known| known.shape == Shape::Map);
    let message = known.filter(|known| known.is_message()).map(|known| known.of);
    match known.map(|known| known.kind) {
        _ if message.is_some_and(|message| is_http_body(t, message)) => Ok(serde_json::json!({
            "contentType": field.part.content_type.as_deref().unwrap_or_default(),
            "data": BASE64_STANDARD.encode(&field.data),
        })
        .to_string()),
        Some(Kind::Bytes) if !is_json => Ok(Value::from(BASE64_STANDARD.encode(&field.data)).to_string()),
        _ if is_json || is_map => as_json(),
        Some(Kind::Bool) => truth(text(field)?).map_err(refuse),
        Some(Kind::Enum) if is_integer(&field.data) => as_json(),
        Some(Kind::Message) => match message.map_or("", |message| &t.message(message).full_name) {
            "google.protobuf.BoolValue" => truth(text(field)?).map_err(refuse),
            "google.protobuf.BytesValue" => Ok(Value::from(BASE64_STANDARD.encode(&field.data)).to_string()),
            name if TEXTS.contains(&name) => as_text(),
            _ => as_json(),
        },
        _ => as_text(),
    }
}

/// Whether an enum is given by its number.
fn is_integer(data: &[u8]) -> bool {
    let digits = data.strip_prefix(b"-").unwrap_or(data);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn truth(text: &str) -> Result<String, String> {
    match text {
        "true" | "false" => Ok(text.to_owned()),
        _ => Err(format!("{} is neither true nor false", quote(text))),
    }
}
