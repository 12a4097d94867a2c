//! One session after the other, for as long as the registry is there.
//!
//! ```text
//!   connect ──► directories, watch, own nodes ──► full read ──► [ dirty: read ]* ──► expired, closed, refused
//!      ▲                                             ▲                │                     │
//!      │ backoff                                     └─ reconnected ──┘                     │
//!      └────────────────────────────────────────────────────────────────────────────────────┘
//!                              the last good view is served all the while
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;
use zookeeper::{AddWatchMode, Client, CreateMode, Error, EventType, PersistentWatcher, SessionState};

use super::layout::Place;
use super::tree::{Seen, Tree};
use super::{Shared, ops, reader};
use crate::registry::State;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Changes are gathered this long before they are read.
const COALESCE: Duration = Duration::from_millis(50);
/// How often graces and the need for a full read are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Everything is read again this often, whatever the watch says.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);
/// After a failed read, the next one waits this long.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Never returns.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut tree = Tree::new(shared.layout.clone(), shared.settings.grace);
    let mut backoff = BACKOFF_FIRST;
    let mut told = false;
    loop {
        match connect(&shared).await {
            Ok(client) => {
                backoff = BACKOFF_FIRST;
                told = false;
                let reason = session(&shared, &client, &mut tree).await;
                shared.client.store(None);
                lost_contact(&shared);
                tracing::warn!(registry = %shared.address, reason, "the session has ended; a new one is made");
            }
            Err(error) => {
                if !told {
                    told = true;
                    tracing::error!(
                        registry = %shared.address,
                        reason = %error,
                        "ZooKeeper is out of reach; is it running at that address? Trying again until it answers"
                    );
                }
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn connect(shared: &Shared) -> Result<Arc<Client>, Error> {
    let mut connector = Client::connector()
        .with_session_timeout(shared.settings.zk_session_timeout)
        .with_fail_eagerly()
        // When this process goes, its instances must stay until their sidecars have moved.
        .with_detached();
    if let Some(digest) = &shared.address.digest {
        connector = connector.with_auth("digest", digest.as_bytes());
    }
    connector.connect(&shared.address.servers).await.map(Arc::new)
}

/// Serves one session, and says why it ended.
async fn session(shared: &Arc<Shared>, client: &Arc<Client>, tree: &mut Tree) -> String {
    let mut states = client.state_watcher();
    let watcher = match prepare(shared, client, tree).await {
        Ok(watcher) => watcher,
        Err(error) => return format!("cannot set up {}: {error}", shared.layout.root()),
    };
    let _drain = AbortOnDropHandle::new(tokio::spawn(drain(watcher, Arc::clone(shared))));
    tracing::info!(registry = %shared.address, session = %client.session_id(), "connected");
    shared.client.store(Some(Arc::clone(client)));
    tree.restart_graces(Instant::now());
    shared.dirty.mark_full();

    let mut connected = true;
    let mut last_full = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let change = tokio::select! {
            state = states.changed() => Some(state),
            () = shared.dirty.marked(), if connected => tokio::select! {
                state = states.changed() => { shared.dirty.mark_full(); Some(state) }
                () = read(shared, client, tree, &mut last_full) => None,
            },
            _ = tick.tick() => {
                tick_once(shared, client, tree, connected, last_full).await;
                None
            }
        };
        match change {
            None => {}
            Some(state) if state.is_terminated() => return format!("{state}"),
            Some(SessionState::Disconnected) => {
                connected = false;
                shared.client.store(None);
                lost_contact(shared);
                tracing::warn!(registry = %shared.address, "contact is lost; the last good view is served");
            }
            Some(_) => {
                connected = true;
                shared.client.store(Some(Arc::clone(client)));
                tree.restart_graces(Instant::now());
                // Watches may have lost events in between (ZOOKEEPER-4698).
                shared.dirty.mark_full();
                tracing::info!(registry = %shared.address, "contact is back");
            }
        }
    }
}

/// Makes what must be there, sets the watch, and announces this replica.
async fn prepare(shared: &Shared, client: &Client, tree: &mut Tree) -> Result<PersistentWatcher, Error> {
    make_directories(shared, client).await?;
    let watcher = client
        .watch(shared.layout.root(), AddWatchMode::PersistentRecursive)
        .await?;
    let session = client.session_id().0;
    shared.own().sessions.insert(session);
    let id = &shared.settings.replica;
    let path = shared.layout.replica(id);
    // The session of our former run, if it has not expired yet: its instances are a replica's, and have their grace.
    if let Some(stat) = client.check_stat(&path).await?
        && stat.ephemeral_owner != session
    {
        tree.put(&Place::Replica(id.clone()), b"", Seen::from(stat));
    }
    ops::hold_replica(shared, client).await?;
    Ok(watcher)
}

async fn make_directories(shared: &Shared, client: &Client) -> Result<(), Error> {
    let make = ops::options(shared, CreateMode::Persistent);
    for directory in shared.layout.directories() {
        client.mkdir(&directory, &make).await?;
    }
    Ok(())
}

/// Empties the watch into the marks, so that it cannot grow.
async fn drain(mut watcher: PersistentWatcher, shared: Arc<Shared>) {
    loop {
        let event = watcher.changed().await;
        match event.event_type {
            EventType::Session if event.session_state.is_terminated() => return,
            EventType::Session => {}
            _ => shared.dirty.mark(event.path),
        }
    }
}

/// Gathers changes for a moment, reads them, and publishes what they mean.
async fn read(shared: &Shared, client: &Client, tree: &mut Tree, last_full: &mut Instant) {
    if !shared.dirty.is_urgent() {
        tokio::select! {
            () = tokio::time::sleep(COALESCE) => {}
            () = urgent(shared) => {}
        }
    }
    let marks = shared.dirty.take();
    let full = marks.full;
    match reader::refresh(shared, client, tree, marks).await {
        Ok(()) => {
            if full {
                *last_full = Instant::now();
            }
            shared.publish(tree.state(true));
        }
        Err(error) => {
            tracing::warn!(registry = %shared.address, %error, "cannot read; trying again");
            tokio::time::sleep(READ_AGAIN).await;
            if error == Error::NoNode
                && let Err(error) = make_directories(shared, client).await
            {
                tracing::warn!(registry = %shared.address, %error, "cannot make the registry's nodes again");
            }
            shared.dirty.mark_full();
        }
    }
}

/// Somebody waits for what was marked just now.
async fn urgent(shared: &Shared) {
    while !shared.dirty.is_urgent() {
        shared.dirty.marked().await;
    }
}

async fn tick_once(shared: &Shared, client: &Client, tree: &mut Tree, connected: bool, last_full: Instant) {
    if !connected {
        return;
    }
    let now = Instant::now();
    if now.duration_since(last_full) > FULL_READ_INTERVAL {
        shared.dirty.mark_full();
    }
    if tree.expire(now) {
        shared.publish(tree.state(true));
    }
    let due = shared.own().released.due(now);
    for name in due {
        shared.own().instances.remove(&name);
        tracing::info!(
            instance = name,
            "nobody registered it again within the grace; removed"
        );
        // Lost contact is no harm: what is not ours any more goes with the session.
        let removed = tokio::time::timeout(
            crate::registry::WRITE_TIMEOUT,
            ops::drop_own(shared, client, &name),
        )
        .await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(instance = name, %error, "cannot remove an instance; it goes with the session");
        }
    }
}

fn lost_contact(shared: &Shared) {
    let last = shared.state.borrow().as_ref().clone();
    shared.publish(State {
        connected: false,
        ..last
    });
}
