//! The protobuf wire format: keys, varints, lengths.

use std::ops::ControlFlow;

/// Deepest nesting of groups that is passed over.
const GROUP_DEPTH_MAX: usize = crate::PROTO_DEPTH_MAX;

/// What follows a field's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: strings, bytes, messages and packed lists.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: what stands between them.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Shows every field, until `show` breaks. `None`: these bytes are no message, or `show` broke.
pub(crate) fn each<'a>(
    mut wire: &'a [u8],
    mut show: impl FnMut(u32, Value<'a>) -> ControlFlow<()>,
) -> Option<()> {
    while !wire.is_empty() {
        let (number, wire_type) = key(&mut wire)?;
        let value = value(&mut wire, number, wire_type)?;
        if show(number, value).is_break() {
            return None;
        }
    }
    Some(())
}

/// Takes a key: the number and the wire type.
#[inline]
pub(crate) fn key(wire: &mut &[u8]) -> Option<(u32, u8)> {
    let key = varint(wire)?;
    let number = u32::try_from(key >> 3).ok()?;
    let wire_type = key.to_le_bytes()[0] & 7;
    (number != 0 && number < 1 << 29).then_some((number, wire_type))
}

/// Takes the value after a key.
#[inline]
pub(crate) fn value<'a>(wire: &mut &'a [u8], number: u32, wire_type: u8) -> Option<Value<'a>> {
    Some(match wire_type {
        0 => Value::Varint(varint(wire)?),
        1 => Value::Fixed64(fixed64(wire)?),
        2 => Value::Bytes(bytes(wire)?),
        3 => Value::Group(group(wire, number)?),
        5 => Value::Fixed32(fixed32(wire)?),
        _ => return None,
    })
}

/// Takes what stands between the start of a group, which was taken, and its end.
fn group<'a>(wire: &mut &'a [u8], number: u32) -> Option<&'a [u8]> {
    let whole = *wire;
    let mut open = vec![number];
    loop {
        let before = wire.len();
        let (number, wire_type) = key(wire)?;
        match wire_type {
            0 => drop(varint(wire)?),
            1 => drop(take(wire, 8)?),
            2 => drop(bytes(wire)?),
            3 if open.len() < GROUP_DEPTH_MAX => open.push(number),
            4 if open.pop() == Some(number) => {
                if open.is_empty() {
                    return whole.get(..whole.len() - before);
                }
            }
            5 => drop(take(wire, 4)?),
            _ => return None,
        }
    }
}

/// Takes eight bytes.
#[inline]
pub(crate) fn fixed64(wire: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(wire, 8)?.try_into().ok()?))
}

/// Takes four bytes.
#[inline]
pub(crate) fn fixed32(wire: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(wire, 4)?.try_into().ok()?))
}

/// Takes a length, and so many bytes.
#[inline]
pub(crate) fn bytes<'a>(wire: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(wire)?).ok()?;
    take(wire, length)
}

/// Takes so many bytes.
#[inline]
fn take<'a>(wire: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = wire.split_at_checked(length)?;
    *wire = rest;
    Some(taken)
}

/// Takes a varint of at most ten bytes.
#[inline]
pub(crate) fn varint(wire: &mut &[u8]) -> Option<u64> {
    if let [byte, rest @ ..] = *wire
        && *byte < 0x80
    {
        *wire = rest;
        return Some(u64::from(*byte));
    }
    long_varint(wire)
}

fn long_varint(wire: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (position, byte) in wire.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * position);
        if *byte < 0x80 {
            *wire = wire.get(position + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Writes a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Writes a varint into a place of exactly its length.
pub(crate) fn fill_varint(place: &mut [u8], mut value: u64) {
    let last = place.len().saturating_sub(1);
    for (position, byte) in place.iter_mut().enumerate() {
        let more = if position < last { 0x80 } else { 0 };
        *byte = value.to_le_bytes()[0] & 0x7f | more;
        value >>= 7;
    }
}

/// How many bytes a varint takes.
pub(crate) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes the key and the length of a field of wire type 2.
pub(crate) fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Writes a string or bytes field; nothing if it is empty.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_length(out, number, value.len());
        out.extend_from_slice(value);
    }
}

/// How many bytes [`put_bytes`] writes.
pub(crate) fn bytes_len(number: u32, length: usize) -> usize {
    match length {
        0 => 0,
        _ => varint_len(u64::from(number) << 3) + varint_len(length as u64) + length,
    }
}
