//! `google.api.HttpBody`: bodies that are not JSON, carried as they are, as the whole message or one field of it.
//!
//! ```text
//!  content-type + bytes ─► Match::http_body_message ─► protobuf      protobuf ─► Match::http_body ─► content-type + bytes
//! ```
//!
//! Where a rule's body or answer is one, the bytes are not JSON, and nothing here looks into them.

use std::ops::ControlFlow;

use crate::schema::Body;
use crate::table::{Kind, Shape, Tables};
use crate::wire::{self, Value};
use crate::{Match, Options, Refusal};

const HTTP_BODY: &str = "google.api.HttpBody";
/// Numbers of its fields.
const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// A body as the service sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpBody<'a> {
    /// The content type; empty where the service named none.
    pub content_type: &'a str,
    /// The bytes.
    pub data: &'a [u8],
}

impl<T> Match<T> {
    /// Whether the body of the request is carried as it is: the rule's `body` is a `google.api.HttpBody`.
    #[must_use]
    pub fn request_body_is_http_body(&self) -> bool {
        let input = &self.method.input;
        match self.rule.body {
            Body::None => false,
            Body::Whole => is_http_body(&input.tables, input.index),
            Body::Field(field) => field_is_http_body(&input.tables, field),
        }
    }

    /// Whether the answer is carried as it is: the method's output or the rule's `response_body` is a
    /// `google.api.HttpBody`.
    #[must_use]
    pub fn response_is_http_body(&self) -> bool {
        let output = &self.method.output;
        match self.rule.response_body {
            None => is_http_body(&output.tables, output.index),
            Some(field) => field_is_http_body(&output.tables, field),
        }
    }

    /// The request message, or the first one of a stream, around a body that is carried as it is; path and query are woven
    /// in. `content_type` is the caller's header, empty if there is none; `dropped` gets what lenient switches drop.
    ///
    /// # Errors
    /// 400 for path and query as in [`Match::request`]; 413 where the message is over the limit; 415 where
    /// [`Match::request_body_is_http_body`] says no.
    pub fn http_body_first(
        &self,
        query: &str,
        content_type: &str,
        data: &[u8],
        options: &Options,
        dropped: &mut Vec<String>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut message = self.woven(query, options, dropped)?;
        message.extend_from_slice(&self.http_body_later(content_type, data, options)?);
        if message.len() > options.limits.message_bytes {
            return Err(Refusal::too_large(options.limits.message_bytes));
        }
        Ok(message)
    }

    /// A later message of a stream: nothing but the body. `content_type` may stay empty after the first one.
    ///
    /// # Errors
    /// 413 where the message is over the limit; 415 where [`Match::request_body_is_http_body`] says no.
    pub fn http_body_later(
        &self,
        content_type: &str,
        data: &[u8],
        options: &Options,
    ) -> Result<Vec<u8>, Refusal> {
        if !self.request_body_is_http_body() {
            return Err(Refusal::unsupported_media_type());
        }
        let field = match self.rule.body {
            Body::Field(field) => Some(self.method.input.tables.field(field).number),
            Body::Whole | Body::None => None,
        };
        let body = message(field, content_type, data);
        if body.len() > options.limits.message_bytes {
            return Err(Refusal::too_large(options.limits.message_bytes));
        }
        Ok(body)
    }

    /// Content type and bytes of an answer that is carried as it is.
    ///
    /// # Errors
    /// 500: it is over the limit, or not what the schema says.
    pub fn http_body<'a>(&self, message: &'a [u8], options: &Options) -> Result<HttpBody<'a>, Refusal> {
        crate::message::check_reply_length(message, options)?;
        let unreadable = || Refusal::bad_reply("the reply is not the message the schema says");
        if !self.response_is_http_body() {
            return Err(unreadable());
        }
        let mut body = HttpBody {
            content_type: "",
            data: b"",
        };
        let read = match self.rule.response_body {
            None => body.merge(message),
            Some(field) => wire::each(message, |number, value| match value {
                Value::Bytes(inner) if number == self.method.output.tables.field(field).number => {
                    match body.merge(inner) {
                        Some(()) => ControlFlow::Continue(()),
                        None => ControlFlow::Break(()),
                    }
                }
                _ => ControlFlow::Continue(()),
            }),
        };
        read.map(|()| body).ok_or_else(unreadable)
    }
}

impl<'a> HttpBody<'a> {
    /// The last of each field counts.
    fn merge(&mut self, message: &'a [u8]) -> Option<()> {
        wire::each(message, |number, value| {
            match (number, value) {
                (CONTENT_TYPE, Value::Bytes(text)) => match std::str::from_utf8(text) {
                    Ok(text) => self.content_type = text,
                    Err(_) => return ControlFlow::Break(()),
                },
                (DATA, Value::Bytes(data)) => self.data = data,
                _ => {}
            }
            ControlFlow::Continue(())
        })
    }
}

/// A message that is such a body, or has it in the field of this number and nothing else.
pub(crate) fn message(field: Option<u32>, content_type: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(data.len() + content_type.len() + 32);
    if let Some(field) = field {
        let inside = wire::bytes_len(CONTENT_TYPE, content_type.len()) + wire::bytes_len(DATA, data.len());
        wire::put_length(&mut message, field, inside);
    }
    wire::put_bytes(&mut message, CONTENT_TYPE, content_type.as_bytes());
    wire::put_bytes(&mut message, DATA, data);
    message
}

/// Whether a field is one such body.
pub(crate) fn field_is_http_body(t: &Tables, field: u32) -> bool {
    let field = t.field(field);
    field.shape == Shape::Singular && field.is_message() && is_http_body(t, field.of)
}

/// By name and by shape: a schema may bring its own message of this name.
pub(crate) fn is_http_body(t: &Tables, message: u32) -> bool {
    let message = t.message(message);
    let is = |number, kind| {
        t.by_number(message, number)
            .map(|field| t.field(field))
            .is_some_and(|field| field.shape == Shape::Singular && field.kind == kind)
    };
    *message.full_name == *HTTP_BODY && is(CONTENT_TYPE, Kind::String) && is(DATA, Kind::Bytes)
}
