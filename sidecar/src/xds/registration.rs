//! Tells the mesh that this app is there, for as long as the stream stands.
//!
//! ```text
//!  ready ─► registering ─► registered (heartbeats) ──drain──► registered as draining ──leave──► gone
//!               ▲               │
//!               └── next server ┴─ lost: the registry keeps the instance for a grace period
//! ```

use std::sync::Arc;
use std::time::Duration;

use mesh_link::grpc;
use mesh_proto::v1::registration_client::RegistrationClient;
use mesh_proto::v1::{self, RegisterRequest, RegisterResponse, instance_spec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, random};
use super::numbers::Numbers;
use super::servers::Servers;
use crate::config::Inbound;
use crate::shared::Phase;
use crate::{Config, Shared};

/// First and longest wait between two tries; the first is short against the registry's grace period.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// A server that says nothing about heartbeats, or something strange.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);
const HEARTBEAT_LEAST: Duration = Duration::from_millis(100);
const HEARTBEAT_MOST: Duration = Duration::from_secs(60);
/// How long an answer to a registration may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
const REQUESTS_WAITING_MAX: usize = 16;

/// See the module.
pub struct Registration {
    /// Phase and certificate.
    pub shared: Arc<Shared>,
    /// Whom to tell.
    pub servers: Servers,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// What to tell.
    pub instance: v1::Instance,
}

enum End {
    Left,
    Lost { answered: bool, why: String },
}

/// The instance of a sidecar whose inbound port is `port`.
#[must_use]
pub fn instance(config: &Config, inbound: &Inbound, port: u16) -> v1::Instance {
    let locality = &config.node.locality;
    let transport = if inbound.plaintext {
        instance_spec::Transport::Plaintext
    } else {
        instance_spec::Transport::Mtls
    };
    v1::Instance {
        metadata: Some(v1::Metadata {
            name: config.node.name().to_string(),
            ..Default::default()
        }),
        spec: Some(v1::InstanceSpec {
            address: config.node.address.to_string(),
            port: port.into(),
            locality: Some(v1::Locality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                sub_zone: locality.sub_zone.to_string(),
            }),
            weight: 0,
            health: instance_spec::Health::Serving.into(),
            transport: transport.into(),
        }),
    }
}

impl Registration {
    /// Registers once the sidecar is ready, and keeps at it until `leave`. Returns when it has left.
    pub async fn run(mut self, leave: CancellationToken) {
        let mut phase = self.shared.phase();
        let begun = tokio::select! {
            begun = phase.wait_for(|phase| *phase != Phase::Starting) => begun.is_ok_and(|phase| *phase == Phase::Ready),
            () = leave.cancelled() => false,
        };
        // One that ends before it was ready has nothing to tell.
        if !begun {
            return;
        }
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        let mut told = String::new();
        for turn in 0.. {
            let end = self.one_stream(turn, &leave).await;
            self.numbers.registered(false);
            let End::Lost { answered, why } = end else {
                return;
            };
            if why != told {
                tracing::warn!("not registered: {why}; trying the next xds-lite");
                told = why;
            }
            if answered {
                backoff.reset();
                told.clear();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next(random())) => {}
                () = leave.cancelled() => return,
            }
        }
    }

    async fn one_stream(&mut self, turn: usize, leave: &CancellationToken) -> End {
        let server = self.servers.at(turn).to_owned();
        let mut answered = false;
        match self.stream(turn, &server, &mut answered, leave).await {
            Ok(()) if leave.is_cancelled() => End::Left,
            Ok(()) => End::Lost {
                answered,
                why: format!("{server} ended the stream"),
            },
            Err(why) => End::Lost { answered, why },
        }
    }

    async fn stream(
        &mut self,
        turn: usize,
        server: &str,
        answered: &mut bool,
        leave: &CancellationToken,
    ) -> Result<(), String> {
        let own = self.shared.credentials();
        let channel = self.servers.channel(turn, own.as_deref())?;
        let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        let mut phase = self.shared.phase();
        send(&requests, self.register(*phase.borrow_and_update()))?;
        let mut service = RegistrationClient::new(channel);
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, service.register(ReceiverStream::new(outgoing)));
        let mut stream = tokio::select! {
            opened = opening => opened
                .map_err(|_| format!("{server} did not answer in time"))?
                .map_err(|status| grpc::explain(server, &status))?
                .into_inner(),
            () = leave.cancelled() => return Ok(()),
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT_DEFAULT);
        let unanswered = tokio::time::sleep(ANSWER_TIMEOUT);
        tokio::pin!(unanswered);
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(response)) => {
                        if !std::mem::replace(answered, true) {
                            tracing::info!("registered {} at xds-lite {server}", response.name);
                            heartbeat = tokio::time::interval(interval(&response));
                            self.numbers.registered(true);
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(grpc::explain(server, &status)),
                },
                () = &mut unanswered, if !*answered => return Err(format!("{server} did not answer in time")),
                _ = heartbeat.tick(), if *answered => send(&requests, RegisterRequest::default())?,
                Ok(()) = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    send(&requests, self.register(now))?;
                }
                () = leave.cancelled() => {
                    send(&requests, RegisterRequest { instance: None, leave: true })?;
                    drop(requests);
                    let ended = async { while let Ok(Some(_)) = stream.message().await {} };
                    let _ = tokio::time::timeout(LEAVE_TIMEOUT, ended).await;
                    return Ok(());
                }
            }
        }
    }

    fn register(&self, phase: Phase) -> RegisterRequest {
        let mut instance = self.instance.clone();
        if let (Phase::Draining, Some(spec)) = (phase, &mut instance.spec) {
            spec.health = instance_spec::Health::Draining.into();
        }
        RegisterRequest {
            instance: Some(instance),
            leave: false,
        }
    }
}

fn send(requests: &mpsc::Sender<RegisterRequest>, request: RegisterRequest) -> Result<(), String> {
    requests
        .try_send(request)
        .map_err(|_| "xds-lite does not read our heartbeats".to_owned())
}

fn interval(response: &RegisterResponse) -> Duration {
    response
        .heartbeat_interval
        .and_then(|told| Duration::try_from(told).ok())
        .filter(|told| !told.is_zero())
        .unwrap_or(HEARTBEAT_DEFAULT)
        .clamp(HEARTBEAT_LEAST, HEARTBEAT_MOST)
}
