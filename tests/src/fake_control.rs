//! A control service of the test's own, with the authority's certificate for xds-lite: it pushes what no real one would,
//! and keeps what sidecars answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_link::Credentials;
use mesh_link::accept::{self, Limits};
use mesh_link::ca::CertificateAuthority;
use mesh_link::tls::{self, ClientAuth};
use mesh_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Pushed};
use mesh_proto::kind::Kind;
use mesh_proto::name::SpiffeId;
use mesh_proto::v1::document::Resource;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::call;
use crate::wait::eventually;

/// Speaks incremental ADS; nothing else.
#[derive(Debug)]
pub struct FakeControl {
    /// `host:port`
    pub address: String,
    inner: Arc<Inner>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    /// What is told to whoever subscribes, by type and name.
    held: Mutex<BTreeMap<(Kind, String), Resource>>,
    /// What is pushed now.
    pushes: broadcast::Sender<DeltaDiscoveryResponse>,
    /// Every request so far.
    heard: Mutex<Vec<DeltaDiscoveryRequest>>,
}

impl FakeControl {
    /// Starts one with the authority in `ca`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn start(ca: &Path) -> Self {
        let authority = CertificateAuthority::load(ca).unwrap();
        let own = SpiffeId::control(authority.trust_domain());
        let issued = authority.issue(&own, Duration::from_secs(3600)).unwrap();
        let credentials =
            Credentials::from_pem(&issued.chain_pem, &issued.key_pem, authority.bundle_pem()).unwrap();
        let tls = tls::server_config(&credentials, ClientAuth::Optional).unwrap();
        let inner = Arc::new(Inner {
            held: Mutex::default(),
            pushes: broadcast::Sender::new(64),
            heard: Mutex::default(),
        });
        let routes = Routes::new(AggregatedDiscoveryServiceServer::new(Ads(Arc::clone(&inner))));
        let stop = CancellationToken::new();
        let address = call::block_on(async {
            let listener = accept::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let tls = Arc::new(ArcSwap::new(tls));
            tokio::spawn(mesh_link::grpc::serve(
                listener,
                tls,
                routes,
                Limits::default(),
                stop.clone(),
            ));
            address
        });
        Self { address, inner, stop }
    }

    /// What subscribers are told from now on.
    pub fn hold(&self, resource: Resource) {
        let key = (resource.kind(), resource.resource_name());
        lock(&self.inner.held).insert(key, resource);
    }

    /// Pushes these resources of one type in one response, under the names given, with the nonce `nonce`.
    pub fn push(&self, nonce: &str, kind: Kind, resources: &[(&str, &Resource)]) {
        let pushed = resources
            .iter()
            .map(|(name, resource)| pushed(name, resource))
            .collect();
        self.push_raw(nonce, kind, pushed);
    }

    /// The same with whatever bytes.
    pub fn push_raw(&self, nonce: &str, kind: Kind, resources: Vec<Pushed>) {
        let _ = self.inner.pushes.send(DeltaDiscoveryResponse {
            system_version_info: String::new(),
            resources,
            type_url: kind.type_url().into(),
            nonce: nonce.into(),
            removed_resources: Vec::new(),
        });
    }

    /// Waits for the answer to a nonce: `None` for a yes, the reasons for a no.
    ///
    /// # Panics
    /// It never comes.
    #[must_use]
    #[track_caller]
    pub fn answer_to(&self, nonce: &str) -> Option<String> {
        eventually(&format!("the push {nonce} is answered"), || {
            let heard = lock(&self.inner.heard);
            let answer = heard.iter().find(|request| request.response_nonce == nonce)?;
            Some(answer.error_detail.as_ref().map(|status| status.message.clone()))
        })
    }

    /// Waits until somebody subscribes to `name` of a type.
    ///
    /// # Panics
    /// Nobody ever does.
    #[track_caller]
    pub fn is_asked_for(&self, kind: Kind, name: &str) {
        eventually(&format!("somebody subscribes to {kind} {name}"), || {
            let heard = lock(&self.inner.heard);
            let asked = |request: &DeltaDiscoveryRequest| {
                request.type_url == kind.type_url()
                    && request.resource_names_subscribe.iter().any(|other| other == name)
            };
            heard.iter().any(asked).then_some(())
        });
    }
}

impl Drop for FakeControl {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn pushed(name: &str, resource: &Resource) -> Pushed {
    Pushed {
        version: resource.version(),
        resource: Some(prost_types::Any {
            type_url: resource.kind().type_url().into(),
            value: resource.encode_to_vec(),
        }),
        name: name.into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Ads(Arc<Inner>);

impl Inner {
    /// What a subscription is answered with: all that matches, and the rest as not there.
    fn answer(&self, request: &DeltaDiscoveryRequest, count: usize) -> Option<DeltaDiscoveryResponse> {
        let kind = Kind::from_type_url(&request.type_url)?;
        if request.resource_names_subscribe.is_empty() {
            return None;
        }
        let held = lock(&self.held);
        let mut resources = Vec::new();
        let mut removed = Vec::new();
        for wanted in &request.resource_names_subscribe {
            let prefix = wanted.strip_suffix('*');
            let matches = |name: &str| prefix.map_or(name == wanted, |prefix| name.starts_with(prefix));
            let before = resources.len();
            for ((_, name), resource) in held.iter().filter(|((k, n), _)| *k == kind && matches(n)) {
                resources.push(pushed(name, resource));
            }
            if resources.len() == before {
                removed.push(wanted.clone());
            }
        }
        Some(DeltaDiscoveryResponse {
            system_version_info: String::new(),
            resources,
            type_url: request.type_url.clone(),
            nonce: format!("subscription-{count}"),
            removed_resources: removed,
        })
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let mut pushes = self.0.pushes.subscribe();
        let inner = Arc::clone(&self.0);
        let (answers, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let answer = tokio::select! {
                    request = requests.message() => {
                        let Ok(Some(request)) = request else { return };
                        let count = {
                            let mut heard = lock(&inner.heard);
                            heard.push(request.clone());
                            heard.len()
                        };
                        inner.answer(&request, count)
                    }
                    push = pushes.recv() => push.ok(),
                };
                if let Some(answer) = answer
                    && answers.send(Ok(answer)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
