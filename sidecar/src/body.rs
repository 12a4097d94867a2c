//! Bodies on their way through: counted, bounded in time, and ended so that the other side can read why.

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

use crate::call::Call;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, REASON};
use crate::progress::Progress;
use crate::reason::{Reason, Rejection};
use crate::translate::JsonStream;
use crate::upstream::Answer;

/// Any failure of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What goes upstream.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// One piece, made here.
    Full(Option<Bytes>),
    /// As it comes from the caller. Trailers are dropped: a request has none that matter, and some that harm.
    Incoming(Incoming, Rc<Progress>),
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
            RequestBody::Incoming(body, progress) => poll_request(body, progress, cx),
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

/// The next piece of a request that is passed through. It ends with its call: what a clock rang for, or what was answered
/// before the request was complete, needs no more of it.
fn poll_request(
    body: &mut Incoming,
    progress: &Progress,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    if progress.has_rung().is_some() {
        return Poll::Ready(Some(Err("the call is over".into())));
    }
    let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
        progress.waits_for_caller(cx);
        return Poll::Pending;
    };
    if let Some(Ok(frame)) = &frame
        && let Some(data) = frame.data_ref()
    {
        progress.came(data.len());
    } else {
        progress.owes_nothing();
    }
    Poll::Ready(match frame {
        Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
        Some(Err(error)) => Some(Err(error.into())),
        Some(Ok(_)) | None => None,
    })
}

/// What goes back to the caller. It holds its [`Call`], which is told when the stream ends, in whatever way.
pub(crate) struct AnswerBody {
    inner: Inner,
    call: Box<Call>,
}

enum Inner {
    Done,
    Full(Bytes),
    /// Passed through; a failure becomes trailers for gRPC callers and a broken-off body for others.
    Incoming {
        body: Answer,
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
            call,
        }
    }

    /// The upstream's body, as it comes.
    pub(crate) fn passed_through(body: Answer, grpc: bool, call: Box<Call>) -> Self {
        Self {
            inner: Inner::Incoming { body, grpc },
            call,
        }
    }

    /// The upstream's messages, as JSON.
    pub(crate) fn json(stream: Box<JsonStream>, call: Box<Call>) -> Self {
        Self {
            inner: Inner::Json(stream),
            call,
        }
    }

    fn count(&self, data: &Bytes) {
        self.call.ticket.progress.gave(data.len());
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
        let progress = &this.call.ticket.progress;
        progress.asked();
        let alarm = progress.alarm(cx);
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
                let frame = if let Some(alarm) = alarm {
                    Some(Err(alarm.rejection()))
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
                let piece = if let Some(alarm) = alarm {
                    stream.cut_short(alarm.rejection())
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
