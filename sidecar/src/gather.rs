//! Gathers what one poll of a connection writes into one system call.
//!
//! ```text
//!  h2: HEADERS, DATA, DATA, … each a write ─► buffer ──flush──► one write
//!                        a large payload ─► buffer and payload in one vectored write, not copied
//! ```
//!
//! The HTTP/2 library writes once for every payload of 256 bytes or more, which for small calls is more than one system call
//! a message; they were the largest part of what a call costs. It always flushes when it has nothing more to write, so
//! what is gathered never waits. Buffers are lent by the thread while they hold something: an idle connection has none.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that is gathered before it is written.
const GATHER_BYTES_MAX: usize = 32 << 10;
/// A write of this much is worth a system call of its own, and not worth a copy.
const LARGE_BYTES_MIN: usize = 8 << 10;
/// Buffers a thread keeps for the next connection that writes.
const SPARE_BUFFERS_MAX: usize = 64;
/// Slices of one vectored write.
const SLICES_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A stream whose writes are gathered until it is flushed.
pub(crate) struct Gather<S> {
    inner: S,
    /// What was written and not sent, from `sent` on.
    buffer: Vec<u8>,
    sent: usize,
}

impl<S> Gather<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            sent: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    fn waiting(&self) -> usize {
        self.buffer.len() - self.sent
    }

    fn take_in(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(GATHER_BYTES_MAX));
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn emptied(&mut self) {
        self.sent = 0;
        self.buffer.clear();
        let buffer = std::mem::take(&mut self.buffer);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() >= GATHER_BYTES_MAX {
                spare.push(buffer);
            }
        });
    }

    /// Sends all that was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        if !self.buffer.is_empty() {
            self.emptied();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what was gathered together with a large write, and tells how much of the latter went.
    fn poll_large(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.waiting();
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            all[0] = IoSlice::new(&self.buffer[self.sent..]);
            let count = slices.len().min(SLICES_MAX - 1);
            all[1..=count].copy_from_slice(&slices[..count]);
            let first = usize::from(waiting == 0);
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &all[first..=count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < waiting {
                self.sent += written;
                continue;
            }
            if !self.buffer.is_empty() {
                self.emptied();
            }
            if written > waiting {
                return Poll::Ready(Ok(written - waiting));
            }
        }
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
        let this = self.get_mut();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length >= LARGE_BYTES_MIN {
            return this.poll_large(cx, slices);
        }
        if this.buffer.len() + length > GATHER_BYTES_MAX {
            ready!(this.poll_drain(cx))?;
        }
        for slice in slices {
            this.take_in(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What was gathered goes before the end does.
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes at most `most` bytes a call and remembers them, and how many calls there were.
    struct Sink {
        bytes: Rc<RefCell<Vec<u8>>>,
        calls: Rc<Cell<usize>>,
        most: usize,
        shut: Rc<Cell<bool>>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.most);
            self.bytes.borrow_mut().extend_from_slice(&bytes[..count]);
            self.calls.set(self.calls.get() + 1);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let joined: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .take(self.most)
                .collect();
            self.poll_write(cx, &joined)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.shut.set(true);
            Poll::Ready(Ok(()))
        }
    }

    type Seen = (Rc<RefCell<Vec<u8>>>, Rc<Cell<usize>>, Rc<Cell<bool>>);

    fn gather(most: usize) -> (Gather<Sink>, Seen) {
        let (bytes, calls, shut) = (Rc::default(), Rc::default(), Rc::default());
        let sink = Sink {
            bytes: Rc::clone(&bytes),
            calls: Rc::clone(&calls),
            most,
            shut: Rc::clone(&shut),
        };
        (Gather::new(sink), (bytes, calls, shut))
    }

    #[tokio::test]
    async fn many_small_writes_become_one() {
        let (mut stream, (bytes, calls, _)) = gather(usize::MAX);
        for _ in 0..10 {
            stream.write_all(&[7; 300]).await.unwrap();
        }
        assert_eq!(calls.get(), 0);
        stream.flush().await.unwrap();
        assert_eq!((bytes.borrow().len(), calls.get()), (3_000, 1));
    }

    #[tokio::test]
    async fn everything_arrives_once_and_in_order_whatever_the_socket_takes() {
        for most in [1, 7, 4_096, usize::MAX] {
            let (mut stream, (bytes, ..)) = gather(most);
            let mut expected = Vec::new();
            let sizes: [usize; 9] = [1, 300, 9_000, 20, 40_000, 8_191, 8_192, 5, 31_000];
            for (number, size) in sizes.into_iter().enumerate() {
                let piece = vec![u8::try_from(number).unwrap(); size];
                stream.write_all(&piece).await.unwrap();
                expected.extend(piece);
            }
            stream.flush().await.unwrap();
            assert!(*bytes.borrow() == expected, "{most} bytes a call");
        }
    }

    #[tokio::test]
    async fn what_was_gathered_goes_before_the_end() {
        let (mut stream, (bytes, _, shut)) = gather(10);
        stream.write_all(b"the last words of this stream").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(&*bytes.borrow(), b"the last words of this stream");
        assert!(shut.get());
    }

    #[tokio::test]
    async fn a_flushed_stream_holds_no_buffer() {
        let (mut stream, _) = gather(usize::MAX);
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.buffer.capacity(), 0);
    }
}
