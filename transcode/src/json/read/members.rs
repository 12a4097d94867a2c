//! The common members of an object, read in one go: a known field with a plain value that lies whole in this piece.
//!
//! Whatever is not of that kind (a nested message, a list, an escape that is broken off, a fault) is left to the general
//! way, at the quote of its key and with nothing written; so this file can only make things fast, never different.

use super::frame::Kind as FrameKind;
use super::{Machine, State, bound, space};
use crate::json::leaf::{How, Leaf};
use crate::json::number;
use crate::json::out::Out;
use crate::json::text::{self, Escape};
use crate::table::{Field, Kind, Message, NONE, Shape, Tables};

impl Machine {
    /// Reads members from the quote at `at` on; gives where it stopped. The state says whether that is at a key or after a
    /// value.
    #[inline]
    pub(super) fn members(&mut self, t: &Tables, b: &[u8], mut at: usize) -> usize {
        let how = self.settings.how;
        let Some(frame) = self.stack.last_mut() else {
            return at;
        };
        if frame.kind != FrameKind::Message
            || frame.mask
            || frame.bound != bound::FREE
            || self.settings.duplicates
        {
            return at;
        }
        let message = t.message(frame.message);
        let mut few = [frame.bits];
        let bits = if message.bits <= 64 {
            &mut few[..]
        } else {
            self.bits.get_mut(frame.bits_at..).unwrap_or_default()
        };
        while let Some((index, value)) = member(t, message, frame.hint, b, at) {
            let field = t.field(index);
            let Some(word) = bits.get_mut((field.bit / 64) as usize) else {
                break;
            };
            let seen = 1u64 << (field.bit % 64);
            if *word & seen != 0 || field.oneof != NONE || field.shape != Shape::Singular {
                break;
            }
            let Some(end) = plain(t, field, how, b, value, &mut self.out) else {
                break;
            };
            *word |= seen;
            frame.hint = index + 1;
            frame.count += 1;
            at = space(b, end);
            if b.get(at) != Some(&b',') {
                self.state = State::After;
                break;
            }
            at = space(b, at + 1);
            self.state = State::Key;
            if b.get(at) != Some(&b'"') {
                break;
            }
        }
        if message.bits <= 64 {
            frame.bits = few[0];
        }
        at
    }
}

/// The field whose key is at `at`, and where its value begins.
#[inline]
fn member(t: &Tables, message: &Message, hint: u32, b: &[u8], at: usize) -> Option<(u32, usize)> {
    let start = at + 1;
    let (index, after) = match t.fields.get(hint as usize) {
        Some(field) if hint < message.first + message.count && field.sign.is_at(b, start) => {
            (hint, start + field.json_name.len() + 1)
        }
        _ => {
            let (end, _) = text::special(b, start);
            if b.get(end) != Some(&b'"') {
                return None;
            }
            (t.by_any_name(message, b.get(start..end)?)?, end + 1)
        }
    };
    let colon = if b.get(after) == Some(&b':') {
        after
    } else {
        space(b, after)
    };
    (b.get(colon) == Some(&b':')).then(|| (index, space(b, colon + 1)))
}

/// Writes the plain value at `at`; gives where it ends. `None`: nothing was written.
#[inline]
fn plain(t: &Tables, field: &Field, how: How, b: &[u8], at: usize, out: &mut Out) -> Option<usize> {
    let (leaf, end) = match field.kind {
        Kind::String => return string(field, b, at, out),
        Kind::Bool => match *b.get(at)? {
            b't' if b.get(at..at + 4) == Some(b"true") => (Leaf::Varint(1), at + 4),
            b'f' if b.get(at..at + 5) == Some(b"false") => (Leaf::Varint(0), at + 5),
            _ => return None,
        },
        Kind::Double => {
            let (value, end) = number::short_double(b, at)?;
            (Leaf::Fixed64(value.to_bits()), end)
        }
        Kind::Enum => {
            if b.get(at) != Some(&b'"') {
                return None;
            }
            let (end, _) = text::special(b, at + 1);
            if b.get(end) != Some(&b'"') {
                return None;
            }
            let number = t.enumeration(field).number_of(b.get(at + 1..end)?, how.names)?;
            (Leaf::Varint(i64::from(number).cast_unsigned()), end + 1)
        }
        Kind::Message | Kind::Bytes | Kind::Float => return None,
        kind => number::short_integer(kind, b, at)?,
    };
    if field.presence || !leaf.is_default() {
        field.put_key(&mut out.bytes);
        leaf.put(&mut out.bytes);
    }
    Some(end)
}

/// Writes the string at `at`; gives where it ends. `None`: nothing was written.
#[inline]
fn string(field: &Field, b: &[u8], at: usize, out: &mut Out) -> Option<usize> {
    if b.get(at) != Some(&b'"') {
        return None;
    }
    let start = at + 1;
    let (end, high) = text::special(b, start);
    if b.get(end) != Some(&b'"') {
        return escaped(field, b, start, out);
    }
    let text = b.get(start..end)?;
    if high && std::str::from_utf8(text).is_err() {
        return None;
    }
    if field.presence || !text.is_empty() {
        field.put_key(&mut out.bytes);
        crate::wire::put_varint(&mut out.bytes, text.len() as u64);
        text::append(&mut out.bytes, b, start, end);
    }
    Some(end + 1)
}

/// The same for a string with escapes.
fn escaped(field: &Field, b: &[u8], start: usize, out: &mut Out) -> Option<usize> {
    let before = out.mark();
    field.put_key(&mut out.bytes);
    let content = out.open();
    let mut at = start;
    let end = loop {
        let (end, high) = text::special(b, at);
        let part = b.get(at..end).unwrap_or_default();
        if high && std::str::from_utf8(part).is_err() {
            break None;
        }
        text::append(&mut out.bytes, b, at, end);
        match b.get(end) {
            Some(b'"') => break Some(end + 1),
            Some(b'\\') => match text::escape(b.get(end..).unwrap_or_default()) {
                Escape::Char(character, length) => {
                    text::push_char(&mut out.bytes, character);
                    at = end + length;
                }
                _ => break None,
            },
            _ => break None,
        }
    };
    match end {
        Some(end) => {
            // An escape stands for something: the string is not empty.
            out.close(content);
            Some(end)
        }
        None => {
            out.rewind(before);
            None
        }
    }
}
