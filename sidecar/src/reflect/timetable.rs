//! When to ask which service for its schema, and whom. Knows no socket and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_proto::domain::{SchemaHash, Transport};
use mesh_proto::name::ServiceName;
use mesh_transcode::Schema;
use serde_json::{Map, Value, json};

use crate::xds::backoff::Backoff;

/// Schemas are asked for again this long after a good answer, …
pub(super) const REFRESH: Duration = Duration::from_secs(60);
/// … moved by up to this share to either side, so that sidecars do not all ask at once.
const REFRESH_JITTER: f64 = 0.2;
/// And not sooner than this after any question, whatever callers send.
pub(super) const REFRESH_LEAST: Duration = Duration::from_secs(5);
/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Who can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// Whether it is the service itself, or its sidecar.
    pub transport: Transport,
}

/// To be asked now.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose schema.
    pub service: ServiceName,
    /// Whom to ask.
    pub server: Server,
    /// What is in force; the same again need not be compiled.
    pub held: Option<SchemaHash>,
}

/// What a server said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Of its descriptors.
    pub hash: SchemaHash,
    /// Of reflection: `v1` or `v1alpha`.
    pub version: &'static str,
    /// How many services it has.
    pub services: usize,
    /// Compiled; `None` if it is the schema in force.
    pub schema: Option<Arc<Schema>>,
}

/// A schema to put into force.
#[derive(Debug)]
pub struct Change {
    /// Whose.
    pub service: ServiceName,
    /// From now on.
    pub schema: Arc<Schema>,
}

/// All services whose schema is asked for.
#[derive(Default)]
pub struct Timetable {
    entries: BTreeMap<ServiceName, Entry>,
}

struct Entry {
    servers: Vec<Server>,
    /// Which of them is asked next.
    turn: usize,
    due: Instant,
    tried: Option<Instant>,
    asking: bool,
    backoff: Backoff,
    held: Option<Held>,
    /// The newest failure since the last good answer; the same again is not news.
    failure: String,
}

struct Held {
    hash: SchemaHash,
    version: &'static str,
    services: usize,
    from: String,
    confirmed: Instant,
}

impl Timetable {
    /// Takes up new services, due at once, and lets those go that are no more: they are given back. A service whose
    /// instances changed is asked soon.
    pub fn follow(&mut self, now: Instant, wanted: &[(ServiceName, Vec<Server>)]) -> Vec<ServiceName> {
        let stays = |name: &ServiceName| wanted.iter().any(|(wanted, _)| wanted == name);
        let gone: Vec<ServiceName> = self.entries.keys().filter(|name| !stays(name)).cloned().collect();
        self.entries.retain(|name, _| stays(name));
        for (name, servers) in wanted {
            let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry {
                servers: servers.clone(),
                turn: 0,
                due: now,
                tried: None,
                asking: false,
                backoff: Backoff::new(RETRY_FIRST, RETRY_MOST),
                held: None,
                failure: String::new(),
            });
            if entry.servers != *servers {
                entry.servers.clone_from(servers);
                entry.hasten(now);
            }
        }
        gone
    }

    /// Something hints at another schema: a connection made anew, or a method nobody knows.
    pub fn stale(&mut self, now: Instant, service: &ServiceName) {
        if let Some(entry) = self.entries.get_mut(service) {
            entry.hasten(now);
        }
    }

    /// What to ask now; each service once at a time.
    pub fn due(&mut self, now: Instant) -> Vec<Question> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.asking || entry.due > now || entry.servers.is_empty() {
                continue;
            }
            let Some(server) = entry.servers.get(entry.turn % entry.servers.len()) else {
                continue;
            };
            entry.asking = true;
            entry.tried = Some(now);
            due.push(Question {
                service: name.clone(),
                server: server.clone(),
                held: entry.held.as_ref().map(|held| held.hash.clone()),
            });
        }
        due
    }

    /// What came of a question. `random` is between 0 and 1.
    pub fn answered(
        &mut self,
        now: Instant,
        random: f64,
        question: &Question,
        answer: Result<Answer, String>,
    ) -> Option<Change> {
        let service = &question.service;
        let entry = self.entries.get_mut(service)?;
        entry.asking = false;
        let from = &question.server.address;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                entry.turn = entry.turn.wrapping_add(1);
                entry.due = now + entry.backoff.next(random);
                if why != entry.failure {
                    let left = match &entry.held {
                        Some(_) => "the one before stays in force",
                        None => "there is none yet, so only gRPC callers are served; asking again",
                    };
                    tracing::warn!("the schema of {service} was not read from {from}: {why}; {left}");
                    entry.failure = why;
                }
                return None;
            }
        };
        entry.due = now + REFRESH.mul_f64(1.0 + REFRESH_JITTER * (2.0 * random - 1.0));
        entry.backoff.reset();
        entry.failure.clear();
        let (version, services) = (answer.version, answer.services);
        entry.held = Some(Held {
            hash: answer.hash,
            version,
            services,
            from: from.clone(),
            confirmed: now,
        });
        let schema = answer.schema?;
        let methods = schema.methods().count();
        tracing::info!(
            "schema of {service} in force, by reflection {version} from {from}: {services} services, {methods} methods"
        );
        Some(Change {
            service: service.clone(),
            schema,
        })
    }

    /// When there is something to do next, if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let waiting = self
            .entries
            .values()
            .filter(|entry| !entry.asking && !entry.servers.is_empty());
        waiting.map(|entry| entry.due).min()
    }

    /// How it goes, by service.
    #[must_use]
    pub fn to_json(&self, now: Instant) -> Value {
        let seconds = |at: Instant| now.saturating_duration_since(at).as_secs();
        let shown = self.entries.iter().map(|(name, entry)| {
            let held = entry.held.as_ref().map(|held| {
                json!({
                    "hash": held.hash.as_str(),
                    "version": held.version,
                    "services": held.services,
                    "from": held.from,
                    "confirmedSecondsAgo": seconds(held.confirmed),
                })
            });
            let state = match (&held, entry.failure.is_empty(), entry.servers.is_empty()) {
                (Some(_), true, _) => "good",
                (Some(_), false, _) => "last good",
                (None, _, true) => "no instance to ask",
                (None, true, false) => "asking",
                (None, false, false) => "failing",
            };
            let value = json!({
                "state": state,
                "inForce": held,
                "failure": Some(&entry.failure).filter(|why| !why.is_empty()),
                "triedSecondsAgo": entry.tried.map(seconds),
                "nextInSeconds": entry.due.saturating_duration_since(now).as_secs(),
                "servers": entry.servers.iter().map(|server| &server.address).collect::<Vec<_>>(),
            });
            (name.to_string(), value)
        });
        shown.collect::<Map<_, _>>().into()
    }
}

impl Entry {
    /// As soon as may be.
    fn hasten(&mut self, now: Instant) {
        let soonest = self.tried.map_or(now, |tried| tried + REFRESH_LEAST);
        self.due = self.due.min(soonest.max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceName {
        ServiceName::parse("market.quotes").unwrap()
    }

    fn wanted(addresses: &[&str]) -> Vec<(ServiceName, Vec<Server>)> {
        let servers = addresses.iter().map(|&address| Server {
            address: address.into(),
            transport: Transport::Plaintext,
        });
        vec![(service(), servers.collect())]
    }

    fn timetable(now: Instant) -> Timetable {
        let mut timetable = Timetable::default();
        assert!(timetable.follow(now, &wanted(&["a:1", "b:1"])).is_empty());
        timetable
    }

    fn answer(fill: u8, fresh: bool) -> Answer {
        let schema = fresh.then(|| Arc::new(Schema::compile(mesh_proto::DESCRIPTORS).unwrap()));
        Answer {
            hash: SchemaHash::of(&[fill]),
            version: "v1",
            services: 1,
            schema,
        }
    }

    fn ask(
        timetable: &mut Timetable,
        now: Instant,
        answer: Result<Answer, String>,
    ) -> (Question, Option<Change>) {
        let mut due = timetable.due(now);
        assert_eq!(due.len(), 1, "nothing is due");
        let question = due.remove(0);
        let change = timetable.answered(now, 0.5, &question, answer);
        (question, change)
    }

    #[test]
    fn a_new_service_is_asked_at_once_and_again_after_a_minute_and_the_same_answer_changes_nothing() {
        let now = Instant::now();
        let mut timetable = timetable(now);
        let (question, change) = ask(&mut timetable, now, Ok(answer(1, true)));
        assert_eq!(question.held, None);
        assert!(change.is_some());
        assert!(timetable.due(now + REFRESH - Duration::from_secs(1)).is_empty());
        assert_eq!(timetable.next_wake(), Some(now + REFRESH));
        let (question, change) = ask(&mut timetable, now + REFRESH, Ok(answer(1, false)));
        assert_eq!(question.held, Some(SchemaHash::of(&[1])));
        assert!(change.is_none());
        assert!(
            ask(&mut timetable, now + REFRESH * 2, Ok(answer(2, true)))
                .1
                .is_some()
        );
    }

    #[test]
    fn sidecars_that_began_together_do_not_ask_together() {
        let now = Instant::now();
        let next = |random: f64| {
            let mut timetable = timetable(now);
            let question = timetable.due(now).remove(0);
            timetable.answered(now, random, &question, Ok(answer(1, true)));
            timetable.next_wake().unwrap() - now
        };
        assert_eq!((next(0.0).as_secs(), next(1.0).as_secs()), (48, 72));
    }

    #[test]
    fn unknown_methods_cause_one_question_in_five_seconds_and_never_two_at_a_time() {
        let now = Instant::now();
        let mut timetable = timetable(now);
        ask(&mut timetable, now, Ok(answer(1, true)));
        for _ in 0..1000 {
            timetable.stale(now + Duration::from_secs(1), &service());
        }
        assert!(timetable.due(now + Duration::from_secs(4)).is_empty());
        let later = now + REFRESH_LEAST;
        assert_eq!(timetable.due(later).len(), 1);
        timetable.stale(later + REFRESH_LEAST, &service());
        assert!(timetable.due(later + REFRESH_LEAST).is_empty(), "two at a time");
        timetable.stale(now, &ServiceName::parse("nobody").unwrap());
    }

    #[test]
    fn a_failure_keeps_the_schema_asks_the_next_instance_and_waits_ever_longer() {
        let now = Instant::now();
        let mut timetable = timetable(now);
        ask(&mut timetable, now, Ok(answer(1, true)));
        let (mut at, mut waits, mut asked) = (now + REFRESH, Vec::new(), Vec::new());
        for _ in 0..10 {
            let (question, change) = ask(&mut timetable, at, Err("down".into()));
            assert!(change.is_none());
            assert!(question.held.is_some());
            asked.push(question.server.address);
            let next = timetable.next_wake().unwrap();
            waits.push(next - at);
            at = next;
        }
        assert_eq!(asked[..3], ["a:1", "b:1", "a:1"]);
        assert_eq!((waits[0], waits[9]), (RETRY_FIRST, RETRY_MOST));
        let shown = timetable.to_json(at);
        assert_eq!(shown["market.quotes"]["state"], "last good");
        assert_eq!(shown["market.quotes"]["failure"], "down");
        ask(&mut timetable, at, Ok(answer(1, false)));
        assert_eq!(timetable.to_json(at)["market.quotes"]["state"], "good");
    }

    #[test]
    fn a_service_without_instances_is_asked_once_one_comes_and_forgotten_when_it_goes() {
        let now = Instant::now();
        let mut timetable = Timetable::default();
        timetable.follow(now, &wanted(&[]));
        assert!(timetable.due(now).is_empty());
        assert_eq!(timetable.next_wake(), None);
        assert_eq!(
            timetable.to_json(now)["market.quotes"]["state"],
            "no instance to ask"
        );
        timetable.follow(now, &wanted(&["a:1"]));
        let question = timetable.due(now).remove(0);
        assert_eq!(timetable.follow(now, &[]), [service()]);
        assert!(
            timetable
                .answered(now, 0.5, &question, Ok(answer(1, true)))
                .is_none()
        );
    }

    #[test]
    fn other_instances_may_have_another_schema_and_are_asked_soon() {
        let now = Instant::now();
        let mut timetable = timetable(now);
        ask(&mut timetable, now, Ok(answer(1, true)));
        let later = now + Duration::from_secs(20);
        timetable.follow(later, &wanted(&["c:1"]));
        assert_eq!(timetable.due(later).remove(0).server.address, "c:1");
    }
}
