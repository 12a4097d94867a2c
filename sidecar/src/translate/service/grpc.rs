//! A service that speaks gRPC.

use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, response};
use http_body::Body;
use mesh_transcode::frame::{self, Decoder};
use mesh_transcode::grpc_web::Walker;

use crate::body::RequestBody;
use crate::headers::{self, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, GRPC_STATUS};
use crate::reason::{Reason, Rejection};
use crate::translate::codec::{self, Encoding, Unopened};
use crate::translate::message::{Framing, bad_answer_frame};
use crate::translate::{Context, End, Item, Piece};
use crate::upstream::{self, Answer};

/// Makes a request's head one of gRPC. `frames`: the caller's frames pass as they are, as do its words on compression.
///
/// # Errors
/// The RPC's name is no path.
pub(crate) fn head(head: &mut Parts, rpc: &str, frames: bool) -> Result<(), Rejection> {
    head.uri = Uri::try_from(format!("/{rpc}"))
        .map_err(|error| Rejection::new(Reason::RequestMalformed, error.to_string()))?;
    head.method = Method::POST;
    for name in [CONTENT_LENGTH, ACCEPT, ACCEPT_ENCODING, EXPECT] {
        head.headers.remove(name);
    }
    if !frames {
        head.headers.remove(GRPC_ENCODING);
        head.headers
            .insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(codec::READ));
    }
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(())
}

/// A request of one message.
///
/// # Errors
/// It is over 4 GiB.
pub(crate) fn one(message: Option<Bytes>) -> Result<RequestBody, Rejection> {
    let Some(message) = message else {
        return Ok(RequestBody::Empty);
    };
    let (first, then) = frame::pieces(message).map_err(|error| Framing::Grpc.bad_frame(&error))?;
    Ok(RequestBody::Full(first, then))
}

/// The end, where the head is all there is, or is none of gRPC.
pub(crate) fn ended(head: &response::Parts) -> Option<End> {
    let over = head.headers.contains_key(GRPC_STATUS) || !headers::is_grpc(&head.headers);
    over.then(|| End::of_head(&head.headers, head.status))
}

/// The frames and trailers of an answer.
pub(crate) struct Answers {
    body: Answer,
    frames: Frames,
}

enum Frames {
    /// Passed on as they come.
    Passed(Walker),
    /// Cut into messages, and decompressed.
    Cut(Decoder, Encoding, usize),
}

impl Answers {
    pub(crate) fn new(head: &response::Parts, body: Answer, frames: bool, context: &Context) -> Self {
        let bytes_max = context.options.limits.message_bytes;
        let frames = if frames {
            Frames::Passed(Walker::new(bytes_max))
        } else {
            Frames::Cut(
                Decoder::new(bytes_max),
                Encoding::of(&head.headers, &GRPC_ENCODING),
                bytes_max,
            )
        };
        Self { body, frames }
    }

    pub(crate) fn poll_item(&mut self, cx: &mut Poller<'_>) -> Poll<Result<Item, Rejection>> {
        loop {
            if let Frames::Cut(decoder, encoding, bytes_max) = &mut self.frames
                && let Some(frame) = decoder.next().map_err(|error| bad_answer_frame(&error))?
            {
                let message = encoding.open(frame, *bytes_max).map_err(Unopened::of_answer)?;
                return Poll::Ready(Ok(Item::Piece(Piece::Message(message))));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        let data = data.copy_to_bytes(data.remaining());
                        match &mut self.frames {
                            Frames::Cut(decoder, ..) => decoder.push(data),
                            Frames::Passed(walker) => {
                                walker.pass(&data).map_err(|error| bad_answer_frame(&error))?;
                                return Poll::Ready(Ok(Item::Piece(Piece::Framed(data))));
                            }
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return Poll::Ready(self.ended(trailers));
                        }
                    }
                },
                Some(Err(error)) => {
                    return Poll::Ready(Err(upstream::broken_off(&*error)));
                }
                None => return Poll::Ready(self.ended(HeaderMap::new())),
            }
        }
    }

    fn ended(&self, mut trailers: HeaderMap) -> Result<Item, Rejection> {
        headers::clean_response(&mut trailers);
        let end = End::of_trailers(trailers);
        if end.number() == 0 {
            match &self.frames {
                Frames::Passed(walker) => walker.finish(),
                Frames::Cut(decoder, ..) => decoder.finish(),
            }
            .map_err(|error| bad_answer_frame(&error))?;
        }
        Ok(Item::End(end))
    }
}
