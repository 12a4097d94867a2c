//! A caller that speaks gRPC, to a service that does not.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::framed::Framer;
use super::{Last, Reply};
use crate::headers::{GRPC_ACCEPT_ENCODING, GRPC_ENCODING};
use crate::reason::Rejection;
use crate::translate::codec::{Codec, Encoding};
use crate::translate::envelopes::Envelopes;
use crate::translate::message::{Framing, strip_grpc};
use crate::translate::request::{Inlet, Requests};
use crate::translate::{Context, End, Piece};

/// A gRPC caller.
pub(crate) struct Caller {
    codec: Codec,
    framer: Framer,
}

impl Caller {
    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            framer: Framer::default(),
        }
    }

    /// Whether a head says that the messages are JSON.
    pub(crate) fn is_json(head: &Parts) -> bool {
        let essence = |value: &HeaderValue| {
            let essence = value.as_bytes().split(|byte| *byte == b';').next();
            essence.is_some_and(|essence| {
                essence
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"application/grpc+json")
            })
        };
        head.headers.get(CONTENT_TYPE).is_some_and(essence)
    }

    pub(super) fn request(
        &mut self,
        head: &Parts,
        inlet: Inlet,
        frames: bool,
        context: &Context,
    ) -> Requests {
        if !frames {
            self.framer = Framer::of(&head.headers, &GRPC_ACCEPT_ENCODING, context);
        }
        Requests::Envelopes(if frames {
            Envelopes::passed(inlet, Framing::Grpc, &context.options)
        } else {
            let encoding = Encoding::of(&head.headers, &GRPC_ENCODING);
            let codec = self.codec.clone();
            Envelopes::opened(inlet, Framing::Grpc, encoding, codec, &context.options)
        })
    }

    /// Whether it takes gRPC's frames with protobuf in them.
    pub(super) fn takes_frames(&self) -> bool {
        !self.codec.is_json()
    }

    pub(super) fn piece(&self, piece: Piece, context: &Context) -> Result<Bytes, Rejection> {
        match piece {
            Piece::Framed(bytes) => Ok(bytes),
            Piece::Message(message) => {
                let message = self.codec.write(message, &context.options)?;
                self.framer.frame(&message)
            }
        }
    }

    pub(super) fn end(end: &End) -> Last {
        Last::Trailers(end.trailers.clone())
    }

    pub(super) fn streaming(&self, headers: &mut HeaderMap) {
        strip_grpc(headers);
        headers.extend(self.framer.encoding().map(|encoding| (GRPC_ENCODING, encoding)));
        // What HTTP says of a body it does not say of messages.
        for name in ["etag", "last-modified", "accept-ranges", "content-language"] {
            headers.remove(HeaderName::from_static(name));
        }
        headers.insert(CONTENT_TYPE, self.content_type());
    }

    /// A call that ended without a message: its head is all there is.
    pub(super) fn ended(&self, end: &End) -> Reply {
        let mut headers = end.trailers.clone();
        headers.insert(CONTENT_TYPE, self.content_type());
        Reply {
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
        }
    }

    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(if self.codec.is_json() {
            "application/grpc+json"
        } else {
            "application/grpc"
        })
    }
}
