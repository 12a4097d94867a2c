//! From the registry's view to the newest snapshot: build, compare, publish; at most so often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::{Authority, Catalog};
use crate::registry::State;
use crate::snapshot::{self, Published, Snapshot};

/// Between two snapshots at least this passes: ten pushes a second to a sidecar at most. The first change after a rest
/// goes out at once.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest that a sidecar waits before it tries a replica again.
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// Publishes a snapshot for every change, until the registry is gone. For the grace, and the time sidecars need to come
/// back, after the first of them they are marked as [`Snapshot::settling`].
pub async fn run(
    mut state: watch::Receiver<Arc<State>>,
    authority: Authority,
    grace: Duration,
    published: watch::Sender<Option<Arc<Published>>>,
) {
    let mut last: Option<Arc<Snapshot>> = None;
    let mut settled_at = None;
    loop {
        let view = Arc::clone(&state.borrow_and_update());
        if view.loaded {
            let settled_at = *settled_at.get_or_insert_with(|| Instant::now() + grace + RECONNECT_MAX);
            let next = next(&view, &authority, last.as_deref(), Instant::now() < settled_at);
            if let Some(next) = next {
                tracing::debug!(
                    version = next.snapshot.version,
                    number = next.snapshot.number,
                    "a new snapshot"
                );
                last = Some(Arc::clone(&next.snapshot));
                published.send_replace(Some(Arc::new(next)));
                tokio::time::sleep(INTERVAL_MIN).await;
            }
        }
        let settling = last.as_ref().is_some_and(|last| last.settling);
        let settled = settled_at.filter(|_| settling).unwrap_or_else(Instant::now);
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(settled), if settling => {}
        }
    }
}

/// The snapshot that follows the last one, if it differs in anything.
fn next(view: &State, authority: &Authority, last: Option<&Snapshot>, settling: bool) -> Option<Published> {
    let catalog = Catalog::of(view, authority);
    for fault in &catalog.faults {
        tracing::warn!(fault, "not everything that is stored can be served");
    }
    let next = snapshot::build(catalog, last.map_or(0, |last| last.number), settling);
    let diff = last.map(|last| snapshot::diff(last, &next));
    let same = diff.as_ref().is_some_and(snapshot::Diff::is_empty)
        && last.is_some_and(|last| last.settling == settling);
    (!same).then(|| Published {
        snapshot: Arc::new(next),
        diff: diff.unwrap_or_default(),
    })
}
