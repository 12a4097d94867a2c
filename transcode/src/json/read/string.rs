//! Strings that are long, escaped or broken off: read as they come. Those that lie plain in one piece are not read here.

use super::frame::Kind;
use super::{Machine, Read, Slot, State};
use crate::json::out::Mark;
use crate::json::text::{self, Escape};
use crate::table::Tables;

/// What a string is read for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    #[default]
    Key,
    /// The content of a string field: it goes straight into the message.
    Content,
    /// A value that is made of the whole text.
    Value,
    Skip,
}

/// The string that is being read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    purpose: Purpose,
    /// Where it starts, in bytes from the start of all.
    start: usize,
    /// What was read, unescaped, if it does not go straight into the message.
    text: Vec<u8>,
    /// Before the field, and where its content begins.
    before: Mark,
    content: Mark,
}

impl Machine {
    /// The quote was passed; what follows is read by [`Machine::string`].
    pub(super) fn begin_string(&mut self, purpose: Purpose) {
        self.reading.purpose = purpose;
        self.reading.start = usize::MAX;
        self.reading.text.clear();
        if purpose == Purpose::Content {
            self.reading.before = self.out.mark();
        }
        self.state = State::String;
    }

    /// The content of this string field comes in parts.
    pub(super) fn begin_content(&mut self, t: &Tables) {
        self.begin_string(Purpose::Content);
        if self.slot.key {
            let field = t.field(self.slot.field);
            self.out.bytes.extend_from_slice(field.key());
        }
        self.reading.content = self.out.open();
    }

    /// Reads on. `false`: what is left is too little to go on with.
    pub(super) fn string(&mut self, t: &Tables, b: &[u8], at: &mut usize) -> Read<bool> {
        if self.reading.start == usize::MAX {
            self.reading.start = (self.base + *at).saturating_sub(1);
        }
        loop {
            let (end, high) = text::special(b, *at);
            let part = b.get(*at..end).unwrap_or_default();
            let mut valid = part.len();
            if high {
                valid = match text::utf8_prefix(part) {
                    // A character may be broken off at the end of the piece, and nowhere else.
                    Ok(valid) if valid == part.len() || end == b.len() => valid,
                    Ok(valid) | Err(valid) => {
                        self.state = self.state_of_purpose();
                        return self.refuse(t, *at + valid, "is not UTF-8");
                    }
                };
            }
            self.take(part.get(..valid).unwrap_or_default());
            *at += valid;
            let rest = b.get(*at..).unwrap_or_default();
            match rest.first() {
                _ if *at < end => return Ok(false),
                None => return Ok(false),
                Some(b'"') => {
                    *at += 1;
                    self.string_done(t)?;
                    return Ok(true);
                }
                Some(b'\\') => match text::escape(rest) {
                    Escape::Char(character, length) => {
                        let mut bytes = [0; 4];
                        self.take(character.encode_utf8(&mut bytes).as_bytes());
                        *at += length;
                    }
                    Escape::Unfinished => return Ok(false),
                    Escape::Bad(why) => {
                        self.state = self.state_of_purpose();
                        return self.refuse(t, *at, why);
                    }
                },
                Some(_) => {
                    self.state = self.state_of_purpose();
                    return self.refuse(t, *at, "a string holds a bare control character");
                }
            }
        }
    }

    fn take(&mut self, part: &[u8]) {
        match self.reading.purpose {
            Purpose::Content => self.out.bytes.extend_from_slice(part),
            Purpose::Key | Purpose::Value => self.reading.text.extend_from_slice(part),
            Purpose::Skip => {}
        }
    }

    /// For telling where we are: in a value, or before it.
    fn state_of_purpose(&self) -> State {
        match self.reading.purpose {
            Purpose::Key => State::Key,
            _ => State::Value,
        }
    }

    fn string_done(&mut self, t: &Tables) -> Read<()> {
        let at = self.reading.start.wrapping_sub(self.base);
        match self.reading.purpose {
            Purpose::Skip => self.value_done(t),
            Purpose::Content => {
                if self.out.mark() == self.reading.content && !self.slot.explicit {
                    self.out.rewind(self.reading.before);
                } else {
                    self.out.close(self.reading.content);
                }
                self.value_done(t)
            }
            Purpose::Key => {
                let text = std::mem::take(&mut self.reading.text);
                self.named(t, &text, at)?;
                self.reading.text = text;
                Ok(())
            }
            Purpose::Value => {
                let text = std::mem::take(&mut self.reading.text);
                self.state = State::Value;
                self.text(t, &text, at)?;
                self.reading.text = text;
                Ok(())
            }
        }
    }

    /// Passes over a value that is in no field.
    pub(super) fn skip(&mut self, t: &Tables, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        let type_is_string = self
            .stack
            .last()
            .is_some_and(|frame| frame.current == super::frame::TYPE);
        let kind = match b.get(*at) {
            Some(b'"') => {
                let start = *at + 1;
                let (end, high) = text::special(b, start);
                if high || b.get(end) != Some(&b'"') {
                    *at = start;
                    self.begin_string(Purpose::Skip);
                    return Ok(true);
                }
                *at = end + 1;
                self.value_done(t)?;
                return Ok(true);
            }
            _ if type_is_string => return self.refuse(t, *at, "must be a string"),
            Some(b'{') => Kind::SkippedObject,
            Some(b'[') => Kind::SkippedArray,
            Some(b't' | b'f' | b'n') => return self.skip_word(t, b, at, last),
            _ => {
                let Some(number) = self.number_text(t, b, *at, last)? else {
                    return Ok(false);
                };
                *at += number.len();
                self.value_done(t)?;
                return Ok(true);
            }
        };
        self.deeper(t, *at)?;
        *at += 1;
        let frame = super::Frame::new(kind, super::frame::Close::Nothing, self.out.mark());
        self.open(t, frame);
        self.slot = Slot::SKIP;
        self.state = if kind.is_array() {
            State::FirstElement
        } else {
            State::FirstKey
        };
        Ok(true)
    }

    fn skip_word(&mut self, t: &Tables, b: &[u8], at: &mut usize, last: bool) -> Read<bool> {
        for word in ["true", "false", "null"] {
            match self.word(b, *at, word, last) {
                Some(true) => {
                    *at += word.len();
                    self.value_done(t)?;
                    return Ok(true);
                }
                Some(false) => {}
                None => return Ok(false),
            }
        }
        self.refuse(t, *at, "is not JSON: a value is missing or badly written")
    }
}

impl Machine {
    /// Whether the string that is being read is a key.
    pub(super) fn reading_key(&self) -> bool {
        self.reading.purpose == Purpose::Key
    }
}
