//! Headers of a REST caller as gRPC metadata, and metadata as headers of its answer.
//!
//! ```text
//!  every end-to-end header ─► metadata, -bin values judged; Grpc-Metadata-Tenant ─► tenant, where the service asks for it
//!  metadata ─► headers;  x-http-code: 201, or 423 of a failure ─► the status;  etag ─► ETag, If-None-Match ─► 304
//! ```

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, COOKIE, ETAG, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesh_transcode::etag;

use crate::headers::clean_request;
use crate::reason::{Reason, Rejection};

/// The HTTP status a service answers with, as reply metadata: 200 to 299, of a failure 400 to 599.
const HTTP_CODE: HeaderName = HeaderName::from_static("x-http-code");
/// Names the fields that a lenient switch dropped.
const DROPPED: HeaderName = HeaderName::from_static("x-mesh-dropped");
/// Longest value of it, in bytes.
const DROPPED_BYTES_MAX: usize = 2 << 10;
const PREFIX: &str = "grpc-metadata-";

/// With padding or without, as gRPC takes it; written without.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Makes a caller's headers metadata.
///
/// # Errors
/// A `-bin` header that is not base64.
pub(super) fn inward(headers: &mut HeaderMap, strip_prefix: bool) -> Result<(), Rejection> {
    if strip_prefix {
        unprefix(headers);
    }
    let mut binary = false;
    let mut odd = false;
    for (name, value) in headers.iter() {
        binary |= name.as_str().ends_with("-bin");
        odd |= !is_text(value);
    }
    if odd {
        // Metadata is printable ASCII; what is not, some peer would read as something else.
        let names: Vec<HeaderName> = headers
            .iter()
            .filter(|(_, value)| !is_text(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
    if binary { judge_binary(headers) } else { Ok(()) }
}

pub(super) fn is_text(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b))
}

fn judge_binary(headers: &mut HeaderMap) -> Result<(), Rejection> {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().ends_with("-bin"))
        .cloned()
        .collect();
    for name in names {
        let refuse = || Rejection {
            field: Some(name.to_string()),
            ..Rejection::new(
                Reason::RequestUnreadable,
                format!("the header {name} is not base64"),
            )
        };
        let mut canonical = Vec::new();
        // Several values may be joined by commas, which are not of the alphabet.
        for value in headers.get_all(&name) {
            for piece in value.as_bytes().split(|b| *b == b',') {
                let bytes = BINARY.decode(piece.trim_ascii()).map_err(|_| refuse())?;
                canonical.push(HeaderValue::from_str(&BINARY.encode(bytes)).map_err(|_| refuse())?);
            }
        }
        headers.remove(&name);
        for value in canonical {
            headers.append(&name, value);
        }
    }
    Ok(())
}

/// Takes the prefix off. What the mesh or the protocol alone may say is not said in this way either, and what the caller
/// says without the prefix stays as it is.
fn unprefix(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    let mut bare = HeaderMap::new();
    for name in names {
        let short = name.as_str().strip_prefix(PREFIX).unwrap_or_default();
        if let Ok(short) = HeaderName::from_bytes(short.as_bytes()) {
            for value in headers.get_all(&name) {
                bare.append(&short, value.clone());
            }
        }
        headers.remove(&name);
    }
    clean_request(&mut bare, true);
    let reserved = |name: &HeaderName| {
        [HOST, AUTHORIZATION, COOKIE].contains(name)
            || ["grpc-", "content-", "accept", "if-"]
                .iter()
                .any(|start| name.as_str().starts_with(start))
    };
    for name in bare.keys() {
        if reserved(name) || headers.contains_key(name) {
            continue;
        }
        for value in bare.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Takes the success code out of reply metadata. One that is out of bounds is as good as none.
pub(super) fn success_code(metadata: &mut HeaderMap) -> Option<StatusCode> {
    http_code(metadata).filter(StatusCode::is_success)
}

/// Takes the code of a failure out of reply metadata. A failure is never told as anything else.
pub(super) fn failure_code(metadata: &mut HeaderMap) -> Option<StatusCode> {
    http_code(metadata).filter(|code| code.is_client_error() || code.is_server_error())
}

fn http_code(metadata: &mut HeaderMap) -> Option<StatusCode> {
    let code = metadata.remove(&HTTP_CODE)?;
    let code: u16 = code.to_str().ok()?.parse().ok()?;
    StatusCode::from_u16(code).ok()
}

/// Makes the entity tag of an answer the header it must be: that of the metadata, else that of the message.
pub(super) fn tag(headers: &mut HeaderMap, of_message: Option<&str>) {
    let told = headers.remove(ETAG);
    let told = told.as_ref().and_then(|value| value.to_str().ok());
    let tag = told.or(of_message).and_then(etag::quoted);
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        headers.insert(ETAG, tag);
    }
}

/// Whether the caller has the answer already.
pub(super) fn is_known(headers: &HeaderMap, condition: Option<&str>) -> bool {
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    condition
        .zip(tag)
        .is_some_and(|(condition, tag)| etag::none_match_names(condition, tag))
}

/// Names of dropped fields as a header. What is not plain is percent-encoded; what is too much is left out, and said.
pub(super) fn dropped<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(HeaderName, HeaderValue)> {
    let mut text = String::new();
    for name in names {
        let before = text.len();
        if before > 0 {
            text.push_str(", ");
        }
        for byte in name.bytes() {
            if byte.is_ascii_graphic() && !b",%".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        if text.len() > DROPPED_BYTES_MAX {
            text.truncate(before);
            text.push_str(", ...");
            break;
        }
    }
    if text.is_empty() {
        return None;
    }
    HeaderValue::from_str(&text).ok().map(|value| (DROPPED, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    #[test]
    fn binary_metadata_is_base64_with_or_without_padding_and_anything_else_is_refused_by_name() {
        let mut headers = map(&[("a-bin", "AAH+"), ("a-bin", "YQ==, YWI"), ("b", "x")]);
        inward(&mut headers, false).unwrap();
        let values: Vec<_> = headers.get_all("a-bin").iter().collect();
        assert_eq!(values, ["AAH+", "YQ", "YWI"]);
        for bad in ["a b", "_-__", "a", "YWI=YWI=", "%41"] {
            let refused = inward(&mut map(&[("trace-bin", bad)]), false).unwrap_err();
            assert_eq!(refused.reason, Reason::RequestUnreadable, "{bad}");
            assert_eq!(refused.field.as_deref(), Some("trace-bin"));
        }
    }

    #[test]
    fn what_is_not_printable_ascii_is_no_metadata() {
        let mut headers = map(&[("a", "caf\u{e9}"), ("b", "tab\there"), ("c", "plain")]);
        inward(&mut headers, false).unwrap();
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn the_prefix_is_taken_off_where_asked_and_opens_no_back_door() {
        let said = [
            ("grpc-metadata-tenant", "a"),
            ("grpc-metadata-authorization", "Bearer forged"),
            ("grpc-metadata-x-mesh-caller", "spiffe://mesh.local/service/admin"),
            ("grpc-metadata-x-forwarded-for", "1.2.3.4"),
            ("grpc-metadata-grpc-timeout", "1S"),
            ("grpc-metadata-host", "evil"),
            ("grpc-metadata-te", "x"),
            ("grpc-metadata-region", "forged"),
            ("region", "eu"),
            ("authorization", "Bearer good"),
        ];
        let mut headers = map(&said);
        inward(&mut headers, true).unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "region", "tenant"]);
        assert_eq!(headers["authorization"], "Bearer good");
        assert_eq!(headers["region"], "eu");
        let mut kept = map(&said);
        inward(&mut kept, false).unwrap();
        assert_eq!(kept.len(), said.len());
    }

    #[test]
    fn a_success_code_is_one_of_success_and_never_seen_by_the_caller() {
        for (text, code) in [
            ("201", Some(201)),
            ("204", Some(204)),
            ("299", Some(299)),
            ("199", None),
            ("302", None),
            ("500", None),
            ("2000", None),
            ("created", None),
        ] {
            let mut headers = map(&[("x-http-code", text)]);
            assert_eq!(
                success_code(&mut headers).map(|code| code.as_u16()),
                code,
                "{text}"
            );
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn a_failure_has_the_code_of_a_failure_only() {
        for (text, code) in [
            ("423", Some(423)),
            ("599", Some(599)),
            ("200", None),
            ("302", None),
            ("600", None),
        ] {
            let mut headers = map(&[("x-http-code", text)]);
            assert_eq!(
                failure_code(&mut headers).map(|code| code.as_u16()),
                code,
                "{text}"
            );
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn metadata_has_the_first_word_on_the_entity_tag() {
        let mut headers = map(&[("etag", "v1")]);
        tag(&mut headers, Some("v2"));
        assert_eq!(headers[ETAG], "\"v1\"");
        assert!(is_known(&headers, Some("W/\"v1\"")) && !is_known(&headers, Some("\"v2\"")));
        let mut headers = HeaderMap::new();
        tag(&mut headers, Some("v2"));
        assert_eq!(headers[ETAG], "\"v2\"");
        let mut headers = map(&[("etag", "a b")]);
        tag(&mut headers, None);
        assert!(headers.is_empty() && !is_known(&headers, Some("*")));
    }

    #[test]
    fn dropped_fields_are_named_in_a_header_of_bounded_length() {
        assert_eq!(dropped([]), None);
        let (_, value) = dropped(["a.b[1]", "naïve, really\r\n"]).unwrap();
        assert_eq!(value, "a.b[1], na%C3%AFve%2C%20really%0D%0A");
        let (_, value) = dropped(vec!["x".repeat(200).as_str(); 64]).unwrap();
        assert!(value.len() < DROPPED_BYTES_MAX + 10 && value.as_bytes().ends_with(b", ..."));
    }
}
