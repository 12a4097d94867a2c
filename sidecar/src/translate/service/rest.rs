//! A service that speaks HTTP and JSON: its rules are followed in reverse.
//!
//! ```text
//!  message ─► method, path, query, JSON body
//!  message(s) ◄─ JSON | NDJSON, events, array;  status ◄─ HTTP status and error body
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use crate::upstream::{self, Answer};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, response};
use http_body::Body;
use mesh_proto::google::rpc;
use mesh_transcode::reverse::{self, Reverse, Said, Stream};
use mesh_transcode::{Method, Options, Refusal, Schema, status};
use prost::Message as _;

use crate::body::RequestBody;
use crate::gates::framing::check_canonical;
use crate::headers;
use crate::reason::{Reason, Rejection};
use crate::translate::request::Requests;
use crate::translate::{Context, End, Item, Piece};

/// Most of an error's body that is looked at, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// What a streamed answer may be, best first.
const STREAMS: &str = "application/x-ndjson, text/event-stream;q=0.9, application/json;q=0.8";

/// One call of such a service.
pub(crate) struct Service {
    method: Arc<Method>,
    /// The rule it went by.
    reverse: Option<Reverse>,
}

impl Service {
    pub(crate) fn new(method: Arc<Method>) -> Self {
        Self {
            method,
            reverse: None,
        }
    }

    /// Makes the request one of HTTP. The service hears of it when all of it is there: it is one message.
    ///
    /// # Errors
    /// There is not exactly one message, or it has no form in HTTP.
    pub(crate) async fn request(
        &mut self,
        head: &mut Parts,
        mut asked: Requests,
        context: &Context,
    ) -> Result<RequestBody, Rejection> {
        let message = only(&mut asked).await?;
        let (reverse, made) = Reverse::request(&self.method, &message, &context.options)?;
        self.reverse = Some(reverse);
        let malformed = |error: String| Rejection::new(Reason::RequestMalformed, error);
        if let Some(authority) = head.uri.authority().map(Authority::as_str)
            && !head.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority)
        {
            head.headers.insert(HOST, host);
        }
        head.uri = Uri::try_from(made.target).map_err(|error| malformed(error.to_string()))?;
        // A value that is a path of its own would reach something else where a server unfolds it.
        check_canonical(head.uri.path())?;
        head.method = made
            .method
            .parse()
            .map_err(|_| malformed("the rule's method is none".into()))?;
        self.write_headers(&mut head.headers, made.body.is_some());
        Ok(made.body.map_or(RequestBody::Empty, |body| {
            RequestBody::Full(body.into(), Bytes::new())
        }))
    }

    fn write_headers(&self, headers: &mut HeaderMap, has_body: bool) {
        for name in [
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            ACCEPT_ENCODING,
            EXPECT,
            TE,
            CONTENT_TYPE,
        ] {
            headers.remove(name);
        }
        for name in ["grpc-encoding", "grpc-accept-encoding", "grpc-timeout"] {
            headers.remove(HeaderName::from_static(name));
        }
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let accept = if self.method.server_streaming() {
            STREAMS
        } else if self.reverse.as_ref().is_some_and(Reverse::takes_any_body) {
            "*/*"
        } else {
            "application/json"
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
    }

    /// Reads an answer's body.
    pub(crate) fn answers(self, head: &response::Parts, body: Answer, context: &Context) -> Answers {
        Answers {
            body,
            state: self.begin(head, context),
            schema: context.schema.clone(),
        }
    }

    fn begin(self, head: &response::Parts, context: &Context) -> State {
        let content_type = headers::single(&head.headers, &CONTENT_TYPE);
        let coded = head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let bytes_max = context.options.limits.message_bytes;
        let Some(reverse) = self.reverse else {
            return State::Failed(Rejection::new(Reason::ResponseUnreadable, "nothing was asked"));
        };
        if !head.status.is_success() {
            return State::Error(head.status, Gathered::new(ERROR_BYTES_MAX));
        }
        if coded {
            let why = "the service compressed its answer, which was not asked for";
            return State::Failed(Rejection::new(Reason::ResponseUnreadable, why));
        }
        if self.method.server_streaming() {
            return match Stream::new(reverse, content_type, &context.options) {
                Ok(stream) => State::Stream(Box::new(stream)),
                Err(refusal) => State::Failed(refusal.into()),
            };
        }
        let empty = head.status == StatusCode::NO_CONTENT
            || head.headers.get(CONTENT_LENGTH).is_some_and(|l| l == "0");
        let json = empty
            || content_type.is_some_and(|content_type| {
                let media = content_type.split(';').next().unwrap_or_default().trim();
                let media = media.to_ascii_lowercase();
                media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
            });
        if !json && !reverse.takes_any_body() {
            let why = format!(
                "the service answered with {} where JSON was asked for",
                content_type.unwrap_or("a body of no type")
            );
            return State::Failed(Rejection::new(Reason::ResponseNotJson, why));
        }
        State::Unary(
            reverse,
            content_type.unwrap_or_default().to_owned(),
            Box::new(context.options.clone()),
            Gathered::new(bytes_max),
        )
    }
}

/// The one message of a request.
async fn only(asked: &mut Requests) -> Result<Bytes, Rejection> {
    let framing = asked.framing();
    let mut next = async || std::future::poll_fn(|cx| asked.poll_piece(cx)).await.transpose();
    let message = match next().await? {
        Some(Piece::Message(message)) => message,
        Some(Piece::Framed(_)) | None => return Err(framing.no_message()),
    };
    match next().await? {
        None => Ok(message),
        Some(_) => Err(framing.second_message()),
    }
}

/// A body that is read whole.
struct Gathered {
    bytes: BytesMut,
    bytes_max: usize,
    over: bool,
}

impl Gathered {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            bytes_max,
            over: false,
        }
    }

    fn push(&mut self, data: &[u8]) {
        self.over |= self.bytes.len() + data.len() > self.bytes_max;
        if !self.over {
            self.bytes.extend_from_slice(data);
        }
    }
}

/// An answer of HTTP as messages and an end.
pub(crate) struct Answers {
    body: Answer,
    state: State,
    schema: Option<Arc<Schema>>,
}

enum State {
    /// With the answer's content type.
    Unary(Reverse, String, Box<Options>, Gathered),
    Stream(Box<Stream>),
    Error(StatusCode, Gathered),
    /// What was found out before the body.
    Failed(Rejection),
    /// Everything but the good end was told.
    Complete,
}

impl Answers {
    pub(crate) fn poll_item(&mut self, cx: &mut Poller<'_>) -> Poll<Result<Item, Rejection>> {
        loop {
            match &mut self.state {
                State::Complete => return Poll::Ready(Ok(Item::End(good()))),
                State::Failed(rejection) => return Poll::Ready(Err(rejection.clone())),
                State::Stream(stream) => {
                    if let Some(said) = stream.next().map_err(Rejection::from)? {
                        return Poll::Ready(Ok(item(said)));
                    }
                }
                State::Unary(.., whole) if whole.over => {
                    let why = format!("the service's answer is over {} bytes", whole.bytes_max);
                    return Poll::Ready(Err(Rejection::new(Reason::ResponseTooLarge, why)));
                }
                State::Unary(..) | State::Error(..) => {}
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    let data = data.copy_to_bytes(data.remaining());
                    match &mut self.state {
                        State::Unary(.., whole) | State::Error(_, whole) => whole.push(&data),
                        State::Stream(stream) => stream.push(data),
                        State::Failed(_) | State::Complete => {}
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(upstream::broken_off(&*error)));
                }
                None => return Poll::Ready(self.complete()),
            }
        }
    }

    /// What the end of the body means.
    fn complete(&mut self) -> Result<Item, Rejection> {
        match std::mem::replace(&mut self.state, State::Complete) {
            State::Unary(reverse, content_type, options, whole) => {
                let message = reverse.whole(&content_type, &whole.bytes, &options)?;
                Ok(Item::Piece(Piece::Message(message.into())))
            }
            State::Stream(mut stream) => match stream.finish().map_err(Rejection::from)? {
                Some(said) => Ok(item(said)),
                None => Ok(Item::End(good())),
            },
            State::Error(http, whole) => {
                // Of a body that is too long nothing is known to be whole.
                let body = if whole.over { &[][..] } else { &whole.bytes[..] };
                let status = reverse::status(http.as_u16(), body, self.schema.as_deref());
                Ok(Item::End(ended(&status)))
            }
            State::Failed(rejection) => Err(rejection),
            State::Complete => Ok(Item::End(good())),
        }
    }
}

fn item(said: Said) -> Item {
    match said {
        Said::Message(message) => Item::Piece(Piece::Message(message.into())),
        Said::Failed(status) => Item::End(ended(&status)),
    }
}

fn good() -> End {
    ended(&rpc::Status::default())
}

/// A status as the end of a call.
fn ended(status: &rpc::Status) -> End {
    let mut trailers = HeaderMap::new();
    trailers.insert(headers::GRPC_STATUS, HeaderValue::from(status.code));
    if !status.message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&status::encode_message(&status.message))
    {
        trailers.insert(headers::GRPC_MESSAGE, message);
    }
    if !status.details.is_empty()
        && let Ok(details) = HeaderValue::from_str(&BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec()))
    {
        trailers.insert(headers::GRPC_STATUS_DETAILS, details);
    }
    End { trailers }
}

/// Judges whether a method can be called this way.
///
/// # Errors
/// It cannot, and why.
pub(crate) fn check(method: &Method) -> Result<(), Refusal> {
    Reverse::check(method)
}
