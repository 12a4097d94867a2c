//! Writes protobuf as JSON, in one pass, without a message in between.
//!
//! ```text
//!  message ─► ordered: fields as they come, each singular one once, each list in one run  (nearly always)
//!                └─ a field comes again, a oneof is filled twice … ─► taken back, and once more:
//!             careful: every message is looked through first; last wins, messages merge as parts, lists are gathered
//! ```
//!
//! Depth is counted here, through `Any`, before anything deeper is looked at. The careful way never takes anything back, so
//! that the cost of the worst message is that of reading it twice.

mod careful;
mod known;
mod map;
mod ordered;
mod scalar;

use super::text;
use crate::table::{Field, Message, Shape, Special, Tables};
use crate::wire::{self, Value};
use crate::{Limits, Options};

/// Why a message has no JSON form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fail {
    /// A field comes again: to be written the careful way.
    Disorder,
    /// These bytes are not the message the schema says.
    Broken,
    /// It nests too deep, or holds what JSON cannot say.
    Unsayable(String),
}

type Write<T> = Result<T, Fail>;

/// What a caller's switches say to the writer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) print_defaults: bool,
    pub(crate) proto_names: bool,
    pub(crate) enum_numbers: bool,
    pub(crate) strip_prefix: bool,
}

impl Settings {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            limits: options.limits,
            print_defaults: options.print_defaults,
            proto_names: options.proto_names,
            enum_numbers: options.enum_numbers,
            strip_prefix: options.enum_strip_prefix,
        }
    }
}

/// Appends a message. On an error, `out` is as it was.
///
/// # Errors
/// See [`Fail`]; never [`Fail::Disorder`].
pub(crate) fn message(
    t: &Tables,
    message: u32,
    content: &[u8],
    settings: Settings,
    out: &mut Vec<u8>,
) -> Write<()> {
    make_room(out, content);
    attempt(t, settings, out, |writer| writer.message(message, &[content]))
}

/// Appends the value of one field of a message; an absent one as its default, `null` where it is a message.
///
/// # Errors
/// As [`message`].
pub(crate) fn field(
    t: &Tables,
    message: u32,
    field: u32,
    content: &[u8],
    settings: Settings,
    out: &mut Vec<u8>,
) -> Write<()> {
    make_room(out, content);
    // The fields around it are looked through as well: a oneof beside it may have taken its place.
    attempt(t, settings, out, |writer| {
        writer.careful = true;
        writer.only(t.message(message), field, content)
    })
}

/// Names and quotes take about as much room again as the content. Growing by doubling would hold a large text twice; what is
/// set aside and not written to takes address space and no memory.
fn make_room(out: &mut Vec<u8>, content: &[u8]) {
    out.reserve(content.len().saturating_mul(2).saturating_add(16));
}

/// Appends an `Any` of this type and content.
///
/// # Errors
/// As [`message`].
pub(crate) fn any(
    t: &Tables,
    type_url: &str,
    content: &[u8],
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Write<()> {
    let options = Options {
        limits: *limits,
        ..Options::default()
    };
    attempt(t, Settings::of(&options), out, |writer| {
        writer.any_content(type_url.as_bytes(), content)
    })
}

fn attempt<'a>(
    t: &'a Tables,
    settings: Settings,
    out: &mut Vec<u8>,
    write: impl Fn(&mut Writer<'a, '_>) -> Write<()>,
) -> Write<()> {
    let start = out.len();
    let mut writer = Writer {
        t,
        settings,
        out,
        careful: false,
        depth: 0,
        any_depth: 0,
    };
    let mut written = write(&mut writer);
    // Part of a message alone may be wrong, and be right with what comes later: so any failure is looked into.
    if written.is_err() && !writer.careful {
        writer.out.truncate(start);
        writer.careful = true;
        writer.depth = 0;
        writer.any_depth = 0;
        written = write(&mut writer);
    }
    if written.is_err() {
        out.truncate(start);
    }
    written
}

struct Writer<'t, 'o> {
    t: &'t Tables,
    settings: Settings,
    out: &'o mut Vec<u8>,
    careful: bool,
    depth: usize,
    any_depth: usize,
}

impl Writer<'_, '_> {
    /// A message in whatever form its type has in JSON. `parts` are its occurrences, which merge by being read one after
    /// the other; there is one, but where a singular message stands several times.
    fn message(&mut self, index: u32, parts: &[&[u8]]) -> Write<()> {
        self.deeper()?;
        let t = self.t;
        let message = t.message(index);
        match message.special {
            Special::None | Special::Empty => {
                let start = self.out.len();
                self.fields(message, parts)?;
                self.braced(start);
            }
            special => self.known(message, special, parts)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// `,"a":1,"b":2`: each field with a comma before it.
    fn fields(&mut self, message: &Message, parts: &[&[u8]]) -> Write<()> {
        match parts {
            [content] if !self.careful => {
                let mut wire = *content;
                self.ordered(message, &mut wire, None)
            }
            _ => self.careful(message, parts),
        }
    }

    /// What was written since `start` are fields with commas before them: the first comma becomes the brace.
    fn braced(&mut self, start: usize) {
        match self.out.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }

    fn deeper(&mut self) -> Write<()> {
        self.depth += 1;
        let depth_max = self.settings.limits.proto_depth;
        if self.depth > depth_max {
            return Err(Fail::Unsayable(format!("messages nest deeper than {depth_max}")));
        }
        Ok(())
    }

    #[inline]
    fn key(&mut self, field: &Field) {
        let key = if self.settings.proto_names {
            &field.proto_key
        } else {
            &field.json_key
        };
        key.put(self.out);
    }

    /// Fields between the one expected next and this one, where such with default values are printed.
    fn defaults(&mut self, from: u32, to: u32) -> Write<()> {
        let t = self.t;
        for index in from..to {
            let field = t.field(index);
            if !field.presence && field.oneof == crate::table::NONE && !is_extension(field) {
                self.key(field);
                self.default(field)?;
            }
        }
        Ok(())
    }

    /// The value of an absent field.
    fn default(&mut self, field: &Field) -> Write<()> {
        match field.shape {
            Shape::List => self.text("[]"),
            Shape::Map => self.text("{}"),
            Shape::Singular if field.is_message() => self.text("null"),
            Shape::Singular => {
                let mut content = &*field.default;
                let value = match field.kind.wire_type() {
                    2 => Value::Bytes(content),
                    wire_type => wire::value(&mut content, 1, wire_type).ok_or(Fail::Broken)?,
                };
                self.scalar(field, value)?;
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) -> Write<()> {
        text::put_string(self.out, text).map_err(|()| Fail::Broken)
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

/// Extensions that are not set are not printed, whatever the switch says.
fn is_extension(field: &Field) -> bool {
    field.name.starts_with('[')
}
