//! The well-known types: messages whose JSON is not an object of their fields.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::{leaf, time};
use crate::Refusal;

/// Which of them a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    /// One field, `value`; the JSON is its value.
    Wrapper,
    Struct,
    ListValue,
    Value,
    /// Has no fields; special only inside `Any`, where it stands under `value`.
    Empty,
}

impl WellKnown {
    pub(crate) fn of(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name().strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "FieldMask" => Self::FieldMask,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => Self::Wrapper,
            "Struct" => Self::Struct,
            "ListValue" => Self::ListValue,
            "Value" => Self::Value,
            "Empty" => Self::Empty,
            _ => return None,
        })
    }
}

/// A Timestamp, Duration, FieldMask or wrapper from text: of a query, or of a JSON string.
///
/// # Errors
/// What it should have been. Other messages have no form as text.
pub(crate) fn from_text(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    match WellKnown::of(message) {
        Some(WellKnown::Timestamp) => Ok(seconds_and_nanos(message, time::timestamp(text)?)),
        Some(WellKnown::Duration) => Ok(seconds_and_nanos(message, time::duration(text)?)),
        Some(WellKnown::FieldMask) => {
            let paths = leaf::field_mask(text)?.into_iter().map(Value::String).collect();
            Ok(filled(message, [(1, Value::List(paths))]))
        }
        Some(WellKnown::Wrapper) => {
            let field = message.get_field(1).ok_or("has no value")?;
            Ok(filled(message, [(1, leaf::from_text(&field.kind(), text)?)]))
        }
        _ => Err(format!("is a {} and takes no plain value", message.full_name())),
    }
}

fn seconds_and_nanos(message: &MessageDescriptor, (seconds, nanos): (i64, i32)) -> DynamicMessage {
    filled(message, [(1, Value::I64(seconds)), (2, Value::I32(nanos))])
}

/// A message with these fields, by number. A schema may define a message of a well-known name with other fields: such a
/// field stays empty.
pub(crate) fn filled(
    message: &MessageDescriptor,
    fields: impl IntoIterator<Item = (u32, Value)>,
) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for (number, value) in fields {
        let _ = filled.try_set_field_by_number(number, value);
    }
    filled
}

/// A set of a field that descriptors say fits; if it does not, that is our defect and is told as one.
pub(crate) fn set(
    message: &mut DynamicMessage,
    field: &prost_reflect::FieldDescriptor,
    value: Value,
) -> Result<(), Refusal> {
    message
        .try_set_field(field, value)
        .map_err(|_| Refusal::bad_reply("a field took no value of its own type").at_field(field.json_name()))
}
