//! What every service of this process shares.

use std::sync::Arc;
use std::time::Duration;

use mesh_link::ca::CertificateAuthority;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::ads::book::Book;
use crate::catalog::Authority;
use crate::metrics::Metrics;
use crate::registry::{Registry, State};
use crate::snapshot::Published;

/// The parts. Services hold it behind an `Arc`.
pub struct Control {
    /// Where documents and instances are.
    pub registry: Arc<dyn Registry>,
    /// The registry's newest view.
    pub state: watch::Receiver<Arc<State>>,
    /// The newest snapshot; `None` until the registry was read in full.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Who is connected.
    pub book: Arc<Book>,
    /// Signs certificates and join tokens.
    pub ca: CertificateAuthority,
    /// What the authority adds to the resources.
    pub authority: Authority,
    /// Life of the certificates that are signed.
    pub certificate_lifetime: Duration,
    /// Counters.
    pub metrics: Metrics,
    /// The registry, as status shows it.
    pub registry_name: String,
    /// This replica.
    pub replica: String,
    /// Set when the process is to end.
    pub stop: CancellationToken,
}

impl Control {
    /// The newest view, once there is one.
    ///
    /// # Errors
    /// UNAVAILABLE before the first full read.
    pub fn loaded(&self) -> Result<Arc<State>, Status> {
        let state = Arc::clone(&self.state.borrow());
        if state.loaded {
            Ok(state)
        } else {
            Err(Status::unavailable(format!(
                "this xds-lite has not read its registry {} yet; is that up? Its log says more",
                self.registry_name
            )))
        }
    }
}
