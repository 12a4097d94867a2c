//! Gathers everything that one poll of a connection writes into one system call.
//!
//! ```text
//!  connection ─ HEADERS, DATA, flush, DATA, flush … ─► buffer        (nothing is sent: the library flushes after each payload)
//!  Driver     ─ polls the connection, then sends the buffer          (one write, one run of TLS records)
//! ```
//!
//! The HTTP/2 library writes and flushes once for every payload of 256 bytes or more, which for small calls is more than one
//! system call a message; they were the largest part of what a call costs. So a flush only notes that there is something, and
//! whoever polls the connection sends it afterwards. Nothing is lost at the end: [`Driver::finish`] sends what is left, and a
//! shutdown sends before it shuts. Buffers are lent by the thread while they hold something: an idle connection has none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::accountant::{Accountant, Flood};
use super::frames::{self, Walker};
use super::pulse::{Order, Pulse};

/// More than this does not wait: the writer is held up until the socket has taken it.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// What a buffer begins with, and what a spare one may not exceed.
const BUFFER_BYTES: usize = 32 << 10;
/// A piece of this size is written without being gathered, where nothing waits before it.
const LARGE_BYTES: usize = 64 << 10;
/// Buffers a thread keeps for the next connection that writes.
const SPARE_BUFFERS_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A stream as the HTTP library gets it: its writes wait for the [`Driver`], its frames are followed.
pub(crate) struct Wire<S>(Rc<RefCell<Waiting<S>>>);

/// Polls a connection and sends what it wrote to its [`Wire`].
pub(crate) struct Driver<S> {
    waiting: Rc<RefCell<Waiting<S>>>,
    pulse: Rc<Pulse>,
}

/// How a connection ended.
pub(crate) enum Ended<T> {
    /// By itself.
    With(T),
    /// It was cut; the word says why.
    Cut(&'static str),
}

struct Waiting<S> {
    stream: S,
    pulse: Rc<Pulse>,
    /// What was written and not sent, from `sent` on.
    buffer: Vec<u8>,
    sent: usize,
    /// Only for HTTP/2 connections of callers; what instances send us is not judged.
    watch: Option<Box<Watch>>,
}

/// The frames of a caller's connection.
struct Watch {
    read: Walker,
    written: Walker,
    accountant: Accountant,
    flood: Option<Flood>,
}

/// Splits a stream into what the HTTP library gets and what drives it. `caller_frames`: the peer is a caller that speaks
/// HTTP/2, whose frames are to be counted.
pub(crate) fn wire<S>(stream: S, pulse: Rc<Pulse>, caller_frames: bool) -> (Wire<S>, Driver<S>) {
    let watch = || {
        Box::new(Watch {
            read: Walker::of_client(),
            written: Walker::of_server(),
            accountant: Accountant::default(),
            flood: None,
        })
    };
    let waiting = Rc::new(RefCell::new(Waiting {
        stream,
        pulse: pulse.clone(),
        buffer: Vec::new(),
        sent: 0,
        watch: caller_frames.then(watch),
    }));
    (Wire(waiting.clone()), Driver { waiting, pulse })
}

impl<S: AsyncWrite + Unpin> Driver<S> {
    /// Runs a connection to its end, or until its pulse says that it has to end; what else the pulse says is obeyed by
    /// `obey`.
    pub(crate) async fn run<C: Future>(
        self,
        connection: C,
        mut obey: impl FnMut(Order, Pin<&mut C>),
    ) -> Ended<C::Output> {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            loop {
                let polled = connection.as_mut().poll(cx);
                self.waiting.borrow_mut().send(cx);
                if let Poll::Ready(output) = polled {
                    return Poll::Ready(Ended::With(output));
                }
                match self.pulse.take_order(cx) {
                    None => return Poll::Pending,
                    Some(Order::Cut(why)) => return Poll::Ready(Ended::Cut(why)),
                    Some(order) => obey(order, connection.as_mut()),
                }
            }
        })
        .await;
        match ended {
            Ended::Cut(why) => Ended::Cut(why),
            Ended::With(output) => {
                self.finish().await;
                match self.waiting.borrow().flood() {
                    Some(flood) => Ended::Cut(flood.word()),
                    None => Ended::With(output),
                }
            }
        }
    }

    /// Sends what is left after the connection has ended.
    async fn finish(&self) {
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            waiting.send(cx);
            let is_over =
                waiting.buffer.is_empty() || matches!(self.pulse.take_order(cx), Some(Order::Cut(_)));
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl<S> Waiting<S> {
    fn flood(&self) -> Option<Flood> {
        self.watch.as_ref()?.flood
    }

    /// Looks at the frames of what a caller sent.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = self.pulse.now();
        self.pulse.heard();
        let Some(watch) = &mut self.watch else {
            self.pulse.begin();
            return Ok(());
        };
        let Watch {
            read,
            accountant,
            flood,
            ..
        } = &mut **watch;
        let mut seen = false;
        read.walk(bytes, |head| {
            seen = true;
            if flood.is_none() {
                *flood = accountant.received(head, now).err();
            }
        });
        if seen {
            self.pulse.begin();
        }
        let Some(flood) = watch.flood else {
            return Ok(());
        };
        // The library is not asked: it would answer every one of these frames before it hears of it.
        if watch.written.is_between_frames() {
            let goodbye = frames::enhance_your_calm(watch.accountant.newest_stream(), flood.word());
            self.take_in(&goodbye);
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, flood.word()))
    }

    fn take_in(&mut self, bytes: &[u8]) {
        if let Some(watch) = &mut self.watch {
            let Watch {
                written, accountant, ..
            } = &mut **watch;
            written.walk(bytes, |head| accountant.sent(head));
        }
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        }
        // A socket that always lags a little must not make the buffer longer and longer.
        if self.sent > 0 && self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn emptied(&mut self) {
        self.sent = 0;
        self.buffer.clear();
        let buffer = std::mem::take(&mut self.buffer);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() == BUFFER_BYTES {
                spare.push(buffer);
            }
        });
    }
}

impl<S: AsyncWrite + Unpin> Waiting<S> {
    /// Sends what the socket takes. A write that fails is the connection's to notice: its next read or write fails as well.
    fn send(&mut self, cx: &mut Context<'_>) {
        if self.buffer.is_empty() {
            return;
        }
        let before = self.sent;
        let sent = self.poll_send(cx);
        self.pulse.waits(sent.is_pending(), self.sent != before);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.buffer.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.sent..])) {
                Ok(0) => {
                    self.emptied();
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                Ok(count) => self.sent += count,
                Err(error) => {
                    self.emptied();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.emptied();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes at once what is too large to be worth a copy; nothing waits before it.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let count = match &written {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) => 0,
            Poll::Pending => {
                self.pulse.waits(true, false);
                return Poll::Pending;
            }
        };
        self.pulse.waits(false, true);
        if let Some(watch) = &mut self.watch {
            let Watch {
                written, accountant, ..
            } = &mut **watch;
            written.walk(bytes.get(..count).unwrap_or_default(), |head| {
                accountant.sent(head);
            });
        }
        written
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() - self.sent < WAITING_BYTES_MAX {
            Poll::Ready(Ok(()))
        } else {
            self.poll_send(cx)
        }
    }
}

impl<S> Wire<S> {
    /// Another handle to the same stream.
    pub(crate) fn handle(&self) -> Self {
        Self(self.0.clone())
    }

    /// Puts another answer into the place of the last one of HTTP/1 that was written, where that is a head alone and none of
    /// it was sent; `with` is given the head, and may decline.
    pub(crate) fn replace_last(&self, with: impl FnOnce(&str) -> Option<Vec<u8>>) {
        const BEGIN: &[u8] = b"HTTP/1.";
        let mut waiting = self.0.borrow_mut();
        let sent = waiting.sent;
        let unsent = waiting.buffer.get(sent..).unwrap_or_default();
        let Some(at) = unsent.windows(BEGIN.len()).rposition(|part| part == BEGIN) else {
            return;
        };
        if let Some(answer) = std::str::from_utf8(&unsent[at..]).ok().and_then(with) {
            waiting.buffer.truncate(sent + at);
            waiting.take_in(&answer);
        }
    }

    /// The stream itself, once its [`Driver`] is gone.
    pub(crate) fn into_stream(self) -> Option<S> {
        Rc::into_inner(self.0).map(|waiting| waiting.into_inner().stream)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.0.borrow_mut();
        ready!(waiting.poll_room(cx))?;
        if waiting.buffer.is_empty()
            && let Some(large) = slices.iter().find(|slice| !slice.is_empty())
            && large.len() >= LARGE_BYTES
        {
            return waiting.poll_write_through(cx, large);
        }
        let mut taken = 0;
        for slice in slices {
            let room = WAITING_BYTES_MAX.saturating_sub(waiting.buffer.len() - waiting.sent);
            let part = slice.get(..room).unwrap_or(slice);
            waiting.take_in(part);
            taken += part.len();
            if part.len() < slice.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.borrow_mut();
        ready!(waiting.poll_send(cx))?;
        Pin::new(&mut waiting.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.borrow_mut();
        let before = into.filled().len();
        ready!(Pin::new(&mut waiting.stream).poll_read(cx, into))?;
        let followed = waiting.follow(into.filled().get(before..).unwrap_or_default());
        if followed.is_err() {
            into.set_filled(before);
        }
        Poll::Ready(followed)
    }
}

#[cfg(test)]
mod tests;
