//! The last step of a way: to the app, or to an instance of another service.
//!
//! ```text
//!  retry( balance( endpoint( connection )))
//!     │        │         │          └── connect.rs opens one: TCP, TLS, HTTP/2 or HTTP/1.1
//!     │        │         └── endpoint.rs: an instance as this thread knows it
//!     │        └── balance.rs, an engine
//!     └── budget.rs, an engine; again.rs: what is sent once more
//! ```
//!
//! Everything here belongs to one data thread; nothing is locked.

pub(crate) mod again;
pub mod balance;
pub mod budget;
pub(crate) mod cluster;
pub(crate) mod connect;
pub(crate) mod endpoint;
mod http2;
mod interim;

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::BoxError;
use crate::reason::{Reason, Rejection};

/// What a service answers, as it comes.
pub(crate) enum Answer {
    /// Over HTTP/2; what is left of the request is sent while the answer is read.
    Http2(http2::Exchange),
    /// Over HTTP/1.1.
    Http1(Incoming),
}

/// What an answer that broke off on its way is told as.
pub(crate) fn broken_off(error: &(dyn Error + 'static)) -> Rejection {
    http2::refused_here(error)
        .unwrap_or_else(|| Rejection::new(Reason::UpstreamReset, "the service broke its answer off"))
        .with_detail(error.to_string())
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Answer::Http2(exchange) => Pin::new(exchange).poll_frame(cx),
            Answer::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Http2(exchange) => exchange.is_end_stream(),
            Answer::Http1(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Http2(exchange) => exchange.size_hint(),
            Answer::Http1(body) => body.size_hint(),
        }
    }
}
