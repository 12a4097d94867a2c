//! Plain values.

use super::{Fail, Write, Writer};
use crate::json::base64;
use crate::table::{Field, Kind};
use crate::wire::{self, Value};

impl Writer<'_, '_> {
    /// Takes one plain value off the wire and writes it. `false`: it is a number that its closed enum does not name, and
    /// nothing was written.
    #[inline]
    pub(super) fn take_scalar(&mut self, field: &Field, wire_type: u8, wire: &mut &[u8]) -> Write<bool> {
        if wire_type != field.kind.wire_type() {
            return Err(Fail::Broken);
        }
        match wire_type {
            0 => Ok(self.varint(field, wire::varint(wire).ok_or(Fail::Broken)?)),
            1 => {
                let bits = wire::fixed64(wire).ok_or(Fail::Broken)?;
                match field.kind {
                    Kind::Double => self.double(f64::from_bits(bits)),
                    Kind::Fixed64 => self.long(bits),
                    _ => self.long(bits.cast_signed()),
                }
                Ok(true)
            }
            5 => {
                let bits = wire::fixed32(wire).ok_or(Fail::Broken)?;
                match field.kind {
                    Kind::Float => self.float(f32::from_bits(bits)),
                    Kind::Fixed32 => self.integer(bits),
                    _ => self.integer(bits.cast_signed()),
                }
                Ok(true)
            }
            _ => {
                let bytes = wire::bytes(wire).ok_or(Fail::Broken)?;
                if field.kind == Kind::String {
                    self.string(bytes)?;
                } else {
                    self.base64(bytes);
                }
                Ok(true)
            }
        }
    }

    /// Takes the value of a singular field and writes it; `false`: nothing was written, since it is a default value of a field
    /// without presence, or see [`Writer::take_scalar`].
    #[inline]
    pub(super) fn take_singular(&mut self, field: &Field, wire_type: u8, wire: &mut &[u8]) -> Write<bool> {
        if !field.presence && is_default(field.kind, wire_type, wire) {
            wire::value(wire, field.number, wire_type).ok_or(Fail::Broken)?;
            return Ok(false);
        }
        self.take_scalar(field, wire_type, wire)
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        base64::encode_into(bytes, self.out);
        self.out.push(b'"');
    }

    #[inline]
    fn varint(&mut self, field: &Field, value: u64) -> bool {
        match field.kind {
            Kind::Bool => self.text(if value == 0 { "false" } else { "true" }),
            Kind::Enum => return self.enumeration(field, low32(value)),
            Kind::Int32 => self.integer(low32(value)),
            Kind::Uint32 => self.integer(low32(value).cast_unsigned()),
            Kind::Sint32 => self.integer(low32(zigzag(value & 0xffff_ffff).cast_unsigned())),
            Kind::Uint64 => self.long(value),
            Kind::Sint64 => self.long(zigzag(value)),
            _ => self.long(value.cast_signed()),
        }
        true
    }

    /// Writes one plain value; see [`Writer::take_scalar`].
    pub(super) fn scalar(&mut self, field: &Field, value: Value<'_>) -> Write<bool> {
        match (field.kind, value) {
            (Kind::String, Value::Bytes(text)) => self.string(text)?,
            (Kind::Bytes, Value::Bytes(bytes)) => self.base64(bytes),
            (kind, Value::Varint(value)) if kind.wire_type() == 0 => return Ok(self.varint(field, value)),
            (kind, Value::Fixed64(bits)) if kind.wire_type() == 1 => {
                return self.take_scalar(field, 1, &mut &bits.to_le_bytes()[..]);
            }
            (kind, Value::Fixed32(bits)) if kind.wire_type() == 5 => {
                return self.take_scalar(field, 5, &mut &bits.to_le_bytes()[..]);
            }
            _ => return Err(Fail::Broken),
        }
        Ok(true)
    }

    fn enumeration(&mut self, field: &Field, number: i32) -> bool {
        let words = self.t.enumeration(field);
        let word = words.word(number);
        match word {
            None if words.closed => return false,
            _ if words.null && number == 0 => self.text("null"),
            Some(word) if !self.settings.enum_numbers => {
                let name = if self.settings.strip_prefix {
                    &word.stripped
                } else {
                    &word.quoted
                };
                self.text(name);
            }
            _ => self.integer(number),
        }
        true
    }

    fn integer(&mut self, value: impl itoa::Integer) {
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// More than a JSON reader's double may hold: as text.
    fn long(&mut self, value: impl itoa::Integer) {
        self.out.push(b'"');
        self.integer(value);
        self.out.push(b'"');
    }

    fn float(&mut self, value: f32) {
        if value.is_finite() {
            self.text(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(f64::from(value));
        }
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.text(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(value);
        }
    }

    fn not_finite(&mut self, value: f64) {
        self.text(match value {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => "\"NaN\"",
        });
    }
}

/// Whether the value that comes is the default one: senders need not leave it out.
#[inline]
fn is_default(kind: Kind, wire_type: u8, mut wire: &[u8]) -> bool {
    if wire_type != kind.wire_type() {
        return false;
    }
    match wire_type {
        0 => match (kind, wire.first()) {
            (_, Some(0)) => true,
            (_, Some(1..0x80) | None) => false,
            (Kind::Bool | Kind::Int64 | Kind::Uint64 | Kind::Sint64, _) => wire::varint(&mut wire) == Some(0),
            _ => wire::varint(&mut wire).is_some_and(|value| low32(value) == 0),
        },
        1 => wire.first_chunk::<8>() == Some(&[0; 8]),
        5 => wire.first_chunk::<4>() == Some(&[0; 4]),
        _ => wire::varint(&mut wire) == Some(0),
    }
}

/// A 32-bit number is the lower half of what stands there.
pub(super) fn low32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
