//! What the control thread and the data threads share.
//!
//! ```text
//!  control ── publish, publish_keys, publish_schema, set_credentials ──► data: snapshot(), credentials()
//!  control ◄── wants (a service on first use), stale_keys (an unknown key id), stale_schemas (an unknown method) ── data
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_link::Credentials;
use mesh_proto::domain::KeySet;
use mesh_proto::name::ServiceName;
use mesh_transcode::Schema;
use tokio::sync::{mpsc, watch};

use crate::gates::cors::Policy;
use crate::{Config, Resources, Snapshot};

/// Requests of the data threads that may wait for the control thread; more are dropped and asked again by the next call.
const REQUESTS_WAITING_MAX: usize = 256;

/// Ambiguous rules told in the log at one change; all are on the admin page.
const AMBIGUOUS_LOGGED_MAX: usize = 20;

/// Where a sidecar is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not everything it needs is known yet.
    Starting,
    /// Serving.
    Ready,
    /// Still serving, but asking everybody to go elsewhere.
    Draining,
}

/// The one object both sides hold.
pub struct Shared {
    /// As told at start.
    pub config: Config,
    /// Which pages of other origins may call through the edge.
    pub cors: Option<Arc<Policy>>,
    snapshot: ArcSwap<Snapshot>,
    credentials: ArcSwapOption<Credentials>,
    inputs: Mutex<Inputs>,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    phase: watch::Sender<Phase>,
    wants: mpsc::Sender<ServiceName>,
    stale_keys: mpsc::Sender<Arc<str>>,
    stale_schemas: mpsc::Sender<ServiceName>,
}

/// What data threads ask of the control thread.
pub struct Requests {
    /// Services that were called and are not known.
    pub wants: mpsc::Receiver<ServiceName>,
    /// Providers a token of which named an unknown key.
    pub stale_keys: mpsc::Receiver<Arc<str>>,
    /// Services whose schema, told by themselves, may have changed.
    pub stale_schemas: mpsc::Receiver<ServiceName>,
}

#[derive(Default)]
struct Inputs {
    resources: Arc<Resources>,
    keys: BTreeMap<Arc<str>, Arc<KeySet>>,
    reflected: BTreeMap<ServiceName, Arc<Schema>>,
}

impl Shared {
    /// With an empty snapshot, in phase starting.
    #[must_use]
    pub fn new(config: Config) -> (Arc<Self>, Requests) {
        let (wants, wants_in) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (stale_keys, stale_in) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (stale_schemas, schemas_in) = mpsc::channel(REQUESTS_WAITING_MAX);
        let snapshot = Snapshot::build(&config, Arc::default(), &BTreeMap::new(), &BTreeMap::new());
        let shared = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            credentials: ArcSwapOption::empty(),
            inputs: Mutex::default(),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Starting),
            wants,
            stale_keys,
            stale_schemas,
            cors: config
                .edge
                .as_ref()
                .and_then(|edge| edge.cors.as_ref())
                .map(|cors| Arc::new(Policy::new(cors))),
            config,
        };
        (
            Arc::new(shared),
            Requests {
                wants: wants_in,
                stale_keys: stale_in,
                stale_schemas: schemas_in,
            },
        )
    }

    /// Puts new resources into force.
    pub fn publish(&self, resources: Arc<Resources>) {
        self.rebuild(|inputs| inputs.resources = resources);
    }

    /// Puts the fetched keys of one provider into force.
    pub fn publish_keys(&self, provider: Arc<str>, keys: Arc<KeySet>) {
        self.rebuild(|inputs| drop(inputs.keys.insert(provider, keys)));
    }

    /// Puts the schema a service told about itself into force, or takes it out.
    pub fn publish_schema(&self, service: ServiceName, schema: Option<Arc<Schema>>) {
        self.rebuild(|inputs| match schema {
            Some(schema) => drop(inputs.reflected.insert(service, schema)),
            None => drop(inputs.reflected.remove(&service)),
        });
    }

    fn rebuild(&self, change: impl FnOnce(&mut Inputs)) {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inputs);
        let snapshot = Snapshot::build(
            &self.config,
            inputs.resources.clone(),
            &inputs.keys,
            &inputs.reflected,
        );
        let before = self.snapshot.swap(Arc::new(snapshot));
        self.tell_ambiguous(&before.edge.ambiguous);
        drop(inputs);
        self.has_changed();
    }

    /// Rules of different services for the same requests: only the edge sees that it exposes both.
    fn tell_ambiguous(&self, before: &[String]) {
        let snapshot = self.snapshot.load();
        if snapshot.edge.ambiguous != before {
            for line in snapshot.edge.ambiguous.iter().take(AMBIGUOUS_LOGGED_MAX) {
                tracing::warn!("ambiguous at the edge: {line}");
            }
        }
    }

    /// What is in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts changes of snapshot and credentials. Cheap to look at for every call.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn has_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Told after every change of snapshot or credentials.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Shows these from now on. Connections that stand are left alone.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(Some(Arc::new(credentials)));
        self.has_changed();
    }

    /// What to show, once there is something.
    #[must_use]
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.load_full()
    }

    /// Asks the control thread for a service that was called and is not known.
    pub fn want(&self, service: &ServiceName) {
        let _ = self.wants.try_send(service.clone());
    }

    /// Asks the control thread to fetch a provider's keys again.
    pub fn keys_are_stale(&self, provider: &Arc<str>) {
        let _ = self.stale_keys.try_send(provider.clone());
    }

    /// Asks the control thread to ask a service for its schema again, if it tells it itself.
    pub fn schema_is_stale(&self, service: &ServiceName) {
        let _ = self.stale_schemas.try_send(service.clone());
    }

    /// A connection to a service was made: it may have been started anew, with another schema.
    pub fn connected(&self, service: &ServiceName) {
        let snapshot = self.snapshot.load();
        let entry = snapshot
            .find(service.as_str())
            .and_then(|at| snapshot.services.get(at));
        if entry.is_some_and(|entry| entry.tells_schema) {
            self.schema_is_stale(service);
        }
    }

    /// Moves on in life.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Where it is, and what comes.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}
