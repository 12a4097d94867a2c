//! Tells the other replicas what the edges expose that are connected to this one.

use std::sync::Arc;
use std::time::Duration;

use crate::control::Control;

/// Changes are gathered for so long.
const INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether the registry still says it, and whether an edge has been gone for long enough.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Until the process is to end.
pub async fn run(control: Arc<Control>) {
    let mut book = control.book.watch();
    let mut told = None;
    loop {
        book.mark_unchanged();
        let edges = control.book.edges();
        let stands = {
            let state = control.state.borrow();
            edges
                .iter()
                .all(|(edge, services)| state.edges.get(edge).is_some_and(|all| all.is_superset(services)))
        };
        if told.as_ref() != Some(&edges) || !stands {
            match control.registry.announce(edges.clone()).await {
                Ok(()) => told = Some(edges),
                Err(error) => tracing::debug!(%error, "what edges expose is not announced; tried again"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
        tokio::select! {
            changed = book.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = control.stop.cancelled() => return,
        }
    }
}
