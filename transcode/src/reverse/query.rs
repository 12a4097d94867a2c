//! What neither path nor body says, as a query.
//!
//! ```text
//!  { size: 3, inner: { name: "n" }, tags: ["a", "b"], names: { "k": "v" } }
//!        ─►  size=3&inner.name=n&tags=a&tags=b&names[k]=v
//! ```

use serde_json::{Map, Value};

use super::path::{escape, plain};
use crate::Refusal;
use crate::table::{Field, Kind, NONE, Shape, Special, Tables};

/// The query that says these members of a message.
///
/// # Errors
/// 501: one of them has no form there.
pub(super) fn of(t: &Tables, message: u32, members: &Map<String, Value>) -> Result<String, Refusal> {
    let mut query = Query {
        t,
        text: String::new(),
    };
    query.message(message, "", members)?;
    Ok(query.text)
}

/// A query in the making.
struct Query<'t> {
    t: &'t Tables,
    text: String,
}

impl Query<'_> {
    fn message(&mut self, message: u32, before: &str, members: &Map<String, Value>) -> Result<(), Refusal> {
        for (name, value) in members {
            let known = self
                .t
                .by_any_name(self.t.message(message), name.as_bytes())
                .map(|known| self.t.field(known));
            let place = format!("{before}{name}");
            match known {
                Some(field) => self.field(field, &place, value)?,
                None => return Err(unsayable(&place)),
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, place: &str, value: &Value) -> Result<(), Refusal> {
        match (field.shape, value) {
            (Shape::List, Value::Array(elements)) => {
                for element in elements {
                    let text = self.leaf(field, element).ok_or_else(|| unsayable(place))?;
                    self.add(place, None, &text);
                }
                Ok(())
            }
            (Shape::Map, Value::Object(entries)) => {
                let (_, of) = self.t.entry(field);
                let of = self.t.field(of);
                for (key, entry) in entries {
                    let text = self.leaf(of, entry).ok_or_else(|| unsayable(place))?;
                    self.add(place, Some(key), &text);
                }
                Ok(())
            }
            (_, Value::Object(members))
                if matches!(field.special, Special::None | Special::Empty) && field.is_message() =>
            {
                let before = self.text.len();
                self.message(field.of, &format!("{place}."), members)?;
                // That it was chosen is all that it says, and a query cannot.
                if self.text.len() == before && field.oneof != NONE {
                    return Err(unsayable(place));
                }
                Ok(())
            }
            _ => {
                let text = self.leaf(field, value).ok_or_else(|| unsayable(place))?;
                self.add(place, None, &text);
                Ok(())
            }
        }
    }

    /// One value as text.
    fn leaf(&self, field: &Field, value: &Value) -> Option<String> {
        match (field.kind, field.special) {
            (Kind::Message, Special::Struct | Special::Value | Special::ListValue) => Some(value.to_string()),
            (
                Kind::Message,
                Special::Timestamp | Special::Duration | Special::FieldMask | Special::Wrapper,
            ) => plain(value),
            (Kind::Message, _) => None,
            (Kind::Enum, _) if value.is_null() => Some("NULL_VALUE".into()),
            _ => plain(value),
        }
    }

    fn add(&mut self, name: &str, key: Option<&str>, text: &str) {
        if !self.text.is_empty() {
            self.text.push('&');
        }
        escape(&mut self.text, name, b"");
        if let Some(key) = key {
            self.text.push('[');
            escape(&mut self.text, key, b"");
            self.text.push(']');
        }
        self.text.push('=');
        escape(&mut self.text, text, b"");
    }
}

fn unsayable(place: &str) -> Refusal {
    Refusal::unimplemented("has no form in a query, which is where the method's rule puts it").at_field(place)
}
