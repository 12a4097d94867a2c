//! The process: start everything, say so, serve, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mesh_link::accept::{self, Limits};
use mesh_link::ca::{CertificateAuthority, Issued};
use mesh_link::tls::{self, ClientAuth};
use mesh_link::{Credentials, grpc};
use mesh_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use mesh_proto::name::SpiffeId;
use mesh_proto::v1::documents_server::DocumentsServer;
use mesh_proto::v1::identity_server::IdentityServer;
use mesh_proto::v1::registration_server::RegistrationServer;
use mesh_proto::v1::status_server::StatusServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::ads::announce;
use crate::ads::book::Book;
use crate::ads::service::Ads;
use crate::catalog::Authority;
use crate::control::Control;
use crate::documents::service::DocumentsService;
use crate::identity::service::IdentityService;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::registration::RegistrationService;
use crate::registry::{self, Settings};
use crate::status::StatusService;
use crate::{http, publisher};

/// The largest message that is read, in bytes: a service with a schema of 8 MiB, and then some. Clients should allow as much.
const MESSAGE_BYTES_MAX: usize = 20 << 20;
/// What a sidecar may send on its streams at once, in bytes: names, and reasons.
const STREAM_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Everything has ended by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A failed renewal of the own certificate is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Where a started process listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// `/metrics`, `/live`, `/ready`.
    pub metrics: SocketAddr,
}

/// A started process.
pub struct App {
    /// Where it listens.
    pub addresses: Addresses,
    control: Arc<Control>,
    tls: Arc<ArcSwap<ServerConfig>>,
    grpc: TcpListener,
    metrics: TcpListener,
}

/// Reads the authority, opens the registry and takes the ports. Nothing is served yet.
///
/// # Errors
/// One line with the cause and the fix.
pub async fn start(options: &Options, stop: CancellationToken) -> Result<App, String> {
    let ca = CertificateAuthority::load(&options.ca)
        .map_err(|faults| format!("no certificate authority: {}", registry::codec::one_line(&faults)))?;
    let tls = Arc::new(ArcSwap::new(own_tls(&ca, options.certificate_lifetime)?.0));
    let grpc = listen(options.listen, "--listen")?;
    let metrics_listener = listen(options.metrics, "--metrics")?;
    let local = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let addresses = Addresses {
        grpc: local(&grpc)?,
        metrics: local(&metrics_listener)?,
    };
    let advertise = options
        .advertise
        .clone()
        .unwrap_or_else(|| addresses.grpc.to_string());
    let replica = options.replica.clone().unwrap_or_else(|| advertise.clone());
    let settings = Settings {
        replica: replica.clone(),
        advertise,
        grace: options.registration_grace,
        zk_session_timeout: options.zk_session_timeout,
    };
    let registry = registry::open(&options.registry, settings)
        .await
        .map_err(|why| format!("--registry {}: {why}", options.registry))?;
    let authority = Authority {
        trust_domain: ca.trust_domain().to_string(),
        bundle_pem: ca.bundle_pem().to_owned(),
    };
    let (published, snapshots) = watch::channel(None);
    tokio::spawn(publisher::run(
        registry.state(),
        authority.clone(),
        options.registration_grace,
        published,
    ));
    let book = Arc::new(Book::default());
    let metrics = Metrics::new()?;
    metrics.observe(Arc::clone(&book), registry.state(), snapshots.clone());
    let control = Control {
        state: registry.state(),
        registry,
        published: snapshots,
        book,
        ca,
        authority,
        certificate_lifetime: options.certificate_lifetime,
        metrics,
        registry_name: options.registry.to_string(),
        replica,
        stop,
    };
    Ok(App {
        addresses,
        control: Arc::new(control),
        tls,
        grpc,
        metrics: metrics_listener,
    })
}

impl App {
    /// Serves until told to stop, then lets calls end for a moment. `ready` runs once, when the registry was read in full.
    pub async fn serve(self, ready: impl FnOnce(Addresses) + Send + 'static) {
        let control = self.control;
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        let routes = routes(&control).add_service(health_service);
        tokio::spawn(renew(Arc::clone(&control), Arc::clone(&self.tls)));
        tokio::spawn(announce::run(Arc::clone(&control)));
        tokio::spawn(http::serve(self.metrics, Arc::clone(&control)));

        let addresses = self.addresses;
        let mut published = control.published.clone();
        let reporter = health.clone();
        tokio::spawn(async move {
            if published.wait_for(Option::is_some).await.is_ok() {
                reporter
                    .set_service_status("", tonic_health::ServingStatus::Serving)
                    .await;
                tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "ready");
                ready(addresses);
            }
        });
        let stopping = Arc::clone(&control);
        tokio::spawn(async move {
            stopping.stop.cancelled().await;
            health
                .set_service_status("", tonic_health::ServingStatus::NotServing)
                .await;
        });

        let serving = grpc::serve(
            self.grpc,
            self.tls,
            routes,
            Limits::default(),
            control.stop.clone(),
        );
        let stopped = async {
            control.stop.cancelled().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            () = serving => {}
            () = stopped => tracing::warn!("some calls did not end in time"),
        }
        control.registry.close().await;
    }
}

fn routes(control: &Arc<Control>) -> Routes {
    let documents = DocumentsServer::new(DocumentsService::new(Arc::clone(control)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let registration = RegistrationServer::new(RegistrationService::new(Arc::clone(control)))
        .max_decoding_message_size(STREAM_MESSAGE_BYTES_MAX);
    let ads = AggregatedDiscoveryServiceServer::new(Ads(Arc::clone(control)))
        .max_decoding_message_size(STREAM_MESSAGE_BYTES_MAX);
    Routes::default()
        .add_service(ads)
        .add_service(documents)
        .add_service(registration)
        .add_service(IdentityServer::new(IdentityService(Arc::clone(control))))
        .add_service(StatusServer::new(StatusService(Arc::clone(control))))
}

fn listen(address: SocketAddr, option: &str) -> Result<TcpListener, String> {
    accept::bind(address, false).map_err(|why| format!("{option} {address}: {why}"))
}

/// A certificate of our own, from our own authority.
fn own_tls(ca: &CertificateAuthority, lifetime: Duration) -> Result<(Arc<ServerConfig>, SystemTime), String> {
    let fail = |why: String| format!("cannot make the own certificate: {why}");
    let id = SpiffeId::control(ca.trust_domain());
    let Issued {
        chain_pem,
        key_pem,
        not_after,
    } = ca.issue(&id, lifetime).map_err(fail)?;
    let credentials = Credentials::from_pem(&chain_pem, &key_pem, ca.bundle_pem())
        .map_err(|faults| fail(registry::codec::one_line(&faults)))?;
    let config = tls::server_config(&credentials, ClientAuth::Optional).map_err(fail)?;
    Ok((config, not_after))
}

/// Renews the own certificate at half its life, for the connections after that.
async fn renew(control: Arc<Control>, tls: Arc<ArcSwap<ServerConfig>>) {
    let mut wait = control.certificate_lifetime / 2;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = control.stop.cancelled() => return,
        }
        match own_tls(&control.ca, control.certificate_lifetime) {
            Ok((config, _)) => {
                tls.store(config);
                wait = control.certificate_lifetime / 2;
                tracing::info!("the own certificate is renewed");
            }
            Err(error) => {
                wait = RENEW_AGAIN.min(control.certificate_lifetime / 10);
                tracing::error!(error, "the own certificate is not renewed");
            }
        }
    }
}
