//! Following documents until every sidecar that uses them has said yes: an engine without sockets.
//!
//! ```text
//!  apply ──targets──► Rollout ◄──on_status── each replica's WatchStatus
//!                        │
//!                        ├─► events: who applied what, when
//!                        └─► verdict: waiting | done | refused
//! ```
//!
//! A sidecar *uses* a document when a replica lists that resource for it; where a replica was asked for subscribers of one
//! resource only, everybody it names uses it. Sidecars that disconnect are no longer waited for. A document that is new is in
//! nobody's list until it was sent, so for [`SETTLE`] "nobody uses it" is not believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_proto::v1::{GetStatusRequest, GetStatusResponse, SidecarStatus};

/// How long replicas get to tell that a new document concerns somebody.
pub(crate) const SETTLE: Duration = Duration::from_millis(750);

/// One document on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) type_url: String,
    pub(crate) resource_name: String,
    pub(crate) version: String,
    /// It was not there before, so nobody could have listed it.
    pub(crate) created: bool,
}

/// Where one sidecar stands with one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has this version, or none.
    Behind { has: String },
    /// It said yes.
    Applied,
    /// It said no, and why.
    Refused { reason: String },
}

/// Something to tell while waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) node: String,
    /// Index into the targets.
    pub(crate) target: usize,
    pub(crate) progress: Progress,
}

/// What there is to say at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Waiting,
    /// Everybody who uses them has applied them; `took` is the time to the last yes.
    Done {
        took: Duration,
    },
    /// Somebody refused.
    Refused,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Rollout {
    targets: Vec<Target>,
    started: Instant,
    /// Replicas name subscribers of the one target only, whether it was sent to them or not.
    subscribers_only: bool,
    replicas: BTreeMap<String, Replica>,
    progress: BTreeMap<(String, usize), Progress>,
    last_yes: Option<Instant>,
}

#[derive(Debug, Default)]
struct Replica {
    /// The newest state it told; `None` before the first, and while it cannot be asked.
    sidecars: Option<Vec<SidecarStatus>>,
    /// Why it cannot be asked.
    trouble: String,
}

impl Rollout {
    /// `started` is when the documents were sent.
    pub(crate) fn new(started: Instant, targets: Vec<Target>) -> Self {
        Self {
            subscribers_only: targets.len() == 1,
            targets,
            started,
            replicas: BTreeMap::new(),
            progress: BTreeMap::new(),
            last_yes: None,
        }
    }

    /// The narrowest question that shows all targets. The answers to it belong into [`Rollout::on_status`].
    pub(crate) fn filter(&self) -> GetStatusRequest {
        match self.targets.as_slice() {
            [one] => GetStatusRequest {
                type_url: one.type_url.clone(),
                resource_name: one.resource_name.clone(),
            },
            _ => GetStatusRequest::default(),
        }
    }

    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Takes the whole state of one replica, and tells what is new.
    pub(crate) fn on_status(&mut self, now: Instant, replica: &str, status: GetStatusResponse) -> Vec<Event> {
        self.replicas.insert(
            replica.to_owned(),
            Replica {
                sidecars: Some(status.sidecars),
                trouble: String::new(),
            },
        );
        // Who left the mesh's list of replicas and cannot be asked either is gone.
        let listed: BTreeSet<&str> = status
            .replicas
            .iter()
            .map(|replica| replica.id.as_str())
            .collect();
        if !listed.is_empty() {
            self.replicas
                .retain(|id, replica| replica.sidecars.is_some() || listed.contains(id.as_str()));
        }
        for id in listed {
            self.replicas.entry(id.to_owned()).or_default();
        }
        self.compare(now)
    }

    /// The stream of a replica broke or could not be opened.
    pub(crate) fn on_trouble(&mut self, now: Instant, replica: &str, why: String) -> Vec<Event> {
        self.replicas.insert(
            replica.to_owned(),
            Replica {
                sidecars: None,
                trouble: why,
            },
        );
        self.compare(now)
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        if self
            .progress
            .values()
            .any(|progress| matches!(progress, Progress::Refused { .. }))
        {
            return Verdict::Refused;
        }
        let all_heard = self.replicas.values().all(|replica| replica.sidecars.is_some());
        let all_applied = self
            .progress
            .values()
            .all(|progress| *progress == Progress::Applied);
        let settled = now.saturating_duration_since(self.started) >= SETTLE;
        let may_be_unlisted =
            (0..self.targets.len()).any(|index| self.targets[index].created || self.users(index) == 0);
        if all_heard && all_applied && (settled || !may_be_unlisted) {
            let took = self
                .last_yes
                .map_or(Duration::ZERO, |yes| yes.saturating_duration_since(self.started));
            return Verdict::Done { took };
        }
        Verdict::Waiting
    }

    /// How many sidecars use a document.
    pub(crate) fn users(&self, target: usize) -> usize {
        self.progress.keys().filter(|(_, index)| *index == target).count()
    }

    /// How many sidecars use any of the documents.
    pub(crate) fn sidecars(&self) -> usize {
        self.progress
            .keys()
            .map(|(node, _)| node)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// How many answers are yes, of how many that are awaited.
    pub(crate) fn tally(&self) -> (usize, usize) {
        let yes = self
            .progress
            .values()
            .filter(|progress| **progress == Progress::Applied)
            .count();
        (yes, self.progress.len())
    }

    /// Every refusal: sidecar, document, reason.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let refused = |((node, index), progress): (&(String, usize), &Progress)| match progress {
            Progress::Refused { reason } => Some(format!("{node} refuses {}: {reason}", self.label(*index))),
            _ => None,
        };
        self.progress.iter().filter_map(refused).collect()
    }

    /// Who is still awaited: sidecars that are behind, and replicas that cannot be asked.
    pub(crate) fn behind(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((node, index), progress) in &self.progress {
            if let Progress::Behind { has } = progress {
                let has = if has.is_empty() {
                    "no version"
                } else {
                    has.as_str()
                };
                let version = &self.targets[*index].version;
                lines.push(format!(
                    "{node} has {has} of {}, not {version}",
                    self.label(*index)
                ));
            }
        }
        for (id, replica) in self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.sidecars.is_none())
        {
            let why = if replica.trouble.is_empty() {
                "it has not answered"
            } else {
                replica.trouble.as_str()
            };
            lines.push(format!("replica {id}: {why}"));
        }
        lines
    }

    /// `Kind/name`
    pub(crate) fn label(&self, target: usize) -> String {
        self.targets
            .get(target)
            .map_or_else(String::new, |t| format!("{}/{}", t.kind, t.name))
    }

    fn compare(&mut self, now: Instant) -> Vec<Event> {
        let fresh = self.read();
        let mut events = Vec::new();
        for ((node, target), progress) in &fresh {
            if self.progress.get(&(node.clone(), *target)) == Some(progress) {
                continue;
            }
            if *progress == Progress::Applied {
                self.last_yes = Some(now);
            }
            events.push(Event {
                node: node.clone(),
                target: *target,
                progress: progress.clone(),
            });
        }
        self.progress = fresh;
        events
    }

    /// Who uses what, and how far each is. A sidecar that two replicas list has moved: the newer connection counts.
    fn read(&self) -> BTreeMap<(String, usize), Progress> {
        let mut newest: BTreeMap<&str, &SidecarStatus> = BTreeMap::new();
        for sidecar in self
            .replicas
            .values()
            .flat_map(|replica| replica.sidecars.iter().flatten())
        {
            let since = |sidecar: &SidecarStatus| {
                sidecar
                    .connected_since
                    .map_or((0, 0), |time| (time.seconds, time.nanos))
            };
            newest
                .entry(&sidecar.node)
                .and_modify(|known| {
                    if since(sidecar) > since(known) {
                        *known = sidecar;
                    }
                })
                .or_insert(sidecar);
        }
        let mut progress = BTreeMap::new();
        for (node, sidecar) in newest {
            for (index, target) in self.targets.iter().enumerate() {
                if let Some(step) = progress_of(sidecar, target, self.subscribers_only) {
                    progress.insert((node.to_owned(), index), step);
                }
            }
        }
        progress
    }
}

/// Where a sidecar stands with a document; `None` if it does not use it.
fn progress_of(sidecar: &SidecarStatus, target: &Target, subscribes: bool) -> Option<Progress> {
    let listed = sidecar
        .resources
        .iter()
        .find(|resource| resource.type_url == target.type_url && resource.name == target.resource_name);
    let Some(listed) = listed else {
        return subscribes.then(|| Progress::Behind { has: String::new() });
    };
    if listed.version_applied == target.version {
        return Some(Progress::Applied);
    }
    Some(match &listed.nack {
        Some(nack) if nack.version == target.version => Progress::Refused {
            reason: nack.reason.clone(),
        },
        _ => Progress::Behind {
            has: listed.version_applied.clone(),
        },
    })
}

#[cfg(test)]
mod tests;
