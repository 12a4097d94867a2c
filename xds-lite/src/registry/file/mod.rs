//! `file:DIR`: a directory of documents that people may edit by hand. The embedded default.
//!
//! ```text
//!  DIR/documents/<Kind>/<name>.yaml      one document a file (.yml and .json are read too)
//!  DIR/documents/Schema/<hash>.binpb     a serialized FileDescriptorSet
//!  DIR/instances/<service>/<id>.json     what sidecars registered; after a restart kept for the grace
//!  DIR/lock                              held by the one xds-lite that uses DIR
//! ```
//!
//! The store itself is in `store` and knows no task and no clock; this file runs it off the async threads.

mod journal;
mod read;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mesh_proto::v1;
use tokio::sync::watch;

use self::store::Store;
use super::{Exposures, Registry, Revision, Settings, State, Write, WriteError};

/// How often the directory is looked at for hand edits.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The adapter.
pub struct FileRegistry {
    store: Arc<Mutex<Store>>,
    state: watch::Sender<Arc<State>>,
}

impl FileRegistry {
    /// Takes the directory, reads it, and watches it until the registry is dropped.
    ///
    /// # Errors
    /// The directory cannot be made, read or written, or another xds-lite has it.
    pub async fn open(directory: PathBuf, settings: &Settings) -> Result<Self, String> {
        let (replica, advertise, grace) = (
            settings.replica.clone(),
            settings.advertise.clone(),
            settings.grace,
        );
        let opened = tokio::task::spawn_blocking(move || {
            Store::open(&directory, grace, Instant::now()).map(|mut store| {
                store.replicas.insert(replica, advertise);
                store.scan();
                store
            })
        });
        let store = opened
            .await
            .map_err(|error| format!("cannot read the registry: {error}"))??;
        let (state, _) = watch::channel(Arc::new(store.view()));
        let store = Arc::new(Mutex::new(store));
        tokio::spawn(poll(Arc::downgrade(&store), state.clone()));
        Ok(Self { store, state })
    }

    /// Runs one step of the store off the async threads and publishes what came of it.
    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let (store, state) = (Arc::clone(&self.store), self.state.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut store);
            publish(&store, &state);
            result
        });
        done.await
            .unwrap_or_else(|error| Err(WriteError::Failed(format!("the registry failed: {error}"))))
    }
}

#[tonic::async_trait]
impl Registry for FileRegistry {
    fn state(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Revision>, WriteError> {
        self.step(move |store| store.write(&writes)).await
    }

    async fn register(&self, instance: v1::Instance) -> Result<(), WriteError> {
        self.step(move |store| store.register(instance)).await
    }

    async fn release(&self, name: &str) {
        let name = name.to_owned();
        let now = Instant::now();
        let _ = self
            .step(move |store| {
                store.release(now, &name);
                Ok(())
            })
            .await;
    }

    async fn leave(&self, name: &str) -> Result<(), WriteError> {
        let name = name.to_owned();
        self.step(move |store| store.leave(&name)).await
    }

    async fn announce(&self, edges: Exposures) -> Result<(), WriteError> {
        self.step(move |store| {
            store.edges = edges;
            Ok(())
        })
        .await
    }

    async fn close(&self) {}
}

/// Looks for hand edits and ended graces, until the registry is gone.
async fn poll(store: std::sync::Weak<Mutex<Store>>, state: watch::Sender<Arc<State>>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Some(store) = store.upgrade() else { return };
        let state = state.clone();
        let step = tokio::task::spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let expired = store.expire(Instant::now());
            if store.scan() || expired {
                publish(&store, &state);
            }
        });
        if let Err(error) = step.await {
            tracing::error!(%error, "reading the registry failed");
        }
    }
}

fn publish(store: &Store, state: &watch::Sender<Arc<State>>) {
    let view = store.view();
    state.send_if_modified(|current| {
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
