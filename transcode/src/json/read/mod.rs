//! Reads JSON text and writes protobuf, in one pass, led by tables, without a message in between.
//!
//! ```text
//!  piece ─► run ─┬─ key ────► which field, seen before? in the path?          Slot: what the next value fills
//!                ├─ value ──► number, word, short string ─► Out               Frame: an object or array that is open
//!                ├─ string ─► a long or escaped one, as it comes ─► Out       (a stack of our own, no recursion)
//!                └─ after ──► comma, or the frame is closed ─► Out
//! ```
//!
//! What a piece breaks off in the midst of is kept for the next piece: a number or word whole, a string by its last few
//! bytes. An object of an `Any` is kept only until its `@type` is seen.

mod any;
mod bound;
mod frame;
mod key;
mod members;
mod place;
mod scalar;
mod string;
mod value;

use std::collections::{HashMap, HashSet};
use std::mem;

pub(crate) use bound::{Bounds, Woven, put_message, put_value};

use self::any::Look;
use self::frame::{Frame, Kind};
use self::string::Reading;
use super::leaf::How;
use super::out::{Mark, Out};
use crate::table::{NONE, Tables};
use crate::{Limits, Options, Refusal, UnknownInput};

type Read<T> = Result<T, Refusal>;

/// Room that ordinary bodies do not outgrow: of frames, and of the names they are at.
const STACK_FRAMES: usize = 6;
const NAMES_BYTES: usize = 96;

/// Room beside the text's own length, for what path and query add and for lengths of more than a byte.
const EXPECTED_SPARE_BYTES: usize = 64;

/// What a caller's switches say to the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) reject_unknown: bool,
    pub(crate) duplicates: bool,
    pub(crate) how: How,
}

impl Settings {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            limits: options.limits,
            reject_unknown: options.unknown_fields == UnknownInput::Reject,
            duplicates: options.duplicate_keys,
            how: options.how(),
        }
    }
}

/// Where in the text we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value: `slot` says which.
    Value,
    /// After `{`.
    FirstKey,
    /// After a comma in an object.
    Key,
    Colon,
    /// After `[`.
    FirstElement,
    /// After a value.
    After,
    /// In a string: `reading` says which.
    String,
    Done,
}

/// What the next value fills.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// [`NONE`]: a message without a field around it, or nothing at all (`message` is [`NONE`] too).
    field: u32,
    message: u32,
    /// The key goes before the value.
    key: bool,
    /// A default value is written too.
    explicit: bool,
    /// The field as such, which may be a list, a map or `null`; otherwise one value.
    whole: bool,
    /// Paths of what it holds are noted.
    mask: bool,
    /// Where the path's values lie within; [`bound::FREE`]: there are none.
    bound: u16,
}

impl Slot {
    const SKIP: Slot = Slot {
        field: NONE,
        message: NONE,
        key: false,
        explicit: false,
        whole: false,
        mask: false,
        bound: bound::FREE,
    };

    fn message(message: u32) -> Self {
        Self {
            message,
            ..Self::SKIP
        }
    }

    fn skips(self) -> bool {
        self.field == NONE && self.message == NONE
    }
}

/// Reads one JSON value.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    state: State,
    slot: Slot,
    stack: Vec<Frame>,
    out: Out,
    /// Bytes of all pieces.
    total: usize,
    /// Bytes before the piece that is being read.
    base: usize,
    /// What of the last piece was not used up.
    tail: Vec<u8>,
    reading: Reading,
    look: Option<Look>,
    json_depth: usize,
    proto_depth: usize,
    any_depth: usize,
    /// Bits of fields seen, of messages that need more than 64.
    bits: Vec<u64>,
    /// Where the keys of open maps stand in the message.
    keys: Vec<key::Written>,
    /// The keys of long maps, by hash.
    sets: Vec<HashMap<u64, u32>>,
    /// Keys that name no field, of the frames that have seen such.
    unknown: Vec<HashSet<Box<[u8]>>>,
    /// Text of the keys that open frames are at.
    names: Vec<u8>,
    /// Where fields stand that may be written again.
    emitted: Vec<key::Emitted>,
    /// The field of the body, where that is not the whole message.
    root: u32,
    bounds: Bounds,
    check: Option<bound::Check>,
    /// Paths of the fields of the body, in proto names, as the content of a field mask.
    mask: Vec<u8>,
    dropped: Vec<String>,
}

impl Machine {
    /// Reads a whole message of this type.
    pub(crate) fn of_message(message: u32, settings: Settings) -> Self {
        Self::new(Slot::message(message), settings, Bounds::default())
    }

    /// Reads the body of a request: the whole message, or one field of it. With `mask`, the paths of its fields are noted.
    pub(crate) fn of_body(
        tables: &Tables,
        message: u32,
        field: Option<u32>,
        bounds: Bounds,
        mask: bool,
        settings: Settings,
    ) -> Self {
        let Some(field) = field else {
            let slot = Slot {
                bound: bounds.root(),
                ..Slot::message(message)
            };
            return Self::new(slot, settings, bounds);
        };
        let slot = Slot {
            field,
            message: tables.field(field).of,
            key: true,
            explicit: tables.field(field).presence,
            whole: true,
            mask,
            bound: bound::FREE,
        };
        let root = bounds.root();
        let mut machine = Self::new(slot, settings, bounds);
        machine.root = field;
        machine.proto_depth = 1;
        machine.bind(root, field, 0);
        machine
    }

    fn new(slot: Slot, settings: Settings, bounds: Bounds) -> Self {
        Self {
            settings,
            state: State::Value,
            slot,
            stack: Vec::with_capacity(STACK_FRAMES),
            out: Out::default(),
            total: 0,
            base: 0,
            tail: Vec::new(),
            reading: Reading::default(),
            look: None,
            json_depth: 0,
            proto_depth: 0,
            any_depth: 0,
            bits: Vec::new(),
            keys: Vec::new(),
            sets: Vec::new(),
            unknown: Vec::new(),
            names: Vec::with_capacity(NAMES_BYTES),
            emitted: Vec::new(),
            root: NONE,
            bounds,
            check: None,
            mask: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Whether any text came.
    pub(crate) fn started(&self) -> bool {
        self.total > 0
    }

    /// Sets room aside for what so many bytes of text become, which is hardly ever more.
    pub(crate) fn expect(&mut self, bytes: usize) {
        let bytes = bytes.min(self.settings.limits.message_bytes);
        self.out.bytes.reserve(bytes + EXPECTED_SPARE_BYTES);
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, tables: &Tables, piece: &[u8]) -> Read<()> {
        self.total = self.total.saturating_add(piece.len());
        if self.total > self.settings.limits.message_bytes {
            return Err(Refusal::too_large(self.settings.limits.message_bytes));
        }
        if self.tail.is_empty() {
            self.out.bytes.reserve(piece.len());
            let used = self.run(tables, piece, false)?;
            self.base += used;
            self.tail.extend_from_slice(piece.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut tail = mem::take(&mut self.tail);
        tail.extend_from_slice(piece);
        let used = self.run(tables, &tail, false)?;
        self.base += used;
        tail.drain(..used);
        self.tail = tail;
        Ok(())
    }

    /// The text is complete; the message in protobuf.
    pub(crate) fn finish(&mut self, tables: &Tables) -> Read<Vec<u8>> {
        let tail = mem::take(&mut self.tail);
        let used = self.run(tables, &tail, true)?;
        self.base += used;
        if self.state != State::Done {
            let why = self.unfinished(tables);
            return self.refuse(tables, 0, why);
        }
        Ok(mem::take(&mut self.out).finish())
    }

    /// Paths of what lenient switches dropped.
    pub(crate) fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Paths of the fields of the body, in proto names, as the content of a field mask.
    pub(crate) fn mask(&mut self) -> Vec<u8> {
        mem::take(&mut self.mask)
    }

    /// Reads what it can of `b`; gives how much that was. `last`: nothing will follow.
    fn run(&mut self, t: &Tables, b: &[u8], last: bool) -> Read<usize> {
        let mut at = 0;
        loop {
            if self.state != State::String {
                at = space(b, at);
            }
            let Some(byte) = b.get(at).copied() else { break };
            if byte == b'"' && matches!(self.state, State::Key | State::FirstKey) {
                at = self.members(t, b, at);
                if self.state == State::After || b.get(at) != Some(&b'"') {
                    continue;
                }
            }
            let goes_on = match self.state {
                State::After => self.after(t, byte, &mut at)?,
                State::Key => self.key(t, b, &mut at)?,
                State::Value => self.value(t, b, &mut at, last)?,
                State::Colon => self.colon(t, byte, &mut at)?,
                State::String => self.string(t, b, &mut at)?,
                State::FirstKey if byte == b'}' => self.close(t, &mut at)?,
                State::FirstKey => self.key(t, b, &mut at)?,
                State::FirstElement if byte == b']' => self.close(t, &mut at)?,
                State::FirstElement => self.element(t, at)?,
                State::Done => return self.refuse(t, at, "something follows the JSON value"),
            };
            if !goes_on {
                break;
            }
        }
        Ok(at)
    }

    fn colon(&mut self, t: &Tables, byte: u8, at: &mut usize) -> Read<bool> {
        if byte != b':' {
            return self.refuse(t, *at, "a colon is missing");
        }
        *at += 1;
        self.state = State::Value;
        Ok(true)
    }

    /// After a value: a comma, or the end of the frame.
    fn after(&mut self, t: &Tables, byte: u8, at: &mut usize) -> Read<bool> {
        if self.out.len() > self.settings.limits.message_bytes {
            return Err(Refusal::too_large(self.settings.limits.message_bytes));
        }
        let Some(frame) = self.stack.last() else {
            return self.refuse(t, *at, "something follows the JSON value");
        };
        match (byte, frame.kind.is_array()) {
            (b',', false) => {
                *at += 1;
                self.state = State::Key;
                Ok(true)
            }
            (b',', true) => {
                *at += 1;
                self.element(t, *at)
            }
            (b'}', false) | (b']', true) => self.close(t, at),
            (_, false) => self.refuse(t, *at, "an object is not closed"),
            (_, true) => self.refuse(t, *at, "an array is not closed"),
        }
    }

    /// The next value is an element of the array that is open.
    fn element(&mut self, t: &Tables, at: usize) -> Read<bool> {
        let elements_max = self.settings.limits.elements;
        if let Some(frame) = self.stack.last_mut() {
            self.slot = match frame.kind {
                Kind::List => {
                    if frame.count as usize >= elements_max {
                        return self.refuse(t, at, format!("has more than {elements_max} elements"));
                    }
                    frame.count += 1;
                    let field = t.field(frame.field);
                    Slot {
                        field: frame.field,
                        message: field.of,
                        key: !field.packed,
                        explicit: true,
                        ..Slot::SKIP
                    }
                }
                _ => Slot::SKIP,
            };
        }
        self.state = State::Value;
        Ok(true)
    }

    /// One whole value was read: the frame around it goes on, or the text is done.
    #[inline]
    fn value_done(&mut self, t: &Tables) -> Read<()> {
        if self.check.is_some() {
            self.compare(t)?;
        }
        loop {
            let Some(frame) = self.stack.last() else {
                self.state = State::Done;
                return Ok(());
            };
            match frame.kind {
                Kind::Around => self.pop(t),
                Kind::Map => {
                    self.out.close(frame.entry);
                    break;
                }
                _ => break,
            }
        }
        if self.settings.duplicates {
            self.note_emitted(t);
        }
        self.state = State::After;
        Ok(())
    }

    /// What is missing at the end of the text.
    fn unfinished(&self, t: &Tables) -> &'static str {
        match self.state {
            State::String => "a string is not closed",
            State::Colon => "a colon is missing",
            State::Value => self.wanted(t),
            _ if self.stack.last().is_some_and(|frame| frame.kind.is_array()) => "an array is not closed",
            _ => "an object is not closed",
        }
    }
}

/// Where the next byte stands that is not space.
#[inline]
fn space(b: &[u8], mut at: usize) -> usize {
    while matches!(b.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The mark before an entry's key, from the one after it was opened.
fn before_entry(entry: Mark, key: &[u8]) -> Mark {
    entry.moved_to(entry.at.saturating_sub(key.len() + 1))
}
