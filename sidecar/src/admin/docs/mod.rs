//! The documentation page: what the edge serves, with a form to try each operation.
//!
//! ```text
//!  browser ── /docs, /docs/docs.js, /docs/docs.css ──► files in this folder
//!          ── /openapi.json ──► the document            ── POST /docs/try ──► the edge, on behalf of the page
//! ```
//!
//! The edge is another origin than this page, so the page has its calls made from here: only to this sidecar's own edge,
//! only from this page, and only so much of the answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Largest call a page may have made.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// As much of an answer as is shown.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// From the first byte to the last one shown; a stream is cut here.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Nothing from elsewhere, nothing in line, nowhere to go.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
pub(super) fn file(path: &str) -> Option<Response<Full<Bytes>>> {
    let (text, kind) = match path {
        "/docs" => (include_str!("docs.html"), "text/html; charset=utf-8"),
        "/docs/docs.js" => (include_str!("docs.js"), "text/javascript; charset=utf-8"),
        "/docs/docs.css" => (include_str!("docs.css"), "text/css; charset=utf-8"),
        _ => return None,
    };
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(response)
}

/// Whether a request comes from our own page: browsers say so, and nothing else has a reason to ask.
pub(super) fn is_from_page(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => origin.strip_prefix("http://") == Some(host),
        _ => false,
    }
}

/// A call the page wants to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Try {
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

/// Makes a call to the edge and tells how it was answered.
///
/// # Errors
/// With the status of the refusal: it is no call, or there is no edge to call.
pub(super) async fn make(
    request: Request<Incoming>,
    edge: Option<SocketAddr>,
) -> Result<Value, (StatusCode, String)> {
    let edge = edge.ok_or((
        StatusCode::CONFLICT,
        "this sidecar has no edge to call in plain HTTP".to_owned(),
    ))?;
    let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let body = tokio::time::timeout(TIME_MAX, body)
        .await
        .map_err(|_| bad("the request did not come"))?
        .map_err(|_| bad("the request is too large or broke off"))?;
    let wanted: Try = serde_json::from_slice(&body.to_bytes()).map_err(|_| bad("the request is no call"))?;
    let uri: Uri = wanted.path.parse().map_err(|_| bad("the path is none"))?;
    if uri.authority().is_some() || !wanted.path.starts_with('/') {
        return Err(bad("the path is none of the edge"));
    }
    let mut call = Request::builder()
        .method(wanted.method.as_str())
        .uri(uri)
        .header(HOST, edge.to_string());
    for (name, value) in &wanted.headers {
        if !name.eq_ignore_ascii_case(HOST.as_str()) {
            call = call.header(name, value);
        }
    }
    let call = call
        .body(Full::new(Bytes::from(wanted.body)))
        .map_err(|_| bad("a header or the method is none"))?;
    let mut shown = Shown::default();
    let ended = tokio::time::timeout(TIME_MAX, shown.fill(edge, call)).await;
    match ended {
        Ok(Err(why)) if shown.status == 0 => Err((StatusCode::BAD_GATEWAY, why)),
        Ok(Err(why)) => Ok(shown.value(&why)),
        Ok(Ok(())) => Ok(shown.value("")),
        Err(_) => Ok(shown.value("cut: shown is what came in time")),
    }
}

/// What is shown of an answer, as far as it has come.
#[derive(Default)]
struct Shown {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Shown {
    async fn fill(&mut self, edge: SocketAddr, call: Request<Full<Bytes>>) -> Result<(), String> {
        let stream = TcpStream::connect(edge)
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends with the answer: dropping the sender closes it.
        let connection = tokio::spawn(connection);
        let answer = sender
            .send_request(call)
            .await
            .map_err(|error| error.to_string())?;
        self.status = answer.status().as_u16();
        let shown = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        self.headers = answer.headers().iter().map(shown).collect();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
            if let Ok(data) = frame.into_data() {
                self.body.extend_from_slice(&data);
            }
            if self.body.len() > ANSWER_BYTES_MAX {
                self.body.truncate(ANSWER_BYTES_MAX);
                connection.abort();
                return Err(format!("cut: shown are the first {ANSWER_BYTES_MAX} bytes"));
            }
        }
        connection.abort();
        Ok(())
    }

    fn value(&self, note: &str) -> Value {
        json!({
            "status": self.status,
            "headers": self.headers,
            "body": String::from_utf8_lossy(&self.body),
            "note": note,
        })
    }
}
