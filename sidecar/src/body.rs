//! Bodies on their way through: counted, bounded in time, and ended so that the other side can read why.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use prost::Message;

use crate::call::Call;
use crate::coding::Packer;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, REASON};
use crate::leftover::CallerBody;
use crate::progress::Progress;
use crate::reason::Rejection;
use crate::translate::{Answering, AskingBody};
use crate::upstream::again::Again;
use crate::upstream::{self, Answer};

/// Any failure of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What goes upstream.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// Made here: what is sent first, and what is sent then. Empty is what was sent or never was.
    Full(Bytes, Bytes),
    /// As it comes from the caller. Trailers are dropped: a request has none that matter, and some that harm.
    Incoming(CallerBody, Rc<Progress>),
    /// Translated as it comes.
    Asking(Box<AskingBody>),
    /// Sent before, to somebody who did not look at it.
    Again(Box<Again>),
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
            RequestBody::Full(first, then) => {
                let next = if first.is_empty() { then } else { first };
                let next = std::mem::take(next);
                Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
            }
            RequestBody::Incoming(body, progress) => poll_request(body, progress, cx),
            RequestBody::Asking(body) => body.poll_frame(cx),
            RequestBody::Again(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Full(first, then) => first.is_empty() && then.is_empty(),
            RequestBody::Incoming(body, _) => body.is_end_stream(),
            RequestBody::Asking(body) => body.is_over(),
            RequestBody::Again(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Full(first, then) => SizeHint::with_exact((first.len() + then.len()) as u64),
            RequestBody::Incoming(body, _) => body.size_hint(),
            RequestBody::Asking(_) | RequestBody::Again(_) => SizeHint::default(),
        }
    }
}

/// The next piece of a request that is passed through. It ends with its call: what a clock rang for, or what was answered
/// before the request was complete, needs no more of it.
fn poll_request(
    body: &mut CallerBody,
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
    /// What else is done to it; most bodies go as they are.
    dress: Option<Box<Dress>>,
    /// What it is broken off for, once what came before is out.
    broken: Option<BoxError>,
    /// Told when it ends. One that only announces another protocol has none: that has it.
    call: Option<Box<Call>>,
}

/// What is done to a body on its way out.
#[derive(Default)]
struct Dress {
    packer: Option<Packer>,
    /// After everything.
    trailers: Option<HeaderMap>,
}

enum Inner {
    Done,
    Full(Bytes),
    /// Passed through; a failure becomes trailers for gRPC callers and a broken-off body for others.
    Incoming {
        body: Answer,
        grpc: bool,
    },
    /// What the service says, in the caller's terms.
    Translated(Box<Answering>),
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
            dress: None,
            broken: None,
            call: Some(call),
        }
    }

    /// The upstream's body, as it comes.
    pub(crate) fn passed_through(body: Answer, grpc: bool, call: Box<Call>) -> Self {
        Self {
            inner: Inner::Incoming { body, grpc },
            dress: None,
            broken: None,
            call: Some(call),
        }
    }

    /// What the upstream says, in the caller's terms.
    pub(crate) fn translated(answering: Box<Answering>, call: Box<Call>) -> Self {
        Self {
            inner: Inner::Translated(answering),
            dress: None,
            broken: None,
            call: Some(call),
        }
    }

    /// Leaves its bytes out: the head alone is sent.
    pub(crate) fn leave_out(&mut self) {
        self.inner = Inner::Done;
        self.dress = None;
    }

    /// Nothing, and nobody to be told of it.
    pub(crate) fn none() -> Self {
        Self {
            inner: Inner::Done,
            dress: None,
            broken: None,
            call: None,
        }
    }

    /// The gRPC code that the call ended with, as far as it is known.
    pub(crate) fn grpc_status(&self) -> Option<u16> {
        self.call.as_ref()?.grpc_status
    }

    /// Compresses it. Each part that a stream gives can be read as soon as it is sent.
    pub(crate) fn pack_with(&mut self, packer: Packer) {
        self.dress.get_or_insert_default().packer = Some(packer);
    }

    /// Sends trailers behind it.
    pub(crate) fn follow_with(&mut self, trailers: HeaderMap) {
        self.dress.get_or_insert_default().trailers = Some(trailers);
    }

    fn poll_dressed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let flush = !matches!(self.inner, Inner::Full(_) | Inner::Done);
            let frame = ready!(self.poll_plain(cx)).transpose()?;
            let Some(dress) = &mut self.dress else {
                return Poll::Ready(frame.map(Ok));
            };
            let frame = match frame.map(Frame::into_data) {
                Some(Ok(data)) => match &mut dress.packer {
                    None => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Some(packer) => {
                        let packed = packer.pack(&data, flush)?;
                        // The library may keep it for later.
                        if packed.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(packed))));
                    }
                },
                Some(Err(trailers)) => Some(trailers),
                None => None,
            };
            if let Some(mut packer) = dress.packer.take() {
                // Trailers wait until everything before them is out.
                if let Some(Ok(trailers)) = frame.map(Frame::into_trailers) {
                    dress.trailers = Some(trailers);
                }
                let rest = packer.finish()?;
                if !rest.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
                continue;
            }
            let frame = frame.or_else(|| dress.trailers.take().map(Frame::trailers));
            return Poll::Ready(frame.map(Ok));
        }
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.call {
            Some(call) => self.inner.poll_frame(call, cx),
            None => Poll::Ready(None),
        }
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
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = if this.dress.is_some() {
            this.poll_dressed(cx)
        } else {
            this.poll_plain(cx)
        };
        // The library forgets what it has not sent when a body breaks, the head too. It sends when it has to wait.
        if let Poll::Ready(Some(Err(error))) = polled {
            this.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if self.dress.is_some() || self.broken.is_some() {
            return false;
        }
        match &self.inner {
            Inner::Done => true,
            Inner::Incoming { body, .. } => body.is_end_stream(),
            Inner::Full(_) | Inner::Translated(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.dress.is_some() {
            return SizeHint::default();
        }
        match &self.inner {
            Inner::Done => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming { body, .. } => body.size_hint(),
            Inner::Translated(_) => SizeHint::default(),
        }
    }
}

impl Inner {
    fn poll_frame(
        &mut self,
        call: &mut Call,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let progress = &call.ticket.progress;
        progress.asked();
        let alarm = progress.alarm(cx);
        match self {
            Inner::Done => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Inner::Done;
                call.ticket.progress.gave(bytes.len());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Incoming { body, grpc } => {
                let grpc = *grpc;
                let frame = if let Some(alarm) = alarm {
                    Some(Err(alarm.rejection()))
                } else {
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    frame.map(|frame| frame.map_err(|error| upstream::broken_off(&*error)))
                };
                match frame {
                    None => {
                        *self = Inner::Done;
                        call.stream_ended(None);
                        Poll::Ready(None)
                    }
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            call.ticket.progress.gave(data.len());
                        } else if let Some(trailers) = frame.trailers_ref() {
                            call.stream_ended(Some(trailers));
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(rejection)) => {
                        *self = Inner::Done;
                        call.refused(&rejection);
                        if grpc {
                            Poll::Ready(Some(Ok(Frame::trailers(trailers(&rejection)))))
                        } else {
                            Poll::Ready(Some(Err(rejection.message.into())))
                        }
                    }
                }
            }
            Inner::Translated(answering) => {
                let frame = if let Some(alarm) = alarm {
                    answering.cut_short(alarm.rejection())
                } else {
                    ready!(answering.poll_frame(cx))
                };
                if answering.is_over() {
                    if let Some(rejection) = answering.failure() {
                        call.refused(rejection);
                    }
                    call.grpc_status = Some(answering.grpc_status());
                    *self = Inner::Done;
                }
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    call.ticket.progress.gave(data.len());
                }
                Poll::Ready(frame)
            }
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
