//! One instance as this thread knows it: its connections, its calls in flight, and whether it rests after a failure.
//!
//! ```text
//!  in use ──connect failed──► resting (1 s, 2 s, … 30 s; chosen only when all rest) ──connected──► in use
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use mesh_proto::name::ServiceName;

use super::balance::Load;
use super::connect::{self, Dial};
use crate::body::RequestBody;
use crate::worker::Worker;

/// Streams on one connection before another is opened.
const STREAMS_PER_CONNECTION: u32 = 100;
/// HTTP/2 connections to one instance from one thread.
const CONNECTIONS_MAX: usize = 8;
/// Idle HTTP/1.1 connections kept to one instance from one thread.
const IDLE_HTTP1_MAX: usize = 64;
/// An HTTP/2 connection takes no new calls after this, so that the identities on it stay fresh.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// A connection without calls is closed after this.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(300);
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// What makes two endpoints the same over changes of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) service: ServiceName,
    pub(crate) id: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) port: u16,
    pub(crate) dial: Dial,
}

/// One instance.
pub(crate) struct Endpoint {
    pub(crate) key: Key,
    weight: Cell<u32>,
    active: Cell<u32>,
    rests_until: Cell<Option<Instant>>,
    failures: Cell<u32>,
    lines: RefCell<Vec<Line>>,
    idle_http1: RefCell<Vec<(http1::SendRequest<RequestBody>, Instant)>>,
    /// One connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    last_failure: RefCell<Option<(Instant, String)>>,
}

/// One HTTP/2 connection.
struct Line {
    sender: http2::SendRequest<RequestBody>,
    opened: Instant,
    usage: Usage,
}

/// An endpoint in use by a call.
pub(crate) struct Held {
    endpoint: Rc<Endpoint>,
    line: Option<Usage>,
}

/// How much a connection is used; shared by the connection and the calls on it.
#[derive(Clone)]
struct Usage {
    streams: Rc<Cell<u32>>,
    last: Rc<Cell<Instant>>,
}

impl Held {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.endpoint.key.service, self.endpoint.key.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.endpoint
            .active
            .set(self.endpoint.active.get().saturating_sub(1));
        if let Some(usage) = &self.line {
            usage.streams.set(usage.streams.get().saturating_sub(1));
            usage.last.set(Instant::now());
        }
    }
}

/// A connection that is ready to take a request.
pub(crate) enum Ready {
    Http2(http2::SendRequest<RequestBody>),
    Http1(http1::SendRequest<RequestBody>),
}

impl Endpoint {
    pub(crate) fn new(key: Key, weight: u32) -> Rc<Self> {
        Rc::new(Self {
            key,
            weight: Cell::new(weight),
            active: Cell::new(0),
            rests_until: Cell::new(None),
            failures: Cell::new(0),
            lines: RefCell::default(),
            idle_http1: RefCell::default(),
            connecting: tokio::sync::Mutex::new(()),
            last_failure: RefCell::default(),
        })
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.set(weight);
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            active: self.active.get(),
            weight: self.weight.get().max(1),
        }
    }

    pub(crate) fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.get().is_some_and(|until| now < until)
    }

    /// Counts a call as active until what is given back is dropped.
    pub(crate) fn hold(self: &Rc<Self>) -> Held {
        self.active.set(self.active.get() + 1);
        Held {
            endpoint: self.clone(),
            line: None,
        }
    }

    /// A connection with room, an open one if there is one.
    ///
    /// # Errors
    /// Why none could be opened; the endpoint rests then.
    pub(crate) async fn ready(&self, worker: &Rc<Worker>, held: &mut Held) -> Result<Ready, String> {
        if self.key.dial == Dial::Http1 {
            return self.ready_http1(worker).await.map(Ready::Http1);
        }
        if let Some(sender) = self.open_line(held, STREAMS_PER_CONNECTION) {
            return Ok(Ready::Http2(sender));
        }
        let asked = Instant::now();
        let _turn = self.connecting.lock().await;
        // Somebody may have connected, or failed to, while we waited for our turn.
        if let Some(sender) = self.open_line(held, STREAMS_PER_CONNECTION) {
            return Ok(Ready::Http2(sender));
        }
        if self.lines.borrow().len() >= CONNECTIONS_MAX
            && let Some(sender) = self.open_line(held, u32::MAX)
        {
            return Ok(Ready::Http2(sender));
        }
        if let Some((_, why)) = self.last_failure.borrow().as_ref().filter(|(at, _)| *at >= asked) {
            return Err(why.clone());
        }
        // Boxed: connecting is rare and its state is large; calls should not carry it.
        let sender = self.outcome(worker, Box::pin(connect::http2(worker, &self.key)).await)?;
        let now = Instant::now();
        self.lines.borrow_mut().push(Line {
            sender,
            opened: now,
            usage: Usage {
                streams: Rc::default(),
                last: Rc::new(Cell::new(now)),
            },
        });
        self.open_line(held, u32::MAX)
            .map(Ready::Http2)
            .ok_or_else(|| "the connection closed at once".into())
    }

    async fn ready_http1(&self, worker: &Rc<Worker>) -> Result<http1::SendRequest<RequestBody>, String> {
        loop {
            let Some((sender, _)) = self.idle_http1.borrow_mut().pop() else {
                break;
            };
            if sender.is_ready() {
                return Ok(sender);
            }
        }
        self.outcome(worker, Box::pin(connect::http1(&self.key)).await)
    }

    /// Gives an HTTP/1.1 connection back once it can take another request.
    pub(crate) fn give_back(self: &Rc<Self>, mut sender: http1::SendRequest<RequestBody>) {
        let endpoint = self.clone();
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_ok() && endpoint.idle_http1.borrow().len() < IDLE_HTTP1_MAX {
                endpoint.idle_http1.borrow_mut().push((sender, Instant::now()));
            }
        });
    }

    fn open_line(&self, held: &mut Held, streams_max: u32) -> Option<http2::SendRequest<RequestBody>> {
        let now = Instant::now();
        let mut lines = self.lines.borrow_mut();
        lines.retain(|line| !line.sender.is_closed() && now.duration_since(line.opened) < CONNECTION_AGE_MAX);
        let streams = |line: &&Line| line.usage.streams.get();
        let line = lines
            .iter()
            .min_by_key(streams)
            .filter(|line| streams(line) < streams_max)?;
        // A second try of the same call lets go of the line of the first.
        if let Some(usage) = held.line.take() {
            usage.streams.set(usage.streams.get().saturating_sub(1));
        }
        line.usage.streams.set(line.usage.streams.get() + 1);
        held.line = Some(line.usage.clone());
        Some(line.sender.clone())
    }

    fn outcome<T>(&self, worker: &Worker, result: Result<T, String>) -> Result<T, String> {
        worker
            .metrics
            .connected(self.key.service.as_str(), result.is_ok());
        match &result {
            Ok(_) => {
                self.failures.set(0);
                self.rests_until.set(None);
            }
            Err(why) => {
                let failures = self.failures.get();
                self.failures.set(failures.saturating_add(1));
                let now = Instant::now();
                self.rests_until
                    .set(Some(now + (REST_MIN * 2u32.pow(failures.min(5))).min(REST_MAX)));
                *self.last_failure.borrow_mut() = Some((now, why.clone()));
                tracing::debug!(instance = %self.key.id, service = %self.key.service, why, "cannot connect");
            }
        }
        result
    }

    /// Closes connections nobody has used for a while.
    pub(crate) fn reap(&self, now: Instant) {
        self.lines.borrow_mut().retain(|line| {
            line.usage.streams.get() > 0 || now.duration_since(line.usage.last.get()) < CONNECTION_IDLE_MAX
        });
        self.idle_http1
            .borrow_mut()
            .retain(|(_, since)| now.duration_since(*since) < CONNECTION_IDLE_MAX / 5);
    }
}
