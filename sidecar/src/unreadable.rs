//! Requests that are no HTTP/1.1: the library refuses them by itself, with a status and nothing else. Here they are told as
//! every refusal is, to the caller, in the log and in metrics.
//!
//! ```text
//!  library: cannot read a head ─► `HTTP/1.1 400 …`, nothing behind it, in the wire's buffer ─► ends with an error
//!                                        └── [`Http1`]: our answer in its place ─► sent, and the connection is closed
//! ```

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use mesh_transcode::status;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{AnswerBody, BoxError};
use crate::call::Call;
use crate::reason::{Reason, Rejection};
use crate::ways::Connection;
use crate::wire::{Pulse, Wire};

/// A connection that speaks HTTP/1.1, to its end.
pub(crate) struct Http1<'s, S, F>
where
    F: HttpService<Incoming>,
{
    serving: &'s mut http1::Connection<TokioIo<Wire<S>>, F>,
    wire: Wire<S>,
    connection: Rc<Connection>,
    pulse: Rc<Pulse>,
    /// How it ended, while the socket is shut down.
    ended: Option<hyper::Result<()>>,
}

impl<'s, S, F> Http1<'s, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    F::Error: Into<BoxError>,
    F::Future: Unpin,
{
    /// `wire` is what `serving` writes to.
    pub(crate) fn new(
        serving: &'s mut http1::Connection<TokioIo<Wire<S>>, F>,
        wire: Wire<S>,
        connection: Rc<Connection>,
        pulse: Rc<Pulse>,
    ) -> Self {
        Self {
            serving,
            wire,
            connection,
            pulse,
            ended: None,
        }
    }

    /// Lets the request under way be the last one.
    pub(crate) fn graceful_shutdown(&mut self) {
        Pin::new(&mut *self.serving).graceful_shutdown();
    }

    /// Tells why a request could not be read.
    fn tell(&self, error: &hyper::Error) {
        // Of other failures the library says nothing by itself: what is in the buffer is somebody's answer.
        if !error.is_parse() {
            return;
        }
        let mut told = None;
        self.wire.replace_last(|head| {
            let (answer, rejection) = answer(head, error)?;
            told = Some(rejection);
            Some(answer)
        });
        if let Some(rejection) = told {
            Call::unreadable(&self.connection, self.pulse.clone(), &rejection);
        }
    }
}

impl<S, F> Future for Http1<'_, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    F::Error: Into<BoxError>,
    F::Future: Unpin,
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_none() {
            let ended = ready!(this.serving.poll_without_shutdown(cx));
            if let Err(error) = &ended {
                this.tell(error);
            }
            this.ended = Some(ended);
        }
        // A WebSocket goes on with the stream.
        if this.connection.session.borrow().is_none() {
            // Whether the peer hears it is not ours to know.
            let _ = ready!(Pin::new(&mut this.wire).poll_shutdown(cx));
        }
        Poll::Ready(this.ended.take().unwrap_or(Ok(())))
    }
}

/// Our answer in the place of the library's, and what it says; nothing where `head` is not one the library wrote by itself.
fn answer(head: &str, error: &hyper::Error) -> Option<(Vec<u8>, Rejection)> {
    let mut lines = head.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status_line = lines.next()?;
    let reason = match status_line.split(' ').nth(1)? {
        "400" => Reason::RequestMalformed,
        "414" => Reason::UriTooLong,
        "431" => Reason::HeadersTooLarge,
        _ => return None,
    };
    let mut date = None;
    for line in lines {
        match line.split_once(':')? {
            ("date", _) => date = Some(line),
            ("content-length" | "connection", _) => {}
            _ => return None,
        }
    }
    let message = match reason {
        Reason::HeadersTooLarge => "the headers are over 16 KiB, or more than 100".to_owned(),
        Reason::UriTooLong => "the target is too long".to_owned(),
        _ => format!("the request cannot be read as HTTP/1.1: {error}"),
    };
    let rejection = Rejection::new(reason, message);
    let body = status::body(&rejection.status(), None);
    let mut answer = format!(
        "{status_line}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-mesh-reason: {}\r\nconnection: close\r\n",
        body.len(),
        reason.word()
    );
    if let Some(date) = date {
        answer.push_str(date);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(&body);
    Some((answer, rejection))
}
