//! Gathers everything that one poll of a connection writes into one system call.
//!
//! ```text
//!  connection ─ HEADERS, DATA, flush, DATA, flush … ─► buffer        (nothing is sent: the library flushes after each payload)
//!  Sender     ─ polls the connection, then sends the buffer          (one write, one run of TLS records)
//! ```
//!
//! The HTTP/2 library writes and flushes once for every payload of 256 bytes or more, which for small calls is more than one
//! system call a message; they were the largest part of what a call costs. So a flush only notes that there is something, and
//! whoever polls the connection sends it afterwards. Nothing is lost at the end: [`Sender::finish`] sends what is left, and a
//! shutdown sends before it shuts. Buffers are lent by the thread while they hold something: an idle connection has none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this does not wait: the writer is held up until the socket has taken it.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// What a buffer begins with, and what a spare one may not exceed.
const BUFFER_BYTES: usize = 32 << 10;
/// Buffers a thread keeps for the next connection that writes.
const SPARE_BUFFERS_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A stream whose writes wait for its [`Sender`].
pub(crate) struct Gather<S>(Rc<RefCell<Waiting<S>>>);

/// Sends what a [`Gather`] holds, after each poll of the connection that writes to it.
pub(crate) struct Sender<S>(Rc<RefCell<Waiting<S>>>);

struct Waiting<S> {
    stream: S,
    /// What was written and not sent, from `sent` on.
    buffer: Vec<u8>,
    sent: usize,
}

/// Splits a stream into what the HTTP library gets and what sends.
pub(crate) fn gather<S>(stream: S) -> (Gather<S>, Sender<S>) {
    let waiting = Rc::new(RefCell::new(Waiting {
        stream,
        buffer: Vec::new(),
        sent: 0,
    }));
    (Gather(waiting.clone()), Sender(waiting))
}

impl<S: AsyncWrite + Unpin> Sender<S> {
    /// Polls a connection, then sends what it wrote. A write that fails is the connection's to notice: its next read or
    /// write fails as well.
    pub(crate) fn poll<C: Future>(&self, connection: Pin<&mut C>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let polled = connection.poll(cx);
        let _ = self.0.borrow_mut().poll_send(cx);
        polled
    }

    /// Sends what is left after the connection has ended.
    pub(crate) async fn finish(&self) {
        let _ = poll_fn(|cx| self.0.borrow_mut().poll_send(cx)).await;
    }

    /// Runs a connection to its end.
    pub(crate) async fn drive<C: Future>(self, connection: C) {
        let mut connection = pin!(connection);
        poll_fn(|cx| self.poll(connection.as_mut(), cx).map(drop)).await;
        self.finish().await;
    }
}

impl<S: AsyncWrite + Unpin> Waiting<S> {
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

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() - self.sent < WAITING_BYTES_MAX {
            Poll::Ready(Ok(()))
        } else {
            self.poll_send(cx)
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
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
        for slice in slices {
            waiting.take_in(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
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

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts the writes that reach it.
    struct Counted(Rc<Cell<usize>>, Rc<RefCell<Vec<u8>>>);

    impl AsyncWrite for Counted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.set(self.0.get() + 1);
            self.1.borrow_mut().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_one_poll_writes_and_flushes_becomes_one_write() {
        let (writes, bytes) = (Rc::<Cell<usize>>::default(), Rc::<RefCell<Vec<u8>>>::default());
        let (mut stream, sender) = gather(Counted(writes.clone(), bytes.clone()));
        let connection = async move {
            for _ in 0..10 {
                stream.write_all(&[7; 300]).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        sender.drive(connection).await;
        assert_eq!((bytes.borrow().len(), writes.get()), (3_000, 1));
    }

    #[tokio::test]
    async fn everything_arrives_once_and_in_order_through_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut stream, sender) = gather(near);
        let connection = async move {
            for number in 0..100_000u32 {
                stream.write_all(&number.to_be_bytes()).await.unwrap();
            }
        };
        let reading = async {
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).await.unwrap();
            seen
        };
        let ((), seen) = tokio::join!(sender.drive(connection), reading);
        assert!(seen == (0..100_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_waits_before_it_shuts() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (mut stream, _sender) = gather(near);
        stream.write_all(b"the last words of this stream").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"the last words of this stream");
    }

    #[tokio::test]
    async fn a_connection_that_has_sent_everything_holds_no_buffer() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let (mut stream, sender) = gather(near);
        stream.write_all(b"x").await.unwrap();
        sender.finish().await;
        assert_eq!(sender.0.borrow().buffer.capacity(), 0);
    }
}
