//! One field of a message, by the way to it: found in the schema once, and read out of messages as a text.
//!
//! ```text
//!  "item.owner" + schema ── resolve ──► numbers of fields      once
//!  message ── text ──► "alice", its default, or nothing        per message
//! ```
//!
//! An answer is read as most readers do: what comes last counts, parts are merged. A request is read for somebody else's
//! reader, so it says nothing where readers may differ ([`crate::plain`]).

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::http_body::is_http_body;
use crate::json::write;
use crate::message::MessageType;
use crate::plain::is_plain;
use crate::schema::Method;
use crate::table::{Field, Kind, NONE, Shape, Special, Tables};
use crate::wire::{self, Value};
use crate::{Options, quote};

/// Longest value that is given as a text, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// A field of the requests of one method.
#[derive(Debug, Clone)]
pub struct RequestField {
    message: MessageType,
    way: Arc<str>,
    /// The same by numbers; never empty.
    fields: Vec<u32>,
}

/// A request that every reader reads the same.
#[derive(Debug, Clone, Copy)]
pub struct PlainRequest<'a>(&'a [u8]);

impl RequestField {
    /// Finds it by its way in the names of the .proto file: `tenant`, `item.owner`.
    ///
    /// # Errors
    /// The requests have no such field, or one that has no text.
    pub fn find(method: &Arc<Method>, way: &str) -> Result<Self, String> {
        match resolve(&method.input, way) {
            Ok(fields) => Ok(Self {
                message: method.input.clone(),
                way: way.into(),
                fields,
            }),
            Err(Miss::Absent(why) | Miss::Unfit(why)) => Err(why),
        }
    }

    /// The way to it.
    #[must_use]
    pub fn way(&self) -> &str {
        &self.way
    }

    /// Takes the bytes of a request of its method, if they are as encoders write them: in others there may be different things
    /// for different readers.
    #[must_use]
    pub fn plain<'a>(&self, request: &'a [u8]) -> Option<PlainRequest<'a>> {
        is_plain(&self.message.tables, self.message.index, request).then_some(PlainRequest(request))
    }

    /// What a request says in it, as it would stand in a path. A field that does not tell its absence from its default has
    /// its default where it is absent. Nothing where it is absent otherwise, where it comes twice or with another one of its
    /// oneof, where a closed enum does not name it, and where it is longer than 4 KiB.
    #[must_use]
    pub fn text(&self, request: PlainRequest<'_>) -> Option<String> {
        let options = &Options::default();
        match read(&self.message, &self.fields, request.0, options, Reading::Strict) {
            Found::Said(text) | Found::Default(text) => Some(text),
            Found::Absent | Found::Unwritable => None,
        }
    }
}

/// How what comes more than once is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The last one counts; parts of a message are merged.
    Lenient,
    /// It says nothing.
    Strict,
}

/// Why a way leads to no value with a text.
pub(crate) enum Miss {
    /// There is no such field.
    Absent(String),
    /// There is one of another kind.
    Unfit(String),
}

/// The way to one value that has a form as text.
pub(crate) fn resolve(message: &MessageType, way: &str) -> Result<Vec<u32>, Miss> {
    let t = &*message.tables;
    let unfit = |why: String| Err(Miss::Unfit(why));
    let mut within = message.index;
    let mut fields: Vec<u32> = Vec::new();
    for name in way.split('.') {
        if let Some(before) = fields.last().map(|before| t.field(*before)) {
            if !before.is_message() {
                return unfit(format!("{} has no fields", quote(&before.name)));
            }
            if before.special != Special::None {
                return unfit(format!(
                    "{} is written as one value; leave off what follows it",
                    quote(&before.name)
                ));
            }
        }
        let parent = t.message(within);
        let Some(index) = t.by_proto_name(parent, name) else {
            let why = format!("{} has no field {}", parent.full_name, quote(name));
            return Err(Miss::Absent(why));
        };
        if is_http_body(t, within) {
            return unfit(format!(
                "{} is of a google.api.HttpBody, which is the body as it is",
                quote(name)
            ));
        }
        let field = t.field(index);
        match field.shape {
            Shape::Singular => {}
            Shape::List => return unfit(format!("{} is repeated, and one value is wanted", quote(name))),
            Shape::Map => return unfit(format!("{} is a map, and one value is wanted", quote(name))),
        }
        fields.push(index);
        within = field.of;
    }
    match fields.last().map(|last| t.field(*last)) {
        Some(field) if field.is_message() && !is_text(field.special) => unfit(format!(
            "{} is a message; plain fields, wrappers, Timestamp, Duration and FieldMask have a text",
            quote(way)
        )),
        // What no text form is made for: nobody writes such.
        Some(field) if field.is_message() && field.group => unfit(format!("{} is a group", quote(way))),
        _ => Ok(fields),
    }
}

fn is_text(special: Special) -> bool {
    matches!(
        special,
        Special::Wrapper | Special::Timestamp | Special::Duration | Special::FieldMask
    )
}

/// What a message says in one field.
pub(crate) enum Found {
    /// This.
    Said(String),
    /// Nothing, or its default, which is the same.
    Default(String),
    /// Nothing.
    Absent,
    /// What has no text.
    Unwritable,
}

/// Reads one field of an answer.
pub(crate) fn text(message: &MessageType, way: &[u32], content: &[u8], options: &Options) -> Found {
    read(message, way, content, options, Reading::Lenient)
}

fn read(message: &MessageType, way: &[u32], content: &[u8], options: &Options, reading: Reading) -> Found {
    let t = &*message.tables;
    let Some((last, parents)) = way.split_last() else {
        return Found::Absent;
    };
    let mut within = Cow::Borrowed(content);
    let mut parent = message.index;
    for index in parents {
        within = match take(t, parent, *index, &within, reading) {
            Some(Some(Taken::Message(inner))) => Cow::Owned(inner.into_owned()),
            Some(Some(Taken::Value(_))) | None => return Found::Unwritable,
            // What is in a message that is not there has its default.
            Some(None) => Cow::Borrowed(&[]),
        };
        parent = t.field(*index).of;
    }
    let field = t.field(*last);
    // A message of this field alone: what stands around it may be large.
    let mut alone = field.key().to_vec();
    let is_default = match take(t, parent, *last, &within, reading) {
        None => return Found::Unwritable,
        Some(None) => true,
        Some(Some(Taken::Message(content))) => {
            put_bytes(&content, &mut alone);
            false
        }
        Some(Some(Taken::Value(Value::Varint(number)))) if is_unnamed(t, field, number) => {
            return Found::Absent;
        }
        Some(Some(Taken::Value(value))) => {
            match value {
                Value::Varint(value) => wire::put_varint(&mut alone, value),
                Value::Fixed32(value) => alone.extend_from_slice(&value.to_le_bytes()),
                Value::Fixed64(value) => alone.extend_from_slice(&value.to_le_bytes()),
                Value::Bytes(value) if value.len() <= TEXT_BYTES_MAX => put_bytes(value, &mut alone),
                Value::Bytes(_) | Value::Group(_) => return Found::Unwritable,
            }
            !field.presence
                && match value {
                    Value::Varint(value) | Value::Fixed64(value) => value == 0,
                    Value::Fixed32(value) => value == 0,
                    Value::Bytes(value) | Value::Group(value) => value.is_empty(),
                }
        }
    };
    if is_default && (field.presence || field.is_message()) {
        return Found::Absent;
    }
    let alone = if is_default { &[][..] } else { &alone };
    match written(t, parent, *last, alone, options) {
        Some(text) if is_default => Found::Default(text),
        Some(text) => Found::Said(text),
        None => Found::Unwritable,
    }
}

/// A field's value as JSON writes it, without quotes.
fn written(t: &Tables, parent: u32, field: u32, alone: &[u8], options: &Options) -> Option<String> {
    let mut json = Vec::new();
    write::field(t, parent, field, alone, write::Settings::of(options), &mut json).ok()?;
    match json.first()? {
        b'"' => serde_json::from_slice(&json).ok(),
        // The one value of NullValue says nothing.
        b'n' => None,
        _ => String::from_utf8(json).ok(),
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    wire::put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field as it stands on the wire.
enum Taken<'a> {
    /// The parts of a message, one after the other: so they are merged.
    Message(Cow<'a, [u8]>),
    Value(Value<'a>),
}

/// The last value of a field, unless another member of its oneof came after it. `None`: these bytes are no message, or more
/// is there than `reading` takes.
fn take<'a>(
    t: &Tables,
    message: u32,
    index: u32,
    content: &'a [u8],
    reading: Reading,
) -> Option<Option<Taken<'a>>> {
    let field = t.field(index);
    let is_rival = |number: u32| {
        field.oneof != NONE
            && t.by_number(t.message(message), number)
                .is_some_and(|other| t.field(other).oneof == field.oneof)
    };
    let (mut times, mut rivals) = (0, 0);
    let mut taken: Option<Taken<'a>> = None;
    wire::each(content, |number, value| {
        if number != field.number {
            if is_rival(number) {
                rivals += 1;
                taken = None;
            }
            return ControlFlow::Continue(());
        }
        if !is_of(field, &value) {
            // Of another wire type it is no value of this field.
            return ControlFlow::Continue(());
        }
        times += 1;
        match (value, &mut taken) {
            (Value::Bytes(part) | Value::Group(part), Some(Taken::Message(before))) => {
                before.to_mut().extend_from_slice(part);
            }
            (Value::Bytes(part) | Value::Group(part), _) if field.is_message() => {
                taken = Some(Taken::Message(part.into()));
            }
            (value, _) => taken = Some(Taken::Value(value)),
        }
        ControlFlow::Continue(())
    })?;
    let is_ambiguous = times > 1 || (times > 0 && rivals > 0);
    (reading == Reading::Lenient || !is_ambiguous).then_some(taken)
}

/// Whether a closed enum does not have this number: then it is no value of the field, but an unknown one.
fn is_unnamed(t: &Tables, field: &Field, number: u64) -> bool {
    let low = || i32::from_le_bytes(number.to_le_bytes()[..4].try_into().unwrap_or_default());
    field.kind == Kind::Enum && t.enumeration(field).closed && t.enumeration(field).word(low()).is_none()
}

fn is_of(field: &Field, value: &Value<'_>) -> bool {
    let wire_type = match value {
        Value::Varint(_) => 0,
        Value::Fixed64(_) => 1,
        Value::Bytes(_) => 2,
        Value::Group(_) => return field.group,
        Value::Fixed32(_) => 5,
    };
    !field.group && wire_type == field.kind.wire_type()
}
