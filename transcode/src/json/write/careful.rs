//! Messages whose fields come in any order: looked through first, then written field by field.

use super::{Fail, Write, Writer};
use crate::table::{Field, Message, NONE, Shape};
use crate::wire::{self, Value};

/// Where a field stands: which field, in which part, at which byte after its key, in which wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    field: u32,
    part: u32,
    at: u32,
    wire_type: u8,
}

/// Which member of a oneof counts, and from which place on.
struct Chosen {
    oneof: u32,
    field: u32,
    from: usize,
}

impl Writer<'_, '_> {
    /// Writes the fields of a message, each with a comma before it.
    pub(super) fn careful(&mut self, message: &Message, parts: &[&[u8]]) -> Write<()> {
        let t = self.t;
        let places = self.places(message, parts)?;
        let mut next = message.first;
        for group in places.chunk_by(|one, other| one.field == other.field) {
            let Some(first) = group.first() else { continue };
            if self.settings.print_defaults {
                self.defaults(next, first.field)?;
            }
            next = first.field + 1;
            let field = t.field(first.field);
            let start = self.out.len();
            self.key(field);
            if !self.gathered(field, group, parts)? {
                self.out.truncate(start);
                if self.settings.print_defaults {
                    self.defaults(first.field, next)?;
                }
            }
        }
        if self.settings.print_defaults {
            self.defaults(next, message.first + message.count)?;
        }
        Ok(())
    }

    /// Writes the value of one field, and nothing else.
    pub(super) fn only(&mut self, message: &Message, index: u32, content: &[u8]) -> Write<()> {
        self.deeper()?;
        let parts = [content];
        let places = self.places(message, &parts)?;
        let from = places.partition_point(|place| place.field < index);
        let to = places.partition_point(|place| place.field <= index);
        let field = self.t.field(index);
        let group = places.get(from..to).unwrap_or_default();
        if group.is_empty() || !self.gathered(field, group, &parts)? {
            self.default(field)?;
        }
        Ok(())
    }

    /// Every place of a known field that counts, in the order of fields.
    fn places(&self, message: &Message, parts: &[&[u8]]) -> Write<Vec<Place>> {
        let t = self.t;
        let mut places: Vec<Place> = Vec::new();
        let mut chosen: Vec<Chosen> = Vec::new();
        for (part, content) in parts.iter().enumerate() {
            let mut rest = *content;
            while !rest.is_empty() {
                let (number, wire_type) = wire::key(&mut rest).ok_or(Fail::Broken)?;
                let at = content.len() - rest.len();
                wire::value(&mut rest, number, wire_type).ok_or(Fail::Broken)?;
                let Some(field) = t.by_number(message, number) else {
                    continue;
                };
                let oneof = t.field(field).oneof;
                if oneof != NONE {
                    choose(&mut chosen, oneof, field, places.len());
                }
                places.push(Place {
                    field,
                    part: u32::try_from(part).map_err(|_| Fail::Broken)?,
                    at: u32::try_from(at).map_err(|_| Fail::Broken)?,
                    wire_type,
                });
            }
        }
        if !chosen.is_empty() {
            let mut position = 0;
            places.retain(|place| {
                let oneof = t.field(place.field).oneof;
                let counts = chosen
                    .iter()
                    .find(|chosen| chosen.oneof == oneof)
                    .is_none_or(|chosen| chosen.field == place.field && position >= chosen.from);
                position += 1;
                counts
            });
        }
        if !places.is_sorted() {
            places.sort_unstable();
        }
        Ok(places)
    }

    /// The value of a field of all its places; `false`: there is none.
    fn gathered(&mut self, field: &Field, places: &[Place], parts: &[&[u8]]) -> Write<bool> {
        let wire_of = |place: &Place| -> &[u8] {
            let part = parts.get(place.part as usize).copied().unwrap_or_default();
            part.get(place.at as usize..).unwrap_or_default()
        };
        let content_of = |place: &Place| match wire::value(&mut wire_of(place), field.number, place.wire_type)
        {
            Some(Value::Bytes(content)) => Ok(content),
            Some(Value::Group(content)) if field.is_message() => Ok(content),
            _ => Err(Fail::Broken),
        };
        match field.shape {
            Shape::Singular if field.is_message() => {
                let parts: Write<Vec<&[u8]>> = places.iter().map(content_of).collect();
                self.message(field.of, &parts?)?;
                Ok(true)
            }
            Shape::Singular => {
                // The last one; a number that a closed enum does not name is none.
                for place in places.iter().rev() {
                    let written = self.take_singular(field, place.wire_type, &mut wire_of(place))?;
                    if written || !field.presence {
                        return Ok(written);
                    }
                }
                Ok(false)
            }
            Shape::List => {
                let start = self.out.len();
                for place in places {
                    if place.wire_type == 2 && field.kind.wire_type() != 2 {
                        self.packed(field, content_of(place)?)?;
                    } else {
                        self.out.push(b',');
                        self.element(field, place.wire_type, &mut wire_of(place))?;
                    }
                }
                Ok(self.bracketed(start))
            }
            Shape::Map => {
                let entries: Write<Vec<&[u8]>> = places.iter().map(content_of).collect();
                self.map(field, entries?)?;
                Ok(true)
            }
        }
    }
}

/// The member that was seen last counts; what others said before is gone.
fn choose(chosen: &mut Vec<Chosen>, oneof: u32, field: u32, from: usize) {
    match chosen.iter_mut().find(|chosen| chosen.oneof == oneof) {
        Some(known) if known.field == field => {}
        Some(known) => {
            known.field = field;
            known.from = from;
        }
        None => chosen.push(Chosen { oneof, field, from }),
    }
}
