//! The data threads: their listeners, and how they begin and end.
//!
//! ```text
//!  bind ─► start: n threads, each with a runtime, listeners and connections of its own
//!       ─► drain: stop accepting, GOAWAY, wait for calls to end, cut what is left
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_link::accept::{self, Gatekeeper, Limits};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::LocalOptions;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, EdgeTls};
use crate::leftover;
use crate::listen::{Listener, serve};
use crate::shared::Shared;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::Writer;
use crate::ways::Way;
use crate::worker::{REAP_INTERVAL, Worker};

/// After calls were cut, threads have this long to notice.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Listeners that are bound and wait to be served.
pub struct Bound {
    ways: Vec<BoundWay>,
    threads: usize,
}

struct BoundWay {
    way: Way,
    address: SocketAddr,
    gate: Gatekeeper,
    tls: Option<Arc<ServerConfig>>,
    /// One a thread.
    sockets: Vec<std::net::TcpListener>,
}

/// Where the data plane listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses {
    /// For other sidecars.
    pub inbound: Option<SocketAddr>,
    /// For the app.
    pub outbound: Option<SocketAddr>,
    /// For the world.
    pub edge: Option<SocketAddr>,
}

/// Data threads that serve.
pub struct Running {
    accept: CancellationToken,
    drain: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Bound {
    /// Binds every listener of the configuration, once a thread.
    ///
    /// # Errors
    /// One line with the fix: the port is in use, the edge's certificate cannot be read.
    pub fn bind(config: &Config) -> Result<Self, String> {
        let mut ways = Vec::new();
        let tls = config
            .edge
            .as_ref()
            .and_then(|edge| edge.tls.as_ref())
            .map(edge_tls)
            .transpose()?;
        let wanted = [
            (
                Way::Inbound,
                config.inbound.as_ref().map(|inbound| inbound.listen),
            ),
            (
                Way::Outbound,
                config.outbound.as_ref().map(|outbound| outbound.listen),
            ),
            (Way::Edge, config.edge.as_ref().map(|edge| edge.listen)),
        ];
        // Binding needs a reactor only to register with; each thread registers anew.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|e| e.to_string())?;
        let _guard = runtime.enter();
        for (way, listen) in wanted {
            let Some(mut address) = listen else { continue };
            let mut sockets = Vec::new();
            // The port is proven free by a bind that does not share it, so that another program's is told, not joined.
            if address.port() != 0 {
                drop(accept::bind(address, false)?);
            }
            for _ in 0..config.threads {
                let socket = accept::bind(address, config.threads > 1)?;
                address = socket.local_addr().map_err(|error| error.to_string())?;
                sockets.push(socket.into_std().map_err(|error| error.to_string())?);
            }
            let gate = Gatekeeper::new(Limits::default());
            ways.push(BoundWay {
                way,
                address,
                gate,
                tls: tls.clone().filter(|_| way == Way::Edge),
                sockets,
            });
        }
        Ok(Self {
            ways,
            threads: config.threads,
        })
    }

    /// Where it listens, with real ports.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let of = |way| {
            self.ways
                .iter()
                .find(|bound| bound.way == way)
                .map(|bound| bound.address)
        };
        Addresses {
            inbound: of(Way::Inbound),
            outbound: of(Way::Outbound),
            edge: of(Way::Edge),
        }
    }

    /// Starts the data threads.
    ///
    /// # Errors
    /// The system gives no thread or no reactor.
    pub fn start(mut self, shared: &Arc<Shared>, metrics: &Arc<Metrics>) -> Result<Running, String> {
        let log = Writer::start(shared.config.access_log, metrics.clone())?;
        let mut running = Running {
            accept: CancellationToken::new(),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: TaskTracker::new(),
            threads: Vec::new(),
        };
        for number in 0..self.threads {
            let sockets: Vec<_> = self
                .ways
                .iter_mut()
                .filter_map(|bound| {
                    let socket = bound.sockets.pop()?;
                    Some((bound.way, bound.gate.clone(), bound.tls.clone(), socket))
                })
                .collect();
            let (shared, metrics, log) = (shared.clone(), metrics.clone(), log.clone());
            let (accept, drain, cut) = (running.accept.clone(), running.drain.clone(), running.cut.clone());
            let connections = running.connections.clone();
            let runtime_failed = |error: std::io::Error| format!("a data thread cannot start: {error}");
            let runtime = tokio::runtime::Builder::new_current_thread();
            let thread = std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(move || {
                    let mut runtime = runtime;
                    let runtime = match runtime.enable_all().build_local(LocalOptions::default()) {
                        Ok(runtime) => runtime,
                        Err(error) => return tracing::error!(%error, "a data thread cannot start"),
                    };
                    runtime.block_on(async move {
                        leftover::set_serving(true);
                        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number);
                        let worker = Worker::new(shared, metrics, log, seed);
                        for (way, gate, tls, socket) in sockets {
                            let Ok(socket) = tokio::net::TcpListener::from_std(socket) else {
                                continue;
                            };
                            let listener = Listener {
                                way,
                                gate,
                                edge_tls: tls,
                                connections: connections.clone(),
                            };
                            tokio::task::spawn_local(serve(worker.clone(), socket, listener, accept.clone()));
                        }
                        let mut draining = false;
                        let mut reap = tokio::time::interval(REAP_INTERVAL);
                        loop {
                            tokio::select! {
                                () = cut.cancelled() => break,
                                () = worker.clock.run() => {}
                                () = drain.cancelled(), if !draining => {
                                    draining = true;
                                    worker.clock.drain();
                                }
                                _ = reap.tick() => worker.reap(),
                            }
                        }
                        leftover::set_serving(false);
                    });
                });
            running.threads.push(thread.map_err(runtime_failed)?);
        }
        Ok(running)
    }
}

impl Running {
    /// Stops accepting, tells every connection to go elsewhere, waits for the calls under way, and after `limit` cuts them.
    pub async fn drain(self, limit: Duration) {
        self.accept.cancel();
        self.drain.cancel();
        self.connections.close();
        if tokio::time::timeout(limit, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = self.connections.len(),
                "cut after the drain deadline"
            );
        }
        self.cut.cancel();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = tokio::time::timeout(CUT_TIMEOUT, joined).await;
    }
}

fn edge_tls(files: &EdgeTls) -> Result<Arc<ServerConfig>, String> {
    let fail =
        |what: &std::path::Path, why: &dyn std::fmt::Display| format!("edge.tls: {}: {why}", what.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(|error| fail(&files.certificate, &error))?
        .collect();
    let chain = chain.map_err(|error| fail(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fail(&files.key, &error))?;
    let mut config = ServerConfig::builder_with_provider(mesh_link::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| fail(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
