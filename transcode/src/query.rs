//! Query parameters, as fields: `order.legs.size=3&tags=a&tags=b`.

use std::collections::HashSet;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};

use crate::json::{Bound, leaf, leaf_from_query, set};
use crate::percent::{self, Decode};
use crate::schema::Body;
use crate::{Options, Refusal, UnknownInput, quote};

type Read<T> = Result<T, Refusal>;

/// Fills `message` from a raw query. `bound` are the fields of the path; `body` is what only the body may fill.
///
/// # Errors
/// A 400 that names the parameter.
pub(crate) fn fill(
    message: &mut DynamicMessage,
    query: &str,
    bound: &[Bound],
    body: &Body,
    options: &Options,
) -> Read<()> {
    let mut seen = HashSet::new();
    for piece in query.split('&') {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let (name, value) = (decode(name, "query parameter")?, decode(value, name)?);
        if name.is_empty() {
            continue;
        }
        parameter(message, &name, &value, bound, body, options, &mut seen)
            .map_err(|refusal| refusal.at_field(name.chars().take(256).collect::<String>()))?;
    }
    Ok(())
}

fn decode(text: &str, name: &str) -> Read<String> {
    let spaced = text.replace('+', " ");
    percent::decode(&spaced, Decode::All)
        .map(std::borrow::Cow::into_owned)
        .map_err(|why| Refusal::bad_request(why).at_field(name.chars().take(256).collect::<String>()))
}

fn parameter(
    message: &mut DynamicMessage,
    name: &str,
    text: &str,
    bound: &[Bound],
    body: &Body,
    options: &Options,
    seen: &mut HashSet<Vec<u32>>,
) -> Read<()> {
    let unknown = |why: &str| match options.unknown_query {
        UnknownInput::Ignore => Ok(()),
        UnknownInput::Reject => Err(Refusal::bad_request(why)),
    };
    if name.split('.').count() > options.limits.query_depth {
        return refuse(format!("nests deeper than {}", options.limits.query_depth));
    }
    let Some(fields) = resolve(message, name)? else {
        return unknown("there is no such field");
    };
    if let Some(bound) = bound.iter().find(|bound| bound.fields == fields) {
        return match fields.last().map(|field| value(field, text)) {
            Some(Ok(value)) if value == bound.value => Ok(()),
            _ => refuse("differs from the value in the path"),
        };
    }
    let of_body = match body {
        Body::None => false,
        Body::Whole => true,
        Body::Field(field) => fields.first() == Some(field),
    };
    if of_body {
        return unknown("belongs into the body");
    }
    let Some((last, parents)) = fields.split_last() else {
        return unknown("there is no such field");
    };
    let repeated = last.is_list();
    if !seen.insert(fields.iter().map(FieldDescriptor::number).collect()) && !repeated {
        return refuse("is given twice");
    }
    let value = value(last, text).or_else(refuse)?;
    let message = enter(message, parents)?;
    one_of(message, last)?;
    match (repeated, message.get_field_mut(last)) {
        (true, Value::List(values)) if values.len() >= options.limits.elements => {
            refuse(format!("has more than {} elements", options.limits.elements))
        }
        (true, Value::List(values)) => {
            values.push(value);
            Ok(())
        }
        _ => set(message, last, value),
    }
}

/// The way to the field a parameter names, in proto or JSON names. `None`: there is no such field.
fn resolve(message: &DynamicMessage, name: &str) -> Read<Option<Vec<FieldDescriptor>>> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for part in name.split('.') {
        let parent = match fields.last() {
            None => message.descriptor(),
            Some(field) => match field.kind() {
                _ if field.is_map() => return refuse("goes into a map"),
                _ if field.is_list() => {
                    return refuse(format!("goes through {}, which is repeated", field.name()));
                }
                Kind::Message(parent) => parent,
                _ => return refuse(format!("goes through {}, which has no fields", field.name())),
            },
        };
        let field = parent
            .get_field_by_name(part)
            .or_else(|| parent.get_field_by_json_name(part));
        let Some(field) = field else { return Ok(None) };
        fields.push(field);
    }
    Ok(Some(fields))
}

fn value(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match field.kind() {
        _ if field.is_map() => Err("is a map and takes no query parameter".into()),
        Kind::Message(_) if field.is_list() => {
            Err("is a list of messages and takes no query parameter".into())
        }
        Kind::Message(message) => leaf_from_query(&message, text).map(Value::Message),
        kind => leaf::from_text(&kind, text),
    }
}

/// The message at the end of the way, made where it is missing.
///
/// # Errors
/// The way goes into one member of a oneof that already holds another.
pub(crate) fn enter<'m>(
    mut message: &'m mut DynamicMessage,
    way: &[FieldDescriptor],
) -> Read<&'m mut DynamicMessage> {
    for field in way {
        one_of(message, field)?;
        message = match message.get_field_mut(field) {
            Value::Message(inner) => inner,
            _ => {
                return refuse(format!(
                    "goes through {}, which has no fields",
                    quote(field.name())
                ));
            }
        };
    }
    Ok(message)
}

/// Refuses a field whose oneof holds another member.
pub(crate) fn one_of(message: &DynamicMessage, field: &FieldDescriptor) -> Read<()> {
    let other = field.containing_oneof().and_then(|oneof| {
        oneof
            .fields()
            .find(|other| other != field && message.has_field(other))
    });
    match other {
        None => Ok(()),
        Some(other) => refuse(format!(
            "stands beside {}; only one of them may be given",
            other.name()
        )),
    }
}

fn refuse<T>(why: impl Into<String>) -> Read<T> {
    Err(Refusal::bad_request(why))
}
