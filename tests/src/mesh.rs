//! The mesh as a sentence: an authority, a registry, xds-lite, and what joins them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::app::App;
use crate::documents;
use crate::folder::{Folder, free_port};
use crate::process::{Ended, Process, finish, program, run};
use crate::sidecar::{Quotes, Sidecar, SidecarPlan};
use crate::wait::eventually;

/// The trust domain of every test's mesh.
pub const TRUST_DOMAIN: &str = "mesh.local";

/// A running mesh. `market.quotes` and `web.portfolio` are documents of it from the start.
#[derive(Debug)]
pub struct Mesh {
    /// Its replicas of xds-lite.
    pub replicas: Vec<XdsLite>,
    /// Its files: `ca/`, `documents/`.
    pub folder: Folder,
}

/// A replica of xds-lite, running or not.
#[derive(Debug)]
pub struct XdsLite {
    /// `host:port` for sidecars and mesh-ctl.
    pub grpc: String,
    /// `host:port` for the scraper.
    pub metrics: String,
    arguments: Vec<String>,
    process: Option<Process>,
    former: Vec<Process>,
}

impl Mesh {
    /// On a folder, with one replica.
    #[must_use]
    pub fn start() -> Self {
        let mesh = Self::bare();
        mesh.with_replicas(1, None, &[])
    }

    /// On a folder, with more arguments for xds-lite.
    #[must_use]
    pub fn with_arguments(arguments: &[&str]) -> Self {
        Self::bare().with_replicas(1, None, arguments)
    }

    /// On ZooKeeper at `host:port`, with this many replicas, whose sessions are as short as may be.
    #[must_use]
    pub fn on_zookeeper(address: &str, replicas: usize, arguments: &[&str]) -> Self {
        let url = format!("zk://{address}/mesh");
        let short = ["--zk-session-timeout", "3s"];
        Self::bare().with_replicas(replicas, Some(url), &[&short, arguments].concat())
    }

    fn bare() -> Self {
        let folder = Folder::new();
        documents::lay_out(&folder);
        create_authority(&folder.join("ca"));
        Self {
            replicas: Vec::new(),
            folder,
        }
    }

    fn with_replicas(mut self, count: usize, registry: Option<String>, arguments: &[&str]) -> Self {
        let registry = registry.unwrap_or_else(|| format!("file:{}", self.folder.join("registry").display()));
        for _ in 0..count {
            self.add_replica(&registry, arguments);
        }
        self.apply_file("services.yaml");
        self
    }

    /// Starts one more replica, on this registry, and gives back which one it is.
    pub fn add_replica(&mut self, registry: &str, arguments: &[&str]) -> usize {
        let ca = self.folder.join("ca").display().to_string();
        let replica = format!("replica-{}", self.replicas.len() + 1);
        let mut all: Vec<&str> = vec!["--registry", registry, "--ca", &ca, "--replica", &replica];
        all.extend(arguments);
        self.replicas.push(XdsLite::start(&all));
        self.replicas.len() - 1
    }

    /// Where all replicas listen, as mesh-ctl takes it.
    #[must_use]
    pub fn servers(&self) -> String {
        let all: Vec<&str> = self
            .replicas
            .iter()
            .map(|replica| replica.grpc.as_str())
            .collect();
        all.join(",")
    }

    /// Runs mesh-ctl as the operator.
    pub fn ctl(&self, arguments: &[&str]) -> Ended {
        self.ctl_with(arguments, "")
    }

    /// The same, with something on its standard input.
    pub fn ctl_with(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut command = program("mesh-ctl");
        command.arg("--server").arg(self.servers());
        command.arg("--credentials").arg(self.folder.join("ca"));
        finish(command.args(arguments), stdin)
    }

    /// Applies documents and waits until all who use them have.
    ///
    /// # Panics
    /// They are refused.
    #[track_caller]
    pub fn apply(&self, documents: &str) {
        let _ = self
            .ctl_with(&["apply", "-f", "-", "--wait", "--timeout", "30s"], documents)
            .ok();
    }

    /// Applies one of the examples' files and waits.
    ///
    /// # Panics
    /// It is refused.
    #[track_caller]
    pub fn apply_file(&self, name: &str) {
        let file = self.folder.join("documents").join(name);
        let _ = self
            .ctl(&[
                "apply",
                "-f",
                file.to_str().unwrap(),
                "--wait",
                "--timeout",
                "30s",
            ])
            .ok();
    }

    /// The names of all instances the mesh knows of.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let answer = self.ctl(&["instances", "-o", "json"]).ok().json();
        let listed = answer
            .as_array()
            .or_else(|| answer["instances"].as_array())
            .cloned();
        let mut names: Vec<String> = listed
            .unwrap_or_default()
            .iter()
            .filter_map(|instance| {
                let name = instance.get("name").or_else(|| instance.get("instance"))?;
                Some(name.as_str()?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    /// Whether one replica, asked alone, knows of all these instances.
    #[must_use]
    pub fn knows(&self, replica: usize, instances: &[&str]) -> bool {
        let ca = self.folder.join("ca");
        let mut command = program("mesh-ctl");
        command
            .args(["--server", &self.replicas[replica].grpc, "--credentials"])
            .arg(ca);
        let answer = finish(command.args(["instances", "-o", "json"]), "");
        answer.code == Some(0) && instances.iter().all(|name| answer.stdout.contains(name))
    }

    /// What `status` tells, as JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        self.ctl(&["status", "-o", "json"]).json()
    }

    /// A join token for a service, in a file.
    pub fn join_token(&self, service: &str) -> PathBuf {
        let file = self.folder.join(&format!("token-{service}"));
        let path = file.to_str().unwrap();
        let _ = self
            .ctl(&["token", "create", "--service", service, "--file", path])
            .ok();
        file
    }

    /// A sidecar of this mesh, still to be described further.
    #[must_use]
    pub fn sidecar(&self, service: &str, id: &str) -> SidecarPlan {
        let servers: Vec<&str> = self
            .replicas
            .iter()
            .map(|replica| replica.grpc.as_str())
            .collect();
        SidecarPlan::new(service, id).set(
            "/control",
            json!({
                "servers": servers,
                "ca": self.folder.join("ca/ca.pem"),
                "joinToken": {"file": self.join_token(service)},
                "trustDomain": TRUST_DOMAIN,
            }),
        )
    }

    /// An instance of `market.quotes`, app and sidecar, registered.
    #[must_use]
    #[track_caller]
    pub fn quotes(&self, id: &str) -> Quotes {
        let app = App::quotes(id);
        let sidecar = self.sidecar("market.quotes", id).app(&app.address).start();
        let name = format!("market.quotes/{id}");
        eventually(&format!("{name} is registered"), || {
            self.instances().contains(&name).then_some(())
        });
        Quotes { sidecar, app }
    }

    /// A sidecar whose app calls `market.quotes`.
    #[must_use]
    #[track_caller]
    pub fn caller(&self, service: &str) -> Sidecar {
        self.sidecar(service, "caller")
            .outbound()
            .depends(&["market.quotes"])
            .start()
    }

    /// A sidecar at the edge that lets the world call `market.quotes`.
    #[must_use]
    #[track_caller]
    pub fn edge(&self) -> Sidecar {
        self.sidecar("web.edge", "edge")
            .edge(&json!([{"service": "market.quotes"}]))
            .start()
    }
}

/// Makes an authority and an operator.
///
/// # Panics
/// `mesh-ctl` refuses.
pub fn create_authority(folder: &std::path::Path) {
    let folder = folder.to_str().unwrap();
    let _ = run(
        "mesh-ctl",
        ["ca", "init", "--dir", folder, "--trust-domain", TRUST_DOMAIN],
    )
    .ok();
}

impl XdsLite {
    /// Starts a replica with these arguments, on ports of its own.
    #[must_use]
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let local = || format!("127.0.0.1:{}", free_port());
        let (grpc, metrics) = (local(), local());
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        all.extend([
            "--listen".into(),
            grpc.clone(),
            "--metrics".into(),
            metrics.clone(),
        ]);
        let mut replica = Self {
            grpc,
            metrics,
            arguments: all,
            process: None,
            former: Vec::new(),
        };
        replica.launch();
        let _ = replica.process().ready();
        replica
    }

    /// Starts the process, and does not wait.
    pub fn launch(&mut self) {
        let mut command = program("xds-lite");
        self.former.extend(self.process.take());
        self.process = Some(Process::start(
            format!("xds-lite {}", self.grpc),
            command.args(&self.arguments),
        ));
    }

    /// Starts it again after a kill, and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self) {
        self.launch();
        let _ = self.process().ready();
    }

    /// The process.
    ///
    /// # Panics
    /// It was never started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
    }
}
