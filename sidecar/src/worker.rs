//! A data thread's own things: its view of the snapshot, its connections, its counters. Nothing here is shared or locked.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::uri::Authority;
use mesh_link::Credentials;
use mesh_link::tls::{self, ClientAuth};
use mesh_proto::domain::{Balance, BalanceAlgorithm, LocalityPreference, Protocol, Retry, Transport};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use rustls::{ClientConfig, ServerConfig};

use crate::clock::Clock;
use crate::config::Source;
use crate::gates::access::Caller;
use crate::gates::jwt::Memory;
use crate::progress::{Alarm, Progress};
use crate::shared::Shared;
use crate::snapshot::{ServiceEntry, ServiceIndex, Snapshot};
use crate::telemetry::access_log::Writer;
use crate::telemetry::{Gauges, Metrics, Outcomes};
use crate::upstream::balance::Dice;
use crate::upstream::budget::RetryBudget;
use crate::upstream::cluster::Cluster;
use crate::upstream::connect::Dial;
use crate::upstream::endpoint::{Endpoint, Key};

/// Calls in flight on one thread; more are refused at once.
pub(crate) const IN_FLIGHT_MAX: usize = 10_000;
/// How often connections nobody uses are looked for.
pub(crate) const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Spawns the calls of a connection on its own thread, each so that it ends when its caller takes nothing of the answer.
/// The library does not ask for more of a body then, so the call itself could not notice.
#[derive(Clone)]
pub(crate) struct CallExecutor(pub(crate) Rc<Worker>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for CallExecutor {
    fn execute(&self, future: F) {
        let Some(progress) = self.0.fresh.take() else {
            tokio::task::spawn_local(future);
            return;
        };
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| match progress.has_rung() {
                Some(Alarm::WriteStall) => Poll::Ready(()),
                _ => future.as_mut().poll(cx),
            })
            .await;
        });
    }
}

/// One data thread.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) outcomes: RefCell<Outcomes>,
    pub(crate) log: Writer,
    pub(crate) dice: RefCell<Dice>,
    pub(crate) in_flight: Cell<usize>,
    pub(crate) clock: Rc<Clock>,
    /// The call that was made last and waits for the executor.
    pub(crate) fresh: Cell<Option<Rc<Progress>>>,
    view: RefCell<Rc<View>>,
    endpoints: RefCell<HashMap<Key, Rc<Endpoint>>>,
    app_grpc: OnceCell<Rc<Cluster>>,
    app_http: OnceCell<Rc<Cluster>>,
}

/// What is in force, as this thread sees it until it looks again.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    credentials: Option<Arc<Credentials>>,
    generation: u64,
    server_tls: OnceCell<Option<Arc<ServerConfig>>>,
    client_tls: RefCell<HashMap<ServiceName, Arc<ClientConfig>>>,
    own: OnceCell<Option<Rc<Caller>>>,
    clusters: Vec<OnceCell<Rc<Cluster>>>,
    pub(crate) tokens: RefCell<Memory>,
}

impl View {
    fn take(shared: &Shared) -> Rc<Self> {
        // Read first: a change in between is seen at the next look.
        let generation = shared.generation();
        let snapshot = shared.snapshot();
        let clusters = snapshot.services.iter().map(|_| OnceCell::new()).collect();
        Rc::new(Self {
            snapshot,
            credentials: shared.credentials(),
            generation,
            server_tls: OnceCell::new(),
            client_tls: RefCell::default(),
            own: OnceCell::new(),
            clusters,
            tokens: RefCell::default(),
        })
    }
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, metrics: Arc<Metrics>, log: Writer, seed: u64) -> Rc<Self> {
        let view = View::take(&shared);
        Rc::new(Self {
            shared,
            gauges: metrics.thread(),
            outcomes: RefCell::default(),
            metrics,
            log,
            dice: RefCell::new(Dice::new(seed)),
            in_flight: Cell::new(0),
            clock: Clock::new(Instant::now()),
            fresh: Cell::new(None),
            view: RefCell::new(view),
            endpoints: RefCell::default(),
            app_grpc: OnceCell::new(),
            app_http: OnceCell::new(),
        })
    }

    /// What is in force now.
    pub(crate) fn view(&self) -> Rc<View> {
        let current = self.view.borrow().clone();
        if current.generation == self.shared.generation() {
            return current;
        }
        let fresh = View::take(&self.shared);
        *self.view.borrow_mut() = fresh.clone();
        fresh
    }

    /// How to serve other sidecars; nothing without credentials.
    pub(crate) fn server_tls(&self) -> Option<Arc<ServerConfig>> {
        let view = self.view();
        let make = || {
            let credentials = view.credentials.as_ref()?;
            tls::server_config(credentials, ClientAuth::Required)
                .inspect_err(|error| tracing::error!(error, "the certificate cannot be served with"))
                .ok()
        };
        view.server_tls.get_or_init(make).clone()
    }

    /// How to reach a service's sidecar: as ourselves, and nobody but that service may answer.
    ///
    /// # Errors
    /// There are no credentials, or they cannot be used.
    pub(crate) fn client_tls(&self, service: &ServiceName) -> Result<Arc<ClientConfig>, String> {
        let view = self.view();
        if let Some(config) = view.client_tls.borrow().get(service) {
            return Ok(config.clone());
        }
        let credentials = view
            .credentials
            .as_ref()
            .ok_or("this sidecar has no certificate yet")?;
        let domain = TrustDomain::parse(credentials.id.trust_domain())?;
        let config = tls::client_config(
            Some(credentials),
            &credentials.authorities,
            SpiffeId::service(&domain, service),
        )?;
        view.client_tls
            .borrow_mut()
            .insert(service.clone(), config.clone());
        Ok(config)
    }

    /// Who this sidecar is in the eyes of those it calls; nobody while it has no trust domain.
    pub(crate) fn own_identity(&self, view: &View) -> Option<Rc<Caller>> {
        let make = || {
            let told = match &self.shared.config.source {
                Source::Control(control) => Some(control.trust_domain.clone()),
                Source::Files(_) | Source::Documents(_) => view
                    .snapshot
                    .resources
                    .mesh
                    .as_ref()
                    .map(|mesh| mesh.trust_domain.clone()),
            };
            let proven = || TrustDomain::parse(view.credentials.as_ref()?.id.trust_domain()).ok();
            let id = SpiffeId::service(&told.or_else(proven)?, &self.shared.config.node.service);
            Some(Rc::new(Caller::from(id)))
        };
        view.own.get_or_init(make).clone()
    }

    /// The instances of a service, with the connections this thread has to them.
    pub(crate) fn cluster(&self, view: &View, index: ServiceIndex) -> Rc<Cluster> {
        view.clusters[index]
            .get_or_init(|| self.make_cluster(&view.snapshot.services[index]))
            .clone()
    }

    fn make_cluster(&self, entry: &ServiceEntry) -> Rc<Cluster> {
        let mut known = self.endpoints.borrow_mut();
        let endpoints = entry.endpoints.iter().map(|instance| {
            let dial = match (instance.transport, entry.protocol) {
                (Transport::Mtls, _) => Dial::Mesh,
                (Transport::Plaintext, Protocol::Grpc) => Dial::Http2,
                (Transport::Plaintext, Protocol::HttpJson) => Dial::Http1,
            };
            let key = Key {
                service: entry.name.clone(),
                id: instance.name.id.clone(),
                address: instance.address.clone(),
                port: instance.port,
                dial,
            };
            let endpoint = known
                .entry(key.clone())
                .or_insert_with(|| Endpoint::new(key, instance.weight))
                .clone();
            endpoint.set_weight(instance.weight);
            endpoint
        });
        Rc::new(Cluster {
            authority: authority_of(&entry.name),
            service: entry.name.clone(),
            endpoints: endpoints.collect(),
            local: entry.local.clone(),
            balance: entry.balance,
            retry: entry.retry,
            turn: Cell::new(0),
            budget: RefCell::new(RetryBudget::new(entry.retry.budget, Instant::now())),
        })
    }

    /// The app next to this sidecar, as a cluster of one.
    pub(crate) fn app(&self, protocol: Protocol) -> Option<Rc<Cluster>> {
        let inbound = self.shared.config.inbound.as_ref()?;
        let (cell, dial) = match protocol {
            Protocol::Grpc => (&self.app_grpc, Dial::Http2),
            Protocol::HttpJson => (&self.app_http, Dial::Http1),
        };
        let make = || {
            let service = self.shared.config.node.service.clone();
            let key = Key {
                service: service.clone(),
                id: self.shared.config.node.id.clone(),
                address: inbound.app.ip().to_string().into(),
                port: inbound.app.port(),
                dial,
            };
            Rc::new(Cluster {
                authority: authority_of(&service),
                service,
                endpoints: vec![Endpoint::new(key, 1)],
                local: Vec::new(),
                balance: Balance {
                    algorithm: BalanceAlgorithm::LeastRequest,
                    locality: LocalityPreference::Any,
                },
                retry: Retry {
                    attempts: 1,
                    budget: 0.0,
                },
                turn: Cell::new(0),
                budget: RefCell::new(RetryBudget::new(0.0, Instant::now())),
            })
        };
        Some(cell.get_or_init(make).clone())
    }

    /// Closes idle connections, and forgets instances that are gone and have no calls left.
    pub(crate) fn reap(&self) {
        let now = Instant::now();
        let view = self.view();
        let named: std::collections::HashSet<(&str, &str)> = view
            .snapshot
            .services
            .iter()
            .flat_map(|service| {
                service
                    .endpoints
                    .iter()
                    .map(|e| (service.name.as_str(), &*e.name.id))
            })
            .collect();
        self.endpoints.borrow_mut().retain(|key, endpoint| {
            endpoint.reap(now);
            named.contains(&(key.service.as_str(), &*key.id)) || Rc::strong_count(endpoint) > 1
        });
    }
}

/// A service's name as an authority. Every service name is one: the letters are a subset.
fn authority_of(service: &ServiceName) -> Authority {
    service
        .as_str()
        .parse()
        .unwrap_or_else(|_| Authority::from_static("service.invalid"))
}
