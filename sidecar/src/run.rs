//! The life of a sidecar, from its configuration to its end.
//!
//! ```text
//!  bind ─► restore, join, connect ─► ready ─► (signal) not ready, still serving ─► GOAWAY, calls end ─► leave ─► exit
//! ```
//!
//! The thread that calls this is the control thread: resources, certificates, keys, admin and metrics live on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_link::accept;
use mesh_proto::fault::{Check, Faults};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::config::{Config, Source};
use crate::control::ControlSide;
use crate::data_plane::{Addresses, Bound, Running};
use crate::readiness::Need;
use crate::shared::Phase;
use crate::telemetry::Metrics;
use crate::xds::servers::Servers;
use crate::xds::tls_files;
use crate::{Shared, standalone};

/// Kept of the drain deadline for saying goodbye to the mesh.
const LEAVE_TIME: Duration = Duration::from_millis(700);
/// After a second signal, all is over within this.
const HURRY_TIME: Duration = Duration::from_millis(100);
/// The last copy to disk and the like may take this long at the end.
const LAST_WORK_TIME: Duration = Duration::from_millis(400);

/// Where everything listens, with real ports.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Ways.
    pub ways: Addresses,
    /// For operators.
    pub admin: Option<SocketAddr>,
    /// For the scraper.
    pub metrics: Option<SocketAddr>,
}

impl std::fmt::Display for Listening {
    /// `ready inbound=127.0.0.1:15006 admin=127.0.0.1:15000`: what is configured, in the order of the configuration.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            ("inbound", self.ways.inbound),
            ("outbound", self.ways.outbound),
            ("edge", self.ways.edge),
            ("admin", self.admin),
            ("metrics", self.metrics),
        ];
        f.write_str("ready")?;
        for (name, address) in all {
            if let Some(address) = address {
                write!(f, " {name}={address}")?;
            }
        }
        Ok(())
    }
}

/// What makes a sidecar end.
pub struct Signals {
    /// Drain, then end.
    pub stop: CancellationToken,
    /// Do not wait any longer.
    pub hurry: CancellationToken,
}

/// Judges everything a configuration refers to, without starting anything.
///
/// # Errors
/// Every fault with its place.
pub fn check(config: &Config) -> Result<(), Faults> {
    let mut check = Check::default();
    if let Some(files) = &config.tls {
        check.part("", tls_files::load(config, files));
    }
    match &config.source {
        Source::Control(control) => {
            drop(check.leaf("control.ca", Servers::new(control.clone()).authorities()));
        }
        source => drop(check.part("", standalone::load(source, config))),
    }
    check.finish(Some(()))
}

/// Runs a sidecar to its end, on the ports that were bound for it. `ready` is called once, when it serves.
///
/// # Errors
/// It could not start: one line a fault, each with its fix.
pub async fn run(
    config: Config,
    bound: Bound,
    signals: Signals,
    ready: impl FnOnce(&Listening, &Shared),
) -> Result<(), String> {
    let life = Life::begin(config, bound)?;
    tokio::select! {
        () = life.control.readiness.wait() => {}
        () = signals.stop.cancelled() => return life.end(&signals).await,
        () = life.drain.cancelled() => return life.end(&signals).await,
    }
    life.shared.enter(Phase::Ready);
    ready(&life.listening, &life.shared);
    tokio::select! {
        () = signals.stop.cancelled() => {}
        () = life.drain.cancelled() => {}
    }
    life.end(&signals).await
}

/// Everything that runs.
struct Life {
    shared: Arc<Shared>,
    control: ControlSide,
    listening: Listening,
    running: Running,
    /// Cancelled by the admin page.
    drain: CancellationToken,
    leave: CancellationToken,
    registered: TaskTracker,
}

impl Life {
    fn begin(config: Config, bound: Bound) -> Result<Self, String> {
        let admin_page = config
            .admin
            .map(|address| accept::bind(address, false))
            .transpose()?;
        let metrics_page = config
            .metrics
            .map(|address| accept::bind(address, false))
            .transpose()?;
        let listening = Listening {
            ways: bound.addresses(),
            admin: admin_page
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
            metrics: metrics_page
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
        };
        let metrics = Arc::new(Metrics::new()?);
        let (shared, requests) = Shared::new(config);
        let control = ControlSide::start(&shared, requests, metrics.meter())?;
        let (drain, leave) = (CancellationToken::new(), CancellationToken::new());
        let registered = TaskTracker::new();
        if let Some(registration) = control.registration(listening.ways.inbound) {
            registered.spawn(registration.run(leave.clone()));
        }
        let page = Admin {
            shared: shared.clone(),
            readiness: control.readiness.clone(),
            numbers: control.numbers.clone(),
            resources: control.show_resources.clone(),
            reflection: control.reflection.clone(),
            renewals: control.renewals.clone(),
            edge: listening.ways.edge,
            drain: drain.clone(),
        };
        if let Some(listener) = admin_page {
            control.spawn(admin::serve(listener, Arc::new(page), control.stop.clone()));
        }
        if let Some(listener) = metrics_page {
            let metrics = metrics.clone();
            let render = Arc::new(move || metrics.render());
            control.spawn(admin::serve_metrics(listener, render, control.stop.clone()));
        }
        let running = bound.start(&shared, &metrics)?;
        control.readiness.met(Need::Listeners);
        Ok(Self {
            shared,
            control,
            listening,
            running,
            drain,
            leave,
            registered,
        })
    }

    /// Not ready at once; serving until others have learnt of it; then the calls under way; then goodbye.
    async fn end(self, signals: &Signals) -> Result<(), String> {
        let begun = Instant::now();
        let drain = self.shared.config.drain;
        let was_ready = self.control.readiness.missing().is_empty();
        self.shared.enter(Phase::Draining);
        tracing::info!(
            "draining: not ready any more, still serving for {:?}",
            drain.readiness_off
        );
        let pause = if was_ready {
            drain.readiness_off
        } else {
            Duration::ZERO
        };
        hurried(signals, tokio::time::sleep(pause)).await;
        let left = drain
            .deadline
            .saturating_sub(begun.elapsed())
            .saturating_sub(LEAVE_TIME);
        if hurried(signals, self.running.drain(left)).await {
            tracing::info!("every call has ended or was cut");
        } else {
            tracing::warn!("a second signal: not waiting any longer");
        }
        self.leave.cancel();
        self.registered.close();
        let _ = tokio::time::timeout(LEAVE_TIME, hurried(signals, self.registered.wait())).await;
        self.control.end(LAST_WORK_TIME).await;
        Ok(())
    }
}

/// Waits for something, but not past a second signal. Tells whether it came to its end.
async fn hurried(signals: &Signals, work: impl Future<Output = ()>) -> bool {
    let hurry = async {
        signals.hurry.cancelled().await;
        tokio::time::sleep(HURRY_TIME).await;
    };
    tokio::select! {
        () = work => true,
        () = hurry => false,
    }
}
