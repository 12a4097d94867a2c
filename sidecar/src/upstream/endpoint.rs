//! One instance as this thread knows it: its connections, its calls in flight, and whether it rests after a failure.
//!
//! ```text
//!  in use ──connect failed──► resting (1 s, 2 s, … 30 s; chosen only when all rest) ──connected──► in use
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use mesh_proto::name::ServiceName;

use super::balance::Load;
use super::connect::{self, Dial};
use super::http2::{Lease, Line};
use crate::body::RequestBody;
use crate::wire::Pulse;
use crate::worker::Worker;

/// Streams on one connection before another is opened.
const STREAMS_PER_CONNECTION: u32 = 100;
/// HTTP/2 connections to one instance from one thread.
const CONNECTIONS_MAX: usize = 8;
/// Idle HTTP/1.1 connections kept to one instance from one thread.
const IDLE_HTTP1_MAX: usize = 64;
/// An idle HTTP/1.1 connection is closed after this.
const IDLE_HTTP1_AGE_MAX: Duration = Duration::from_secs(60);
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

/// An endpoint in use by a call.
pub(crate) struct Held {
    endpoint: Rc<Endpoint>,
    line: Option<Rc<Pulse>>,
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
        if let Some(pulse) = &self.line {
            pulse.call_ended();
        }
    }
}

/// A connection that is ready to take a request.
pub(crate) enum Ready {
    Http2(Lease),
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
        if let Some(lease) = self.open_line(held, STREAMS_PER_CONNECTION) {
            return Ok(Ready::Http2(lease));
        }
        let asked = Instant::now();
        let _turn = self.connecting.lock().await;
        // Somebody may have connected, or failed to, while we waited for our turn.
        if let Some(lease) = self.open_line(held, STREAMS_PER_CONNECTION) {
            return Ok(Ready::Http2(lease));
        }
        if self.lines.borrow().len() >= CONNECTIONS_MAX
            && let Some(lease) = self.open_line(held, u32::MAX)
        {
            return Ok(Ready::Http2(lease));
        }
        if let Some((_, why)) = self.last_failure.borrow().as_ref().filter(|(at, _)| *at >= asked) {
            return Err(why.clone());
        }
        // Boxed: connecting is rare and its state is large; calls should not carry it.
        let line = self.outcome(worker, Box::pin(connect::http2(worker, &self.key)).await)?;
        self.lines.borrow_mut().push(line);
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

    fn open_line(&self, held: &mut Held, streams_max: u32) -> Option<Lease> {
        let mut lines = self.lines.borrow_mut();
        lines.retain(|line| !line.is_gone());
        let line = lines
            .iter()
            .min_by_key(|line| line.pulse.calls())
            .filter(|line| line.pulse.calls() < streams_max)?;
        line.pulse.call_began();
        // A second try of the same call lets go of the line of the first.
        if let Some(before) = held.line.replace(line.pulse.clone()) {
            before.call_ended();
        }
        Some(line.lease())
    }

    fn outcome<T>(&self, worker: &Worker, result: Result<T, String>) -> Result<T, String> {
        worker
            .metrics
            .connected(self.key.service.as_str(), result.is_ok());
        match &result {
            Ok(_) => {
                self.failures.set(0);
                self.rests_until.set(None);
                // Whoever answers now may be another version than before.
                worker.shared.connected(&self.key.service);
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
        self.lines.borrow_mut().retain(|line| !line.is_gone());
        self.idle_http1
            .borrow_mut()
            .retain(|(_, since)| now.duration_since(*since) < IDLE_HTTP1_AGE_MAX);
    }
}
