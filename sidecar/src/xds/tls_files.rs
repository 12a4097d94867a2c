//! Certificates from files that somebody else rotates: watched by content, and swapped when they are whole and valid.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_link::Credentials;
use mesh_proto::fault::Faults;
use tokio_util::sync::CancellationToken;

use super::identity::Asked;
use super::numbers::Numbers;
use crate::Shared;
use crate::config::{Config, Source, TlsFiles};
use crate::files::{POLL_INTERVAL, Watch};

/// See the module.
pub struct TlsFromFiles {
    /// Where credentials go.
    pub shared: Arc<Shared>,
    /// The files.
    pub files: TlsFiles,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// Told when somebody wants them read again now.
    pub asked: Asked,
    /// Looked before the first reading, so that no change after it is missed.
    pub watch: Watch,
}

/// Reads the files, and checks that they are this sidecar's.
///
/// # Errors
/// Every fault, at `tls.certificate`, `tls.key` or `tls.ca`.
pub fn load(config: &Config, files: &TlsFiles) -> Result<Credentials, Faults> {
    let credentials = Credentials::from_files(&files.certificate, &files.key, &files.ca)
        .map_err(|faults| faults.under("tls"))?;
    let service = &config.node.service;
    let domain_ok = match &config.source {
        Source::Control(control) => credentials.id.trust_domain() == control.trust_domain.as_str(),
        Source::Files(_) => true,
    };
    if credentials.id.as_service().as_ref() != Some(service) || !domain_ok {
        let domain = match &config.source {
            Source::Control(control) => control.trust_domain.as_str(),
            Source::Files(_) => "<trust domain>",
        };
        return Err(Faults::one(
            "tls.certificate",
            format!(
                "is for {}, but node.service needs spiffe://{domain}/service/{service}",
                credentials.id
            ),
        ));
    }
    if credentials.remaining(SystemTime::now()).is_zero() {
        return Err(Faults::one("tls.certificate", "has expired; write a new one"));
    }
    Ok(credentials)
}

impl TlsFromFiles {
    /// Puts the files into force for the first time.
    ///
    /// # Errors
    /// Every fault.
    pub fn begin(&mut self) -> Result<(), Faults> {
        self.watch.changed(self.paths());
        let credentials = load(&self.shared.config, &self.files)?;
        self.numbers.certificate(credentials.not_after);
        self.shared.set_credentials(credentials);
        Ok(())
    }

    /// Watches until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut reply = None;
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => if !self.watch.changed(self.paths()) { continue },
                Some(asked) = self.asked.recv() => reply = Some(asked),
                () = stop.cancelled() => return,
            }
            let result = self
                .begin()
                .map_err(|faults| faults.to_string().replace('\n', "; "));
            match &result {
                Ok(()) => tracing::info!("new certificate in force, from files"),
                Err(why) => {
                    tracing::error!("the certificate files are not used, those before stay in force: {why}")
                }
            }
            if let Some(reply) = reply {
                let _ = reply.send(result);
            }
        }
    }

    fn paths(&self) -> [std::path::PathBuf; 3] {
        let files = &self.files;
        [files.certificate.clone(), files.key.clone(), files.ca.clone()]
    }
}
