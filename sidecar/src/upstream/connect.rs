//! Opens a connection to an instance: TCP, mutual TLS where the instance is another sidecar, HTTP/2 or HTTP/1.1.

use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::Key;
use super::http2::Line;
use crate::body::RequestBody;
use crate::worker::Worker;

/// From the first SYN to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The system asks a peer that has been silent for so long whether it is there, again at intervals, and gives it up.
const SILENT: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(10);
const ASKED_MAX: u32 = 3;
/// Bytes that the peer does not acknowledge, or has no room for, for so long end the connection; as long as a write may stall.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

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
pub(crate) async fn http2(worker: &Rc<Worker>, key: &Key) -> Result<Line, String> {
    let connecting = async {
        let stream = tcp(key).await?;
        if key.dial == Dial::Http2 {
            return Line::begin(&worker.clock, stream, false).await;
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
        Line::begin(&worker.clock, stream, true).await
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

/// Has the system notice a peer that is gone without a word, which costs the peer's own server nothing.
fn notice_silence(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new()
        .with_time(SILENT)
        .with_interval(ASK_AGAIN)
        .with_retries(ASKED_MAX);
    // A socket without these options still works.
    let _ = socket.set_tcp_keepalive(&keep_alive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

async fn tcp(key: &Key) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((&*key.address, key.port))
        .await
        .map_err(|error| format!("cannot connect to {}:{}: {error}", key.address, key.port))?;
    // Small frames must not wait for each other; a socket without the option still works.
    let _ = stream.set_nodelay(true);
    notice_silence(&stream);
    Ok(stream)
}
