//! The path of a rule, filled from a message.
//!
//! ```text
//!  /v1/{name=shelves/*}:x   { name: "shelves/a b" }   ─►   /v1/shelves/a%20b:x
//! ```

use serde_json::Value;

use crate::schema::{PathField, Rule};
use crate::table::{Kind, Tables};
use crate::template::Segment;

/// Characters of a path segment that need no escape (RFC 3986, unreserved).
const UNRESERVED: &[u8] = b"-._~";
/// Those that stay as they are in a value of several segments: reserved ones that do not end the path.
const RESERVED_KEPT: &[u8] = b"!$&'()*+,:;=@";

/// The path of a rule for a message, if the message has what it takes.
pub(super) fn of(t: &Tables, rule: &Rule, root: &Value) -> Option<String> {
    let mut path = String::new();
    let segments = &rule.template.segments;
    let mut at = 0;
    while let Some(segment) = segments.get(at) {
        let variable = rule
            .variables
            .iter()
            .find(|variable| variable.segments.start == at && !variable.segments.is_empty());
        if let Some(variable) = variable {
            let value = value_of(t, variable, root)?;
            fill(
                &mut path,
                segments.get(variable.segments.clone())?,
                variable,
                &value,
            )?;
            at = variable.segments.end;
            continue;
        }
        match segment {
            Segment::Literal(text) => {
                path.push('/');
                path.push_str(text);
            }
            // Nothing says what stands here.
            Segment::Any => return None,
            Segment::Rest => {}
        }
        at += 1;
    }
    if path.is_empty() {
        path.push('/');
    }
    if let Some(verb) = &rule.template.verb {
        path.push(':');
        path.push_str(verb);
    }
    Some(path)
}

/// A variable's value as text; a field that is not there has its default.
fn value_of(t: &Tables, variable: &PathField, root: &Value) -> Option<String> {
    let mut value = Some(root);
    for field in &variable.fields {
        value = value.and_then(|value| value.get(&*t.field(*field).json_name));
    }
    let field = t.field(*variable.fields.last()?);
    match value {
        Some(value) => plain(value),
        None if field.presence => None,
        None => match field.kind {
            Kind::String | Kind::Bytes => Some(String::new()),
            Kind::Bool => Some("false".into()),
            _ => Some("0".into()),
        },
    }
}

/// Writes a variable's segments, if the value has their form.
fn fill(path: &mut String, segments: &[Segment], variable: &PathField, value: &str) -> Option<()> {
    if !variable.several {
        if value.is_empty() || value == "." || value == ".." {
            return None;
        }
        path.push('/');
        escape(path, value, UNRESERVED);
        return Some(());
    }
    let mut pieces = value.split('/').filter(|_| !value.is_empty()).peekable();
    for segment in segments {
        match segment {
            Segment::Literal(text) => {
                pieces.next().filter(|piece| piece == text)?;
                path.push('/');
                path.push_str(text);
            }
            Segment::Any => piece(path, pieces.next()?)?,
            Segment::Rest => {
                for next in pieces.by_ref() {
                    piece(path, next)?;
                }
            }
        }
    }
    pieces.peek().is_none().then_some(())
}

/// One segment of a value of several. What is escaped already stays so: it was reserved where it came from.
fn piece(path: &mut String, text: &str) -> Option<()> {
    if text.is_empty() || text == "." || text == ".." {
        return None;
    }
    path.push('/');
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        let (before, after) = rest.split_at(percent);
        escape(path, before, RESERVED_KEPT);
        let tail = after.get(1..).unwrap_or_default();
        if crate::percent::hex_pair(tail.as_bytes()).is_some() {
            path.push('%');
        } else {
            path.push_str("%25");
        }
        rest = tail;
    }
    escape(path, rest, RESERVED_KEPT);
    Some(())
}

pub(super) fn escape(into: &mut String, text: &str, kept: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) || kept.contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A JSON value as the text of a path or a query, if it is plain.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
