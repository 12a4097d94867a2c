//! The answer on its way back: the service's bytes as messages, and those as the caller's bytes.
//!
//! ```text
//!  upstream ─► Answers ─ Item ─► Caller ─► body
//!                └ at the head: how much must be known before the caller's own head can be written (Waits)
//! ```

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Poller, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, TRAILER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use mesh_transcode::etag;
use tokio::time::Sleep;

use super::caller::{Caller, Last, Manner, Reply, Waits};
use super::service::Answers;
use super::{Context, End, Item, Translation};
use crate::body::{AnswerBody, BoxError};
use crate::call::Call;
use crate::coding::{PACK_BYTES_MIN, Packer, is_worthwhile};
use crate::headers;
use crate::progress::Progress;
use crate::reason::{Reason, Rejection};
use crate::upstream::Answer;

/// An answer that was read as far as its caller's head needs.
pub(crate) struct Begun {
    headers: HeaderMap,
    what: What,
}

enum What {
    /// The end alone.
    Ended(Caller, Context, End),
    /// The one message of a unary method, as the caller's bytes, and a good end.
    Whole(Caller, Bytes, End),
    /// More is to come; with the service's frames as they are?
    Streaming(Box<Answering>, bool),
}

/// Reads an answer to where its caller's head can be written.
///
/// # Errors
/// The answer is none, is too large, or cannot be told to the caller; or the request was wrong.
pub(crate) async fn begin(
    translation: Box<Translation>,
    response: Response<Answer>,
    progress: Rc<Progress>,
) -> Result<Begun, Rejection> {
    let (mut head, body) = response.into_parts();
    headers::clean_response(&mut head.headers);
    let frames = translation.passes_frames();
    let Translation {
        caller,
        service,
        context,
    } = *translation;
    if let Some(end) = service.ended(&head) {
        return Ok(Begun {
            headers: head.headers,
            what: What::Ended(caller, context, end),
        });
    }
    let answers = service.answers(&head, body, frames, &context);
    let mut answering = Box::new(Answering::new(caller, context, answers, progress));
    let what = match answering.caller.waits() {
        Waits::No => None,
        Waits::ForFirst => answering.read_first_or_beat().await?,
        Waits::ForEnd => Some(answering.read_only().await?),
    };
    let what = match what {
        None => What::Streaming(answering, frames),
        Some(Read::End(end)) => What::Ended(answering.caller, answering.context, end),
        Some(Read::Only(bytes, end)) => What::Whole(answering.caller, bytes, end),
    };
    Ok(Begun {
        headers: head.headers,
        what,
    })
}

/// Answers a caller with what was begun.
pub(crate) fn answer(begun: Begun, mut call: Box<Call>) -> Response<AnswerBody> {
    let Begun { mut headers, what } = begun;
    let (caller, reply, trailers) = match what {
        What::Streaming(mut answering, frames) => {
            let manner = answering.caller.manner();
            let status = answering.caller.streaming(&mut headers, frames);
            call.http_status = status.as_u16();
            let body = if manner.head_only {
                AnswerBody::full(Bytes::new(), call)
            } else {
                AnswerBody::translated(answering, call)
            };
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            pack(&mut response, manner, None);
            return response;
        }
        What::Ended(caller, context, end) => {
            call.grpc_status = Some(end.number());
            let reply = caller.ended(headers, &end, &context);
            let trailers = caller.trailers(&end);
            (caller, reply, trailers)
        }
        What::Whole(caller, bytes, end) => {
            call.grpc_status = Some(end.number());
            let reply = caller.whole(headers, bytes, &end);
            let trailers = caller.trailers(&end);
            (caller, reply, trailers)
        }
    };
    let length = reply.body.len();
    let mut response = reply.response(call);
    pack(&mut response, caller.manner(), Some(length));
    if let Some(trailers) = trailers.filter(|_| length > 0) {
        announce(&mut response, &trailers);
        response.body_mut().follow_with(trailers);
    }
    response
}

/// Compresses a body where that is asked for and worth it. `length`: of one that is whole.
fn pack(response: &mut Response<AnswerBody>, manner: Manner, length: Option<usize>) {
    let Some(asked) = manner.coding else { return };
    let headers = response.headers_mut();
    let worthwhile = length.is_none_or(|length| length >= PACK_BYTES_MIN)
        && headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_worthwhile);
    if !worthwhile || headers.contains_key(CONTENT_ENCODING) {
        return;
    }
    headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    let Some((coding, packer)) = asked.and_then(|coding| Some((coding, Packer::new(coding)?))) else {
        return;
    };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    // Other bytes than without, and the same meaning.
    let weak = headers
        .get(ETAG)
        .and_then(|tag| tag.to_str().ok())
        .and_then(|tag| HeaderValue::from_str(&etag::weak(tag)).ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
    if !manner.head_only {
        response.body_mut().pack_with(packer);
    }
}

/// Names the trailers in the head, without which HTTP/1.1 has no place for them. They need a body without a length.
fn announce(response: &mut Response<AnswerBody>, trailers: &HeaderMap) {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    let mut names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    names.dedup();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(TRAILER, names);
    }
}

impl Reply {
    /// As the answer to a call.
    pub(crate) fn response(self, mut call: Box<Call>) -> Response<AnswerBody> {
        call.http_status = self.status.as_u16();
        let mut response = Response::new(AnswerBody::full(self.body, call));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// An answer that is being translated.
pub(crate) struct Answering {
    caller: Caller,
    context: Context,
    answers: Answers,
    progress: Rc<Progress>,
    /// Bytes for the caller that were read before its head was written.
    first: Option<Bytes>,
    beat: Option<Beat>,
    /// What is sent behind the last piece.
    trailers: Option<HeaderMap>,
    over: bool,
    status: Option<u16>,
    failure: Option<Rejection>,
}

/// When next to say that the stream lives, and how.
struct Beat {
    every: Duration,
    says: &'static [u8],
    due: Pin<Box<Sleep>>,
}

impl Beat {
    fn new((every, says): (Duration, &'static [u8])) -> Self {
        Self {
            every,
            says,
            due: Box::pin(tokio::time::sleep(every)),
        }
    }

    /// Something was said: the next beat is a full time away.
    fn put_off(&mut self) {
        let due = Instant::now() + self.every;
        self.due.as_mut().reset(due.into());
    }

    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Bytes> {
        ready!(self.due.as_mut().poll(cx));
        self.put_off();
        Poll::Ready(Bytes::from_static(self.says))
    }
}

/// What was read before the head.
enum Read {
    End(End),
    Only(Bytes, End),
}

impl Answering {
    fn new(caller: Caller, context: Context, answers: Answers, progress: Rc<Progress>) -> Self {
        Self {
            caller,
            context,
            answers,
            progress,
            first: None,
            beat: None,
            trailers: None,
            over: false,
            status: None,
            failure: None,
        }
    }

    /// The end, if there is no message; otherwise the first one is kept.
    async fn read_first(&mut self) -> Result<Option<Read>, Rejection> {
        match self.item().await? {
            Item::End(end) => Ok(Some(Read::End(end))),
            Item::Piece(piece) => {
                self.first = Some(self.caller.piece(piece, &self.context)?);
                Ok(None)
            }
        }
    }

    /// The same, but where the caller is to see that the stream lives, its head does not wait for longer than that.
    async fn read_first_or_beat(&mut self) -> Result<Option<Read>, Rejection> {
        let Some(heartbeat) = self.caller.manner().heartbeat else {
            return self.read_first().await;
        };
        let read = tokio::time::timeout(heartbeat.0, self.read_first()).await;
        self.beat = Some(Beat::new(heartbeat));
        read.unwrap_or(Ok(None))
    }

    /// The one message of a unary method with its good end, or the end.
    async fn read_only(&mut self) -> Result<Read, Rejection> {
        let unreadable = |why: &str| Err(Rejection::new(Reason::ResponseUnreadable, why));
        let bytes = match self.item().await? {
            Item::Piece(piece) => self.caller.piece(piece, &self.context)?,
            Item::End(end) if end.number() == 0 => {
                return unreadable("the service answered without a message");
            }
            Item::End(end) => return Ok(Read::End(end)),
        };
        match self.item().await? {
            Item::End(end) if end.number() == 0 => Ok(Read::Only(bytes, end)),
            // A message and then an error is an error.
            Item::End(end) => Ok(Read::End(end)),
            Item::Piece(_) => unreadable("the service answered a unary call twice"),
        }
    }

    async fn item(&mut self) -> Result<Item, Rejection> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Poller<'_>) -> Poll<Result<Item, Rejection>> {
        let item = ready!(self.answers.poll_item(cx));
        // Where our own reset broke the answer off, the reason is the request.
        Poll::Ready(item.map_err(|rejection| self.progress.refused().unwrap_or(rejection)))
    }

    /// The next frame of the body.
    pub(crate) fn poll_frame(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.over {
            return Poll::Ready(
                self.trailers
                    .take()
                    .and_then(|trailers| Last::Trailers(trailers).frame()),
            );
        }
        let item = match (self.poll_item(cx), &mut self.beat) {
            (Poll::Ready(item), beat) => {
                if let Some(beat) = beat {
                    beat.put_off();
                }
                item
            }
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(beat)) => return beat.poll(cx).map(|says| Some(Ok(Frame::data(says)))),
        };
        let last = match item {
            Ok(Item::Piece(piece)) => match self.caller.piece(piece, &self.context) {
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(rejection) => self.fail(rejection),
            },
            Ok(Item::End(end)) => self.end(&end),
            Err(rejection) => self.fail(rejection),
        };
        let last = match (last, &mut self.trailers) {
            (Last::Nothing, trailers) => trailers.take().map_or(Last::Nothing, Last::Trailers),
            (last, _) => last,
        };
        Poll::Ready(last.frame())
    }

    /// Ends the stream because a clock rang.
    pub(crate) fn cut_short(&mut self, rejection: Rejection) -> Option<Result<Frame<Bytes>, BoxError>> {
        if self.over {
            return None;
        }
        self.fail(rejection).frame()
    }

    fn fail(&mut self, rejection: Rejection) -> Last {
        let last = self.end(&End::from(&rejection));
        self.failure = Some(rejection);
        last
    }

    fn end(&mut self, end: &End) -> Last {
        self.over = true;
        self.status = Some(end.number());
        let last = self.caller.end(end, &self.context);
        if !matches!(last, Last::Abort(_)) {
            self.trailers = self.caller.trailers(end);
        }
        last
    }

    /// Whether everything was given.
    pub(crate) fn is_over(&self) -> bool {
        self.over && self.trailers.is_none()
    }

    /// Why we ended it, if we did.
    pub(crate) fn failure(&self) -> Option<&Rejection> {
        self.failure.as_ref()
    }

    /// The gRPC code it ended with.
    pub(crate) fn grpc_status(&self) -> u16 {
        self.status.unwrap_or(1)
    }
}

/// The answer to OPTIONS on a path that some rule has.
pub(crate) fn options(allow: &str, mut call: Box<Call>) -> Response<AnswerBody> {
    call.http_status = 204;
    let mut response = Response::new(AnswerBody::full(Bytes::new(), call));
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(http::header::ALLOW, allow);
    }
    response
}
