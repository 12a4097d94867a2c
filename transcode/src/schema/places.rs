//! The fields a rule names: of its path, its body and its answer.

use super::{Body, PathField};
use crate::message::MessageType;
use crate::quote;
use crate::table::{NONE, Shape, Special, Tables};

/// The way to a singular field that is no message.
pub(super) fn path_fields(input: &MessageType, path: &str) -> Result<Vec<u32>, String> {
    let t = &*input.tables;
    let mut fields: Vec<u32> = Vec::new();
    for name in path.split('.') {
        let parent = match fields.last().map(|index| t.field(*index)) {
            None => input.index,
            Some(field) if field.is_message() => field.of,
            Some(_) => {
                return Err(format!(
                    "{}: {} is no field of a message",
                    quote(path),
                    quote(name)
                ));
            }
        };
        let parent = t.message(parent);
        let index = t.by_proto_name(parent, name).ok_or_else(|| {
            format!(
                "{}: {} has no field {}",
                quote(path),
                parent.full_name,
                quote(name)
            )
        })?;
        if t.field(index).shape != Shape::Singular {
            return Err(format!(
                "{}: {} is repeated; a path has one value",
                quote(path),
                quote(name)
            ));
        }
        fields.push(index);
    }
    match fields.last().map(|index| t.field(*index)) {
        Some(field) if !field.is_message() => Ok(fields),
        _ => Err(format!("{} is a message; a path fills plain fields", quote(path))),
    }
}

/// What the body fills.
pub(super) fn read_body(input: &MessageType, body: &str) -> Result<Body, String> {
    Ok(match body {
        "" => Body::None,
        "*" => Body::Whole,
        name => Body::Field(top_field(input, name)?),
    })
}

/// The field that is the answer; none where it is the whole message.
pub(super) fn response_field(output: &MessageType, name: &str) -> Result<Option<u32>, String> {
    match name {
        "" => Ok(None),
        name => top_field(output, name).map(Some),
    }
}

fn top_field(message: &MessageType, name: &str) -> Result<u32, String> {
    let of = message.tables.message(message.index);
    message
        .tables
        .by_proto_name(of, name)
        .ok_or_else(|| format!("{} has no field {}", of.full_name, quote(name)))
}

/// Where the body is one ordinary message: the field mask of the request, if there is exactly one and the path leaves it
/// alone.
pub(super) fn mask_field(input: &MessageType, variables: &[PathField], body: Option<&Body>) -> Option<u32> {
    let t = &*input.tables;
    let Some(Body::Field(body)) = body else {
        return None;
    };
    let body = t.field(*body);
    if !body.is_message() || body.shape != Shape::Singular || body.special != Special::None {
        return None;
    }
    let message = t.message(input.index);
    let mut masks = (message.first..message.first + message.count).filter(|index| {
        let field = t.field(*index);
        field.special == Special::FieldMask && field.shape == Shape::Singular
    });
    let mask = masks.next().filter(|_| masks.next().is_none())?;
    let of_path = variables
        .iter()
        .any(|variable| variable.fields.first() == Some(&mask));
    (!of_path).then_some(mask)
}

/// Whether two ways part at members of one oneof.
pub(super) fn exclude(t: &Tables, one: &[u32], other: &[u32]) -> bool {
    let parting = one.iter().zip(other).find(|(one, other)| one != other);
    parting.is_some_and(|(one, other)| {
        let oneof = t.field(*one).oneof;
        oneof != NONE && oneof == t.field(*other).oneof
    })
}
