//! Registration: an instance is there as long as its sidecar's stream, and a grace longer.
//!
//! ```text
//!  first message ──► registered ──► heartbeats ──┬─ leave ──────────► removed at once
//!                       ▲                        ├─ the stream ends ► released: the grace begins
//!                       └── another instance ────┘
//!                           message: replaced       xds-lite itself stops: left as it is, the sidecar moves on
//! ```

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_proto::name::ServiceName;
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::registration_server::Registration;
use mesh_proto::v1::{RegisterRequest, RegisterResponse};
use mesh_proto::{Faults, domain, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::caller;
use crate::control::Control;
use crate::registry::codec;

/// How often a sidecar is asked to say that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A stream that says nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How many changes of different instances may be under way at once.
const TURNS: usize = 64;

/// The service.
#[derive(Clone)]
pub struct RegistrationService {
    control: Arc<Control>,
    holders: Arc<Holders>,
}

impl RegistrationService {
    /// For this process.
    #[must_use]
    pub fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            holders: Arc::default(),
        }
    }
}

/// Which stream holds which instance: the newest. One that was overtaken releases nothing when it ends.
#[derive(Debug)]
struct Holders {
    streams: AtomicU64,
    by_name: Mutex<BTreeMap<String, u64>>,
    /// Held over a change of who holds a name and the change in the registry that follows from it, so that these do not
    /// overtake each other. A name always has the same one.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl Default for Holders {
    fn default() -> Self {
        Self {
            streams: AtomicU64::new(0),
            by_name: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        }
    }
}

impl Holders {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        name.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.turns[index].lock().await
    }

    /// The stream does not hold it any more; whether it did until now.
    fn give_up(&self, name: &str, stream: u64) -> bool {
        let mut by_name = self.lock();
        let held = by_name.get(name) == Some(&stream);
        if held {
            by_name.remove(name);
        }
        held
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    type RegisterStream = ReceiverStream<Result<RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let service = caller::service(request.extensions(), self.control.ca.trust_domain())?;
        let (answers, receiver) = mpsc::channel(1);
        let mut stream = Held {
            control: Arc::clone(&self.control),
            holders: Arc::clone(&self.holders),
            stream: self.holders.streams.fetch_add(1, Ordering::Relaxed),
            service,
            name: None,
        };
        tokio::spawn(async move {
            let ended = stream.serve(request.into_inner(), &answers).await;
            stream.end().await;
            if let Err(status) = ended {
                tracing::debug!(service = %stream.service, reason = status.message(), "a registration ended");
                let _ = answers.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One stream and what it holds.
struct Held {
    control: Arc<Control>,
    holders: Arc<Holders>,
    stream: u64,
    service: ServiceName,
    name: Option<String>,
}

impl Held {
    async fn serve(
        &mut self,
        mut requests: Streaming<RegisterRequest>,
        answers: &mpsc::Sender<Result<RegisterResponse, Status>>,
    ) -> Result<(), Status> {
        let control = Arc::clone(&self.control);
        loop {
            let request = tokio::select! {
                () = control.stop.cancelled() => {
                    return Err(Status::unavailable("this xds-lite stops; register at another replica"));
                }
                request = tokio::time::timeout(SILENCE_MAX, requests.message()) => request,
            };
            let request = request
                .map_err(|_| Status::deadline_exceeded(format!("nothing was heard for {SILENCE_MAX:?}")))??;
            let Some(request) = request else { return Ok(()) };
            let leave = request.leave;
            if let Some(instance) = request.instance {
                self.register(instance).await?;
            } else if leave {
                self.leave().await?;
            } else {
                continue;
            }
            let answer = RegisterResponse {
                name: self.name.clone().unwrap_or_default(),
                replica: control.replica.clone(),
                heartbeat_interval: prost_types::Duration::try_from(HEARTBEAT).ok(),
            };
            let sent = tokio::time::timeout(SILENCE_MAX, answers.send(Ok(answer))).await;
            if leave || !matches!(sent, Ok(Ok(()))) {
                return Ok(());
            }
        }
    }

    async fn register(&mut self, instance: v1::Instance) -> Result<(), Status> {
        self.control.loaded()?;
        let resource = Resource::Instance(instance.clone());
        domain::check(&resource).map_err(|faults| refused(&faults))?;
        let name = resource.name().to_owned();
        if name.split('/').next() != Some(self.service.as_str()) {
            return Err(Status::permission_denied(format!(
                "the certificate is that of {0}, but the instance is {name}; a sidecar registers {0}/<id> only",
                self.service
            )));
        }
        if self.name.as_ref().is_some_and(|held| *held != name) {
            return Err(Status::invalid_argument(format!(
                "this stream holds {}; register {name} on a stream of its own",
                self.name.clone().unwrap_or_default()
            )));
        }
        let _turn = self.holders.turn(&name).await;
        self.holders.lock().insert(name.clone(), self.stream);
        let first = self.name.replace(name.clone()).is_none();
        self.control.registry.register(instance).await?;
        if first {
            tracing::info!(instance = name, "registered");
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), Status> {
        let Some(name) = self.name.clone() else {
            return Err(Status::failed_precondition(
                "nothing was registered on this stream",
            ));
        };
        let _turn = self.holders.turn(&name).await;
        if self.holders.give_up(&name, self.stream) {
            self.control.registry.leave(&name).await?;
            tracing::info!(instance = name, "left");
        }
        Ok(())
    }

    /// The stream is over. When this process stops, its instances are left for the sidecars to take elsewhere.
    async fn end(&self) {
        let Some(name) = &self.name else { return };
        let _turn = self.holders.turn(name).await;
        if self.holders.give_up(name, self.stream) && !self.control.stop.is_cancelled() {
            tracing::info!(instance = name, "its stream ended; it stays for the grace");
            self.control.registry.release(name).await;
        }
    }
}

fn refused(faults: &Faults) -> Status {
    Status::invalid_argument(codec::one_line(faults))
}
