//! Step 1, accept: from a TCP connection to requests with a known peer.
//!
//! ```text
//!  accept ─► inbound: mutual TLS, h2          ─┐
//!         ─► edge with TLS: h2 or http/1.1     ├─► requests ─► ways::answer
//!         ─► plain: the first bytes tell       ─┘
//! ```

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use mesh_link::accept::{self, Gatekeeper, Peer};
use mesh_link::tls;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gates::access::Caller;
use crate::gather::{Sender, gather};
use crate::ways::{Connection, Way, answer};
use crate::worker::{LocalExecutor, Worker};

/// A connection that says nothing is closed after this.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the first bytes are looked at while they trickle.
const FIRST_BYTE_POLL: Duration = Duration::from_millis(20);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
const STREAMS_MAX: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BUFFER_BYTES: usize = 256 << 10;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const RESET_STREAMS_MAX: usize = 20;
const LOCAL_ERROR_RESET_STREAMS_MAX: usize = 128;
/// A connection is told to go elsewhere after this, within a tenth of it, so that identities on it stay fresh.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// After being told, calls under way have this long.
const CONNECTION_AGE_GRACE: Duration = Duration::from_secs(30);

/// What a listener's connections have in common.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) way: Way,
    pub(crate) gate: Gatekeeper,
    pub(crate) edge_tls: Option<Arc<ServerConfig>>,
    pub(crate) drain: CancellationToken,
    pub(crate) connections: TaskTracker,
}

/// Serves a listener until told to stop accepting.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpListener,
    listener: Listener,
    stop: CancellationToken,
) {
    let gate = listener.gate.clone();
    let listener = Rc::new(listener);
    accept::run(socket, gate, stop, |stream, address, pass| {
        let (worker, listener) = (worker.clone(), listener.clone());
        let tracked = listener.connections.token();
        tokio::task::spawn_local(async move {
            let way = listener.way.word();
            let gauges = worker.gauges.clone();
            gauges.connections(way, 1);
            if let Err(why) = connection(worker, &listener, stream, address).await {
                tracing::debug!(peer = %address, way, why, "connection ended");
            }
            gauges.connections(way, -1);
            drop((pass, tracked));
        });
    })
    .await;
}

async fn connection(
    worker: Rc<Worker>,
    listener: &Listener,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(), String> {
    let plain_inbound = worker
        .shared
        .config
        .inbound
        .as_ref()
        .is_some_and(|inbound| inbound.plaintext);
    let tls = match listener.way {
        Way::Inbound if !plain_inbound => {
            Some(worker.server_tls().ok_or("this sidecar has no certificate yet")?)
        }
        Way::Inbound | Way::Outbound => None,
        Way::Edge => listener.edge_tls.clone(),
    };
    let Some(tls) = tls else {
        let http2 = tokio::time::timeout(FIRST_BYTE_TIMEOUT, begins_http2(&stream))
            .await
            .map_err(|_| "said nothing".to_owned())?
            .map_err(|error| error.to_string())?;
        let connection = known(worker, listener, address, None);
        return requests(connection, listener, stream, http2).await;
    };
    let handshake = listener
        .gate
        .handshake()
        .ok_or("too many handshakes are under way")?;
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let stream = tokio::time::timeout(listener.gate.limits().handshake_timeout, accepting)
        .await
        .map_err(|_| "the TLS handshake took too long".to_owned())?
        .map_err(|error| format!("the TLS handshake failed: {error}"))?;
    drop(handshake);
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let caller = match listener.way {
        Way::Inbound if !http2 => return Err("a sidecar must speak h2".into()),
        Way::Inbound => {
            let id = tls::peer_id(session.peer_certificates()).ok_or("the peer proved no identity")?;
            Some(Caller::from(id))
        }
        Way::Outbound | Way::Edge => None,
    };
    let connection = known(worker, listener, address, caller);
    requests(connection, listener, stream, http2).await
}

fn known(
    worker: Rc<Worker>,
    listener: &Listener,
    address: SocketAddr,
    caller: Option<Caller>,
) -> Rc<Connection> {
    let peer = Rc::new(Peer {
        address,
        id: caller.as_ref().map(|caller| caller.id.clone()),
    });
    Rc::new(Connection {
        worker,
        way: listener.way,
        peer,
        caller: caller.map(Rc::new),
    })
}

/// Looks at the first bytes without taking them: the HTTP/2 preface begins with `PRI `, which no HTTP/1 method does.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut seen = [0u8; 4];
    loop {
        let length = stream.peek(&mut seen).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(FIRST_BYTE_POLL).await;
    }
}

async fn requests(
    connection: Rc<Connection>,
    listener: &Listener,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    http2: bool,
) -> Result<(), String> {
    let age = age_of(&connection);
    // The call's future itself, not a block around it: it is large enough to be held once only.
    let service = hyper::service::service_fn(move |request| answer(connection.clone(), request));
    let (stream, sender) = gather(stream);
    let io = TokioIo::new(stream);
    if http2 {
        let serving = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .max_local_error_reset_streams(LOCAL_ERROR_RESET_STREAMS_MAX)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .serve_connection(io, service);
        return to_the_end(serving, sender, listener, age).await;
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .serve_connection(io, service);
    to_the_end(serving, sender, listener, age).await
}

fn age_of(connection: &Connection) -> Duration {
    let tenth = CONNECTION_AGE_MAX / 10;
    let spread = usize::try_from(tenth.as_millis() * 2).unwrap_or(1);
    let drawn = connection.worker.dice.borrow_mut().below(spread);
    CONNECTION_AGE_MAX - tenth + Duration::from_millis(drawn as u64)
}

/// Serves until the connection ends, the sidecar drains or the connection is old; then the peer is told to go elsewhere
/// and calls under way end.
async fn to_the_end<C, S>(
    serving: C,
    sender: Sender<S>,
    listener: &Listener,
    age: Duration,
) -> Result<(), String>
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
    S: AsyncWrite + Unpin,
{
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = poll_fn(|cx| sender.poll(serving.as_mut(), cx)) => Ok(ended),
        () = listener.drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            Ok(poll_fn(|cx| sender.poll(serving.as_mut(), cx)).await)
        }
        () = tokio::time::sleep(age) => {
            serving.as_mut().graceful_shutdown();
            let ending = poll_fn(|cx| sender.poll(serving.as_mut(), cx));
            tokio::time::timeout(CONNECTION_AGE_GRACE, ending).await.map_err(|_| "cut: too old".to_owned())
        }
    };
    sender.finish().await;
    ended?.map_err(|error| error.to_string())
}
