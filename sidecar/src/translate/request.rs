//! The request on its way: the caller's bytes as messages, and those as the service's bytes.
//!
//! ```text
//!  Incoming ─► Inlet ─► Requests ─ Piece ─► AskingBody ─► upstream
//!                          └ wrong: kept in the call's progress, upstream reset; the caller gets the refusal as its answer
//! ```

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Poller, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use mesh_transcode::frame;

use super::envelopes::Envelopes;
use super::message::{Framing, Piece};
use crate::body::BoxError;
use crate::coding::{Coding, Unpacker, Wrong};
use crate::leftover::CallerBody;
use crate::progress::Progress;
use crate::reason::{Reason, Rejection};
use crate::translate::caller::rest;

/// A caller's body, counted, and given up when a clock rings for the call.
pub(crate) struct Inlet {
    body: CallerBody,
    progress: Rc<Progress>,
    unpacker: Option<Box<Unpacker>>,
    ended: bool,
}

impl Inlet {
    pub(crate) fn new(body: Incoming, progress: Rc<Progress>) -> Self {
        Self {
            body: CallerBody::new(body),
            progress,
            unpacker: None,
            ended: false,
        }
    }

    /// The body without the coding it comes in.
    pub(crate) fn unpacked(mut self, coding: Coding) -> Self {
        self.unpacker = Some(Box::new(Unpacker::new(coding)));
        self
    }

    /// How many bytes are known to come, at most `bytes_max`. Nothing is known of what is compressed.
    pub(crate) fn expects(&self, bytes_max: usize) -> usize {
        if self.unpacker.is_some() {
            return 0;
        }
        usize::try_from(self.body.size_hint().lower()).map_or(bytes_max, |bytes| bytes.min(bytes_max))
    }

    /// Whether it is known to be over a limit before any of it came.
    pub(crate) fn expects_more_than(&self, bytes_max: usize) -> bool {
        self.unpacker.is_none() && self.body.size_hint().lower() > bytes_max as u64
    }

    /// The next data; `None` at the end. Trailers of a request have no meaning for us.
    pub(crate) fn poll_data(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Bytes, Rejection>>> {
        if self.unpacker.is_none() {
            return self.poll_sent(cx);
        }
        loop {
            if let Some(unpacker) = &mut self.unpacker
                && let Some(chunk) = unpacker.next().map_err(unpackable).transpose()
            {
                return Poll::Ready(Some(chunk));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let sent = ready!(self.poll_sent(cx));
            match (sent, &mut self.unpacker) {
                (Some(Ok(data)), Some(unpacker)) => unpacker.push(&data),
                (None, Some(unpacker)) => {
                    unpacker.end();
                    self.ended = true;
                }
                (sent, _) => return Poll::Ready(sent),
            }
        }
    }

    /// The next data as it was sent.
    fn poll_sent(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Bytes, Rejection>>> {
        if let Some(alarm) = self.progress.has_rung() {
            return Poll::Ready(Some(Err(alarm.rejection())));
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                self.progress.waits_for_caller(cx);
                return Poll::Pending;
            };
            let frame = match frame {
                None => {
                    self.progress.owes_nothing();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.progress.owes_nothing();
                    let rejection = Rejection::new(Reason::RequestMalformed, "the request's body broke off");
                    return Poll::Ready(Some(Err(rejection.with_detail(error.to_string()))));
                }
                Some(Ok(frame)) => frame,
            };
            let Ok(mut data) = frame.into_data() else { continue };
            self.progress.came(data.len());
            return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
        }
    }

    /// The next data.
    ///
    /// # Errors
    /// It does not come, or the body breaks off.
    pub(crate) async fn data(&mut self) -> Result<Option<Bytes>, Rejection> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }

    /// All of it.
    ///
    /// # Errors
    /// It is over the limit, does not come, or breaks off.
    pub(crate) async fn whole(mut self, bytes_max: usize) -> Result<Bytes, Rejection> {
        if self.expects_more_than(bytes_max) {
            return Err(too_large(bytes_max));
        }
        let mut first: Option<Bytes> = None;
        let mut whole = BytesMut::new();
        while let Some(data) = self.data().await? {
            if whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            // The common body comes in one piece and is not copied.
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                earlier => {
                    whole.extend_from_slice(&earlier.unwrap_or_default());
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| whole.freeze()))
    }
}

/// A body that is not what its content encoding says, or asks for too much.
fn unpackable(wrong: Wrong) -> Rejection {
    match wrong {
        Wrong::Broken(why) => Rejection::new(Reason::RequestUnreadable, why),
        Wrong::TooLarge => Rejection::new(
            Reason::RequestTooLarge,
            "the compressed body needs more memory than it may",
        ),
    }
}

/// A request over the limit.
pub(crate) fn too_large(bytes_max: usize) -> Rejection {
    Rejection::new(
        Reason::RequestTooLarge,
        format!("the request is over {bytes_max} bytes"),
    )
}

/// The caller's side of a request: what it asks, as messages. One kind for each way callers write them.
pub(crate) enum Requests {
    /// One message that was read before the service hears of the call.
    One(Option<Bytes>),
    /// What a REST caller streams.
    Rest(Box<rest::Upload>),
    /// What one says over a WebSocket.
    Socket(Box<rest::SocketRequests>),
    /// Frames.
    Envelopes(Box<Envelopes>),
}

impl Requests {
    /// The next piece, or the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Piece, Rejection>>> {
        match self {
            Requests::One(message) => Poll::Ready(message.take().map(|message| Ok(Piece::Message(message)))),
            Requests::Rest(upload) => upload.poll_piece(cx),
            Requests::Socket(requests) => requests.poll_piece(cx),
            Requests::Envelopes(envelopes) => envelopes.poll_piece(cx),
        }
    }

    /// Whose frames they come in; what comes in none is read like Connect's unary calls.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Requests::Envelopes(envelopes) => envelopes.framing(),
            Requests::One(_) | Requests::Rest(_) | Requests::Socket(_) => Framing::Connect,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Requests::One(message) => message.is_none(),
            Requests::Rest(_) | Requests::Socket(_) | Requests::Envelopes(_) => false,
        }
    }
}

/// What goes upstream while it is being read and translated.
pub(crate) struct AskingBody {
    requests: Requests,
    progress: Rc<Progress>,
    /// A large message whose header was sent.
    then: Bytes,
    over: bool,
}

impl AskingBody {
    pub(crate) fn new(requests: Requests, progress: Rc<Progress>) -> Self {
        Self {
            requests,
            progress,
            then: Bytes::new(),
            over: false,
        }
    }

    /// As [`Body::poll_frame`], for a service that takes gRPC's frames. A request that turns out to be wrong is kept for
    /// the answer and ends the call upstream.
    pub(crate) fn poll_frame(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.then.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.then)))));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let framed = match ready!(self.requests.poll_piece(cx)) {
            None => {
                self.over = true;
                return Poll::Ready(None);
            }
            Some(Ok(Piece::Framed(bytes))) => Ok(bytes),
            Some(Ok(Piece::Message(message))) => {
                let pieces = frame::pieces(message).map_err(|error| Framing::Grpc.bad_frame(&error));
                pieces.map(|(first, then)| {
                    self.then = then;
                    first
                })
            }
            Some(Err(rejection)) => Err(rejection),
        };
        Poll::Ready(Some(match framed {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(rejection) => {
                self.over = true;
                self.progress.refuse(rejection);
                // On HTTP/2 this becomes a reset with this very reason: the service is told to stop.
                Err(h2::Error::from(h2::Reason::CANCEL).into())
            }
        }))
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.then.is_empty() && (self.over || self.requests.is_over())
    }
}
