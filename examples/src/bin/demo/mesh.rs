//! The mesh on the stage: its set-up in the order a person would do it, and the commands of the tour.
//!
//! ```text
//!   we ──HTTP──► edge ══mTLS══► sidecar ─► quotes a, b, c
//!                  ╚═══mTLS══► sidecar ─► portfolio ─► (its sidecar) ══mTLS══► sidecar ─► quotes
//!
//!   xds-lite tells every sidecar what it needs to know; mesh-ctl tells xds-lite.
//! ```

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::client::{Client, Token};
use crate::show;
use crate::stage::{Ready, Stage};

/// The name of the process that all others lean on.
pub(crate) const XDS: &str = "xds-lite";
const TRUST_DOMAIN: &str = "mesh.local";
/// Liked ports, taken if they are free.
const EDGE_PORT: u16 = 8080;
const XDS_PORT: u16 = 18000;
const XDS_METRICS_PORT: u16 = 18080;
/// A command of mesh-ctl takes no longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

const DOCUMENTS: [(&str, &str); 3] = [
    ("services.yaml", include_str!("../../../documents/services.yaml")),
    ("login.yaml", include_str!("../../../documents/login.yaml")),
    ("access.yaml", include_str!("../../../documents/access.yaml")),
];

/// All that runs, and how to reach it.
pub(crate) struct Mesh<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) client: Client,
    /// Where the world calls.
    pub(crate) edge: SocketAddr,
    /// Where mesh-ctl and sidecars call.
    pub(crate) xds: SocketAddr,
    xds_metrics: SocketAddr,
    registry: String,
    /// Where the running sidecars listen, by name: `edge`, `portfolio`, `quotes-a`.
    pub(crate) sidecars: std::collections::BTreeMap<String, Ready>,
}

/// What a command of mesh-ctl said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl<'a> Mesh<'a> {
    /// Makes keys and documents, and starts xds-lite, one instance of quotes, portfolio and the edge.
    ///
    /// # Errors
    /// The first thing that does not work.
    pub(crate) async fn raise(stage: &'a mut Stage, registry: Option<String>) -> Result<Self, String> {
        // Relative paths start at the work folder, for all that runs on the stage.
        let registry = registry.unwrap_or_else(|| "file:registry".into());
        let mut mesh = Self {
            client: Client::new(),
            edge: free_port(EDGE_PORT)?,
            xds: free_port(XDS_PORT)?,
            xds_metrics: free_port(XDS_METRICS_PORT)?,
            sidecars: std::collections::BTreeMap::new(),
            registry,
            stage,
        };
        mesh.ctl_ok("ca init --dir ca --trust-domain mesh.local").await?;
        mesh.ctl_ok("jwt keygen --dir keys").await?;
        mesh.write_documents().await?;
        mesh.start_xds().await?;
        mesh.ctl_ok("apply -f documents").await?;
        for service in ["market.quotes", "web.portfolio", "web.edge"] {
            let file = token_file(service);
            mesh.ctl_ok(&format!("token create --service {service} --file {file}"))
                .await?;
        }
        mesh.start_quotes("a").await?;
        mesh.start_portfolio().await?;
        mesh.start_edge().await?;
        Ok(mesh)
    }

    async fn write_documents(&mut self) -> Result<(), String> {
        let folder = self.stage.folder().join("documents");
        std::fs::create_dir(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        for (name, text) in DOCUMENTS {
            self.stage.write(&format!("documents/{name}"), text)?;
        }
        show::did("cp keys/jwks.json documents/login.jwks");
        let keys = self.stage.folder().join("keys/jwks.json");
        std::fs::copy(keys, folder.join("login.jwks"))
            .map_err(|error| format!("cannot copy the keys: {error}"))?;
        self.run_ok("quotes", "--descriptors documents/quotes.binpb")
            .await
    }

    /// Starts xds-lite, always at the same address.
    ///
    /// # Errors
    /// It does not get ready.
    pub(crate) async fn start_xds(&mut self) -> Result<(), String> {
        let arguments = format!(
            "--registry {} --ca ca --listen {} --metrics {}",
            self.registry, self.xds, self.xds_metrics
        );
        self.start(XDS, "xds-lite", &arguments).await.map(drop)
    }

    /// Starts an instance of quotes and its sidecar.
    ///
    /// # Errors
    /// One does not get ready.
    pub(crate) async fn start_quotes(&mut self, id: &str) -> Result<(), String> {
        let arguments = format!("--listen 127.0.0.1:0 --name {id} --caller-header x-mesh-caller --log");
        let ready = self
            .start(&format!("quotes-{id}.app"), "quotes", &arguments)
            .await?;
        let app = address(&ready, "")?;
        let inbound = format!("inbound: {{listen: \"127.0.0.1:0\", app: \"{app}\"}}");
        self.start_sidecar(&format!("quotes-{id}"), "market.quotes", id, &inbound)
            .await
    }

    async fn start_portfolio(&mut self) -> Result<(), String> {
        // The app is told where its sidecar will be, and the sidecar where its app is: one has to know before.
        let outbound = free_port(0)?;
        let arguments = format!("--listen 127.0.0.1:0 --quotes http://{outbound}");
        let ready = self.start("portfolio.app", "portfolio", &arguments).await?;
        let app = address(&ready, "")?;
        let ways = format!(
            "inbound: {{listen: \"127.0.0.1:0\", app: \"{app}\"}}\n\
             outbound: {{listen: \"{outbound}\"}}\n\
             dependencies: [market.quotes]"
        );
        self.start_sidecar("portfolio", "web.portfolio", "a", &ways).await
    }

    async fn start_edge(&mut self) -> Result<(), String> {
        let ways = format!(
            "edge:\n  listen: \"{}\"\n  expose:\n    - {{service: market.quotes}}\n    \
             - {{service: web.portfolio, prefix: /portfolio}}",
            self.edge
        );
        self.start_sidecar("edge", "web.edge", "a", &ways).await
    }

    async fn start_sidecar(&mut self, name: &str, service: &str, id: &str, ways: &str) -> Result<(), String> {
        let (xds, token) = (self.xds, token_file(service));
        let text = format!(
            "node: {{service: {service}, id: {id}}}\n\
             control:\n  \
               servers: [\"{xds}\"]\n  \
               ca: ../ca/ca.pem\n  \
               joinToken: {{file: ../{token}}}\n  \
               trustDomain: {TRUST_DOMAIN}\n\
             stateDir: {name}.state\n\
             {ways}\n\
             admin: {{listen: \"127.0.0.1:0\"}}\n\
             metrics: {{listen: \"127.0.0.1:0\"}}\n\
             threads: 1\n\
             drain: {{readinessOff: 0s, deadline: 3s}}\n"
        );
        let file = format!("sidecars/{name}.yaml");
        self.stage.write(&file, &text)?;
        let ready = self
            .start(&format!("{name}.sidecar"), "sidecar", &format!("--config {file}"))
            .await?;
        self.sidecars.insert(name.into(), ready);
        Ok(())
    }

    async fn start(&mut self, name: &str, program: &str, arguments: &str) -> Result<Ready, String> {
        show::did(format_args!("{program} {arguments} &"));
        let _waiting = show::waiting("starting");
        self.stage.start(name, program, arguments).await
    }

    /// An address of a running sidecar.
    ///
    /// # Errors
    /// It does not run, or has no such address.
    pub(crate) fn sidecar(&self, name: &str, port: &str) -> Result<SocketAddr, String> {
        let ready = self
            .sidecars
            .get(name)
            .ok_or_else(|| format!("there is no sidecar {name}"))?;
        address(ready, port)
    }

    /// How often the quotes services were called so far, by their own logs.
    pub(crate) fn calls_of_quotes(&self) -> usize {
        ["a", "b", "c"]
            .iter()
            .map(|id| {
                std::fs::read_to_string(self.stage.log(&format!("quotes-{id}.app"))).unwrap_or_default()
            })
            .map(|log| log.lines().filter(|line| line.contains(" call ")).count())
            .sum()
    }

    /// Runs mesh-ctl quietly. Arguments have no spaces in them.
    ///
    /// # Errors
    /// It cannot be run, or does not end.
    pub(crate) async fn ctl(&self, arguments: &str) -> Result<Said, String> {
        self.run("mesh-ctl", arguments).await
    }

    /// Shows a command of mesh-ctl, runs it and shows its answer.
    ///
    /// # Errors
    /// It cannot be run, or ends with anything but success.
    pub(crate) async fn ctl_ok(&self, arguments: &str) -> Result<(), String> {
        self.run_ok("mesh-ctl", arguments).await
    }

    /// Asks mesh-ctl for JSON, quietly.
    ///
    /// # Errors
    /// It ends with anything but success, or says something else.
    pub(crate) async fn ctl_json(&self, arguments: &str) -> Result<Value, String> {
        let said = self
            .ctl(&format!("{arguments} -o json"))
            .await?
            .or_fail(arguments)?;
        serde_json::from_str(&said.out).map_err(|error| format!("mesh-ctl {arguments}: {error}"))
    }

    /// Applies a file and waits until all sidecars have it.
    ///
    /// # Errors
    /// They do not, or there are none.
    pub(crate) async fn apply(&self, file: &str) -> Result<(), String> {
        let arguments = format!("apply -f {file} --wait");
        show::did(format_args!("mesh-ctl {arguments}"));
        let said = self.ctl(&arguments).await?.or_fail(&arguments)?;
        show::saw(&said.err);
        let last = said.err.lines().last().unwrap_or_default();
        show::check(
            last.starts_with("applied by "),
            "propagated to every sidecar that uses it",
            last,
        )
    }

    /// Signs a token; `options` are those of `mesh-ctl jwt mint`.
    ///
    /// # Errors
    /// mesh-ctl does not.
    pub(crate) async fn token(&self, variable: &'static str, options: &str) -> Result<Token, String> {
        let arguments = format!("jwt mint --iss https://login.example.com --scope quotes.read {options}");
        show::did(format_args!("{variable}=$(mesh-ctl {arguments})"));
        let said = self.ctl(&arguments).await?.or_fail(&arguments)?;
        Ok(Token {
            variable,
            value: said.out.trim().to_owned(),
        })
    }

    async fn run_ok(&self, program: &str, arguments: &str) -> Result<(), String> {
        show::did(format_args!("{program} {arguments}"));
        self.run(program, arguments).await?.or_fail(arguments).map(drop)
    }

    async fn run(&self, program: &str, arguments: &str) -> Result<Said, String> {
        let running = Command::new(self.stage.program(program))
            .args(arguments.split_whitespace())
            .current_dir(self.stage.folder())
            .env("MESH_SERVER", self.xds.to_string())
            .env("MESH_CREDENTIALS", "ca")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_LIMIT, running)
            .await
            .map_err(|_| format!("{program} {arguments}: no end after {COMMAND_LIMIT:?}"))?
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Said {
    fn or_fail(self, arguments: &str) -> Result<Self, String> {
        if self.code == 0 {
            return Ok(self);
        }
        Err(format!(
            "`{arguments}` ended with code {}: {}",
            self.code,
            self.err.trim()
        ))
    }
}

/// Asks again and again until the answer is yes. Tells how long it took.
///
/// # Errors
/// It stays no, or asking fails.
pub(crate) async fn until(
    what: &'static str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<bool, String>,
) -> Result<Duration, String> {
    let _waiting = show::waiting(what);
    let begun = Instant::now();
    while !ask().await? {
        if begun.elapsed() > limit {
            return Err(format!("{what}: not so after {limit:?}"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(begun.elapsed())
}

fn token_file(service: &str) -> String {
    format!("sidecars/{service}.token")
}

fn address(ready: &Ready, name: &str) -> Result<SocketAddr, String> {
    let found = ready.get(name).copied();
    found.ok_or_else(|| format!("a process did not tell its address {name:?}"))
}

/// A port of this host that nobody listens on: the liked one, or any.
fn free_port(liked: u16) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(("127.0.0.1", liked)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    listener
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("there is no free port: {error}"))
}
