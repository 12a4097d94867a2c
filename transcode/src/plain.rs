//! Messages as encoders write them. Readers of protobuf do not agree on what others say: some skip a known field of another
//! wire type and some take it, some merge the parts of a message and some replace it, some read ten bytes of a long varint and
//! some six. Whoever judges a message for another reader may only look at those on which they do agree.
//!
//! ```text
//!  every varint as short as it can be, and of its type     every known field of its own wire type, at every depth
//!  no groups                                               a field that is looked at: once, and alone in its oneof
//! ```

use crate::PROTO_DEPTH_MAX;
use crate::table::{Field, Kind, Shape, Tables};
use crate::wire;

/// Whether all readers read the same fields out of a message.
pub(crate) fn is_plain(t: &Tables, message: u32, content: &[u8]) -> bool {
    walk(t, message, content, 1).is_some()
}

fn walk(t: &Tables, message: u32, mut rest: &[u8], depth: usize) -> Option<()> {
    if depth > PROTO_DEPTH_MAX {
        return None;
    }
    let rest = &mut rest;
    while !rest.is_empty() {
        let key = u32::try_from(varint(rest)?).ok()?;
        let (number, wire_type) = (key >> 3, key & 7);
        let field = t
            .by_number(t.message(message), number)
            .map(|index| t.field(index));
        let is_of = |wire_type: u8| field.is_none_or(|field| field.kind.wire_type() == wire_type);
        match wire_type {
            _ if number == 0 => return None,
            0 => {
                let value = varint(rest)?;
                let fits = field.is_none_or(|field| is_in_range(field.kind, value));
                (fits && is_of(0)).then_some(())?;
            }
            1 => {
                wire::fixed64(rest)?;
                is_of(1).then_some(())?;
            }
            2 => {
                let content = bytes(rest)?;
                if let Some(field) = field {
                    long(t, field, content, depth)?;
                }
            }
            5 => {
                wire::fixed32(rest)?;
                is_of(5).then_some(())?;
            }
            _ => return None,
        }
    }
    Some(())
}

/// What follows a length.
fn long(t: &Tables, field: &Field, mut content: &[u8], depth: usize) -> Option<()> {
    if field.is_message() {
        return walk(t, field.of, content, depth + 1).filter(|()| !field.group);
    }
    let rest = &mut content;
    match field.kind.wire_type() {
        2 => return Some(()),
        _ if field.shape != Shape::List => return None,
        0 => {
            while !rest.is_empty() {
                let value = varint(rest)?;
                is_in_range(field.kind, value).then_some(())?;
            }
            return Some(());
        }
        1 => rest.len().is_multiple_of(8),
        _ => rest.len().is_multiple_of(4),
    }
    .then_some(())
}

/// A varint in as few bytes as it takes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let before = rest.len();
    let value = wire::varint(rest)?;
    (before - rest.len() == wire::varint_len(value)).then_some(value)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Whether a type has this value: those of 32 bits are cut off by some readers only.
fn is_in_range(kind: Kind, value: u64) -> bool {
    match kind {
        Kind::Bool => value <= 1,
        Kind::Int32 | Kind::Enum => i32::try_from(value.cast_signed()).is_ok(),
        Kind::Uint32 | Kind::Sint32 => u32::try_from(value).is_ok(),
        _ => true,
    }
}
