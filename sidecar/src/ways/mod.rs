//! The ways of a call. [`inbound`], [`outbound`] and [`edge`] each read top to bottom as one numbered list; the order is the
//! design. What they share is here, step by step.
//!
//! ```text
//!  1 accept  2 rescue  3 measure  4 recognise  5 deadline  6 jwt  7 access  9 room  10 translate  11 upstream
//! ```
//!
//! (8, rate, will stand between access and room.)

pub(crate) mod edge;
pub(crate) mod inbound;
mod look;
pub(crate) mod outbound;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use http::header::{HOST, TE};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use mesh_link::Peer;

use crate::answer::refuse;
use crate::body::{AnswerBody, RequestBody};
use crate::call::{Call, Speaks};
use crate::clock::Ticket;
use crate::deadline;
use crate::gates::access::{self, Caller, First, Second};
use crate::gates::cors::is_preflight;
use crate::gates::jwt::Verified;
use crate::headers::{self, GRPC_TIMEOUT};
use crate::leftover::CallerBody;
use crate::progress::{Bounds, Progress};
use crate::reason::{Reason, Rejection};
use crate::recognise::{Door, Recognition};
use crate::snapshot::{ServiceEntry, Snapshot};
use crate::translate::{self, Translation};
use crate::upstream::Answer;
use crate::upstream::cluster::Cluster;
use crate::upstream::connect::Dial;
use crate::websocket::Session;
use crate::worker::{IN_FLIGHT_MAX, View, Worker};

/// Which way a listener's calls go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Inbound,
    Outbound,
    Edge,
}

impl Way {
    /// In logs and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Way::Inbound => "inbound",
            Way::Outbound => "outbound",
            Way::Edge => "edge",
        }
    }
}

/// What a connection's calls have in common.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) way: Way,
    pub(crate) peer: Rc<Peer>,
    pub(crate) caller: Option<Rc<Caller>>,
    /// A call that goes on over a WebSocket once its handshake is out.
    pub(crate) session: RefCell<Option<Box<Session>>>,
}

/// Answers one request; never fails, since step 2 turns every failure into an answer.
pub(crate) async fn answer(
    connection: Rc<Connection>,
    ticket: Ticket,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    let way = connection.way;
    // 3 measure: from here to the end of the stream.
    let call = Call::begin(
        connection.worker.clone(),
        way.word(),
        connection.peer.clone(),
        connection.caller.clone(),
        ticket,
        &mut head,
    );
    let cors = match way {
        Way::Edge => connection.worker.shared.cors.clone(),
        Way::Inbound | Way::Outbound => None,
    };
    if let Some(policy) = cors.as_ref().filter(|_| is_preflight(&head)) {
        return Ok(edge::preflight(&connection, policy, call, &head));
    }
    let grant = cors.as_ref().map(|policy| policy.grant(&head.headers));
    let answered = match way {
        Way::Inbound => inbound::serve(&connection, call, head, body).await,
        Way::Outbound => outbound::serve(&connection, call, head, body).await,
        Way::Edge => edge::serve(&connection, call, head, body).await,
    };
    // 2 rescue: what went wrong below becomes an answer the caller can read.
    let mut response = answered.unwrap_or_else(|(call, rejection)| refuse(call, &rejection));
    // Pages may read refusals as well as answers.
    if let (Some(policy), Some(grant)) = (cors, grant) {
        policy.mark(&grant, response.headers_mut());
    }
    Ok(response)
}

/// An answer, or the call with the reason it is refused for.
pub(crate) type Answered = Result<Response<AnswerBody>, (Box<Call>, Rejection)>;

/// Step 5: when the call must have ended.
pub(crate) fn bound_time(
    call: &mut Call,
    head: &Parts,
    entry: &ServiceEntry,
    unary: bool,
) -> Result<(), Rejection> {
    let otherwise = unary.then_some(entry.timeout);
    call.deadline = match call.speaks {
        Speaks::Connect(_) => deadline::of_connect(&head.headers, otherwise, call.started)?,
        _ => deadline::of(&head.headers, otherwise, call.started)?,
    };
    // A unary call has a deadline in any case; a stream without one ends when nothing moves on it.
    let idle = entry.stream_idle.filter(|_| !unary);
    call.ticket.progress.set_bounds(Bounds { unary, idle });
    if let Some(deadline) = call.deadline {
        call.ticket.bound(deadline);
    }
    Ok(())
}

/// Steps 6 and 7: who says so, and may they. The token is only looked at where a rule asks for one.
pub(crate) fn judge(
    call: &mut Call,
    head: &Parts,
    view: &View,
    entry: &ServiceEntry,
) -> Result<Judged, Rejection> {
    let rpc = call.rpc.clone();
    let judged = access::Call {
        rpc: rpc.as_deref(),
        caller: call.caller.as_deref(),
    };
    let token = match entry.access.first(judged)? {
        First::Allowed(policy) => {
            let strip_token = entry.access.is_guarded();
            call.policy = policy;
            return Ok(Judged { strip_token });
        }
        First::Asks { token } => token.then(|| verify(call, head, view)),
    };
    match entry.access.second(judged, token.as_ref())? {
        Second::Allowed(policy) => call.policy = Some(policy),
        Second::Depends(conditions) => call.conditions = Some(conditions),
    }
    let provider = token.and_then(Result::ok).map(|token| token.provider);
    let forward = provider.and_then(|provider| view.snapshot.forwards.get(&provider).copied());
    Ok(Judged {
        strip_token: !forward.unwrap_or(false),
    })
}

/// The token of a call.
fn verify(call: &Call, head: &Parts, view: &View) -> Result<Verified, Rejection> {
    let verifier = &view.snapshot.verifier;
    let mut known = view.tokens.borrow_mut();
    let verified = known.verify(verifier, &head.headers, SystemTime::now());
    verified.map_err(|refused| {
        if let Some(provider) = &refused.stale {
            call.worker.shared.keys_are_stale(provider);
        }
        refused.rejection
    })
}

/// What the gates found.
pub(crate) struct Judged {
    /// The service itself must not see the token.
    pub(crate) strip_token: bool,
}

/// Step 9: is there room.
pub(crate) fn room(call: &Call) -> Result<(), Rejection> {
    if call.worker.in_flight.get() > IN_FLIGHT_MAX {
        return Err(Rejection::new(
            Reason::Overloaded,
            "this sidecar has too many calls in flight; try again shortly",
        ));
    }
    Ok(())
}

/// Steps 10 and 11: translate where caller and service differ, and go upstream.
pub(crate) async fn forward(
    cluster: &Cluster,
    snapshot: &Snapshot,
    recognition: Recognition,
    mut head: Parts,
    body: Incoming,
    call: Box<Call>,
) -> Answered {
    let entry = &snapshot.services[recognition.service];
    let (body, translation) = match recognition.door {
        Door::Options(allow) => return Ok(translate::options(&allow, call)),
        Door::Grpc => {
            // gRPC callers say so to detect proxies that lose trailers; we do not, and say it for those that forgot.
            head.headers.insert(TE, HeaderValue::from_static("trailers"));
            (
                RequestBody::Incoming(CallerBody::new(body), call.ticket.progress.clone()),
                None,
            )
        }
        Door::Http(prefix) => {
            if let Some(prefix) = prefix
                && let Err(rejection) = strip_prefix(&mut head, &prefix)
            {
                return Err((call, rejection));
            }
            let empty = http_body::Body::is_end_stream(&body);
            (
                if empty {
                    RequestBody::Empty
                } else {
                    RequestBody::Incoming(CallerBody::new(body), call.ticket.progress.clone())
                },
                None,
            )
        }
        Door::Translated(caller) => {
            let mut translation = Translation::new(caller, call.rpc.as_deref().unwrap_or(""), entry);
            let read = Box::pin(translation.request(&mut head, body, &call));
            match within(&call.ticket.progress.clone(), read).await {
                Ok(body) => (body, Some(translation)),
                Err(rejection) => return Err((call, rejection)),
            }
        }
    };
    upstream(cluster, head, body, translation, call).await
}

/// Step 11: upstream, and what comes back, as far as the caller's head needs it.
pub(crate) async fn upstream(
    cluster: &Cluster,
    mut head: Parts,
    body: RequestBody,
    translation: Option<Box<Translation>>,
    mut call: Box<Call>,
) -> Answered {
    let worker = call.worker.clone();
    let progress = call.ticket.progress.clone();
    let body = match call.conditions.take() {
        None => body,
        // 7 access, on: the request itself is looked at.
        Some(conditions) => {
            let looking = look::at(body, &head.headers, *conditions, &mut call);
            match within(&progress, Box::pin(looking)).await {
                Ok(body) => body,
                Err(rejection) => return Err((call, rejection)),
            }
        }
    };
    if let Some(deadline) = call.deadline {
        head.headers
            .insert(GRPC_TIMEOUT, deadline::header(deadline, Instant::now()));
    }
    if let Err(rejection) = address(&mut head, cluster) {
        return Err((call, rejection));
    }
    let sent = within(&progress, pin!(cluster.send(&worker, &mut call, head, body))).await;
    let response = match sent {
        Ok(response) => response,
        // Where our own reset ended it, the reason is the request.
        Err(rejection) => {
            let rejection = progress.refused().unwrap_or(rejection);
            return Err((call, rejection));
        }
    };
    progress.answered();
    let Some(translation) = translation else {
        return Ok(pass_through(response, call));
    };
    match within(
        &progress,
        Box::pin(translate::begin(translation, response, progress.clone())),
    )
    .await
    {
        Ok(begun) => Ok(translate::answer(begun, call)),
        Err(rejection) => Err((call, rejection)),
    }
}

/// The service's own answer, as it comes.
fn pass_through(response: Response<Answer>, mut call: Box<Call>) -> Response<AnswerBody> {
    let (mut head, body) = response.into_parts();
    headers::clean_response(&mut head.headers);
    let grpc = call.speaks == Speaks::Grpc;
    call.http_status = head.status.as_u16();
    if grpc {
        call.note_grpc_status(&head.headers);
    }
    head.version = Version::HTTP_11;
    Response::from_parts(head, AnswerBody::passed_through(body, grpc, call))
}

/// Addresses a request to its next hop. Another sidecar is told the service; the service itself is told what the caller
/// said.
fn address(head: &mut Parts, cluster: &Cluster) -> Result<(), Rejection> {
    headers::join_cookies(&mut head.headers);
    let dial = cluster
        .endpoints
        .first()
        .map_or(Dial::Mesh, |endpoint| endpoint.key.dial);
    let path = head
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let malformed = || Rejection::new(Reason::RequestMalformed, "the authority is not host or host:port");
    if dial == Dial::Http1 {
        let said = head.uri.authority().map(Authority::as_str);
        if let Some(said) = said.filter(|_| !head.headers.contains_key(HOST)) {
            let host = HeaderValue::from_str(said).map_err(|_| malformed())?;
            head.headers.insert(HOST, host);
        }
        head.uri = Uri::from(path);
        head.version = Version::HTTP_11;
        return Ok(());
    }
    let authority = match dial {
        Dial::Mesh => cluster.authority.clone(),
        _ => match (head.uri.authority(), headers::single(&head.headers, &HOST)) {
            (Some(authority), _) => authority.clone(),
            (None, Some(host)) => host.parse().map_err(|_| malformed())?,
            (None, None) => cluster.authority.clone(),
        },
    };
    head.headers.remove(HOST);
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    head.uri = Uri::from_parts(parts).map_err(|_| malformed())?;
    head.version = Version::HTTP_2;
    Ok(())
}

fn strip_prefix(head: &mut Parts, prefix: &str) -> Result<(), Rejection> {
    let whole = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.strip_prefix(prefix).unwrap_or(whole);
    let path = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    let malformed = |_| Rejection::new(Reason::RequestMalformed, "the path cannot be read");
    let authority = head.uri.authority().cloned();
    head.uri = Uri::try_from(path).map_err(malformed)?;
    if let Some(authority) = authority {
        head.headers
            .entry(HOST)
            .or_insert(HeaderValue::from_str(authority.as_str()).unwrap_or(HeaderValue::from_static("")));
    }
    Ok(())
}

/// Does work until a clock rings for the call. The work is boxed or pinned by the caller, so that its state is held once.
fn within<T>(
    progress: &Progress,
    mut work: impl Future<Output = Result<T, Rejection>> + Unpin,
) -> impl Future<Output = Result<T, Rejection>> {
    poll_fn(move |cx| {
        if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
            return Poll::Ready(done);
        }
        match progress.alarm(cx) {
            Some(alarm) => Poll::Ready(Err(alarm.rejection())),
            None => Poll::Pending,
        }
    })
}

#[cfg(test)]
mod tests {
    /// What a call costs in memory while it waits; every stream of every connection holds one.
    const CALL_BYTES_MAX: usize = 5 << 10;

    fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_that_waits_is_small() {
        let bytes = size(super::answer);
        assert!(bytes <= CALL_BYTES_MAX, "{bytes} bytes");
    }
}
