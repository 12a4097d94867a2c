//! Schemas that services tell about themselves: `schema: {reflection: true}`, asked, refreshed and swapped under traffic.
//!
//! ```text
//!  services in force ─► Timetable (pure: what is due, whom to ask) ─► reflection ─► compile ─► Shared.publish_schema
//!  a connection made anew, a method nobody knows ─► at most one question in five seconds, one at a time
//! ```
//!
//! A question that fails keeps the schema there is. Its own app is asked at its own address, other services at one of their
//! instances: in plaintext where that is the service itself, over mutual TLS where it is its sidecar, which judges the
//! question as any other call.

mod timetable;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mesh_link::{grpc, reflection, tls};
use mesh_proto::domain::{Health, SchemaHash, SchemaSource, Transport};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use mesh_transcode::Schema;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use timetable::{Answer, Change, Question, Server, Timetable};

use crate::Shared;
use crate::readiness::{Need, Readiness};
use crate::xds::backoff::random;
use crate::xds::numbers::Numbers;

/// Most instances of a service that are considered for a question.
const SERVERS_MAX: usize = 16;

/// Asks services for their schemas, for as long as the sidecar lives.
pub struct Reflect {
    /// Where schemas go.
    pub shared: Arc<Shared>,
    /// Services whose schema may have changed.
    pub stale: mpsc::Receiver<ServiceName>,
    /// What is measured.
    pub numbers: Arc<Numbers>,
    /// Told of the first schema.
    pub readiness: Arc<Readiness>,
    /// How it goes.
    pub status: Status,
}

/// How it goes, for the admin page. Never locked across a wait.
#[derive(Clone, Default)]
pub struct Status(Arc<Mutex<Timetable>>);

impl Status {
    /// By service: whom was asked, with what result, and when next.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.lock().to_json(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Timetable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reflect {
    /// Runs until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut questions: JoinSet<(Question, Result<Answer, String>)> = JoinSet::new();
        let mut changes = self.shared.changes();
        loop {
            let now = Instant::now();
            let gone = self.status.lock().follow(now, &wanted(&self.shared));
            for service in gone {
                self.shared.publish_schema(service, None);
            }
            for question in self.status.lock().due(now) {
                let shared = self.shared.clone();
                questions.spawn(async move {
                    let answer = ask(&shared, &question).await;
                    (question, answer)
                });
            }
            let wake = self.status.lock().next_wake().map(tokio::time::Instant::from_std);
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                Ok(()) = changes.changed() => {}
                Some(service) = self.stale.recv() => self.status.lock().stale(Instant::now(), &service),
                Some(Ok((question, answer))) = questions.join_next() => self.take_in(&question, answer),
                () = stop.cancelled() => return,
            }
        }
    }

    fn take_in(&self, question: &Question, answer: Result<Answer, String>) {
        self.numbers.reflection(answer.is_ok());
        let change = self
            .status
            .lock()
            .answered(Instant::now(), random(), question, answer);
        if let Some(Change { service, schema }) = change {
            self.shared.publish_schema(service, Some(schema));
            self.readiness.met(Need::Schema);
        }
    }
}

/// Services whose schema is to be asked for, each with whom to ask.
fn wanted(shared: &Shared) -> Vec<(ServiceName, Vec<Server>)> {
    let snapshot = shared.snapshot();
    let resources = &snapshot.resources;
    let reflected = resources
        .services
        .values()
        .filter(|service| service.schema == Some(SchemaSource::Reflection));
    let own_app = shared.config.inbound.as_ref().map(|inbound| inbound.app);
    let servers = |name: &ServiceName| -> Vec<Server> {
        if let Some(app) = own_app.filter(|_| *name == shared.config.node.service) {
            return vec![Server {
                address: app.to_string(),
                transport: Transport::Plaintext,
            }];
        }
        let instances = resources
            .instances
            .get(name)
            .into_iter()
            .flat_map(|all| all.values());
        instances
            .filter(|instance| instance.health == Health::Serving)
            .take(SERVERS_MAX)
            .map(|instance| Server {
                address: host_and_port(&instance.address, instance.port),
                transport: instance.transport,
            })
            .collect()
    };
    reflected
        .map(|service| (service.name.clone(), servers(&service.name)))
        .collect()
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn ask(shared: &Shared, question: &Question) -> Result<Answer, String> {
    let channel = match question.server.transport {
        Transport::Plaintext => grpc::plain_channel(&question.server.address)?,
        Transport::Mtls => {
            let own = shared
                .credentials()
                .ok_or("this sidecar has no certificate yet")?;
            let domain = TrustDomain::parse(own.id.trust_domain())?;
            let expected = SpiffeId::service(&domain, &question.service);
            let tls = tls::client_config(Some(&own), &own.authorities, expected)?;
            grpc::channel_to(&question.server.address, question.service.as_str(), tls)?
        }
    };
    let reflected = reflection::collect(channel).await?;
    let hash = SchemaHash::of(&reflected.descriptor_set);
    let (version, services) = (reflected.version, reflected.services.len());
    if question.held.as_ref() == Some(&hash) {
        return Ok(Answer {
            hash,
            version,
            services,
            schema: None,
        });
    }
    // A large set takes a while to compile, and the control thread has other things to do.
    let compiled = tokio::task::spawn_blocking(move || Schema::compile(&reflected.descriptor_set)).await;
    let schema = compiled
        .map_err(|error| format!("the schema could not be compiled: {error}"))?
        .map_err(|faults| {
            format!(
                "the schema is refused: {}",
                faults.to_string().replace('\n', "; ")
            )
        })?;
    Ok(Answer {
        hash,
        version,
        services,
        schema: Some(schema.into()),
    })
}
