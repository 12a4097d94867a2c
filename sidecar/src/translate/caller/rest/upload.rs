//! The messages of a REST caller that streams, as they come.
//!
//! ```text
//!  JSON array, NDJSON ─► Splitter ─► one message each            path and query are woven into the first alone
//!  any other bytes    ─► google.api.HttpBody, at most 1 MiB each
//!  a form             ─► its file, as above; the parts before it are parameters
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context as Poller, Poll};

use bytes::{Bytes, BytesMut};
use mesh_transcode::form::{self, Role};
use mesh_transcode::multipart::{Event, Multipart, Part};
use mesh_transcode::split::{Framing, Splitter};
use mesh_transcode::{DROPPED_MAX, Match, Options, Refusal};

use super::socket::at_message;
use crate::reason::{Reason, Rejection};
use crate::snapshot::ServiceIndex;
use crate::translate::Piece;
use crate::translate::request::Inlet;

/// Largest piece of a body that is carried as it is, in bytes.
const UPLOAD_BYTES_MAX: usize = 1 << 20;
/// Longest text of a form before its file, in bytes.
const PARAMETERS_BYTES_MAX: usize = 64 << 10;

/// What lenient switches dropped from a stream so far, by message; at most [`DROPPED_MAX`] names.
pub(super) type Dropped = Rc<RefCell<Vec<String>>>;

/// What a caller streams.
pub(crate) struct Upload {
    found: Rc<Match<ServiceIndex>>,
    options: Rc<Options>,
    query: String,
    inlet: Inlet,
    source: Source,
    /// Nothing was given yet: path and query are still to be woven in.
    first: bool,
    /// The first message, where it was read before the service heard of the call.
    ready: Option<Bytes>,
    ended: bool,
    dropped: Dropped,
}

enum Source {
    /// JSON.
    Messages(Box<Splitter>),
    /// As it is.
    Raw(Raw),
    /// The file of a form.
    Form(Box<Form>),
}

/// Bytes that are carried as they are, and what they are.
#[derive(Default)]
struct Raw {
    content_type: String,
    held: BytesMut,
}

struct Form {
    multipart: Multipart,
    /// The part that is being read.
    part: Option<Role>,
    parameter: (String, Vec<u8>),
    file: Option<Raw>,
}

impl Upload {
    /// Judges what the head alone tells.
    ///
    /// # Errors
    /// Path, query or content type do not fit.
    pub(super) fn new(
        found: Rc<Match<ServiceIndex>>,
        options: Rc<Options>,
        query: &str,
        (content_type, boundary): (Option<&str>, Option<&str>),
        inlet: Inlet,
    ) -> Result<Self, Rejection> {
        let bytes_max = options.limits.message_bytes;
        let raw = found.request_body_is_http_body();
        let source = match boundary {
            Some(boundary) if raw => Source::Form(Box::new(Form::new(boundary))),
            _ if raw => Source::Raw(Raw {
                content_type: content_type.unwrap_or_default().to_owned(),
                held: BytesMut::new(),
            }),
            _ => Source::Messages(Box::new(Splitter::new(Framing::of(content_type)?, bytes_max))),
        };
        // A form may bring parameters that the query lacks.
        if !matches!(source, Source::Form(_)) {
            found.begin(query, None, &options)?;
        }
        Ok(Self {
            found,
            options,
            query: query.to_owned(),
            inlet,
            source,
            first: true,
            ready: None,
            ended: false,
            dropped: Dropped::default(),
        })
    }

    /// What is dropped, for whom it will be told.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }

    /// Reads the first message before the service hears of the call, so that a caller who is wrong from the beginning
    /// costs it nothing.
    ///
    /// # Errors
    /// It is wrong, or does not come.
    pub(super) async fn look_ahead(&mut self) -> Result<(), Rejection> {
        loop {
            self.ready = self.next(true)?;
            if self.ready.is_some() || self.ended {
                return Ok(());
            }
            match self.inlet.data().await? {
                Some(data) => self.push(data),
                None => {
                    self.ended = true;
                    self.ready = self.last()?;
                    return Ok(());
                }
            }
        }
    }

    /// The next message, or the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Piece, Rejection>>> {
        let polled = self.poll_message(cx);
        polled.map(|message| message.transpose().map(|message| message.map(Piece::Message)))
    }

    fn poll_message(&mut self, cx: &mut Poller<'_>) -> Poll<Result<Option<Bytes>, Rejection>> {
        if let Some(ready) = self.ready.take() {
            return Poll::Ready(Ok(Some(ready)));
        }
        loop {
            let next = self.next(false);
            if self.ended || !matches!(next, Ok(None)) {
                return Poll::Ready(next);
            }
            match self.inlet.poll_data(cx) {
                // What came is sent on, however little, before more is waited for.
                Poll::Pending => {
                    return match self.next(true) {
                        Ok(None) => Poll::Pending,
                        next => Poll::Ready(next),
                    };
                }
                Poll::Ready(Some(Ok(data))) => self.push(data),
                Poll::Ready(Some(Err(rejection))) => return Poll::Ready(Err(rejection)),
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(self.last());
                }
            }
        }
    }

    fn push(&mut self, data: Bytes) {
        match &mut self.source {
            Source::Messages(splitter) => splitter.push(data),
            Source::Raw(raw) => raw.held.extend_from_slice(&data),
            Source::Form(form) => form.multipart.push(&data),
        }
    }

    /// The next message of what is there. `flush`: of a body that is carried as it is, anything is enough.
    fn next(&mut self, flush: bool) -> Result<Option<Bytes>, Rejection> {
        let raw = match &mut self.source {
            Source::Messages(splitter) => {
                let json = splitter.next()?;
                return json.map(|json| self.message(&json)).transpose();
            }
            Source::Raw(raw) => Some(raw),
            Source::Form(form) => {
                form.read(&self.found, &mut self.query)?;
                form.file.as_mut()
            }
        };
        let enough = if flush { 1 } else { UPLOAD_BYTES_MAX };
        let Some(raw) = raw.filter(|raw| raw.held.len() >= enough) else {
            return Ok(None);
        };
        let data = raw.held.split_to(raw.held.len().min(UPLOAD_BYTES_MAX));
        let content_type = raw.content_type.clone();
        self.carried(&content_type, &data).map(Some)
    }

    /// What is left when the body has ended.
    fn last(&mut self) -> Result<Option<Bytes>, Rejection> {
        match &mut self.source {
            Source::Messages(splitter) => {
                let json = splitter.finish()?;
                return json.map(|json| self.message(&json)).transpose();
            }
            Source::Raw(_) => {}
            Source::Form(form) => {
                form.multipart.finish()?;
                if form.file.is_none() {
                    return Err(Refusal::bad_request("the form has no file").into());
                }
            }
        }
        match self.next(true)? {
            Some(message) => Ok(Some(message)),
            // An empty body is a body: its type, the path and the query are told.
            None if self.first => {
                let content_type = match &self.source {
                    Source::Raw(raw) => raw.content_type.clone(),
                    Source::Form(form) => form
                        .file
                        .as_ref()
                        .map(|raw| raw.content_type.clone())
                        .unwrap_or_default(),
                    Source::Messages(_) => String::new(),
                };
                self.carried(&content_type, b"").map(Some)
            }
            None => Ok(None),
        }
    }

    /// One JSON value as a message. What is wrong with it is told by the number of the message and its place in the body.
    fn message(&mut self, json: &[u8]) -> Result<Bytes, Rejection> {
        let (index, began) = match &self.source {
            Source::Messages(splitter) => (splitter.messages().saturating_sub(1), splitter.began()),
            Source::Raw(_) | Source::Form(_) => (0, 0),
        };
        self.read(index, json).map(Bytes::from).map_err(|refusal| {
            let offset = refusal.offset.map(|offset| offset + began);
            at_message(index, Refusal { offset, ..refusal }).into()
        })
    }

    fn read(&mut self, index: u64, json: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut reader = if std::mem::take(&mut self.first) {
            self.found.begin(&self.query, None, &self.options)?
        } else {
            self.found.begin_later(&self.options)?
        };
        let of_query = reader.dropped().count();
        reader.push(json)?;
        let message = reader.finish()?;
        let mut dropped = self.dropped.borrow_mut();
        let left = DROPPED_MAX.saturating_sub(dropped.len());
        let names = reader
            .dropped()
            .enumerate()
            .map(|(at, name)| match at < of_query {
                true => name.to_owned(),
                false => format!("[{index}].{name}"),
            });
        dropped.extend(names.take(left));
        Ok(message)
    }

    fn carried(&mut self, content_type: &str, data: &[u8]) -> Result<Bytes, Rejection> {
        let message = if std::mem::take(&mut self.first) {
            let dropped = &mut self.dropped.borrow_mut();
            self.found
                .http_body_first(&self.query, content_type, data, &self.options, dropped)
        } else {
            self.found.http_body_later("", data, &self.options)
        };
        Ok(message?.into())
    }
}

impl Form {
    fn new(boundary: &str) -> Self {
        Self {
            multipart: Multipart::new(boundary),
            part: None,
            parameter: (String::new(), Vec::new()),
            file: None,
        }
    }

    /// Reads what is there: parameters into the query, the file into what is held.
    fn read(&mut self, found: &Match<ServiceIndex>, query: &mut String) -> Result<(), Rejection> {
        while let Some(event) = self.multipart.next()? {
            match event {
                Event::Part(part) => self.begin(part, found)?,
                Event::Data(data) => match (self.part, &mut self.file) {
                    (Some(Role::Body), Some(file)) => file.held.extend_from_slice(&data),
                    _ if self.parameter.1.len() + data.len() > PARAMETERS_BYTES_MAX => {
                        let why = "the form has more than 64 KiB of text before its file";
                        return Err(Rejection::new(Reason::RequestTooLarge, why));
                    }
                    _ => self.parameter.1.extend_from_slice(&data),
                },
                Event::End if self.part.take() == Some(Role::Parameter) => {
                    let (name, value) = std::mem::take(&mut self.parameter);
                    let value = String::from_utf8(value)
                        .map_err(|_| Refusal::bad_request("is not UTF-8 text").at_field(&name))?;
                    form::add_parameter(query, &name, &value);
                    if query.len() > PARAMETERS_BYTES_MAX {
                        let why = "the form has more than 64 KiB of text before its file";
                        return Err(Rejection::new(Reason::RequestTooLarge, why));
                    }
                }
                Event::End => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, part: Part, found: &Match<ServiceIndex>) -> Result<(), Rejection> {
        let role = found.part_role(&part);
        if self.file.is_some() {
            let why = "stands behind the file, which is on its way already; put it before";
            return Err(Refusal::bad_request(why).at_field(part.name).into());
        }
        match role {
            Role::Body => {
                self.file = Some(Raw {
                    content_type: part.content_type.unwrap_or_default(),
                    held: BytesMut::new(),
                });
            }
            Role::Parameter => self.parameter = (part.name, Vec::new()),
        }
        self.part = Some(role);
        Ok(())
    }
}
