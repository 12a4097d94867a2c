//! A caller's body, and what becomes of the rest of it once its call is over.
//!
//! A service may answer before it has all of a request, and we may refuse. Over HTTP/1.1 the rest has to be read for the
//! connection to go on: closed under a caller that still writes, it shows that caller a broken pipe in place of the answer. So
//! what is left is read for a moment, and thrown away.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How long the rest is read, and how much of it. A caller with more to say may as well open another connection.
const REST_TIME_MAX: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 256 << 10;

thread_local! {
    /// Whether this is a data thread that runs, so that there is something to read the rest.
    static SERVING: Cell<bool> = const { Cell::new(false) };
}

/// Says whether the present thread serves.
pub(crate) fn set_serving(serving: bool) {
    SERVING.set(serving);
}

/// A caller's body.
pub(crate) struct CallerBody(Option<Incoming>);

impl CallerBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for CallerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for CallerBody {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && SERVING.get()
        {
            tokio::task::spawn_local(async move {
                let _ = tokio::time::timeout(REST_TIME_MAX, throw_away(body)).await;
            });
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > REST_BYTES_MAX {
            return;
        }
    }
}
