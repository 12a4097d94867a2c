//! A control service in this process: the real messages over the real TLS, and behaviour as a test wants it.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_link::accept::{self, Limits};
use mesh_link::ca::CertificateAuthority;
use mesh_link::tls::{self, ClientAuth};
use mesh_link::{Credentials, Peer};
use mesh_proto::name::SpiffeId;
use mesh_proto::v1::apply_result::Action;
use mesh_proto::v1::documents_server::{Documents, DocumentsServer};
use mesh_proto::v1::identity_server::{Identity, IdentityServer};
use mesh_proto::v1::status_server::{Status as StatusService, StatusServer};
#[allow(clippy::wildcard_imports, reason = "nearly every message is used")]
use mesh_proto::v1::*;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// What the sidecars do with what is stored.
#[derive(Debug, Clone, Default)]
pub(crate) enum Sidecars {
    /// They say yes at once.
    #[default]
    Apply,
    /// They say no, for this reason.
    Refuse(String),
    /// They say nothing.
    Sleep,
}

#[derive(Default)]
pub(crate) struct State {
    pub documents: BTreeMap<(String, String), StoredDocument>,
    pub sidecars: Vec<SidecarStatus>,
    pub behaviour: Sidecars,
    pub registry: RegistryStatus,
    pub replicas: Vec<Replica>,
    pub warnings: Vec<String>,
    /// What every call is refused with.
    pub refusal: Option<Status>,
    pub token: String,
    pub dry_runs: usize,
}

/// One replica, running until dropped.
pub(crate) struct Fake {
    pub address: String,
    inner: Inner,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Inner {
    id: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Fake {
    /// Starts a replica with the authority that `ca init` left in `ca`.
    pub(crate) async fn start(ca: &Path, id: &str) -> Self {
        let authority = CertificateAuthority::load(ca).unwrap();
        let own = SpiffeId::control(authority.trust_domain());
        let issued = authority.issue(&own, Duration::from_secs(3600)).unwrap();
        let credentials =
            Credentials::from_pem(&issued.chain_pem, &issued.key_pem, authority.bundle_pem()).unwrap();
        let tls = tls::server_config(&credentials, ClientAuth::Optional).unwrap();
        let listener = accept::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Inner {
            id: id.into(),
            state: Arc::default(),
            changed: watch::Sender::new(0),
        };
        inner.lock().replicas = vec![Replica {
            id: id.into(),
            address: address.clone(),
        }];
        let routes = Routes::new(DocumentsServer::new(inner.clone()).max_decoding_message_size(64 << 20))
            .add_service(StatusServer::new(inner.clone()))
            .add_service(IdentityServer::new(inner.clone()));
        let stop = CancellationToken::new();
        let tls = Arc::new(ArcSwap::new(tls));
        tokio::spawn(mesh_link::grpc::serve(
            listener,
            tls,
            routes,
            Limits::default(),
            stop.clone(),
        ));
        Self { address, inner, stop }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }

    /// Changes the state, and tells everybody who watches.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.inner.lock());
        self.inner.changed.send_modify(|version| *version += 1);
    }

    /// Lets a sidecar be connected that uses one resource.
    pub(crate) fn connect(&self, node: &str, kind: mesh_proto::Kind, resource: &str) {
        let resource = ResourceStatus {
            type_url: kind.type_url().into(),
            name: resource.into(),
            ..Default::default()
        };
        let sidecar = SidecarStatus {
            node: node.into(),
            service: node.split('/').next().unwrap().into(),
            connected_since: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            version: "0.1.0".into(),
            resources: vec![resource],
            ..Default::default()
        };
        self.change(|state| state.sidecars.push(sidecar));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// As the real one: an operator, by the connection's certificate.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>().unwrap();
        let id = peer
            .id
            .as_ref()
            .ok_or_else(|| Status::unauthenticated("show a certificate"))?;
        id.as_operator()
            .ok_or_else(|| Status::permission_denied("operators only"))?;
        self.lock().refusal.clone().map_or(Ok(()), Err)
    }

    fn answer(&self, filter: &GetStatusRequest) -> GetStatusResponse {
        let state = self.lock();
        let mut sidecars = state.sidecars.clone();
        if !filter.type_url.is_empty() {
            for sidecar in &mut sidecars {
                sidecar.resources.retain(|r| {
                    r.type_url == filter.type_url
                        && (filter.resource_name.is_empty() || r.name == filter.resource_name)
                });
            }
            sidecars.retain(|sidecar| !sidecar.resources.is_empty());
        }
        GetStatusResponse {
            replica: self.id.clone(),
            replicas: state.replicas.clone(),
            sidecars,
            registry: Some(state.registry.clone()),
        }
    }

    fn store(&self, item: apply_request::Item, dry_run: bool) -> ApplyResult {
        let resource = item.document.clone().unwrap().resource.unwrap();
        let (kind, name) = (resource.kind().as_str().to_owned(), resource.name().to_owned());
        let mut state = self.lock();
        let old = state.documents.get(&(kind.clone(), name.clone())).cloned();
        let version = resource.version();
        let action = match &old {
            None => Action::Created,
            Some(old) if old.version == version => Action::Unchanged,
            Some(_) => Action::Changed,
        };
        let revision = match &old {
            None => 1,
            Some(old) => old.revision.parse::<u64>().unwrap() + u64::from(action != Action::Unchanged),
        };
        let result = ApplyResult {
            kind: kind.clone(),
            name: name.clone(),
            action: action.into(),
            version: version.clone(),
            type_url: resource.kind().type_url().into(),
            resource_name: resource.resource_name(),
            revision: revision.to_string(),
            warnings: state.warnings.clone(),
        };
        if dry_run {
            state.dry_runs += 1;
            return result;
        }
        let stored = StoredDocument {
            document: item.document,
            version,
            revision: revision.to_string(),
            modified: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
        };
        state.documents.insert((kind, name), stored);
        let behaviour = state.behaviour.clone();
        for sidecar in &mut state.sidecars {
            push(sidecar, &result, &behaviour);
        }
        result
    }
}

/// What a stored document does to a sidecar.
fn push(sidecar: &mut SidecarStatus, result: &ApplyResult, behaviour: &Sidecars) {
    let used = |r: &&mut ResourceStatus| r.type_url == result.type_url && r.name == result.resource_name;
    let Some(resource) = sidecar.resources.iter_mut().find(used) else {
        return;
    };
    resource.version_sent.clone_from(&result.version);
    match behaviour {
        Sidecars::Apply => resource.version_applied.clone_from(&result.version),
        Sidecars::Sleep => {}
        Sidecars::Refuse(reason) => {
            let nack = Nack {
                type_url: result.type_url.clone(),
                name: result.resource_name.clone(),
                version: result.version.clone(),
                reason: reason.clone(),
                at: Some(prost_types::Timestamp {
                    seconds: 1_700_000_000,
                    nanos: 0,
                }),
            };
            resource.nack = Some(nack.clone());
            sidecar.last_nack = Some(nack);
        }
    }
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Documents for Inner {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        for item in &request.items {
            let resource = item.document.as_ref().unwrap().resource.as_ref().unwrap();
            let key = (resource.kind().as_str().to_owned(), resource.name().to_owned());
            let stored = self
                .lock()
                .documents
                .get(&key)
                .map_or("none".to_owned(), |d| d.revision.clone());
            if !item.if_revision.is_empty() && item.if_revision != stored {
                return Err(Status::aborted(format!(
                    "{}/{} is at revision {stored}",
                    key.0, key.1
                )));
            }
        }
        let results = request
            .items
            .into_iter()
            .map(|item| self.store(item, request.dry_run))
            .collect();
        self.changed.send_modify(|version| *version += 1);
        Ok(Response::new(ApplyResponse { results }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<StoredDocument>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let found = self.lock().documents.get(&(request.kind, request.name)).cloned();
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("there is none"))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.admit(&request)?;
        let kind = request.into_inner().kind;
        let state = self.lock();
        let of_kind = state
            .documents
            .iter()
            .filter(|((k, _), _)| kind.is_empty() || *k == kind);
        let documents = of_kind.map(|(_, stored)| stored.clone()).collect();
        Ok(Response::new(ListResponse { documents }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let deleted = self.lock().documents.remove(&(request.kind, request.name));
        let deleted = deleted.ok_or_else(|| Status::not_found("there is none"))?;
        Ok(Response::new(DeleteResponse {
            deleted: Some(deleted),
        }))
    }

    type WatchStream = Stream<WatchResponse>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }
}

#[tonic::async_trait]
impl StatusService for Inner {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(self.answer(request.get_ref())))
    }

    type WatchStatusStream = Stream<GetStatusResponse>;

    async fn watch_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        self.admit(&request)?;
        let (out, answers) = mpsc::channel(4);
        let (inner, filter) = (self.clone(), request.into_inner());
        let mut changes = self.changed.subscribe();
        tokio::spawn(async move {
            loop {
                changes.borrow_and_update();
                if out.send(Ok(inner.answer(&filter))).await.is_err() || changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[tonic::async_trait]
impl Identity for Inner {
    async fn sign_certificate(
        &self,
        _: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        self.admit(&request)?;
        let lifetime = request.get_ref().lifetime.unwrap().seconds;
        let expires = Some(prost_types::Timestamp {
            seconds: 1_700_000_000 + lifetime,
            nanos: 0,
        });
        Ok(Response::new(CreateJoinTokenResponse {
            token: self.lock().token.clone(),
            expires,
        }))
    }
}
