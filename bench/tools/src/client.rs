//! One HTTP/2 connection to what is measured, and one call on it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use mesh_bench_kit::gather::gather;
use mesh_bench_kit::net::{self, Outcome, SERVICE};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How to connect.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    /// Many idle connections hold small windows.
    windows: bool,
}

impl Target {
    /// `certificates` is the folder of the bench's certificates, for mutual TLS.
    pub fn new(address: SocketAddr, certificates: Option<&Path>, windows: bool) -> Outcome<Self> {
        let tls = certificates
            .map(net::client_tls)
            .transpose()?
            .map(TlsConnector::from);
        Ok(Self {
            address,
            tls,
            windows,
        })
    }

    /// Opens a connection; its work is done by a task of its own.
    pub async fn connect(&self, source: Option<IpAddr>) -> Outcome<SendRequest<Bytes>> {
        let describe = |error: std::io::Error| format!("cannot connect to {}: {error}", self.address);
        let socket = TcpSocket::new_v4().map_err(describe)?;
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0)).map_err(describe)?;
        }
        let stream = socket.connect(self.address).await.map_err(describe)?;
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
    ) -> Outcome<SendRequest<Bytes>> {
        let (io, waiting) = gather(stream);
        let mut builder = h2::client::Builder::new();
        if self.windows {
            builder
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        }
        let (sender, connection) = builder
            .enable_push(false)
            .handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        tokio::task::spawn_local(async move { drop(waiting.drive(connection).await) });
        Ok(sender)
    }
}

/// What a call sends.
#[derive(Clone)]
pub struct Call {
    request: Request<()>,
    body: Bytes,
}

impl Call {
    /// A gRPC call as clients send it.
    pub fn new(path: &'static str, body: Bytes) -> Self {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://{SERVICE}{path}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-bench/1.0"),
            ("grpc-timeout", "10S"),
            ("x-request-source", "mobile-checkout"),
        ] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        Self { request, body }
    }

    /// Makes it once and reads the answer to its end; gives the bytes of the answer.
    pub async fn make(&self, sender: &SendRequest<Bytes>) -> Outcome<usize> {
        let describe = |error: h2::Error| error.to_string();
        let mut sender = sender.clone().ready().await.map_err(describe)?;
        let (response, mut stream) = sender
            .send_request(self.request.clone(), false)
            .map_err(describe)?;
        stream.send_data(self.body.clone(), true).map_err(describe)?;
        let response = response.await.map_err(describe)?;
        if response.status() != 200 {
            return Err(format!("answered with {}", response.status()));
        }
        let (head, mut body) = response.into_parts();
        let mut bytes = 0;
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(describe)?;
            bytes += piece.len();
            body.flow_control()
                .release_capacity(piece.len())
                .map_err(describe)?;
        }
        let trailers = body.trailers().await.map_err(describe)?.unwrap_or_default();
        let status = trailers
            .get("grpc-status")
            .or_else(|| head.headers.get("grpc-status"));
        match status.map(http::HeaderValue::as_bytes) {
            Some(b"0") => Ok(bytes),
            other => Err(format!(
                "ended with grpc-status {:?} {:?}",
                other.map(String::from_utf8_lossy),
                trailers
                    .get("grpc-message")
                    .or_else(|| head.headers.get("grpc-message"))
            )),
        }
    }
}
