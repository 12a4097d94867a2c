//! gRPC inside the control plane: a channel that knows whom it expects, and a server that knows who calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::accept::{self, Gatekeeper, Limits, Pass, Peer};
use crate::tls;

/// From the first SYN to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that is gone is noticed within the sum of these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
const STREAMS_MAX: u32 = 100;
/// After this the server stops waiting for calls to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel to `server`, `host:port`. It connects when first used, and again after a loss.
///
/// # Errors
/// `server` is not `host:port`.
pub fn channel(server: &str, tls: Arc<ClientConfig>) -> Result<Channel, String> {
    channel_to(server, "xds-lite", tls)
}

/// As [`channel`], to whoever `tls` expects. `name` is told in the handshake: a host's name where the certificate is for
/// one; where identities are SPIFFE IDs it is for the log of the other side only.
///
/// # Errors
/// `server` is not `host:port`, or `name` is no name.
pub fn channel_to(server: &str, name: &str, tls: Arc<ClientConfig>) -> Result<Channel, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no host name"))?;
    let connector = TlsConnector::from(tls);
    let server_of_stream = server.to_owned();
    let connect = move |_| {
        let (connector, server, name) = (connector.clone(), server_of_stream.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(&server).await?;
            stream.set_nodelay(true)?;
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream)).await??;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    Ok(endpoint(server)?.connect_with_connector_lazy(tower::service_fn(connect)))
}

/// A channel to `server`, `host:port`, without TLS. It connects when first used, and again after a loss.
///
/// # Errors
/// `server` is not `host:port`.
pub fn plain_channel(server: &str) -> Result<Channel, String> {
    plain_channel_as(server, server)
}

/// As [`plain_channel`], where requests are for `authority`: a sidecar's outbound port finds the service by it.
///
/// # Errors
/// `server` is not `host:port`, or `authority` is none.
pub fn plain_channel_as(server: &str, authority: &str) -> Result<Channel, String> {
    let origin = http::Uri::try_from(format!("http://{authority}"))
        .map_err(|_| format!("{authority:?} is no authority"))?;
    let server_of_stream = server.to_owned();
    let connect = move |_| {
        let server = server_of_stream.clone();
        async move {
            let stream = TcpStream::connect(&server).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    Ok(endpoint(server)?
        .origin(origin)
        .connect_with_connector_lazy(tower::service_fn(connect)))
}

fn endpoint(server: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))
        .map_err(|_| format!("{server:?} is not an address; write host:port"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// Serves gRPC over TLS until told to stop, then lets running calls end for a few seconds. Requests carry a [`Peer`] among
/// their extensions. A configuration stored in `tls` while running holds for the connections after it.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    routes: Routes,
    limits: Limits,
    stop: CancellationToken,
) {
    let gate = Gatekeeper::new(limits);
    let routes = routes.prepare();
    let connections = TaskTracker::new();
    accept::run(listener, gate.clone(), stop.clone(), |stream, address, pass| {
        let connection = serve_connection(
            stream,
            address,
            pass,
            gate.clone(),
            tls.load_full(),
            routes.clone(),
            stop.clone(),
        );
        connections.spawn(connection);
    })
    .await;
    connections.close();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await;
}

async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    pass: Pass,
    gate: Gatekeeper,
    config: Arc<ServerConfig>,
    routes: Routes,
    stop: CancellationToken,
) {
    let Some(handshake) = gate.handshake() else {
        tracing::warn!(peer = %address, "connection refused: too many handshakes are under way");
        return;
    };
    let accepted = tokio::time::timeout(
        gate.limits().handshake_timeout,
        TlsAcceptor::from(config).accept(stream),
    )
    .await;
    drop(handshake);
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(peer = %address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %address, "TLS handshake took too long"),
    };
    let peer = Peer {
        address,
        id: tls::peer_id(stream.get_ref().1.peer_certificates()),
    };
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.clone().call(request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(peer = %address, %error, "connection ended");
            }
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(pass);
}

/// Tells a failed call to `server` as one line, with the likely cause and the fix.
#[must_use]
pub fn explain(server: &str, status: &tonic::Status) -> String {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        causes.push(error.to_string());
        source = error.source();
    }
    let chain = causes.join(": ");
    let cause = causes
        .last()
        .map_or_else(|| status.message().to_owned(), Clone::clone);
    let has = |word: &str| chain.contains(word) || status.message().contains(word);
    if has("Connection refused") {
        format!(
            "cannot reach xds-lite at {server}: nothing listens there; is it running, and is the address right?"
        )
    } else if has("UnknownIssuer") || has("BadSignature") {
        format!("{server} shows a certificate of another authority; is `ca` the ca.pem of that xds-lite?")
    } else if has("the server is spiffe://") {
        format!(
            "{server} is not the xds-lite that was meant: {cause}; check the address and the trust domain"
        )
    } else if has("Expired") && has("certificate") {
        format!("{server} shows a certificate that has expired; check the clocks of both hosts")
    } else if has("received fatal alert") || has("CertificateExpired") || has("UnknownCA") {
        format!(
            "{server} refused our certificate ({cause}); was it signed by the authority of that xds-lite?"
        )
    } else if has("lookup address") {
        format!("{server} cannot be resolved; is the host name right?")
    } else if has("timed out") || has("deadline has elapsed") {
        format!("{server} did not answer in time; is it xds-lite's gRPC port, and is the way there open?")
    } else if status.code() == tonic::Code::Unavailable || !causes.is_empty() {
        format!("cannot reach xds-lite at {server}: {cause}")
    } else {
        status.message().to_owned()
    }
}
