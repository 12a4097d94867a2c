//! Which xds-lite is next, and whom to believe when connecting to it.

use std::sync::Arc;

use mesh_link::{Credentials, credentials, grpc, tls};
use mesh_proto::name::{ServiceName, SpiffeId};
use rustls::pki_types::CertificateDer;
use tonic::transport::Channel;

use crate::config::Control;

/// Largest file of authorities or tokens, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The servers of the configuration.
#[derive(Debug, Clone)]
pub struct Servers {
    control: Arc<Control>,
}

impl Servers {
    /// As configured.
    #[must_use]
    pub fn new(control: Control) -> Self {
        Self {
            control: Arc::new(control),
        }
    }

    /// As configured.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.control.servers.len().max(1)
    }

    /// The server whose turn it is, counted endlessly.
    #[must_use]
    pub fn at(&self, turn: usize) -> &str {
        self.control
            .servers
            .get(turn % self.count())
            .map_or("", String::as_str)
    }

    /// Who the own service is, proven.
    #[must_use]
    pub fn own_id(&self, service: &ServiceName) -> SpiffeId {
        SpiffeId::service(&self.control.trust_domain, service)
    }

    /// The authorities of the configured file.
    ///
    /// # Errors
    /// One line with the file.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let path = &self.control.ca;
        let pem = crate::files::read_text(path, FILE_BYTES_MAX)?;
        credentials::read_authorities(&pem)
            .map_err(|why| format!("{} {why}; write the ca.pem of xds-lite", path.display()))
    }

    /// A channel to the server whose turn it is, which must prove to be this mesh's xds-lite. It is believed by the
    /// authorities of the file, and by those pushed since: during a rotation either may be the newer.
    ///
    /// # Errors
    /// One line.
    pub fn channel(&self, turn: usize, own: Option<&Credentials>) -> Result<Channel, String> {
        let mut believed = own.map(|own| own.authorities.clone()).unwrap_or_default();
        match self.authorities() {
            Ok(more) => believed.extend(
                more.into_iter()
                    .filter(|a| !believed.contains(a))
                    .collect::<Vec<_>>(),
            ),
            Err(why) if believed.is_empty() => return Err(why),
            Err(why) => tracing::debug!("{why}"),
        }
        let expected = SpiffeId::control(&self.control.trust_domain);
        let tls = tls::client_config(own, &believed, expected)?;
        grpc::channel(self.at(turn), tls)
    }
}
