//! A caller that speaks gRPC-Web: gRPC's frames, with the trailers as the last one; in base64 where it asks.
//!
//! ```text
//!  frames | text ─► frames, watched;  messages where they are JSON
//!  frames | text ◄─ frames, and a frame of trailers ◄─ end
//! ```

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use mesh_transcode::grpc_web;

use super::framed::Framer;
use super::{Last, Reply};
use crate::headers::{GRPC_ACCEPT_ENCODING, GRPC_ENCODING};
use crate::reason::Rejection;
use crate::translate::codec::{Codec, Encoding};
use crate::translate::envelopes::Envelopes;
use crate::translate::message::{Framing, bad_answer_frame, strip_grpc};
use crate::translate::request::{Inlet, Requests};
use crate::translate::{Context, End, Piece};

const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
const X_USER_AGENT: HeaderName = HeaderName::from_static("x-user-agent");

/// How a caller speaks gRPC-Web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Its request is base64.
    asks_in_text: bool,
    /// Its answer is to be base64.
    text: bool,
    /// Its messages are JSON.
    pub(crate) json: bool,
}

impl Form {
    /// The form a head speaks of, if its content type is gRPC-Web's.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let asks = MediaType::of(headers.get(CONTENT_TYPE)?)?;
        // `Accept` is how the answer is wanted; a caller that says nothing of gRPC-Web wants it as it asked.
        let accepted = headers.get(ACCEPT).and_then(MediaType::of);
        Some(Self {
            asks_in_text: asks.text,
            text: accepted.map_or(asks.text, |accepted| accepted.text),
            json: asks.json,
        })
    }

    /// A call that ended without a message, our own refusals among them: the trailers are all of the body.
    pub(crate) fn ended(self, end: &End) -> Reply {
        let mut headers = HeaderMap::new();
        self.mark(&mut headers);
        Reply {
            status: StatusCode::OK,
            headers,
            body: self.trailers(end).unwrap_or_default(),
        }
    }

    fn mark(self, headers: &mut HeaderMap) {
        let content_type = match (self.text, self.json) {
            (false, false) => "application/grpc-web+proto",
            (false, true) => "application/grpc-web+json",
            (true, false) => "application/grpc-web-text+proto",
            (true, true) => "application/grpc-web-text+json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }

    fn trailers(self, end: &End) -> Result<Bytes, Rejection> {
        let trailers = end.trailers.iter();
        let lines = trailers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let frame = grpc_web::trailers(lines).map_err(|error| bad_answer_frame(&error))?;
        Ok(self.written(frame.into()))
    }

    fn written(self, bytes: Bytes) -> Bytes {
        if self.text {
            grpc_web::encode_text(&bytes).into()
        } else {
            bytes
        }
    }
}

/// A gRPC-Web caller.
pub(crate) struct Caller {
    form: Form,
    codec: Codec,
    framer: Framer,
}

impl Caller {
    pub(crate) fn new(form: Form, codec: Codec) -> Self {
        Self {
            form,
            codec,
            framer: Framer::default(),
        }
    }

    pub(super) fn request(
        &mut self,
        head: &mut Parts,
        inlet: Inlet,
        frames: bool,
        context: &Context,
    ) -> Requests {
        // What browsers may not write as user-agent comes under another name.
        if let Some(agent) = head.headers.remove(X_USER_AGENT) {
            head.headers.insert(USER_AGENT, agent);
        }
        head.headers.remove(X_GRPC_WEB);
        let text = self.form.asks_in_text;
        if !frames {
            self.framer = Framer::of(&head.headers, &GRPC_ACCEPT_ENCODING, context);
        }
        let framing = Framing::GrpcWeb;
        let envelopes = if frames {
            Envelopes::passed(inlet, framing, &context.options)
        } else {
            let encoding = Encoding::of(&head.headers, &GRPC_ENCODING);
            Envelopes::opened(inlet, framing, encoding, self.codec.clone(), &context.options)
        };
        Requests::Envelopes(envelopes.in_text(text))
    }

    /// Whether it takes gRPC's frames with protobuf in them.
    pub(super) fn takes_frames(&self) -> bool {
        !self.codec.is_json()
    }

    pub(super) fn piece(&self, piece: Piece, context: &Context) -> Result<Bytes, Rejection> {
        let bytes = match piece {
            Piece::Framed(bytes) => bytes,
            Piece::Message(message) => {
                let message = self.codec.write(message, &context.options)?;
                self.framer.frame(&message)?
            }
        };
        Ok(self.form.written(bytes))
    }

    pub(super) fn end(&self, end: &End) -> Last {
        match self.form.trailers(end) {
            Ok(bytes) => Last::Bytes(bytes),
            Err(rejection) => Last::Abort(rejection.message),
        }
    }

    /// `frames`: messages are compressed as the service says.
    pub(super) fn streaming(&self, headers: &mut HeaderMap, frames: bool) {
        let passed = headers.remove(GRPC_ENCODING).filter(|_| frames);
        let encoding = passed.or_else(|| self.framer.encoding());
        strip_grpc(headers);
        headers.extend(encoding.map(|encoding| (GRPC_ENCODING, encoding)));
        self.form.mark(headers);
    }

    pub(super) fn ended(&self, end: &End) -> Reply {
        self.form.ended(end)
    }
}

/// A media type of gRPC-Web.
#[derive(Debug, Clone, Copy)]
struct MediaType {
    text: bool,
    json: bool,
}

impl MediaType {
    fn of(value: &HeaderValue) -> Option<Self> {
        let essence = value.as_bytes().split(|byte| b";,".contains(byte)).next()?;
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let rest = essence.strip_prefix(b"application/grpc-web")?;
        let (text, rest) = match rest.strip_prefix(b"-text") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        match rest {
            b"" | b"+proto" => Some(Self { text, json: false }),
            b"+json" => Some(Self { text, json: true }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_transcode::grpc_web::TextDecoder;

    use super::*;
    use crate::reason::Reason;

    fn of(content_type: &'static str, accept: Option<&'static str>) -> Option<(bool, bool, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.extend(accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))));
        Form::of(&headers).map(|form| (form.asks_in_text, form.text, form.json))
    }

    #[test]
    fn what_it_speaks_is_told_by_its_content_type_and_what_it_accepts() {
        let binary = Some((false, false, false));
        let text = Some((true, true, false));
        assert_eq!(of("application/grpc-web", None), binary);
        assert_eq!(of("Application/gRPC-Web+proto; x=y", None), binary);
        assert_eq!(of("application/grpc-web+json", None), Some((false, false, true)));
        assert_eq!(of("application/grpc-web-text", None), text);
        assert_eq!(of("application/grpc-web-text+proto", Some("*/*")), text);
        assert_eq!(
            of("application/grpc-web", Some("application/grpc-web-text")),
            Some((false, true, false))
        );
        for other in [
            "application/grpc",
            "application/grpc-webb",
            "application/grpc-web+xml",
            "application/json",
            "text/grpc-web",
        ] {
            assert_eq!(of(other, None), None, "{other}");
        }
    }

    #[test]
    fn a_call_that_ended_at_once_is_a_body_of_trailers() {
        let rejection = Rejection::new(Reason::AccessDenied, "no");
        let form = Form {
            asks_in_text: true,
            text: true,
            json: false,
        };
        let reply = form.ended(&End::from(&rejection));
        let mut decoder = TextDecoder::default();
        let body = decoder.push(&reply.body).unwrap();
        assert_eq!(body[0], 0x80);
        assert!(body[5..].starts_with(b"grpc-status: 7\r\n"), "{body:?}");
        assert_eq!(reply.headers[CONTENT_TYPE], "application/grpc-web-text+proto");
    }
}
