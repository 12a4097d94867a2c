//! The well-known types.

use std::io::Write as _;
use std::ops::ControlFlow;

use super::{Fail, Write, Writer};
use crate::json::leaf::camel_case;
use crate::json::time::{DURATION_SECONDS_MAX, TIMESTAMP_SECONDS, date};
use crate::table::{Message, Special};
use crate::wire::{self, Value};

impl Writer<'_, '_> {
    pub(super) fn known(&mut self, message: &Message, special: Special, parts: &[&[u8]]) -> Write<()> {
        match special {
            Special::Timestamp => {
                let (seconds, nanos) = time(parts)?;
                self.timestamp(seconds, nanos)
            }
            Special::Duration => {
                let (seconds, nanos) = time(parts)?;
                self.duration(seconds, nanos)
            }
            Special::FieldMask => self.field_mask(parts),
            Special::Any => self.any(parts),
            Special::Value => self.value(message, parts),
            Special::Wrapper => {
                let field = self.t.field(message.first);
                let mut last = None;
                each(parts, |number, value| {
                    if number == field.number {
                        last = Some(value);
                    }
                })?;
                match last {
                    Some(value) => self.scalar(field, value).map(drop),
                    None => self.default(field),
                }
            }
            Special::Struct => {
                let field = self.t.field(message.first);
                let entries = all(parts, field.number)?;
                self.map(field, entries)
            }
            Special::ListValue => {
                let field = self.t.field(message.first);
                let start = self.out.len();
                for element in all(parts, field.number)? {
                    self.out.push(b',');
                    self.message(field.of, &[element])?;
                }
                if !self.bracketed(start) {
                    self.text("[]");
                }
                Ok(())
            }
            Special::None | Special::Empty => Err(Fail::Broken),
        }
    }

    /// `google.protobuf.Value`: the last of its kinds, 1 to 6.
    fn value(&mut self, message: &Message, parts: &[&[u8]]) -> Write<()> {
        let t = self.t;
        let mut kind = 0;
        let mut last = None;
        let mut contents: Vec<&[u8]> = Vec::new();
        each(parts, |number, value| {
            if !(1..=6).contains(&number) {
                return;
            }
            if number != kind {
                contents.clear();
            }
            if let (5 | 6, Value::Bytes(content)) = (number, value) {
                contents.push(content);
            }
            kind = number;
            last = Some(value);
        })?;
        // A Value with no kind is broken on the wire; null is how readers of such a message see it.
        let (Some(index), Some(value)) = (t.by_number(message, kind), last) else {
            self.text("null");
            return Ok(());
        };
        match (kind, value) {
            (1, Value::Varint(_)) => self.text("null"),
            (2, Value::Fixed64(bits)) if !f64::from_bits(bits).is_finite() => {
                return Err(Fail::Unsayable(
                    "a google.protobuf.Value is no finite number".into(),
                ));
            }
            (5 | 6, Value::Bytes(_)) => return self.message(t.field(index).of, &contents),
            _ => drop(self.scalar(t.field(index), value)?),
        }
        Ok(())
    }

    fn any(&mut self, parts: &[&[u8]]) -> Write<()> {
        let (mut type_url, mut content): (&[u8], &[u8]) = (b"", b"");
        let mut broken = false;
        each(parts, |number, value| match (number, value) {
            (1, Value::Bytes(text)) => type_url = text,
            (2, Value::Bytes(bytes)) => content = bytes,
            (1 | 2, _) => broken = true,
            _ => {}
        })?;
        if broken {
            return Err(Fail::Broken);
        }
        self.any_content(type_url, content)
    }

    pub(super) fn any_content(&mut self, type_url: &[u8], content: &[u8]) -> Write<()> {
        if type_url.is_empty() && content.is_empty() {
            self.text("{}");
            return Ok(());
        }
        self.any_depth += 1;
        let any_depth_max = self.settings.limits.any_depth;
        if self.any_depth > any_depth_max {
            return Err(Fail::Unsayable(format!("Any nests deeper than {any_depth_max}")));
        }
        let t = self.t;
        let url = std::str::from_utf8(type_url).map_err(|_| Fail::Broken)?;
        let Some(index) = t.message_of_url(url) else {
            let name = url.rsplit_once('/').map(|(_, name)| name).unwrap_or_default();
            let why = format!(
                "an Any holds {}, which the schema does not know",
                crate::quote(name)
            );
            return Err(Fail::Unsayable(why));
        };
        let message = t.message(index);
        let broken = |fail| match fail {
            Fail::Broken => {
                Fail::Unsayable(format!("an Any does not hold the {} it says", message.full_name))
            }
            other => other,
        };
        self.text("{\"@type\":");
        self.string(type_url)?;
        if message.special == Special::None {
            self.deeper()?;
            self.fields(message, &[content]).map_err(broken)?;
            self.depth -= 1;
        } else {
            self.text(",\"value\":");
            self.message(index, &[content]).map_err(broken)?;
        }
        self.text("}");
        self.any_depth -= 1;
        Ok(())
    }

    fn timestamp(&mut self, seconds: i64, nanos: i32) -> Write<()> {
        if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
            return Err(Fail::Unsayable(
                "a Timestamp is outside the years 1 to 9999".into(),
            ));
        }
        let (year, month, day) = date(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        self.text("\"");
        self.digits(year, 4);
        for (before, value) in [
            ("-", month),
            ("-", day),
            ("T", second / 3600),
            (":", second / 60 % 60),
            (":", second % 60),
        ] {
            self.text(before);
            self.digits(value, 2);
        }
        self.fraction(nanos);
        self.text("Z\"");
        Ok(())
    }

    fn duration(&mut self, seconds: i64, nanos: i32) -> Write<()> {
        let signs_differ = (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0);
        let too_long = seconds.unsigned_abs() > DURATION_SECONDS_MAX.unsigned_abs();
        if signs_differ || too_long || nanos.unsigned_abs() > 999_999_999 {
            return Err(Fail::Unsayable("a Duration is out of range".into()));
        }
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        // Into memory: this cannot fail.
        let _ = write!(self.out, "\"{sign}{}", seconds.unsigned_abs());
        self.fraction(nanos.abs());
        self.text("s\"");
        Ok(())
    }

    /// 0, 3, 6 or 9 digits after the point.
    fn fraction(&mut self, nanos: i32) {
        let (value, width) = match nanos {
            0 => return,
            _ if nanos % 1_000_000 == 0 => (nanos / 1_000_000, 3),
            _ if nanos % 1000 == 0 => (nanos / 1000, 6),
            _ => (nanos, 9),
        };
        self.text(".");
        self.digits(i64::from(value), width);
    }

    /// So many digits of a number that is not negative.
    fn digits(&mut self, mut value: i64, width: usize) {
        let start = self.out.len();
        self.out.resize(start + width, b'0');
        for place in self.out.iter_mut().skip(start).rev() {
            *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
        }
    }

    fn field_mask(&mut self, parts: &[&[u8]]) -> Write<()> {
        let mut camel: Vec<String> = Vec::new();
        for path in all(parts, 1)? {
            let path = std::str::from_utf8(path).map_err(|_| Fail::Broken)?;
            let why = "a FieldMask holds a path that has no lowerCamelCase form";
            camel.push(camel_case(path).ok_or_else(|| Fail::Unsayable(why.into()))?);
        }
        self.string(camel.join(",").as_bytes())
    }
}

/// Shows every field of a message in parts.
fn each<'a>(parts: &[&'a [u8]], mut show: impl FnMut(u32, Value<'a>)) -> Write<()> {
    for part in parts {
        wire::each(part, |number, value| {
            show(number, value);
            ControlFlow::Continue(())
        })
        .ok_or(Fail::Broken)?;
    }
    Ok(())
}

/// The contents of a repeated field whose values have lengths.
fn all<'a>(parts: &[&'a [u8]], wanted: u32) -> Write<Vec<&'a [u8]>> {
    let mut contents = Vec::new();
    let mut broken = false;
    each(parts, |number, value| match value {
        Value::Bytes(content) if number == wanted => contents.push(content),
        _ => broken |= number == wanted,
    })?;
    if broken { Err(Fail::Broken) } else { Ok(contents) }
}

/// Seconds and nanoseconds.
fn time(parts: &[&[u8]]) -> Write<(i64, i32)> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut broken = false;
    each(parts, |number, value| match (number, value) {
        (1, Value::Varint(value)) => seconds = value.cast_signed(),
        (2, Value::Varint(value)) => nanos = super::scalar::low32(value),
        (1 | 2, _) => broken = true,
        _ => {}
    })?;
    if broken {
        Err(Fail::Broken)
    } else {
        Ok((seconds, nanos))
    }
}
