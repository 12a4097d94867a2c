//! The service behind the sidecar: it does what the case's script says, and keeps what it saw.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Either, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};

use crate::call::runtime;

/// Names the case a request belongs to.
pub const CASE: &str = "x-golden-case";

/// From what was said to the reset.
const BEFORE_RESET: Duration = Duration::from_millis(100);

/// A body's frames, and how it ends.
type Frames = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Reset>> + Send>>;

/// An answer's body.
type Spoken = Either<MapErr<Empty<Bytes>, fn(Infallible) -> Reset>, StreamBody<Frames>>;

/// Ends a body in the middle.
#[derive(Debug)]
pub struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset, as the script says")
    }
}

impl std::error::Error for Reset {}

/// What the service does when a case's request comes.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Its HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body, piece by piece.
    pub pieces: Vec<Bytes>,
    /// Its trailers; without, the headers are all there is of an answer without pieces.
    pub trailers: Option<Vec<(String, String)>>,
    /// What comes after the pieces.
    pub then: Then,
}

/// How an answer goes on after its pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// It ends, with its trailers.
    #[default]
    End,
    /// It neither ends nor says more.
    Hold,
    /// The stream is reset.
    Reset,
}

/// A request as the service saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of the body that came.
    pub body: Bytes,
    /// Whether the body came to its end.
    pub whole: bool,
}

/// The service.
#[derive(Debug, Clone, Default)]
pub struct Backend {
    /// `host:port`
    pub address: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    scripts: HashMap<String, Script>,
    seen: HashMap<String, Vec<Seen>>,
    /// Requests of no case: something took the header away, or made a call of its own.
    strays: Vec<Seen>,
}

impl Backend {
    /// Starts it.
    ///
    /// # Panics
    /// There is no port for it.
    #[must_use]
    pub fn start() -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap().to_string(),
            inner: Arc::default(),
        };
        let inner = Arc::clone(&backend.inner);
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&inner);
                tokio::spawn(async move {
                    let serve = service_fn(move |request| answer(Arc::clone(&inner), request));
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    // Scripts may be large; what the sidecar makes of that is what is tested.
                    builder.http2().max_header_list_size(1 << 20);
                    let _ = builder.serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        backend
    }

    /// From now on this is what happens to this case.
    pub fn plays(&self, case: &str, script: Script) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.scripts.insert(case.to_owned(), script);
    }

    /// What it saw of a case.
    #[must_use]
    pub fn saw(&self, case: &str) -> Vec<Seen> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seen.get(case).cloned().unwrap_or_default()
    }

    /// Requests that belong to no case.
    #[must_use]
    pub fn strays(&self) -> Vec<Seen> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.strays.clone()
    }
}

async fn answer(
    inner: Arc<Mutex<Inner>>,
    request: Request<Incoming>,
) -> Result<Response<Spoken>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    let whole = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
        }
    };
    let seen = Seen {
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: pairs(&head.headers),
        body: bytes.into(),
        whole,
    };
    let case = super::answer::values(&seen.headers, CASE)
        .first()
        .copied()
        .map(str::to_owned);
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let script = case.and_then(|case| {
        let script = inner.scripts.get(&case).cloned()?;
        inner.seen.entry(case).or_default().push(seen.clone());
        Some(script)
    });
    let script = script.unwrap_or_else(|| {
        inner.strays.push(seen);
        Script {
            status: 500,
            ..Script::default()
        }
    });
    drop(inner);
    Ok(script.into_response())
}

impl Script {
    fn into_response(self) -> Response<Spoken> {
        let mut frames: Vec<Result<Frame<Bytes>, Reset>> = self
            .pieces
            .into_iter()
            .map(|piece| Ok(Frame::data(piece)))
            .collect();
        let then = self.then;
        match then {
            Then::End => frames.extend(self.trailers.map(|trailers| Ok(Frame::trailers(map(&trailers))))),
            Then::Hold | Then::Reset => {}
        }
        let none = frames.is_empty();
        let said = tokio_stream::iter(frames);
        // Headers that are all there is say so themselves.
        let only = then == Then::End && none;
        let frames: Frames = match then {
            Then::End => Box::pin(said),
            Then::Hold => Box::pin(said.chain(tokio_stream::pending())),
            // What was said is on its way first: a reset takes back what still waits to be sent.
            Then::Reset => {
                let reset = tokio_stream::once(()).then(|()| async {
                    tokio::time::sleep(BEFORE_RESET).await;
                    Err(Reset)
                });
                Box::pin(said.chain(reset))
            }
        };
        let body = if only {
            Either::Left(Empty::new().map_err((|never| match never {}) as fn(Infallible) -> Reset))
        } else {
            Either::Right(StreamBody::new(frames))
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        *response.headers_mut() = map(&self.headers);
        response
    }
}

fn map(pairs: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        // As bytes: a script may say what is no text.
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// Headers as pairs.
#[must_use]
pub fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    headers.iter().map(pair).collect()
}
