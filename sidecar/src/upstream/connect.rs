//! Opens a connection to an instance: TCP, mutual TLS where the instance is another sidecar, HTTP/2 or HTTP/1.1.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::Key;
use crate::body::RequestBody;
use crate::clock::Watched;
use crate::wire::{Driver, Limits, Tick, wire};
use crate::worker::Worker;

/// From the first SYN to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BUFFER_BYTES: usize = 256 << 10;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// An instance that is gone is noticed within the sum of these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections to instances are reaped by use and age ([`super::endpoint`]), and dead ones are found by keep-alive; here
/// only those are cut that take nothing.
const LIMITS: Limits = Limits {
    first: Tick::MAX,
    write_stall: 60,
    idle: Tick::MAX,
    age: Tick::MAX,
    grace: Tick::MAX,
};

/// How an instance is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dial {
    /// Its sidecar: mutual TLS, HTTP/2.
    Mesh,
    /// A gRPC service itself: HTTP/2 without TLS.
    Http2,
    /// An HTTP service itself.
    Http1,
}

/// Opens an HTTP/2 connection.
///
/// # Errors
/// Why not, in words, with a guess at the cause.
pub(crate) async fn http2(worker: &Rc<Worker>, key: &Key) -> Result<http2::SendRequest<RequestBody>, String> {
    let connecting = async {
        let stream = tcp(key).await?;
        if key.dial == Dial::Http2 {
            return handshake(worker, stream).await;
        }
        let config = worker.client_tls(&key.service)?;
        let name =
            ServerName::try_from(key.service.as_str().to_owned()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| {
                format!(
                    "TLS with {}:{} failed: {error}; is it the inbound port of {}'s sidecar?",
                    key.address, key.port, key.service
                )
            })?;
        handshake(worker, stream).await
    };
    in_time(key, connecting).await
}

/// Opens an HTTP/1.1 connection.
///
/// # Errors
/// Why not, in words.
pub(crate) async fn http1(key: &Key) -> Result<http1::SendRequest<RequestBody>, String> {
    let connecting = async {
        let stream = tcp(key).await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    };
    in_time(key, connecting).await
}

async fn in_time<T>(key: &Key, connecting: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| {
            format!(
                "{}:{} did not answer within {CONNECT_TIMEOUT:?}; is the way there open?",
                key.address, key.port
            )
        })?
}

async fn tcp(key: &Key) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((&*key.address, key.port))
        .await
        .map_err(|error| format!("cannot connect to {}:{}: {error}", key.address, key.port))?;
    // Small frames must not wait for each other; a socket without the option still works.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn handshake(
    worker: &Rc<Worker>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<http2::SendRequest<RequestBody>, String> {
    let watched = worker.clock.connection(LIMITS);
    let (stream, driver) = wire(stream, watched.pulse.clone(), false);
    let executor = DriveFirst(Rc::new(RefCell::new(Some((driver, watched)))));
    let (sender, connection) = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("HTTP/2 cannot begin: {error}"))?;
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// Spawns on this thread. The first thing hyper spawns for a client is the connection itself, which is what has to be
/// driven for its writes to be sent; what comes after it are calls.
struct DriveFirst<S>(Rc<RefCell<Option<(Driver<S>, Watched)>>>);

impl<S> Clone for DriveFirst<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, S> hyper::rt::Executor<F> for DriveFirst<S>
where
    F: Future<Output = ()> + 'static,
    S: AsyncWrite + Unpin + 'static,
{
    fn execute(&self, future: F) {
        let first = self.0.borrow_mut().take();
        match first {
            Some((driver, watched)) => drop(tokio::task::spawn_local(async move {
                // Calls learn from their own streams how it ended.
                drop(driver.run(future, |_| {}).await);
                drop(watched);
            })),
            None => drop(tokio::task::spawn_local(future)),
        }
    }
}
