//! What passes between the two sides of a translation.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesh_proto::google::rpc;
use mesh_transcode::frame::FrameError;
use mesh_transcode::status::{self, Code};

use crate::body;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS};
use crate::reason::{Reason, Rejection};

/// A part of a stream of messages.
#[derive(Debug)]
pub(crate) enum Piece {
    /// One message, as protobuf.
    Message(Bytes),
    /// gRPC frames, whole or in part, as they came. Given only where both sides use them.
    Framed(Bytes),
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Item {
    Piece(Piece),
    End(End),
}

/// How a call ended: gRPC trailers, with exactly one status.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) trailers: HeaderMap,
}

impl End {
    /// By the trailers of a gRPC answer; none at all means the service broke a rule.
    pub(crate) fn of_trailers(trailers: HeaderMap) -> Self {
        Self::of(trailers, StatusCode::OK)
    }

    /// By the head of an answer that has nothing else, or that is no gRPC answer.
    pub(crate) fn of_head(headers: &HeaderMap, http: StatusCode) -> Self {
        let mut trailers = HeaderMap::new();
        if headers.contains_key(GRPC_STATUS) {
            trailers.clone_from(headers);
            trailers.remove(http::header::CONTENT_TYPE);
            trailers.remove(http::header::CONTENT_LENGTH);
            trailers.remove(http::header::DATE);
        }
        Self::of(trailers, http)
    }

    fn of(mut trailers: HeaderMap, http: StatusCode) -> Self {
        if !trailers.contains_key(GRPC_STATUS) {
            let code = if http == StatusCode::OK {
                Code::Unknown
            } else {
                Code::from_http(http.as_u16())
            };
            let message = format!(
                "the service answered HTTP {} without a gRPC status",
                http.as_u16()
            );
            trailers.insert(GRPC_STATUS, HeaderValue::from(code.number()));
            if let Ok(message) = HeaderValue::from_str(&status::encode_message(&message)) {
                trailers.insert(GRPC_MESSAGE, message);
            }
        }
        Self { trailers }
    }

    /// The status with its details.
    pub(crate) fn status(&self) -> rpc::Status {
        let bytes = |name: HeaderName| self.trailers.get(name).map(HeaderValue::as_bytes);
        let code = bytes(GRPC_STATUS).filter(|_| self.trailers.get_all(GRPC_STATUS).iter().count() == 1);
        status::from_trailers(code, bytes(GRPC_MESSAGE), bytes(GRPC_STATUS_DETAILS))
    }

    /// The code.
    pub(crate) fn code(&self) -> Code {
        let bytes = self.trailers.get(GRPC_STATUS).map(HeaderValue::as_bytes);
        let code = bytes.filter(|_| self.trailers.get_all(GRPC_STATUS).iter().count() == 1);
        Code::from_number(status::from_trailers(code, None, None).code)
    }

    /// The code as it is counted.
    pub(crate) fn number(&self) -> u16 {
        u16::try_from(self.code().number()).unwrap_or(2)
    }

    /// What the service itself said in its trailers.
    pub(crate) fn metadata(&self) -> HeaderMap {
        let mut metadata = self.trailers.clone();
        strip_grpc(&mut metadata);
        metadata
    }
}

impl From<&Rejection> for End {
    fn from(rejection: &Rejection) -> Self {
        Self {
            trailers: body::trailers(rejection),
        }
    }
}

/// Takes away what is gRPC's and not the service's own metadata.
pub(crate) fn strip_grpc(headers: &mut HeaderMap) {
    for name in [
        http::header::CONTENT_TYPE,
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_ENCODING,
    ] {
        headers.remove(name);
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("grpc-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whose frames a request is made of. Each has its own word for them, and its own code for those that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Grpc,
    GrpcWeb,
    Connect,
}

impl Framing {
    /// A caller's frame that cannot be read.
    pub(crate) fn bad_frame(self, error: &FrameError) -> Rejection {
        let message = match error {
            FrameError::TooLarge { .. } => {
                return Rejection::new(Reason::RequestTooLarge, error.to_string());
            }
            FrameError::BadFlag(flag) => format!(
                "{flag} is not the flag of {}; a request has 0, or 1 where the message is compressed",
                match self {
                    Framing::Grpc => "a gRPC frame",
                    Framing::GrpcWeb => "a gRPC-Web frame",
                    Framing::Connect => "a Connect envelope",
                }
            ),
            FrameError::Truncated => error.to_string(),
        };
        Rejection::new(self.or_unreadable(Reason::FrameMalformed), message)
    }

    /// A method that takes one message got none.
    pub(crate) fn no_message(self) -> Rejection {
        let reason = self.or_unreadable(Reason::MessageMissing);
        Rejection::new(reason, "the request holds no message")
    }

    /// A method that takes one message got another.
    pub(crate) fn second_message(self) -> Rejection {
        let reason = self.or_unreadable(Reason::MessageSecond);
        let why = "the request holds a second message, and the method takes one";
        Rejection::new(reason, why)
    }

    /// gRPC has codes of its own for what is wrong with frames; to Connect an envelope is a part of the argument.
    fn or_unreadable(self, of_grpc: Reason) -> Reason {
        match self {
            Framing::Grpc | Framing::GrpcWeb => of_grpc,
            Framing::Connect => Reason::RequestUnreadable,
        }
    }
}

/// A service's frame that cannot be read.
pub(crate) fn bad_answer_frame(error: &FrameError) -> Rejection {
    let reason = match error {
        FrameError::TooLarge { .. } => Reason::ResponseTooLarge,
        _ => Reason::ResponseUnreadable,
    };
    Rejection::new(reason, error.to_string())
}
