//! Cuts a client stream's body into its messages, whatever pieces it comes in.
//!
//! ```text
//!  application/json      [ {…} , {…} , … ]     each element of the one array is a message; anything else at the top is refused
//!  application/x-ndjson  {…}\n{…}\n            each line that is not blank is a message
//!  an empty body                               an empty stream
//! ```
//!
//! Only where messages begin and end is looked at: strings, escapes and brackets. What is in them is for the JSON reader to
//! judge. A message is handed out as soon as its last byte is there; no more than one is ever held, and the limit counts
//! for each.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::charset::is_utf8;
use crate::refusal::Refusal;

/// How the messages of a client stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `application/json`: one array.
    Array,
    /// `application/x-ndjson`: one message a line.
    Lines,
}

impl Framing {
    /// By the request's content type; what is missing is JSON.
    ///
    /// # Errors
    /// 415: it is neither.
    pub fn of(content_type: Option<&str>) -> Result<Self, Refusal> {
        let Some(content_type) = content_type else {
            return Ok(Framing::Array);
        };
        let media = content_type.split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        let refuse = |message: &str| {
            Err(Refusal {
                message: message.into(),
                ..Refusal::unsupported_media_type()
            })
        };
        if !is_utf8(content_type) {
            return refuse("a stream of messages is UTF-8");
        }
        match media.as_str() {
            "application/json" => Ok(Framing::Array),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Framing::Lines),
            _ => refuse(
                "a stream of messages is sent as application/json (an array) or application/x-ndjson (one a line)",
            ),
        }
    }
}

/// Where the splitter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the array's `[`.
    Start,
    /// Behind `[`: an element, or `]`.
    First,
    /// Behind `,`: an element.
    Element,
    /// Inside of an element, or of a line.
    Inside,
    /// Behind an element: `,` or `]`.
    Behind,
    /// Behind the array.
    Over,
}

/// Splits one body. Feed it with [`Splitter::push`], take messages with [`Splitter::next`] until there is none, and say
/// [`Splitter::finish`] at the end of the body.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    bytes_max: usize,
    input: VecDeque<Bytes>,
    /// The message in the making, as far as it came in earlier pieces.
    held: BytesMut,
    at: At,
    /// Brackets that are open inside of the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Bytes of the body before what is still in `input`, for places in refusals.
    offset: usize,
    /// Where the message that was handed out last begins.
    began: usize,
    messages: u64,
}

impl Splitter {
    /// Of messages of at most this many bytes.
    #[must_use]
    pub fn new(framing: Framing, bytes_max: usize) -> Self {
        Self {
            framing,
            bytes_max,
            input: VecDeque::new(),
            held: BytesMut::new(),
            at: match framing {
                Framing::Array => At::Start,
                Framing::Lines => At::Inside,
            },
            depth: 0,
            in_string: false,
            escaped: false,
            offset: 0,
            began: 0,
            messages: 0,
        }
    }

    /// More of the body.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.input.push_back(bytes);
        }
    }

    /// How many messages were handed out.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Where in the body the message begins that was handed out last, in bytes from its start.
    #[must_use]
    pub fn began(&self) -> usize {
        self.began
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// 400: what is there is no stream of messages. 413: a message is over the limit.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end where this only waits"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(piece) = self.input.front_mut() else {
                return Ok(None);
            };
            let piece = std::mem::take(piece);
            let step = match self.framing {
                Framing::Lines => self.line(&piece)?,
                Framing::Array => self.array(&piece)?,
            };
            let used = match step {
                Step::Skip(used) => used,
                Step::Keep(used) => {
                    self.keep(piece.get(..used).unwrap_or_default())?;
                    used
                }
                Step::Found { end, used } => {
                    if self.held.len() + end > self.bytes_max {
                        return Err(self.too_large());
                    }
                    let message = if self.held.is_empty() {
                        piece.slice(..end)
                    } else {
                        self.held.extend_from_slice(piece.get(..end).unwrap_or_default());
                        self.held.split().freeze()
                    };
                    self.began = (self.offset + end).saturating_sub(message.len());
                    self.eat(piece, used);
                    if message.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    self.messages += 1;
                    return Ok(Some(message));
                }
            };
            self.eat(piece, used);
        }
    }

    /// Whether the body was complete where it ended. The last line of NDJSON needs no line end: it is given back here.
    ///
    /// # Errors
    /// 400: it ends within the array or within a message.
    pub fn finish(&mut self) -> Result<Option<Bytes>, Refusal> {
        let broken = |why: &str| Err(Refusal::bad_request(why).at_offset(self.offset));
        match (self.framing, self.at) {
            (Framing::Array, At::Start | At::Over) => Ok(None),
            (Framing::Array, _) => broken("the body ends within its array"),
            (Framing::Lines, _) => {
                let last = self.held.split().freeze();
                self.began = self.offset.saturating_sub(last.len());
                if last.iter().all(u8::is_ascii_whitespace) {
                    return Ok(None);
                }
                self.messages += 1;
                Ok(Some(last))
            }
        }
    }

    fn eat(&mut self, mut piece: Bytes, used: usize) {
        self.offset += used;
        piece.advance(used);
        if piece.is_empty() {
            self.input.pop_front();
        } else if let Some(front) = self.input.front_mut() {
            *front = piece;
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.held.len() + bytes.len() > self.bytes_max {
            return Err(self.too_large());
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        Refusal {
            message: format!("is over {} bytes", self.bytes_max),
            ..Refusal::too_large(self.bytes_max).at_field(format!("[{}]", self.messages))
        }
    }

    fn line(&mut self, piece: &[u8]) -> Result<Step, Refusal> {
        if self.offset == 0 && self.held.is_empty() {
            self.no_byte_order_mark(piece)?;
        }
        Ok(match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => Step::Found { end, used: end + 1 },
            None => Step::Keep(piece.len()),
        })
    }

    fn no_byte_order_mark(&self, piece: &[u8]) -> Result<(), Refusal> {
        match piece.first() {
            Some(0xef) => Err(Refusal::bad_request("the body begins with a byte order mark").at_offset(0)),
            _ => Ok(()),
        }
    }

    fn array(&mut self, piece: &[u8]) -> Result<Step, Refusal> {
        if self.at == At::Inside {
            return Ok(self.inside(piece));
        }
        let blank = piece.iter().take_while(|byte| is_blank(**byte)).count();
        let Some(byte) = piece.get(blank) else {
            return Ok(Step::Skip(piece.len()));
        };
        let wrong = |why: &str| Err(Refusal::bad_request(why).at_offset(self.offset + blank));
        let next = match (self.at, byte) {
            (At::Start, b'[') => At::First,
            (At::Start, b'{') => return wrong("a stream of messages is a JSON array, not an object"),
            (At::Start, 0xef) => return wrong("the body begins with a byte order mark"),
            (At::Start, _) => return wrong("a stream of messages is a JSON array"),
            (At::First | At::Behind, b']') => At::Over,
            (At::Behind, b',') => At::Element,
            (At::Behind, _) => return wrong("expected , or ] behind a message"),
            (At::Over, _) => return wrong("there is more behind the array"),
            (At::First | At::Element, b',' | b']' | b'}' | b':') => return wrong("expected a message"),
            (At::First | At::Element | At::Inside, _) => {
                self.at = At::Inside;
                (self.depth, self.in_string, self.escaped) = (0, false, false);
                if blank == 0 {
                    return Ok(self.inside(piece));
                }
                return Ok(Step::Skip(blank));
            }
        };
        self.at = next;
        Ok(Step::Skip(blank + 1))
    }

    /// Looks for the end of an element: a `,` or `]` with nothing open.
    fn inside(&mut self, piece: &[u8]) -> Step {
        for (index, byte) in piece.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        // An object is over with its bracket: whoever listens need not wait for the next one.
                        self.at = At::Behind;
                        return Step::Found {
                            end: index + 1,
                            used: index + 1,
                        };
                    }
                }
                b',' | b']' if self.depth == 0 => {
                    self.at = At::Behind;
                    return Step::Found {
                        end: index,
                        used: index,
                    };
                }
                _ => {}
            }
        }
        Step::Keep(piece.len())
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// What was found in a piece.
enum Step {
    /// Nothing that belongs to a message.
    Skip(usize),
    /// A part of one.
    Keep(usize),
    /// The end of one.
    Found { end: usize, used: usize },
}

#[cfg(test)]
mod tests;
