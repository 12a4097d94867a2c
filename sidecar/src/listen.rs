//! Step 1, accept: from a TCP connection to requests with a known peer.
//!
//! ```text
//!  accept ─► inbound: mutual TLS, h2          ─┐
//!         ─► edge with TLS: h2 or http/1.1     ├─► requests ─► ways::answer
//!         ─► plain: the first bytes tell       ─┘
//! ```

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use mesh_link::accept::{self, Gatekeeper, Pass, Peer};
use mesh_link::tls;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{AnswerBody, BoxError};
use crate::clock::Watched;
use crate::gates::access::Caller;
use crate::gates::framing::TARGET_BYTES_MAX;
use crate::unreadable::Http1;
use crate::ways::{Connection, Way, answer};
use crate::wire::{Driver, Ended, Limits, Tick, Wire, wire};
use crate::worker::{CallExecutor, Worker};

/// A connection that says nothing is closed after this; so is one whose first frame is not complete.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the first bytes are looked at while they trickle.
const FIRST_BYTE_POLL: Duration = Duration::from_millis(20);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// Headers of a request, decoded. More than 100 are refused by the library.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// The same of HTTP/1.1, and the target, which has a bound of its own.
const HEAD_BYTES_MAX: usize = HEADER_LIST_BYTES_MAX as usize + TARGET_BYTES_MAX;
const STREAMS_MAX: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BUFFER_BYTES: usize = 256 << 10;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const RESET_STREAMS_MAX: usize = 20;
const LOCAL_ERROR_RESET_STREAMS_MAX: usize = 128;
/// Seconds. The age is drawn within a tenth of this, so that connections opened together are not told to go together.
const LIMITS: Limits = Limits {
    first: 10,
    write_stall: 60,
    idle: 300,
    age: 30 * 60,
    grace: 30,
    // The library does it for HTTP/2; HTTP/1 has no way to ask.
    keep_alive: None,
    drains: true,
};

/// What a listener's connections have in common.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) way: Way,
    pub(crate) gate: Gatekeeper,
    pub(crate) edge_tls: Option<Arc<ServerConfig>>,
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
        tokio::task::spawn_local(connection(
            worker.clone(),
            listener.clone(),
            stream,
            address,
            pass,
        ));
    })
    .await;
}

/// One connection, from its accept to its end. What is large and over soon, or needed by some only, is boxed: ten thousand of
/// these may wait for something to do.
async fn connection(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    stream: TcpStream,
    address: SocketAddr,
    pass: Pass,
) {
    let tracked = listener.connections.token();
    let way = listener.way;
    worker.gauges.connections(way.word(), 1);
    let ended = match Box::pin(establish(worker.clone(), &listener, stream, address)).await {
        Ok(serving) => serving.await,
        Err(why) => Err(why),
    };
    if let Err(why) = ended {
        tracing::debug!(peer = %address, way = way.word(), why, "connection ended");
    }
    worker.gauges.connections(way.word(), -1);
    drop((pass, tracked));
}

/// A connection that is served, to its end.
type Serving = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// Finds out who is there, and whether HTTP/2 is spoken.
async fn establish(
    worker: Rc<Worker>,
    listener: &Listener,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<Serving, String> {
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
        return Ok(requests(connection, stream, http2));
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
    Ok(requests(known(worker, listener, address, caller), stream, http2))
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
        session: RefCell::new(None),
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

/// Serves the requests of a connection until it ends, drains, is idle, old or stuck.
fn requests(
    connection: Rc<Connection>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    http2: bool,
) -> Serving {
    let worker = connection.worker.clone();
    let watched = worker.clock.connection(Limits {
        age: age(&worker),
        ..LIMITS
    });
    let (stream, driver) = wire(stream, watched.pulse.clone(), http2);
    let pulse = watched.pulse.clone();
    let shared = connection.clone();
    // The call's future is large, and what holds it is moved about: by the library, and by the runtime at its end.
    let service = hyper::service::service_fn(move |request| {
        let worker = &connection.worker;
        let ticket = worker.clock.call(pulse.clone());
        if http2 {
            worker.fresh.set(Some(ticket.progress.clone()));
        }
        Box::pin(answer(connection.clone(), ticket, request))
    });
    if http2 {
        let serving = http2_server(worker.clone()).serve_connection(TokioIo::new(stream), service);
        return Box::pin(to_the_end(watched, driver, serving));
    }
    let handle = stream.handle();
    let serving = http1_server().serve_connection(TokioIo::new(stream), service);
    Box::pin(http1_to_the_end(watched, driver, serving, handle, shared))
}

/// The same over HTTP/1.1; a call that asked for a WebSocket goes on where HTTP ended.
async fn http1_to_the_end<S, F>(
    watched: Watched,
    driver: Driver<S>,
    mut serving: http1::Connection<TokioIo<Wire<S>>, F>,
    handle: Wire<S>,
    connection: Rc<Connection>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    F::Error: Into<BoxError>,
    F::Future: Unpin,
{
    let http1 = Http1::new(&mut serving, handle, connection.clone(), watched.pulse.clone());
    match driver
        .run(http1, |_, http1| http1.get_mut().graceful_shutdown())
        .await
    {
        Ended::With(ended) => ended.map_err(|error| error.to_string())?,
        Ended::Cut(why) => return Err(why.to_owned()),
    }
    let Some(session) = connection.session.take() else {
        return Ok(());
    };
    let parts = serving.into_parts();
    match parts.io.into_inner().into_stream() {
        Some(stream) => Box::pin(session.run(stream, parts.read_buf, watched.pulse.clone())).await,
        None => return Err("the connection is still driven".into()),
    }
    Ok(())
}

fn http2_server(worker: Rc<Worker>) -> http2::Builder<CallExecutor> {
    let mut builder = http2::Builder::new(CallExecutor(worker));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESET_STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

fn http1_server() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .max_header_size(HEAD_BYTES_MAX)
        .half_close(false);
    builder
}

fn age(worker: &Worker) -> Tick {
    let tenth = LIMITS.age / 10;
    let drawn = worker.dice.borrow_mut().below(2 * tenth as usize + 1);
    LIMITS.age - tenth + Tick::try_from(drawn).unwrap_or(0)
}

async fn to_the_end<C, S>(watched: Watched, driver: Driver<S>, serving: C) -> Result<(), String>
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
    S: AsyncWrite + Unpin,
{
    let ended = driver
        .run(serving, |_, serving| serving.graceful_shutdown())
        .await;
    drop(watched);
    match ended {
        Ended::With(ended) => ended.map_err(|error| error.to_string()),
        Ended::Cut(why) => Err(why.to_owned()),
    }
}
