//! The client's side of the delta stream, as a value: what to ask for, what to make of an answer, what to answer to that.
//!
//! ```text
//!  open ──► one request a kind ──► stream ──► on_response ──► ACK or NACK, further requests, new resources
//!                                               want (a service on first use) ──► further requests
//! ```
//!
//! Knows no socket and no clock. A bad resource is refused alone and what it would have replaced stays in force. Losing
//! the stream changes nothing; the next one begins by saying what is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_proto::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_proto::google::rpc;
use mesh_proto::kind::Kind;
use mesh_proto::name::{ServiceName, TrustDomain};

use super::holdings::{ENDPOINTS_MAX, Holding, Holdings, SNAPSHOT_BYTES_MAX};
use super::{judge, node};
use crate::{Config, Resources};

/// Most services learnt on first use. Over it, one that does not exist is forgotten for the new one.
pub const LEARNT_MAX: usize = 1000;
/// Longest refusal of one response, in bytes: below what a gRPC server reads by default.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// Every name of a kind.
const ALL: &str = "*";

/// What came of a response.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be sent, in this order, once the change is in force: the answer first.
    pub send: Vec<DeltaDiscoveryRequest>,
    /// Whether there is something new to put into force.
    pub changed: bool,
    /// One line for each resource that was refused.
    pub refused: Vec<String>,
}

/// See the module.
pub struct Subscription {
    node: discovery::Node,
    trust_domain: TrustDomain,
    names: BTreeMap<Kind, BTreeSet<String>>,
    /// Services learnt on first use, oldest first.
    learnt: VecDeque<ServiceName>,
    holdings: Holdings,
    stream: Option<Stream>,
    synced: bool,
}

/// What holds for one stream only.
#[derive(Default)]
struct Stream {
    /// Names of the first request of a kind, until its first response: that answers all of them.
    first: BTreeMap<Kind, BTreeSet<String>>,
    /// Names subscribed to later, until each is mentioned.
    later: BTreeMap<Kind, BTreeSet<String>>,
    begun: BTreeSet<Kind>,
    node_sent: bool,
}

impl Subscription {
    /// For a sidecar that was told this.
    #[must_use]
    pub fn new(config: &Config, trust_domain: TrustDomain) -> Self {
        let mut subscription = Self {
            node: node::describe(config),
            trust_domain,
            names: BTreeMap::new(),
            learnt: VecDeque::new(),
            holdings: Holdings::default(),
            stream: None,
            synced: false,
        };
        for kind in [Kind::Mesh, Kind::TrustBundle, Kind::JwtProvider] {
            subscription.note(kind, ALL.to_owned());
        }
        let own = &config.node.service;
        subscription.note(Kind::Service, own.to_string());
        subscription.note(Kind::AccessPolicy, glob(own));
        let exposed = config.edge.iter().flat_map(|edge| &edge.expose);
        for exposed in exposed {
            // The edge judges too, before anything of a call enters the mesh.
            subscription.note(Kind::AccessPolicy, glob(&exposed.service));
            subscription.note_callee(&exposed.service);
        }
        for service in &config.dependencies {
            subscription.note_callee(service);
        }
        subscription
    }

    fn note(&mut self, kind: Kind, name: String) -> bool {
        self.names.entry(kind).or_default().insert(name)
    }

    fn note_callee(&mut self, service: &ServiceName) {
        self.note(Kind::Service, service.to_string());
        self.note(Kind::Instance, glob(service));
    }

    /// Begins with what was held before, from disk.
    pub fn restore(&mut self, holdings: Holdings) {
        self.holdings = holdings;
        for hash in self.holdings.schemas_mentioned() {
            self.note(Kind::Schema, hash);
        }
    }

    /// What is held.
    #[must_use]
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// What the data path is to see.
    pub fn resources(&mut self) -> Resources {
        self.holdings.resources()
    }

    /// Whether everything that was asked for at the beginning has been answered once.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Begins a stream: the first requests, one a kind, each with what is held of it.
    pub fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.stream = Some(Stream::default());
        let names = self.names.clone();
        names
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .flat_map(|(kind, names)| self.subscribe(kind, names))
            .collect()
    }

    /// The stream is gone. What is held stays.
    pub fn lost(&mut self) {
        self.stream = None;
    }

    /// A service that was called for the first time.
    pub fn want(&mut self, service: &ServiceName) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.note(Kind::Instance, glob(service)) {
            return outcome;
        }
        self.make_room(&mut outcome);
        self.learnt.push_back(service.clone());
        if self.note(Kind::Service, service.to_string()) {
            let names = [service.to_string()].into();
            outcome.send.extend(self.subscribe(Kind::Service, names));
        }
        let names = [glob(service)].into();
        outcome.send.extend(self.subscribe(Kind::Instance, names));
        outcome
    }

    /// Forgets the oldest learnt service that does not exist, or else the oldest, where there are too many.
    fn make_room(&mut self, outcome: &mut Outcome) {
        if self.learnt.len() < LEARNT_MAX {
            return;
        }
        let exists = |service: &ServiceName| self.holdings.get(Kind::Service, service.as_str()).is_some();
        let index = self.learnt.iter().position(|service| !exists(service));
        let Some(service) = self.learnt.remove(index.unwrap_or(0)) else {
            return;
        };
        outcome.changed = true;
        outcome
            .send
            .extend(self.unsubscribe(Kind::Instance, glob(&service)));
        self.holdings.remove_under(Kind::Instance, &under(&service));
        self.holdings.instances_known.remove(&service);
        // The own service stays: it was asked for by configuration.
        if service.as_str() != self.node.cluster {
            outcome
                .send
                .extend(self.unsubscribe(Kind::Service, service.to_string()));
            self.holdings.remove(Kind::Service, service.as_str());
            self.holdings.services_known.remove(&service);
        }
    }

    fn subscribe(&mut self, kind: Kind, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let held = || {
            let held = self.holdings.of(kind);
            held.map(|(name, holding)| (name.clone(), holding.version.to_string()))
                .collect()
        };
        let stream = self.stream.as_mut()?;
        let begins = stream.begun.insert(kind);
        let waiting = if begins {
            &mut stream.first
        } else {
            &mut stream.later
        };
        waiting.entry(kind).or_default().extend(names.iter().cloned());
        let node_sent = std::mem::replace(&mut stream.node_sent, true);
        Some(DeltaDiscoveryRequest {
            node: (!node_sent).then(|| self.node.clone()),
            type_url: kind.type_url().into(),
            resource_names_subscribe: names.into_iter().collect(),
            initial_resource_versions: if begins { held() } else { BTreeMap::new() },
            ..Default::default()
        })
    }

    fn unsubscribe(&mut self, kind: Kind, name: String) -> Option<DeltaDiscoveryRequest> {
        if let Some(names) = self.names.get_mut(&kind) {
            names.remove(&name);
        }
        let stream = self.stream.as_mut()?;
        for waiting in [&mut stream.first, &mut stream.later] {
            if let Some(names) = waiting.get_mut(&kind) {
                names.remove(&name);
            }
        }
        Some(DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names_unsubscribe: vec![name],
            ..Default::default()
        })
    }

    /// Takes in one response: every resource is judged by itself.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(kind) = Kind::from_type_url(&response.type_url) else {
            let line = format!("{:?} is not a type this sidecar asked for", response.type_url);
            outcome.send.push(answer(
                response.type_url,
                response.nonce,
                std::slice::from_ref(&line),
            ));
            outcome.refused.push(line);
            return outcome;
        };
        self.mark_answered(kind, &response);
        if let Some(why) = self.too_large(kind, &response) {
            for resource in &response.resources {
                outcome.refused.push(format!("{}: {why}", resource.name));
                outcome.changed |= self.close(kind, &resource.name);
            }
        } else {
            self.apply(kind, &response, &mut outcome);
        }
        outcome
            .send
            .push(answer(response.type_url, response.nonce, &outcome.refused));
        outcome.send.extend(self.follow_schemas(&mut outcome.changed));
        let stream = self.stream.as_ref();
        self.synced |= stream.is_some_and(|stream| {
            let done = |waiting: &BTreeMap<_, BTreeSet<_>>| waiting.values().all(BTreeSet::is_empty);
            done(&stream.first) && done(&stream.later)
        });
        outcome
    }

    /// Notes which names have been answered, and with them which services are known.
    fn mark_answered(&mut self, kind: Kind, response: &DeltaDiscoveryResponse) {
        let names = response.resources.iter().map(|resource| &resource.name);
        for name in names.chain(&response.removed_resources) {
            let service = name.split('/').next().unwrap_or(name);
            if let Some(stream) = &mut self.stream
                && let Some(later) = stream.later.get_mut(&kind)
            {
                later.remove(name);
                later.remove(&format!("{service}/*"));
            }
            if !covers(self.names.get(&kind), name) {
                continue;
            }
            let known = match kind {
                Kind::Service => &mut self.holdings.services_known,
                Kind::Instance => &mut self.holdings.instances_known,
                Kind::AccessPolicy => &mut self.holdings.policies_known,
                _ => continue,
            };
            known.extend(ServiceName::parse(service));
        }
        if let Some(stream) = &mut self.stream {
            stream.first.remove(&kind);
        }
    }

    /// Judged before anything is applied, so that a snapshot is never half too large.
    fn too_large(&self, kind: Kind, response: &DeltaDiscoveryResponse) -> Option<String> {
        let (mut bytes, mut count) = (self.holdings.bytes(), self.holdings.endpoints());
        // What is replaced or removed makes room, each name once however often it stands there.
        let names = response.resources.iter().map(|resource| &resource.name);
        let leaving: BTreeSet<&String> = names.chain(&response.removed_resources).collect();
        for old in leaving.iter().filter_map(|name| self.holdings.get(kind, name)) {
            bytes -= old.bytes.len();
            count -= usize::from(kind == Kind::Instance);
        }
        for resource in &response.resources {
            bytes += resource.resource.as_ref().map_or(0, |any| any.value.len());
            count += usize::from(kind == Kind::Instance);
        }
        if bytes > SNAPSHOT_BYTES_MAX {
            Some(format!(
                "with this push the snapshot would be {bytes} bytes; at most {SNAPSHOT_BYTES_MAX} are allowed"
            ))
        } else if count > ENDPOINTS_MAX {
            Some(format!(
                "with this push there would be {count} instances; at most {ENDPOINTS_MAX} are allowed"
            ))
        } else {
            None
        }
    }

    fn apply(&mut self, kind: Kind, response: &DeltaDiscoveryResponse, outcome: &mut Outcome) {
        let mut seen = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for resource in &response.resources {
            if !seen.insert(&resource.name) {
                twice.insert(&resource.name);
            }
        }
        for resource in &response.resources {
            // Something unsubscribed a moment ago may still be under way; it is nobody's.
            if !covers(self.names.get(&kind), &resource.name) {
                continue;
            }
            let judged = if twice.contains(&resource.name) {
                Err(format!("{}: stands twice in one push", resource.name))
            } else {
                self.judge(kind, resource)
            };
            match judged {
                Ok(holding) => {
                    self.holdings.put(kind, &resource.name, holding);
                    outcome.changed = true;
                }
                Err(line) => {
                    outcome.changed |= self.close(kind, &resource.name);
                    outcome.refused.push(line);
                }
            }
        }
        for name in &response.removed_resources {
            outcome.changed |= match name.strip_suffix(ALL) {
                Some(prefix) => self.holdings.remove_under(kind, prefix),
                None => self.holdings.remove(kind, name),
            };
        }
        // That there is nothing is news as well.
        outcome.changed |=
            matches!(kind, Kind::Service | Kind::AccessPolicy) && !response.removed_resources.is_empty();
    }

    /// A refused policy without a good predecessor closes its service: missing security policy denies.
    fn close(&mut self, kind: Kind, name: &str) -> bool {
        kind == Kind::AccessPolicy && covers(self.names.get(&kind), name) && self.holdings.refuse_policy(name)
    }

    fn judge(&self, kind: Kind, resource: &discovery::Resource) -> Result<Holding, String> {
        let name = &resource.name;
        let any = resource
            .resource
            .as_ref()
            .ok_or_else(|| format!("{name}: is empty; no message was pushed with it"))?;
        if any.type_url != kind.type_url() {
            return Err(format!("{name}: is a {:?}, pushed as {kind}", any.type_url));
        }
        let value = match self.holdings.get(kind, name) {
            // Compiling a schema again is dear, and its name says that it is the same.
            Some(held) if *held.bytes == *any.value => held.value.clone(),
            _ => judge::judge(kind, name, &any.value, Some(&self.trust_domain))?,
        };
        Ok(Holding {
            version: resource.version.as_str().into(),
            bytes: any.value.as_slice().into(),
            value,
        })
    }

    /// Subscribes to the schemas that services mention, and drops those that none does any more.
    fn follow_schemas(&mut self, changed: &mut bool) -> Vec<DeltaDiscoveryRequest> {
        if *changed {
            // Settles which services have their schema by now.
            self.holdings.resources();
        }
        let mentioned = self.holdings.schemas_mentioned();
        let subscribed = self.names.get(&Kind::Schema).cloned().unwrap_or_default();
        let fresh: BTreeSet<String> = mentioned.difference(&subscribed).cloned().collect();
        let mut send = Vec::new();
        if !fresh.is_empty() {
            for hash in &fresh {
                self.note(Kind::Schema, hash.clone());
            }
            send.extend(self.subscribe(Kind::Schema, fresh));
        }
        for hash in subscribed.difference(&mentioned) {
            send.extend(self.unsubscribe(Kind::Schema, hash.clone()));
            *changed |= self.holdings.remove(Kind::Schema, hash);
        }
        send
    }
}

/// Whether a name is one that was asked for.
fn covers(names: Option<&BTreeSet<String>>, name: &str) -> bool {
    let Some(names) = names else {
        return false;
    };
    names.contains(name)
        || names.contains(ALL)
        || name
            .split_once('/')
            .is_some_and(|(service, _)| names.contains(&format!("{service}/*")))
}

fn glob(service: &ServiceName) -> String {
    format!("{service}/*")
}

fn under(service: &ServiceName) -> String {
    format!("{service}/")
}

/// An ACK, or a NACK with one line for each refused resource.
fn answer(type_url: String, nonce: String, refused: &[String]) -> DeltaDiscoveryRequest {
    let error_detail = (!refused.is_empty()).then(|| {
        let mut message = String::new();
        for line in refused {
            if message.len() + line.len() > REFUSAL_BYTES_MAX {
                break;
            }
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(line);
        }
        rpc::Status {
            code: tonic::Code::InvalidArgument as i32,
            message,
            details: Vec::new(),
        }
    });
    DeltaDiscoveryRequest {
        type_url,
        response_nonce: nonce,
        error_detail,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
