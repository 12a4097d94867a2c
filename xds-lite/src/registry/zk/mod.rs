//! `zk://...`: a ZooKeeper ensemble, shared by all replicas.
//!
//! ```text
//!   watch ──► dirty ──► reader ──► tree (pure) ──► State          layout: names ⇄ paths (pure)
//!                 ▲        ▲
//!   write, register ──► ops┘         supervisor: one client after the other; each new session reads everything again
//! ```
//!
//! The client crate never makes a new session by itself, and its persistent watches may lose events across a reconnect.
//! So everything is read again after each reconnect, after each new session, and once a minute.

mod dirty;
pub mod layout;
mod ops;
mod reader;
mod supervisor;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use mesh_proto::v1::{self, document::Resource};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use zookeeper::Client;

use self::dirty::Dirty;
use self::layout::Layout;
use super::codec::{self, Form};
use super::grace::Grace;
use super::url::ZkAddress;
use super::{Exposures, Registry, Revision, Settings, State, Write, WriteError};

/// How long a finished write waits for the view to hold it.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The adapter.
pub struct ZkRegistry {
    shared: Arc<Shared>,
    _supervisor: AbortOnDropHandle<()>,
}

/// What the handle and the supervisor share.
struct Shared {
    address: ZkAddress,
    layout: Layout,
    settings: Settings,
    /// Present while a session is usable.
    client: ArcSwapOption<Client>,
    state: watch::Sender<Arc<State>>,
    dirty: Dirty,
    own: Mutex<Own>,
}

/// What is registered here.
struct Own {
    /// Node contents by instance name; made again in every new session.
    instances: BTreeMap<String, Vec<u8>>,
    /// Those whose sidecar is gone.
    released: Grace,
    /// Our sessions so far.
    sessions: BTreeSet<i64>,
    /// What the edges that are connected here expose; stands in this replica's node.
    edges: Exposures,
}

impl ZkRegistry {
    /// Starts connecting, and keeps trying until the registry is dropped.
    #[must_use]
    pub fn open(address: ZkAddress, settings: Settings) -> Self {
        if address.digest.is_none() {
            tracing::warn!(
                registry = %address,
                "nodes are made with an open ACL: whoever reaches ZooKeeper can change the mesh. Write \
                 zk://USER:PASSWORD@... to make them for this user only"
            );
        }
        let (state, _) = watch::channel(Arc::new(State::default()));
        let shared = Arc::new(Shared {
            layout: Layout::new(&address.path),
            client: ArcSwapOption::empty(),
            state,
            dirty: Dirty::default(),
            own: Mutex::new(Own {
                instances: BTreeMap::new(),
                released: Grace::new(settings.grace),
                sessions: BTreeSet::new(),
                edges: Exposures::new(),
            }),
            address,
            settings,
        });
        let supervisor = tokio::spawn(supervisor::supervise(Arc::clone(&shared)));
        Self {
            shared,
            _supervisor: AbortOnDropHandle::new(supervisor),
        }
    }

    /// Waits until the view passes a test, but not for ever: the write itself is done.
    async fn wait_for(&self, visible: impl FnMut(&Arc<State>) -> bool) {
        let mut state = self.shared.state.subscribe();
        let _ = tokio::time::timeout(VISIBLE_TIMEOUT, state.wait_for(visible)).await;
    }
}

impl Shared {
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, view: State) {
        self.state.send_if_modified(|current| {
            // When it was read is no change worth waking anybody for.
            let changed = **current
                != State {
                    last_read: current.last_read,
                    ..view.clone()
                };
            *current = Arc::new(view);
            changed
        });
    }
}

#[tonic::async_trait]
impl Registry for ZkRegistry {
    fn state(&self) -> watch::Receiver<Arc<State>> {
        self.shared.state.subscribe()
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Revision>, WriteError> {
        let revisions = ops::write(&self.shared, &writes).await?;
        let paths = writes.iter().map(|write| self.shared.layout.document(&write.key));
        self.shared.dirty.mark_urgent(paths);
        self.wait_for(|state| {
            writes.iter().zip(&revisions).all(|(write, revision)| {
                state
                    .documents
                    .get(&write.key)
                    .map(|stored| stored.revision.as_str())
                    == write.content.as_ref().map(|_| revision.as_str())
            })
        })
        .await;
        Ok(revisions)
    }

    async fn register(&self, instance: v1::Instance) -> Result<(), WriteError> {
        let resource = Resource::Instance(instance);
        let (name, version) = (resource.name().to_owned(), resource.version());
        let data = codec::encode(&resource, Form::Json);
        ops::register(&self.shared, &name, &data).await?;
        {
            let mut own = self.shared.own();
            own.released.cancel(&name);
            own.instances.insert(name.clone(), data);
        }
        self.shared
            .dirty
            .mark_urgent([self.shared.layout.instance(&name)]);
        self.wait_for(|state| {
            state
                .instances
                .get(&name)
                .is_some_and(|stored| stored.item.version == version)
        })
        .await;
        Ok(())
    }

    async fn release(&self, name: &str) {
        let mut own = self.shared.own();
        if own.instances.contains_key(name) {
            own.released.start(Instant::now(), name);
        }
    }

    async fn leave(&self, name: &str) -> Result<(), WriteError> {
        {
            let mut own = self.shared.own();
            own.released.cancel(name);
            if own.instances.remove(name).is_none() {
                return Ok(());
            }
        }
        ops::leave(&self.shared, name).await?;
        self.shared.dirty.mark_urgent([self.shared.layout.instance(name)]);
        Ok(())
    }

    async fn announce(&self, edges: Exposures) -> Result<(), WriteError> {
        self.shared.own().edges = edges;
        ops::announce(&self.shared).await?;
        let path = self.shared.layout.replica(&self.shared.settings.replica);
        self.shared.dirty.mark_urgent([path]);
        Ok(())
    }

    /// The session stays and expires by itself: with it would go the instances, before their sidecars have moved.
    async fn close(&self) {
        let path = self.shared.layout.replica(&self.shared.settings.replica);
        if let Some(client) = self.shared.client.load_full()
            && let Ok(Err(error)) =
                tokio::time::timeout(Duration::from_secs(1), client.delete(&path, None)).await
        {
            tracing::debug!(%error, "cannot remove the replica's node; it goes with the session");
        }
    }
}
