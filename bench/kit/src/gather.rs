//! Gathers everything that one poll of a connection writes into one write.
//!
//! ```text
//!  connection ─ poll_write, poll_flush ─► waiting bytes          (the library may flush after each frame: nothing is sent)
//!  drive      ─ polls the connection, then writes what waits     (one system call, one TLS record run)
//! ```
//!
//! h2 writes once for each DATA payload of 256 bytes or more; a connection with many streams then makes a system call per
//! stream where one for all would do. Nothing is lost at the end: `drive` writes until nothing waits before it returns.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this is not kept waiting: the writer is told to wait instead, once the socket takes no more.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// An IO whose writes wait for [`Waiting::drive`].
pub struct Gather<T> {
    shared: Rc<RefCell<Shared<T>>>,
}

/// The other end of a [`Gather`]: writes what waits.
pub struct Waiting<T> {
    shared: Rc<RefCell<Shared<T>>>,
}

struct Shared<T> {
    io: T,
    waiting: Vec<u8>,
    written: usize,
}

/// Splits an IO into what the HTTP library gets and what drives it.
pub fn gather<T>(io: T) -> (Gather<T>, Waiting<T>) {
    let shared = Rc::new(RefCell::new(Shared {
        io,
        waiting: Vec::new(),
        written: 0,
    }));
    (
        Gather {
            shared: shared.clone(),
        },
        Waiting { shared },
    )
}

impl<T: AsyncWrite + Unpin> Waiting<T> {
    /// Runs a connection to its end; after each of its polls, what it wrote is sent.
    pub async fn drive<F: Future>(self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        let output = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            // A failed write is the connection's to notice: its next read or write fails as well.
            let _ = self.shared.borrow_mut().send(cx);
            polled
        })
        .await;
        let _ = poll_fn(|cx| self.shared.borrow_mut().send(cx)).await;
        output
    }
}

impl<T: AsyncWrite + Unpin> Shared<T> {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written == self.waiting.len() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.waiting.len() {
            match Pin::new(&mut self.io).poll_write(cx, &self.waiting[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => self.written += length,
                Poll::Ready(Err(error)) => {
                    self.waiting.clear();
                    self.written = 0;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.waiting.clear();
        self.written = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn has_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() - self.written < WAITING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.send(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.borrow_mut().io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.shared.borrow_mut();
        std::task::ready!(shared.has_room(cx))?;
        shared.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.shared.borrow_mut();
        std::task::ready!(shared.has_room(cx))?;
        for piece in pieces {
            shared.waiting.extend_from_slice(piece);
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        std::task::ready!(shared.send(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(flavor = "current_thread")]
    async fn everything_written_before_the_end_arrives_though_the_pipe_is_narrow() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut io, waiting) = gather(near);
        let writing = waiting.drive(async move {
            for piece in 0..1_000u32 {
                io.write_all(&piece.to_be_bytes()).await?;
            }
            Ok::<_, io::Error>(())
        });
        let reading = async {
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).await.map(|_| seen)
        };
        let (written, seen) = tokio::join!(writing, reading);
        written.unwrap();
        let expected: Vec<u8> = (0..1_000u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(seen.unwrap(), expected);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_writer_faster_than_the_socket_is_told_to_wait() {
        let (near, _far) = tokio::io::duplex(64);
        let (mut io, waiting) = gather(near);
        let endless = waiting.drive(async move {
            loop {
                io.write_all(&[0; 1 << 16]).await.unwrap();
            }
        });
        let soon = std::time::Duration::from_millis(20);
        tokio::time::timeout(soon, endless).await.unwrap_err();
    }
}
