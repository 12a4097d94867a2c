//! A sidecar process, and the app beside it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::app::App;
use crate::call;
use crate::curl::Curl;
use crate::folder::{Folder, free_port};
use crate::process::{Process, program};
use crate::wait::eventually;
use mesh_examples::market::Quote;
use mesh_examples::market::quotes_client::QuotesClient;
use tonic::transport::Channel;

/// A configuration in the making.
#[derive(Debug)]
pub struct SidecarPlan {
    name: String,
    folder: Folder,
    config: Value,
    environment: Vec<(String, String)>,
}

impl SidecarPlan {
    /// A sidecar of `service`, with an admin and a metrics port. Where its resources come from is still to be said.
    #[must_use]
    pub fn new(service: &str, id: &str) -> Self {
        let folder = Folder::new();
        let config = json!({
            "node": {"service": service, "id": id, "address": "127.0.0.1"},
            "stateDir": folder.join("state"),
            "admin": {"listen": local()},
            "metrics": {"listen": local()},
            "drain": {"readinessOff": "500ms", "deadline": "10s"},
        });
        Self {
            name: format!("sidecar {service}/{id}"),
            folder,
            config,
            environment: Vec::new(),
        }
    }

    /// Resources from a file or a folder, without xds-lite.
    #[must_use]
    pub fn standalone(self, resources: &std::path::Path) -> Self {
        self.set("/resources", json!({"file": resources}))
    }

    /// Calls from the mesh go to this app.
    #[must_use]
    pub fn app(self, address: &str) -> Self {
        self.set("/inbound", json!({"listen": local(), "app": address}))
    }

    /// The app may call others.
    #[must_use]
    pub fn outbound(self) -> Self {
        self.set("/outbound", json!({"listen": local()}))
    }

    /// The world may call these.
    #[must_use]
    pub fn edge(self, expose: &Value) -> Self {
        self.set("/edge", json!({"listen": local(), "expose": expose}))
    }

    /// Services it knows it will call.
    #[must_use]
    pub fn depends(self, services: &[&str]) -> Self {
        self.set("/dependencies", json!(services))
    }

    /// Any setting, by JSON pointer.
    ///
    /// # Panics
    /// Its section is not there.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (section, key) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(section).unwrap()[key] = value;
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it without waiting for anything.
    #[must_use]
    pub fn launch(self) -> Sidecar {
        // JSON is YAML.
        let file = self.folder.write("sidecar.yaml", self.config.to_string());
        let text = |pointer: &str| {
            self.config
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut sidecar = Sidecar {
            name: self.name.clone(),
            inbound: text("/inbound/listen"),
            outbound: text("/outbound/listen"),
            edge: text("/edge/listen"),
            admin: text("/admin/listen"),
            metrics: text("/metrics/listen"),
            file,
            folder: self.folder,
            environment: self.environment,
            process: None,
            former: Vec::new(),
        };
        sidecar.launch();
        sidecar
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Sidecar {
        let mut sidecar = self.launch();
        sidecar.is_ready();
        sidecar
    }
}

fn local() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A running sidecar. An address is empty if it has no such port.
#[derive(Debug)]
pub struct Sidecar {
    name: String,
    /// `host:port` for the mesh.
    pub inbound: String,
    /// `host:port` for the app.
    pub outbound: String,
    /// `host:port` for the world.
    pub edge: String,
    /// `host:port` for operators.
    pub admin: String,
    /// `host:port` for the scraper.
    pub metrics: String,
    /// Its configuration.
    pub file: PathBuf,
    /// Its files.
    pub folder: Folder,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    former: Vec<Process>,
}

impl Sidecar {
    /// Starts the process; one that ran before must have ended.
    pub fn launch(&mut self) {
        let mut command = program("sidecar");
        command.arg("--config").arg(&self.file);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.former.extend(self.process.take());
        self.process = Some(Process::start(self.name.clone(), &mut command));
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn is_ready(&mut self) {
        let _ = self.process().ready();
    }

    /// The process.
    ///
    /// # Panics
    /// It was never started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// SIGTERM, wait for the end, and start again.
    #[track_caller]
    pub fn restart(&mut self) {
        let status = self.process().terminate();
        assert!(status.success(), "{}: {status}", self.name);
        self.launch();
        self.is_ready();
    }

    /// A request to the edge.
    #[must_use]
    pub fn get(&self, path: &str) -> Curl {
        Curl::get(format!("http://{}{path}", self.edge))
    }

    /// A client of `market.quotes` through the outbound port.
    #[must_use]
    pub fn client(&self) -> QuotesClient<Channel> {
        call::client(&self.outbound, "market.quotes")
    }

    /// One quote from `market.quotes` through the outbound port.
    ///
    /// # Errors
    /// As the call ended.
    pub fn quote(&self) -> Result<Quote, tonic::Status> {
        call::get_quote(&self.client(), "ACME")
    }

    /// HTTP status of a path at the admin port; 0 if nobody answers.
    #[must_use]
    pub fn admin_status(&self, path: &str) -> u16 {
        Curl::get(format!("http://{}{path}", self.admin)).call().status
    }

    /// The metrics it shows now.
    #[must_use]
    pub fn scrape(&self) -> String {
        Curl::get(format!("http://{}/metrics", self.metrics)).call().body
    }

    /// Waits until calls to `market.quotes` are answered by exactly these instances.
    ///
    /// # Panics
    /// They never are.
    #[track_caller]
    pub fn reaches(&self, instances: &[&str]) {
        let client = self.client();
        eventually(&format!("{} reaches exactly {instances:?}", self.name), || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..16 {
                seen.insert(call::get_quote(&client, "ACME").ok()?.served_by);
            }
            (seen.iter().map(String::as_str).collect::<Vec<_>>() == instances).then_some(())
        });
    }
}

/// An instance of `market.quotes`: the app and its sidecar.
#[derive(Debug)]
pub struct Quotes {
    /// Stands in front.
    pub sidecar: Sidecar,
    /// Answers.
    pub app: App,
}

impl Quotes {
    /// SIGKILL to both: nobody says goodbye.
    pub fn kill(&mut self) {
        self.sidecar.process().kill();
        self.app.process.kill();
    }
}
