//! Reasons: the one word for a refusal. Its gRPC code, HTTP status, metric label, log word and error detail hang on it.
//!
//! Grep for the word from a dashboard and you land on the line that decided.

use http::{HeaderName, HeaderValue};
use mesh_proto::google::rpc;
use prost::Message;

/// Who says so, in error details.
const DOMAIN: &str = "mesh";

/// Whose doing a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller asked for something it cannot have.
    Caller,
    /// The mesh: configuration, capacity, the way there.
    Mesh,
    /// The service that was called.
    App,
}

/// gRPC status codes, as numbers, for those used here.
mod code {
    pub(super) const CANCELLED: u16 = 1;
    pub(super) const UNKNOWN: u16 = 2;
    pub(super) const INVALID_ARGUMENT: u16 = 3;
    pub(super) const DEADLINE_EXCEEDED: u16 = 4;
    pub(super) const NOT_FOUND: u16 = 5;
    pub(super) const PERMISSION_DENIED: u16 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(super) const UNIMPLEMENTED: u16 = 12;
    pub(super) const INTERNAL: u16 = 13;
    pub(super) const UNAVAILABLE: u16 = 14;
    pub(super) const UNAUTHENTICATED: u16 = 16;
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $grpc:ident, $http:literal, $side:ident;)*) => {
        /// Why a call was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, for docs and tests.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word in logs, metrics and the `x-mesh-reason` header.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }

            /// The gRPC status code.
            #[must_use]
            pub fn grpc(self) -> u16 {
                match self { $(Reason::$name => code::$grpc,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub fn http(self) -> u16 {
                match self { $(Reason::$name => $http,)* }
            }

            /// Whose doing it is.
            #[must_use]
            pub fn side(self) -> Side {
                match self { $(Reason::$name => Side::$side,)* }
            }
        }
    };
}

reasons! {
    /// The request breaks a framing rule of HTTP (two hosts, odd transfer codings, a path that is none).
    RequestMalformed = "request_malformed", INVALID_ARGUMENT, 400, Caller;
    /// The path and query are longer than 8 KiB.
    UriTooLong = "uri_too_long", INVALID_ARGUMENT, 414, Caller;
    /// The headers are more, or larger, than is read.
    HeadersTooLarge = "headers_too_large", RESOURCE_EXHAUSTED, 431, Caller;
    /// gRPC over a version of HTTP that cannot carry it.
    VersionTooOld = "version_too_old", UNIMPLEMENTED, 505, Caller;
    /// No rule, method or prefix answers to the path.
    RouteUnknown = "route_unknown", NOT_FOUND, 404, Caller;
    /// The path is known, the HTTP method is not.
    MethodNotAllowed = "method_not_allowed", UNIMPLEMENTED, 405, Caller;
    /// gRPC for a method that no service here has.
    MethodUnknown = "method_unknown", UNIMPLEMENTED, 501, Caller;
    /// The authority names no service.
    ServiceUnknown = "service_unknown", UNAVAILABLE, 503, Caller;
    /// The timeout header cannot be read.
    TimeoutMalformed = "timeout_malformed", INVALID_ARGUMENT, 400, Caller;
    /// JSON, path or query do not fit the request message.
    RequestUnreadable = "request_unreadable", INVALID_ARGUMENT, 400, Caller;
    /// What gRPC frames a request in is no frame: cut off, or with a flag that is none.
    FrameMalformed = "frame_malformed", INTERNAL, 400, Caller;
    /// A method of gRPC that takes one message got none.
    MessageMissing = "message_missing", INTERNAL, 400, Caller;
    /// A method of gRPC that takes one message got two.
    MessageSecond = "message_second", UNIMPLEMENTED, 400, Caller;
    /// The body is of a type that is not understood.
    ContentTypeUnknown = "content_type_unknown", INVALID_ARGUMENT, 415, Caller;
    /// The request is over the limit.
    RequestTooLarge = "request_too_large", RESOURCE_EXHAUSTED, 413, Caller;
    /// The body did not come, or came too slowly.
    RequestStalled = "request_stalled", DEADLINE_EXCEEDED, 408, Caller;
    /// The caller took nothing of its answer for too long.
    CallerStalled = "caller_stalled", CANCELLED, 499, Caller;
    /// Nothing moved on the stream for too long.
    StreamIdle = "stream_idle", DEADLINE_EXCEEDED, 504, Mesh;
    /// The method exists but cannot be called this way.
    NotTranslatable = "not_translatable", UNIMPLEMENTED, 501, Caller;
    /// A token is required and there is none.
    JwtMissing = "jwt_missing", UNAUTHENTICATED, 401, Caller;
    /// Not one well-formed bearer token.
    JwtMalformed = "jwt_malformed", UNAUTHENTICATED, 401, Caller;
    /// Its time is over.
    JwtExpired = "jwt_expired", UNAUTHENTICATED, 401, Caller;
    /// Its time has not come.
    JwtNotYetValid = "jwt_not_yet_valid", UNAUTHENTICATED, 401, Caller;
    /// It would live longer than its provider allows.
    JwtLivesTooLong = "jwt_lives_too_long", UNAUTHENTICATED, 401, Caller;
    /// No provider has this issuer.
    JwtIssuerUnknown = "jwt_issuer_unknown", UNAUTHENTICATED, 401, Caller;
    /// It is meant for somebody else.
    JwtAudienceWrong = "jwt_audience_wrong", UNAUTHENTICATED, 401, Caller;
    /// The issuer has no such key.
    JwtKeyUnknown = "jwt_key_unknown", UNAUTHENTICATED, 401, Caller;
    /// The signature is not the issuer's.
    JwtSignatureWrong = "jwt_signature_wrong", UNAUTHENTICATED, 401, Caller;
    /// A page of this origin may not open a WebSocket.
    OriginRefused = "origin_refused", PERMISSION_DENIED, 403, Caller;
    /// Policies name the service, and none allows the call.
    AccessDenied = "access_denied", PERMISSION_DENIED, 403, Caller;
    /// The service's policies have not been heard of yet; without them nobody gets in.
    PolicyUnknown = "policy_unknown", UNAVAILABLE, 503, Mesh;
    /// The service has not told its schema yet, so its REST paths are not known.
    SchemaUnknown = "schema_unknown", UNAVAILABLE, 503, Mesh;
    /// More calls are in flight than this sidecar takes.
    Overloaded = "overloaded", UNAVAILABLE, 503, Mesh;
    /// The deadline passed.
    DeadlinePassed = "deadline_passed", DEADLINE_EXCEEDED, 504, Mesh;
    /// The service has no instance that takes calls.
    NoInstance = "no_instance", UNAVAILABLE, 503, Mesh;
    /// No instance that was tried could be connected to.
    ConnectFailed = "connect_failed", UNAVAILABLE, 503, Mesh;
    /// The sidecar has no certificate yet.
    NoIdentity = "no_identity", UNAVAILABLE, 503, Mesh;
    /// The service ended the call without an answer.
    UpstreamReset = "upstream_reset", UNAVAILABLE, 503, App;
    /// The service's answer cannot be read.
    ResponseUnreadable = "response_unreadable", INTERNAL, 500, App;
    /// The service answered with something else than JSON.
    ResponseNotJson = "response_not_json", UNKNOWN, 500, App;
    /// The service's answer is over the limit.
    ResponseTooLarge = "response_too_large", INTERNAL, 500, App;
    /// The sidecar is stopping.
    Draining = "draining", UNAVAILABLE, 503, Mesh;
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// For the caller: what was wrong and what would help. Never a part of a token, key or body.
    pub message: String,
    /// For the log only.
    pub detail: Option<String>,
    /// The request field it is about, in the caller's terms.
    pub field: Option<String>,
    /// What would be taken instead, and the header that says so: `Allow` of methods, `Accept-Post` of types, and the like.
    pub instead: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Rejection {
    /// With a message for the caller.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            detail: None,
            field: None,
            instead: None,
        }
    }

    /// Adds what would be taken instead, and the header that says so.
    #[must_use]
    pub(crate) fn or_instead(mut self, header: HeaderName, taken: &str) -> Self {
        let taken = HeaderValue::from_str(taken).ok();
        self.instead = taken.map(|taken| Box::new((header, taken)));
        self
    }

    /// Adds what only the log may know.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// As `google.rpc.Status`: the reason as ErrorInfo, the field as BadRequest.
    #[must_use]
    pub fn status(&self) -> rpc::Status {
        let any = |name: &str, value: Vec<u8>| prost_types::Any {
            type_url: format!("type.googleapis.com/google.rpc.{name}"),
            value,
        };
        let info = rpc::ErrorInfo {
            reason: self.reason.word().to_ascii_uppercase(),
            domain: DOMAIN.into(),
            ..rpc::ErrorInfo::default()
        };
        let mut details = vec![any("ErrorInfo", info.encode_to_vec())];
        if let Some(field) = &self.field {
            let violation = rpc::bad_request::FieldViolation {
                field: field.clone(),
                description: self.message.clone(),
            };
            details.push(any(
                "BadRequest",
                rpc::BadRequest {
                    field_violations: vec![violation],
                }
                .encode_to_vec(),
            ));
        }
        rpc::Status {
            code: i32::from(self.reason.grpc()),
            message: self.message.clone(),
            details,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn every_reason_is_explained_to_those_who_run_it() {
        let page = include_str!("../../docs/reasons.md");
        for reason in Reason::ALL {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", reason.word())));
            let row = row.unwrap_or_else(|| panic!("docs/reasons.md does not tell of {}", reason.word()));
            assert!(row.contains(&format!("| {} |", reason.http())), "{row}");
        }
    }

    #[test]
    fn statuses_are_errors_on_both_sides() {
        for reason in Reason::ALL {
            assert!(
                (1..=16).contains(&reason.grpc()) && (400..600).contains(&reason.http()),
                "{reason:?}"
            );
        }
    }
}
