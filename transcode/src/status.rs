//! Statuses: gRPC codes and HTTP statuses, `grpc-message`, and `google.rpc.Status` as the JSON of an error.
//!
//! ```text
//!  grpc-status, grpc-message, grpc-status-details-bin ─► from_trailers ─► Status ─► body ─► {"code","message","details"}
//!                                                     Refusal::to_status ─┘
//! ```

use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use mesh_proto::google::rpc;
use prost::Message;
use prost_reflect::DescriptorPool;

use crate::Limits;
use crate::json::{self, write};
use crate::schema::Schema;
use crate::table::editions::Features;
use crate::table::{self, Tables};

/// Longest error message passed on, in bytes; what is longer is cut.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 8 << 10;

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $http:literal $doc:literal)*) => {
        /// A gRPC status code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Its name: `NOT_FOUND`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub fn http(self) -> u16 {
                match self { $(Code::$variant => $http,)* }
            }
        }
    };
}

codes! {
    0 Ok "OK" 200 "It worked."
    1 Cancelled "CANCELLED" 499 "The caller went away."
    2 Unknown "UNKNOWN" 500 "Nobody can say."
    3 InvalidArgument "INVALID_ARGUMENT" 400 "The request is wrong in itself."
    4 DeadlineExceeded "DEADLINE_EXCEEDED" 504 "Too late."
    5 NotFound "NOT_FOUND" 404 "There is no such thing."
    6 AlreadyExists "ALREADY_EXISTS" 409 "It is there already."
    7 PermissionDenied "PERMISSION_DENIED" 403 "This caller may not."
    8 ResourceExhausted "RESOURCE_EXHAUSTED" 429 "Too much."
    9 FailedPrecondition "FAILED_PRECONDITION" 400 "Not in this state."
    10 Aborted "ABORTED" 409 "Another call was in the way."
    11 OutOfRange "OUT_OF_RANGE" 400 "Past the end."
    12 Unimplemented "UNIMPLEMENTED" 501 "Not offered."
    13 Internal "INTERNAL" 500 "Something broke."
    14 Unavailable "UNAVAILABLE" 503 "Not now."
    15 DataLoss "DATA_LOSS" 500 "Data are gone."
    16 Unauthenticated "UNAUTHENTICATED" 401 "Who is calling?"
}

impl Code {
    /// The code of this number; any number that is no code is [`Code::Unknown`].
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(index).copied().unwrap_or(Code::Unknown)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The code an HTTP answer without `grpc-status` stands for. 200 too is [`Code::Unknown`]: it was no gRPC answer.
    #[must_use]
    pub fn from_http(http: u16) -> Self {
        match http {
            400 | 431 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

/// Reads the status of a call from its trailers. `code` is the one `grpc-status` of the answer, `None` where there was none
/// or more than one; anything that is no code in canonical form is UNKNOWN. A bad message or bad details cost only
/// themselves.
#[must_use]
pub fn from_trailers(code: Option<&[u8]>, message: Option<&[u8]>, details_bin: Option<&[u8]>) -> rpc::Status {
    let code = code
        .and_then(|text| std::str::from_utf8(text).ok())
        .filter(|text| *text == "0" || !text.starts_with(['0', '+']))
        .and_then(|text| text.parse().ok())
        .map_or(Code::Unknown, Code::from_number);
    let message = message.map(decode_message).unwrap_or_default();
    let detailed = details_bin
        .and_then(|text| BASE64_STANDARD_NO_PAD.decode(unpadded(text)).ok())
        .and_then(|bytes| rpc::Status::decode(bytes.as_slice()).ok());
    match detailed {
        // The code stays that of the trailer: the HTTP status and every number we count hang on it.
        Some(detailed) => rpc::Status {
            code: code.number(),
            message: if detailed.message.is_empty() {
                message
            } else {
                cut(detailed.message)
            },
            details: detailed.details,
        },
        None => rpc::Status {
            code: code.number(),
            message,
            details: Vec::new(),
        },
    }
}

/// Writes a status as the JSON body of an error: `{"code", "message", "details"}`. A detail whose type neither the schema
/// nor this crate knows, or that nests deeper than the limits, is `{"@type", "value": base64}`: it is never lost.
#[must_use]
pub fn body(status: &rpc::Status, schema: Option<&Schema>) -> Vec<u8> {
    let limits = Limits::default();
    let mut out = format!("{{\"code\":{},\"message\":", status.code).into_bytes();
    put_text(&mut out, &status.message);
    out.extend_from_slice(b",\"details\":[");
    for (position, detail) in status.details.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let mut known =
            |tables: &Tables| write::any(tables, &detail.type_url, &detail.value, &limits, &mut out).is_ok();
        if !schema.is_some_and(|schema| known(schema.tables())) && !known(own_tables()) {
            out.extend_from_slice(b"{\"@type\":");
            put_text(&mut out, &detail.type_url);
            let value = BASE64_STANDARD.encode(&detail.value);
            out.extend_from_slice(format!(",\"value\":\"{value}\"}}").as_bytes());
        }
    }
    out.extend_from_slice(b"]}");
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // What is a str is UTF-8: this cannot fail.
    let _ = json::put_string(out, text.as_bytes());
}

/// Reads a `grpc-message`: percent-decoded where it can be, and never an error.
#[must_use]
pub fn decode_message(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len().min(STATUS_MESSAGE_BYTES_MAX));
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = (*first == b'%').then(|| crate::percent::hex_pair(tail)).flatten();
        if escaped.is_some() {
            rest = &tail[2..];
        }
        bytes.push(escaped.unwrap_or(*first));
    }
    cut(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a `grpc-message`: printable ASCII as it is, the rest and `%` percent-encoded. Cut at
/// [`STATUS_MESSAGE_BYTES_MAX`].
#[must_use]
pub fn encode_message(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        let mut bytes = [0; 4];
        let before = encoded.len();
        match character {
            ' '..='$' | '&'..='~' => encoded.push(character),
            _ => {
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    encoded.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        if encoded.len() > STATUS_MESSAGE_BYTES_MAX {
            encoded.truncate(before);
            break;
        }
    }
    encoded
}

/// Details this project writes itself.
fn own_tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let pool = DescriptorPool::decode(mesh_proto::DESCRIPTORS).unwrap_or_default();
        table::tables(&pool, &Features::default())
    })
}

fn cut(mut text: String) -> String {
    if text.len() > STATUS_MESSAGE_BYTES_MAX {
        let mut end = STATUS_MESSAGE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Base64 without the `=` at its end: senders differ on whether to write it.
fn unpadded(text: &[u8]) -> &[u8] {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    &text[..text.len() - padding]
}
