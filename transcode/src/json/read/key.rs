//! Keys: of fields, of maps, and those that name nothing.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use super::frame::{Kind, TYPE, Type, UNKNOWN, VALUE};
use super::string::Purpose;
use super::{Machine, Read, Slot, State, before_entry, bound, space};
use crate::json::leaf::{self, How, Leaf};
use crate::json::out::Mark;
use crate::json::text;
use crate::table::{Special, Tables};

/// So many keys of a map are compared one by one; a set is made for more.
const KEYS_COMPARED: usize = 8;
/// Most bytes of a key that are kept for telling where we are.
const NAME_BYTES_MAX: usize = 320;

/// Where a map's key stands in the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    at: usize,
    length: usize,
}

/// Where a field, or an entry of a map, stands that may be written again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emitted {
    pub(super) depth: usize,
    /// The field, or the entry's place among the keys.
    id: usize,
    from: Mark,
    to: Mark,
}

impl Machine {
    /// A key, and the colon after it where that is there.
    #[inline]
    pub(super) fn key(&mut self, t: &Tables, b: &[u8], at: &mut usize) -> Read<bool> {
        if b.get(*at) != Some(&b'"') {
            return self.refuse(t, *at, "must be a string");
        }
        let start = *at + 1;
        if let Some(frame) = self.stack.last()
            && frame.kind == Kind::Message
            && let Some(length) = hinted(t, frame.message, frame.hint, b, start)
        {
            let hint = frame.hint;
            self.state = State::Colon;
            self.field(t, hint, *at)?;
            *at = start + length + 1;
        } else {
            let (end, high) = text::special(b, start);
            if b.get(end) != Some(&b'"') {
                *at = start;
                self.begin_string(Purpose::Key);
                return Ok(true);
            }
            let name = b.get(start..end).unwrap_or_default();
            if high && let Err(error) = std::str::from_utf8(name) {
                return self.refuse(t, start + error.valid_up_to(), "is not UTF-8");
            }
            self.named(t, name, *at)?;
            *at = end + 1;
        }
        *at = space(b, *at);
        if b.get(*at) == Some(&b':') {
            *at += 1;
            self.state = State::Value;
        }
        Ok(true)
    }

    /// A key was read.
    pub(super) fn named(&mut self, t: &Tables, name: &[u8], at: usize) -> Read<()> {
        self.state = State::Colon;
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        match frame.kind {
            Kind::Map => self.map_key(t, name, at),
            Kind::Message if frame.any != Type::NoAny && name == b"@type" => self.type_key(t, at),
            Kind::AnyValue if name == b"@type" => self.type_key(t, at),
            Kind::Message => match t.by_any_name(t.message(frame.message), name) {
                Some(field) => self.field(t, field, at),
                None => self.unknown(t, name, at),
            },
            Kind::AnyValue if name == b"value" => {
                frame.count += 1;
                frame.current = VALUE;
                self.slot = Slot::message(frame.message);
                if frame.count > 1 {
                    return self.refuse(t, at, "is written twice");
                }
                Ok(())
            }
            Kind::AnyValue => self.unknown(t, name, at),
            _ => {
                self.slot = Slot::SKIP;
                Ok(())
            }
        }
    }

    /// `@type` of an `Any`: it was read already, ahead of the object.
    fn type_key(&mut self, t: &Tables, at: usize) -> Read<()> {
        if let Some(frame) = self.stack.last_mut() {
            frame.current = TYPE;
            if std::mem::replace(&mut frame.any, Type::Seen) == Type::Seen {
                return self.refuse(t, at, "is written twice");
            }
        }
        self.slot = Slot::SKIP;
        Ok(())
    }

    /// The key of a field.
    #[inline]
    fn field(&mut self, t: &Tables, id: u32, at: usize) -> Read<()> {
        let field = t.field(id);
        let duplicates = self.settings.duplicates;
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        frame.current = id;
        frame.hint = id + 1;
        frame.count += 1;
        let (mask, bound) = (frame.mask, frame.bound);
        if self.mark_bit(t, field.bit) {
            if !duplicates {
                return self.refuse(t, at, "is written twice");
            }
            self.take_back(id as usize);
        }
        if duplicates && let Some(frame) = self.stack.last_mut() {
            frame.entry = self.out.mark();
        }
        self.slot = Slot {
            field: id,
            message: field.of,
            key: true,
            explicit: field.presence,
            whole: true,
            mask,
            bound: bound::FREE,
        };
        if bound != bound::FREE {
            self.bind(bound, id, at);
        }
        if mask {
            let nested = field.is_message()
                && field.shape == crate::table::Shape::Singular
                && field.special == Special::None;
            if !nested {
                self.slot.mask = false;
                self.note_mask(t, 0, at)?;
            }
        }
        Ok(())
    }

    /// Sets a bit of the innermost message; gives whether it was set.
    #[inline]
    pub(super) fn mark_bit(&mut self, t: &Tables, bit: u32) -> bool {
        let Some(frame) = self.stack.last_mut() else {
            return false;
        };
        let word = if t.message(frame.message).bits <= 64 {
            &mut frame.bits
        } else {
            match self.bits.get_mut(frame.bits_at + (bit / 64) as usize) {
                Some(word) => word,
                None => return false,
            }
        };
        let mask = 1u64 << (bit % 64);
        let was = *word & mask != 0;
        *word |= mask;
        was
    }

    /// Whether a bit of the innermost message is set.
    pub(super) fn has_bit(&self, t: &Tables, bit: u32) -> bool {
        let Some(frame) = self.stack.last() else {
            return false;
        };
        let word = if t.message(frame.message).bits <= 64 {
            Some(&frame.bits)
        } else {
            self.bits.get(frame.bits_at + (bit / 64) as usize)
        };
        word.is_some_and(|word| word & 1 << (bit % 64) != 0)
    }

    /// A key that names no field.
    fn unknown(&mut self, t: &Tables, name: &[u8], at: usize) -> Read<()> {
        self.at_name(name);
        let elements_max = self.settings.limits.elements;
        if let Some(frame) = self.stack.last_mut() {
            frame.current = UNKNOWN;
            if !std::mem::replace(&mut frame.has_unknown, true) {
                self.unknown.push(HashSet::new());
            }
        }
        if let Some(seen) = self.unknown.last_mut() {
            let twice = !seen.insert(name.into());
            if seen.len() > elements_max {
                return self.refuse(t, at, format!("has more than {elements_max} unknown fields"));
            }
            if twice && !self.settings.duplicates {
                return self.refuse(t, at, "is written twice");
            }
        }
        if self.settings.reject_unknown {
            return self.refuse(t, at, "there is no such field");
        }
        self.note_dropped(t);
        self.slot = Slot::SKIP;
        Ok(())
    }

    /// The key of a map: it begins an entry.
    fn map_key(&mut self, t: &Tables, name: &[u8], at: usize) -> Read<()> {
        let elements_max = self.settings.limits.elements;
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        if frame.count as usize >= elements_max {
            self.state = State::After;
            return self.refuse(t, at, format!("has more than {elements_max} elements"));
        }
        frame.count += 1;
        let map = t.field(frame.field);
        let (key, value) = t.entry(map);
        self.out.bytes.extend_from_slice(map.key());
        frame.entry = self.out.open();
        self.at_name(name);
        let key = t.field(key);
        let leaf = match leaf::from_text(t, key, name, How::default()) {
            Ok(leaf) => leaf,
            Err(why) => return self.refuse(t, at, format!("as a key {why}")),
        };
        self.out.bytes.extend_from_slice(key.key());
        leaf.put(&mut self.out.bytes);
        let length = match &leaf {
            Leaf::Bytes(bytes) => bytes.len(),
            Leaf::Varint(value) => crate::wire::varint_len(*value),
            Leaf::Fixed64(_) => 8,
            Leaf::Fixed32(_) | Leaf::Dropped => 4,
        };
        let written = Written {
            at: self.out.bytes.len() - length,
            length,
        };
        let twice = self.remember_key(written);
        if let Some(earlier) = twice {
            if !self.settings.duplicates {
                return self.refuse(t, at, "is written twice");
            }
            self.take_back(earlier);
            if let Some(frame) = self.stack.last_mut() {
                frame.entry = self.out.mark().moved_to(frame.entry.at);
            }
        }
        self.slot = Slot {
            field: value,
            message: t.field(value).of,
            key: true,
            explicit: true,
            ..Slot::SKIP
        };
        Ok(())
    }

    /// Notes a key of the innermost map; gives the place of an equal one among all keys.
    fn remember_key(&mut self, written: Written) -> Option<usize> {
        let frame = self.stack.last_mut()?;
        let bytes = &self.out.bytes;
        let text = |key: &Written| bytes.get(key.at..key.at + key.length);
        let first = frame.keys_at;
        let here = self.keys.len();
        let earlier = self.keys.get(first..).unwrap_or_default();
        // The last equal one counts: earlier ones were taken back.
        let find = |keys: &[Written]| keys.iter().rposition(|key| text(key) == text(&written));
        let mut twice = None;
        if earlier.len() < KEYS_COMPARED {
            twice = find(earlier).map(|position| first + position);
        } else {
            if !frame.has_set {
                frame.has_set = true;
                let hashes = earlier.iter().map(|key| hash(text(key))).zip(0..);
                self.sets.push(hashes.collect());
            }
            let set: &mut HashMap<u64, u32> = self.sets.last_mut()?;
            let position = u32::try_from(here - first).ok()?;
            if let Some(before) = set.insert(hash(text(&written)), position) {
                let same = earlier
                    .get(before as usize)
                    .is_some_and(|key| text(key) == text(&written));
                twice = if same {
                    Some(first + before as usize)
                } else {
                    find(earlier).map(|position| first + position)
                };
            }
        }
        self.keys.push(written);
        twice
    }

    /// The entry that is open is left out, and its key forgotten.
    pub(super) fn drop_entry(&mut self, t: &Tables) {
        let Some(frame) = self.stack.last() else { return };
        if let Some(key) = self.keys.pop()
            && frame.has_set
            && let Some(set) = self.sets.last_mut()
        {
            set.remove(&hash(self.out.bytes.get(key.at..key.at + key.length)));
        }
        self.out
            .rewind(before_entry(frame.entry, t.field(frame.field).key()));
    }

    /// The frame is at this key.
    fn at_name(&mut self, name: &[u8]) {
        if let Some(frame) = self.stack.last() {
            self.names.truncate(frame.names_at);
            self.names
                .extend_from_slice(name.get(..NAME_BYTES_MAX).unwrap_or(name));
        }
    }

    /// What was written for a field, or an entry, stands for nothing any more: it is written again.
    fn take_back(&mut self, id: usize) {
        let depth = self.stack.len();
        let earlier = self
            .emitted
            .iter_mut()
            .rev()
            .take_while(|emitted| emitted.depth == depth)
            .find(|emitted| emitted.id == id);
        if let Some(emitted) = earlier {
            self.out.cut(emitted.from, emitted.to);
            // Found no second time.
            emitted.id = usize::MAX;
            let bound = self.stack.last().map_or(bound::FREE, |frame| frame.bound);
            if let (true, Ok(field)) = (bound != bound::FREE, u32::try_from(id)) {
                self.bounds.leave_body(bound, field);
            }
        }
    }

    /// Notes where the field or entry stands that was just read.
    pub(super) fn note_emitted(&mut self, t: &Tables) {
        let Some(frame) = self.stack.last() else { return };
        let (id, from) = match frame.kind {
            Kind::Message if frame.current < VALUE => (frame.current as usize, frame.entry),
            Kind::Map => (
                self.keys.len() - 1,
                before_entry(frame.entry, t.field(frame.field).key()),
            ),
            _ => return,
        };
        self.emitted.push(Emitted {
            depth: self.stack.len(),
            id,
            from,
            to: self.out.mark(),
        });
    }
}

/// The length of the name of the field that is expected, if it stands at `start` with a quote after it.
#[inline]
fn hinted(t: &Tables, message: u32, hint: u32, b: &[u8], start: usize) -> Option<usize> {
    let message = t.message(message);
    if hint >= message.first + message.count {
        return None;
    }
    let field = t.field(hint);
    field.sign.is_at(b, start).then_some(field.json_name.len())
}

/// Callers choose the keys, so the hash is keyed.
fn hash(key: Option<&[u8]>) -> u64 {
    static KEYED: OnceLock<RandomState> = OnceLock::new();
    KEYED.get_or_init(RandomState::new).hash_one(key)
}
