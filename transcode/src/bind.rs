//! A recognised call's request and response: path, body and query into one message, and a message into JSON.
//!
//! ```text
//!  path ──► bound ─┬─► woven (a tree, each field once) ──► protobuf ──┐
//!  query ──────────┘                                                  ├─► one message: its parts one after the other
//!  body ──► machine (may repeat what is bound, not contradict it) ────┘
//! ```
//!
//! Each field has one source: those of the path come from the path, those of `body` from the body, the rest from the
//! query. A header that stands for a field is bound like a part of the path, where it is there.

use std::sync::Arc;

use crate::charset::is_utf8;
use crate::json::leaf;
use crate::json::read::{self, Bounds, Machine, Woven};
use crate::json::write;
use crate::message::{check_reply_length, check_request_length, unwritten};
use crate::query::{self, Tree};
use crate::schema::{Body, Method, Rule};
use crate::table::Tables;
use crate::{Match, Options, Refusal, wire};

impl<T> Match<T> {
    /// The request message, as protobuf. `query` is raw, without the question mark; `content_type` the header,
    /// several joined by commas; `body` the whole body, decompressed.
    ///
    /// # Errors
    /// 400, 413 or 415 with the field and the place in the body where they are known; 501 for methods whose caller
    /// streams, since one body is not one message there: see [`Match::first_message`].
    pub fn request(
        &self,
        query: &str,
        content_type: Option<&str>,
        body: &[u8],
        options: &Options,
    ) -> Result<Vec<u8>, Refusal> {
        if self.method.client_streaming() {
            let why = format!("{} takes a stream of messages, not one", self.method.name());
            return Err(Refusal::unimplemented(why));
        }
        let mut reading = self.read(query, content_type, options)?;
        reading.push(&self.method, body)?;
        reading.finish(&self.method, &self.rule)
    }

    /// The request message from a body that comes in pieces. Path and query are judged at once.
    ///
    /// # Errors
    /// As [`Match::request`], for what is wrong in path and query.
    pub fn begin(
        &self,
        query: &str,
        content_type: Option<&str>,
        options: &Options,
    ) -> Result<RequestReader, Refusal> {
        Ok(RequestReader {
            reading: self.read(query, content_type, options)?,
            method: Arc::clone(&self.method),
            rule: Arc::clone(&self.rule),
        })
    }

    /// The first message of a caller's stream: one JSON value, with path and query woven in.
    ///
    /// # Errors
    /// As [`Match::request`].
    pub fn first_message(&self, query: &str, json: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        let mut reading = self.read(query, None, options)?;
        reading.push(&self.method, json)?;
        reading.finish(&self.method, &self.rule)
    }

    /// A later message of a caller's stream: only the body fills it. It may still not contradict the path.
    ///
    /// # Errors
    /// As [`Match::request`].
    pub fn later_message(&self, json: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        let mut reader = self.begin_later(options)?;
        reader.push(json)?;
        reader.finish()
    }

    /// The same, with what lenient switches drop from it.
    ///
    /// # Errors
    /// As [`Match::begin`].
    pub fn begin_later(&self, options: &Options) -> Result<RequestReader, Refusal> {
        let mut reader = self.begin("", None, options)?;
        reader.reading.woven = Tree::default();
        Ok(reader)
    }

    /// One response message as JSON, on one line; only the `response_body` where the rule names one.
    ///
    /// # Errors
    /// 500: the message is over a limit, is not what the schema says, or holds what JSON cannot say.
    pub fn response(&self, message: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        check_reply_length(message, options)?;
        let output = &self.method.output;
        let settings = write::Settings::of(options);
        let mut out = Vec::new();
        match self.rule.response_body {
            None => write::message(&output.tables, output.index, message, settings, &mut out),
            Some(field) => write::field(&output.tables, output.index, field, message, settings, &mut out),
        }
        .map_err(unwritten)?;
        Ok(out)
    }

    /// What path and query make, as protobuf.
    pub(crate) fn woven(
        &self,
        query: &str,
        options: &Options,
        dropped: &mut Vec<String>,
    ) -> Result<Vec<u8>, Refusal> {
        let reading = self.read(query, None, options)?;
        dropped.extend_from_slice(&reading.dropped);
        let mut out = Vec::new();
        reading.woven.write(&self.method.input.tables, None, &mut out);
        Ok(out)
    }

    /// Judges path and query, and gets ready for the body.
    fn read(&self, query: &str, content_type: Option<&str>, options: &Options) -> Result<Reading, Refusal> {
        let input = &self.method.input;
        let t = &*input.tables;
        let bound = self.bound(t, options)?;
        let mut woven = Tree::default();
        for one in &bound {
            woven.put_bound(t, one)?;
        }
        let mut dropped = Vec::new();
        query::fill(
            t,
            input.index,
            &mut woven,
            query,
            &bound,
            &self.rule.body,
            options,
            &mut dropped,
        )?;
        let settings = read::Settings::of(options);
        let machine = match self.rule.body {
            Body::None => None,
            Body::Whole => {
                let bounds = Bounds::new(&bound);
                Some(Machine::of_body(t, input.index, None, bounds, false, settings))
            }
            Body::Field(field) => {
                let bounds = Bounds::new(&bound);
                let mask = self.rule.mask.is_some_and(|mask| !woven.has(mask));
                Some(Machine::of_body(
                    t,
                    input.index,
                    Some(field),
                    bounds,
                    mask,
                    settings,
                ))
            }
        };
        Ok(Reading {
            machine,
            woven,
            dropped,
            readable: content_type.is_none_or(is_json),
            ignore_excess: options.ignore_excess_body,
            bytes_max: options.limits.message_bytes,
        })
    }

    /// The values of path and headers, in the types of their fields.
    fn bound(&self, t: &Tables, options: &Options) -> Result<Vec<Woven>, Refusal> {
        let mut bound = Vec::with_capacity(self.values.len() + self.headers.len());
        for (variable, text) in self.rule.variables.iter().zip(&self.values) {
            let Some(last) = variable.fields.last() else {
                continue;
            };
            let content = leaf::content_from_text(t, t.field(*last), text.as_bytes(), options.strict())
                .map_err(|why| Refusal::bad_request(why).at_field(&variable.name))?;
            bound.push(Woven {
                fields: variable.fields.clone(),
                content,
                name: variable.name.clone(),
                header: None,
            });
        }
        for one in &self.headers {
            match bound.iter().find(|other| other.fields == one.fields) {
                None => bound.push(one.clone()),
                Some(other) if other.content == one.content => {}
                Some(_) => {
                    let header = one.header.as_deref().unwrap_or_default();
                    let why = format!("the header {header} differs from the value in the path");
                    return Err(Refusal::bad_request(why).at_field(&one.name));
                }
            }
        }
        Ok(bound)
    }
}

/// A request whose path and query are judged and whose body is being read.
struct Reading {
    /// `None`: the rule has no body.
    machine: Option<Machine>,
    woven: Tree,
    /// Query parameters that were dropped.
    dropped: Vec<String>,
    /// The content type is one that is read.
    readable: bool,
    ignore_excess: bool,
    bytes_max: usize,
}

impl Reading {
    fn push(&mut self, method: &Method, piece: &[u8]) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.machine {
            None if self.ignore_excess => Ok(()),
            None => Err(Refusal::bad_request("this method takes no body")),
            Some(_) if !self.readable => Err(Refusal::unsupported_media_type()),
            Some(machine) => machine.push(&method.input.tables, piece),
        }
    }

    fn finish(&mut self, method: &Method, rule: &Rule) -> Result<Vec<u8>, Refusal> {
        let t = &*method.input.tables;
        let mut message = Vec::new();
        if let Some(machine) = self.machine.as_mut().filter(|machine| machine.started()) {
            message = machine.finish(t)?;
            if let Body::Field(field) = rule.body {
                if !message.is_empty() {
                    self.woven.one_of(t, field).map_err(|refusal| {
                        let name = &t.field(field).json_name;
                        refusal.at_field(name.to_string())
                    })?;
                }
                if let Some(mask) = rule.mask.filter(|mask| !self.woven.has(*mask)) {
                    put_mask(t, mask, &machine.mask(), &mut message);
                }
            }
        }
        self.woven
            .write(t, self.machine.as_ref().map(Machine::bounds), &mut message);
        check_request_length(&message, self.bytes_max)?;
        Ok(message)
    }
}

/// Writes a field mask of this content.
fn put_mask(t: &Tables, field: u32, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(t.field(field).key());
    wire::put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Reads the body of one request as it comes.
pub struct RequestReader {
    reading: Reading,
    method: Arc<Method>,
    rule: Arc<Rule>,
}

impl RequestReader {
    /// So many bytes of body will probably come. Room for the message is set aside at once: growing by doubling would hold a
    /// large one twice. What is set aside and not written to takes address space and no memory.
    pub fn expect(&mut self, bytes: usize) {
        if let Some(machine) = &mut self.reading.machine {
            machine.expect(bytes);
        }
    }

    /// Takes the next piece of the body, decompressed. What is complete in it is read at once; no piece is kept.
    ///
    /// # Errors
    /// 400, 413 or 415, as soon as it is seen. A reader that refused once is of no more use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.reading.push(&self.method, piece)
    }

    /// The request message in protobuf, once the body is complete. To be called once.
    ///
    /// # Errors
    /// 400, 413 or 415.
    pub fn finish(&mut self) -> Result<Vec<u8>, Refusal> {
        self.reading.finish(&self.method, &self.rule)
    }

    /// What lenient switches dropped so far, from query and body, as the caller wrote it; at most
    /// [`crate::DROPPED_MAX`] from each.
    pub fn dropped(&self) -> impl Iterator<Item = &str> {
        let body = self
            .reading
            .machine
            .as_ref()
            .map(Machine::dropped)
            .unwrap_or_default();
        self.reading.dropped.iter().chain(body).map(String::as_str)
    }
}

impl std::fmt::Debug for RequestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestReader").finish_non_exhaustive()
    }
}

/// `application/json`, alone or with `charset=utf-8`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
        && is_utf8(content_type)
        && !content_type.contains(',')
}
