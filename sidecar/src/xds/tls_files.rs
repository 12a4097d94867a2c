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
        Source::Files(_) | Source::Documents(_) => true,
    };
    if credentials.id.as_service().as_ref() != Some(service) || !domain_ok {
        let domain = match &config.source {
            Source::Control(control) => control.trust_domain.as_str(),
            Source::Files(_) | Source::Documents(_) => "<trust domain>",
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
                    tracing::error!("the certificate files are not used, those before stay in force: {why}");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TestFolder;
    use crate::xds::identity::renewals;
    use mesh_link::ca::CertificateAuthority;
    use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
    use opentelemetry::metrics::MeterProvider;
    use std::time::Duration;

    fn write(folder: &TestFolder, ca: &CertificateAuthority, service: &str, files: &[&str]) {
        let id = SpiffeId::service(ca.trust_domain(), &ServiceName::parse(service).unwrap());
        let issued = ca.issue(&id, Duration::from_secs(60)).unwrap();
        for file in files {
            let text = match *file {
                "c.pem" => issued.chain_pem.as_str(),
                "k.pem" => issued.key_pem.as_str(),
                _ => ca.bundle_pem(),
            };
            folder.write(file, text);
        }
    }

    fn from_files(folder: &TestFolder) -> TlsFromFiles {
        let text = "
node: {service: market.quotes, id: a}
resources: {file: .}
tls: {certificate: c.pem, key: k.pem, ca: ca.pem}
inbound: {listen: '127.0.0.1:0', app: '127.0.0.1:9'}
";
        let config = Config::parse(text, &folder.0, []).unwrap();
        let (shared, _) = Shared::new(config);
        let meter = opentelemetry_sdk::metrics::SdkMeterProvider::default().meter("test");
        TlsFromFiles {
            files: shared.config.tls.clone().unwrap(),
            shared,
            numbers: Numbers::new(&meter),
            asked: renewals().1,
            watch: Watch::default(),
        }
    }

    #[test]
    fn a_rotation_is_taken_when_it_is_whole_and_until_then_the_pair_before_stays() {
        let folder = TestFolder::new("tls-files");
        let ca = CertificateAuthority::create(&TrustDomain::parse("mesh.local").unwrap()).unwrap();
        write(&folder, &ca, "market.quotes", &["c.pem", "k.pem", "ca.pem"]);
        let mut files = from_files(&folder);
        files.begin().unwrap();
        let leaf = |files: &TlsFromFiles| files.shared.credentials().unwrap().chain[0].clone();
        let before = leaf(&files);
        assert!(!files.watch.changed(files.paths()));
        write(&folder, &ca, "market.quotes", &["c.pem"]);
        assert!(files.watch.changed(files.paths()));
        let told = files.begin().unwrap_err().to_string();
        assert_eq!(told, "tls.key: does not belong to the certificate");
        assert_eq!(leaf(&files), before);
        write(&folder, &ca, "market.quotes", &["c.pem", "k.pem"]);
        files.begin().unwrap();
        assert_ne!(leaf(&files), before);
    }

    #[test]
    fn the_certificate_of_another_service_is_refused_and_files_that_are_not_there_are_told_together() {
        let folder = TestFolder::new("tls-files-other");
        let ca = CertificateAuthority::create(&TrustDomain::parse("mesh.local").unwrap()).unwrap();
        let told = from_files(&folder).begin().unwrap_err().to_string();
        assert_eq!(told.lines().count(), 3, "{told}");
        write(&folder, &ca, "market.orders", &["c.pem", "k.pem", "ca.pem"]);
        let told = from_files(&folder).begin().unwrap_err().to_string();
        assert!(
            told.starts_with("tls.certificate: is for spiffe://mesh.local/service/market.orders, but"),
            "{told}"
        );
    }
}
