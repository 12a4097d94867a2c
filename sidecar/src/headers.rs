//! Which headers pass: what belongs to one hop ends there, and what only the mesh may say is taken from those who are not it.

use std::borrow::Cow;

use http::header::{CONNECTION, COOKIE, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, header};

/// Who called, for the app: a SPIFFE ID. Written by the inbound sidecar only.
pub const CALLER: HeaderName = HeaderName::from_static("x-mesh-caller");
/// Why a call was refused, as a reason's word.
pub const REASON: HeaderName = HeaderName::from_static("x-mesh-reason");
/// The deadline of a gRPC call.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The deadline of a Connect call, in milliseconds.
pub const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
/// How gRPC's messages are compressed.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// What a POST may bring, where one brought something else.
pub const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// The same of a PATCH (RFC 5789 3.1).
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// How answers may be compressed.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The outcome of a gRPC call.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Its message, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// A serialized `google.rpc.Status`, base64.
pub const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Belong to one connection (RFC 9110 7.6.1).
const HOP_BY_HOP: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
    "http2-settings",
];
/// What callers may not say: answers, and what would change how others read the request.
const NOT_FOR_CALLERS: [&str; 8] = [
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "grpc-retry-pushback-ms",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-client-cert",
];
/// What only our own edge may say about where a call came from.
const FROM_OUTSIDE: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];
/// What another proxy rewrote, as it says (`x-envoy-original-path`, `-method`): no caller may.
const ORIGINAL_PREFIX: &str = "x-envoy-original-";

/// Cleans a request's headers in place. `outside`: it comes from the world, not from the mesh or the local app.
pub fn clean_request(headers: &mut HeaderMap, outside: bool) {
    // Nearly every request is clean but for `te`, which each hop says for itself; one look tells.
    headers.remove(TE);
    if !headers.keys().any(|name| is_suspect(name.as_str())) {
        return;
    }
    remove_hop_by_hop(headers);
    for name in NOT_FOR_CALLERS {
        headers.remove(name);
    }
    if outside {
        for name in FROM_OUTSIDE {
            headers.remove(name);
        }
        remove_prefixed(headers, &[ORIGINAL_PREFIX]);
    }
    remove_prefixed(headers, &["x-mesh-", "x-jwt-claim-"]);
}

/// Makes one header of the cookies that HTTP/2 may send in several (RFC 9113 8.2.3): many services read the first only.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// Cleans a response's headers in place.
pub fn clean_response(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| is_suspect(name.as_str())) {
        return;
    }
    remove_hop_by_hop(headers);
    remove_prefixed(headers, &["x-mesh-"]);
}

/// Whether a name is, or may be, one that is taken off somewhere. Must be true for every name in the lists above.
fn is_suspect(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => [
            "x-mesh-",
            "x-jwt-",
            "x-forwarded-",
            "x-original-",
            "x-rewrite-",
            "x-real-",
            "x-envoy-",
            "x-http-",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix)),
        Some(b'g') => name.starts_with("grpc-s") || name.starts_with("grpc-m") || name.starts_with("grpc-r"),
        Some(b't') => name == "te" || name == "trailer" || name == "transfer-encoding",
        Some(b'c') => name == "connection",
        Some(b'u') => name == "upgrade",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => name.starts_with("proxy-"),
        Some(b'h') => name == "http2-settings",
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(connection) = headers.remove(CONNECTION) {
        // What Connection lists is hop-by-hop too. `te` and `host` stay ours to decide.
        for name in connection.to_str().unwrap_or("").split(',') {
            if let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes())
                && name != HOST
                && name != header::AUTHORIZATION
                && name != header::CONTENT_TYPE
            {
                headers.remove(name);
            }
        }
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove(TE);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn remove_prefixed(headers: &mut HeaderMap, prefixes: &[&str]) {
    let is_reserved = |name: &HeaderName| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix));
    if headers.keys().any(is_reserved) {
        let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
    }
}

/// A header's value if there is exactly one and it is text.
#[must_use]
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// All of a header's values as one list, if it is there and text.
#[must_use]
pub fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let first = values.next()?;
    let mut all = Cow::Borrowed(first);
    for value in values {
        let text = all.to_mut();
        text.push_str(", ");
        text.push_str(value);
    }
    Some(all)
}

/// Whether a caller says that it reads trailers (RFC 9110 10.1.4).
#[must_use]
pub fn reads_trailers(headers: &HeaderMap) -> bool {
    joined(headers, &TE).is_some_and(|te| {
        te.split(',').any(|entry| {
            let name = entry.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("trailers")
        })
    })
}

/// Whether a content type is gRPC's: `application/grpc`, or with a suffix such as `+proto`. gRPC-Web is not.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value: &HeaderValue| {
            let value = value.as_bytes();
            let (head, rest) = value.split_at(value.len().min(16));
            head.eq_ignore_ascii_case(b"application/grpc")
                && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_only_the_mesh_may_say_is_taken_from_every_caller() {
        let mut all = headers(&[
            ("x-mesh-caller", "spiffe://mesh.local/service/admin"),
            ("x-mesh-anything", "1"),
            ("x-jwt-claim-role", "admin"),
            ("grpc-status", "0"),
            ("x-forwarded-client-cert", "x"),
            ("x-original-url", "/admin"),
            ("user-agent", "kept"),
        ]);
        clean_request(&mut all, false);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["user-agent"]);
    }

    #[test]
    fn cookies_in_several_headers_are_one() {
        let mut all = headers(&[("cookie", "a=1"), ("x-a", "b"), ("cookie", "c=2; d=3")]);
        join_cookies(&mut all);
        assert_eq!(all[COOKIE], "a=1; c=2; d=3");
        assert_eq!(all.get_all(COOKIE).iter().count(), 1);
    }

    #[test]
    fn the_world_may_not_say_where_a_call_came_from() {
        let mut all = headers(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-envoy-original-path", "/admin"),
            ("x-envoy-original-method", "DELETE"),
        ]);
        clean_request(&mut all, true);
        assert!(all.is_empty());
        let mut all = headers(&[("x-forwarded-for", "1.2.3.4")]);
        clean_request(&mut all, false);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn hop_by_hop_headers_end_at_the_hop_but_connection_cannot_strip_a_token() {
        let mut all = headers(&[
            ("connection", "x-private, authorization, upgrade"),
            ("x-private", "1"),
            ("authorization", "Bearer t"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("keep-alive", "5"),
        ]);
        clean_request(&mut all, false);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["authorization"]);
    }

    #[test]
    fn every_name_that_is_taken_off_is_suspect() {
        let own = [
            "connection",
            "transfer-encoding",
            "upgrade",
            "te",
            "x-mesh-caller",
            "x-jwt-claim-role",
        ];
        for name in HOP_BY_HOP
            .iter()
            .chain(&NOT_FOR_CALLERS)
            .chain(&FROM_OUTSIDE)
            .chain(&own)
        {
            assert!(is_suspect(name), "{name}");
        }
        for name in [
            "content-type",
            "user-agent",
            "grpc-timeout",
            "grpc-encoding",
            "traceparent",
            "authorization",
        ] {
            assert!(!is_suspect(name), "{name}");
        }
    }

    #[test]
    fn no_name_that_is_taken_off_can_stand_for_a_field() {
        use mesh_proto::{domain::Rest, v1};
        let own = [
            "connection",
            "transfer-encoding",
            "te",
            "upgrade",
            "x-mesh-a",
            "x-jwt-claim-a",
            "x-envoy-original-path",
        ];
        for name in HOP_BY_HOP
            .iter()
            .chain(&NOT_FOR_CALLERS)
            .chain(&FROM_OUTSIDE)
            .chain(&own)
        {
            let one = v1::HeaderField {
                header: (*name).into(),
                field: "a".into(),
                methods: Vec::new(),
            };
            for options in [
                v1::RestOptions {
                    request_headers: vec![one.clone()],
                    ..Default::default()
                },
                v1::RestOptions {
                    response_headers: vec![one.clone()],
                    ..Default::default()
                },
            ] {
                assert!(Rest::try_from(options).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn grpc_is_told_from_grpc_web() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), expected, "{value}");
        }
    }
}
