//! Why a call was not translated: what the caller is told, in its own terms.

use mesh_proto::google::rpc;
use prost::Message;

use crate::status::Code;

/// A refusal, with the HTTP status and gRPC code it is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status. Not always the code's own: 405, 413 and 415 have no gRPC code.
    pub http: u16,
    /// The gRPC code, also `code` in the JSON body.
    pub code: Code,
    /// What is wrong, without a full stop. Holds names, never values of fields.
    pub message: String,
    /// The path to the field, in the caller's terms: `order.items[3].price`.
    pub field: Option<String>,
    /// Where in the body, in bytes from its start.
    pub offset: Option<usize>,
}

impl Refusal {
    /// 400: the request says something it may not.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Code::InvalidArgument, message)
    }

    /// 404: no rule has this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(404, Code::NotFound, "no method has this path")
    }

    /// 405: a rule has this path, for another HTTP method. The answer carries `Allow`.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::new(405, Code::Unimplemented, format!("this path takes {allow}"))
    }

    /// 413: the request is over the size limit.
    #[must_use]
    pub fn too_large(bytes_max: usize) -> Self {
        let message = format!("the request is over {bytes_max} bytes");
        Self::new(413, Code::ResourceExhausted, message)
    }

    /// 415: the body is not JSON.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        let message = "the content type must be application/json, in UTF-8";
        Self::new(415, Code::InvalidArgument, message)
    }

    /// 415: the message is in an encoding that is not known.
    #[must_use]
    pub fn unsupported_encoding(message: impl Into<String>) -> Self {
        Self::new(415, Code::InvalidArgument, message)
    }

    /// 500: the service's reply could not be told to the caller.
    #[must_use]
    pub fn bad_reply(message: impl Into<String>) -> Self {
        Self::new(500, Code::Internal, message)
    }

    /// 501: not offered over HTTP/JSON.
    #[must_use]
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(501, Code::Unimplemented, message)
    }

    /// Names the field.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the place in the body.
    #[must_use]
    pub fn at_offset(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The refusal as a status, with a `BadRequest` violation where a field or a place is known.
    #[must_use]
    pub fn to_status(&self) -> rpc::Status {
        let description = match self.offset {
            Some(offset) => format!("{} (at byte {offset})", self.message),
            None => self.message.clone(),
        };
        let mut details = Vec::new();
        if self.field.is_some() || self.offset.is_some() {
            let violation = rpc::bad_request::FieldViolation {
                field: self.field.clone().unwrap_or_default(),
                description,
            };
            let value = rpc::BadRequest {
                field_violations: vec![violation],
            };
            details.push(prost_reflect::prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.BadRequest".into(),
                value: value.encode_to_vec(),
            });
        }
        rpc::Status {
            code: self.code.number(),
            message: self.to_string(),
            details,
        }
    }

    fn new(http: u16, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            code,
            message: message.into(),
            field: None,
            offset: None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field.as_deref().filter(|field| !field.is_empty()) {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Refusal {}
