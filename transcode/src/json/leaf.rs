//! Leaves: plain values from text, as they stand on the wire.

use std::borrow::Cow;

use super::number::number;
use super::{base64, time};
use crate::table::{Enum, EnumNames, Field, Kind, Special, Tables};
use crate::wire;

/// One plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leaf<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(Cow<'a, [u8]>),
    /// An enum name that is not known, where such are dropped.
    Dropped,
}

/// What reading text as a plain value depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    pub(crate) names: EnumNames,
    /// Enum names that are not known are dropped.
    pub(crate) drop_unknown: bool,
}

impl Leaf<'_> {
    /// Whether a field without presence is left out for it.
    pub(crate) fn is_default(&self) -> bool {
        match self {
            Leaf::Varint(bits) | Leaf::Fixed64(bits) => *bits == 0,
            Leaf::Fixed32(bits) => *bits == 0,
            Leaf::Bytes(bytes) => bytes.is_empty(),
            Leaf::Dropped => true,
        }
    }

    /// Appends what follows the key.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Leaf::Varint(value) => wire::put_varint(out, *value),
            Leaf::Fixed32(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Leaf::Fixed64(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Leaf::Bytes(bytes) => {
                wire::put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Leaf::Dropped => {}
        }
    }
}

/// A plain value from text: of a path or query, a quoted JSON number or word, or a map's key. `text` is UTF-8.
///
/// # Errors
/// What it should have been.
pub(crate) fn from_text<'a>(
    tables: &Tables,
    field: &Field,
    text: &'a [u8],
    how: How,
) -> Result<Leaf<'a>, String> {
    match field.kind {
        Kind::String => Ok(Leaf::Bytes(Cow::Borrowed(text))),
        Kind::Bool => match text {
            b"true" => Ok(Leaf::Varint(1)),
            b"false" => Ok(Leaf::Varint(0)),
            _ => Err("must be true or false".into()),
        },
        Kind::Bytes => base64::decode(text).map(|bytes| Leaf::Bytes(Cow::Owned(bytes))),
        Kind::Enum => {
            let words = tables.enumeration(field);
            enum_number(words, text).or_else(|_| enum_name(words, text, how))
        }
        Kind::Float | Kind::Double => match text {
            b"NaN" => Ok(float(field.kind, f64::NAN)),
            b"Infinity" => Ok(float(field.kind, f64::INFINITY)),
            b"-Infinity" => Ok(float(field.kind, f64::NEG_INFINITY)),
            _ => number(field.kind, text),
        },
        Kind::Message => {
            let name = &tables.message(field.of).full_name;
            Err(format!("is a {name} and takes no plain value"))
        }
        kind => number(kind, text),
    }
}

/// What stands after the key of a field that has a form as text, and after the length where it has one. `text` is UTF-8.
///
/// # Errors
/// What it should have been.
pub(crate) fn content_from_text(
    tables: &Tables,
    field: &Field,
    text: &[u8],
    how: How,
) -> Result<Vec<u8>, String> {
    if matches!(
        field.special,
        Special::Timestamp | Special::Duration | Special::FieldMask
    ) {
        return message_from_text(field.special, text);
    }
    Ok(match from_text(tables, field, text, how)? {
        Leaf::Bytes(bytes) => bytes.into_owned(),
        leaf => {
            let mut content = Vec::new();
            leaf.put(&mut content);
            content
        }
    })
}

/// An enum's value from its name.
pub(crate) fn enum_name(words: &Enum, text: &[u8], how: How) -> Result<Leaf<'static>, String> {
    match words.number_of(text, how.names) {
        Some(number) => Ok(Leaf::Varint(i64::from(number).cast_unsigned())),
        None if how.drop_unknown => Ok(Leaf::Dropped),
        None => Err(format!("must be a value of {}", words.full_name)),
    }
}

/// An enum's value from its number; a closed enum takes only numbers it names.
pub(crate) fn enum_number(words: &Enum, text: &[u8]) -> Result<Leaf<'static>, String> {
    let value = number(Kind::Enum, text)?;
    match value {
        Leaf::Varint(bits)
            if words.closed
                && i32::try_from(bits.cast_signed()).is_ok_and(|number| words.word(number).is_none()) =>
        {
            Err(format!("must be a value of {}", words.full_name))
        }
        value => Ok(value),
    }
}

/// The content of a Timestamp, Duration or FieldMask from text. `text` is UTF-8.
///
/// # Errors
/// What it should have been. Other messages have no form as text.
pub(crate) fn message_from_text(special: Special, text: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
    let mut content = Vec::new();
    match special {
        Special::Timestamp => put_time(&mut content, time::timestamp(text)?),
        Special::Duration => put_time(&mut content, time::duration(text)?),
        Special::FieldMask => put_field_mask(&mut content, text)?,
        _ => return Err("takes no plain value".into()),
    }
    Ok(content)
}

fn put_time(out: &mut Vec<u8>, (seconds, nanos): (i64, i32)) {
    for (key, value) in [(8, seconds), (16, i64::from(nanos))] {
        if value != 0 {
            out.push(key);
            wire::put_varint(out, value.cast_unsigned());
        }
    }
}

fn float(kind: Kind, value: f64) -> Leaf<'static> {
    match kind {
        // NaN and the infinities have their counterparts: nothing is lost.
        #[allow(clippy::cast_possible_truncation)]
        Kind::Float => Leaf::Fixed32((value as f32).to_bits()),
        _ => Leaf::Fixed64(value.to_bits()),
    }
}

/// Writes a field mask's paths, in proto names, from `fooBar,baz.quxQuux`.
fn put_field_mask(out: &mut Vec<u8>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let mut snake = Vec::new();
    for path in text.split(',') {
        let is_sound = path
            .split('.')
            .all(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        if !is_sound {
            return Err("must be field paths in lowerCamelCase, separated by commas".into());
        }
        snake.clear();
        for byte in path.bytes() {
            if byte.is_ascii_uppercase() {
                snake.push(b'_');
            }
            snake.push(byte.to_ascii_lowercase());
        }
        wire::put_bytes(out, 1, &snake);
    }
    Ok(())
}

/// `foo_bar` as `fooBar`, if that can be turned back.
pub(crate) fn camel_case(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let mut raise = false;
    for character in path.chars() {
        match character {
            '_' if !raise => raise = true,
            'a'..='z' if raise => {
                camel.push(character.to_ascii_uppercase());
                raise = false;
            }
            'a'..='z' | '0'..='9' | '.' if !raise => camel.push(character),
            _ => return None,
        }
    }
    (!raise).then_some(camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_masks_are_lower_camel_case_only() {
        let field_mask = |text: &str| message_from_text(Special::FieldMask, text.as_bytes());
        assert_eq!(
            field_mask("fooBar,a.bC").unwrap(),
            b"\x0a\x07foo_bar\x0a\x05a.b_c"
        );
        assert!(field_mask("").unwrap().is_empty());
        for bad in ["foo_bar", "Foo", "a,", ",", "a..b", ".a", "a b", "a.B"] {
            assert!(field_mask(bad).is_err(), "{bad}");
        }
        assert_eq!(camel_case("foo_bar.b_c").as_deref(), Some("fooBar.bC"));
        for bad in ["Foo", "a__b", "a_", "a_B", "a b"] {
            assert_eq!(camel_case(bad), None, "{bad}");
        }
    }
}
