//! A caller that speaks Connect.
//!
//! ```text
//!  unary   body | query of a GET ─► one message;  message | error as JSON, trailers as headers `trailer-…` ◄─ end
//!  stream  envelopes ─► frames, watched | messages;  envelopes, the last one with error and trailers ◄─ end
//! ```

mod judge;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mesh_transcode::connect;
use mesh_transcode::frame::Frame;

use super::framed::Framer;
use super::{Last, Manner, Reply, Waits};
use crate::coding::Coding;
use crate::headers::{self, GRPC_ACCEPT_ENCODING, GRPC_ENCODING};
use crate::reason::Rejection;
use crate::translate::codec::{Codec, Encoding, Unopened};
use crate::translate::envelopes::Envelopes;
use crate::translate::message::{Framing, bad_answer_frame, strip_grpc};
use crate::translate::request::{Inlet, Requests};
use crate::translate::{Context, End, Piece};

pub(crate) use judge::{check_charset, check_form, check_version};

const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const STREAM_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const STREAM_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("connect-accept-encoding");
/// Before the names of trailers that are told as headers.
const TRAILER_PREFIX: &str = "trailer-";

/// How a caller speaks Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Its messages come in envelopes.
    pub(crate) stream: bool,
    /// Its messages are JSON.
    pub(crate) json: bool,
}

impl Form {
    /// That of a GET, whose codec is told by its query.
    pub(crate) const GET: Self = Self {
        stream: false,
        json: false,
    };

    /// The form a head speaks of. A unary GET is told by its query and the method it names, see [`connect::Get::is`].
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        Self::named(head).filter(|form| form.stream || head.method == Method::POST)
    }

    /// The form its content type names, whatever the method. A unary call in JSON is Connect's only where it says so.
    pub(crate) fn named(head: &Parts) -> Option<Self> {
        let value = head.headers.get(CONTENT_TYPE)?;
        let essence = value.as_bytes().split(|byte| *byte == b';').next()?;
        let essence = essence.trim_ascii().to_ascii_lowercase();
        match essence.strip_prefix(b"application/")? {
            b"connect+proto" => Some(Self {
                stream: true,
                json: false,
            }),
            b"connect+json" => Some(Self {
                stream: true,
                json: true,
            }),
            b"proto" => Some(Self {
                stream: false,
                json: false,
            }),
            b"json" if head.headers.contains_key(VERSION) => Some(Self {
                stream: false,
                json: true,
            }),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match (self.stream, self.json) {
            (false, false) => "application/proto",
            (false, true) => "application/json",
            (true, false) => "application/connect+proto",
            (true, true) => "application/connect+json",
        })
    }

    /// The header that names encodings of messages.
    pub(crate) fn accept_encoding(self) -> HeaderName {
        if self.stream {
            STREAM_ACCEPT_ENCODING
        } else {
            ACCEPT_ENCODING
        }
    }

    /// A refusal of ours. What HTTP has a status of its own for is told by that.
    pub(crate) fn refused(self, rejection: &Rejection) -> Reply {
        let end = End::from(rejection);
        let http = rejection.reason.http();
        let has_own_status = matches!(http, 405 | 414 | 415);
        let mut reply = if has_own_status {
            Form {
                stream: false,
                ..self
            }
            .ended(HeaderMap::new(), &end)
        } else {
            self.ended(HeaderMap::new(), &end)
        };
        if has_own_status {
            reply.status = StatusCode::from_u16(http).unwrap_or(reply.status);
        }
        reply
    }

    /// A call that ended without a message.
    fn ended(self, mut headers: HeaderMap, end: &End) -> Reply {
        strip_grpc(&mut headers);
        if self.stream {
            headers.insert(CONTENT_TYPE, self.content_type());
            return Reply {
                status: StatusCode::OK,
                headers,
                body: last_envelope(end).unwrap_or_default(),
            };
        }
        add_trailers(&mut headers, end);
        let body = Bytes::from(connect::error(&end.status()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let status = StatusCode::from_u16(end.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply {
            status,
            headers,
            body,
        }
    }
}

/// A Connect caller.
pub(crate) struct Caller {
    form: Form,
    codec: Codec,
    /// The message of a GET.
    get: Option<connect::Get>,
    framer: Framer,
    /// As in [`Manner`], where the answer is one message.
    coding: Option<Option<Coding>>,
}

impl Caller {
    pub(crate) fn new(form: Form, codec: Codec) -> Self {
        Self {
            form,
            codec,
            get: None,
            framer: Framer::default(),
            coding: None,
        }
    }

    /// One that asks with a GET.
    pub(crate) fn get(get: connect::Get, codec: Codec) -> Self {
        let form = Form {
            stream: false,
            json: get.json,
        };
        Self {
            get: Some(get),
            ..Self::new(form, codec)
        }
    }

    pub(super) async fn request(
        &mut self,
        head: &mut Parts,
        inlet: Inlet,
        frames: bool,
        context: &Context,
    ) -> Result<Requests, Rejection> {
        let options = &context.options;
        if self.form.stream {
            if !frames {
                self.framer = Framer::of(&head.headers, &STREAM_ACCEPT_ENCODING, context);
            }
        } else if context.rest.compress {
            let accepted = headers::joined(&head.headers, &ACCEPT_ENCODING);
            self.coding = Some(accepted.as_deref().and_then(Coding::choose));
        }
        let asked = if let Some(get) = self.get.take() {
            let encoding = if get.gzip {
                Encoding::Gzip
            } else {
                Encoding::Identity
            };
            Requests::One(Some(self.message(
                get.message.into(),
                encoding,
                get.gzip,
                context,
            )?))
        } else if !self.form.stream {
            let encoding = Encoding::of(&head.headers, &CONTENT_ENCODING);
            let body = inlet.whole(options.limits.message_bytes).await?;
            let compressed = encoding != Encoding::Identity;
            Requests::One(Some(self.message(body, encoding, compressed, context)?))
        } else if frames {
            rename(&mut head.headers, &STREAM_ENCODING, GRPC_ENCODING);
            rename(&mut head.headers, &STREAM_ACCEPT_ENCODING, GRPC_ACCEPT_ENCODING);
            Requests::Envelopes(Envelopes::passed(inlet, Framing::Connect, options))
        } else {
            let encoding = Encoding::of(&head.headers, &STREAM_ENCODING);
            let codec = self.codec.clone();
            let framing = Framing::Connect;
            Requests::Envelopes(Envelopes::opened(inlet, framing, encoding, codec, options))
        };
        for name in [
            VERSION,
            headers::CONNECT_TIMEOUT,
            STREAM_ENCODING,
            STREAM_ACCEPT_ENCODING,
            CONTENT_ENCODING,
            headers::GRPC_TIMEOUT,
        ] {
            head.headers.remove(name);
        }
        Ok(asked)
    }

    fn message(
        &self,
        bytes: Bytes,
        encoding: Encoding,
        compressed: bool,
        context: &Context,
    ) -> Result<Bytes, Rejection> {
        let frame = Frame {
            compressed,
            message: bytes,
        };
        let opened = encoding.open(frame, context.options.limits.message_bytes);
        self.codec
            .read(opened.map_err(Unopened::of_request)?, &context.options)
    }

    /// Whether it takes gRPC's frames with protobuf in them.
    pub(super) fn takes_frames(&self) -> bool {
        self.form.stream && !self.codec.is_json()
    }

    pub(super) fn waits(&self) -> Waits {
        if self.form.stream {
            Waits::No
        } else {
            Waits::ForEnd
        }
    }

    pub(super) fn manner(&self) -> Manner {
        Manner {
            coding: self.coding,
            ..Manner::default()
        }
    }

    pub(super) fn piece(&self, piece: Piece, context: &Context) -> Result<Bytes, Rejection> {
        match piece {
            Piece::Framed(bytes) => Ok(bytes),
            Piece::Message(message) => {
                let message = self.codec.write(message, &context.options)?;
                if self.form.stream {
                    self.framer.frame(&message)
                } else {
                    Ok(message)
                }
            }
        }
    }

    pub(super) fn end(&self, end: &End) -> Last {
        match last_envelope(end) {
            Ok(bytes) => Last::Bytes(bytes),
            Err(rejection) => Last::Abort(rejection.message),
        }
    }

    /// `frames`: messages are compressed as the service says.
    pub(super) fn streaming(&self, headers: &mut HeaderMap, frames: bool) {
        let passed = headers.remove(GRPC_ENCODING).filter(|_| frames);
        let encoding = passed.or_else(|| self.framer.encoding());
        strip_grpc(headers);
        headers.extend(encoding.map(|encoding| (STREAM_ENCODING, encoding)));
        headers.insert(CONTENT_TYPE, self.form.content_type());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }

    pub(super) fn ended(&self, headers: HeaderMap, end: &End) -> Reply {
        self.form.ended(headers, end)
    }

    pub(super) fn whole(&self, mut headers: HeaderMap, message: Bytes, end: &End) -> Reply {
        strip_grpc(&mut headers);
        add_trailers(&mut headers, end);
        headers.insert(CONTENT_TYPE, self.form.content_type());
        headers.insert(CONTENT_LENGTH, HeaderValue::from(message.len()));
        Reply {
            status: StatusCode::OK,
            headers,
            body: message,
        }
    }
}

/// The envelope that ends a stream.
fn last_envelope(end: &End) -> Result<Bytes, Rejection> {
    let metadata = end.metadata();
    let pairs = metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    connect::end(&end.status(), pairs)
        .map(Bytes::from)
        .map_err(|error| bad_answer_frame(&error))
}

/// Tells trailers as headers, which is where unary callers look for them.
fn add_trailers(headers: &mut HeaderMap, end: &End) {
    for (name, value) in &end.metadata() {
        if let Ok(name) = HeaderName::try_from(format!("{TRAILER_PREFIX}{name}")) {
            headers.append(name, value.clone());
        }
    }
}

fn rename(headers: &mut HeaderMap, from: &HeaderName, to: HeaderName) {
    headers.remove(&to);
    if let Some(value) = headers.remove(from) {
        headers.insert(to, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    fn of(method: &str, content_type: &str, version: bool) -> Option<(bool, bool)> {
        let mut request = http::Request::builder()
            .method(method)
            .header(CONTENT_TYPE, content_type);
        if version {
            request = request.header(VERSION, "1");
        }
        let head = request.body(()).unwrap().into_parts().0;
        Form::of(&head).map(|form| (form.stream, form.json))
    }

    #[test]
    fn what_it_speaks_is_told_by_its_content_type_and_in_json_by_its_version_header() {
        assert_eq!(of("POST", "application/proto", false), Some((false, false)));
        assert_eq!(
            of("POST", "application/json; charset=utf-8", true),
            Some((false, true))
        );
        assert_eq!(of("POST", "application/json", false), None);
        assert_eq!(of("PUT", "application/proto", true), None);
        assert_eq!(
            of("POST", "Application/Connect+Proto", false),
            Some((true, false))
        );
        assert_eq!(of("POST", "application/connect+json", true), Some((true, true)));
        assert_eq!(of("POST", "application/connect+xml", true), None);
        assert_eq!(of("POST", "application/grpc", true), None);
    }

    #[test]
    fn refusals_have_the_status_of_their_code_and_streams_tell_them_at_their_end() {
        let unary = Form {
            stream: false,
            json: false,
        };
        let denied = Rejection::new(Reason::AccessDenied, "no");
        let reply = unary.refused(&denied);
        assert_eq!(reply.status, 403);
        assert_eq!(reply.headers[CONTENT_TYPE], "application/json");
        assert!(reply.body.starts_with(b"{\"code\":\"permission_denied\""));
        let stream = Form {
            stream: true,
            ..unary
        };
        let reply = stream.refused(&denied);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers[CONTENT_TYPE], "application/connect+proto");
        assert_eq!(reply.body[0], 2);
        let taken = Rejection::new(Reason::ContentTypeUnknown, "takes others");
        let reply = stream.refused(&taken);
        assert_eq!((reply.status.as_u16(), reply.body[0]), (415, b'{'));
    }
}
