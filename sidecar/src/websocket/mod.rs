//! Streams over WebSocket (RFC 6455), for callers in browsers, which have no other way to speak while they listen.
//!
//! ```text
//!  GET, Upgrade: websocket ─► origin, and the gates that judge every call ─► 101 ─► Session
//!
//!  text message, JSON ─► one message to the service          one message of the service ─► text message, JSON
//!  text message, empty ─► the caller has said everything     its end ─► close 1000
//!  close ─► the call is cancelled                            its failure ─► {"error": status}, close 4000 + its code
//! ```
//!
//! The path is that of the method's rule, whatever HTTP method the rule has: a WebSocket begins with GET. A method that takes
//! one message takes the first; one whose rule has no body takes none. Path and query are woven into the first message.

mod session;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use sha1::{Digest, Sha1};

use crate::gates::cors::Policy;
use crate::headers::{joined, single};
use crate::reason::{Reason, Rejection};

pub(crate) use session::Session;

/// What every WebSocket server adds to the caller's key (RFC 6455 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a caller's key.
const KEY_BYTES: usize = 16;
/// The one subprotocol there is; naming it changes nothing.
const SUBPROTOCOL: &str = "json";

/// What a caller asked for that wants to speak WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    accept: HeaderValue,
    named: bool,
}

/// Whether a request asks for WebSocket. To be asked before what belongs to one hop is taken off.
pub(crate) fn is_asked(head: &Parts) -> bool {
    let has = |name: &HeaderName, wanted: &str| {
        joined(&head.headers, name).is_some_and(|list| {
            list.split(',')
                .any(|entry| entry.trim().eq_ignore_ascii_case(wanted))
        })
    };
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && has(&UPGRADE, "websocket")
        && has(&CONNECTION, "upgrade")
}

impl Handshake {
    /// Judges what the caller asks, and where its page comes from.
    ///
    /// # Errors
    /// It breaks a rule of the protocol, or comes from a page that may not.
    pub(crate) fn judge(head: &Parts, policy: Option<&Policy>) -> Result<Self, Rejection> {
        let refuse = |why: &str| Err(Rejection::new(Reason::RequestMalformed, why));
        if single(&head.headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return refuse("the WebSocket version must be 13");
        }
        let key = single(&head.headers, &SEC_WEBSOCKET_KEY).unwrap_or_default();
        if BASE64_STANDARD.decode(key).map(|bytes| bytes.len()) != Ok(KEY_BYTES) {
            return refuse("Sec-WebSocket-Key must be 16 bytes in base64");
        }
        judge_origin(&head.headers, policy)?;
        let mut hash = Sha1::new();
        hash.update(key.as_bytes());
        hash.update(MAGIC);
        let accept = BASE64_STANDARD.encode(hash.finalize());
        let named = joined(&head.headers, &SEC_WEBSOCKET_PROTOCOL)
            .is_some_and(|names| names.split(',').any(|name| name.trim() == SUBPROTOCOL));
        Ok(Self {
            accept: HeaderValue::from_str(&accept)
                .map_err(|error| Rejection::new(Reason::RequestMalformed, error.to_string()))?,
            named,
        })
    }

    /// The headers of the answer that opens it.
    pub(crate) fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([
            (UPGRADE, HeaderValue::from_static("websocket")),
            (CONNECTION, HeaderValue::from_static("upgrade")),
            (SEC_WEBSOCKET_ACCEPT, self.accept),
        ]);
        if self.named {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        headers
    }
}

/// Takes away what is the handshake's alone: the service gets the caller's metadata.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("sec-websocket-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Browsers let every page open a WebSocket to anywhere, with cookies, and leave the judgement to us: the page must be of
/// our own origin, or of one that the policy allows. Who sends no origin is no browser.
fn judge_origin(headers: &HeaderMap, policy: Option<&Policy>) -> Result<(), Rejection> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = single(headers, &ORIGIN).unwrap_or_default();
    let own = single(headers, &HOST).is_some_and(|host| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    if own || policy.is_some_and(|policy| policy.allows(origin)) {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::OriginRefused,
        "pages of this origin may not open a WebSocket here; edge.cors.origins names those that may",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gates::cors::{Cors, OriginRule};

    fn head(more: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/v1/chat");
        let base = [
            ("host", "edge.example.com:8080"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in base
            .iter()
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == name))
        {
            request = request.header(*name, *value);
        }
        for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn policy() -> Policy {
        Policy::new(&Cors {
            origins: vec![OriginRule::parse("https://app.example.com").unwrap()],
            headers: None,
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::from_secs(1),
        })
    }

    #[test]
    fn the_answer_to_a_key_is_the_one_of_the_rfc() {
        let handshake = Handshake::judge(&head(&[]), None).unwrap();
        let headers = handshake.headers();
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
        let named = Handshake::judge(&head(&[("sec-websocket-protocol", "chat, json")]), None).unwrap();
        assert_eq!(named.headers()[SEC_WEBSOCKET_PROTOCOL], "json");
    }

    #[test]
    fn a_handshake_that_breaks_the_protocol_is_refused() {
        for bad in [
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", ""),
            ("sec-websocket-key", ""),
            ("sec-websocket-key", "dGhlIHNhbXBsZQ=="),
            ("sec-websocket-key", "not base64"),
        ] {
            let refused = Handshake::judge(&head(&[bad]), None).unwrap_err();
            assert_eq!(refused.reason, Reason::RequestMalformed, "{bad:?}");
        }
    }

    #[test]
    fn only_pages_of_our_own_or_of_an_allowed_origin_may() {
        let judged = |origin: &str, policy: Option<&Policy>| {
            Handshake::judge(&head(&[("origin", origin)]), policy).is_ok()
        };
        let policy = policy();
        assert!(judged("http://edge.example.com:8080", None));
        assert!(judged("https://app.example.com", Some(&policy)));
        for bad in [
            "https://evil.net",
            "null",
            "https://app.example.com.evil.net",
            "http://edge.example.com",
            "edge.example.com:8080",
        ] {
            assert!(!judged(bad, Some(&policy)), "{bad}");
            assert!(!judged(bad, None), "{bad}");
        }
        assert!(!judged("https://app.example.com", None));
        assert!(Handshake::judge(&head(&[]), Some(&policy)).is_ok());
    }

    #[test]
    fn only_a_get_of_http_1_1_that_says_so_twice_asks_for_it() {
        assert!(is_asked(&head(&[])));
        assert!(!is_asked(&head(&[("upgrade", "h2c")])));
        assert!(!is_asked(&head(&[("connection", "keep-alive")])));
        let mut post = head(&[]);
        post.method = Method::POST;
        assert!(!is_asked(&post));
        let mut newer = head(&[]);
        newer.version = Version::HTTP_2;
        assert!(!is_asked(&newer));
    }

    #[test]
    fn the_handshake_is_not_told_on() {
        let mut headers = head(&[("x-tenant", "a")]).headers;
        strip(&mut headers);
        assert!(headers.contains_key("x-tenant"));
        assert!(
            !headers
                .keys()
                .any(|name| name.as_str().starts_with("sec-websocket-"))
        );
    }
}
