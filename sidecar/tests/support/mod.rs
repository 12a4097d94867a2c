//! A control service in this process, with just enough behind it: it answers what it is asked from a map of resources,
//! and writes down what it hears.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_link::ca::CertificateAuthority;
use mesh_link::tls::{ClientAuth, server_config};
use mesh_link::{Credentials, Peer, accept, grpc};
use mesh_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_proto::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_proto::kind::Kind;
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::identity_server::{Identity, IdentityServer};
use mesh_proto::v1::registration_server::{Registration, RegistrationServer};
use mesh_proto::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, RegisterRequest, RegisterResponse,
    SignCertificateRequest, SignCertificateResponse,
};
use mesh_sidecar::control::ControlSide;
use mesh_sidecar::readiness::Need;
use mesh_sidecar::{Config, Shared};
use opentelemetry::metrics::MeterProvider;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for anything in these tests. Nothing is asserted about how long it took.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "never: {what}"
    );
}

pub fn domain() -> TrustDomain {
    TrustDomain::parse("mesh.local").unwrap()
}

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-sidecar-it-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    pub heard: Arc<Heard>,
}

/// What was heard, and what is answered.
pub struct Heard {
    pub ca: Arc<CertificateAuthority>,
    pub resources: Mutex<BTreeMap<(Kind, String), discovery::Resource>>,
    pub requests: Mutex<Vec<DeltaDiscoveryRequest>>,
    pub registrations: Mutex<Vec<RegisterRequest>>,
    /// One entry a signature: whether it was a renewal.
    pub signed: Mutex<Vec<bool>>,
    pub lifetime: Mutex<Duration>,
    pub streams: Mutex<Vec<mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>>>,
    pub stop: CancellationToken,
}

impl Fake {
    pub async fn start(ca: &Arc<CertificateAuthority>) -> Self {
        let listener = accept::bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Heard {
            ca: ca.clone(),
            resources: Mutex::default(),
            requests: Mutex::default(),
            registrations: Mutex::default(),
            signed: Mutex::default(),
            lifetime: Mutex::new(Duration::from_secs(3600)),
            streams: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let own = ca
            .issue(&SpiffeId::control(&domain()), Duration::from_secs(3600))
            .unwrap();
        let own = Credentials::from_pem(&own.chain_pem, &own.key_pem, ca.bundle_pem()).unwrap();
        let tls = ArcSwap::new(server_config(&own, ClientAuth::Optional).unwrap());
        let service = Service(heard.clone());
        let mut routes = tonic::service::Routes::builder();
        routes
            .add_service(AggregatedDiscoveryServiceServer::new(service.clone()))
            .add_service(RegistrationServer::new(service.clone()))
            .add_service(IdentityServer::new(service));
        tokio::spawn(grpc::serve(
            listener,
            Arc::new(tls),
            routes.routes(),
            accept::Limits::default(),
            heard.stop.clone(),
        ));
        Self { address, heard }
    }

    /// Puts resources into what new subscriptions are answered with, without pushing.
    pub fn hold(&self, messages: &[Resource]) {
        let mut resources = self.heard.resources.lock().unwrap();
        for message in messages {
            resources.insert((message.kind(), message.resource_name()), resource(message));
        }
    }

    /// Pushes to every stream that stands.
    pub async fn push(&self, kind: Kind, messages: &[Resource], nonce: &str) {
        self.push_raw(DeltaDiscoveryResponse {
            resources: messages.iter().map(resource).collect(),
            type_url: kind.type_url().into(),
            nonce: nonce.into(),
            ..Default::default()
        })
        .await;
    }

    pub async fn push_raw(&self, response: DeltaDiscoveryResponse) {
        let streams = self.heard.streams.lock().unwrap().clone();
        for stream in streams {
            let _ = stream.send(Ok(response.clone())).await;
        }
    }

    /// What came back for a push: empty for a yes.
    pub async fn answer(&self, nonce: &str) -> String {
        let mut told = None;
        eventually(&format!("an answer to {nonce}"), || {
            let requests = self.heard.requests.lock().unwrap();
            let answer = requests.iter().find(|request| request.response_nonce == nonce);
            told = answer.map(|answer| answer.error_detail.clone().unwrap_or_default().message);
            told.is_some()
        })
        .await;
        told.unwrap()
    }

    /// As if the process had died: every connection ends, and nothing listens any more.
    pub fn die(&self) {
        self.heard.streams.lock().unwrap().clear();
        self.heard.stop.cancel();
    }
}

pub fn resource(message: &Resource) -> discovery::Resource {
    discovery::Resource {
        version: message.version(),
        name: message.resource_name(),
        resource: Some(prost_types::Any {
            type_url: message.kind().type_url().into(),
            value: message.encode_to_vec(),
        }),
    }
}

pub fn yaml(text: &str) -> Resource {
    let text = format!("apiVersion: mesh/v1\n{text}\n");
    mesh_proto::document::parse(&text, "test")
        .unwrap()
        .remove(0)
        .resource
}

#[derive(Clone)]
struct Service(Arc<Heard>);

fn caller<T>(request: &Request<T>) -> Option<SpiffeId> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.id.clone())
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        caller(&request).ok_or_else(|| Status::unauthenticated("a certificate is needed"))?;
        let mut requests = request.into_inner();
        let (send, responses) = mpsc::channel(64);
        self.0.streams.lock().unwrap().push(send.clone());
        let heard = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Some(heard) = heard.upgrade() else { return };
                let answer = heard.answer(&request);
                heard.requests.lock().unwrap().push(request);
                let open = heard
                    .streams
                    .lock()
                    .unwrap()
                    .iter()
                    .any(|stream| stream.same_channel(&send));
                if !open {
                    return;
                }
                if let Some(answer) = answer {
                    let _ = send.send(Ok(answer)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Heard {
    /// All matches that differ from what is held, and the names that match nothing.
    fn answer(&self, request: &DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
        if request.resource_names_subscribe.is_empty() {
            return None;
        }
        let kind = Kind::from_type_url(&request.type_url)?;
        let mut response = DeltaDiscoveryResponse {
            type_url: request.type_url.clone(),
            nonce: format!("subscribed-{}", self.requests.lock().unwrap().len()),
            ..Default::default()
        };
        for wanted in &request.resource_names_subscribe {
            let all = self.resources.lock().unwrap();
            let matches: Vec<_> = all
                .iter()
                .filter(|((of, name), _)| {
                    *of == kind
                        && (name == wanted
                            || wanted
                                .strip_suffix('*')
                                .is_some_and(|start| name.starts_with(start)))
                })
                .map(|(_, resource)| resource.clone())
                .collect();
            if matches.is_empty() {
                response.removed_resources.push(wanted.clone());
            }
            let held = &request.initial_resource_versions;
            response.resources.extend(
                matches
                    .into_iter()
                    .filter(|resource| held.get(&resource.name) != Some(&resource.version)),
            );
        }
        Some(response)
    }
}

#[tonic::async_trait]
impl Registration for Service {
    type RegisterStream = ReceiverStream<Result<RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        caller(&request).ok_or_else(|| Status::unauthenticated("a certificate is needed"))?;
        let mut requests = request.into_inner();
        let (send, responses) = mpsc::channel(64);
        let heard = self.0.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = requests.message() => message,
                    () = heard.stop.cancelled() => return,
                };
                let Ok(Some(request)) = message else { return };
                let (leave, answers) = (request.leave, request.leave || request.instance.is_some());
                heard.registrations.lock().unwrap().push(request);
                if answers {
                    let response = RegisterResponse {
                        name: "registered".into(),
                        replica: "fake".into(),
                        heartbeat_interval: prost_types::Duration::try_from(Duration::from_millis(100)).ok(),
                    };
                    let _ = send.send(Ok(response)).await;
                }
                if leave {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let known = caller(&request).and_then(|id| id.as_service());
        let request = request.into_inner();
        let service = match (request.join_token.as_str(), known) {
            ("", Some(service)) => service,
            ("good", _) => ServiceName::parse("market.quotes").unwrap(),
            ("other", _) => ServiceName::parse("market.orders").unwrap(),
            ("expired", _) => {
                return Err(Status::unauthenticated(
                    "the join token has expired; make another with `mesh-ctl token create --service market.quotes`",
                ));
            }
            _ => return Err(Status::unauthenticated("the join token is not one of ours")),
        };
        let lifetime = *self.0.lifetime.lock().unwrap();
        let signed = self
            .0
            .ca
            .sign(&request.csr, &SpiffeId::service(&domain(), &service), lifetime)
            .map_err(Status::invalid_argument)?;
        self.0.signed.lock().unwrap().push(request.join_token.is_empty());
        Ok(Response::new(SignCertificateResponse {
            certificate_chain: signed.chain_der,
            trust_bundle: self.0.ca.bundle_pem().into(),
            trust_domain: "mesh.local".into(),
            not_after: Some(signed.not_after.into()),
        }))
    }

    async fn create_join_token(
        &self,
        _: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// The control side of a sidecar of market.quotes, as the process would start it.
pub struct Sidecar {
    pub shared: Arc<Shared>,
    pub control: ControlSide,
}

impl Sidecar {
    /// `folder` holds ca.pem, token and the state.
    pub fn start(folder: &Folder, servers: &[SocketAddr], more: &str) -> Result<Self, String> {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let text = format!(
            "
node: {{service: market.quotes, id: a}}
control: {{servers: {servers:?}, ca: ca.pem, joinToken: {{file: token}}, trustDomain: mesh.local}}
stateDir: state
inbound: {{listen: '127.0.0.1:0', app: '127.0.0.1:9'}}
dependencies: [market.orders]
{more}"
        );
        let config = Config::parse(&text, &folder.0, []).unwrap();
        let (shared, requests) = Shared::new(config);
        let meter = opentelemetry_sdk::metrics::SdkMeterProvider::default().meter("test");
        let control = ControlSide::start(&shared, requests, &meter)?;
        control.readiness.met(Need::Listeners);
        Ok(Self { shared, control })
    }

    pub async fn ready(&self) {
        let ready = tokio::time::timeout(PATIENCE, self.control.readiness.wait()).await;
        assert!(
            ready.is_ok(),
            "never ready: {:?}",
            self.control.readiness.missing()
        );
    }

    pub async fn connected(&self) {
        eventually("connected", || self.control.numbers.is_connected()).await;
    }

    pub async fn end(self) {
        self.control.end(Duration::from_secs(5)).await;
    }

    pub fn fingerprint(&self) -> String {
        let own = self.shared.credentials();
        own.map_or_else(String::new, |own| mesh_proto::version_of(&own.chain[0]))
    }
}

/// A folder with the authority's certificate and a join token, and the authority.
pub fn mesh(name: &str, token: &str) -> (Folder, Arc<CertificateAuthority>) {
    let folder = Folder::new(name);
    let ca = Arc::new(CertificateAuthority::create(&domain()).unwrap());
    folder.write("ca.pem", ca.bundle_pem());
    folder.write("token", token);
    (folder, ca)
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}
