//! Puts the control side together: where resources, certificates and keys come from, by configuration.
//!
//! ```text
//!  control:    last good ─► identity (or tls files) ─► client ─► registration
//!  resources:  standalone (and tls files)
//!  both:       keys, reflection
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use mesh_proto::name::ServiceName;

use crate::admin::resources_view;
use crate::config::{Config, Control, Source, TlsFiles};
use crate::files::Watch;
use crate::readiness::{Need, Readiness};
use crate::reflect::{self, Reflect};
use crate::shared::Requests;
use crate::standalone::Standalone;
use crate::xds::client::{self, Client};
use crate::xds::identity::{self, Identity, Renewals};
use crate::xds::numbers::Numbers;
use crate::xds::registration::{self, Registration};
use crate::xds::servers::Servers;
use crate::xds::subscription::Subscription;
use crate::xds::tls_files::TlsFromFiles;
use crate::{Shared, keys};

/// Writes every resource in force, for the admin page.
pub type ShowResources = Arc<dyn Fn() -> Value + Send + Sync>;

/// Everything that runs on the control thread.
pub struct ControlSide {
    /// Both sides' own.
    pub shared: Arc<Shared>,
    /// What is still missing.
    pub readiness: Arc<Readiness>,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// For the admin page.
    pub show_resources: ShowResources,
    /// For the admin page too.
    pub reflection: reflect::Status,
    /// Where there is a certificate.
    pub renewals: Option<Renewals>,
    /// Ends all of it.
    pub stop: CancellationToken,
    servers: Option<Servers>,
    tasks: TaskTracker,
}

impl ControlSide {
    /// Starts everything that the configuration asks for, but for the registration.
    ///
    /// # Errors
    /// Files of the configuration cannot be used: every fault, a line each. That xds-lite is away is none.
    pub fn start(shared: &Arc<Shared>, requests: Requests, meter: &Meter) -> Result<Self, String> {
        let mut control = Self {
            shared: shared.clone(),
            readiness: Arc::new(Readiness::new(needs(&shared.config))),
            numbers: Numbers::new(meter),
            show_resources: Arc::new(|| Value::Null),
            reflection: reflect::Status::default(),
            renewals: None,
            stop: CancellationToken::new(),
            servers: None,
            tasks: TaskTracker::new(),
        };
        // Certificates from files come first: nothing is served without what was promised.
        if let Some(files) = &shared.config.tls {
            control.certificates_from_files(files.clone())?;
        }
        match shared.config.source.clone() {
            Source::Control(told) => control.resources_from_xds(told, requests.wants)?,
            source @ (Source::Files(_) | Source::Documents(_)) => {
                let standalone =
                    Standalone::begin(shared.clone(), source).map_err(|faults| faults.to_string())?;
                let held = standalone.held();
                control.show_resources =
                    Arc::new(move || resources_view(&held.lock().unwrap_or_else(PoisonError::into_inner)));
                control.spawn(standalone.run(requests.wants, control.stop.clone()));
            }
        }
        control.spawn(keys::run(
            shared.clone(),
            requests.stale_keys,
            control.numbers.clone(),
            control.stop.clone(),
        ));
        let reflect = Reflect {
            shared: shared.clone(),
            stale: requests.stale_schemas,
            numbers: control.numbers.clone(),
            readiness: control.readiness.clone(),
            status: control.reflection.clone(),
        };
        control.spawn(reflect.run(control.stop.clone()));
        Ok(control)
    }

    fn certificates_from_files(&mut self, files: TlsFiles) -> Result<(), String> {
        let (renewals, asked) = identity::renewals();
        let mut from_files = TlsFromFiles {
            shared: self.shared.clone(),
            files,
            numbers: self.numbers.clone(),
            asked,
            watch: Watch::default(),
        };
        from_files.begin().map_err(|faults| faults.to_string())?;
        self.spawn(from_files.run(self.stop.clone()));
        self.renewals = Some(renewals);
        Ok(())
    }

    fn resources_from_xds(
        &mut self,
        told: Control,
        wants: mpsc::Receiver<ServiceName>,
    ) -> Result<(), String> {
        let servers = Servers::new(told.clone());
        // A file that is not there would be told at every try; at start it is a mistake of the configuration.
        servers
            .authorities()
            .map_err(|why| format!("control.ca: {why}"))?;
        let subscription = Subscription::new(&self.shared.config, told.trust_domain);
        let held = Arc::new(Mutex::new(subscription));
        client::restore(&self.shared, &servers, &held, &self.numbers, &self.readiness);
        if self.shared.config.tls.is_none() {
            let (renewals, asked) = identity::renewals();
            let identity = Identity {
                shared: self.shared.clone(),
                servers: servers.clone(),
                numbers: self.numbers.clone(),
                readiness: self.readiness.clone(),
                asked,
            };
            self.spawn(identity.run(self.stop.clone()));
            self.renewals = Some(renewals);
        }
        let changed = Arc::new(Notify::new());
        let client = Client {
            shared: self.shared.clone(),
            servers: servers.clone(),
            held: held.clone(),
            wants,
            numbers: self.numbers.clone(),
            readiness: self.readiness.clone(),
            changed: changed.clone(),
        };
        self.spawn(client.run(self.stop.clone()));
        self.spawn(client::keep_last_good(
            self.shared.clone(),
            servers.clone(),
            held.clone(),
            self.numbers.clone(),
            changed,
            self.stop.clone(),
        ));
        self.show_resources =
            Arc::new(move || resources_view(held.lock().unwrap_or_else(PoisonError::into_inner).holdings()));
        self.servers = Some(servers);
        Ok(())
    }

    /// Tells the mesh that the app is there, if others may call it. `inbound` is the real address.
    #[must_use]
    pub fn registration(&self, inbound: Option<SocketAddr>) -> Option<Registration> {
        let servers = self.servers.clone()?;
        let config = &self.shared.config;
        let instance = registration::instance(config, config.inbound.as_ref()?, inbound?.port());
        Some(Registration {
            shared: self.shared.clone(),
            servers,
            numbers: self.numbers.clone(),
            instance,
        })
    }

    /// Runs something until the end.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends everything, and waits so long for it.
    pub async fn end(self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
    }
}

/// What has to be there before this sidecar is ready.
fn needs(config: &Config) -> Vec<Need> {
    let mut needs = vec![Need::Listeners];
    match config.source {
        Source::Control(_) => {
            needs.push(Need::Resources);
            if config.tls.is_none() {
                needs.push(Need::Certificate);
            }
        }
        Source::Files(_) => {}
        // Made up for one service that tells its schema itself.
        Source::Documents(_) => needs.push(Need::Schema),
    }
    needs
}
