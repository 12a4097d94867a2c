//! Reads JSON text as a message, led by its descriptor, in one walk that counts every limit as it goes.

mod any;

use std::collections::{HashMap, HashSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::leaf;
use super::scan::{Scan, ScanError, Scanner};
use super::well_known::{self, WellKnown, filled, set};
use crate::{Limits, Options, Refusal, UnknownInput};

type Read<T> = Result<T, Refusal>;

/// How much more memory than the largest body a message may take.
const MEMORY_FACTOR: usize = 16;
/// Estimated memory of one element of a list or map.
const ELEMENT_BYTES: usize = 128;
/// Estimated memory of a message that holds anything.
const MESSAGE_BYTES: usize = 768;

/// A field the path has filled already: the body may repeat its value and not contradict it.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) fields: Vec<FieldDescriptor>,
    pub(crate) value: Value,
}

/// Reads one JSON text.
pub(crate) struct Reader<'a> {
    scan: Scanner<'a>,
    limits: Limits,
    reject_unknown: bool,
    bound: &'a [Bound],
    /// Where we are, for refusals and for comparing with what is bound.
    way: Vec<Step>,
    json_depth: usize,
    proto_depth: usize,
    any_depth: usize,
    types: any::Types,
    /// Bytes of memory the message takes, estimated.
    memory: usize,
    memory_max: usize,
}

enum Step {
    Field(FieldDescriptor),
    Index(usize),
    Key(String),
}

impl<'a> Reader<'a> {
    /// # Errors
    /// The text is not UTF-8.
    pub(crate) fn new(text: &'a [u8], options: &Options, bound: &'a [Bound]) -> Read<Self> {
        let scan = Scanner::new(text).map_err(|error| refuse(&error))?;
        Ok(Self {
            scan,
            limits: options.limits,
            reject_unknown: options.unknown_fields == UnknownInput::Reject,
            bound,
            way: Vec::new(),
            json_depth: 0,
            proto_depth: 0,
            any_depth: 0,
            types: any::Types::default(),
            memory: 0,
            memory_max: options.limits.message_bytes.saturating_mul(MEMORY_FACTOR),
        })
    }

    /// The whole text as a message.
    pub(crate) fn whole(mut self, message: &MessageDescriptor) -> Read<DynamicMessage> {
        let read = self.message(message)?;
        self.end()?;
        Ok(read)
    }

    /// The whole text as the value of one field.
    pub(crate) fn into_field(mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Read<()> {
        self.proto_depth += 1;
        self.way.push(Step::Field(field.clone()));
        self.field(message, field)?;
        self.way.pop();
        self.end()
    }

    fn end(&mut self) -> Read<()> {
        let ended = self.scan.end();
        self.told(ended)
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> Read<DynamicMessage> {
        self.proto_depth += 1;
        if self.proto_depth > self.limits.proto_depth {
            return self.refuse(format!("messages nest deeper than {}", self.limits.proto_depth));
        }
        let well_known = WellKnown::of(descriptor);
        if well_known.is_some() {
            self.charge(MESSAGE_BYTES)?;
        }
        let message = match well_known {
            None | Some(WellKnown::Empty) => {
                let mut message = DynamicMessage::new(descriptor.clone());
                self.object(|reader, key, seen| reader.entry(&mut message, key, seen))?;
                message
            }
            Some(WellKnown::Any) => self.any(descriptor)?,
            Some(WellKnown::Wrapper) => {
                let Some(field) = descriptor.get_field(1) else {
                    return self.refuse("has no value");
                };
                let value = self.single(&field)?;
                filled(descriptor, [(1, value)])
            }
            Some(WellKnown::Value) => self.value(descriptor)?,
            Some(WellKnown::Struct | WellKnown::ListValue) => {
                let Some(field) = descriptor.get_field(1) else {
                    return self.refuse("has no content");
                };
                let mut message = DynamicMessage::new(descriptor.clone());
                match self.scan.peek() {
                    Some(b'{') if field.is_map() => self.map(&mut message, &field)?,
                    Some(b'[') if field.is_list() => self.list(&mut message, &field)?,
                    _ if field.is_map() => return self.refuse("must be an object"),
                    _ => return self.refuse("must be an array"),
                }
                message
            }
            Some(WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask) => {
                let text = self.string()?;
                match well_known::from_text(descriptor, &text) {
                    Ok(message) => message,
                    Err(why) => return self.refuse(why),
                }
            }
        };
        self.proto_depth -= 1;
        Ok(message)
    }

    /// Walks an object; `entry` reads what follows the colon. It is given the keys seen so far.
    fn object(&mut self, mut entry: impl FnMut(&mut Self, &str, &mut Seen) -> Read<()>) -> Read<()> {
        self.open(b'{', "must be an object")?;
        let mut seen = Seen::default();
        if !self.scan.eat(b'}') {
            loop {
                let key = self.string()?;
                let colon = self.scan.expect(b':', "a colon is missing");
                self.told(colon)?;
                entry(self, &key, &mut seen)?;
                if !self.scan.eat(b',') {
                    let close = self.scan.expect(b'}', "an object is not closed");
                    self.told(close)?;
                    break;
                }
            }
        }
        self.json_depth -= 1;
        Ok(())
    }

    fn entry(&mut self, message: &mut DynamicMessage, key: &str, seen: &mut Seen) -> Read<()> {
        let descriptor = prost_reflect::ReflectMessage::descriptor(message);
        let field = descriptor
            .get_field_by_json_name(key)
            .or_else(|| descriptor.get_field_by_name(key));
        let Some(field) = field else {
            return self.unknown(key, seen);
        };
        self.way.push(Step::Field(field.clone()));
        if !seen.fields.insert(field.number()) {
            return self.refuse("is written twice");
        }
        if seen.fields.len() == 1 {
            self.charge(MESSAGE_BYTES)?;
        }
        self.field(message, &field)?;
        self.way.pop();
        Ok(())
    }

    fn unknown(&mut self, key: &str, seen: &mut Seen) -> Read<()> {
        self.way.push(Step::Key(key.to_owned()));
        if !seen.unknown.insert(key.to_owned()) {
            return self.refuse("is written twice");
        }
        if self.reject_unknown {
            return self.refuse("there is no such field");
        }
        self.skip()?;
        self.way.pop();
        Ok(())
    }

    /// The value of a field, of whatever cardinality. `null` leaves it absent.
    fn field(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Read<()> {
        if !takes_null(field) && self.scan.word("null") {
            return Ok(());
        }
        if field.is_map() {
            return self.map(message, field);
        }
        if field.is_list() {
            return self.list(message, field);
        }
        let at = self.scan.offset();
        if let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof
                .fields()
                .find(|other| other != field && message.has_field(other))
        {
            let why = format!(
                "stands beside {}; only one of them may be written",
                other.json_name()
            );
            return self.refuse(why);
        }
        let value = self.single(field)?;
        if !self.agrees(&value) {
            self.scan.go_to(at);
            self.scan.peek();
            return self.refuse("differs from the value in the path");
        }
        set(message, field, value)
    }

    /// Whether the value is not one that the path has filled with another.
    fn agrees(&self, value: &Value) -> bool {
        let same_way = |bound: &&Bound| {
            bound.fields.len() == self.way.len()
                && bound
                    .fields
                    .iter()
                    .zip(&self.way)
                    .all(|(field, step)| matches!(step, Step::Field(other) if other == field))
        };
        self.any_depth > 0
            || self
                .bound
                .iter()
                .find(same_way)
                .is_none_or(|bound| bound.value == *value)
    }

    fn list(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Read<()> {
        self.open(b'[', "must be an array")?;
        let mut values = Vec::new();
        if !self.scan.eat(b']') {
            loop {
                self.way.push(Step::Index(values.len()));
                self.count(values.len())?;
                values.push(self.single(field)?);
                self.way.pop();
                if !self.scan.eat(b',') {
                    let close = self.scan.expect(b']', "an array is not closed");
                    self.told(close)?;
                    break;
                }
            }
        }
        self.json_depth -= 1;
        set(message, field, Value::List(values))
    }

    fn map(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Read<()> {
        let Kind::Message(entry) = field.kind() else {
            return self.refuse("is no map");
        };
        let (key_kind, value_field) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field());
        let mut values: HashMap<MapKey, Value> = HashMap::new();
        self.proto_depth += 1;
        self.object(|reader, key, _| {
            reader.way.push(Step::Key(key.to_owned()));
            reader.count(values.len())?;
            let key = match leaf::from_text(&key_kind, key).map(Value::into_map_key) {
                Ok(Some(key)) => key,
                Ok(None) => return reader.refuse("is no key"),
                Err(why) => return reader.refuse(format!("as a key {why}")),
            };
            if values.contains_key(&key) {
                return reader.refuse("is written twice");
            }
            let value = reader.single(&value_field)?;
            values.insert(key, value);
            reader.way.pop();
            Ok(())
        })?;
        self.proto_depth -= 1;
        set(message, field, Value::Map(values))
    }

    /// One value: a field of its own, an element, or a map's value. `null` is an error unless it is a value.
    fn single(&mut self, field: &FieldDescriptor) -> Read<Value> {
        let kind = field.kind();
        match (&kind, self.scan.peek()) {
            (Kind::Message(message), Some(b'n')) if WellKnown::of(message) != Some(WellKnown::Value) => {
                self.refuse("must not be null here")
            }
            (Kind::Message(message), _) => self.message(message).map(Value::Message),
            (Kind::Enum(words), Some(b'n')) if words.full_name() == "google.protobuf.NullValue" => {
                if self.scan.word("null") {
                    return Ok(Value::EnumNumber(0));
                }
                self.refuse("must be null")
            }
            (Kind::Enum(words), Some(b'"')) => {
                let text = self.string()?;
                self.leaf(leaf::enum_name(words, &text))
            }
            (Kind::Enum(words), Some(b'-' | b'0'..=b'9')) => {
                let text = self.number()?;
                self.leaf(leaf::enum_number(words, text))
            }
            (Kind::Enum(_), _) => self.refuse("must be the name or number of an enum value"),
            (Kind::Bool, _) if self.scan.word("true") => Ok(Value::Bool(true)),
            (Kind::Bool, _) if self.scan.word("false") => Ok(Value::Bool(false)),
            (Kind::Bool, _) => self.refuse("must be true or false"),
            (_, Some(b'"')) => {
                let text = self.string()?;
                self.leaf(leaf::from_text(&kind, &text))
            }
            (Kind::String | Kind::Bytes, _) => self.refuse("must be a string"),
            (_, Some(b'-' | b'0'..=b'9')) => {
                let text = self.number()?;
                self.leaf(leaf::number(&kind, text))
            }
            _ => self.refuse("must be a number"),
        }
    }

    /// `google.protobuf.Value`: any JSON. Its fields are null, number, string, bool, struct and list, 1 to 6.
    fn value(&mut self, descriptor: &MessageDescriptor) -> Read<DynamicMessage> {
        let (number, value) = match self.scan.peek() {
            Some(b'{') => (5, self.content(descriptor, 5)?),
            Some(b'[') => (6, self.content(descriptor, 6)?),
            Some(b'"') => (3, Value::String(self.string()?.into_owned())),
            _ if self.scan.word("null") => (1, Value::EnumNumber(0)),
            _ if self.scan.word("true") => (4, Value::Bool(true)),
            _ if self.scan.word("false") => (4, Value::Bool(false)),
            _ => {
                let text = self.number()?;
                (2, self.leaf(leaf::number(&Kind::Double, text))?)
            }
        };
        Ok(filled(descriptor, [(number, value)]))
    }

    fn content(&mut self, descriptor: &MessageDescriptor, number: u32) -> Read<Value> {
        match descriptor.get_field(number).map(|field| field.kind()) {
            Some(Kind::Message(message)) => self.message(&message).map(Value::Message),
            _ => self.refuse("is of no known shape"),
        }
    }

    fn open(&mut self, bracket: u8, otherwise: &'static str) -> Read<()> {
        let opened = self.scan.expect(bracket, otherwise);
        self.told(opened)?;
        self.json_depth += 1;
        if self.json_depth > self.limits.json_depth {
            return self.refuse(format!("nests deeper than {}", self.limits.json_depth));
        }
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Read<()> {
        if elements >= self.limits.elements {
            self.way.pop();
            return self.refuse(format!("has more than {} elements", self.limits.elements));
        }
        self.charge(ELEMENT_BYTES)
    }

    /// Small JSON can stand for a large message: it is refused before it is one.
    fn charge(&mut self, bytes: usize) -> Read<()> {
        self.memory += bytes;
        if self.memory > self.memory_max {
            return self.refuse("holds more values than one request may");
        }
        Ok(())
    }

    fn skip(&mut self) -> Read<()> {
        let skipped = self.scan.skip(self.limits.json_depth - self.json_depth);
        self.told(skipped)
    }

    fn string(&mut self) -> Read<std::borrow::Cow<'a, str>> {
        if self.scan.peek() != Some(b'"') {
            return self.refuse("must be a string");
        }
        let string = self.scan.string();
        self.told(string)
    }

    fn number(&mut self) -> Read<&'a str> {
        let number = self.scan.number();
        self.told(number)
    }

    fn leaf(&mut self, value: Result<Value, String>) -> Read<Value> {
        value.or_else(|why| self.refuse(why))
    }

    fn told<T>(&self, scanned: Scan<T>) -> Read<T> {
        scanned.map_err(|error| {
            let refusal = refuse(&error);
            if self.way.is_empty() {
                refusal
            } else {
                refusal.at_field(self.place())
            }
        })
    }

    fn refuse<T>(&self, why: impl Into<String>) -> Read<T> {
        let refusal = Refusal::bad_request(why).at_offset(self.scan.offset());
        Err(if self.way.is_empty() {
            refusal
        } else {
            refusal.at_field(self.place())
        })
    }

    /// `order.items[3].price`, in JSON names.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.way {
            match step {
                Step::Index(index) => place.push_str(&format!("[{index}]")),
                Step::Field(field) => push_name(&mut place, field.json_name()),
                Step::Key(key) => push_name(&mut place, &key.chars().take(80).collect::<String>()),
            }
        }
        place
    }
}

/// Keys of one object.
#[derive(Default)]
struct Seen {
    fields: HashSet<u32>,
    unknown: HashSet<String>,
}

fn push_name(place: &mut String, name: &str) {
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(name);
}

fn refuse(error: &ScanError) -> Refusal {
    Refusal::bad_request(error.message).at_offset(error.offset)
}

/// Whether `null` is a value of this field, and not its absence.
fn takes_null(field: &FieldDescriptor) -> bool {
    !field.is_list()
        && !field.is_map()
        && match field.kind() {
            Kind::Message(message) => WellKnown::of(&message) == Some(WellKnown::Value),
            Kind::Enum(words) => words.full_name() == "google.protobuf.NullValue",
            _ => false,
        }
}
