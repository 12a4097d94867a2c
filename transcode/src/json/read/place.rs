//! Where we are, in the caller's terms: `order.items[3].price`, in JSON names, and the offset in the text.

use std::fmt::Write as _;

use super::frame::{Frame, Kind, TYPE, UNKNOWN, VALUE};
use super::{Machine, Read, State};
use crate::table::{NONE, Tables};
use crate::{DROPPED_MAX, DROPPED_NAME_BYTES_MAX, Refusal};

/// Most characters of a key that are told.
const KEY_CHARS_MAX: usize = 80;

impl Machine {
    /// A refusal at this place of the piece.
    #[cold]
    pub(super) fn refuse<T>(&self, t: &Tables, at: usize, why: impl Into<String>) -> Read<T> {
        // `at` may lie before the piece: the sum wraps back.
        let refusal = Refusal::bad_request(why).at_offset(self.base.wrapping_add(at));
        let place = self.place(t);
        Err(if place.is_empty() {
            refusal
        } else {
            refusal.at_field(place)
        })
    }

    /// The path to the value that is being read, or to the object or array that is.
    pub(super) fn place(&self, t: &Tables) -> String {
        let mut place = String::new();
        if self.root != NONE && !(self.stack.is_empty() && self.state == State::Done) {
            push_name(&mut place, &t.field(self.root).json_name);
        }
        let in_value = match self.state {
            State::Value | State::Colon => true,
            State::String => !self.reading_key(),
            _ => false,
        };
        for (position, frame) in self.stack.iter().enumerate() {
            // A message around a value is no step, and the innermost object or array only where a value of it is read.
            let inner = self.stack.get(position + 1..).unwrap_or_default();
            let last = inner.iter().all(|frame| frame.kind == Kind::Around);
            let nested = inner.iter().any(|frame| frame.kind != Kind::Around);
            if nested || (last && in_value) {
                let end = inner.first().map_or(self.names.len(), |inner| inner.names_at);
                self.step(t, frame, end, &mut place);
            }
        }
        place
    }

    fn step(&self, t: &Tables, frame: &Frame, names_end: usize, place: &mut String) {
        match (frame.kind, frame.current) {
            (Kind::List, _) => {
                let _ = write!(place, "[{}]", frame.count.saturating_sub(1));
            }
            (Kind::Map, _) | (Kind::Message | Kind::AnyValue, UNKNOWN) => {
                let name = self.names.get(frame.names_at..names_end).unwrap_or_default();
                let name = String::from_utf8_lossy(name);
                let name: String = name.chars().take(KEY_CHARS_MAX).collect();
                push_name(place, &name);
            }
            (Kind::Message | Kind::AnyValue, TYPE) => push_name(place, "@type"),
            (Kind::AnyValue, VALUE) => push_name(place, "value"),
            (Kind::Message, NONE) => {}
            (Kind::Message, field) => push_name(place, &t.field(field).json_name),
            _ => {}
        }
    }

    /// Notes what a lenient switch drops here.
    pub(super) fn note_dropped(&mut self, t: &Tables) {
        if self.dropped.len() < DROPPED_MAX {
            let mut place = self.place(t);
            if place.len() > DROPPED_NAME_BYTES_MAX {
                let mut end = DROPPED_NAME_BYTES_MAX;
                while !place.is_char_boundary(end) {
                    end -= 1;
                }
                place.truncate(end);
            }
            self.dropped.push(place);
        }
    }
}

fn push_name(place: &mut String, name: &str) {
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(name);
}
