//! Query parameters, as fields: `order.legs.size=3&tags=a&tags=b&labels[color]=red`, and the tree they make with the path.

use crate::json::leaf;
use crate::json::read::{self, Bounds, Machine, Woven, put_message, put_value};
use crate::percent::{self, Decode};
use crate::schema::Body;
use crate::table::{Field, Kind, NONE, Shape, Special, Tables};
use crate::{DROPPED_MAX, DROPPED_NAME_BYTES_MAX, Options, Refusal, UnknownInput};

type Read<T> = Result<T, Refusal>;

/// The fields that path and query have filled.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    branches: Vec<(u32, Branch)>,
}

#[derive(Debug)]
enum Branch {
    /// Values as they stand on the wire, keys included, and how many there are.
    Values(Vec<u8>, usize),
    Entries(Vec<Entry>),
    Message(Tree),
}

/// An entry of a map: its key, and the content of both.
#[derive(Debug)]
struct Entry {
    key: Vec<u8>,
    content: Vec<u8>,
}

impl Tree {
    /// Whether this field of the request message is filled.
    pub(crate) fn has(&self, field: u32) -> bool {
        self.branches.iter().any(|(known, _)| *known == field)
    }

    /// Puts a value of the path, or of a header, in.
    ///
    /// # Errors
    /// It stands in one oneof with another.
    pub(crate) fn put_bound(&mut self, t: &Tables, bound: &Woven) -> Read<()> {
        let Some((last, parents)) = bound.fields.split_last() else {
            return Ok(());
        };
        let field = t.field(*last);
        let tree = self
            .enter(t, parents)
            .map_err(|refusal| refusal.at_field(&bound.name))?;
        tree.one_of(t, *last)
            .map_err(|refusal| refusal.at_field(&bound.name))?;
        let mut value = Vec::new();
        put_value(field, &bound.content, &mut value);
        tree.branches.push((*last, Branch::Values(value, 1)));
        Ok(())
    }

    /// Refuses a field whose oneof holds another member.
    pub(crate) fn one_of(&self, t: &Tables, index: u32) -> Read<()> {
        let oneof = t.field(index).oneof;
        let other = self
            .branches
            .iter()
            .map(|(other, _)| *other)
            .find(|other| oneof != NONE && *other != index && t.field(*other).oneof == oneof);
        match other {
            None => Ok(()),
            Some(other) => refuse(format!(
                "stands beside {}; only one of them may be given",
                t.field(other).name
            )),
        }
    }

    /// The tree at the end of the way, made where it is missing.
    fn enter(&mut self, t: &Tables, way: &[u32]) -> Read<&mut Tree> {
        let mut tree = self;
        for index in way {
            tree.one_of(t, *index)?;
            match tree.branch(*index, || Branch::Message(Tree::default())) {
                Branch::Message(inner) => tree = inner,
                _ => {
                    return refuse(format!(
                        "goes through {}, which has a value",
                        t.field(*index).name
                    ));
                }
            }
        }
        Ok(tree)
    }

    fn branch(&mut self, index: u32, make: impl FnOnce() -> Branch) -> &mut Branch {
        let position = self.branches.iter().position(|(known, _)| *known == index);
        let position = position.unwrap_or_else(|| {
            self.branches.push((index, make()));
            self.branches.len() - 1
        });
        &mut self.branches[position].1
    }

    /// Writes the fields, but for messages that the body has, in which they stand already. Nesting has the limit of query
    /// parameters and path templates.
    pub(crate) fn write(&self, t: &Tables, bounds: Option<&Bounds>, out: &mut Vec<u8>) {
        for (index, branch) in &self.branches {
            let field = t.field(*index);
            match branch {
                Branch::Values(values, _) => out.extend_from_slice(values),
                Branch::Entries(entries) => {
                    for entry in entries {
                        put_message(field, &entry.content, out);
                    }
                }
                Branch::Message(_)
                    if bounds.is_some_and(|bounds| bounds.in_body(bounds.child(bounds.root(), *index))) => {}
                Branch::Message(tree) => {
                    let mut content = Vec::new();
                    tree.write(t, None, &mut content);
                    put_message(field, &content, out);
                }
            }
        }
    }
}

/// Fills `woven` from a raw query. `bound` are the fields of the path; `body` is what only the body may fill.
///
/// # Errors
/// A 400 that names the parameter.
#[allow(clippy::too_many_arguments)] // one call, and all of it is needed for each parameter
pub(crate) fn fill(
    t: &Tables,
    message: u32,
    woven: &mut Tree,
    query: &str,
    bound: &[Woven],
    body: &Body,
    options: &Options,
    dropped: &mut Vec<String>,
) -> Read<()> {
    let filler = Filler {
        t,
        message,
        bound,
        body,
        options,
    };
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let name = filler.decode(name, "query parameter")?;
        let value = filler.decode(value, &name)?;
        if name.is_empty() {
            continue;
        }
        let taken = filler
            .parameter(woven, &name, &value)
            .map_err(|refusal| refusal.at_field(cut(&name)))?;
        if !taken && dropped.len() < DROPPED_MAX {
            dropped.push(cut(&name));
        }
    }
    Ok(())
}

struct Filler<'a> {
    t: &'a Tables,
    message: u32,
    bound: &'a [Woven],
    body: &'a Body,
    options: &'a Options,
}

/// The field a parameter names: the way to it, and the key where it is a map's entry.
struct Named<'n> {
    fields: Vec<u32>,
    key: Option<&'n str>,
}

impl Filler<'_> {
    fn decode(&self, text: &str, name: &str) -> Read<String> {
        let spaced = if self.options.literal_plus || !text.contains('+') {
            std::borrow::Cow::Borrowed(text)
        } else {
            text.replace('+', " ").into()
        };
        percent::decode(&spaced, Decode::All)
            .map(std::borrow::Cow::into_owned)
            .map_err(|why| Refusal::bad_request(why).at_field(cut(name)))
    }

    /// Puts one parameter in; `false`: it was dropped.
    fn parameter(&self, woven: &mut Tree, name: &str, text: &str) -> Read<bool> {
        let unknown = |why: &str| {
            let ignored = self.options.unknown_query == UnknownInput::Ignore
                || self.options.ignored_query.iter().any(|ignored| ignored == name);
            if ignored { Ok(false) } else { refuse(why) }
        };
        let Some(named) = self.resolve(name)? else {
            return unknown("there is no such field");
        };
        let Some((last, parents)) = named.fields.split_last() else {
            return unknown("there is no such field");
        };
        let field = self.t.field(*last);
        // The text of a wrapper is its value's, and that is what is bound.
        let inner = (field.special == Special::Wrapper && named.key.is_none())
            .then(|| self.t.message(field.of).first);
        let is_named = |bound: &&Woven| {
            bound.fields == named.fields
                || bound
                    .fields
                    .split_last()
                    .is_some_and(|(last, before)| Some(*last) == inner && before == named.fields.as_slice())
        };
        if let Some(bound) = self.bound.iter().find(is_named) {
            let field = bound.fields.last().map_or(field, |last| self.t.field(*last));
            return match leaf::content_from_text(self.t, field, text.as_bytes(), self.options.strict()) {
                Ok(content) if content == bound.content => Ok(true),
                _ => refuse(bound.differs()),
            };
        }
        let of_body = match self.body {
            Body::None => false,
            Body::Whole => true,
            Body::Field(body) => named.fields.first() == Some(body),
        };
        if of_body {
            return unknown("belongs into the body");
        }
        if let Some(key) = named.key {
            let entry = self.entry(field, key, text)?;
            return woven
                .enter(self.t, parents)?
                .put_entry(*last, entry, self.options.limits.elements);
        }
        let seen = woven.enter(self.t, parents)?;
        if seen.has(*last) && field.shape != Shape::List {
            return refuse("is given twice");
        }
        let value = self.value(field, text).or_else(refuse)?;
        seen.one_of(self.t, *last)?;
        seen.put_value(*last, &value, self.options.limits.elements)
    }

    /// The way to the field a parameter names, in proto or JSON names. `None`: there is no such field.
    fn resolve<'n>(&self, name: &'n str) -> Read<Option<Named<'n>>> {
        let (way, key) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((way, key)) => (way, Some(key)),
            None => (name, None),
        };
        let depth_max = self.options.limits.query_depth;
        if way.split('.').count() > depth_max {
            return refuse(format!("nests deeper than {depth_max}"));
        }
        let mut fields: Vec<u32> = Vec::new();
        for part in way.split('.') {
            let parent = match fields.last().map(|index| self.t.field(*index)) {
                None => self.message,
                Some(field) if field.shape == Shape::Map => return refuse("goes into a map"),
                Some(field) if field.shape == Shape::List => {
                    return refuse(format!("goes through {}, which is repeated", field.name));
                }
                Some(field) if field.is_message() => {
                    // Its fields, one by one, would be values that its own form does not have.
                    let special = self.t.message(field.of).special;
                    if !matches!(special, Special::None | Special::Empty | Special::Wrapper) {
                        return refuse(format!("goes into {}, which is written as one value", field.name));
                    }
                    field.of
                }
                Some(field) => return refuse(format!("goes through {}, which has no fields", field.name)),
            };
            match self.t.by_any_name(self.t.message(parent), part.as_bytes()) {
                Some(field) => fields.push(field),
                None => return Ok(None),
            }
        }
        if let Some(last) = fields.last().map(|index| self.t.field(*index))
            && key.is_some()
            && last.shape != Shape::Map
        {
            return refuse(format!("{} is no map and takes no key in brackets", last.name));
        }
        Ok(Some(Named { fields, key }))
    }

    /// A value as it stands on the wire, key included; empty where a default value is left out.
    fn value(&self, field: &Field, text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        match (field.shape, field.kind) {
            (Shape::Map, _) => {
                return Err(format!("is a map: write {0}[key]=value", field.json_name));
            }
            (Shape::List, Kind::Message) => {
                return Err("is a list of messages and takes no query parameter".into());
            }
            (_, Kind::Message) => put_message(field, &self.message(field, text)?, &mut out),
            (shape, _) => {
                let leaf = leaf::from_text(self.t, field, text.as_bytes(), self.options.strict())?;
                if shape == Shape::List && field.packed {
                    let mut content = Vec::new();
                    leaf.put(&mut content);
                    put_message(field, &content, &mut out);
                } else if shape == Shape::List || field.presence || !leaf.is_default() {
                    out.extend_from_slice(field.key());
                    leaf.put(&mut out);
                }
            }
        }
        Ok(out)
    }

    /// The content of a message that has a form as text.
    fn message(&self, field: &Field, text: &str) -> Result<Vec<u8>, String> {
        let message = self.t.message(field.of);
        match field.special {
            Special::Timestamp | Special::Duration | Special::FieldMask => {
                leaf::message_from_text(field.special, text.as_bytes())
            }
            Special::Wrapper => {
                let value = self.t.field(message.first);
                let leaf = leaf::from_text(self.t, value, text.as_bytes(), self.options.strict())?;
                let mut out = Vec::new();
                if !leaf.is_default() {
                    out.extend_from_slice(value.key());
                    leaf.put(&mut out);
                }
                Ok(out)
            }
            Special::Struct | Special::Value | Special::ListValue => {
                let mut machine = Machine::of_message(field.of, read::Settings::of(self.options));
                machine
                    .push(self.t, text.as_bytes())
                    .and_then(|()| machine.finish(self.t))
                    .map_err(|refusal| format!("must be JSON: {refusal}"))
            }
            _ => Err(format!("is a {} and takes no plain value", message.full_name)),
        }
    }

    /// An entry of a map.
    fn entry(&self, map: &Field, key: &str, text: &str) -> Read<Entry> {
        let (key_field, value_field) = self.t.entry(map);
        let (key_field, value_field) = (self.t.field(key_field), self.t.field(value_field));
        let mut content = Vec::new();
        let key = leaf::from_text(self.t, key_field, key.as_bytes(), leaf::How::default())
            .or_else(|why| refuse(format!("as a key {why}")))?;
        content.extend_from_slice(key_field.key());
        key.put(&mut content);
        let key = content.clone();
        if value_field.is_message() {
            let value = self.message(value_field, text).or_else(refuse)?;
            put_message(value_field, &value, &mut content);
        } else {
            let value = leaf::from_text(self.t, value_field, text.as_bytes(), self.options.strict());
            content.extend_from_slice(value_field.key());
            value.or_else(refuse)?.put(&mut content);
        }
        Ok(Entry { key, content })
    }
}

impl Tree {
    fn put_value(&mut self, index: u32, value: &[u8], elements_max: usize) -> Read<bool> {
        match self.branch(index, || Branch::Values(Vec::new(), 0)) {
            Branch::Values(_, count) if *count >= elements_max => {
                refuse(format!("has more than {elements_max} elements"))
            }
            Branch::Values(values, count) => {
                values.extend_from_slice(value);
                *count += 1;
                Ok(true)
            }
            // A field of it was given before.
            _ => refuse("is given twice"),
        }
    }

    fn put_entry(&mut self, index: u32, entry: Entry, elements_max: usize) -> Read<bool> {
        match self.branch(index, || Branch::Entries(Vec::new())) {
            Branch::Entries(entries) if entries.len() >= elements_max => {
                refuse(format!("has more than {elements_max} elements"))
            }
            Branch::Entries(entries) if entries.iter().all(|known| known.key != entry.key) => {
                entries.push(entry);
                Ok(true)
            }
            _ => refuse("is given twice"),
        }
    }
}

fn cut(name: &str) -> String {
    name.chars().take(DROPPED_NAME_BYTES_MAX).collect()
}

fn refuse<T>(why: impl Into<String>) -> Read<T> {
    Err(Refusal::bad_request(why))
}
