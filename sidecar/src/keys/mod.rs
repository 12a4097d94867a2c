//! Keys that are elsewhere: the JSON Web Key Sets of providers with a `uri`, fetched, refreshed and let go.
//!
//! ```text
//!  providers in force ─► Ring (pure: what is due, what to keep) ─► fetch ─► Shared.publish_keys
//!  a token with an unknown key ─► at most one fetch in ten seconds, one at a time
//! ```
//!
//! A fetch that fails keeps the keys there are, for a day; then they are let go, and every token of that provider is
//! refused.

mod fetch;
mod ring;

use std::sync::Arc;
use std::time::Instant;

use mesh_proto::domain::KeySource;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use fetch::Fetcher;
pub use ring::{Change, Ring};

use crate::Shared;
use crate::xds::backoff::random;
use crate::xds::numbers::Numbers;

type Fetched = (Arc<str>, Arc<str>, Result<mesh_proto::domain::KeySet, String>);

/// Fetches until told to stop.
pub async fn run(
    shared: Arc<Shared>,
    mut stale: mpsc::Receiver<Arc<str>>,
    numbers: Arc<Numbers>,
    stop: CancellationToken,
) {
    let mut ring = Ring::default();
    let mut fetcher = Fetcher::default();
    let mut fetches: JoinSet<Fetched> = JoinSet::new();
    let mut changes = shared.changes();
    loop {
        let now = Instant::now();
        for change in ring.follow(now, &wanted(&shared)) {
            put_into_force(&shared, change);
        }
        for (provider, uri) in ring.due(now) {
            let get = fetcher.get(&uri);
            fetches.spawn(async move { (provider, uri, get.await) });
        }
        let wake = ring.next_wake().map(tokio::time::Instant::from_std);
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {
                for change in ring.expire(Instant::now()) {
                    put_into_force(&shared, change);
                }
            }
            Ok(()) = changes.changed() => {}
            Some(provider) = stale.recv() => ring.stale(Instant::now(), &provider),
            Some(Ok((provider, uri, result))) = fetches.join_next() => {
                numbers.key_fetch(result.is_ok());
                if let Some(change) = ring.fetched(Instant::now(), random(), &provider, &uri, result) {
                    put_into_force(&shared, change);
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Providers whose keys are elsewhere, and where.
fn wanted(shared: &Shared) -> Vec<(Arc<str>, Arc<str>)> {
    let snapshot = shared.snapshot();
    let providers = snapshot.resources.providers.values();
    providers
        .filter_map(|provider| match &provider.keys {
            KeySource::Uri(uri) => Some((provider.name.clone(), uri.clone())),
            KeySource::Inline(_) => None,
        })
        .collect()
}

fn put_into_force(shared: &Shared, change: Change) {
    shared.publish_keys(change.provider, Arc::new(change.keys));
}
