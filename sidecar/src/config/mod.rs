//! The sidecar's own configuration: one YAML file with environment overrides, as what it means.
//!
//! ```text
//!  YAML file ──raw──► leaves by place ◄── MESH_SIDECAR_… ──read──► Config, or every fault with its place
//! ```

mod edge;
mod node;
mod raw;
mod read;
mod show;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_proto::domain::Locality;
use mesh_proto::name::{InstanceName, ServiceName, TrustDomain};

use crate::gates::cors::Cors;

/// Beginning of the names of environment variables that override the file.
pub const ENVIRONMENT_PREFIX: &str = "MESH_SIDECAR_";

/// Everything a sidecar is told at start. Cannot be wrong in itself; whether ports and files are there is seen when used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this sidecar is.
    pub node: Node,
    /// Where resources come from.
    pub source: Source,
    /// Certificates from files, instead of from xds-lite.
    pub tls: Option<TlsFiles>,
    /// Where the last good copy is kept.
    pub state_dir: Option<PathBuf>,
    /// Calls from the mesh to the app.
    pub inbound: Option<Inbound>,
    /// Calls from the app to the mesh.
    pub outbound: Option<Outbound>,
    /// Calls from the world.
    pub edge: Option<Edge>,
    /// Services known to be called; others are learnt on first use.
    pub dependencies: Vec<ServiceName>,
    /// For operators, on loopback.
    pub admin: Option<SocketAddr>,
    /// For the scraper.
    pub metrics: Option<SocketAddr>,
    /// Data threads, 1 to 64.
    pub threads: usize,
    /// Where access log lines go.
    pub access_log: AccessLog,
    /// How a stop goes.
    pub drain: Drain,
}

/// Who this sidecar is.
#[derive(Debug, Clone)]
pub struct Node {
    /// The service it stands next to.
    pub service: ServiceName,
    /// Unique within the service.
    pub id: Arc<str>,
    /// Under which other sidecars reach its inbound port.
    pub address: Arc<str>,
    /// Where it stands.
    pub locality: Locality,
}

impl Node {
    /// `<service>/<id>`, how the rest of the mesh calls it.
    #[must_use]
    pub fn name(&self) -> InstanceName {
        InstanceName {
            service: self.service.clone(),
            id: self.id.clone(),
        }
    }
}

/// Where resources come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// xds-lite.
    Control(Control),
    /// A file or a folder of documents, watched: standalone.
    Files(PathBuf),
    /// Documents that the program itself makes up, as text: they never change.
    Documents(Arc<str>),
}

/// How xds-lite is reached.
#[derive(Debug, Clone)]
pub struct Control {
    /// `host:port`, tried in turn.
    pub servers: Vec<String>,
    /// Authorities to believe, PEM.
    pub ca: PathBuf,
    /// File of the join token; not needed where certificates come from files.
    pub join_token: Option<PathBuf>,
    /// Whose mesh it is.
    pub trust_domain: TrustDomain,
}

/// Certificates in files, watched.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Chain, PEM.
    pub certificate: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
    /// Authorities to believe, PEM.
    pub ca: PathBuf,
}

/// Calls from the mesh to the app.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Where other sidecars connect.
    pub listen: SocketAddr,
    /// Where the app listens.
    pub app: SocketAddr,
    /// Serve without TLS: no caller has an identity then.
    pub plaintext: bool,
}

/// Calls from the app to the mesh.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Where the app connects; loopback.
    pub listen: SocketAddr,
}

/// Calls from the world.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Where the world connects.
    pub listen: SocketAddr,
    /// The certificate shown to it; without one the edge speaks plain HTTP.
    pub tls: Option<EdgeTls>,
    /// What can be reached.
    pub expose: Vec<Exposed>,
    /// The path under which it describes itself as OpenAPI; without it the world is not told.
    pub openapi: Option<Arc<str>>,
    /// Which pages of other origins may call; without it no browser lets any.
    pub cors: Option<Cors>,
}

/// The certificate shown to the world.
#[derive(Debug, Clone)]
pub struct EdgeTls {
    /// Chain, PEM.
    pub certificate: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
}

/// A service that can be reached from the world.
#[derive(Debug, Clone)]
pub struct Exposed {
    /// Its name.
    pub service: ServiceName,
    /// For services that speak plain HTTP: paths under this prefix are theirs, and reach them without it.
    pub prefix: Option<Arc<str>>,
}

/// Where access log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON object a line on standard output.
    Stdout,
    /// Nowhere.
    Off,
}

/// How a stop goes.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// Not ready, but still serving, so that others learn of it.
    pub readiness_off: Duration,
    /// From the signal to the end; calls still running are cut then.
    pub deadline: Duration,
}
