//! Random messages of schemas that have every type, held against prost-reflect both ways; shuffled on the wire, in pieces.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use super::oracle::Dice;
use super::*;
use crate::MessageType;
use crate::wire::{self, put_varint};

const MESSAGES: usize = 3000;
/// Another one than the fixed one, to look further: `MESH_SEED=7 cargo test`.
const SEED: &str = "MESH_SEED";

struct Zoo {
    schema: Schema,
    pool: DescriptorPool,
}

fn zoo() -> &'static Zoo {
    static ZOO: OnceLock<Zoo> = OnceLock::new();
    ZOO.get_or_init(|| {
        let bytes = compile_all(&[
            ("zoo.proto", include_str!("../../testdata/zoo.proto")),
            ("old.proto", include_str!("../../testdata/old.proto")),
        ]);
        Zoo {
            schema: Schema::compile(&bytes).unwrap(),
            pool: DescriptorPool::decode(bytes.as_slice()).unwrap(),
        }
    })
}

fn seed() -> u64 {
    let seed = std::env::var(SEED)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("{SEED}={seed}");
    seed
}

/// Makes random messages. What the oracle and the standard do not agree on is left out: NaN, which is not equal to itself,
/// and negative zero, which the oracle takes for a default.
struct Maker {
    dice: Dice,
    /// How many fields may still be filled.
    left: usize,
}

impl Maker {
    fn new(dice: Dice) -> Self {
        Self { dice, left: 0 }
    }

    fn whole(&mut self, of: &MessageDescriptor) -> DynamicMessage {
        self.left = 1 + self.dice.roll(60);
        self.message(of, 0)
    }

    fn message(&mut self, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        if self.well_known(&mut message, depth) {
            return message;
        }
        let share = [2, 4, 10, 30][self.dice.roll(4)];
        for field in of.fields() {
            if self.left == 0 || self.dice.roll(share) != 0 {
                continue;
            }
            self.left -= 1;
            let value = self.field(&field, depth);
            if field.supports_presence()
                || field.is_list()
                || field.is_map()
                || value != field.default_value()
            {
                message.set_field(&field, value);
            }
        }
        for extension in of.extensions() {
            if self.left == 0 || self.dice.roll(share) != 0 {
                continue;
            }
            self.left -= 1;
            let value = if extension.is_list() {
                Value::List(
                    (0..1 + self.dice.roll(3))
                        .map(|_| self.value(&extension.kind(), depth))
                        .collect(),
                )
            } else {
                self.value(&extension.kind(), depth)
            };
            message.set_extension(&extension, value);
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let count = 1 + self.dice.roll(4);
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                panic!()
            };
            let (key, value) = (
                entry.map_entry_key_field().kind(),
                entry.map_entry_value_field().kind(),
            );
            let mut entries = std::collections::HashMap::new();
            for _ in 0..count {
                let key: MapKey = self.value(&key, depth).into_map_key().unwrap();
                entries.insert(key, self.value(&value, depth));
            }
            return Value::Map(entries);
        }
        if field.is_list() {
            return Value::List((0..count).map(|_| self.value(&field.kind(), depth)).collect());
        }
        self.value(&field.kind(), depth)
    }

    fn bits(&mut self) -> u64 {
        let bits = (0..3).fold(0u64, |bits, _| bits << 24 ^ self.dice.roll(1 << 24) as u64);
        // Small, large, and round about the places where the number of bytes changes.
        match self.dice.roll(4) {
            0 => bits % 10,
            1 => bits,
            2 => 1 << (bits % 64),
            _ => (1u64 << (bits % 64)).wrapping_sub(1),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // any bits will do
    fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Double => Value::F64(self.real()),
            Kind::Float => {
                let value = self.real() as f32;
                Value::F32(if value.is_finite() && value != 0.0 {
                    value
                } else {
                    0.5
                })
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.bits() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.bits() as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.bits() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.bits()),
            Kind::Bool => Value::Bool(self.dice.roll(2) == 0),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => {
                let length = self.dice.roll(20);
                Value::Bytes((0..length).map(|_| self.dice.roll(256) as u8).collect())
            }
            Kind::Enum(words) => {
                let open = words.parent_file().syntax() != prost_reflect::Syntax::Proto2;
                if open && words.full_name() != "google.protobuf.NullValue" && self.dice.roll(8) == 0 {
                    return Value::EnumNumber(self.bits() as i32);
                }
                let index = self.dice.roll(words.values().len());
                Value::EnumNumber(words.values().nth(index).unwrap().number())
            }
            Kind::Message(of) => Value::Message(if depth > 5 {
                self.left = 0;
                self.message(of, depth + 1)
            } else {
                self.message(of, depth + 1)
            }),
        }
    }

    fn real(&mut self) -> f64 {
        let value = match self.dice.roll(3) {
            0 => f64::from_bits(self.bits()),
            1 => f64::from(u32::try_from(self.dice.roll(1_000_000)).unwrap()) / 100.0,
            _ => -1.5e300,
        };
        if value.is_finite() && value != 0.0 {
            value
        } else {
            49.95
        }
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 12] = [
            "a",
            "plain words ",
            "\"",
            "\\",
            "\n",
            "\u{1}",
            "é",
            "€",
            "😀",
            "\u{2028}",
            "/",
            "\u{7f}",
        ];
        let mut text: String = (0..self.dice.roll(12))
            .map(|_| PIECES[self.dice.roll(12)])
            .collect();
        if self.dice.roll(30) == 0 {
            text = text.repeat(40);
        }
        text
    }

    fn json(&mut self, depth: usize) -> serde_json::Value {
        match self.dice.roll(if depth > 3 { 4 } else { 6 }) {
            0 => serde_json::Value::Null,
            1 => (self.dice.roll(2) == 0).into(),
            2 => self.real().into(),
            3 => self.text().into(),
            4 => (0..self.dice.roll(4)).map(|_| self.json(depth + 1)).collect(),
            _ => self.object(depth),
        }
    }

    fn object(&mut self, depth: usize) -> serde_json::Value {
        let entries = (0..self.dice.roll(4)).map(|_| (self.text(), self.json(depth + 1)));
        serde_json::Value::Object(entries.collect())
    }

    fn well_known(&mut self, message: &mut DynamicMessage, depth: usize) -> bool {
        let of = message.descriptor();
        let from_json = |json: serde_json::Value| DynamicMessage::deserialize(of.clone(), json).unwrap();
        let nanos = |dice: &mut Dice| [0, 5, 5_000, 5_000_000, 999_999_999][dice.roll(5)];
        match of.full_name() {
            "google.protobuf.Timestamp" => {
                let seconds = (self.bits() % 315_537_897_600).cast_signed() - 62_135_596_800;
                set_unless_zero(message, 1, Value::I64(seconds));
                set_unless_zero(message, 2, Value::I32(nanos(&mut self.dice)));
            }
            "google.protobuf.Duration" => {
                let sign = if self.dice.roll(2) == 0 { 1 } else { -1 };
                let seconds = (self.bits() % 315_576_000_000).cast_signed();
                set_unless_zero(message, 1, Value::I64(seconds * i64::from(sign)));
                set_unless_zero(message, 2, Value::I32(nanos(&mut self.dice) * sign));
            }
            "google.protobuf.FieldMask" => {
                let paths = (0..self.dice.roll(3)).map(|_| ["foo_bar", "a.b_c.d", "x"][self.dice.roll(3)]);
                let paths: Vec<Value> = paths.map(|path| Value::String(path.into())).collect();
                if !paths.is_empty() {
                    message.set_field_by_number(1, Value::List(paths));
                }
            }
            "google.protobuf.Struct" => *message = from_json(self.object(depth)),
            "google.protobuf.Value" => *message = from_json(self.json(depth)),
            "google.protobuf.ListValue" => {
                let values: Vec<_> = (0..self.dice.roll(4)).map(|_| self.json(depth)).collect();
                *message = from_json(values.into());
            }
            "google.protobuf.Any" => {
                let names = [
                    "zoo.Zoo",
                    "old.Old",
                    "old.Scope",
                    "google.protobuf.Timestamp",
                    "google.protobuf.Value",
                    "google.protobuf.Empty",
                    "google.protobuf.StringValue",
                    "google.protobuf.Any",
                ];
                let name = names[self.dice.roll(if depth > 3 { 7 } else { 8 })];
                let inner = of.parent_pool().get_message_by_name(name).unwrap();
                let inner = self.message(&inner, depth + 2);
                message.set_field_by_number(1, Value::String(format!("type.googleapis.com/{name}")));
                let content = inner.encode_to_vec();
                if !content.is_empty() {
                    message.set_field_by_number(2, Value::Bytes(content.into()));
                }
            }
            _ => return false,
        }
        true
    }
}

fn set_unless_zero(message: &mut DynamicMessage, number: u32, value: Value) {
    if value != Value::I64(0) && value != Value::I32(0) {
        message.set_field_by_number(number, value);
    }
}

fn each_message(mut test: impl FnMut(&MessageType, &DynamicMessage, &mut Dice)) {
    let zoo = zoo();
    let mut maker = Maker::new(Dice(seed()));
    for round in 0..MESSAGES {
        let name = if round % 4 == 0 { "old.Old" } else { "zoo.Zoo" };
        let message = maker.whole(&zoo.pool.get_message_by_name(name).unwrap());
        let mut dice = Dice(maker.dice.roll(1 << 30) as u64);
        test(&zoo.schema.message(name).unwrap(), &message, &mut dice);
    }
}

fn json_of(of: &MessageType, wire: &[u8]) -> String {
    let mut out = Vec::new();
    of.to_json(wire, &Options::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// As the oracle writes it. Not as a value at once: an f32 would be widened.
fn theirs_of(message: &DynamicMessage) -> serde_json::Value {
    value_of(&serde_json::to_string(message).unwrap())
}

fn value_of(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

/// Where two values differ first; empty if they do not. Messages are compared as JSON, since the content of an `Any` may be
/// written in several ways.
fn difference(ours: &serde_json::Value, theirs: &serde_json::Value) -> String {
    use serde_json::Value::{Array, Object};
    match (ours, theirs) {
        _ if ours == theirs => String::new(),
        (Array(ours), Array(theirs)) if ours.len() == theirs.len() => {
            let pairs = ours.iter().zip(theirs).enumerate();
            let differences = pairs.map(|(at, (ours, theirs))| (format!("[{at}]"), difference(ours, theirs)));
            differences
                .filter(|(_, told)| !told.is_empty())
                .map(|(at, told)| at + &told)
                .next()
                .unwrap()
        }
        (Object(ours), Object(theirs)) => {
            let keys = ours.keys().chain(theirs.keys());
            let of =
                |object: &serde_json::Map<_, _>, key| object.get(key).cloned().unwrap_or("nothing".into());
            let differences =
                keys.map(|key| (format!(".{key}"), difference(&of(ours, key), &of(theirs, key))));
            differences
                .filter(|(_, told)| !told.is_empty())
                .map(|(at, told)| at + &told)
                .next()
                .unwrap_or_default()
        }
        _ => format!(": {ours} and not {theirs}"),
    }
}

#[track_caller]
fn same(ours: &serde_json::Value, theirs: &serde_json::Value) {
    assert_eq!(difference(ours, theirs), "");
}

#[track_caller]
fn same_message(wire: &[u8], theirs: &DynamicMessage) {
    let ours = DynamicMessage::decode(theirs.descriptor(), wire).unwrap();
    same(&theirs_of(&ours), &theirs_of(theirs));
}

#[test]
fn random_messages_are_written_as_the_oracle_writes_them() {
    each_message(|of, message, _| {
        let ours = json_of(of, &message.encode_to_vec());
        assert!(!ours.contains('\n'));
        same(&value_of(&ours), &theirs_of(message));
    });
}

#[test]
fn random_messages_are_read_as_the_oracle_reads_them_whole_and_in_pieces() {
    each_message(|of, message, dice| {
        let json = serde_json::to_vec(message).unwrap();
        let wire = of.to_wire(&json, &Options::default());
        let wire = wire.unwrap_or_else(|why| panic!("{why:?} {}", String::from_utf8_lossy(&json)));
        same_message(&wire, message);
        let mut reader = of.reader(&Options::default());
        let mut rest = json.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + dice.roll(rest.len().min(40)));
            reader.push(piece).unwrap();
            rest = after;
        }
        assert!(
            reader.finish().unwrap() == wire,
            "{}",
            String::from_utf8_lossy(&json)
        );
    });
}

#[test]
fn a_text_split_at_every_byte_is_read_as_if_it_came_whole() {
    let of = zoo().schema.message("zoo.Zoo").unwrap();
    let mut maker = Maker::new(Dice(seed() + 17));
    for _ in 0..40 {
        let message = maker.whole(&zoo().pool.get_message_by_name("zoo.Zoo").unwrap());
        // The type of an Any stands last: the text is kept until it is seen.
        let json = serde_json::to_string(&types_last(theirs_of(&message))).unwrap();
        let wire = of.to_wire(json.as_bytes(), &Options::default()).unwrap();
        for at in 0..=json.len() {
            let mut reader = of.reader(&Options::default());
            reader.push(&json.as_bytes()[..at]).unwrap();
            reader.push(&json.as_bytes()[at..]).unwrap();
            assert!(reader.finish().unwrap() == wire, "{at} {json}");
        }
        let mut reader = of.reader(&Options::default());
        for byte in json.as_bytes() {
            reader.push(&[*byte]).unwrap();
        }
        assert!(reader.finish().unwrap() == wire, "{json}");
    }
}

/// serde_json's maps are sorted by key, in which `@type` comes first: it is renamed to come last, by an escape.
fn types_last(json: serde_json::Value) -> Raw {
    match json {
        serde_json::Value::Array(values) => Raw::List(values.into_iter().map(types_last).collect()),
        serde_json::Value::Object(mut entries) => {
            let of = entries.remove("@type");
            let mut pairs: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (key, types_last(value)))
                .collect();
            pairs.extend(of.map(|of| ("@type".to_owned(), Raw::Plain(of))));
            Raw::Object(pairs)
        }
        plain => Raw::Plain(plain),
    }
}

/// JSON whose objects keep their order.
enum Raw {
    Plain(serde_json::Value),
    List(Vec<Raw>),
    Object(Vec<(String, Raw)>),
}

impl serde::Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Raw::Plain(value) => value.serialize(serializer),
            Raw::List(values) => serializer.collect_seq(values),
            Raw::Object(pairs) => serializer.collect_map(pairs.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// The same message, legally written otherwise: messages in two parts, lists packed, unpacked and in parts, values that a
/// later one replaces, unknown fields, and fields in another order where order says nothing.
fn rewritten(of: &MessageDescriptor, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        let (number, wire_type) = wire::key(&mut rest).unwrap();
        let value = wire::value(&mut rest, number, wire_type).unwrap();
        let whole = before[..before.len() - rest.len()].to_vec();
        let field = of.get_field(number);
        let singular = field.as_ref().filter(|field| !field.is_list() && !field.is_map());
        match (&field, singular.map(FieldDescriptor::kind), value) {
            (_, Some(Kind::Message(inner)), wire::Value::Bytes(content)) => {
                let content = rewritten(&inner, content, dice);
                let cut = boundary(&content, dice);
                for part in [&content[..cut], &content[cut..]] {
                    let mut piece = Vec::new();
                    wire::put_length(&mut piece, number, part.len());
                    piece.extend_from_slice(part);
                    pieces.push((number, piece));
                }
            }
            (Some(field), _, wire::Value::Bytes(content)) if field.is_packed() && field.is_list() => {
                for element in elements(&field.kind(), content) {
                    let mut piece = Vec::new();
                    if dice.roll(2) == 0 {
                        wire::put_length(&mut piece, number, element.len());
                    } else {
                        put_varint(
                            &mut piece,
                            u64::from(number) << 3 | u64::from(wire_type_of(&field.kind())),
                        );
                    }
                    piece.extend_from_slice(element);
                    pieces.push((number, piece));
                }
            }
            (_, Some(_), _) if dice.roll(3) == 0 => {
                pieces.push((number, whole.clone()));
                pieces.push((number, whole));
            }
            _ => pieces.push((number, whole)),
        }
        if dice.roll(10) == 0 {
            let mut unknown = Vec::new();
            wire::put_bytes(&mut unknown, 9999, b"unknown");
            put_varint(&mut unknown, 9998 << 3);
            put_varint(&mut unknown, 1 << 60);
            pieces.push((0, unknown));
        }
    }
    // Any order in which pieces of one field keep theirs.
    let mut keys: Vec<usize> = (0..pieces.len()).map(|_| dice.roll(1000)).collect();
    let mut order: std::collections::HashMap<u32, Vec<usize>> = std::collections::HashMap::new();
    for (position, (number, _)) in pieces.iter().enumerate() {
        order.entry(*number).or_default().push(position);
    }
    for positions in order.values() {
        let mut own: Vec<usize> = positions.iter().map(|position| keys[*position]).collect();
        own.sort_unstable();
        for (position, key) in positions.iter().zip(own) {
            keys[*position] = key;
        }
    }
    let mut sorted: Vec<usize> = (0..pieces.len()).collect();
    sorted.sort_by_key(|position| keys[*position]);
    sorted
        .into_iter()
        .flat_map(|position| pieces[position].1.clone())
        .collect()
}

/// The end of one of the fields of a message.
fn boundary(content: &[u8], dice: &mut Dice) -> usize {
    let mut ends = vec![0];
    let mut rest = content;
    while !rest.is_empty() {
        let (number, wire_type) = wire::key(&mut rest).unwrap();
        wire::value(&mut rest, number, wire_type).unwrap();
        ends.push(content.len() - rest.len());
    }
    ends[dice.roll(ends.len())]
}

fn wire_type_of(kind: &Kind) -> u8 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        _ => 0,
    }
}

fn elements<'a>(kind: &Kind, mut content: &'a [u8]) -> Vec<&'a [u8]> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let before = content;
        wire::value(&mut content, 1, wire_type_of(kind)).unwrap();
        elements.push(&before[..before.len() - content.len()]);
    }
    elements
}

#[test]
fn messages_written_in_any_legal_way_mean_the_same() {
    let mut again = 0;
    each_message(|of, message, dice| {
        let rewritten = rewritten(&message.descriptor(), &message.encode_to_vec(), dice);
        // The oracle may see more than we wrote (a oneof in parts): it decides what the bytes mean.
        let theirs = DynamicMessage::decode(message.descriptor(), rewritten.as_slice()).unwrap();
        again += usize::from(theirs_of(&theirs) == theirs_of(message));
        same(&value_of(&json_of(of, &rewritten)), &theirs_of(&theirs));
    });
    assert!(again > MESSAGES / 2, "{again}");
}

#[test]
fn what_is_written_of_random_messages_is_read_back_the_same() {
    for options in [
        Options::default(),
        Options {
            proto_names: true,
            ..Options::default()
        },
        Options {
            enum_numbers: true,
            print_defaults: true,
            ..Options::default()
        },
        Options {
            enum_strip_prefix: true,
            ..Options::default()
        },
    ] {
        each_message(|of, message, _| {
            let wire = message.encode_to_vec();
            let mut json = Vec::new();
            of.to_json(&wire, &options, &mut json).unwrap();
            let again = of.to_wire(&json, &options);
            let again = again.unwrap_or_else(|why| panic!("{why:?} {}", String::from_utf8_lossy(&json)));
            same_message(&again, message);
        });
    }
}

#[test]
fn damaged_messages_and_texts_never_end_the_process() {
    each_message(|of, message, dice| {
        let wire = oracle::damage(&message.encode_to_vec(), dice);
        let mut json = Vec::new();
        match of.to_json(&wire, &Options::default(), &mut json) {
            Ok(()) => assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok()),
            Err(refusal) => assert_eq!((refusal.http, json.len()), (500, 0)),
        }
        let json = oracle::damage(&serde_json::to_vec(message).unwrap(), dice);
        let whole = of.to_wire(&json, &Options::default());
        let mut reader = of.reader(&Options::default());
        let pieces = json
            .chunks(7)
            .try_for_each(|piece| reader.push(piece))
            .and_then(|()| reader.finish());
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => assert!(whole == pieces),
            (Err(whole), Err(pieces)) => {
                assert_eq!(whole.http, 400);
                assert_eq!(
                    (whole.message, whole.field, whole.offset),
                    (pieces.message, pieces.field, pieces.offset)
                );
            }
            other => panic!("{other:?} {}", String::from_utf8_lossy(&json)),
        }
    });
}
