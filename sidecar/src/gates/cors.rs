//! Which pages of other origins may call, and what they may read: the CORS policy of the edge.
//!
//! ```text
//!  Origin, Access-Control-Request-Method ─► preflight ─► answered here; no gate is asked and no service is called
//!  Origin ─► grant ─► the answer, whatever it is: its CORS headers are ours alone
//!  an origin that may not ─► no CORS headers, so that the browser keeps the answer from the page
//! ```
//!
//! CORS protects people in browsers and nobody else: a call that claims a foreign origin is still judged by the other gates.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::headers::single;

/// How long a browser remembers a preflight where nothing is said.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(600);
/// The longest that may be asked for; browsers keep less anyway.
pub const MAX_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Request headers that pages may send where nothing else is said: those of JSON, gRPC-Web and Connect clients.
const HEADERS_DEFAULT: [&str; 13] = [
    "accept",
    "authorization",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "grpc-timeout",
    "if-match",
    "if-none-match",
    "last-event-id",
    "traceparent",
    "x-grpc-web",
    "x-requested-with",
    "x-user-agent",
];

/// Answer headers that pages may always read.
const EXPOSED_ALWAYS: &str = "grpc-status, grpc-message, grpc-status-details-bin, connect-content-encoding, \
     connect-accept-encoding, content-encoding, accept-patch, accept-post, allow, etag, location, retry-after, \
     www-authenticate, x-mesh-dropped, x-mesh-reason";

/// What an origin must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginRule {
    /// `*`
    Any,
    /// `https://app.example.com`
    Exactly(Box<str>),
    /// `https://*.example.com`: `https://`, one or more labels, `.example.com`.
    Under {
        /// `https://`
        scheme: Box<str>,
        /// `.example.com`, with the port where it has one.
        suffix: Box<str>,
    },
}

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Who may; at least one.
    pub origins: Vec<OriginRule>,
    /// Request headers that may be sent, beside those that may always be; `None` for all.
    pub headers: Option<Vec<HeaderName>>,
    /// Answer headers that may be read, beside those that may always be.
    pub expose: Vec<HeaderName>,
    /// Whether cookies and the like are sent along. Never together with [`OriginRule::Any`].
    pub credentials: bool,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

/// The policy, compiled.
#[derive(Debug)]
pub struct Policy {
    origins: Vec<OriginRule>,
    /// All origins alike: the answer does not depend on who asks.
    anybody: bool,
    /// `None`: what the preflight asks for.
    headers: Option<HeaderValue>,
    exposed: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

/// What a request's origin is allowed; laid on the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The value of `Access-Control-Allow-Origin`, where there is one to be.
    origin: Option<HeaderValue>,
}

impl OriginRule {
    /// Reads `*`, `https://app.example.com:8443` or `https://*.example.com`.
    ///
    /// # Errors
    /// What is wrong with it, with the fix.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(OriginRule::Any);
        }
        let fail = |why: &str| {
            Err(format!(
                "{text:?} {why}; write for example https://app.example.com, https://*.example.com or *"
            ))
        };
        let Some((scheme, host)) = text.split_once("://") else {
            return fail("has no scheme");
        };
        if !matches!(scheme, "http" | "https") {
            return fail("is neither http nor https");
        }
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            return fail("has capitals, which browsers never send");
        }
        let (name, port) = host
            .rsplit_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port)));
        let (wildcard, labels) = name
            .strip_prefix("*.")
            .map_or((false, name), |labels| (true, labels));
        let sound = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if !labels.split('.').all(sound) {
            return fail("is not a scheme, a host and perhaps a port, with no path");
        }
        match (port, scheme) {
            (Some("80"), "http") | (Some("443"), "https") => {
                return fail("names its scheme's own port, which browsers leave out");
            }
            (Some(port), _) if port.parse::<u16>().is_err() || port.starts_with(['+', '0']) => {
                return fail("has a port that is none");
            }
            _ => {}
        }
        if !wildcard {
            return Ok(OriginRule::Exactly(text.into()));
        }
        // `*.com` would be the whole world in other words.
        if !labels.contains('.') {
            return fail("allows a whole top-level domain");
        }
        Ok(OriginRule::Under {
            scheme: format!("{scheme}://").into(),
            suffix: host.trim_start_matches('*').into(),
        })
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            OriginRule::Any => true,
            OriginRule::Exactly(text) => **text == *origin,
            OriginRule::Under { scheme, suffix } => origin
                .strip_prefix(&**scheme)
                .and_then(|host| host.strip_suffix(&**suffix))
                .is_some_and(|labels| {
                    !labels.is_empty()
                        && labels
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                }),
        }
    }
}

impl std::fmt::Display for OriginRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OriginRule::Any => f.write_str("*"),
            OriginRule::Exactly(text) => f.write_str(text),
            OriginRule::Under { scheme, suffix } => write!(f, "{scheme}*{suffix}"),
        }
    }
}

impl Policy {
    /// Compiles what the configuration says.
    #[must_use]
    pub fn new(cors: &Cors) -> Self {
        let list = |names: Vec<&str>| HeaderValue::from_str(&names.join(", ")).ok();
        let headers = cors.headers.as_ref().map(|further| {
            let further = further.iter().map(HeaderName::as_str);
            let mut names: Vec<&str> = HEADERS_DEFAULT.into_iter().chain(further).collect();
            names.sort_unstable();
            names.dedup();
            list(names).unwrap_or(HeaderValue::from_static(""))
        });
        let further = cors.expose.iter().map(HeaderName::as_str);
        let exposed = list([EXPOSED_ALWAYS].into_iter().chain(further).collect());
        let anybody = cors.origins.contains(&OriginRule::Any);
        Self {
            anybody,
            origins: cors.origins.clone(),
            headers,
            exposed: exposed.unwrap_or(HeaderValue::from_static(EXPOSED_ALWAYS)),
            // Everybody's pages with everybody's cookies: the configuration refuses it, and so does this.
            credentials: cors.credentials && !anybody,
            max_age: HeaderValue::from(cors.max_age.as_secs()),
        }
    }

    /// Whether pages of this origin may call.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        // `null` is what every sandboxed page and local file calls itself: nobody in particular.
        let named = origin != "null" || self.anybody;
        named && self.origins.iter().any(|rule| rule.allows(origin))
    }

    /// What a request's origin is allowed.
    #[must_use]
    pub fn grant(&self, headers: &HeaderMap) -> Grant {
        let origin = single(headers, &ORIGIN).filter(|origin| self.allows(origin));
        let origin = origin.and_then(|origin| match self.anybody {
            true => Some(HeaderValue::from_static("*")),
            false => HeaderValue::from_str(origin).ok(),
        });
        Grant { origin }
    }

    /// Lays a grant on an answer. What the service itself says about CORS is taken away: one policy counts.
    pub fn mark(&self, grant: &Grant, headers: &mut HeaderMap) {
        take_off(headers);
        if !self.anybody {
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
        }
        let Some(origin) = &grant.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
    }

    /// Lays a grant on the answer to a preflight, for a path that takes these methods.
    pub fn mark_preflight(&self, grant: &Grant, asked: &HeaderMap, methods: &str, headers: &mut HeaderMap) {
        self.mark(grant, headers);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_METHOD));
        headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_HEADERS));
        if grant.origin.is_none() {
            return;
        }
        if let Ok(methods) = HeaderValue::from_str(methods) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let allowed = self.headers.clone().or_else(|| echo(asked));
        if let Some(allowed) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
    }
}

/// Whether this is a preflight, which no application sees.
#[must_use]
pub fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers that a preflight asks for, as names and nothing else.
fn echo(asked: &HeaderMap) -> Option<HeaderValue> {
    let asked = single(asked, &ACCESS_CONTROL_REQUEST_HEADERS)?;
    let names: Option<Vec<HeaderName>> = asked
        .split(',')
        .map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    let names = names?;
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

fn take_off(headers: &mut HeaderMap) {
    let is_ours = |name: &HeaderName| name.as_str().starts_with("access-control-");
    if headers.keys().any(is_ours) {
        let names: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
