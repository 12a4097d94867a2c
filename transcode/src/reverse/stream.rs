//! A stream of messages out of an HTTP service's answer: a JSON array, one a line, or Server-Sent Events.
//!
//! ```text
//!  bytes ─► pieces of JSON ─► Said::Message, Said::Message, … | Said::Failed
//! ```

use bytes::Bytes;
use mesh_proto::google::rpc;
use serde_json::Value;

use super::Reverse;
use super::status::of_value;
use crate::split::{Framing, Splitter};
use crate::status::Code;
use crate::{Options, Refusal};

/// A part of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A message, as protobuf.
    Message(Vec<u8>),
    /// The stream failed, and says why. Nothing follows.
    Failed(rpc::Status),
}

/// Reads a streamed answer, in whatever pieces it comes.
pub struct Stream {
    reverse: Reverse,
    options: Options,
    source: Source,
}

enum Source {
    /// JSON of which nothing has come: an array, or grpc-gateway's lines.
    Unseen(usize),
    Json(Splitter),
    /// Lines that are called JSON: each has its message in an object of its own.
    Wrapped(Splitter),
    Events(Events),
}

impl Stream {
    /// Of an answer with this content type.
    ///
    /// # Errors
    /// 500: it is no stream of messages.
    pub fn new(reverse: Reverse, content_type: Option<&str>, options: &Options) -> Result<Self, Refusal> {
        let bytes_max = options.limits.message_bytes;
        let media = content_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        let source = if media.trim().eq_ignore_ascii_case("text/event-stream") {
            Source::Events(Events::new(bytes_max))
        } else {
            let framing = Framing::of(content_type)
                .map_err(|_| Refusal::bad_reply("the service's answer is no stream of JSON messages"))?;
            match framing {
                Framing::Array => Source::Unseen(bytes_max),
                Framing::Lines => Source::Json(Splitter::new(framing, bytes_max)),
            }
        };
        Ok(Self {
            reverse,
            options: options.clone(),
            source,
        })
    }

    /// More of the answer.
    pub fn push(&mut self, piece: Bytes) {
        if let Source::Unseen(bytes_max) = self.source
            && let Some(first) = piece.trim_ascii_start().first()
        {
            self.source = if *first == b'{' {
                Source::Wrapped(Splitter::new(Framing::Lines, bytes_max))
            } else {
                Source::Json(Splitter::new(Framing::Array, bytes_max))
            };
        }
        match &mut self.source {
            // White space before the first value.
            Source::Unseen(_) => {}
            Source::Json(splitter) | Source::Wrapped(splitter) => splitter.push(piece),
            Source::Events(events) => events.push(&piece),
        }
    }

    /// The next part, if all of it is there.
    ///
    /// # Errors
    /// 500: it is not what the schema says, or over the limit.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end where this only waits"
    )]
    pub fn next(&mut self) -> Result<Option<Said>, Refusal> {
        let (json, failed) = match &mut self.source {
            Source::Unseen(_) => return Ok(None),
            Source::Json(splitter) | Source::Wrapped(splitter) => {
                match splitter.next().map_err(|refusal| broken(&refusal))? {
                    Some(json) => (json, false),
                    None => return Ok(None),
                }
            }
            Source::Events(events) => match events.next()? {
                Some(event) => (event.data.into(), event.failed),
                None => return Ok(None),
            },
        };
        self.said(&json, failed).map(Some)
    }

    /// Whether the answer was complete where it ended; its last line needs no line end.
    ///
    /// # Errors
    /// 500: it broke off.
    pub fn finish(&mut self) -> Result<Option<Said>, Refusal> {
        let last = match &mut self.source {
            Source::Unseen(bytes_max) => {
                let mut nothing = Splitter::new(Framing::Array, *bytes_max);
                nothing.finish().map_err(|refusal| broken(&refusal))?;
                None
            }
            Source::Json(splitter) | Source::Wrapped(splitter) => {
                let last = splitter.finish().map_err(|refusal| broken(&refusal))?;
                last.map(|json| (json, false))
            }
            Source::Events(events) => events.finish()?.map(|event| (event.data.into(), event.failed)),
        };
        last.map(|(json, failed)| self.said(&json, failed)).transpose()
    }

    fn said(&self, json: &[u8], failed: bool) -> Result<Said, Refusal> {
        if failed {
            let value: Value = serde_json::from_slice(json).unwrap_or_default();
            let status = of_value(&value, None, Code::Unknown).unwrap_or_else(|| rpc::Status {
                code: Code::Unknown.number(),
                message: "the service's stream failed".into(),
                details: Vec::new(),
            });
            return Ok(Said::Failed(status));
        }
        if let Some(status) = self.reverse.error_line(json) {
            return Ok(Said::Failed(status));
        }
        let json = match self.reverse.result_line(json) {
            Some(result) => result,
            None if matches!(self.source, Source::Wrapped(_)) => {
                let why = "a stream of messages is a JSON array, not an object";
                return Err(Refusal::bad_reply(format!("the service's answer: {why}")));
            }
            None => json,
        };
        self.reverse.response(json, &self.options).map(Said::Message)
    }
}

fn broken(refusal: &Refusal) -> Refusal {
    Refusal::bad_reply(format!("the service's answer: {refusal}"))
}

/// A byte order mark. One may stand before events.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Server-Sent Events, as the HTML standard reads them: lines of `field: value`, an event up to a blank line.
struct Events {
    bytes_max: usize,
    /// Where a byte order mark would have stood is passed.
    begun: bool,
    text: Vec<u8>,
    /// Where in `text` the next line begins.
    at: usize,
    /// Up to where in `text` it is known that no line ends.
    seen: usize,
    data: Vec<u8>,
    has_data: bool,
    failed: bool,
}

struct Event {
    data: Vec<u8>,
    failed: bool,
}

impl Events {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            begun: false,
            text: Vec::new(),
            at: 0,
            seen: 0,
            data: Vec::new(),
            has_data: false,
            failed: false,
        }
    }

    fn next(&mut self) -> Result<Option<Event>, Refusal> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let event = Event {
                    data: std::mem::take(&mut self.data),
                    failed: std::mem::take(&mut self.failed),
                };
                if std::mem::take(&mut self.has_data) {
                    return Ok(Some(event));
                }
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                    self.check(self.data.len())?;
                }
                b"event" => self.failed = value == b"error",
                _ => {}
            }
        }
        Ok(None)
    }

    /// The event that a last `\r` ends: nothing follows it. One that no blank line ends counts for nothing.
    fn finish(&mut self) -> Result<Option<Event>, Refusal> {
        if self.text.last() == Some(&b'\r') {
            self.push(b"\n");
        }
        self.next()
    }

    fn push(&mut self, piece: &[u8]) {
        self.text.drain(..self.at);
        self.seen -= self.at;
        self.at = 0;
        self.text.extend_from_slice(piece);
    }

    /// The next whole line, without its end. A `\r` ends one only once it is known what follows.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        if !self.begun {
            if self.text.len() < MARK.len() && MARK.starts_with(&self.text) {
                return Ok(None);
            }
            self.begun = true;
            if self.text.starts_with(MARK) {
                (self.at, self.seen) = (MARK.len(), MARK.len());
            }
        }
        let ends = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let unseen = self.text.get(self.seen..).unwrap_or_default();
        let Some(end) = unseen.iter().position(ends).map(|at| at + self.seen) else {
            self.seen = self.text.len();
            return self.check(self.seen - self.at).map(|()| None);
        };
        let next = match (self.text.get(end), self.text.get(end + 1)) {
            (Some(b'\r'), None) => {
                self.seen = end;
                return Ok(None);
            }
            (Some(b'\r'), Some(b'\n')) => end + 2,
            _ => end + 1,
        };
        let line = self.text.get(self.at..end).unwrap_or_default().to_vec();
        (self.at, self.seen) = (next, next);
        Ok(Some(line))
    }

    fn check(&self, bytes: usize) -> Result<(), Refusal> {
        let bytes_max = self.bytes_max;
        if bytes > bytes_max {
            return Err(Refusal::bad_reply(format!(
                "a message of the service is over the limit of {bytes_max} bytes"
            )));
        }
        Ok(())
    }
}
