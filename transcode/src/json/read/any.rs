//! `google.protobuf.Any`: an object that says somewhere in it what it is.
//!
//! The text is looked through ahead for the object's `@type`, and kept until it is seen; mostly it comes first. Looking goes
//! on where it stopped when more text comes, and an `Any` within is looked through again, so the cost is the length times
//! the depth of `Any`, which has a limit.

use super::frame::{Close, Frame, Kind, TYPE, Type};
use super::{Machine, Read, Slot, State};
use crate::json::text;
use crate::table::{NONE, Special, Tables};
use crate::wire;

/// How far an object was looked through. All offsets count from its bracket.
#[derive(Debug, Default)]
pub(super) struct Look {
    at: usize,
    depth: usize,
    /// Inside a string, which began here.
    string: Option<usize>,
    /// A string of the object itself would be a key.
    key_next: bool,
    /// The key was `@type`: its value is next.
    type_next: bool,
    is_type: bool,
    keys: bool,
}

/// What looking ahead found.
enum Found {
    More,
    Type {
        from: usize,
        to: usize,
    },
    NoString(usize),
    /// The object has no `@type`; whether it is empty.
    Nothing {
        empty: bool,
    },
    TooDeep(usize),
}

impl Look {
    /// Looks on. `text` begins at the object's bracket.
    fn on(&mut self, text: &[u8], depth_max: usize) -> Found {
        while let Some(byte) = text.get(self.at).copied() {
            if let Some(from) = self.string {
                let (end, _) = text::special(text, self.at);
                self.at = end;
                match text.get(end) {
                    None => return Found::More,
                    Some(b'\\') if end + 1 == text.len() => return Found::More,
                    Some(b'\\') => self.at += 2,
                    Some(b'"') => {
                        self.at += 1;
                        self.string = None;
                        if self.depth == 1 {
                            if self.type_next {
                                return Found::Type { from, to: end };
                            }
                            self.is_type = self.key_next && is_type(text.get(from..end).unwrap_or_default());
                        }
                    }
                    Some(_) => self.at += 1,
                }
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b'"' => {
                    self.string = Some(self.at + 1);
                    self.keys = true;
                }
                _ if self.type_next => return Found::NoString(self.at),
                b'{' | b'[' => {
                    self.depth += 1;
                    self.key_next = self.depth == 1;
                    if self.depth > depth_max {
                        return Found::TooDeep(self.at);
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Found::Nothing { empty: !self.keys };
                    }
                }
                b':' if self.depth == 1 => {
                    self.type_next = self.is_type;
                    self.is_type = false;
                    self.key_next = false;
                }
                b',' if self.depth == 1 => self.key_next = true,
                _ => {}
            }
            self.at += 1;
        }
        Found::More
    }
}

fn is_type(key: &[u8]) -> bool {
    key == b"@type" || (key.contains(&b'\\') && text::unescaped(key).is_ok_and(|key| key == b"@type"))
}

impl Machine {
    /// An `Any`; `at` is at its first byte.
    pub(super) fn any(&mut self, t: &Tables, slot: Slot, b: &[u8], at: &mut usize) -> Read<bool> {
        if b.get(*at) != Some(&b'{') {
            return self.refuse(t, *at, "must be an object");
        }
        let any_depth_max = self.settings.limits.any_depth;
        if self.any_depth + 1 > any_depth_max {
            return self.refuse(t, *at, format!("Any nests deeper than {any_depth_max}"));
        }
        let depth_max =
            self.settings.limits.json_depth - self.json_depth.min(self.settings.limits.json_depth);
        let object = b.get(*at..).unwrap_or_default();
        let mut look = self.look.take().unwrap_or_default();
        let found = look.on(object, depth_max);
        let type_url = match found {
            Found::More => {
                self.look = Some(look);
                return Ok(false);
            }
            Found::Type { from, to } => text::unescaped(object.get(from..to).unwrap_or_default())
                .map_err(|why| (*at + from, why.to_owned())),
            Found::NoString(offset) => Err((*at + offset, "must be a string".to_owned())),
            Found::TooDeep(offset) => {
                let depth_max = self.settings.limits.json_depth;
                return self.refuse(t, *at + offset, format!("nests deeper than {depth_max}"));
            }
            Found::Nothing { empty: true } => Ok(Vec::new()),
            Found::Nothing { empty: false } => return self.refuse(t, *at, "holds no @type"),
        };
        match type_url {
            Ok(type_url) => self.begin_any(t, slot, &type_url, matches!(found, Found::Nothing { .. }), at),
            Err((place, why)) => self.refuse_type(t, place, &why),
        }
    }

    /// The type is known; the object follows.
    fn begin_any(
        &mut self,
        t: &Tables,
        slot: Slot,
        type_url: &[u8],
        empty: bool,
        at: &mut usize,
    ) -> Read<bool> {
        let content = std::str::from_utf8(type_url)
            .ok()
            .and_then(|url| t.message_of_url(url));
        let Some(content) = content.or(empty.then_some(slot.message)) else {
            return self.refuse_type(t, *at, "names no type of this service's schema");
        };
        let special = t.message(content).special;
        let plain = special == Special::None;
        self.check_depth(t, *at, 1 + usize::from(plain))?;
        self.deeper(t, *at)?;
        self.any_depth += 1;
        let (close, mark) = self.begin(t, slot);
        let around = Frame {
            field: slot.field,
            levels: 1,
            counts_any: true,
            ..Frame::new(Kind::Around, close, mark)
        };
        self.open(t, around);
        wire::put_bytes(&mut self.out.bytes, 1, type_url);
        self.out.bytes.push(2 << 3 | 2);
        let mark = self.out.open();
        let kind = if plain { Kind::Message } else { Kind::AnyValue };
        let frame = Frame {
            message: content,
            levels: u8::from(plain),
            any: Type::Expected,
            // An empty object is an empty Any: it needs no value.
            count: u32::from(empty),
            ..Frame::new(kind, Close::LengthUnlessEmpty, mark)
        };
        self.open(t, frame);
        *at += 1;
        self.state = State::FirstKey;
        Ok(true)
    }

    fn refuse_type(&mut self, t: &Tables, at: usize, why: &str) -> Read<bool> {
        let mut frame = Frame::new(Kind::AnyValue, Close::Nothing, self.out.mark());
        frame.current = TYPE;
        // Only to be told where we are.
        self.stack.push(frame);
        self.slot = Slot {
            field: NONE,
            ..self.slot
        };
        self.refuse(t, at, why)
    }
}
