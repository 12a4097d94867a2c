//! From the registry's view to the newest snapshot: build, compare, publish; at most so often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::catalog::{Authority, Catalog};
use crate::registry::State;
use crate::snapshot::{self, Published, Snapshot};

/// Between two snapshots at least this passes: ten pushes a second to a sidecar at most. The first change after a rest
/// goes out at once.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Publishes a snapshot for every change, until the registry is gone.
pub async fn run(
    mut state: watch::Receiver<Arc<State>>,
    authority: Authority,
    published: watch::Sender<Option<Arc<Published>>>,
) {
    let mut last: Option<Arc<Snapshot>> = None;
    loop {
        let view = Arc::clone(&state.borrow_and_update());
        if view.loaded {
            let catalog = Catalog::of(&view, &authority);
            for fault in &catalog.faults {
                tracing::warn!(fault, "not everything that is stored can be served");
            }
            let number = last.as_ref().map_or(0, |last| last.number);
            let next = Arc::new(snapshot::build(catalog, number));
            let diff = last.as_ref().map(|last| snapshot::diff(last, &next));
            if diff.as_ref().is_none_or(|diff| !diff.is_empty()) {
                tracing::debug!(version = next.version, number = next.number, "a new snapshot");
                last = Some(Arc::clone(&next));
                let diff = diff.unwrap_or_default();
                published.send_replace(Some(Arc::new(Published { snapshot: next, diff })));
                tokio::time::sleep(INTERVAL_MIN).await;
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
