//! Plain values: numbers, words, and strings that lie in one piece.

use super::string::Purpose;
use super::{Machine, Read, frame};
use crate::json::leaf::{self, Leaf};
use crate::json::number::{self, NUMBER_BYTES_MAX};
use crate::json::{base64, text};
use crate::table::{Field, Kind, NONE, Special, Tables};
use crate::wire;

impl Machine {
    /// A value of a field that is no message. `at` is at its first byte.
    #[inline]
    pub(super) fn scalar(
        &mut self,
        t: &Tables,
        field: &Field,
        b: &[u8],
        at: &mut usize,
        last: bool,
    ) -> Read<bool> {
        match (field.kind, b.get(*at)) {
            (_, Some(b'"')) if field.kind != Kind::Bool => self.quoted(t, field, b, at),
            (Kind::String | Kind::Bytes, _) => self.refuse(t, *at, "must be a string"),
            (Kind::Bool, Some(b't' | b'f')) => {
                for (word, value) in [("true", 1), ("false", 0)] {
                    match self.word(b, *at, word, last) {
                        Some(true) => {
                            *at += word.len();
                            self.leaf(t, field, &Leaf::Varint(value))?;
                            return Ok(true);
                        }
                        Some(false) => {}
                        None => return Ok(false),
                    }
                }
                self.refuse(t, *at, "must be true or false")
            }
            (Kind::Bool, _) => self.refuse(t, *at, "must be true or false"),
            (Kind::Enum, Some(b'n')) if t.enumeration(field).null => match self.word(b, *at, "null", last) {
                Some(true) => {
                    *at += 4;
                    self.leaf(t, field, &Leaf::Varint(0))?;
                    Ok(true)
                }
                Some(false) => self.refuse(t, *at, "must be null"),
                None => Ok(false),
            },
            (_, Some(b'-' | b'0'..=b'9')) => self.number(t, field, b, at, last),
            (Kind::Enum, _) => self.refuse(t, *at, "must be the name or number of an enum value"),
            _ => self.refuse(t, *at, "must be a number"),
        }
    }

    #[inline]
    fn number(&mut self, t: &Tables, field: &Field, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        let plain = !matches!(field.kind, Kind::Double | Kind::Float | Kind::Enum);
        if plain && let Some((leaf, end)) = number::short_integer(field.kind, b, *at) {
            *at = end;
            self.leaf(t, field, &leaf)?;
            return Ok(true);
        }
        let Some(number) = self.number_text(t, b, *at, last)? else {
            return Ok(false);
        };
        let leaf = match field.kind {
            Kind::Enum => leaf::enum_number(t.enumeration(field), number),
            kind => number::number(kind, number),
        };
        match leaf {
            Ok(leaf) => {
                *at += number.len();
                self.leaf(t, field, &leaf)?;
                Ok(true)
            }
            Err(why) => self.refuse(t, *at, why),
        }
    }

    /// The text of the number at `at`. `None`: it may go on in the next piece.
    pub(super) fn number_text<'b>(
        &self,
        t: &Tables,
        b: &'b [u8],
        at: usize,
        last: bool,
    ) -> Read<Option<&'b [u8]>> {
        let rest = b.get(at..).unwrap_or_default();
        let belongs = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(belongs).count();
        if length > NUMBER_BYTES_MAX {
            return self.refuse(
                t,
                at,
                format!("is a number of more than {NUMBER_BYTES_MAX} bytes"),
            );
        }
        if length == rest.len() && !last {
            return Ok(None);
        }
        let number = rest.get(..length).unwrap_or_default();
        if length == 0 || number::number_length(number) != length {
            return self.refuse(t, at, "is not JSON: a value is missing or badly written");
        }
        if rest
            .get(length)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        {
            return self.refuse(t, at, "is not a JSON number");
        }
        Ok(Some(number))
    }

    /// Whether this word is at `at`. `None`: it may yet come.
    #[inline]
    pub(super) fn word(&self, b: &[u8], at: usize, word: &str, last: bool) -> Option<bool> {
        let rest = b.get(at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            return Some(true);
        }
        let cut = rest.len() < word.len() && word.as_bytes().starts_with(rest) && !last;
        (!cut).then_some(false)
    }

    /// A string, whatever the field makes of it.
    #[inline]
    fn quoted(&mut self, t: &Tables, field: &Field, b: &[u8], at: &mut usize) -> Read<bool> {
        let start = *at + 1;
        let (end, high) = text::special(b, start);
        if b.get(end) != Some(&b'"') {
            *at = start;
            if field.kind == Kind::String {
                self.begin_content(t);
            } else {
                self.begin_string(Purpose::Value);
            }
            return Ok(true);
        }
        let text = b.get(start..end).unwrap_or_default();
        if high && let Err(error) = std::str::from_utf8(text) {
            return self.refuse(t, start + error.valid_up_to(), "is not UTF-8");
        }
        if field.kind == Kind::String {
            if self.slot.explicit || !text.is_empty() {
                let out = &mut self.out.bytes;
                if self.slot.key {
                    out.extend_from_slice(field.key());
                }
                wire::put_varint(out, text.len() as u64);
                out.extend_from_slice(text);
            }
            self.value_done(t)?;
        } else {
            self.text(t, text, *at)?;
        }
        *at = end + 1;
        Ok(true)
    }

    /// A string that is a value as a whole was read, unescaped.
    pub(super) fn text(&mut self, t: &Tables, text: &[u8], at: usize) -> Read<()> {
        let slot = self.slot;
        let special = match slot.field {
            NONE => t.message(slot.message).special,
            _ => t.field(slot.field).special,
        };
        if special != Special::None {
            return match leaf::message_from_text(special, text) {
                Ok(content) => {
                    let (close, mark) = self.begin(t, slot);
                    self.out.bytes.extend_from_slice(&content);
                    match close {
                        frame::Close::Length => self.out.close(mark),
                        frame::Close::Group => {
                            let number = t.field(slot.field).number;
                            wire::put_varint(&mut self.out.bytes, u64::from(number) << 3 | 4);
                        }
                        _ => {}
                    }
                    self.value_done(t)
                }
                Err(why) => self.refuse(t, at, why),
            };
        }
        let field = t.field(slot.field);
        let leaf = match field.kind {
            Kind::Bytes => return self.bytes(t, field, text, at),
            Kind::Enum => leaf::enum_name(t.enumeration(field), text, self.settings.how),
            _ => leaf::from_text(t, field, text, self.settings.how),
        };
        match leaf {
            Ok(leaf) => {
                // It was not counted while it might have been dropped.
                let counts =
                    field.kind == Kind::Enum && field.oneof != NONE && self.settings.how.drop_unknown;
                if counts && leaf != Leaf::Dropped {
                    self.one_of(t, field, at)?;
                }
                self.leaf(t, field, &leaf)
            }
            Err(why) => self.refuse(t, at, why),
        }
    }

    fn bytes(&mut self, t: &Tables, field: &Field, text: &[u8], at: usize) -> Read<()> {
        let before = self.out.mark();
        if self.slot.key {
            self.out.bytes.extend_from_slice(field.key());
        }
        let content = self.out.open();
        if let Err(why) = base64::decode_into(text, &mut self.out.bytes) {
            return self.refuse(t, at, why);
        }
        if self.out.mark() == content && !self.slot.explicit {
            self.out.rewind(before);
        } else {
            self.out.close(content);
        }
        self.value_done(t)
    }

    /// Writes one plain value.
    #[inline]
    fn leaf(&mut self, t: &Tables, field: &Field, leaf: &Leaf<'_>) -> Read<()> {
        if *leaf == Leaf::Dropped {
            return self.drop_value(t);
        }
        if self.slot.explicit || !leaf.is_default() {
            if self.slot.key {
                self.out.bytes.extend_from_slice(field.key());
            }
            leaf.put(&mut self.out.bytes);
        }
        self.value_done(t)
    }

    /// The value is left out, and with it the entry it stands in.
    fn drop_value(&mut self, t: &Tables) -> Read<()> {
        self.note_dropped(t);
        if self
            .stack
            .last()
            .is_some_and(|frame| frame.kind == frame::Kind::Map)
        {
            self.drop_entry(t);
            self.state = super::State::After;
            return Ok(());
        }
        self.value_done(t)
    }
}
