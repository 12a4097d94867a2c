//! The own certificate: asked for with a join token, renewed with itself, kept so that a restart needs no token.
//!
//! ```text
//!  kept on disk? ──yes──► in force ──half of life, or asked──► renew (certificate) ─► in force
//!        └─no─► join (token, read again at each try) ─┘ └─ expired, or refused ─► join
//! ```
//!
//! The key is made here and never leaves; only a request for its public half does. Authorities follow the trust bundle
//! that is pushed, without a new certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_link::{Credentials, credentials};
use mesh_proto::domain::TrustBundle;
use mesh_proto::v1::identity_client::IdentityClient;
use mesh_proto::v1::{SignCertificateRequest, SignCertificateResponse};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, random};
use super::judge;
use super::numbers::Numbers;
use super::servers::Servers;
use super::signing::{Refusal, make_key, pem};
use crate::readiness::{Need, Readiness};
use crate::{Shared, files};

/// Name of the certificate and key in the state folder.
pub const FILE: &str = "credentials.pem";
/// A certificate is renewed when this share of its life has passed, moved by up to the jitter to either side.
const RENEW_AT: f64 = 0.5;
const RENEW_JITTER: f64 = 0.1;
/// It is told again that there is no new one when this share of its life is left.
const WARN_AT: f64 = 1.0 / 3.0;
/// First and longest wait between two tries.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// The wall clock decides when a certificate is due and may be set; it is looked at this often.
const CLOCK_CHECK: Duration = Duration::from_secs(30);
/// No certificate is renewed sooner than this after it came, however short its life.
const RENEW_LEAST: Duration = Duration::from_secs(1);
/// How long signing may take.
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Longest join token, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;
/// Requests to renew at once that may wait.
const RENEWALS_WAITING_MAX: usize = 16;

/// Asks for a new certificate now.
#[derive(Clone)]
pub struct Renewals(mpsc::Sender<oneshot::Sender<Result<(), String>>>);

impl Renewals {
    /// Renews, and tells how it went.
    ///
    /// # Errors
    /// One line: why there is no new certificate. The one before stays in force.
    pub async fn renew(&self) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let busy = "too many renewals are asked for at once; try again";
        self.0.try_send(reply).map_err(|_| busy.to_owned())?;
        answer
            .await
            .unwrap_or_else(|_| Err("the sidecar is stopping".into()))
    }
}

/// Those who ask, for the one who renews.
pub type Asked = mpsc::Receiver<oneshot::Sender<Result<(), String>>>;

/// The two ends of asking.
#[must_use]
pub fn renewals() -> (Renewals, Asked) {
    let (ask, asked) = mpsc::channel(RENEWALS_WAITING_MAX);
    (Renewals(ask), asked)
}

/// See the module.
pub struct Identity {
    /// Where credentials go, and where pushed trust bundles come from.
    pub shared: Arc<Shared>,
    /// Whom to ask.
    pub servers: Servers,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// Told when there is a certificate.
    pub readiness: Arc<Readiness>,
    /// Told when somebody asks for a new one.
    pub asked: Asked,
}

/// When the next try is.
enum Next {
    /// By the wall clock: half of the certificate's life.
    Due(SystemTime),
    /// By the steady clock: after a failure.
    Retry(Instant),
}

impl Next {
    fn wait(&self, now: Instant, wall: SystemTime) -> Duration {
        match self {
            Next::Due(at) => at.duration_since(wall).unwrap_or_default(),
            Next::Retry(at) => at.saturating_duration_since(now),
        }
    }
}

/// When a certificate of this life is to be renewed. `random` is between 0 and 1.
#[must_use]
pub fn renewal(not_before: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let share = RENEW_AT * (1.0 + RENEW_JITTER * (2.0 * random - 1.0));
    not_before + life.mul_f64(share).max(RENEW_LEAST)
}

impl Identity {
    /// Runs until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep_fresh() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep_fresh(&mut self) {
        let mut next = self.restore();
        let mut changes = self.shared.changes();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        let (mut told, mut turn) = (String::new(), 0);
        loop {
            self.follow_bundle();
            let wait = next.wait(Instant::now(), SystemTime::now());
            let mut reply = None;
            tokio::select! {
                () = tokio::time::sleep(wait.min(CLOCK_CHECK)) => {
                    if !next.wait(Instant::now(), SystemTime::now()).is_zero() {
                        continue;
                    }
                }
                Some(asked) = self.asked.recv() => reply = Some(asked),
                Ok(()) = changes.changed() => continue,
            }
            let renewed = self.renew(turn).await;
            match &renewed {
                Ok(due) => {
                    next = Next::Due(*due);
                    backoff.reset();
                    told.clear();
                }
                Err(why) => {
                    next = Next::Retry(Instant::now() + backoff.next(random()));
                    turn = turn.wrapping_add(1);
                    // The same trouble again is not news, but that it grows urgent is.
                    let news = format!("{} {:?}", gist(why), self.urgency());
                    if news != told {
                        tracing::error!("no new certificate: {why}; {}", self.what_is_left());
                        told = news;
                    }
                }
            }
            if let Some(reply) = reply {
                let _ = reply.send(renewed.map(drop));
            }
        }
    }

    /// Puts the certificate of an earlier life into force, if it is still good.
    fn restore(&self) -> Next {
        let now = Next::Retry(Instant::now());
        let Some(path) = self.path() else {
            return now;
        };
        let kept = match self.read_kept(&path) {
            Ok(Some(kept)) => kept,
            Ok(None) => return now,
            Err(why) => {
                tracing::error!("the kept certificate is ignored: {why}; joining with the token");
                return now;
            }
        };
        let due = renewal(kept.not_before, kept.not_after, random());
        self.put_into_force(kept, "kept");
        Next::Due(due)
    }

    fn read_kept(&self, path: &std::path::Path) -> Result<Option<Credentials>, String> {
        let Some(bytes) = files::read_own(path, FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let fail = |why: String| format!("{}: {why}", path.display());
        let pem = String::from_utf8(bytes).map_err(|_| fail("is not text".into()))?;
        let authorities = self
            .authorities_in_force()
            .map_or_else(|| self.servers.authorities(), Ok)?;
        // One file holds both; each reader takes what is its own.
        let probe = files::read_text(&self.servers.control().ca, FILE_BYTES_MAX)?;
        let read = Credentials::from_pem(&pem, &pem, &probe).map_err(|faults| fail(faults.to_string()))?;
        self.check_id(&read).map_err(fail)?;
        if read.remaining(SystemTime::now()).is_zero() {
            tracing::info!("the kept certificate has expired; joining with the token");
            return Ok(None);
        }
        judge::with_authorities(&read, authorities)
            .map(Some)
            .map_err(|faults| fail(faults.to_string()))
    }

    /// Asks for a certificate and puts it into force. Tells when the next one is due.
    async fn renew(&self, turn: usize) -> Result<SystemTime, String> {
        let mut failure = String::new();
        // Every server once, so that one that is away costs no back-off.
        for offset in 0..self.servers.count() {
            match self.ask(turn.wrapping_add(offset)).await {
                Ok(credentials) => {
                    // Counted from here: it begins a little in the past, which for a short life would be due at once.
                    let due = renewal(SystemTime::now(), credentials.not_after, random());
                    self.put_into_force(credentials, "signed");
                    return Ok(due);
                }
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }

    async fn ask(&self, turn: usize) -> Result<Credentials, String> {
        let own = self
            .shared
            .credentials()
            .filter(|own| !own.remaining(SystemTime::now()).is_zero());
        let Some(own) = own else {
            return self.join(turn).await;
        };
        match self.sign(turn, Some(&own), String::new()).await {
            // An authority that was replaced, or a service that was refused: the token may still be good.
            Err(Refusal { judged: true, why }) if self.servers.control().join_token.is_some() => {
                tracing::warn!("renewal by certificate was refused: {why}; joining with the token");
                self.join(turn).await
            }
            result => result.map_err(|refusal| refusal.why),
        }
    }

    async fn join(&self, turn: usize) -> Result<Credentials, String> {
        let service = &self.shared.config.node.service;
        let make = format!("mesh-ctl token create --service {service}");
        let Some(path) = &self.servers.control().join_token else {
            return Err("there is no join token; write control.joinToken.file".into());
        };
        let token = files::read_text(path, TOKEN_BYTES_MAX)
            .map_err(|why| format!("{why}; make a join token with `{make}` and write it there"))?;
        let token = token.trim();
        if token.is_empty() {
            let path = path.display();
            return Err(format!(
                "{path} is blank; make a join token with `{make}` and write it there"
            ));
        }
        let signed = self.sign(turn, None, token.to_owned()).await;
        signed.map_err(|Refusal { judged, why }| {
            if judged {
                // It says itself how to make another.
                let (server, path) = (self.servers.at(turn), path.display());
                format!("xds-lite at {server} refused the join token in {path}: {why}")
            } else {
                why
            }
        })
    }

    async fn sign(
        &self,
        turn: usize,
        own: Option<&Credentials>,
        token: String,
    ) -> Result<Credentials, Refusal> {
        let unjudged = |why: String| Refusal { judged: false, why };
        let (key, csr) = make_key().map_err(unjudged)?;
        let channel = self.servers.channel(turn, own).map_err(unjudged)?;
        let request = SignCertificateRequest {
            csr,
            join_token: token,
        };
        let mut service = IdentityClient::new(channel);
        let server = self.servers.at(turn);
        let response = tokio::time::timeout(SIGN_TIMEOUT, service.sign_certificate(request))
            .await
            .map_err(|_| unjudged(format!("{server} did not answer in time")))?
            .map_err(|status| Refusal::of(server, &status))?;
        self.read(key, response.into_inner())
            .map_err(|why| unjudged(format!("{server} signed something that cannot be used: {why}")))
    }

    fn read(
        &self,
        key: PrivateKeyDer<'static>,
        response: SignCertificateResponse,
    ) -> Result<Credentials, String> {
        let chain: Vec<_> = response
            .certificate_chain
            .into_iter()
            .take(credentials::CHAIN_MAX + 1)
            .map(CertificateDer::from)
            .collect();
        if chain.len() > credentials::CHAIN_MAX {
            return Err(format!(
                "a chain of more than {} certificates",
                credentials::CHAIN_MAX
            ));
        }
        let authorities = match self.authorities_in_force() {
            Some(authorities) => authorities,
            None => credentials::read_authorities(&response.trust_bundle)
                .map_err(|why| format!("its trust bundle {why}"))?,
        };
        let made = Credentials::new(chain, key, authorities).map_err(|faults| faults.to_string())?;
        self.check_id(&made)?;
        Ok(made)
    }

    fn check_id(&self, credentials: &Credentials) -> Result<(), String> {
        let expected = self.servers.own_id(&self.shared.config.node.service);
        if credentials.id == expected {
            Ok(())
        } else {
            Err(format!(
                "the certificate is for {}, not {expected}; was the join token made for this service?",
                credentials.id
            ))
        }
    }

    fn put_into_force(&self, credentials: Credentials, how: &str) {
        let life = credentials.remaining(SystemTime::now()).as_secs();
        tracing::info!("certificate of {} in force ({how}), for {life} s", credentials.id);
        self.numbers.certificate(credentials.not_after);
        if how == "signed" {
            self.keep(&credentials);
        }
        self.shared.set_credentials(credentials);
        self.readiness.met(Need::Certificate);
    }

    fn keep(&self, credentials: &Credentials) {
        let Some(path) = self.path() else {
            return;
        };
        let mut text = pem("PRIVATE KEY", credentials.key().secret_der());
        for certificate in &credentials.chain {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        if let Err(why) = files::write_own(&path, text.as_bytes()) {
            tracing::warn!("the certificate is not kept, a restart will need a join token: {why}");
        }
    }

    fn path(&self) -> Option<PathBuf> {
        let folder = self.shared.config.state_dir.as_ref()?;
        Some(folder.join(FILE))
    }

    fn bundle(&self) -> Option<Arc<TrustBundle>> {
        let snapshot = self.shared.snapshot();
        let domain = self.servers.control().trust_domain.as_str();
        snapshot.resources.bundles.get(domain).cloned()
    }

    fn authorities_in_force(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.bundle().map(|bundle| judge::authorities(&bundle))
    }

    /// Believes whom the pushed bundle says, from the next connection on.
    fn follow_bundle(&self) {
        let (Some(own), Some(authorities)) = (self.shared.credentials(), self.authorities_in_force()) else {
            return;
        };
        if own.authorities == authorities {
            return;
        }
        match judge::with_authorities(&own, authorities) {
            Ok(credentials) => {
                let count = credentials.authorities.len();
                tracing::info!("believing the pushed trust bundle, {count} authorities");
                self.shared.set_credentials(credentials);
            }
            Err(faults) => tracing::error!("the pushed trust bundle is not used: {faults}"),
        }
    }

    fn urgency(&self) -> Urgency {
        let Some(own) = self.shared.credentials() else {
            return Urgency::None;
        };
        let life = own.not_after.duration_since(own.not_before).unwrap_or_default();
        match own.remaining(SystemTime::now()) {
            Duration::ZERO => Urgency::Expired,
            left if left < life.mul_f64(WARN_AT) => Urgency::Soon,
            _ => Urgency::None,
        }
    }

    fn what_is_left(&self) -> String {
        match self.shared.credentials() {
            None => "waiting, and trying again".into(),
            Some(own) => match own.remaining(SystemTime::now()).as_secs() {
                0 => "the one before has expired: others refuse this sidecar until there is a new one".into(),
                left => format!("the one before is good for {left} s more"),
            },
        }
    }
}

/// What a message says without its numbers: that an hour ago became two is not news.
fn gist(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// How bad it is that there is no new certificate.
#[derive(Debug)]
enum Urgency {
    None,
    Soon,
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life_with_a_tenth_of_spread() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = begin + Duration::from_secs(86_400);
        let after = |random| {
            renewal(begin, end, random)
                .duration_since(begin)
                .unwrap()
                .as_secs()
        };
        assert_eq!((after(0.0), after(0.5), after(1.0)), (38_880, 43_200, 47_520));
    }

    #[test]
    fn a_wall_clock_set_back_does_not_make_a_certificate_due_and_set_forward_does() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let next = Next::Due(wall + Duration::from_secs(60));
        let now = Instant::now();
        assert!(next.wait(now, wall - Duration::from_secs(86_400)) > Duration::from_secs(60));
        assert!(next.wait(now, wall + Duration::from_secs(86_400)).is_zero());
    }
}
