//! What was read from ZooKeeper, and what it means. Pure: nodes in, [`State`] out.
//!
//! ```text
//!                      owner's replica node is still there, or the owner is no replica
//!   node ── vanishes ──┬──────────────────────────────────────────────────────────► dropped at once
//!                      └─ the owner's replica node is gone too (session expired) ──► orphan ── grace ──► dropped
//!                                                                                      └─ node again ──► back
//! ```
//!
//! A node that cannot be read keeps its last good content, and the reason is told with its path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_proto::Kind;

use super::layout::{Layout, Place};
use crate::registry::codec;
use crate::registry::exposures::{self, Exposures};
use crate::registry::grace::Grace;
use crate::registry::{Key, State, Stored};

/// Most sessions of former replicas that are remembered.
const SESSIONS_MAX: usize = 1000;

/// The part of a node's stat that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Transaction that made it.
    pub czxid: i64,
    /// Transaction that last wrote it.
    pub mzxid: i64,
    /// Counts its writes.
    pub version: i32,
    /// Session it lives with; 0: it stays.
    pub owner: i64,
    /// Milliseconds since 1970 of the last write.
    pub mtime: i64,
}

impl Seen {
    /// For compare-and-set: the node's birth and the number of its writes since. With the time, since an ensemble that
    /// lost its data counts from the beginning again.
    #[must_use]
    pub fn revision(&self) -> String {
        format!("{:x}-{:x}.{}", self.czxid, self.mtime, self.version)
    }
}

impl From<zookeeper::Stat> for Seen {
    fn from(stat: zookeeper::Stat) -> Self {
        Self {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            version: stat.version,
            owner: stat.ephemeral_owner,
            mtime: stat.mtime,
        }
    }
}

/// When a node was made: transaction, and milliseconds since 1970. Both, since an ensemble that lost its data counts
/// transactions from the beginning again.
pub type Birth = (i64, i64);

#[derive(Debug)]
struct Slot {
    seen: Seen,
    stored: Option<Arc<Stored>>,
    fault: Option<String>,
}

#[derive(Debug)]
struct Replica {
    seen: Seen,
    address: String,
    edges: Exposures,
}

/// An instance whose node is gone, and why is not judged yet.
#[derive(Debug)]
struct Vanished {
    name: String,
    owner: i64,
    stored: Arc<Stored>,
}

/// The tree as last read.
#[derive(Debug)]
pub struct Tree {
    layout: Layout,
    documents: BTreeMap<Key, Slot>,
    instances: BTreeMap<String, Slot>,
    replicas: BTreeMap<String, Replica>,
    /// Sessions that belong, or belonged, to a replica.
    replica_sessions: BTreeSet<i64>,
    vanished: Vec<Vanished>,
    orphans: BTreeMap<String, Arc<Stored>>,
    grace: Grace,
    strange: BTreeMap<String, String>,
    /// Birth of the root node: another one means that everything was wiped.
    born: Option<Birth>,
    wiped: bool,
    last_read: Option<SystemTime>,
}

impl Tree {
    /// Nothing read yet.
    #[must_use]
    pub fn new(layout: Layout, grace: Duration) -> Self {
        Self {
            layout,
            documents: BTreeMap::new(),
            instances: BTreeMap::new(),
            replicas: BTreeMap::new(),
            replica_sessions: BTreeSet::new(),
            vanished: Vec::new(),
            orphans: BTreeMap::new(),
            grace: Grace::new(grace),
            strange: BTreeMap::new(),
            born: None,
            wiped: false,
            last_read: None,
        }
    }

    /// Whether this write of the node was read already.
    #[must_use]
    pub fn is_current(&self, place: &Place, mzxid: i64) -> bool {
        self.seen(place).is_some_and(|seen| seen.mzxid == mzxid)
    }

    /// The node as last seen.
    #[must_use]
    pub fn seen(&self, place: &Place) -> Option<Seen> {
        match place {
            Place::Document(key) => self.documents.get(key).map(|slot| slot.seen),
            Place::Instance(name) => self.instances.get(name).map(|slot| slot.seen),
            Place::Replica(id) => self.replicas.get(id).map(|replica| replica.seen),
            Place::Directory | Place::Strange(_) => None,
        }
    }

    /// A node was read.
    pub fn put(&mut self, place: &Place, data: &[u8], seen: Seen) {
        match place {
            Place::Document(key) => {
                // Somebody begins again: from now on the tree says what is meant.
                self.wiped = false;
                let old = self.documents.remove(key);
                let path = self.layout.document(key);
                self.documents
                    .insert(key.clone(), read(key, &path, data, seen, old));
            }
            Place::Instance(name) => {
                let key = Key {
                    kind: Kind::Instance,
                    name: name.clone(),
                };
                let old = self.instances.remove(name);
                let path = self.layout.instance(name);
                let mut slot = read(&key, &path, data, seen, old);
                if slot.stored.is_none() {
                    slot.stored = self.orphans.get(name).cloned();
                }
                self.orphans.remove(name);
                self.grace.cancel(name);
                self.instances.insert(name.clone(), slot);
            }
            Place::Replica(id) => {
                self.remember_replica(seen.owner);
                let (address, edges) = exposures::decode(data);
                self.replicas.insert(id.clone(), Replica { seen, address, edges });
            }
            Place::Directory | Place::Strange(_) => {}
        }
    }

    /// A node is not there.
    pub fn remove(&mut self, place: &Place) {
        match place {
            Place::Document(key) => {
                self.documents.remove(key);
            }
            Place::Instance(name) => {
                if let Some(Slot {
                    seen,
                    stored: Some(stored),
                    ..
                }) = self.instances.remove(name)
                {
                    self.vanished.push(Vanished {
                        name: name.clone(),
                        owner: seen.owner,
                        stored,
                    });
                }
            }
            Place::Replica(id) => {
                self.replicas.remove(id);
            }
            Place::Directory | Place::Strange(_) => {}
        }
    }

    /// A full listing was made: whatever is not in it is gone. `born`, of the root, tells whether this is the tree of before.
    pub fn listed(&mut self, places: &BTreeSet<Place>, strange: BTreeMap<String, String>, born: Birth) {
        self.strange = strange;
        let known = self.documents.keys().cloned().map(Place::Document);
        let known = known.chain(self.instances.keys().cloned().map(Place::Instance));
        let known = known.chain(self.replicas.keys().cloned().map(Place::Replica));
        let gone: Vec<Place> = known.filter(|place| !places.contains(place)).collect();
        // An ensemble that came back without its data says nothing about what people want: the last good documents stay.
        let same_tree = self.born.replace(born).is_none_or(|before| before == born);
        let any_document = places.iter().any(|place| matches!(place, Place::Document(_)));
        self.wiped = !any_document && !self.documents.is_empty() && (self.wiped || !same_tree);
        for place in gone {
            if !(self.wiped && matches!(place, Place::Document(_))) {
                self.remove(&place);
            }
        }
        self.last_read = Some(SystemTime::now());
    }

    /// Judges what vanished since the last time. Call it once instances and replicas are read.
    pub fn settle(&mut self, now: Instant) {
        for Vanished { name, owner, stored } in std::mem::take(&mut self.vanished) {
            if self.instances.contains_key(&name) {
                continue;
            }
            if self.replica_sessions.contains(&owner) && !self.is_live(owner) {
                self.grace.start(now, &name);
                self.orphans.insert(name, stored);
            }
        }
    }

    /// Drops the orphans whose grace has ended, and says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let due = self.grace.due(now);
        for name in &due {
            tracing::info!(
                instance = name,
                "its replica is gone and nobody registered it again; removed"
            );
            self.orphans.remove(name);
        }
        !due.is_empty()
    }

    /// Contact was lost for a while, in which nobody could register: every grace begins anew.
    pub fn restart_graces(&mut self, now: Instant) {
        self.grace.restart(now);
    }

    /// Remembers that a session is, or was, a replica's.
    pub fn remember_replica(&mut self, session: i64) {
        self.replica_sessions.insert(session);
        while self.replica_sessions.len() > SESSIONS_MAX {
            let oldest = self
                .replica_sessions
                .iter()
                .copied()
                .find(|session| !self.is_live(*session));
            let Some(oldest) = oldest else { return };
            self.replica_sessions.remove(&oldest);
        }
    }

    /// Whether a session was ever a replica's.
    #[must_use]
    pub fn was_replica(&self, session: i64) -> bool {
        self.replica_sessions.contains(&session)
    }

    /// Whether a session holds a replica's node.
    #[must_use]
    pub fn is_live(&self, session: i64) -> bool {
        self.replicas
            .values()
            .any(|replica| replica.seen.owner == session)
    }

    /// What all this means.
    #[must_use]
    pub fn state(&self, connected: bool) -> State {
        let documents = self
            .documents
            .iter()
            .filter_map(|(key, slot)| Some((key.clone(), slot.stored.clone()?)));
        let live = self
            .instances
            .iter()
            .filter_map(|(name, slot)| Some((name.clone(), slot.stored.clone()?)));
        let orphans = self
            .orphans
            .iter()
            .map(|(name, stored)| (name.clone(), Arc::clone(stored)));
        let replicas = self
            .replicas
            .iter()
            .map(|(id, replica)| (id.clone(), replica.address.clone()));
        let mut edges = Exposures::new();
        for (edge, services) in self.replicas.values().flat_map(|replica| &replica.edges) {
            // One that moves is told by two replicas for a moment.
            edges
                .entry(edge.clone())
                .or_default()
                .extend(services.iter().cloned());
        }
        State {
            loaded: self.last_read.is_some(),
            connected,
            last_read: self.last_read,
            documents: documents.collect(),
            instances: orphans.chain(live).collect(),
            replicas: replicas.collect(),
            edges,
            faults: self.faults(),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.wiped {
            faults.push(format!(
                "{}: came back empty; the {} documents of before are still served. Apply them again, or restart \
                 every xds-lite if nothing is meant",
                self.layout.root(),
                self.documents.len()
            ));
        }
        let slots = self
            .documents
            .iter()
            .map(|(key, slot)| (self.layout.document(key), slot));
        let slots = slots.chain(
            self.instances
                .iter()
                .map(|(name, slot)| (self.layout.instance(name), slot)),
        );
        faults.extend(slots.filter_map(|(path, slot)| Some(format!("{path}: {}", slot.fault.as_ref()?))));
        faults.extend(self.strange.iter().map(|(path, why)| format!("{path}: {why}")));
        faults
    }
}

fn read(key: &Key, path: &str, data: &[u8], seen: Seen, old: Option<Slot>) -> Slot {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(seen.mtime).unwrap_or(0));
    match codec::decode(key, data, None) {
        Ok(decoded) => Slot {
            seen,
            stored: Some(Arc::new(decoded.stored(seen.revision(), modified))),
            fault: None,
        },
        Err(why) => {
            tracing::warn!(path, reason = why, "a bad node; its last good content stays");
            Slot {
                seen,
                stored: old.and_then(|slot| slot.stored),
                fault: Some(why),
            }
        }
    }
}

#[cfg(test)]
mod tests;
