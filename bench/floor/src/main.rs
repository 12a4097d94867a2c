//! The floor: forwards HTTP/2 with hyper and does nothing else. No routes, no gates, no telemetry, no clocks, no limits.
//!
//! ```text
//!  caller ── h2c or mTLS ──► hyper server ─► the same request ─► hyper client ── h2c or mTLS ──► next
//! ```
//!
//! `--gather` sends what one poll of a connection produced with one write.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2 as server;
use hyper_util::rt::TokioIo;
use mesh_bench_kit::gather::{Waiting, gather};
use mesh_bench_kit::net::{self, Outcome, SERVICE};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Calls on one connection to the next hop before another is opened.
const CALLS_PER_CONNECTION: usize = 100;
/// Streams a caller may have open on one connection.
const STREAMS_MAX: u32 = 1_024;

/// Forwards HTTP/2 and does nothing else.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to forward to.
    #[arg(long)]
    to: SocketAddr,
    /// Folder of certificates.
    #[arg(long, requires = "mtls")]
    certificates: Option<PathBuf>,
    /// Which side speaks mutual TLS.
    #[arg(long, value_enum, requires = "certificates")]
    mtls: Option<Side>,
    /// Send what one poll of a connection produced with one write.
    #[arg(long)]
    gather: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Side {
    /// Towards the caller.
    Listen,
    /// Towards the next hop.
    To,
}

#[derive(Clone)]
struct Executor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Drives the gathered writes of a client's connection. hyper gives the connection itself to the executor, as the first
/// future; what it returns from the handshake only hands requests over, and later futures are calls.
struct Driver<T>(Rc<Cell<Option<Waiting<T>>>>);

impl<T> Clone for Driver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, F> hyper::rt::Executor<F> for Driver<T>
where
    T: AsyncWrite + Unpin + 'static,
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        match self.0.take() {
            Some(waiting) => tokio::task::spawn_local(waiting.drive(future)),
            None => tokio::task::spawn_local(future),
        };
    }
}

fn main() -> ExitCode {
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(|error| error.to_string())?
            .block_on(serve(Arguments::parse()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("floor: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Outcome<()> {
    let tls = |side| {
        arguments
            .certificates
            .as_deref()
            .filter(|_| arguments.mtls == Some(side))
    };
    let acceptor = tls(Side::Listen)
        .map(net::server_tls)
        .transpose()?
        .map(TlsAcceptor::from);
    let next = Rc::new(Next {
        address: arguments.to,
        tls: tls(Side::To)
            .map(net::client_tls)
            .transpose()?
            .map(TlsConnector::from),
        gather: arguments.gather,
        open: RefCell::default(),
        connecting: tokio::sync::Mutex::new(()),
    });
    let listener = net::listen(arguments.listen)?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("ready {address}");
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let (next, acceptor, gather) = (next.clone(), acceptor.clone(), arguments.gather);
        tokio::task::spawn_local(async move {
            match acceptor {
                None => connection(stream, next, gather).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, next, gather).await;
                    }
                }
            }
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, next: Rc<Next>, gathered: bool) {
    let service = hyper::service::service_fn(move |request| {
        let next = next.clone();
        async move { Ok::<_, Infallible>(forward(&next, request).await) }
    });
    let mut builder = server::Builder::new(Executor);
    builder.max_concurrent_streams(STREAMS_MAX);
    // A connection that ends, however it ends, ends nothing else.
    if gathered {
        let (io, waiting) = gather(stream);
        let serving = builder.serve_connection(TokioIo::new(io), service);
        drop(waiting.drive(serving).await);
    } else {
        drop(builder.serve_connection(TokioIo::new(stream), service).await);
    }
}

async fn forward(next: &Rc<Next>, mut request: Request<Incoming>) -> Response<Either> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    let answered = match next.sender().await {
        Ok(mut sender) => sender
            .0
            .send_request(request)
            .await
            .map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    match answered {
        Ok(response) => response.map(Either::Passed),
        Err(why) => {
            eprintln!("floor: {why}");
            let mut response = Response::new(Either::Empty);
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

/// A body that passes, or none.
enum Either {
    Passed(Incoming),
    Empty,
}

impl hyper::body::Body for Either {
    type Data = <Incoming as hyper::body::Body>::Data;
    type Error = hyper::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, hyper::Error>>> {
        match self.get_mut() {
            Either::Passed(body) => std::pin::Pin::new(body).poll_frame(cx),
            Either::Empty => std::task::Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Either::Passed(body) => body.is_end_stream(),
            Either::Empty => true,
        }
    }
}

/// The connections to the next hop.
struct Next {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    gather: bool,
    open: RefCell<Vec<Line>>,
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Line {
    sender: SendRequest<Incoming>,
    /// Itself, and one for each call that waits for its answer.
    calls: Rc<()>,
}

impl Next {
    /// The least used connection, a new one if all are full. What is given back counts as a call until dropped.
    async fn sender(&self) -> Outcome<(SendRequest<Incoming>, Rc<()>)> {
        if let Some(found) = self.least() {
            return Ok(found);
        }
        let _turn = self.connecting.lock().await;
        if let Some(found) = self.least() {
            return Ok(found);
        }
        let sender = self.connect().await?;
        let line = Line {
            sender,
            calls: Rc::new(()),
        };
        self.open.borrow_mut().push(line.clone());
        Ok((line.sender, line.calls))
    }

    fn least(&self) -> Option<(SendRequest<Incoming>, Rc<()>)> {
        let mut open = self.open.borrow_mut();
        open.retain(|line| !line.sender.is_closed());
        open.iter()
            .min_by_key(|line| Rc::strong_count(&line.calls))
            .filter(|line| Rc::strong_count(&line.calls) <= CALLS_PER_CONNECTION)
            .map(|line| (line.sender.clone(), line.calls.clone()))
    }

    async fn connect(&self) -> Outcome<SendRequest<Incoming>> {
        let describe = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(self.address).await.map_err(describe)?;
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.begin(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(SERVICE).map_err(|error| error.to_string())?;
                self.begin(tls.connect(name, stream).await.map_err(describe)?)
                    .await
            }
        }
    }

    async fn begin(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> Outcome<SendRequest<Incoming>> {
        let describe = |error: hyper::Error| error.to_string();
        if self.gather {
            let (io, waiting) = gather(stream);
            let executor = Driver(Rc::new(Cell::new(Some(waiting))));
            let builder = hyper::client::conn::http2::Builder::new(executor);
            let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(describe)?;
            tokio::task::spawn_local(async move { drop(connection.await) });
            return Ok(sender);
        }
        let builder = hyper::client::conn::http2::Builder::new(Executor);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(describe)?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }
}
