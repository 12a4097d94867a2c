//! HTTP/2 to an instance, on the h2 crate itself: a call is one future, woken by the stream it waits for, and nothing else
//! is spawned for it.
//!
//! ```text
//!  Lease ─► Sending: the request's body ─► stream, until the head of the answer is there
//!            └► Exchange: what is left of the request ─► stream, and the answer's pieces ◄─ stream
//! ```

use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::again::Kept;
use super::interim::{INTERIM_MAX, TooMany};
use crate::body::{BoxError, RequestBody};
use crate::clock::Clock;
use crate::reason::Rejection;
use crate::wire::{KeepAlive, Limits, Order, Pulse, Tick, Wire, wire};

const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BUFFER_BYTES: usize = 256 << 10;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Seconds. After its age, so that the identities on it stay fresh, and when no call used it for long, a connection takes no
/// new calls; those under way go on.
const LIMITS: Limits = Limits {
    first: Tick::MAX,
    write_stall: 60,
    idle: 300,
    age: 30 * 60,
    grace: Tick::MAX,
    keep_alive: None,
    drains: false,
};
/// How a sidecar that is gone without a word is noticed. Only sidecars are asked: servers of gRPC count pings on a stream on
/// which nothing moves, and close the connection after the third within five minutes.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    busy: 10,
    idle: 30,
    timeout: 20,
};

/// One connection.
pub(crate) struct Line {
    sender: SendRequest<Bytes>,
    pub(crate) pulse: Rc<Pulse>,
    gone: Rc<Cell<bool>>,
}

impl Line {
    /// Begins HTTP/2 on a stream; the connection is driven on this thread. `asks`: for signs of life.
    ///
    /// # Errors
    /// Why not, in words.
    pub(crate) async fn begin(
        clock: &Rc<Clock>,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        asks: bool,
    ) -> Result<Self, String> {
        let watched = clock.connection(Limits {
            keep_alive: asks.then_some(KEEP_ALIVE),
            ..LIMITS
        });
        let pulse = watched.pulse.clone();
        let (stream, driver) = wire(stream, pulse.clone(), false);
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| format!("HTTP/2 cannot begin: {error}"))?;
        let ping = connection.ping_pong();
        let gone = Rc::<Cell<bool>>::default();
        let is_gone = gone.clone();
        tokio::task::spawn_local(async move {
            let obey = |order, client: Pin<&mut Client<_>>| match order {
                Order::Ping => client.get_mut().ping(),
                Order::GoAway | Order::Cut(_) => is_gone.set(true),
            };
            // Calls learn from their own streams how it ended.
            drop(driver.run(Client { connection, ping }, obey).await);
            is_gone.set(true);
            drop(watched);
        });
        Ok(Self { sender, pulse, gone })
    }

    /// Whether it takes no new calls.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// A handle to send one request with.
    pub(crate) fn lease(&self) -> Lease {
        Lease {
            sender: self.sender.clone(),
            gone: self.gone.clone(),
        }
    }
}

/// Room for one request on a connection.
pub(crate) struct Lease {
    sender: SendRequest<Bytes>,
    gone: Rc<Cell<bool>>,
}

impl Lease {
    /// Waits until the connection takes a request.
    ///
    /// # Errors
    /// It is closing, and is not offered again; nothing was sent.
    pub(crate) async fn ready(&mut self) -> Result<(), h2::Error> {
        let ready = std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await;
        if ready.is_err() {
            self.gone.set(true);
        }
        ready
    }

    /// Sends a request on a connection that is [`ready`](Self::ready). `keep`: so much of it that it can be sent again.
    ///
    /// # Errors
    /// The request cannot be sent as it is.
    pub(crate) fn send(mut self, head: Parts, body: RequestBody, keep: bool) -> Result<Sending, h2::Error> {
        let is_whole = body.is_end_stream();
        let (response, stream) = self
            .sender
            .send_request(Request::from_parts(head, ()), is_whole)?;
        let pump = Pump {
            body: (!is_whole).then_some(body),
            kept: keep.then(Kept::default),
            stream,
            begun: false,
            is_stopped: false,
            is_over: false,
        };
        Ok(Sending {
            response,
            pump: Some(pump),
            polled: false,
            interim: 0,
        })
    }
}

/// The connection, and the pings that show that there is somebody.
struct Client<S: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<Wire<S>, Bytes>,
    ping: Option<PingPong>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn ping(&mut self) {
        if let Some(ping) = &mut self.ping {
            // Any byte is an answer ([`Pulse`]); the pong is only taken so that another ping may be sent.
            let _ = ping.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = ping.send_ping(Ping::opaque());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Client<S> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// A request under way whose answer has not begun.
pub(crate) struct Sending {
    response: ResponseFuture,
    /// Taken along by the answer.
    pump: Option<Pump>,
    polled: bool,
    /// How many interim answers came.
    interim: u32,
}

impl Future for Sending {
    type Output = Result<Response<Exchange>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(pump) = &mut this.pump {
            pump.poll_some(cx)?;
        }
        // Nothing can be there when it was just sent.
        while std::mem::replace(&mut this.polled, true)
            && let Poll::Ready(Some(Ok(_))) = this.response.poll_informational(cx)
        {
            this.interim += 1;
            if this.interim > INTERIM_MAX {
                return Poll::Ready(Err(TooMany.into()));
            }
        }
        let response = ready!(Pin::new(&mut this.response).poll(cx))?;
        let Some(mut pump) = this.pump.take() else {
            return Poll::Ready(Err("the answer was already taken".into()));
        };
        pump.seen();
        Poll::Ready(Ok(response.map(|stream| Exchange {
            stream,
            pump,
            at: At::Data,
        })))
    }
}

impl Sending {
    /// The body of a request that failed, whole, if it was kept.
    pub(crate) fn body_again(&mut self) -> Option<RequestBody> {
        let pump = self.pump.as_mut()?;
        Some(pump.kept.take()?.again(pump.body.take()))
    }
}

/// Whether a request failed before the service looked at it: it says so of the stream, or closes the connection and names a
/// last stream before this one (RFC 9113 6.8, 8.7). The library gives a peer's GOAWAY as the failure of exactly those.
pub(crate) fn is_unseen(error: &(dyn Error + 'static)) -> bool {
    let refused = |error: &h2::Error| error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error
        .downcast_ref::<h2::Error>()
        .is_some_and(|error| error.is_remote() && (error.is_go_away() || refused(error)))
}

/// Why an answer was refused on this side of the connection, if it was. The library ends the stream where headers or trailers
/// are over the limit, and the connection where they are so much over it that it stopped reading them.
pub(crate) fn refused_here(error: &(dyn Error + 'static)) -> Option<Rejection> {
    if error.is::<TooMany>() {
        return Some(Rejection::new(
            crate::reason::Reason::ResponseUnreadable,
            TooMany.to_string(),
        ));
    }
    let error = error.downcast_ref::<h2::Error>()?;
    if !error.is_library() {
        return None;
    }
    let headers_over = "the service's headers or trailers are over 16 KiB";
    match error.reason()? {
        Reason::PROTOCOL_ERROR if error.is_reset() => {
            let why = format!("{headers_over}, or break a rule of HTTP/2");
            Some(Rejection::new(crate::reason::Reason::ResponseTooLarge, why))
        }
        Reason::ENHANCE_YOUR_CALM | Reason::COMPRESSION_ERROR => Some(Rejection::new(
            crate::reason::Reason::ResponseTooLarge,
            headers_over,
        )),
        _ => None,
    }
}

/// An answer's body, and what is left of its request.
pub(crate) struct Exchange {
    stream: RecvStream,
    pump: Pump,
    at: At,
}

#[derive(PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl Body for Exchange {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        this.pump.poll_some(cx)?;
        let polled = this.poll_answer(cx);
        if this.at == At::End {
            this.pump.is_over = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.at == At::End || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}

impl Exchange {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self;
        if this.at == At::Data {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Given on means taken: more is only asked for once the caller took this.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The service wants no more of the request; its answer was complete.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => this.at = At::End,
                Some(Err(error)) => {
                    this.at = At::End;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => this.at = At::Trailers,
            }
        }
        if this.at == At::End {
            return Poll::Ready(None);
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        this.at = At::End;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error.into())),
        })
    }
}

/// A request's body on its way. Whoever lets go of it before the answer was read to its end resets the stream.
struct Pump {
    /// Nothing once all was sent.
    body: Option<RequestBody>,
    /// What was sent of it, until the answer begins.
    kept: Option<Kept>,
    stream: SendStream<Bytes>,
    begun: bool,
    /// The stream takes no more of it.
    is_stopped: bool,
    is_over: bool,
}

impl Drop for Pump {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl Pump {
    /// Sends what there is and has room.
    ///
    /// # Errors
    /// The body failed; the stream was reset. Failures of the stream are told by the answer.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        let Poll::Ready(done) = self.poll(cx) else {
            return Ok(());
        };
        match done {
            Ok(Sent::Whole) => self.body = None,
            Ok(Sent::NoMore) => {
                self.is_stopped = true;
                self.let_go();
            }
            Err(error) => {
                self.body = None;
                self.stream.send_reset(Reason::CANCEL);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The service looked at the request: it is not sent again.
    fn seen(&mut self) {
        self.kept = None;
        self.let_go();
    }

    /// A body nobody takes is only worth having where it may be sent again.
    fn let_go(&mut self) {
        if self.is_stopped && self.kept.is_none() {
            self.body = None;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sent, BoxError>> {
        let Some(body) = self.body.as_mut().filter(|_| !self.is_stopped) else {
            return Poll::Pending;
        };
        loop {
            // The first piece may wait in the library; what follows needs room at the service.
            if self.begun && self.stream.capacity() == 0 {
                self.stream.reserve_capacity(1);
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Ok(Sent::NoMore)),
                }
                continue;
            }
            let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()? else {
                let _ = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(Ok(Sent::Whole));
            };
            let data = frame.into_data().unwrap_or_default();
            let is_last = body.is_end_stream();
            if data.is_empty() && !is_last {
                continue;
            }
            self.begun = true;
            if self.kept.as_mut().is_some_and(|kept| !kept.keep(&data)) {
                self.kept = None;
            }
            let sent = self.stream.send_data(data, is_last);
            if is_last {
                return Poll::Ready(Ok(Sent::Whole));
            }
            if sent.is_err() {
                return Poll::Ready(Ok(Sent::NoMore));
            }
        }
    }
}

/// How the sending of a body ended.
enum Sent {
    /// All was sent.
    Whole,
    /// The stream takes no more.
    NoMore,
}
