//! One type of one stream: what was asked for, what was sent, what was said to it. Pure; [`super::stream`] arranges them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_proto::Kind;
use mesh_proto::discovery::DeltaDiscoveryRequest;
use mesh_proto::google::rpc;

use super::subscription::{PATTERN_BYTES_MAX, Pattern, Subscription};
use crate::registry::Item;
use crate::snapshot::{Diff, Snapshot};

/// Responses of one type that may be unanswered.
pub const UNANSWERED_MAX: usize = 16;
/// A sidecar that goes on asking and never answers is let go at this many.
const UNANSWERED_END: usize = 1024;
/// What is kept of a reason, in bytes.
const REASON_BYTES_MAX: usize = 4 << 10;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Of what.
    pub kind: Kind,
    /// Its name on the stream.
    pub name: String,
    /// The version that was refused.
    pub version: String,
    /// In the sidecar's words.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}

/// What became of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest version sent; empty: it was told that there is none.
    pub sent: String,
    /// The newest version it said yes to, and when.
    pub applied: Option<(String, SystemTime)>,
    /// While the newest answer is a refusal.
    pub nack: Option<Nack>,
    /// The sidecar brought it along; it was not sent on this stream.
    brought: bool,
}

#[derive(Debug, Default)]
pub(super) struct TypeState {
    pub(super) opened: bool,
    pub(super) subscription: Subscription,
    pub(super) progress: BTreeMap<String, Progress>,
    /// Subscribed, and not answered yet.
    owed: BTreeSet<Pattern>,
    /// Something must be answered, even if it is nothing.
    owes_answer: bool,
    unanswered: VecDeque<Unanswered>,
    /// Something was held back.
    pub(super) behind: bool,
}

#[derive(Debug)]
struct Unanswered {
    nonce: u64,
    /// Names and versions; an empty version is a removal.
    sent: Vec<(String, String)>,
}

/// What goes into responses.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    pub(super) resources: Vec<Arc<Item>>,
    pub(super) removed: Vec<String>,
}

impl TypeState {
    pub(super) fn has_room(&self) -> bool {
        self.unanswered.len() < UNANSWERED_MAX
    }

    /// Notes an ACK or a NACK, and gives back the refusals. An answer to nothing we sent is stale and says nothing.
    pub(super) fn on_answer(
        &mut self,
        now: SystemTime,
        kind: Kind,
        nonce: &str,
        error: Option<&rpc::Status>,
    ) -> Vec<Nack> {
        let found = nonce.parse().ok().and_then(|nonce: u64| {
            self.unanswered
                .iter()
                .position(|unanswered| unanswered.nonce == nonce)
        });
        let Some(answered) = found.and_then(|index| self.unanswered.remove(index)) else {
            return Vec::new();
        };
        let reasons = error
            .map(|error| reasons(&error.message, &answered.sent))
            .unwrap_or_default();
        let mut nacks = Vec::new();
        for (name, version) in answered.sent {
            let Some(progress) = self.progress.get_mut(&name) else {
                continue;
            };
            match reasons.get(&name) {
                Some(reason) => {
                    let nack = Nack {
                        kind,
                        name,
                        version,
                        reason: reason.clone(),
                        at: now,
                    };
                    progress.nack = Some(nack.clone());
                    nacks.push(nack);
                }
                None => {
                    progress.applied = Some((version, now));
                    progress.nack = None;
                }
            }
        }
        nacks
    }

    pub(super) fn on_subscriptions(
        &mut self,
        now: SystemTime,
        kind: Kind,
        request: &DeltaDiscoveryRequest,
    ) -> Result<(), String> {
        let names = request
            .resource_names_subscribe
            .iter()
            .chain(&request.resource_names_unsubscribe);
        let mut names = names.chain(request.initial_resource_versions.keys());
        if names.any(|name| name.is_empty() || name.len() > PATTERN_BYTES_MAX) {
            return Err(format!("resource names are 1 to {PATTERN_BYTES_MAX} bytes long"));
        }
        if self.unanswered.len() > UNANSWERED_END {
            return Err(format!("{UNANSWERED_END} responses of {kind} are unanswered"));
        }
        for text in &request.resource_names_unsubscribe {
            let pattern = Pattern::parse(kind, text);
            if self.subscription.remove(&pattern) {
                self.owed.remove(&pattern);
                self.forget(&pattern);
            }
        }
        for text in &request.resource_names_subscribe {
            let pattern = Pattern::parse(kind, text);
            self.subscription.add(pattern.clone())?;
            self.owed.insert(pattern);
            self.owes_answer = true;
        }
        if !self.opened {
            self.opened = true;
            self.owes_answer = true;
            for (name, version) in &request.initial_resource_versions {
                if self.subscription.covers(name) {
                    let progress = Progress {
                        sent: version.clone(),
                        applied: Some((version.clone(), now)),
                        nack: None,
                        brought: true,
                    };
                    self.progress.insert(name.clone(), progress);
                }
            }
        }
        Ok(())
    }

    /// Drops what nothing covers any more; a name that something else still covers is answered once more.
    fn forget(&mut self, pattern: &Pattern) {
        if let Pattern::Name(name) = pattern
            && self.subscription.covers(name)
        {
            self.owed.insert(pattern.clone());
            self.owes_answer = true;
        }
        let subscription = &self.subscription;
        self.progress.retain(|name, _| subscription.covers(name));
    }

    /// Everything that was just subscribed, and whatever went since the sidecar was last told.
    pub(super) fn settle_owed(&mut self, kind: Kind, snapshot: &Snapshot) -> Option<Cargo> {
        if !std::mem::take(&mut self.owes_answer) {
            return None;
        }
        let mut cargo = Cargo::default();
        for pattern in std::mem::take(&mut self.owed) {
            let matches: Vec<&Arc<Item>> = match &pattern {
                Pattern::All => snapshot.all(kind).values().collect(),
                Pattern::Under(service) => snapshot.under(kind, service).collect(),
                Pattern::Name(name) => snapshot.get(kind, name).into_iter().collect(),
            };
            if matches.is_empty() && !self.may_be_there(kind, snapshot, &pattern) {
                cargo.removed.push(pattern.text());
            }
            for item in matches {
                let known = self.progress.get(&item.name);
                if !known.is_some_and(|known| known.brought && known.sent == item.version) {
                    cargo.resources.push(Arc::clone(item));
                }
            }
        }
        let gone = self.gone(kind, snapshot);
        cargo.removed.extend(gone);
        cargo.tidy();
        Some(cargo)
    }

    /// Everything that differs from what was sent.
    pub(super) fn compare(&self, kind: Kind, snapshot: &Snapshot) -> Cargo {
        let mut resources = Vec::new();
        let mut consider = |item: &Arc<Item>| {
            if self
                .progress
                .get(&item.name)
                .is_none_or(|progress| progress.sent != item.version)
            {
                resources.push(Arc::clone(item));
            }
        };
        for pattern in self.subscription.patterns() {
            match pattern {
                Pattern::All => snapshot.all(kind).values().for_each(&mut consider),
                Pattern::Under(service) => snapshot.under(kind, service).for_each(&mut consider),
                Pattern::Name(name) => snapshot.get(kind, name).into_iter().for_each(&mut consider),
            }
        }
        let mut cargo = Cargo {
            resources,
            removed: self.gone(kind, snapshot),
        };
        cargo.tidy();
        cargo
    }

    /// As [`Self::compare`], when only the diff can differ.
    pub(super) fn follow(&self, kind: Kind, snapshot: &Snapshot, diff: &Diff) -> Cargo {
        let changed = diff.changed[kind as usize]
            .iter()
            .filter(|name| self.subscription.covers(name));
        let removed = diff.removed[kind as usize]
            .iter()
            .filter(|name| self.holds(name) && !self.is_spared(kind, snapshot, name));
        Cargo {
            resources: changed
                .filter_map(|name| snapshot.get(kind, name).cloned())
                .collect(),
            removed: removed.cloned().collect(),
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.progress
            .get(name)
            .is_some_and(|progress| !progress.sent.is_empty())
    }

    /// Whether the sidecar knows this instance from before, and it is too early to say that it is gone.
    fn is_spared(&self, kind: Kind, snapshot: &Snapshot, name: &str) -> bool {
        snapshot.settling
            && kind == Kind::Instance
            && self.progress.get(name).is_some_and(|progress| progress.brought)
    }

    /// As [`Self::is_spared`], of any that a pattern covers.
    fn may_be_there(&self, kind: Kind, snapshot: &Snapshot, pattern: &Pattern) -> bool {
        let covered = |name: &String| match pattern {
            Pattern::All => true,
            Pattern::Under(service) => name.split('/').next() == Some(service),
            Pattern::Name(wanted) => name == wanted,
        };
        let mut covered = self.progress.keys().filter(|name| covered(name));
        covered.any(|name| self.is_spared(kind, snapshot, name))
    }

    fn gone(&self, kind: Kind, snapshot: &Snapshot) -> Vec<String> {
        let held = self
            .progress
            .iter()
            .filter(|(_, progress)| !progress.sent.is_empty());
        let gone = held.filter(|(name, _)| snapshot.get(kind, name).is_none());
        let gone = gone.filter(|(name, _)| !self.is_spared(kind, snapshot, name));
        gone.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn note_sent(&mut self, nonce: u64, resources: &[Arc<Item>], removed: &[String]) {
        let mut sent: Vec<(String, String)> = Vec::new();
        for item in resources {
            let progress = self.progress.entry(item.name.clone()).or_default();
            progress.sent.clone_from(&item.version);
            progress.brought = false;
            sent.push((item.name.clone(), item.version.clone()));
        }
        for name in removed {
            let by_name = self
                .subscription
                .patterns()
                .any(|p| matches!(p, Pattern::Name(n) if n == name));
            if by_name {
                let progress = self.progress.entry(name.clone()).or_default();
                progress.sent.clear();
                progress.brought = false;
            } else {
                self.progress.remove(name);
            }
            sent.push((name.clone(), String::new()));
        }
        self.unanswered.push_back(Unanswered { nonce, sent });
    }
}

impl Cargo {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    pub(super) fn merge(&mut self, other: Cargo) {
        self.resources.extend(other.resources);
        self.removed.extend(other.removed);
        self.tidy();
    }

    /// Each name once, in order.
    fn tidy(&mut self) {
        self.resources.sort_by(|a, b| a.name.cmp(&b.name));
        self.resources.dedup_by(|a, b| a.name == b.name);
        self.removed.sort();
        self.removed.dedup();
    }
}

/// Which of the sent resources a refusal names, with the reason; all of them if it names none.
/// One line a resource: `<resource name>: <place>: <reason>`.
fn reasons(message: &str, sent: &[(String, String)]) -> BTreeMap<String, String> {
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for (name, _) in sent {
        let start = format!("{name}: ");
        let lines: Vec<&str> = message
            .lines()
            .filter_map(|line| line.strip_prefix(&start))
            .collect();
        if !lines.is_empty() {
            reasons.insert(name.clone(), bounded(&lines.join("; ")));
        }
    }
    if reasons.is_empty() {
        let whole = match message.trim() {
            "" => "refused without a reason".to_owned(),
            text => bounded(text),
        };
        reasons.extend(sent.iter().map(|(name, _)| (name.clone(), whole.clone())));
    }
    reasons
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
