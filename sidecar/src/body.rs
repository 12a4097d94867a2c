//! Bodies on their way through: counted, bounded in time, and ended so that the other side can read why.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use prost::Message;
use tokio::time::Sleep;

use crate::call::Call;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, REASON};
use crate::reason::{Reason, Rejection};
use crate::translate::JsonStream;

/// Any failure of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of one call, counted where they pass.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From the caller.
    pub(crate) bytes_in: Cell<u64>,
    /// To the caller.
    pub(crate) bytes_out: Cell<u64>,
}

/// What goes upstream.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// One piece, made here.
    Full(Option<Bytes>),
    /// As it comes from the caller. Trailers are dropped: a request has none that matter, and some that harm.
    Incoming(Incoming, Rc<Tally>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Incoming(body, tally) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.data_ref() {
                    Some(data) => {
                        tally.bytes_in.set(tally.bytes_in.get() + data.len() as u64);
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(None),
                },
                Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Full(bytes) => bytes.is_none(),
            RequestBody::Incoming(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty | RequestBody::Full(None) => SizeHint::with_exact(0),
            RequestBody::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Incoming(body, _) => body.size_hint(),
        }
    }
}

/// What goes back to the caller. It holds its [`Call`], which is told when the stream ends, in whatever way.
pub(crate) struct AnswerBody {
    inner: Inner,
    deadline: Option<Pin<Box<Sleep>>>,
    call: Box<Call>,
}

enum Inner {
    Done,
    Full(Bytes),
    /// Passed through; a failure becomes trailers for gRPC callers and a broken-off body for others.
    Incoming {
        body: Incoming,
        grpc: bool,
    },
    /// gRPC messages as JSON.
    Json(Box<JsonStream>),
}

impl AnswerBody {
    /// A whole body, made here.
    pub(crate) fn full(bytes: Bytes, call: Box<Call>) -> Self {
        Self {
            inner: if bytes.is_empty() {
                Inner::Done
            } else {
                Inner::Full(bytes)
            },
            deadline: None,
            call,
        }
    }

    /// The upstream's body, as it comes.
    pub(crate) fn passed_through(body: Incoming, grpc: bool, call: Box<Call>) -> Self {
        let deadline = call.sleep_until_deadline().filter(|_| !body.is_end_stream());
        Self {
            inner: Inner::Incoming { body, grpc },
            deadline,
            call,
        }
    }

    /// The upstream's messages, as JSON.
    pub(crate) fn json(stream: Box<JsonStream>, call: Box<Call>) -> Self {
        Self {
            inner: Inner::Json(stream),
            deadline: call.sleep_until_deadline(),
            call,
        }
    }

    fn count(&self, data: &Bytes) {
        let sent = &self.call.tally.bytes_out;
        sent.set(sent.get() + data.len() as u64);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let late = this
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        match &mut this.inner {
            Inner::Done => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Done;
                this.count(&bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Incoming { body, grpc } => {
                let grpc = *grpc;
                let frame = if late {
                    Some(Err(Rejection::new(
                        Reason::DeadlinePassed,
                        "the deadline passed before the answer was complete",
                    )))
                } else {
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    frame.map(|frame| {
                        frame.map_err(|error| {
                            Rejection::new(Reason::UpstreamReset, "the service broke its answer off")
                                .with_detail(error.to_string())
                        })
                    })
                };
                match frame {
                    None => {
                        this.inner = Inner::Done;
                        this.call.stream_ended(None);
                        Poll::Ready(None)
                    }
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            this.count(data);
                        } else if let Some(trailers) = frame.trailers_ref() {
                            this.call.stream_ended(Some(trailers));
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(rejection)) => {
                        this.inner = Inner::Done;
                        this.call.refused(&rejection);
                        if grpc {
                            Poll::Ready(Some(Ok(Frame::trailers(trailers(&rejection)))))
                        } else {
                            Poll::Ready(Some(Err(rejection.message.into())))
                        }
                    }
                }
            }
            Inner::Json(stream) => {
                let piece = if late {
                    stream.cut_short()
                } else {
                    ready!(stream.poll_piece(cx))
                };
                match piece {
                    Some(Ok(bytes)) => {
                        this.count(&bytes);
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    other => {
                        if let Some(rejection) = stream.failure() {
                            this.call.refused(rejection);
                        }
                        this.call.grpc_status = Some(stream.grpc_status());
                        this.inner = Inner::Done;
                        Poll::Ready(other.map(|error| error.map(Frame::data)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Done => true,
            Inner::Incoming { body, .. } => body.is_end_stream(),
            Inner::Full(_) | Inner::Json(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Done => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming { body, .. } => body.size_hint(),
            Inner::Json(_) => SizeHint::default(),
        }
    }
}

/// A refusal as the trailers a gRPC call ends with.
pub(crate) fn trailers(rejection: &Rejection) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(rejection.reason.grpc()));
    let message = mesh_transcode::status::encode_message(&rejection.message);
    if let Ok(message) = HeaderValue::from_str(&message) {
        trailers.insert(GRPC_MESSAGE, message);
    }
    // The reason header ends at the next sidecar; the details go all the way.
    let details = BASE64_STANDARD_NO_PAD.encode(rejection.status().encode_to_vec());
    if let Ok(details) = HeaderValue::from_str(&details) {
        trailers.insert(GRPC_STATUS_DETAILS, details);
    }
    trailers.insert(REASON, HeaderValue::from_static(rejection.reason.word()));
    trailers
}
