//! One call, from its head to the end of its stream: what is known of it, and the one place where it is measured.
//!
//! Made at step 3 of a way, handed along, and held by the answer's body to its end. Dropping it writes the log line and the
//! numbers, so a caller that goes away is measured like any other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::request::Parts;
use mesh_link::Peer;
use mesh_proto::name::ServiceName;
use mesh_transcode::Route;

use crate::clock::Ticket;
use crate::gates::access::{Caller, Conditions};
use crate::headers::{GRPC_STATUS, is_grpc, reads_trailers};
use crate::progress::Alarm;
use crate::reason::{Reason, Rejection};
use crate::telemetry::access_log::{Line, now_text};
use crate::telemetry::{Outcome, trace};
use crate::translate::caller::{connect, grpc_web};
use crate::upstream::endpoint::Held;
use crate::ways::Connection;
use crate::wire::Pulse;
use crate::worker::Worker;

/// Longest path in a log line, in bytes.
const LOGGED_PATH_BYTES_MAX: usize = 1_024;

/// What the caller speaks; answers of ours are given in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb(grpc_web::Form),
    /// Connect.
    Connect(connect::Form),
    /// HTTP with JSON, by the rules of a schema.
    Rest,
    /// HTTP that is passed through.
    Http,
}

impl Speaks {
    /// As the head alone tells it. REST is told from other HTTP by its rules, later.
    fn of(head: &Parts) -> Self {
        if is_grpc(&head.headers) {
            return Speaks::Grpc;
        }
        if let Some(form) = grpc_web::Form::of(&head.headers) {
            return Speaks::GrpcWeb(form);
        }
        connect::Form::of(head).map_or(Speaks::Http, Speaks::Connect)
    }

    /// Whether the path of its calls is `package.Service/Method`.
    pub(crate) fn names_its_rpc(self) -> bool {
        matches!(self, Speaks::Grpc | Speaks::GrpcWeb(_) | Speaks::Connect(_))
    }

    /// In logs and metrics.
    fn word(self) -> &'static str {
        match self {
            Speaks::Grpc => "grpc",
            Speaks::GrpcWeb(_) => "grpc-web",
            Speaks::Connect(_) => "connect",
            Speaks::Rest => "rest",
            Speaks::Http => "http",
        }
    }
}

/// What only the log line needs; made only where there is a log.
struct Logged {
    /// Nothing where it could not be read.
    method: Option<http::Method>,
    path: String,
    route: Option<Route>,
    trace_id: String,
}

/// What is known of one call.
pub(crate) struct Call {
    pub(crate) worker: Rc<Worker>,
    pub(crate) way: &'static str,
    pub(crate) peer: Rc<Peer>,
    pub(crate) caller: Option<Rc<Caller>>,
    pub(crate) speaks: Speaks,
    /// It says that it reads trailers.
    pub(crate) reads_trailers: bool,
    /// It is a HEAD: answers have no body.
    pub(crate) head_only: bool,
    /// Refusals are told as problem documents.
    pub(crate) problem: bool,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) service: Option<ServiceName>,
    /// `package.Service/Method`
    pub(crate) rpc: Option<Arc<str>>,
    /// Whether a schema knows the RPC; only then may it be a metric's label.
    pub(crate) rpc_known: bool,
    pub(crate) policy: Option<Arc<str>>,
    /// What its message has to say for it to be allowed; nothing may go upstream before that is judged.
    pub(crate) conditions: Option<Box<Conditions>>,
    /// The instance in use; it counts the call as active until dropped.
    pub(crate) instance: Option<Held>,
    /// Its place on the thread's clock, and how it gets on.
    pub(crate) ticket: Ticket,
    pub(crate) http_status: u16,
    pub(crate) grpc_status: Option<u16>,
    logged: Option<Logged>,
    reason: Option<Reason>,
    detail: Option<String>,
}

impl Logged {
    fn new(head: &Parts) -> Self {
        let path = head.uri.path();
        let cut = (0..=path.len().min(LOGGED_PATH_BYTES_MAX))
            .rev()
            .find(|at| path.is_char_boundary(*at));
        Self {
            method: Some(head.method.clone()),
            path: path[..cut.unwrap_or(0)].to_owned(),
            route: None,
            trace_id: trace::of(&head.headers).unwrap_or_default().to_owned(),
        }
    }
}

impl Call {
    /// Begins to measure. The request's trace context is completed on the way.
    pub(crate) fn begin(
        worker: Rc<Worker>,
        way: &'static str,
        peer: Rc<Peer>,
        caller: Option<Rc<Caller>>,
        ticket: Ticket,
        head: &mut Parts,
    ) -> Box<Self> {
        worker.gauges.in_flight(way, 1);
        worker.in_flight.set(worker.in_flight.get() + 1);
        trace::carry_on(&mut head.headers, &mut worker.dice.borrow_mut());
        let logged = worker.log.is_on().then(|| Logged::new(head));
        Box::new(Self {
            worker,
            way,
            peer,
            caller,
            speaks: Speaks::of(head),
            reads_trailers: reads_trailers(&head.headers),
            head_only: head.method == http::Method::HEAD,
            problem: false,
            started: Instant::now(),
            deadline: None,
            service: None,
            rpc: None,
            rpc_known: false,
            policy: None,
            conditions: None,
            instance: None,
            ticket,
            http_status: 0,
            grpc_status: None,
            logged,
            reason: None,
            detail: None,
        })
    }

    /// Notes the rule that named the RPC, for the log line.
    pub(crate) fn log_route(&mut self, route: impl FnOnce() -> Route) {
        if let Some(logged) = &mut self.logged {
            logged.route = Some(route());
        }
    }

    /// Measures and logs a request whose head cannot be read: nothing else is known of it.
    pub(crate) fn unreadable(connection: &Connection, pulse: Rc<Pulse>, rejection: &Rejection) {
        let worker = &connection.worker;
        let ticket = worker.clock.call(pulse);
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut call = Self::begin(
            worker.clone(),
            connection.way.word(),
            connection.peer.clone(),
            connection.caller.clone(),
            ticket,
            &mut head,
        );
        if let Some(logged) = &mut call.logged {
            logged.method = None;
            logged.path.clear();
        }
        call.speaks = Speaks::Http;
        call.refused(rejection);
        call.http_status = rejection.reason.http();
    }

    /// Notes why it is refused, for the log line and the numbers.
    pub(crate) fn refused(&mut self, rejection: &Rejection) {
        self.reason = Some(rejection.reason);
        self.detail.clone_from(&rejection.detail);
        if self.speaks != Speaks::Http {
            self.grpc_status = Some(rejection.reason.grpc());
        }
    }

    /// Notes how a passed-through stream ended.
    pub(crate) fn stream_ended(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(trailers) = trailers {
            self.note_grpc_status(trailers);
        } else if self.speaks == Speaks::Grpc && self.grpc_status.is_none() {
            self.grpc_status = Some(2);
        }
    }

    /// Takes the gRPC status out of headers or trailers.
    pub(crate) fn note_grpc_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(&GRPC_STATUS) {
            // What is no code counts as UNKNOWN, also so that a service cannot make up labels.
            let code = status
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|code| *code <= 16);
            self.grpc_status = Some(code.unwrap_or(2));
        }
    }

    fn code(&self) -> u16 {
        if self.speaks == Speaks::Http {
            self.http_status
        } else {
            self.grpc_status.unwrap_or(1)
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        // Nobody asked for more of the answer, so nobody could be told.
        if self.reason.is_none() && self.ticket.progress.has_rung() == Some(Alarm::WriteStall) {
            self.refused(&Alarm::WriteStall.rejection());
        }
        let worker = &self.worker;
        worker.in_flight.set(worker.in_flight.get().saturating_sub(1));
        worker.gauges.in_flight(self.way, -1);
        // The head never went out: the caller left first.
        let http_status = if self.http_status == 0 {
            499
        } else {
            self.http_status
        };
        let outcome = Outcome {
            way: self.way,
            service: self.service.clone(),
            method: self.rpc.clone().filter(|_| self.rpc_known),
            protocol: self.speaks.word(),
            code: if self.http_status == 0 && self.speaks == Speaks::Http {
                499
            } else {
                self.code()
            },
            reason: self.reason,
        };
        worker.outcomes.borrow_mut().count(&worker.metrics, outcome, took);
        if let Some(logged) = &self.logged {
            worker.log.write(&Line {
                time: now_text(),
                way: self.way,
                protocol: self.speaks.word(),
                method: logged.method.as_ref().map(http::Method::as_str),
                path: &logged.path,
                route: logged.route.as_ref().map(Route::template),
                rpc: self.rpc.as_deref(),
                service: self.service.as_ref().map(ServiceName::as_str),
                caller: self.caller.as_ref().map(|caller| caller.id.as_str()),
                peer: self.peer.address.to_string(),
                instance: self.instance.as_ref().map(Held::name),
                policy: self.policy.as_deref(),
                status: http_status,
                grpc_status: if self.speaks == Speaks::Http {
                    None
                } else {
                    Some(self.code())
                },
                reason: self.reason.map(Reason::word),
                detail: self.detail.as_deref(),
                duration_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
                bytes_in: self.ticket.progress.bytes_in(),
                bytes_out: self.ticket.progress.bytes_out(),
                trace_id: &logged.trace_id,
            });
        }
    }
}
