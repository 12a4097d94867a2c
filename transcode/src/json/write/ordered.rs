//! Messages whose fields come one after the other, each once or as one run: written as they come.

use super::{Fail, Write, Writer};
use crate::table::{Field, Message, NONE, Shape};
use crate::wire;

impl Writer<'_, '_> {
    /// Writes the fields, each with a comma before it; up to the end, or to the end of the group of this number.
    pub(super) fn ordered(&mut self, message: &Message, wire: &mut &[u8], group: Option<u32>) -> Write<()> {
        let t = self.t;
        // Behind the highest field so far, and which there were.
        let mut next = message.first;
        let mut seen = 0u64;
        let mut oneofs = 0u64;
        loop {
            if wire.is_empty() {
                if group.is_some() {
                    return Err(Fail::Broken);
                }
                break;
            }
            let (number, wire_type) = wire::key(wire).ok_or(Fail::Broken)?;
            if wire_type == 4 {
                if group == Some(number) {
                    break;
                }
                return Err(Fail::Broken);
            }
            let Some(index) = t.by_number(message, number) else {
                wire::value(wire, number, wire_type).ok_or(Fail::Broken)?;
                continue;
            };
            let bit = 1u64.checked_shl(index - message.first).unwrap_or(0);
            // The order is of no matter, but that defaults are printed between fields. What comes again is a matter for both.
            if index < next && (bit & !seen == 0 || self.settings.print_defaults) {
                return Err(Fail::Disorder);
            }
            seen |= bit;
            let field = t.field(index);
            if field.oneof != NONE {
                let bit = 1u64.checked_shl(field.oneof - message.count).unwrap_or(u64::MAX);
                if oneofs & bit != 0 {
                    return Err(Fail::Disorder);
                }
                oneofs |= bit;
            }
            if self.settings.print_defaults {
                self.defaults(next, index)?;
            }
            next = next.max(index + 1);
            self.in_order(field, wire_type, wire)?;
        }
        if self.settings.print_defaults {
            self.defaults(next, message.first + message.count)?;
        }
        Ok(())
    }

    /// One field, with all its elements or entries.
    #[inline]
    fn in_order(&mut self, field: &Field, wire_type: u8, wire: &mut &[u8]) -> Write<()> {
        let start = self.out.len();
        self.key(field);
        let some = match field.shape {
            Shape::Singular if field.is_message() => {
                self.take_message(field, wire_type, wire)?;
                true
            }
            Shape::Singular => self.take_singular(field, wire_type, wire)?,
            Shape::List => self.list_in_order(field, wire_type, wire)?,
            Shape::Map => return self.map_in_order(field, wire_type, wire),
        };
        if !some {
            self.out.truncate(start);
            if self.settings.print_defaults && !field.presence {
                self.key(field);
                self.default(field)?;
            }
        }
        Ok(())
    }

    /// Elements, packed or not, that follow each other. `false`: there are none.
    fn list_in_order(&mut self, field: &Field, mut wire_type: u8, wire: &mut &[u8]) -> Write<bool> {
        let start = self.out.len();
        loop {
            if wire_type == 2 && field.kind.wire_type() != 2 {
                self.packed(field, wire::bytes(wire).ok_or(Fail::Broken)?)?;
            } else {
                self.out.push(b',');
                self.element(field, wire_type, wire)?;
            }
            let mut ahead = *wire;
            match wire::key(&mut ahead) {
                Some((number, following)) if number == field.number && following != 4 => {
                    *wire = ahead;
                    wire_type = following;
                }
                _ => break,
            }
        }
        Ok(self.bracketed(start))
    }

    /// One element after its comma, which goes with it if it is nothing.
    pub(super) fn element(&mut self, field: &Field, wire_type: u8, wire: &mut &[u8]) -> Write<()> {
        if field.is_message() {
            self.take_message(field, wire_type, wire)?;
        } else if !self.take_scalar(field, wire_type, wire)? {
            self.out.pop();
        }
        Ok(())
    }

    /// The elements of a packed list, each with a comma before it.
    pub(super) fn packed(&mut self, field: &Field, mut content: &[u8]) -> Write<()> {
        while !content.is_empty() {
            self.out.push(b',');
            self.element(field, field.kind.wire_type(), &mut content)?;
        }
        Ok(())
    }

    /// What was written since `start` are elements with commas before them: the first comma becomes the bracket. `false`:
    /// there are none.
    pub(super) fn bracketed(&mut self, start: usize) -> bool {
        match self.out.get_mut(start) {
            Some(comma) => *comma = b'[',
            None => return false,
        }
        self.out.push(b']');
        true
    }

    /// A message, or a group.
    pub(super) fn take_message(&mut self, field: &Field, wire_type: u8, wire: &mut &[u8]) -> Write<()> {
        match wire_type {
            2 => {
                let content = wire::bytes(wire).ok_or(Fail::Broken)?;
                self.message(field.of, &[content])
            }
            // A group of an ordinary message is read on the way, so that groups in groups are not passed over again and again.
            3 if !self.careful && field.special == crate::table::Special::None => {
                self.deeper()?;
                let start = self.out.len();
                self.ordered(self.t.message(field.of), wire, Some(field.number))?;
                self.braced(start);
                self.depth -= 1;
                Ok(())
            }
            3 => match wire::value(wire, field.number, 3) {
                Some(wire::Value::Group(content)) => self.message(field.of, &[content]),
                _ => Err(Fail::Broken),
            },
            _ => Err(Fail::Broken),
        }
    }
}
