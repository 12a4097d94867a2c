//! A schema as tables: all that reading and writing needs to know, found by number or by name in one step.
//!
//! ```text
//!  descriptors ── build ──►  messages ─┬─ fields by number (dense for small ones), by JSON and proto name
//!  (editions are lowered)    enums     └─ special: which well-known type it is, if any
//! ```
//!
//! Messages, fields and enums are known by their index, so that frames of a stack and rules of HTTP hold plain numbers.

mod build;
pub(crate) mod editions;
mod names;

use std::collections::HashMap;

pub(crate) use build::{tables, without_prefix};
pub(crate) use names::Names;

/// No message, field or oneof.
pub(crate) const NONE: u32 = u32::MAX;

/// One schema.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) messages: Vec<Message>,
    pub(crate) fields: Vec<Field>,
    pub(crate) enums: Vec<Enum>,
    by_name: HashMap<Box<str>, u32>,
}

/// A message type.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) full_name: Box<str>,
    pub(crate) special: Special,
    /// Its fields are `fields[first..first + count]`, in the order of their numbers, extensions among them.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// By number, one more than the position of the field; 0: there is none.
    dense: Box<[u32]>,
    names: Names,
    /// Bits that a set of its fields and oneofs takes.
    pub(crate) bits: u32,
}

/// Messages whose JSON is not an object of their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    None,
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

/// A field, or an extension.
#[derive(Debug)]
pub(crate) struct Field {
    /// Of an extension: `[package.name]`, in both.
    pub(crate) name: Box<str>,
    pub(crate) json_name: Box<str>,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// An absent one is told apart from a default one.
    pub(crate) presence: bool,
    pub(crate) packed: bool,
    /// A message between a start and an end key.
    pub(crate) group: bool,
    /// Singular, and `null` is one of its values.
    pub(crate) takes_null: bool,
    /// Which bit of a set of fields is its own.
    pub(crate) bit: u32,
    /// Which bit is its oneof's; [`NONE`]: it is in none.
    pub(crate) oneof: u32,
    /// The message or enum; [`NONE`] for plain kinds.
    pub(crate) of: u32,
    /// Of `of`, if that is a message.
    pub(crate) special: Special,
    key: [u8; 6],
    key_len: u8,
    /// What its JSON name and the quote after it look like in a text.
    pub(crate) sign: Sign,
    /// `,"jsonName":`
    pub(crate) json_key: Label,
    /// `,"proto_name":`
    pub(crate) proto_key: Label,
    /// Its default, as on the wire after the key (and the length).
    pub(crate) default: Box<[u8]>,
}

/// A field's name as it stands in JSON, between the comma before it and the colon after it.
#[derive(Debug)]
pub(crate) struct Label {
    text: Box<[u8]>,
    /// The same with zeros behind it, if it is short: one copy of a length that is known beforehand costs less.
    padded: [u8; Label::SHORT],
}

impl Label {
    const SHORT: usize = 24;

    pub(crate) fn new(text: &[u8]) -> Self {
        let mut padded = [0; Self::SHORT];
        for (place, byte) in padded.iter_mut().zip(text) {
            *place = *byte;
        }
        Self {
            text: text.into(),
            padded,
        }
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let length = self.text.len();
        if length <= Self::SHORT {
            let end = out.len() + length;
            out.extend_from_slice(&self.padded);
            out.truncate(end);
        } else {
            out.extend_from_slice(&self.text);
        }
    }
}

/// A short name with the quote after it, to be compared in one step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sign {
    text: u128,
    /// Which bits of it count; none: the name is long, or JSON would escape it.
    mask: u128,
}

impl Sign {
    pub(crate) fn new(name: &str) -> Self {
        let plain = name
            .bytes()
            .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        if !plain || name.len() >= 16 {
            return Self::default();
        }
        let (mut text, mut mask) = ([0; 16], [0; 16]);
        for (position, byte) in name.bytes().chain([b'"']).enumerate() {
            text[position] = byte;
            mask[position] = 0xff;
        }
        Self {
            text: u128::from_le_bytes(text),
            mask: u128::from_le_bytes(mask),
        }
    }

    /// Whether it stands here. It may be missed at the very end of a text.
    #[inline]
    pub(crate) fn is_at(self, b: &[u8], at: usize) -> bool {
        let Some(text) = b.get(at..).and_then(<[u8]>::first_chunk::<16>) else {
            return false;
        };
        self.mask != 0 && u128::from_le_bytes(*text) & self.mask == self.text
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum,
    Message,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Singular,
    List,
    Map,
}

/// An enum.
#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) full_name: Box<str>,
    /// Takes only the numbers it names.
    pub(crate) closed: bool,
    /// `google.protobuf.NullValue`: its JSON is `null`.
    pub(crate) null: bool,
    values: Vec<Word>,
    /// By number, one more than the index in `values`.
    dense: Box<[u32]>,
    sparse: HashMap<i32, u32>,
    /// Give an index in `values`.
    names: Names,
    folded: Names,
    stripped: Names,
    stripped_folded: Names,
}

/// A value of an enum.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) number: i32,
    /// `"NAME"`
    pub(crate) quoted: Box<str>,
    /// The same without the prefix of the enum's name.
    pub(crate) stripped: Box<str>,
}

/// How enum names are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnumNames {
    pub(crate) any_case: bool,
    pub(crate) strip_prefix: bool,
}

impl Tables {
    /// The index of the message type of this name.
    pub(crate) fn message_named(&self, full_name: &str) -> Option<u32> {
        self.by_name.get(full_name).copied()
    }

    /// The message type of an `Any`'s type URL: what follows the last slash, which must be there.
    pub(crate) fn message_of_url(&self, type_url: &str) -> Option<u32> {
        self.message_named(type_url.rsplit_once('/')?.1)
    }

    pub(crate) fn message(&self, index: u32) -> &Message {
        &self.messages[index as usize]
    }

    pub(crate) fn field(&self, index: u32) -> &Field {
        &self.fields[index as usize]
    }

    pub(crate) fn enumeration(&self, field: &Field) -> &Enum {
        &self.enums[field.of as usize]
    }

    /// The fields of a message.
    pub(crate) fn fields_of(&self, message: &Message) -> &[Field] {
        let first = message.first as usize;
        &self.fields[first..first + message.count as usize]
    }

    /// The index of a field by its number.
    pub(crate) fn by_number(&self, message: &Message, number: u32) -> Option<u32> {
        match message.dense.get(number as usize) {
            Some(0) => None,
            Some(position) => Some(message.first + position - 1),
            None => {
                let fields = self.fields_of(message);
                let position = fields.binary_search_by_key(&number, |field| field.number).ok()?;
                Some(message.first + u32::try_from(position).ok()?)
            }
        }
    }

    /// The index of a field by its JSON name or its proto name; of an extension by `[package.name]`.
    pub(crate) fn by_any_name(&self, message: &Message, name: &[u8]) -> Option<u32> {
        message.names.get(name)
    }

    /// The index of a field by its proto name, as rules are written.
    pub(crate) fn by_proto_name(&self, message: &Message, name: &str) -> Option<u32> {
        let position = self
            .fields_of(message)
            .iter()
            .position(|field| *field.name == *name)?;
        Some(message.first + u32::try_from(position).ok()?)
    }

    /// The fields of a map's entry: key, value. What `sound` lets pass has both.
    pub(crate) fn entry(&self, map: &Field) -> (u32, u32) {
        let first = self.message(map.of).first;
        (first, first + 1)
    }
}

impl Field {
    /// The key as it stands on the wire: of one element, or of the whole packed list.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key[..usize::from(self.key_len)]
    }

    /// Appends the key.
    #[inline]
    pub(crate) fn put_key(&self, out: &mut Vec<u8>) {
        match self.key_len {
            1 => out.push(self.key[0]),
            _ => out.extend_from_slice(self.key()),
        }
    }

    pub(crate) fn is_message(&self) -> bool {
        self.kind == Kind::Message
    }
}

impl Kind {
    /// The wire type of one value that is not packed.
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
            Kind::String | Kind::Bytes | Kind::Message => 2,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
            _ => 0,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Double => "double",
            Kind::Float => "float",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::Sint32 => "sint32",
            Kind::Sint64 => "sint64",
            Kind::Fixed32 => "fixed32",
            Kind::Fixed64 => "fixed64",
            Kind::Sfixed32 => "sfixed32",
            Kind::Sfixed64 => "sfixed64",
            Kind::Bool => "bool",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Enum => "enum",
            Kind::Message => "message",
        }
    }
}

impl Enum {
    /// The number of a name.
    pub(crate) fn number_of(&self, name: &[u8], how: EnumNames) -> Option<i32> {
        let found = self
            .names
            .get(name)
            .or_else(|| how.strip_prefix.then(|| self.stripped.get(name)).flatten())
            .or_else(|| {
                let folded = how.any_case.then(|| name.to_ascii_lowercase())?;
                let stripped = || {
                    how.strip_prefix
                        .then(|| self.stripped_folded.get(&folded))
                        .flatten()
                };
                self.folded.get(&folded).or_else(stripped)
            })?;
        self.values.get(found as usize).map(|word| word.number)
    }

    /// The value of a number; the first one where several share it.
    pub(crate) fn word(&self, number: i32) -> Option<&Word> {
        let index = match usize::try_from(number)
            .ok()
            .and_then(|number| self.dense.get(number))
        {
            Some(index) => index.checked_sub(1)?,
            None => *self.sparse.get(&number)?,
        };
        self.values.get(index as usize)
    }
}
