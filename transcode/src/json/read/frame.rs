//! Frames: the objects and arrays that are open, and the messages around values that have no brackets of their own.

use super::{Machine, Read, Slot, State, bound};
use crate::json::out::Mark;
use crate::table::{NONE, Special, Tables};
use crate::wire;

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An object whose keys are fields.
    Message,
    /// The object of an `Any` that holds a well-known type: `@type` and `value`.
    AnyValue,
    /// An object whose keys are a map's.
    Map,
    List,
    /// A message around one value: closed when that is read.
    Around,
    SkippedObject,
    SkippedArray,
}

impl Kind {
    pub(super) fn is_array(self) -> bool {
        matches!(self, Kind::List | Kind::SkippedArray)
    }
}

/// What is written where a frame ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    Nothing,
    Length,
    /// A length; but nothing at all where the content is empty. The key has one byte.
    LengthUnlessEmpty,
    /// A group's end.
    Group,
    /// The length of a packed list; nothing where it is empty.
    Packed,
}

/// Whether the object of an `Any` has shown its `@type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    NoAny,
    Expected,
    Seen,
}

// What a message's frame is at, besides fields.
/// Between fields.
pub(super) const BETWEEN: u32 = NONE;
/// At a key that names no field; its text is in `names`.
pub(super) const UNKNOWN: u32 = NONE - 1;
/// At `@type`.
pub(super) const TYPE: u32 = NONE - 2;
/// At `value` of an `Any`.
pub(super) const VALUE: u32 = NONE - 3;

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) close: Close,
    pub(super) any: Type,
    /// Counts as an `Any`.
    pub(super) counts_any: bool,
    /// How many levels of messages it is.
    pub(super) levels: u8,
    pub(super) mask: bool,
    pub(super) bound: u16,
    pub(super) message: u32,
    /// Of a list or map: its field. Of a group: its field.
    pub(super) field: u32,
    /// Of a message: the field that is being read.
    pub(super) current: u32,
    /// Of a message: the field that most likely comes next.
    pub(super) hint: u32,
    /// Elements, entries, or keys.
    pub(super) count: u32,
    /// Which fields and oneofs were seen, where 64 bits are enough.
    pub(super) bits: u64,
    /// Where its bits, keys, and text begin in the machine's.
    pub(super) bits_at: usize,
    pub(super) keys_at: usize,
    pub(super) names_at: usize,
    /// Has a set of its own among the machine's.
    pub(super) has_set: bool,
    /// Has seen keys that name no field.
    pub(super) has_unknown: bool,
    pub(super) mark: Mark,
    /// Of a map: where the content of the entry begins. Of a message, where keys may stand twice: where the field begins.
    pub(super) entry: Mark,
}

impl Frame {
    pub(super) fn new(kind: Kind, close: Close, mark: Mark) -> Self {
        Self {
            kind,
            close,
            any: Type::NoAny,
            counts_any: false,
            levels: 0,
            mask: false,
            bound: bound::FREE,
            message: NONE,
            field: NONE,
            current: BETWEEN,
            hint: 0,
            count: 0,
            bits: 0,
            bits_at: 0,
            keys_at: 0,
            names_at: 0,
            has_set: false,
            has_unknown: false,
            mark,
            entry: mark,
        }
    }
}

impl Machine {
    /// Opens a frame. Depth was checked.
    #[inline]
    pub(super) fn open(&mut self, t: &Tables, mut frame: Frame) {
        frame.names_at = self.names.len();
        frame.keys_at = self.keys.len();
        frame.bits_at = self.bits.len();
        if frame.kind == Kind::Message {
            let message = t.message(frame.message);
            frame.hint = message.first;
            if message.bits > 64 {
                let words = message.bits.div_ceil(64) as usize;
                self.bits.resize(self.bits.len() + words, 0);
            }
        }
        self.proto_depth += usize::from(frame.levels);
        self.stack.push(frame);
    }

    /// One more bracket.
    pub(super) fn deeper(&mut self, t: &Tables, at: usize) -> Read<()> {
        self.json_depth += 1;
        let depth_max = self.settings.limits.json_depth;
        if self.json_depth > depth_max {
            return self.refuse(t, at, format!("nests deeper than {depth_max}"));
        }
        Ok(())
    }

    /// Whether so many more levels of messages are allowed.
    #[inline]
    pub(super) fn check_depth(&self, t: &Tables, at: usize, levels: usize) -> Read<()> {
        let depth_max = self.settings.limits.proto_depth;
        if self.proto_depth + levels > depth_max {
            return self.refuse(t, at, format!("messages nest deeper than {depth_max}"));
        }
        Ok(())
    }

    /// The bracket at `at` closes the frame.
    pub(super) fn close(&mut self, t: &Tables, at: &mut usize) -> Read<bool> {
        if let Some(frame) = self.stack.last() {
            if frame.kind == Kind::AnyValue && frame.current != VALUE && frame.count == 0 {
                let message = t.message(frame.message);
                if message.special != Special::Empty {
                    let name = &message.full_name;
                    self.state = State::After;
                    return self.refuse(t, *at, format!("holds no value, which {name} needs"));
                }
            }
            if frame.mask && frame.count == 0 && self.stack.len() > 1 {
                self.note_mask(t, 1, *at)?;
            }
        }
        *at += 1;
        self.json_depth -= 1;
        self.pop(t);
        self.value_done(t)?;
        Ok(true)
    }

    /// Ends the innermost frame.
    pub(super) fn pop(&mut self, t: &Tables) {
        let Some(frame) = self.stack.pop() else { return };
        if frame.bound != bound::FREE {
            self.weave(t, frame.bound);
        }
        match frame.close {
            Close::Nothing => {}
            Close::Length => self.out.close(frame.mark),
            Close::LengthUnlessEmpty | Close::Packed if self.out.mark() == frame.mark => {
                let key = match frame.close {
                    Close::Packed => t.field(frame.field).key().len(),
                    _ => 1,
                };
                self.out.bytes.truncate(frame.mark.at - 1 - key);
            }
            Close::LengthUnlessEmpty | Close::Packed => self.out.close(frame.mark),
            Close::Group => {
                let number = t.field(frame.field).number;
                wire::put_varint(&mut self.out.bytes, u64::from(number) << 3 | 4);
            }
        }
        self.proto_depth -= usize::from(frame.levels);
        self.any_depth -= usize::from(frame.counts_any);
        self.names.truncate(frame.names_at);
        self.keys.truncate(frame.keys_at);
        self.bits.truncate(frame.bits_at);
        if frame.has_set {
            self.sets.pop();
        }
        if frame.has_unknown {
            self.unknown.pop();
        }
        if self.settings.duplicates {
            let depth = self.stack.len();
            while self.emitted.last().is_some_and(|emitted| emitted.depth > depth) {
                self.emitted.pop();
            }
        }
    }

    /// Begins a message that fills `slot`: its key, and room for its length.
    #[inline]
    pub(super) fn begin(&mut self, t: &Tables, slot: Slot) -> (Close, Mark) {
        if slot.field == NONE || !slot.key {
            return (Close::Nothing, self.out.mark());
        }
        let field = t.field(slot.field);
        self.out.bytes.extend_from_slice(field.key());
        if field.group {
            (Close::Group, self.out.mark())
        } else {
            (Close::Length, self.out.open())
        }
    }

    /// Notes the path of the field that the frame `above` frames up is at, for a field mask.
    pub(super) fn note_mask(&mut self, t: &Tables, above: usize, at: usize) -> Read<()> {
        let frames = self.stack.len().saturating_sub(above);
        let names = self.stack.iter().take(frames).filter(|frame| frame.mask);
        let names: Vec<&str> = names.map(|frame| &*t.field(frame.current).name).collect();
        wire::put_bytes(&mut self.mask, 1, names.join(".").as_bytes());
        // Names of many fields far down are longer than the text that sets them.
        if self.mask.len() > self.settings.limits.message_bytes {
            return self.refuse(t, at, "is one of too many fields to be named in a field mask");
        }
        Ok(())
    }
}
