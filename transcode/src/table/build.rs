//! Makes tables of descriptors.

use std::collections::HashMap;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind as ReflectedKind,
    MessageDescriptor, Syntax, Value,
};

use super::editions::Features;
use super::{Enum, Field, Kind, Label, Message, NONE, Names, Shape, Sign, Special, Tables, Word};
use crate::wire;

/// Largest field or enum number that is looked up by index rather than searched for.
const DENSE_MAX: u32 = 1024;

/// The tables of a pool that `sound` has judged.
pub(crate) fn tables(pool: &DescriptorPool, features: &Features) -> Tables {
    let mut tables = Tables::default();
    let index = |position: usize| u32::try_from(position).unwrap_or(NONE);
    for (position, message) in pool.all_messages().enumerate() {
        tables.by_name.insert(message.full_name().into(), index(position));
    }
    let mut enums = HashMap::new();
    for (position, words) in pool.all_enums().enumerate() {
        enums.insert(words.full_name().to_owned(), index(position));
        tables.enums.push(enumeration(&words, features));
    }
    let specials: Vec<Special> = pool.all_messages().map(|message| special(&message)).collect();
    let builder = Builder {
        enums: &enums,
        specials: &specials,
        features,
    };
    for message in pool.all_messages() {
        builder.message(&message, &mut tables);
    }
    tables
}

struct Builder<'a> {
    enums: &'a HashMap<String, u32>,
    specials: &'a [Special],
    features: &'a Features,
}

/// What fields and extensions have in common.
struct Raw {
    name: String,
    json_name: String,
    full_name: String,
    number: u32,
    kind: ReflectedKind,
    list: bool,
    map: bool,
    packed: bool,
    group: bool,
    presence: bool,
    oneof: Option<String>,
    default: Value,
}

impl Builder<'_> {
    fn message(&self, message: &MessageDescriptor, tables: &mut Tables) {
        let mut raw: Vec<Raw> = message.fields().map(|field| of_field(&field)).collect();
        raw.extend(message.extensions().map(|extension| of_extension(&extension)));
        raw.sort_by_key(|field| field.number);
        let first = u32::try_from(tables.fields.len()).unwrap_or(NONE);
        let count = u32::try_from(raw.len()).unwrap_or(NONE);
        let mut oneofs: Vec<String> = Vec::new();
        for (bit, raw) in (0..).zip(&raw) {
            let oneof = raw.oneof.as_ref().map_or(NONE, |name| {
                let known = oneofs.iter().position(|known| known == name);
                let position = known.unwrap_or_else(|| {
                    oneofs.push(name.clone());
                    oneofs.len() - 1
                });
                count + u32::try_from(position).unwrap_or_default()
            });
            let field = self.field(raw, bit, oneof, tables);
            tables.fields.push(field);
        }
        let position = tables.messages.len();
        let dense_len = raw
            .iter()
            .map(|field| field.number + 1)
            .filter(|length| *length <= DENSE_MAX)
            .max()
            .unwrap_or_default();
        let mut dense = vec![0; dense_len as usize].into_boxed_slice();
        for (place, field) in (1..).zip(&raw) {
            if let Some(slot) = dense.get_mut(field.number as usize) {
                *slot = place;
            }
        }
        // JSON names go before proto names: where one field's JSON name is another's proto name, the mapping means the former.
        let by_json = raw.iter().map(|field| field.json_name.as_str());
        let by_proto = raw.iter().map(|field| field.name.as_str());
        let names = by_json.zip(first..).chain(by_proto.zip(first..));
        tables.messages.push(Message {
            full_name: message.full_name().into(),
            special: self.specials.get(position).copied().unwrap_or(Special::None),
            first,
            count,
            dense,
            names: Names::new(names),
            bits: count + u32::try_from(oneofs.len()).unwrap_or_default(),
        });
    }

    fn field(&self, raw: &Raw, bit: u32, oneof: u32, tables: &Tables) -> Field {
        let kind = kind(&raw.kind);
        let of = match &raw.kind {
            ReflectedKind::Message(message) => tables.message_named(message.full_name()).unwrap_or(NONE),
            ReflectedKind::Enum(words) => self.enums.get(words.full_name()).copied().unwrap_or(NONE),
            _ => NONE,
        };
        let special = match kind {
            Kind::Message => self.specials.get(of as usize).copied(),
            _ => None,
        }
        .unwrap_or(Special::None);
        let shape = match (raw.map, raw.list) {
            (true, _) => Shape::Map,
            (_, true) => Shape::List,
            _ => Shape::Singular,
        };
        let null = kind == Kind::Enum && tables.enums.get(of as usize).is_some_and(|words| words.null);
        let wire_type = match (raw.group, raw.packed) {
            (true, _) => 3,
            (_, true) => 2,
            _ => kind.wire_type(),
        };
        let mut written = Vec::new();
        wire::put_varint(&mut written, u64::from(raw.number) << 3 | u64::from(wire_type));
        let mut key = [0; 6];
        for (slot, byte) in key.iter_mut().zip(&written) {
            *slot = *byte;
        }
        Field {
            name: raw.name.as_str().into(),
            json_name: raw.json_name.as_str().into(),
            number: raw.number,
            kind,
            shape,
            presence: raw.presence && !self.features.is_implicit(&raw.full_name),
            packed: raw.packed,
            group: raw.group,
            takes_null: shape == Shape::Singular && (special == Special::Value || null),
            bit,
            oneof,
            of,
            special,
            sign: Sign::new(&raw.json_name),
            key,
            key_len: u8::try_from(written.len()).unwrap_or_default(),
            json_key: json_key(&raw.json_name),
            proto_key: json_key(&raw.name),
            default: default(kind, &raw.default),
        }
    }
}

fn of_field(field: &FieldDescriptor) -> Raw {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    Raw {
        name: field.name().to_owned(),
        json_name: field.json_name().to_owned(),
        full_name: field.full_name().to_owned(),
        number: field.number(),
        kind: field.kind(),
        list: field.cardinality() == Cardinality::Repeated,
        map: field.is_map(),
        packed: field.is_packed(),
        group: field.is_group(),
        presence: field.supports_presence(),
        oneof: oneof.map(|oneof| oneof.name().to_owned()),
        default: field.default_value(),
    }
}

fn of_extension(field: &ExtensionDescriptor) -> Raw {
    let name = format!("[{}]", field.full_name());
    Raw {
        json_name: name.clone(),
        name,
        full_name: field.full_name().to_owned(),
        number: field.number(),
        kind: field.kind(),
        list: field.cardinality() == Cardinality::Repeated,
        map: field.is_map(),
        packed: field.is_packed(),
        group: field.is_group(),
        presence: field.cardinality() != Cardinality::Repeated,
        oneof: None,
        default: field.default_value(),
    }
}

fn kind(kind: &ReflectedKind) -> Kind {
    match kind {
        ReflectedKind::Double => Kind::Double,
        ReflectedKind::Float => Kind::Float,
        ReflectedKind::Int32 => Kind::Int32,
        ReflectedKind::Int64 => Kind::Int64,
        ReflectedKind::Uint32 => Kind::Uint32,
        ReflectedKind::Uint64 => Kind::Uint64,
        ReflectedKind::Sint32 => Kind::Sint32,
        ReflectedKind::Sint64 => Kind::Sint64,
        ReflectedKind::Fixed32 => Kind::Fixed32,
        ReflectedKind::Fixed64 => Kind::Fixed64,
        ReflectedKind::Sfixed32 => Kind::Sfixed32,
        ReflectedKind::Sfixed64 => Kind::Sfixed64,
        ReflectedKind::Bool => Kind::Bool,
        ReflectedKind::String => Kind::String,
        ReflectedKind::Bytes => Kind::Bytes,
        ReflectedKind::Enum(_) => Kind::Enum,
        ReflectedKind::Message(_) => Kind::Message,
    }
}

/// A well-known type, by its name and by its shape: a schema may bring its own message of such a name, which is then an
/// ordinary one.
fn special(message: &MessageDescriptor) -> Special {
    let Some(name) = message.full_name().strip_prefix("google.protobuf.") else {
        return Special::None;
    };
    let is = |number: u32, list: bool, fits: &dyn Fn(&ReflectedKind) -> bool| {
        message
            .get_field(number)
            .is_some_and(|field| field.is_list() == list && !field.is_map() && fits(&field.kind()))
    };
    let of = |number: u32, list: bool, kind: ReflectedKind| is(number, list, &|found| *found == kind);
    let message_of = |number: u32, list: bool, name: &str| {
        is(
            number,
            list,
            &|found| matches!(found, ReflectedKind::Message(of) if of.full_name() == name),
        )
    };
    let wrapper = |kind: ReflectedKind| of(1, false, kind).then_some(Special::Wrapper);
    let when = |fits: bool, special: Special| fits.then_some(special);
    match name {
        "Any" => when(
            of(1, false, ReflectedKind::String) && of(2, false, ReflectedKind::Bytes),
            Special::Any,
        ),
        "Timestamp" | "Duration" => {
            let fits = of(1, false, ReflectedKind::Int64) && of(2, false, ReflectedKind::Int32);
            let special = if name == "Duration" { Special::Duration } else { Special::Timestamp };
            when(fits, special)
        }
        "FieldMask" => when(of(1, true, ReflectedKind::String), Special::FieldMask),
        "DoubleValue" => wrapper(ReflectedKind::Double),
        "FloatValue" => wrapper(ReflectedKind::Float),
        "Int64Value" => wrapper(ReflectedKind::Int64),
        "UInt64Value" => wrapper(ReflectedKind::Uint64),
        "Int32Value" => wrapper(ReflectedKind::Int32),
        "UInt32Value" => wrapper(ReflectedKind::Uint32),
        "BoolValue" => wrapper(ReflectedKind::Bool),
        "StringValue" => wrapper(ReflectedKind::String),
        "BytesValue" => wrapper(ReflectedKind::Bytes),
        "Struct" => {
            let map = message.get_field(1).filter(FieldDescriptor::is_map);
            let entry = map.and_then(|map| map.kind().as_message().cloned());
            let of_values = entry.is_some_and(|entry| {
                matches!(entry.map_entry_key_field().kind(), ReflectedKind::String)
                    && matches!(entry.map_entry_value_field().kind(), ReflectedKind::Message(of) if of.full_name() == "google.protobuf.Value")
            });
            when(of_values, Special::Struct)
        }
        "ListValue" => when(message_of(1, true, "google.protobuf.Value"), Special::ListValue),
        "Value" => {
            let null = is(1, false, &|found| matches!(found, ReflectedKind::Enum(_)));
            let plain = of(2, false, ReflectedKind::Double)
                && of(3, false, ReflectedKind::String)
                && of(4, false, ReflectedKind::Bool);
            let nested = message_of(5, false, "google.protobuf.Struct")
                && message_of(6, false, "google.protobuf.ListValue");
            when(null && plain && nested, Special::Value)
        }
        "Empty" => when(message.fields().len() == 0, Special::Empty),
        _ => None,
    }
    .unwrap_or(Special::None)
}

/// `BUY` of `SIDE_BUY` in an enum `Side`.
pub(crate) fn without_prefix<'a>(words: &EnumDescriptor, name: &'a str) -> Option<&'a str> {
    let prefix = screaming_snake(words.name()) + "_";
    name.strip_prefix(&prefix)
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn enumeration(words: &EnumDescriptor, features: &Features) -> Enum {
    let proto2 = words.parent_file().syntax() == Syntax::Proto2;
    let mut values = Vec::new();
    let (mut names, mut stripped_names) = (Vec::new(), Vec::new());
    // As declared: the library sorts by number, and turns those round that share one.
    for value in &words.enum_descriptor_proto().value {
        let name = value.name();
        let stripped = without_prefix(words, name);
        names.push(name.to_owned());
        stripped_names.push(stripped.unwrap_or(name).to_owned());
        values.push(Word {
            number: value.number(),
            quoted: format!("\"{name}\"").into(),
            stripped: format!("\"{}\"", stripped.unwrap_or(name)).into(),
        });
    }
    let mut sparse = HashMap::new();
    for (index, value) in (0..).zip(&values) {
        sparse.entry(value.number).or_insert(index);
    }
    let largest = values
        .iter()
        .map(|value| value.number)
        .filter(|number| *number >= 0);
    let dense_len = largest
        .filter_map(|number| usize::try_from(number).ok())
        .filter(|number| *number < DENSE_MAX as usize)
        .max()
        .map_or(0, |largest| largest + 1);
    let dense = (0..)
        .take(dense_len)
        .map(|number: i32| sparse.get(&number).map_or(0, |index| index + 1))
        .collect();
    let index = |names: &[String]| Names::new(names.iter().map(String::as_str).zip(0..));
    let folded = |names: &[String]| {
        let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        index(&lower)
    };
    Enum {
        full_name: words.full_name().into(),
        closed: proto2 && !features.is_open(words.full_name()),
        null: words.full_name() == "google.protobuf.NullValue",
        values,
        dense,
        sparse,
        folded: folded(&names),
        stripped_folded: folded(&stripped_names),
        stripped: index(&stripped_names),
        names: index(&names),
    }
}

/// `OrderSide` as `ORDER_SIDE`.
fn screaming_snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for character in name.chars() {
        if character.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            snake.push('_');
        }
        snake.push(character.to_ascii_uppercase());
        before = character;
    }
    snake
}

fn json_key(name: &str) -> Label {
    let mut key = b",".to_vec();
    // A string, into memory: this cannot fail.
    let _ = serde_json::to_writer(&mut key, name);
    key.push(b':');
    Label::new(&key)
}

/// A default as on the wire, without key and length.
fn default(kind: Kind, value: &Value) -> Box<[u8]> {
    let mut out = Vec::new();
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)).cast_unsigned();
    match (kind, value) {
        (_, Value::Bool(value)) => out.push(u8::from(*value)),
        (Kind::Sint32, Value::I32(value)) => wire::put_varint(&mut out, zigzag(i64::from(*value))),
        (Kind::Sint64, Value::I64(value)) => wire::put_varint(&mut out, zigzag(*value)),
        (Kind::Sfixed32, Value::I32(value)) => out.extend(value.to_le_bytes()),
        (Kind::Fixed32, Value::U32(value)) => out.extend(value.to_le_bytes()),
        (Kind::Sfixed64, Value::I64(value)) => out.extend(value.to_le_bytes()),
        (Kind::Fixed64, Value::U64(value)) => out.extend(value.to_le_bytes()),
        (_, Value::I32(value) | Value::EnumNumber(value)) => {
            wire::put_varint(&mut out, i64::from(*value).cast_unsigned());
        }
        (_, Value::I64(value)) => wire::put_varint(&mut out, value.cast_unsigned()),
        (_, Value::U32(value)) => wire::put_varint(&mut out, u64::from(*value)),
        (_, Value::U64(value)) => wire::put_varint(&mut out, *value),
        (_, Value::F32(value)) => out.extend(value.to_le_bytes()),
        (_, Value::F64(value)) => out.extend(value.to_le_bytes()),
        (_, Value::String(value)) => out.extend(value.as_bytes()),
        (_, Value::Bytes(value)) => out.extend_from_slice(value),
        (_, Value::Message(_) | Value::List(_) | Value::Map(_)) => {}
    }
    out.into()
}
