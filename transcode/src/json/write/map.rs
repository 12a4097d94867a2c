//! Maps: entries in the order of their keys, the last of equal ones.

use super::{Fail, Write, Writer};
use crate::table::{Field, Kind};
use crate::wire::{self, Value};

/// Keys of a map of at most so many entries are kept while it is sorted; those of a larger one are read again, since they take
/// more memory than the entries themselves may have taken on the wire.
const KEYS_KEPT: usize = 64;

/// A key, comparable within its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Signed(i64),
    Unsigned(u64),
    Text(&'a [u8]),
}

impl Writer<'_, '_> {
    /// Entries that follow each other. The field's key was written.
    pub(super) fn map_in_order(&mut self, field: &Field, mut wire_type: u8, wire: &mut &[u8]) -> Write<()> {
        let mut entries: Vec<&[u8]> = Vec::new();
        loop {
            if wire_type != 2 {
                return Err(Fail::Broken);
            }
            entries.push(wire::bytes(wire).ok_or(Fail::Broken)?);
            let mut ahead = *wire;
            match wire::key(&mut ahead) {
                Some((number, following)) if number == field.number && following != 4 => {
                    *wire = ahead;
                    wire_type = following;
                }
                _ => break,
            }
        }
        self.map(field, entries)
    }

    /// Writes a map of all its entries.
    pub(super) fn map(&mut self, field: &Field, mut entries: Vec<&[u8]>) -> Write<()> {
        self.deeper()?;
        let t = self.t;
        let (key, value) = t.entry(field);
        let (key, value) = (t.field(key), t.field(value));
        // Of equal ones the last stays the last.
        if entries.len() <= KEYS_KEPT {
            entries.sort_by_cached_key(|entry| order(key, entry));
        } else {
            entries.sort_by(|one, other| order(key, one).cmp(&order(key, other)));
        }
        let start = self.out.len();
        let mut entries = entries.into_iter();
        let mut next = next_of(key, &mut entries)?;
        while let Some((name, entry)) = next {
            next = next_of(key, &mut entries)?;
            if next.is_some_and(|(following, _)| following == name) {
                continue;
            }
            let before = self.out.len();
            self.out.push(b',');
            self.map_key(key, name)?;
            self.out.push(b':');
            if !self.map_value(value, entry)? {
                self.out.truncate(before);
            }
        }
        self.braced(start);
        self.depth -= 1;
        Ok(())
    }

    fn map_key(&mut self, field: &Field, key: Key<'_>) -> Write<()> {
        match key {
            Key::Text(text) => return self.string(text),
            Key::Signed(value) => self.long_key(value),
            Key::Unsigned(value) if field.kind == Kind::Bool => {
                self.text(if value == 0 { "\"false\"" } else { "\"true\"" });
            }
            Key::Unsigned(value) => self.long_key(value),
        }
        Ok(())
    }

    fn long_key(&mut self, value: impl itoa::Integer) {
        self.out.push(b'"');
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'"');
    }

    /// The value of an entry; `false`: none that can be written.
    fn map_value(&mut self, field: &Field, entry: &[u8]) -> Write<bool> {
        let mut last = None;
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut broken = false;
        let whole = wire::each(entry, |number, value| {
            if number == 2 {
                if field.is_message()
                    && let Value::Bytes(part) | Value::Group(part) = value
                {
                    parts.push(part);
                }
                broken |= field.is_message() && !matches!(value, Value::Bytes(_) | Value::Group(_));
                last = Some(value);
            }
            std::ops::ControlFlow::Continue(())
        });
        if whole.is_none() || broken {
            return Err(Fail::Broken);
        }
        if field.is_message() {
            if parts.is_empty() {
                parts.push(b"");
            }
            self.message(field.of, &parts)?;
            return Ok(true);
        }
        match last {
            Some(value) => self.scalar(field, value),
            None => self.default(field).map(|()| true),
        }
    }
}

/// What entries are sorted by. One that has no key is told when it is written.
fn order<'a>(field: &Field, entry: &'a [u8]) -> Option<Key<'a>> {
    key_of(field, entry).ok()
}

/// The next entry, with its key.
fn next_of<'a>(
    field: &Field,
    entries: &mut impl Iterator<Item = &'a [u8]>,
) -> Write<Option<(Key<'a>, &'a [u8])>> {
    match entries.next() {
        Some(entry) => Ok(Some((key_of(field, entry)?, entry))),
        None => Ok(None),
    }
}

/// The key of an entry: the last one there, or the default.
fn key_of<'a>(field: &Field, entry: &'a [u8]) -> Write<Key<'a>> {
    let mut rest = entry;
    let mut key = None;
    while !rest.is_empty() {
        let (number, wire_type) = wire::key(&mut rest).ok_or(Fail::Broken)?;
        let value = wire::value(&mut rest, number, wire_type).ok_or(Fail::Broken)?;
        if number == 1 {
            key = Some(read_key(field.kind, value)?);
        }
    }
    Ok(key.unwrap_or(match field.kind {
        Kind::String => Key::Text(b""),
        Kind::Bool | Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Key::Unsigned(0),
        _ => Key::Signed(0),
    }))
}

fn read_key(kind: Kind, value: Value<'_>) -> Write<Key<'_>> {
    let low = |bits: u64| super::scalar::low32(bits);
    let zigzag = |bits: u64| (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed();
    Ok(match (kind, value) {
        (Kind::String, Value::Bytes(text)) => Key::Text(text),
        (Kind::Bool, Value::Varint(bits)) => Key::Unsigned(u64::from(bits != 0)),
        (Kind::Int32, Value::Varint(bits)) => Key::Signed(i64::from(low(bits))),
        (Kind::Int64, Value::Varint(bits)) => Key::Signed(bits.cast_signed()),
        (Kind::Sint32, Value::Varint(bits)) => Key::Signed(zigzag(bits & 0xffff_ffff)),
        (Kind::Sint64, Value::Varint(bits)) => Key::Signed(zigzag(bits)),
        (Kind::Uint32, Value::Varint(bits)) => Key::Unsigned(bits & 0xffff_ffff),
        (Kind::Uint64, Value::Varint(bits)) => Key::Unsigned(bits),
        (Kind::Fixed32, Value::Fixed32(bits)) => Key::Unsigned(u64::from(bits)),
        (Kind::Fixed64, Value::Fixed64(bits)) => Key::Unsigned(bits),
        (Kind::Sfixed32, Value::Fixed32(bits)) => Key::Signed(i64::from(bits.cast_signed())),
        (Kind::Sfixed64, Value::Fixed64(bits)) => Key::Signed(bits.cast_signed()),
        _ => return Err(Fail::Broken),
    })
}
