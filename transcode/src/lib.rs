//! HTTP/JSON to gRPC and back: schemas, routes, JSON, framing, status. Pure: bytes in, bytes out.
//!
//! ```text
//!  descriptor set ──compile──► Schema ──┐
//!                                       ├─ build ─► Router ── recognise(method, raw path) ─► Match
//!  descriptor set ──compile──► Schema ──┘                                                     │
//!                                            head only, so that gates can judge the RPC       │
//!                                                                                             ▼
//!  query + body ───────────────────────────────────────── Match::request  ─► protobuf message ─► frame ─► service
//!  JSON, or one piece of a StreamWriter's reply ◄──────── Match::response ◄─ protobuf message ◄─ frame ◄──┘
//!  google.rpc.Status as JSON ◄─ status::body ◄─ trailers, or a Refusal
//! ```
//!
//! The path is authoritative: a second, differing value for a field the path names is refused. Every limit is counted by
//! us, and `Any` resets none of them. This crate knows no tokio, hyper or http; no type of prost-reflect is part of its API.

mod bind;
pub mod frame;
mod json;
mod percent;
mod query;
mod refusal;
mod router;
mod schema;
mod sound;
pub mod status;
pub mod stream;
mod template;

pub use mesh_proto::domain::UnknownInput;
pub use refusal::Refusal;
pub use router::{Conflict, Match, Recognised, Router};
pub use schema::{Method, Schema};
pub use status::Code;

/// Deepest nesting of a JSON body: objects and arrays together.
pub const JSON_DEPTH_MAX: usize = 64;
/// Deepest nesting of messages, counted through `Any`.
pub const PROTO_DEPTH_MAX: usize = 100;
/// Deepest nesting of `google.protobuf.Any`.
pub const ANY_DEPTH_MAX: usize = 16;
/// Most names in one query parameter, `a.b.c`.
pub const QUERY_DEPTH_MAX: usize = 32;
/// Most elements of one repeated or map field in a JSON request.
pub const ELEMENTS_MAX: usize = 100_000;
/// Largest message or JSON body, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How a call is read, and within which bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Query parameters that name no field.
    pub unknown_query: UnknownInput,
    /// JSON body fields that name no field.
    pub unknown_fields: UnknownInput,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unknown_query: UnknownInput::Reject,
            unknown_fields: UnknownInput::Ignore,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what is translated. Each is the most that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// [`JSON_DEPTH_MAX`]
    pub json_depth: usize,
    /// [`PROTO_DEPTH_MAX`]; more has no effect, since protobuf decoders stop there.
    pub proto_depth: usize,
    /// [`ANY_DEPTH_MAX`]
    pub any_depth: usize,
    /// [`QUERY_DEPTH_MAX`]
    pub query_depth: usize,
    /// [`ELEMENTS_MAX`]
    pub elements: usize,
    /// [`MESSAGE_BYTES_MAX`]
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            json_depth: JSON_DEPTH_MAX,
            proto_depth: PROTO_DEPTH_MAX,
            any_depth: ANY_DEPTH_MAX,
            query_depth: QUERY_DEPTH_MAX,
            elements: ELEMENTS_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
        }
    }
}

/// Text of a caller or service as it may stand in a message: quoted, escaped, cut at 80 characters.
fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
