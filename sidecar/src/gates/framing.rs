//! The strict look at a request's framing, before anything reads it: what the HTTP libraries let through and we do not.
//!
//! Rules are those of RFC 9110 and 9112; the reasons why each matters are request smuggling and two parties that read
//! one request differently.

use http::header::{ALLOW, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Version};

use crate::headers::is_grpc;
use crate::reason::{Reason, Rejection};

/// Longest path with query, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// Judges a request's framing.
///
/// # Errors
/// [`Reason::RequestMalformed`], with the rule that was broken; [`Reason::UriTooLong`]; what is no gRPC but says so.
pub fn check(head: &Parts) -> Result<(), Rejection> {
    let refuse = |why: &str| Err(Rejection::new(Reason::RequestMalformed, why));
    let headers = &head.headers;
    if head.uri.path_and_query().map_or(0, |path| path.as_str().len()) > TARGET_BYTES_MAX {
        let message = "the path and query are longer than 8 KiB";
        return Err(Rejection::new(Reason::UriTooLong, message));
    }
    if !head.uri.path().starts_with('/') {
        return refuse("the path must begin with /");
    }
    // On HTTP/1.1 raw bytes would go on as they are, and every server reads them in its own way.
    if !target_is_ascii(head) {
        return refuse("the path and query must be ASCII; percent-encode other characters, as %C3%A9 for é");
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return refuse("CONNECT and TRACE are not served");
    }
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return refuse("content-length stands twice");
    }
    if headers
        .get(EXPECT)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return refuse("the expectation is not known");
    }
    if head.version < Version::HTTP_2 {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host,
            (None, _) => return refuse("HTTP/1.1 needs a host header"),
            (Some(_), Some(_)) => return refuse("the host header stands twice"),
        };
        if head.uri.authority().is_some_and(|authority| {
            !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes())
        }) {
            return refuse("the host header and the request's own authority differ");
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => {}
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
            _ => return refuse("the only transfer coding served is chunked, once"),
        }
    } else if headers.contains_key(TRANSFER_ENCODING) {
        return refuse("HTTP/2 has no transfer codings");
    } else if headers.get_all(HOST).iter().nth(1).is_some() {
        return refuse("the host header stands twice");
    }
    if is_grpc(headers) {
        check_grpc(head)?;
    }
    Ok(())
}

/// Judges a request from the world. Within the mesh the authority names the service, and host what the caller said; out
/// here both are the caller's, and a service behind us would go by the one that nobody judged.
///
/// # Errors
/// As [`check`], and an HTTP/2 host that is not the authority.
pub fn check_outside(head: &Parts) -> Result<(), Rejection> {
    check(head)?;
    if head.version >= Version::HTTP_2
        && let Some(authority) = head.uri.authority()
        && head.headers.get_all(HOST).iter().any(|host| {
            !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        })
    {
        let message = "the host header and the request's own authority differ";
        return Err(Rejection::new(Reason::RequestMalformed, message));
    }
    Ok(())
}

/// Judges whether all servers read a path in the same way.
///
/// # Errors
/// They do not.
pub(crate) fn check_canonical(path: &str) -> Result<(), Rejection> {
    let refuse = |why: &str| Err(Rejection::new(Reason::RequestMalformed, why));
    // One canonical form for everybody: what others may fold differently is refused, not guessed at.
    let path = path.to_ascii_lowercase();
    if path.contains("%00") {
        return refuse("the path holds the control character NUL (%00), where some servers end it");
    }
    let odd = path.split('/').any(|segment| {
        let plain = segment.replace("%2e", ".");
        plain == "." || plain == ".."
    }) || ["//", "%2f", "%5c", "\\", ";"]
        .iter()
        .any(|form| path.contains(form));
    if odd {
        return refuse(
            "the path holds dot segments, empty segments or encoded slashes, which servers read differently",
        );
    }
    Ok(())
}

fn target_is_ascii(head: &Parts) -> bool {
    head.uri
        .path_and_query()
        .is_none_or(|target| target.as_str().is_ascii())
}

/// gRPC is POST over HTTP/2; anything else that says it is gRPC goes nowhere.
fn check_grpc(head: &Parts) -> Result<(), Rejection> {
    if head.method != Method::POST {
        let refused = Rejection::new(Reason::MethodNotAllowed, "gRPC calls are POST requests");
        return Err(refused.or_instead(ALLOW, "POST"));
    }
    if head.version < Version::HTTP_2 {
        return Err(Rejection::new(Reason::VersionTooOld, "gRPC needs HTTP/2"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judged(version: Version, uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn http_1_needs_exactly_one_host_that_agrees_with_the_request_target() {
        assert!(judged(Version::HTTP_11, "/a", &[("host", "x")]));
        assert!(judged(Version::HTTP_11, "http://x/a", &[("host", "X")]));
        assert!(!judged(Version::HTTP_11, "/a", &[]));
        assert!(!judged(Version::HTTP_11, "/a", &[("host", "x"), ("host", "x")]));
        assert!(!judged(Version::HTTP_11, "http://x/a", &[("host", "y")]));
    }

    #[test]
    fn a_host_over_http_2_is_one_and_from_the_world_it_is_the_authority() {
        let outside = |hosts: &[&str]| {
            let mut request = http::Request::builder()
                .version(Version::HTTP_2)
                .uri("https://x/a");
            for host in hosts {
                request = request.header("host", *host);
            }
            check_outside(&request.body(()).unwrap().into_parts().0).is_ok()
        };
        assert!(outside(&[]) && outside(&["X"]));
        assert!(!outside(&["y"]) && !outside(&["x", "x"]));
        // Another sidecar says the service in the one and passes on the other.
        assert!(judged(Version::HTTP_2, "https://x/a", &[("host", "y")]));
    }

    #[test]
    fn transfer_codings_other_than_one_chunked_are_refused() {
        let with = |codings: &[&str]| {
            let mut headers = vec![("host", "x")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            judged(Version::HTTP_11, "/a", &headers)
        };
        assert!(with(&["chunked"]));
        for bad in [
            &["gzip, chunked"][..],
            &["chunked", "chunked"],
            &["identity"],
            &["chunked;q=1"],
        ] {
            assert!(!with(bad), "{bad:?}");
        }
        assert!(!judged(
            Version::HTTP_2,
            "https://x/a",
            &[("transfer-encoding", "chunked")]
        ));
    }

    #[test]
    fn paths_that_are_none_and_paths_without_end_are_refused() {
        assert!(!judged(Version::HTTP_2, "*", &[]));
        assert!(!judged(Version::HTTP_2, &format!("/{}", "a".repeat(9000)), &[]));
        assert!(judged(Version::HTTP_2, "/pkg.Service/Method", &[]));
    }

    #[test]
    fn a_target_holds_ascii_and_nothing_else() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let judged = |uri| judged(version, uri, &[("host", "x")]);
            assert!(judged("http://x/a%C3%A9?b=%C3%A9"));
            assert!(!judged("http://x/é") && !judged("http://x/a?b=é"));
        }
    }

    #[test]
    fn what_is_odd_in_a_path_is_named() {
        let why = |path: &str| check_canonical(path).err().map(|rejection| rejection.message);
        assert_eq!(why("/a/b%20c"), None);
        assert!(why("/a%00b").is_some_and(|why| why.contains("control character NUL")));
        for path in ["/a/%2E./b", "/a//b", "/a%2fb", "/a%5Cb", "/a;b"] {
            assert!(
                why(path).is_some_and(|why| why.contains("dot segments")),
                "{path}"
            );
        }
    }

    #[test]
    fn grpc_is_a_post_over_http_2_and_a_long_uri_has_a_status_of_its_own() {
        let refused = |method: &str, version: Version, uri: &str| {
            let request = http::Request::builder()
                .method(method)
                .version(version)
                .uri(uri)
                .header("host", "x")
                .header("content-type", "application/grpc+proto");
            let head = request.body(()).unwrap().into_parts().0;
            check(&head)
                .err()
                .map(|rejection| (rejection.reason.http(), rejection.instead.map(|told| *told)))
        };
        assert_eq!(refused("POST", Version::HTTP_2, "/a.B/C"), None);
        assert_eq!(
            refused("GET", Version::HTTP_2, "/a.B/C"),
            Some((405, Some((ALLOW, HeaderValue::from_static("POST")))))
        );
        assert_eq!(refused("POST", Version::HTTP_11, "/a.B/C"), Some((505, None)));
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
        assert_eq!(refused("POST", Version::HTTP_2, &long), Some((414, None)));
    }

    #[test]
    fn unknown_expectations_and_doubled_lengths_are_refused() {
        assert!(judged(
            Version::HTTP_11,
            "/a",
            &[("host", "x"), ("expect", "100-continue")]
        ));
        assert!(!judged(
            Version::HTTP_11,
            "/a",
            &[("host", "x"), ("expect", "tea")]
        ));
        assert!(!judged(
            Version::HTTP_11,
            "/a",
            &[("host", "x"), ("content-length", "1"), ("content-length", "1")]
        ));
    }
}
