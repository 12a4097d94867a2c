//! Who is connected, and what became of what was sent to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::stream::Stream;
use super::types::Nack;
use crate::registry::Exposures;

/// How long the newest refusal of a sidecar is remembered after it went.
const NACK_KEPT: Duration = Duration::from_secs(3600);
/// Most sidecars of which that is remembered.
const NACKS_MAX: usize = 10_000;
/// How long an edge that went still counts: long enough for a restart, or a move to another replica.
const EDGE_KEPT: Duration = Duration::from_secs(30);

/// The book of this replica.
#[derive(Debug)]
pub struct Book {
    pages: Mutex<Pages>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    next: u64,
    connected: BTreeMap<u64, Arc<Sidecar>>,
    nacks: BTreeMap<String, (Nack, Instant)>,
    edges: BTreeMap<String, Edge>,
}

/// What an edge exposes.
#[derive(Debug)]
struct Edge {
    services: BTreeSet<String>,
    /// The stream that told it.
    number: u64,
    /// When that ended.
    gone: Option<Instant>,
}

/// One connected sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// `<service>/<id>`
    pub node: String,
    /// Proven by its certificate.
    pub service: String,
    /// Of its program, as it says.
    pub version: String,
    /// Its address.
    pub peer: String,
    /// Services its edge exposes; none if it has no edge.
    pub exposes: BTreeSet<String>,
    /// When its stream began.
    pub since: SystemTime,
    stream: Mutex<Stream>,
}

impl Sidecar {
    /// A sidecar whose stream begins now.
    #[must_use]
    pub fn new(
        node: String,
        service: String,
        version: String,
        peer: String,
        exposes: BTreeSet<String>,
    ) -> Self {
        Self {
            node,
            service,
            version,
            peer,
            exposes,
            since: SystemTime::now(),
            stream: Mutex::default(),
        }
    }

    /// Its stream. Nobody waits while holding this.
    pub fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Book {
    fn default() -> Self {
        Self {
            pages: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Book {
    /// Writes a sidecar in, until what is returned is dropped.
    pub fn enter(self: &Arc<Self>, sidecar: Sidecar) -> Entered {
        let sidecar = Arc::new(sidecar);
        let number = {
            let mut pages = self.pages();
            pages.next += 1;
            let number = pages.next;
            pages.connected.insert(number, Arc::clone(&sidecar));
            if sidecar.exposes.is_empty() {
                pages.edges.remove(&sidecar.node);
            } else {
                let edge = Edge {
                    services: sidecar.exposes.clone(),
                    number,
                    gone: None,
                };
                pages.edges.insert(sidecar.node.clone(), edge);
            }
            number
        };
        self.touch();
        Entered {
            book: Arc::clone(self),
            number,
            sidecar,
        }
    }

    /// Something in it changed.
    pub fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells when something changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Everybody who is connected, with the newest refusal of theirs that a former stream brought.
    pub fn all(&self) -> Vec<(Arc<Sidecar>, Option<Nack>)> {
        let pages = self.pages();
        let mut all: Vec<_> = pages
            .connected
            .values()
            .map(|sidecar| {
                let kept = pages.nacks.get(&sidecar.node);
                (Arc::clone(sidecar), kept.map(|(nack, _)| nack.clone()))
            })
            .collect();
        all.sort_by(|(a, _), (b, _)| (&a.node, a.since).cmp(&(&b.node, b.since)));
        all
    }

    /// What edges expose that are connected, or were a moment ago.
    pub fn edges(&self) -> Exposures {
        let now = Instant::now();
        let mut pages = self.pages();
        pages.edges.retain(|_, edge| {
            edge.gone
                .is_none_or(|gone| now.saturating_duration_since(gone) < EDGE_KEPT)
        });
        let edges = pages.edges.iter();
        edges
            .map(|(node, edge)| (node.clone(), edge.services.clone()))
            .collect()
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.pages().connected.len()
    }

    fn leave(&self, number: u64) {
        let mut pages = self.pages();
        let Some(sidecar) = pages.connected.remove(&number) else {
            return;
        };
        let now = Instant::now();
        if let Some(edge) = pages.edges.get_mut(&sidecar.node)
            && edge.number == number
        {
            edge.gone = Some(now);
        }
        pages
            .nacks
            .retain(|_, (_, since)| now.duration_since(*since) < NACK_KEPT);
        let nack = sidecar.stream().last_nack().cloned();
        if let Some(nack) = nack
            && pages.nacks.len() < NACKS_MAX
        {
            pages.nacks.insert(sidecar.node.clone(), (nack, now));
        }
        drop(pages);
        self.touch();
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sidecar that stands in the book as long as this lives.
#[derive(Debug)]
pub struct Entered {
    book: Arc<Book>,
    number: u64,
    /// The sidecar.
    pub sidecar: Arc<Sidecar>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.book.leave(self.number);
    }
}
