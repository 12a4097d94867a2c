//! Errors as problem documents (RFC 9457), for those who ask for them.
//!
//! ```text
//!  google.rpc.Status {code 3, message, details}
//!    ─► {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": message, "code": 3, "details": […]}
//! ```
//!
//! `code` and `details` are extension members with what `google.rpc.Status` has, so nothing is lost on the way.

use mesh_proto::google::rpc;

use crate::schema::Schema;
use crate::status;

/// The content type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A status as a problem document, answered with this HTTP status.
#[must_use]
pub fn body(error: &rpc::Status, http: u16, schema: Option<&Schema>) -> Vec<u8> {
    let status: serde_json::Value = serde_json::from_slice(&status::body(error, schema)).unwrap_or_default();
    let member = |name: &str| status.get(name).cloned().unwrap_or_default();
    // The type says no more than the status: what more there is to know stands in the details.
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": title(http),
        "status": http,
        "detail": member("message"),
        "code": member("code"),
        "details": member("details"),
    });
    problem.to_string().into_bytes()
}

/// Whether `Accept` names the problem document, which a wildcard does not.
#[must_use]
pub fn is_wanted(accept: Option<&str>) -> bool {
    accept.unwrap_or_default().split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|media| media.eq_ignore_ascii_case(CONTENT_TYPE));
        let refused = |part: &str| {
            part.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
            })
        };
        named && !parts.any(refused)
    })
}

/// The words that RFC 9110 has for the statuses we answer with.
fn title(http: u16) -> &'static str {
    match http {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        423 => "Locked",
        429 => "Too Many Requests",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_the_rfc_and_loses_nothing_of_the_status() {
        let error = rpc::Status {
            code: 3,
            message: "quantity: must be positive".into(),
            details: vec![prost_reflect::prost_types::Any {
                type_url: "type.googleapis.com/unknown.Type".into(),
                value: vec![0xff],
            }],
        };
        let problem: serde_json::Value = serde_json::from_slice(&body(&error, 400, None)).unwrap();
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "quantity: must be positive",
                "code": 3,
                "details": [{"@type": "type.googleapis.com/unknown.Type", "value": "/w=="}],
            })
        );
    }

    #[test]
    fn every_status_that_a_code_is_answered_with_has_a_title() {
        for code in crate::Code::ALL.iter().filter(|code| code.number() != 0) {
            assert_ne!(title(code.http()), "Error", "{code:?}");
        }
    }

    #[test]
    fn a_problem_is_wanted_only_where_it_is_named() {
        for (accept, wanted) in [
            (Some("application/problem+json"), true),
            (Some("application/json, Application/Problem+JSON;q=0.5"), true),
            (Some("application/problem+json;q=0"), false),
            (Some("application/json"), false),
            (Some("*/*"), false),
            (None, false),
        ] {
            assert_eq!(is_wanted(accept), wanted, "{accept:?}");
        }
    }
}
