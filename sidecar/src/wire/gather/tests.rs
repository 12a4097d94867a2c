//! What is written, what is sent, and how a connection ends.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Limits;
use super::*;

const LIMITS: Limits = Limits {
    first: 10,
    write_stall: 60,
    idle: 300,
    age: 1_800,
    grace: 30,
    keep_alive: None,
    drains: true,
};

fn gather<S>(stream: S) -> (Wire<S>, Driver<S>) {
    wire(stream, Rc::new(Pulse::new(LIMITS, 0)), false)
}

async fn drive<S: AsyncWrite + Unpin>(driver: Driver<S>, connection: impl Future<Output = ()>) {
    assert!(matches!(driver.run(connection, |_, _| {}).await, Ended::With(())));
}

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
    let (mut stream, driver) = gather(Counted(writes.clone(), bytes.clone()));
    let connection = async move {
        for _ in 0..10 {
            stream.write_all(&[7; 300]).await.unwrap();
            stream.flush().await.unwrap();
        }
    };
    drive(driver, connection).await;
    assert_eq!((bytes.borrow().len(), writes.get()), (3_000, 1));
}

#[tokio::test]
async fn everything_arrives_once_and_in_order_through_a_narrow_pipe() {
    let (near, mut far) = tokio::io::duplex(64);
    let (mut stream, driver) = gather(near);
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
    let ((), seen) = tokio::join!(drive(driver, connection), reading);
    assert!(seen == (0..100_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_socket_that_always_lags_a_little_does_not_make_the_buffer_grow() {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let (mut stream, driver) = gather(near);
    let waiting = driver.waiting.clone();
    let capacity = Rc::new(Cell::new(0));
    let largest = capacity.clone();
    let connection = async move {
        for _ in 0..5_000 {
            stream.write_all(&[7; 900]).await.unwrap();
            largest.set(waiting.borrow().buffer.capacity().max(largest.get()));
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        seen.len()
    };
    let ((), seen) = tokio::join!(drive(driver, connection), reading);
    assert_eq!(seen, 5_000 * 900);
    assert!(
        capacity.get() <= 2 * WAITING_BYTES_MAX + BUFFER_BYTES,
        "{}",
        capacity.get()
    );
}

#[tokio::test]
async fn a_large_piece_is_written_without_being_copied_and_in_its_place() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (mut stream, driver) = gather(near);
    let waiting = driver.waiting.clone();
    let connection = async move {
        stream.write_all(b"small").await.unwrap();
        stream.write_all(&[7; 3 << 20]).await.unwrap();
        stream.write_all(b"last").await.unwrap();
        assert!(waiting.borrow().buffer.capacity() <= 2 * WAITING_BYTES_MAX);
    };
    let reading = async {
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let ((), seen) = tokio::join!(drive(driver, connection), reading);
    let wanted = [b"small".to_vec(), vec![7; 3 << 20], b"last".to_vec()].concat();
    assert!(seen == wanted);
}

#[tokio::test]
async fn a_shutdown_sends_what_waits_before_it_shuts() {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let (mut stream, _driver) = gather(near);
    stream.write_all(b"the last words of this stream").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = Vec::new();
    far.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"the last words of this stream");
}

#[tokio::test]
async fn a_connection_that_has_sent_everything_holds_no_buffer() {
    let (near, _far) = tokio::io::duplex(1 << 10);
    let (mut stream, driver) = gather(near);
    stream.write_all(b"x").await.unwrap();
    driver.finish().await;
    assert_eq!(driver.waiting.borrow().buffer.capacity(), 0);
}

#[tokio::test]
async fn a_flood_is_told_to_calm_down_and_its_bytes_reach_nobody() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let pulse = Rc::new(Pulse::new(LIMITS, 0));
    let (mut stream, driver) = wire(near, pulse, true);
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    for _ in 0..200 {
        far.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
            .await
            .unwrap();
    }
    let connection = async move {
        let mut all = Vec::new();
        stream
            .read_to_end(&mut all)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let ended = driver.run(connection, |_, _| {}).await;
    assert!(matches!(ended, Ended::Cut("too_many_pings")));
    let mut seen = Vec::new();
    far.read_to_end(&mut seen).await.unwrap();
    // GOAWAY, with ENHANCE_YOUR_CALM and the word.
    assert_eq!(
        (seen[3], &seen[13..17], &seen[17..]),
        (7, &[0, 0, 0, 0xb][..], &b"too_many_pings"[..])
    );
}
