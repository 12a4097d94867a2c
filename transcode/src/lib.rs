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
//! Beneath both lies one engine (`json`), led by the schema's tables (`table`): JSON text to protobuf and back in one pass, piece
//! by piece, without a message in between. [`MessageType`] is that engine without a rule.
//!
//! The path is authoritative: a second, differing value for a field the path names is refused. Every limit is counted by
//! us, and `Any` resets none of them. This crate knows no tokio, hyper or http; no type of prost-reflect is part of its API.

mod bind;
pub mod charset;
pub mod connect;
mod describe;
pub mod etag;
mod field;
pub mod form;
pub mod frame;
pub mod grpc_web;
pub mod gzip;
mod headers;
mod http_body;
mod json;
pub mod lint;
mod message;
pub mod multipart;
pub mod openapi;
mod percent;
mod plain;
pub mod policy;
pub mod problem;
mod query;
mod refusal;
pub mod reverse;
mod route;
mod router;
mod schema;
mod sound;
pub mod split;
pub mod status;
pub mod stream;
mod table;
mod template;
mod wire;

pub use bind::RequestReader;
pub use field::{PlainRequest, RequestField};
pub use headers::{HeaderField, HeaderFields, MethodHeaders};
pub use http_body::HttpBody;
pub use mesh_proto::domain::UnknownInput;
pub use message::{JsonReader, MessageType};
pub use refusal::Refusal;
pub use route::Route;
pub use router::{Conflict, Match, Recognised, Router, Routing};
pub use schema::{Method, Schema};
pub use status::Code;

use std::sync::Arc;

use mesh_proto::domain::Rest;

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

/// Most names of dropped fields that are kept for one request.
pub const DROPPED_MAX: usize = 64;
/// Most of each such name, in bytes.
pub const DROPPED_NAME_BYTES_MAX: usize = 256;

/// How a call is read and answered, and within which bounds. What each switch means, and why its default is what it is,
/// stands in the project's contract of transcoding; the defaults are the strict ones, but for unknown body fields.
#[derive(Debug, Clone)]
pub struct Options {
    /// Query parameters that name no field.
    pub unknown_query: UnknownInput,
    /// Names of query parameters that are passed over even where unknown ones are refused.
    pub ignored_query: Arc<[String]>,
    /// `+` in a query is a plus and no space.
    pub literal_plus: bool,
    /// JSON body fields that name no field.
    pub unknown_fields: UnknownInput,
    /// Enum names in a body that the enum does not have. Ignored, the field or element is left out.
    pub unknown_enums: UnknownInput,
    /// A key that stands twice in one object is taken; the last one counts.
    pub duplicate_keys: bool,
    /// A body where the rule has none is passed over.
    pub ignore_excess_body: bool,
    /// Enum names are taken in any case.
    pub enum_any_case: bool,
    /// `SIDE_BUY` of an enum `Side` is `BUY` too on the way in, and only that on the way out.
    pub enum_strip_prefix: bool,
    /// Replies hold the fields that have their default values.
    pub print_defaults: bool,
    /// Replies use proto names.
    pub proto_names: bool,
    /// Replies hold enum numbers.
    pub enum_numbers: bool,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unknown_query: UnknownInput::Reject,
            ignored_query: Arc::default(),
            literal_plus: false,
            unknown_fields: UnknownInput::Ignore,
            unknown_enums: UnknownInput::Reject,
            duplicate_keys: false,
            ignore_excess_body: false,
            enum_any_case: false,
            enum_strip_prefix: false,
            print_defaults: false,
            proto_names: false,
            enum_numbers: false,
            limits: Limits::default(),
        }
    }
}

impl Options {
    /// How plain values are read from a body.
    fn how(&self) -> json::leaf::How {
        json::leaf::How {
            drop_unknown: self.unknown_enums == UnknownInput::Ignore,
            ..self.strict()
        }
    }

    /// How plain values are read from path and query, where nothing is dropped.
    fn strict(&self) -> json::leaf::How {
        json::leaf::How {
            names: table::EnumNames {
                any_case: self.enum_any_case,
                strip_prefix: self.enum_strip_prefix,
            },
            drop_unknown: false,
        }
    }
}

impl From<&Rest> for Options {
    /// A service's switches, with the usual bounds.
    fn from(rest: &Rest) -> Self {
        Self {
            unknown_query: rest.unknown_query,
            ignored_query: rest.ignored_query.as_slice().into(),
            literal_plus: rest.literal_plus,
            unknown_fields: rest.unknown_fields,
            unknown_enums: rest.unknown_enums,
            duplicate_keys: rest.duplicate_keys,
            ignore_excess_body: rest.excess_body == UnknownInput::Ignore,
            enum_any_case: rest.enum_any_case,
            enum_strip_prefix: rest.enum_strip_prefix,
            print_defaults: rest.print_defaults,
            proto_names: rest.proto_names,
            enum_numbers: rest.enum_numbers,
            limits: Limits::default(),
        }
    }
}

impl From<&Rest> for Routing {
    /// A service's switches of paths.
    fn from(rest: &Rest) -> Self {
        Self {
            unannotated: rest.unannotated,
            decode_reserved: rest.decode_reserved,
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
