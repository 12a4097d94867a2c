//! Who is connected, and what became of what was sent to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::stream::Stream;
use super::types::Nack;

/// How long the newest refusal of a sidecar is remembered after it went.
const NACK_KEPT: Duration = Duration::from_secs(3600);
/// Most sidecars of which that is remembered.
const NACKS_MAX: usize = 10_000;

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
    /// When its stream began.
    pub since: SystemTime,
    stream: Mutex<Stream>,
}

impl Sidecar {
    /// A sidecar whose stream begins now.
    #[must_use]
    pub fn new(node: String, service: String, version: String, peer: String) -> Self {
        Self {
            node,
            service,
            version,
            peer,
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
