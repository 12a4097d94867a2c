//! What several tests need: folders, ports, patience, a ZooKeeper, a wire that can be cut.

#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod process;
pub mod wire;
pub mod zookeeper;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use xds_lite::registry::{Settings, State};

/// Long enough for any machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh folder.
pub fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("xds-lite-{}-{number}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The log of what is tested is shown with `XDS_TEST_LOG=debug`.
pub fn settings(replica: &str, grace: Duration) -> Settings {
    let filter = std::env::var("XDS_TEST_LOG").unwrap_or_else(|_| "off".into());
    mesh_link::log::init(mesh_link::log::Format::Text, &filter);
    Settings {
        replica: replica.into(),
        advertise: format!("{replica}.test:18000"),
        grace,
        zk_session_timeout: Duration::from_secs(2),
    }
}

/// Waits until the view passes the test.
pub async fn until(
    state: &mut watch::Receiver<Arc<State>>,
    what: &str,
    test: impl Fn(&State) -> bool,
) -> Arc<State> {
    let found = tokio::time::timeout(PATIENCE, state.wait_for(|state| test(state))).await;
    let found = found.map(|found| found.map(|state| Arc::clone(&state)));
    match found {
        Ok(Ok(state)) => state,
        _ => {
            let state = state.borrow();
            let (documents, instances) = (state.documents.keys(), state.instances.keys());
            panic!(
                "{what}: not seen; connected {}, documents {documents:?}, instances {instances:?}, replicas {:?}, faults {:?}",
                state.connected, state.replicas, state.faults
            )
        }
    }
}
