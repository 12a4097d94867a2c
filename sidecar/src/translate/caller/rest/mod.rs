//! A caller that speaks HTTP and JSON, by the rules of a schema.
//!
//! ```text
//!  path, query, JSON body, form, raw bytes ─► message(s)                                     request.rs, upload.rs
//!  JSON body | array, NDJSON, SSE | raw bytes ◄─ message(s);  HTTP status and error body ◄─ end
//! ```

mod fields;
mod metadata;
mod request;
mod socket;
mod upload;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH, TRAILER, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use mesh_transcode::status::Code;
use mesh_transcode::stream::{Ending, StreamFormat, StreamWriter};
use mesh_transcode::{Match, MethodHeaders, problem, status};
use tokio::sync::mpsc;

use super::{Last, Manner, Reply, Waits};
use crate::coding::Coding;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, joined};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, ServiceIndex};
use crate::translate::message::strip_grpc;
use crate::translate::{Context, End, Piece, Requests};
use upload::Dropped;

pub(crate) use socket::SocketRequests;
pub(crate) use upload::Upload;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static(problem::CONTENT_TYPE);
/// What bytes are that nobody says the type of.
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Longest content type of a `google.api.HttpBody` that becomes a header, in bytes; no real one comes near.
const CONTENT_TYPE_BYTES_MAX: usize = 1 << 10;

/// A REST caller.
pub(crate) struct Caller {
    found: Rc<Match<ServiceIndex>>,
    /// Headers that stand for fields, and what the answer's message says in such.
    fields: Option<Arc<MethodHeaders>>,
    told: Vec<(HeaderName, HeaderValue)>,
    writer: StreamWriter,
    format: StreamFormat,
    /// It asked for the head alone.
    head_only: bool,
    /// Answers of this service are compressed for those who ask, and what this caller asks for.
    compresses: bool,
    coding: Option<Coding>,
    heartbeat: Option<Duration>,
    /// It reads trailers.
    trailers: bool,
    /// Errors are problem documents.
    problem: bool,
    /// `If-None-Match` of a GET.
    condition: Option<String>,
    /// It speaks over a WebSocket: one message of its own for each of the service, nothing around it.
    socket: bool,
    /// The answer is carried as it is.
    raw: bool,
    /// Its type, once it is known.
    content_type: Option<HeaderValue>,
    /// What the answer's message says of itself.
    etag: Option<String>,
    /// What lenient switches dropped from the request.
    dropped: Option<(HeaderName, HeaderValue)>,
    /// The same of a stream, which is read while it is on its way.
    dropping: Option<Dropped>,
}

impl Caller {
    /// `reads_trailers`: it said so, before that was taken off.
    pub(crate) fn new(
        found: Match<ServiceIndex>,
        head: &Parts,
        entry: &ServiceEntry,
        reads_trailers: bool,
    ) -> Self {
        let accept = joined(&head.headers, &ACCEPT);
        let format = StreamFormat::choose(accept.as_deref());
        let mut writer = StreamWriter::new(format);
        if entry.rest.sse.ids {
            writer = writer.with_ids();
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let accepted = joined(&head.headers, &ACCEPT_ENCODING).filter(|_| entry.rest.compress);
        Self {
            raw: found.response_is_http_body(),
            fields: entry
                .headers
                .as_ref()
                .and_then(|all| all.of(&found.method))
                .cloned(),
            told: Vec::new(),
            found: Rc::new(found),
            writer,
            format,
            head_only: head.method == Method::HEAD,
            compresses: entry.rest.compress,
            heartbeat: entry.rest.sse.heartbeat,
            coding: accepted.as_deref().and_then(Coding::choose),
            trailers: reads_trailers || head.version >= Version::HTTP_2,
            problem: entry.tells_problems(accept.as_deref()),
            condition: joined(&head.headers, &IF_NONE_MATCH)
                .filter(|_| reads)
                .map(std::borrow::Cow::into_owned),
            socket: false,
            content_type: None,
            etag: None,
            dropped: None,
            dropping: None,
        }
    }

    pub(crate) fn tells_problems(&self) -> bool {
        self.problem
    }

    /// The same caller, over a WebSocket.
    ///
    /// # Errors
    /// The method is none that can be called so.
    pub(crate) fn over_socket(mut self) -> Result<Self, Rejection> {
        let method = &self.found.method;
        let why = if !method.client_streaming() && !method.server_streaming() {
            "neither side of it streams; call it without a WebSocket"
        } else if self.raw || self.found.request_body_is_http_body() {
            "its bodies are not JSON"
        } else {
            self.socket = true;
            self.coding = None;
            return Ok(self);
        };
        let message = format!("{} is not called over a WebSocket: {why}", method.name());
        Err(Rejection::new(Reason::NotTranslatable, message))
    }

    /// What it asks over its WebSocket.
    ///
    /// # Errors
    /// Path or query do not fit.
    pub(crate) fn socket_requests(
        &mut self,
        head: &mut Parts,
        from: mpsc::Receiver<Bytes>,
        context: &Context,
    ) -> Result<Requests, Rejection> {
        self.bind_headers(&head.headers, context)?;
        metadata::inward(&mut head.headers, context.rest.strip_metadata_prefix)?;
        let query = head.uri.query().unwrap_or_default();
        let mut reader = self.found.begin(query, None, &context.options)?;
        if !self.found.takes_body() {
            return Ok(Requests::One(Some(reader.finish()?.into())));
        }
        let options = Rc::new(context.options.clone());
        let requests = SocketRequests::new(self.found.clone(), options, query, from);
        Ok(Requests::Socket(Box::new(requests)))
    }

    /// What lenient switches dropped, as far as is known by now.
    fn dropped(&self) -> Option<(HeaderName, HeaderValue)> {
        let of_stream = |names: &Dropped| metadata::dropped(names.borrow().iter().map(String::as_str));
        let of_stream = self.dropping.as_ref().and_then(of_stream);
        self.dropped.clone().or(of_stream)
    }

    fn is_stream(&self) -> bool {
        self.found.method.server_streaming()
    }

    pub(super) fn waits(&self) -> Waits {
        if self.socket {
            Waits::No
        } else if self.is_stream() {
            Waits::ForFirst
        } else {
            Waits::ForEnd
        }
    }

    pub(super) fn manner(&self) -> Manner {
        Manner {
            head_only: self.head_only,
            coding: self.compresses.then_some(self.coding),
            heartbeat: self
                .heartbeat
                .zip(self.writer.heartbeat().filter(|_| !self.raw && !self.socket)),
        }
    }

    /// The service's own trailers, for callers that read them.
    pub(super) fn trailers(&self, end: &End) -> Option<HeaderMap> {
        if !self.trailers || self.socket || (end.trailers.len() <= 1 && !self.is_stream()) {
            return None;
        }
        let mut trailers = end.metadata();
        metadata::success_code(&mut trailers);
        // The head of a stream is out before its end is known.
        if self.is_stream() {
            for name in [GRPC_STATUS, GRPC_MESSAGE] {
                if let Some(value) = end.trailers.get(&name) {
                    trailers.insert(name, value.clone());
                }
            }
        }
        (!trailers.is_empty()).then_some(trailers)
    }

    pub(super) fn piece(&mut self, piece: Piece, context: &Context) -> Result<Bytes, Rejection> {
        let Piece::Message(message) = piece else {
            return Err(Rejection::new(
                Reason::ResponseUnreadable,
                "frames have no JSON form",
            ));
        };
        if !self.is_stream() {
            self.told_by(&message, context);
        }
        if self.raw {
            let body = self.found.http_body(&message, &context.options)?;
            if self.content_type.is_none() {
                let told = Some(body.content_type).filter(|told| told.len() <= CONTENT_TYPE_BYTES_MAX);
                let told = told.and_then(|told| HeaderValue::from_str(told).ok());
                self.content_type = Some(told.filter(|told| !told.is_empty()).unwrap_or(BYTES));
            }
            return Ok(message.slice_ref(body.data));
        }
        let json = self.found.response(&message, &context.options)?;
        if self.is_stream() && !self.socket {
            return Ok(self.writer.message(&json).into());
        }
        if self.etag.is_none() {
            self.etag = self.found.method.etag(&message).map(str::to_owned);
        }
        Ok(json.into())
    }

    pub(super) fn end(&mut self, end: &End, context: &Context) -> Last {
        let ok = end.code() == Code::Ok;
        if self.socket {
            return if ok {
                Last::Nothing
            } else {
                Last::Bytes(self.socket_error(end, context))
            };
        }
        let ending = match ok {
            true if self.raw => Ending::Bytes(Vec::new()),
            // What is carried as it is has no place for an error.
            false if self.raw => Ending::Abort,
            true => self.writer.end(),
            false => {
                let body = status::body(&end.status(), context.schema.as_deref());
                self.writer.error(&body)
            }
        };
        match ending {
            Ending::Bytes(bytes) if bytes.is_empty() => Last::Nothing,
            Ending::Bytes(bytes) => Last::Bytes(bytes.into()),
            Ending::Abort => Last::Abort(end.status().message),
        }
    }

    pub(super) fn streaming(&self, headers: &mut HeaderMap) -> StatusCode {
        let code = metadata::success_code(headers).filter(has_body);
        strip_grpc(headers);
        let content_type = if self.raw {
            self.content_type.clone().unwrap_or(BYTES)
        } else {
            HeaderValue::from_static(self.format.content_type())
        };
        headers.insert(CONTENT_TYPE, content_type);
        if !self.raw {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // The framing is the caller's choice.
            headers.append(VARY, HeaderValue::from_name(ACCEPT));
        }
        if self.trailers && !self.socket {
            headers.insert(TRAILER, HeaderValue::from_static("grpc-status, grpc-message"));
        }
        headers.extend(self.dropped());
        code.unwrap_or(StatusCode::OK)
    }

    /// The service's own error, as JSON with the HTTP status of its code. A stream that ended well without a message is
    /// empty.
    pub(super) fn ended(&self, mut headers: HeaderMap, end: &End, context: &Context) -> Reply {
        let code = end.code();
        if self.socket {
            let body = if code == Code::Ok {
                Bytes::new()
            } else {
                self.socket_error(end, context)
            };
            return self.reply(StatusCode::OK, headers, body, None);
        }
        if code == Code::Ok && self.is_stream() {
            let empty = match StreamWriter::new(self.format).end() {
                Ending::Bytes(empty) if !self.raw => empty,
                Ending::Bytes(_) | Ending::Abort => Vec::new(),
            };
            let status = self.streaming(&mut headers);
            return self.reply(status, headers, empty.into(), None);
        }
        let late = metadata::failure_code(&mut end.trailers.clone());
        let told = metadata::failure_code(&mut headers).or(late);
        let http = told
            .or_else(|| StatusCode::from_u16(code.http()).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (body, content_type) = if self.problem {
            (
                problem::body(&end.status(), http.as_u16(), context.schema.as_deref()),
                PROBLEM,
            )
        } else {
            (status::body(&end.status(), context.schema.as_deref()), JSON)
        };
        self.reply(http, headers, body.into(), Some(content_type))
    }

    pub(super) fn whole(&self, mut headers: HeaderMap, bytes: Bytes, end: &End) -> Reply {
        let mut trailing = end.trailers.clone();
        let late = metadata::success_code(&mut trailing);
        let code = metadata::success_code(&mut headers)
            .or(late)
            .unwrap_or(StatusCode::OK);
        if let Some(told) = trailing.remove(http::header::ETAG) {
            headers.entry(http::header::ETAG).or_insert(told);
        }
        metadata::tag(&mut headers, self.etag.as_deref());
        self.tell(&mut headers);
        headers.extend(self.dropped());
        if code == StatusCode::OK && metadata::is_known(&headers, self.condition.as_deref()) {
            return self.bare(StatusCode::NOT_MODIFIED, headers);
        }
        if !has_body(&code) {
            return self.bare(code, headers);
        }
        let content_type = if self.raw { self.content_type.clone() } else { None };
        self.reply(code, headers, bytes, Some(content_type.unwrap_or(JSON)))
    }

    fn socket_error(&self, end: &End, context: &Context) -> Bytes {
        let body = status::body(&end.status(), context.schema.as_deref());
        [b"{\"error\":", body.as_slice(), b"}"].concat().into()
    }

    fn bare(&self, status: StatusCode, mut headers: HeaderMap) -> Reply {
        strip_grpc(&mut headers);
        Reply {
            status,
            headers,
            body: Bytes::new(),
        }
    }

    fn reply(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        body: Bytes,
        content_type: Option<HeaderValue>,
    ) -> Reply {
        if let Some(content_type) = content_type {
            strip_grpc(&mut headers);
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Reply {
            status,
            headers,
            body: if self.head_only { Bytes::new() } else { body },
        }
    }
}

/// Whether an answer with this status has a body (RFC 9110 6.4.1, 15.3.6).
fn has_body(status: &StatusCode) -> bool {
    !matches!(*status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT)
}
