//! Keeps one stream to one xds-lite, for as long as the sidecar lives: connect, listen, and after a loss the next server.
//!
//! ```text
//!  waiting for a certificate ─► connecting ─► connected ─► lost ─► (back-off, next server) ─► connecting
//! ```
//!
//! Everything it decides is in [`Subscription`]; this only carries messages. While it is not connected, everything stays
//! in force as it was.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_link::grpc;
use mesh_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_proto::name::ServiceName;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, random};
use super::last_good;
use super::numbers::Numbers;
use super::servers::Servers;
use super::subscription::{Outcome, Subscription};
use crate::Shared;
use crate::readiness::{Need, Readiness};

/// First and longest wait between two tries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Largest message read: above the largest snapshot, so that a larger one is refused by name and not by losing the stream.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Requests that may wait to be sent. A server that does not read them is left.
const REQUESTS_WAITING_MAX: usize = 4096;
/// Refused resources told in the log, of one response. All are in the answer.
const REFUSALS_LOGGED_MAX: usize = 20;
/// From a change to the copy on disk, so that a burst is one write.
const SAVE_DELAY: Duration = Duration::from_secs(1);
/// The copy says how old it is; while connected it is made young again this often.
const SAVE_AGAIN: Duration = Duration::from_secs(3600);

/// The subscription, for the admin page and the copy on disk. Never locked across a wait.
pub type Held = Arc<Mutex<Subscription>>;

/// See the module.
pub struct Client {
    /// Where resources go.
    pub shared: Arc<Shared>,
    /// Whom to ask.
    pub servers: Servers,
    /// What to ask for.
    pub held: Held,
    /// Services called for the first time.
    pub wants: mpsc::Receiver<ServiceName>,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// Told when everything has come once.
    pub readiness: Arc<Readiness>,
    /// Told after every change, to be kept on disk.
    pub changed: Arc<Notify>,
}

/// How a stream ended.
struct End {
    /// Whether anything came over it.
    answered: bool,
    why: String,
}

impl Client {
    /// Runs until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep_connected() => {}
            () = stop.cancelled() => {}
        }
        self.numbers.connected(false);
    }

    async fn keep_connected(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        let mut told = String::new();
        for turn in 0.. {
            self.have_certificate().await;
            let end = self.one_stream(turn).await;
            self.numbers.connected(false);
            self.lock(Subscription::lost);
            if end.answered {
                backoff.reset();
                told.clear();
            }
            // One line for each change of state: the same trouble again is not news.
            if end.why != told {
                tracing::warn!(
                    "not connected to xds-lite: {}; everything stays as it was",
                    end.why
                );
                told = end.why;
            }
            tokio::time::sleep(backoff.next(random())).await;
        }
    }

    async fn have_certificate(&self) {
        let mut changes = self.shared.changes();
        while self.shared.credentials().is_none() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn one_stream(&mut self, turn: usize) -> End {
        let server = self.servers.at(turn).to_owned();
        let mut answered = false;
        let why = match self.stream(turn, &server, &mut answered).await {
            Ok(()) => format!("{server} ended the stream"),
            Err(why) => why,
        };
        End { answered, why }
    }

    async fn stream(&mut self, turn: usize, server: &str, answered: &mut bool) -> Result<(), String> {
        let own = self.shared.credentials();
        let channel = self.servers.channel(turn, own.as_deref())?;
        let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        send(&requests, self.lock(Subscription::open))?;
        let mut service =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut stream = service
            .delta_aggregated_resources(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| grpc::explain(server, &status))?
            .into_inner();
        tracing::info!("connected to xds-lite at {server}");
        self.numbers.connected(true);
        loop {
            let outcome = tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(response)) => {
                        *answered = true;
                        self.numbers.connected(true);
                        self.take_in(response)
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(grpc::explain(server, &status)),
                },
                Some(service) = self.wants.recv() => {
                    let outcome = self.lock(|subscription| subscription.want(&service));
                    self.put_into_force(&outcome);
                    outcome
                }
            };
            send(&requests, outcome.send)?;
        }
    }

    /// One response: judged, put into force, and only then answered.
    fn take_in(&self, response: DeltaDiscoveryResponse) -> Outcome {
        let outcome = self.lock(|subscription| subscription.on_response(response));
        for line in outcome.refused.iter().take(REFUSALS_LOGGED_MAX) {
            tracing::warn!("refused a resource, the one before stays in force: {line}");
        }
        if outcome.refused.len() > REFUSALS_LOGGED_MAX {
            tracing::warn!(
                "refused {} more in the same push",
                outcome.refused.len() - REFUSALS_LOGGED_MAX
            );
        }
        self.numbers.refused(outcome.refused.len());
        self.put_into_force(&outcome);
        if self.lock(|subscription| subscription.synced()) {
            self.readiness.met(Need::Resources);
        }
        outcome
    }

    fn put_into_force(&self, outcome: &Outcome) {
        if outcome.changed {
            let resources = self.lock(Subscription::resources);
            self.numbers.resources(self.lock(|held| held.holdings().count()));
            self.shared.publish(Arc::new(resources));
            self.changed.notify_one();
        }
    }

    fn lock<T>(&self, f: impl FnOnce(&mut Subscription) -> T) -> T {
        f(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn send(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    send: Vec<DeltaDiscoveryRequest>,
) -> Result<(), String> {
    for request in send {
        requests
            .try_send(request)
            .map_err(|_| "xds-lite does not read our answers".to_owned())?;
    }
    Ok(())
}

/// Keeps the copy on disk: some time after a change, off the control thread, and now and then while connected.
pub async fn keep_last_good(
    shared: Arc<Shared>,
    servers: Servers,
    held: Held,
    numbers: Arc<Numbers>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let Some(path) = last_good::path(&shared.config) else {
        return;
    };
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            // A change is kept even if the end comes with it.
            biased;
            () = changed.notified() => {
                tokio::select! {
                    () = tokio::time::sleep(SAVE_DELAY) => {}
                    () = stop.cancelled() => stopping = true,
                }
            }
            () = tokio::time::sleep(SAVE_AGAIN) => {
                if !numbers.is_connected() {
                    continue;
                }
            }
            () = stop.cancelled() => return,
        }
        let holdings = held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .holdings()
            .clone();
        save(path.clone(), holdings, &shared, &servers).await;
    }
}

async fn save(path: PathBuf, holdings: super::holdings::Holdings, shared: &Shared, servers: &Servers) {
    let service = shared.config.node.service.clone();
    let trust_domain = servers.control().trust_domain.clone();
    let write = move || {
        let bytes = last_good::encode(&holdings, &service, &trust_domain, SystemTime::now());
        last_good::write(&path, &bytes)
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!("the last good copy is not kept: {why}"),
        Err(error) => tracing::warn!(%error, "the last good copy is not kept"),
    }
}

/// Puts the last good copy into force, if there is one.
pub fn restore(shared: &Shared, servers: &Servers, held: &Held, numbers: &Numbers, readiness: &Readiness) {
    let Some(path) = last_good::path(&shared.config) else {
        return;
    };
    let trust_domain = &servers.control().trust_domain;
    let loaded = match last_good::load(
        &path,
        &shared.config.node.service,
        trust_domain,
        SystemTime::now(),
    ) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return,
        Err(why) => {
            tracing::error!("the last good copy is ignored: {why}; waiting for xds-lite");
            return;
        }
    };
    let mut subscription = held.lock().unwrap_or_else(PoisonError::into_inner);
    subscription.restore(loaded.holdings);
    let resources = subscription.resources();
    drop(subscription);
    shared.publish(Arc::new(resources));
    numbers.contact_before(loaded.age);
    let age = loaded.age.as_secs();
    if loaded.fresh {
        tracing::info!("the last good copy is in force, {age} s old, until xds-lite says otherwise");
        readiness.met(Need::Resources);
    } else {
        tracing::error!(
            "the last good copy is {age} s old, or from the future: it tells where services are, but allows nothing \
             until xds-lite says otherwise"
        );
    }
}
