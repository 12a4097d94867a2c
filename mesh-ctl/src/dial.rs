//! How `call` reaches a server: itself, its sidecar, or through our own sidecar.
//!
//! ```text
//!  HOST:PORT                         plaintext                  the service itself
//!  HOST:PORT --tls                   TLS, by host name          the service itself, or an edge
//!  HOST:PORT --service S             mutual TLS, as operator    its sidecar's inbound port; S must answer
//!  --through HOST:PORT --service S   plaintext, on this host    our sidecar's outbound port, which finds S
//! ```

use std::path::{Path, PathBuf};

use mesh_link::credentials::Credentials;
use mesh_link::{grpc, tls};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use tonic::transport::Channel;

use crate::cli::Global;
use crate::client::{CA_FILE, OPERATOR_FILE, OPERATOR_KEY_FILE};
use crate::failure::{Exit, Failure};

/// The options that say how.
#[derive(Debug, clap::Args)]
pub(crate) struct Dial {
    /// Call through the outbound port of a sidecar on this host, such as 127.0.0.1:15001; --service names whom.
    #[arg(long, value_name = "HOST:PORT", requires = "service")]
    pub(crate) through: Option<String>,
    /// The service that is meant. Without --through: HOST:PORT is its sidecar, reached as operator (--credentials).
    #[arg(long, value_name = "SERVICE", value_parser = ServiceName::parse)]
    service: Option<ServiceName>,
    /// TLS; the certificate must be for HOST.
    #[arg(long, conflicts_with_all = ["through", "service"])]
    tls: bool,
    /// Certificates to believe, PEM, in place of those of this host.
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_ca: Option<PathBuf>,
}

impl Dial {
    /// A channel; it connects when it is used.
    ///
    /// # Errors
    /// The address is none, or certificates cannot be read.
    pub(crate) fn channel(&self, global: &Global, target: Option<&str>) -> Result<Channel, Failure> {
        if let (Some(through), Some(service)) = (&self.through, &self.service) {
            return grpc::plain_channel_as(through, service.as_str()).map_err(Failure::usage);
        }
        let target = target.ok_or_else(|| {
            Failure::usage("no server is named").hint("name it as HOST:PORT, or use --through and --service")
        })?;
        if let Some(service) = &self.service {
            return as_operator(global, target, service);
        }
        if self.tls {
            let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let authorities = self.tls_ca.as_deref().map(authorities).transpose()?;
            let config = tls::web_client_config(authorities.as_deref()).map_err(Failure::usage)?;
            return grpc::channel_to(target, host, config).map_err(Failure::usage);
        }
        grpc::plain_channel(target).map_err(Failure::usage)
    }
}

fn authorities(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read --tls-ca {}: {error}", file.display())))
}

fn as_operator(global: &Global, target: &str, service: &ServiceName) -> Result<Channel, Failure> {
    let dir = global.credentials.as_deref().ok_or_else(|| {
        Failure::usage("a sidecar wants to see who calls, and no credentials are named")
            .hint("name the folder `mesh-ctl ca init` made with --credentials or MESH_CREDENTIALS")
    })?;
    let own = Credentials::from_files(
        &dir.join(OPERATOR_FILE),
        &dir.join(OPERATOR_KEY_FILE),
        &dir.join(CA_FILE),
    )
    .map_err(|faults| Failure {
        exit: Exit::Usage,
        ..Failure::faults("the credentials cannot be used", &faults)
    })?;
    let domain = TrustDomain::parse(own.id.trust_domain()).map_err(Failure::usage)?;
    let config = tls::client_config(Some(&own), &own.authorities, SpiffeId::service(&domain, service));
    let channel = config.and_then(|config| grpc::channel_to(target, service.as_str(), config));
    channel.map_err(Failure::usage)
}
