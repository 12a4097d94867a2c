//! Values: of fields, of well-known types, and those around others.

use super::frame::{Close, Frame, Kind};
use super::string::Purpose;
use super::{Machine, Read, Slot, State, bound};
use crate::json::text;
use crate::table::{self, NONE, Shape, Special, Tables};

impl Machine {
    /// A value; `at` is at its first byte.
    #[inline]
    pub(super) fn value(&mut self, t: &Tables, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        let slot = self.slot;
        if slot.field == NONE {
            if slot.skips() {
                return self.skip(t, b, at, last);
            }
            return self.message(t, slot, b, at, last);
        }
        let field = t.field(slot.field);
        if slot.whole {
            if b.get(*at) == Some(&b'n') && !field.takes_null {
                match self.word(b, *at, "null", last) {
                    Some(true) => {
                        *at += 4;
                        return self.null(t, *at);
                    }
                    Some(false) => {}
                    None => return Ok(false),
                }
            }
            match field.shape {
                Shape::Singular => {}
                Shape::List => return self.list(t, slot, b, at),
                Shape::Map => return self.map(t, slot.field, b, at),
            }
            if field.oneof != NONE && !self.may_be_dropped(field, b.get(*at)) {
                self.one_of(t, field, *at)?;
            }
            // Once is enough: a well-known type may come back here for what it holds.
            self.slot.whole = false;
        }
        if field.is_message() {
            return self.message(t, slot, b, at, last);
        }
        self.scalar(t, field, b, at, last)
    }

    /// `null` for a field: it is absent.
    fn null(&mut self, t: &Tables, at: usize) -> Read<bool> {
        if self.slot.mask {
            self.note_mask(t, 0, at)?;
        }
        self.check = None;
        self.value_done(t)?;
        Ok(true)
    }

    /// Whether a value may turn out to be left out, once its text is known; it then leaves its oneof to others.
    fn may_be_dropped(&self, field: &table::Field, first: Option<&u8>) -> bool {
        self.settings.how.drop_unknown && field.kind == table::Kind::Enum && first == Some(&b'"')
    }

    /// Refuses a second member of a oneof.
    pub(super) fn one_of(&mut self, t: &Tables, field: &table::Field, at: usize) -> Read<()> {
        if !self.mark_bit(t, field.oneof) {
            return Ok(());
        }
        let Some(frame) = self.stack.last() else {
            return Ok(());
        };
        let siblings = t.fields_of(t.message(frame.message));
        let mut others = siblings
            .iter()
            .filter(|other| other.oneof == field.oneof && other.number != field.number);
        if let Some((name, of_path)) = self.bound_member(t, frame.bound, field.oneof) {
            if of_path == self.slot.field {
                return Ok(());
            }
            let why = format!("stands beside {}; only one of them may be given", field.json_name);
            return self.refuse(t, at, why).map_err(|refusal| refusal.at_field(name));
        }
        match others.find(|other| self.has_bit(t, other.bit)) {
            Some(other) => {
                let why = format!(
                    "stands beside {}; only one of them may be written",
                    other.json_name
                );
                self.refuse(t, at, why)
            }
            // The same field again, where that is allowed.
            None => Ok(()),
        }
    }

    fn list(&mut self, t: &Tables, slot: Slot, b: &[u8], at: &mut usize) -> Read<bool> {
        if b.get(*at) != Some(&b'[') {
            return self.refuse(t, *at, "must be an array");
        }
        self.deeper(t, *at)?;
        *at += 1;
        let field = t.field(slot.field);
        let frame = if field.packed {
            self.out.bytes.extend_from_slice(field.key());
            let mark = self.out.open();
            Frame::new(Kind::List, Close::Packed, mark)
        } else {
            Frame::new(Kind::List, Close::Nothing, self.out.mark())
        };
        self.open(
            t,
            Frame {
                field: slot.field,
                ..frame
            },
        );
        self.state = State::FirstElement;
        Ok(true)
    }

    fn map(&mut self, t: &Tables, field: u32, b: &[u8], at: &mut usize) -> Read<bool> {
        if b.get(*at) != Some(&b'{') {
            return self.refuse(t, *at, "must be an object");
        }
        self.deeper(t, *at)?;
        self.check_depth(t, *at, 1)?;
        *at += 1;
        let frame = Frame::new(Kind::Map, Close::Nothing, self.out.mark());
        self.open(
            t,
            Frame {
                field,
                levels: 1,
                ..frame
            },
        );
        self.state = State::FirstKey;
        Ok(true)
    }

    /// A message, whatever its form in JSON is.
    fn message(&mut self, t: &Tables, slot: Slot, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        let message = t.message(slot.message);
        let byte = b.get(*at).copied();
        if byte == Some(b'n') && message.special != Special::Value && slot.field != NONE {
            match self.word(b, *at, "null", last) {
                Some(true) => return self.refuse(t, *at, "must not be null here"),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        self.check_depth(t, *at, 1)?;
        let within = slot.bound != bound::FREE;
        if within {
            self.bounds.enter_body(slot.bound);
        }
        match message.special {
            Special::None | Special::Empty => {
                if byte != Some(b'{') {
                    return self.refuse(t, *at, "must be an object");
                }
                self.deeper(t, *at)?;
                *at += 1;
                let (close, mark) = self.begin(t, slot);
                let frame = Frame {
                    message: slot.message,
                    field: slot.field,
                    levels: 1,
                    mask: slot.mask,
                    bound: slot.bound,
                    ..Frame::new(Kind::Message, close, mark)
                };
                self.open(t, frame);
                if within {
                    self.take_oneofs(t, slot.bound);
                }
                self.state = State::FirstKey;
                Ok(true)
            }
            Special::Wrapper => {
                self.around(t, slot);
                self.slot = self.inner(t, message.first, false);
                if within {
                    self.bind(slot.bound, message.first, *at);
                }
                Ok(true)
            }
            // Its JSON has no fields that could be held against the path's, one by one.
            _ if within => self.refuse(t, *at, "has a value in the path and cannot stand in the body too"),
            Special::Timestamp | Special::Duration | Special::FieldMask => self.message_text(t, b, at),
            Special::Any => self.any(t, slot, b, at),
            Special::Struct => {
                if byte != Some(b'{') {
                    return self.refuse(t, *at, "must be an object");
                }
                self.around(t, slot);
                self.map(t, message.first, b, at)
            }
            Special::ListValue => {
                if byte != Some(b'[') {
                    return self.refuse(t, *at, "must be an array");
                }
                self.around(t, slot);
                self.slot = self.inner(t, message.first, true);
                self.list(t, self.slot, b, at)
            }
            Special::Value => self.any_json(t, slot, b, at, last),
        }
    }

    /// A message whose JSON is a string.
    fn message_text(&mut self, t: &Tables, b: &[u8], at: &mut usize) -> Read<bool> {
        if b.get(*at) != Some(&b'"') {
            return self.refuse(t, *at, "must be a string");
        }
        let start = *at + 1;
        let (end, high) = text::special(b, start);
        if high || b.get(end) != Some(&b'"') {
            *at = start;
            self.begin_string(Purpose::Value);
            return Ok(true);
        }
        let text = b.get(start..end).unwrap_or_default();
        self.text(t, text, *at)?;
        *at = end + 1;
        Ok(true)
    }

    /// `google.protobuf.Value`: any JSON. Its fields are null, number, string, bool, struct and list, 1 to 6.
    fn any_json(&mut self, t: &Tables, slot: Slot, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        let (place, words): (u32, &[&str]) = match b.get(*at) {
            Some(b'{') => (4, &[]),
            Some(b'[') => (5, &[]),
            Some(b'"') => (2, &[]),
            Some(b'n') => (0, &["null"]),
            Some(b't' | b'f') => (3, &["true", "false"]),
            _ => (1, &[]),
        };
        let mut known = words.is_empty();
        for word in words {
            match self.word(b, *at, word, last) {
                Some(found) => known |= found,
                None => return Ok(false),
            }
        }
        if !known || (place == 1 && !matches!(b.get(*at), Some(b'-' | b'0'..=b'9'))) {
            return self.refuse(t, *at, "is not JSON: a value is missing or badly written");
        }
        let first = t.message(slot.message).first;
        let field = t.by_number(t.message(slot.message), place + 1).unwrap_or(first);
        self.around(t, slot);
        self.slot = self.inner(t, field, true);
        self.value(t, b, at, last)
    }

    /// Opens a message around the next value.
    fn around(&mut self, t: &Tables, slot: Slot) {
        let (close, mark) = self.begin(t, slot);
        let frame = Frame {
            field: slot.field,
            levels: 1,
            bound: slot.bound,
            ..Frame::new(Kind::Around, close, mark)
        };
        self.open(t, frame);
    }

    fn inner(&self, t: &Tables, field: u32, explicit: bool) -> Slot {
        Slot {
            field,
            message: t.field(field).of,
            key: true,
            explicit: explicit || t.field(field).presence,
            ..Slot::SKIP
        }
    }

    /// What a value should have been, where there is none.
    pub(super) fn wanted(&self, t: &Tables) -> &'static str {
        if self.root == NONE && self.stack.is_empty() {
            let special = match self.slot.message {
                NONE => Special::None,
                message => t.message(message).special,
            };
            if matches!(
                special,
                Special::None | Special::Empty | Special::Any | Special::Struct
            ) {
                return "must be an object";
            }
        }
        "is not JSON: a value is missing or badly written"
    }
}
