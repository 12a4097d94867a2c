//! The delta stream of one sidecar as a value: requests and snapshots in, responses out. Knows no socket and no clock.
//!
//! ```text
//!   subscribe ──► owed ──┐ (the first snapshot may still be missing)
//!                        ▼
//!   snapshot ─────────► compare with what was sent ──► response, nonce ──► unanswered ──► ACK: applied
//!                                                                              └────────► NACK: refused, by name
//! ```
//!
//! A version is sent once, whatever the answer; only a new version, or a new subscription, is sent again. While too many
//! responses of a type are unanswered, nothing more of it is sent, and what is newest then goes out in one.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_proto::Kind;
use mesh_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use prost::Message;

use super::types::{Cargo, Nack, Progress, TypeState};
use crate::registry::Item;
use crate::snapshot::{Published, Snapshot};

/// A response grows no further than this, in bytes; a single larger resource goes alone.
pub const RESPONSE_BYTES_MAX: usize = 8 << 20;

const KINDS: usize = Kind::ALL.len();

/// The stream.
#[derive(Debug, Default)]
pub struct Stream {
    types: [TypeState; KINDS],
    current: Option<Arc<Snapshot>>,
    nonces: u64,
    last_nack: Option<Nack>,
}

impl Stream {
    /// A request came.
    ///
    /// # Errors
    /// It asks for too much; the stream ends with this reason.
    pub fn on_request(
        &mut self,
        now: SystemTime,
        request: &DeltaDiscoveryRequest,
    ) -> Result<Vec<DeltaDiscoveryResponse>, String> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return Ok(self.answer_unknown(request));
        };
        let state = &mut self.types[kind as usize];
        if !request.response_nonce.is_empty() {
            let nacks = state.on_answer(now, kind, &request.response_nonce, request.error_detail.as_ref());
            if let Some(newest) = nacks.into_iter().last() {
                self.last_nack = Some(newest);
            }
        }
        state.on_subscriptions(now, kind, request)?;
        let Some(snapshot) = self.current.clone() else {
            return Ok(Vec::new());
        };
        let mut cargo = state.settle_owed(kind, &snapshot);
        if state.behind && state.has_room() {
            state.behind = false;
            let rest = state.compare(kind, &snapshot);
            cargo.get_or_insert_default().merge(rest);
        }
        Ok(cargo.map_or_else(Vec::new, |cargo| self.respond(kind, &snapshot, cargo, true)))
    }

    /// There is a new snapshot.
    pub fn on_snapshot(&mut self, published: &Published) -> Vec<DeltaDiscoveryResponse> {
        let snapshot = Arc::clone(&published.snapshot);
        let diff_fits = self.current.as_ref().is_some_and(|current| {
            current.number + 1 == snapshot.number && current.settling == snapshot.settling
        });
        self.current = Some(Arc::clone(&snapshot));
        let mut responses = Vec::new();
        let mut removals = Vec::new();
        for kind in Kind::ALL {
            let state = &mut self.types[kind as usize];
            if !state.opened {
                continue;
            }
            if let Some(cargo) = state.settle_owed(kind, &snapshot) {
                responses.extend(self.respond(kind, &snapshot, cargo, true));
                continue;
            }
            if !state.has_room() {
                state.behind = true;
                continue;
            }
            let cargo = match &published.diff {
                diff if diff_fits => state.follow(kind, &snapshot, diff),
                _ => state.compare(kind, &snapshot),
            };
            let Cargo { resources, removed } = cargo;
            responses.extend(self.respond(
                kind,
                &snapshot,
                Cargo {
                    resources,
                    removed: Vec::new(),
                },
                false,
            ));
            removals.push((kind, removed));
        }
        // What others lean on goes last.
        for (kind, removed) in removals.into_iter().rev() {
            let cargo = Cargo {
                resources: Vec::new(),
                removed,
            };
            responses.extend(self.respond(kind, &snapshot, cargo, false));
        }
        responses
    }

    /// What became of each resource, by kind and name.
    pub fn progress(&self) -> impl Iterator<Item = (Kind, &String, &Progress)> {
        Kind::ALL.into_iter().flat_map(|kind| {
            let progress = &self.types[kind as usize].progress;
            progress
                .iter()
                .map(move |(name, progress)| (kind, name, progress))
        })
    }

    /// Whether it asked for this resource.
    #[must_use]
    pub fn subscribes(&self, kind: Kind, name: &str) -> bool {
        self.types[kind as usize].subscription.covers(name)
    }

    /// The newest refusal.
    #[must_use]
    pub fn last_nack(&self) -> Option<&Nack> {
        self.last_nack.as_ref()
    }

    /// A type of a later release: there is none of it here.
    fn answer_unknown(&mut self, request: &DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        if request.resource_names_subscribe.is_empty() && !request.response_nonce.is_empty() {
            return Vec::new();
        }
        self.nonces += 1;
        vec![DeltaDiscoveryResponse {
            type_url: request.type_url.clone(),
            nonce: self.nonces.to_string(),
            removed_resources: request.resource_names_subscribe.clone(),
            ..Default::default()
        }]
    }

    /// Makes responses of a cargo: one, unless it is very large. `always`: even of an empty one.
    fn respond(
        &mut self,
        kind: Kind,
        snapshot: &Snapshot,
        cargo: Cargo,
        always: bool,
    ) -> Vec<DeltaDiscoveryResponse> {
        if cargo.is_empty() && !always {
            return Vec::new();
        }
        let mut removed = cargo.removed;
        let mut responses = Vec::new();
        for part in parts(cargo.resources) {
            self.nonces += 1;
            let removed = std::mem::take(&mut removed);
            let state = &mut self.types[kind as usize];
            state.note_sent(self.nonces, &part, &removed);
            responses.push(DeltaDiscoveryResponse {
                system_version_info: snapshot.version.clone(),
                resources: part.iter().map(|item| resource(item)).collect(),
                type_url: kind.type_url().to_owned(),
                nonce: self.nonces.to_string(),
                removed_resources: removed,
            });
        }
        responses
    }
}

fn resource(item: &Item) -> Resource {
    Resource {
        version: item.version.clone(),
        resource: Some(item.any.clone()),
        name: item.name.clone(),
    }
}

/// Cuts resources into responses of a bounded size; always at least one, which may be empty.
fn parts(resources: Vec<Arc<Item>>) -> Vec<Vec<Arc<Item>>> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for item in resources {
        let length = item.any.encoded_len() + item.name.len() + item.version.len();
        if size + length > RESPONSE_BYTES_MAX && size > 0 {
            parts.push(Vec::new());
            size = 0;
        }
        size += length;
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
