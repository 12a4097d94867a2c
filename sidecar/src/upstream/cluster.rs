//! The instances of one service as this thread knows them, and the sending of a call to one of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response};
use hyper::client::conn::http1::SendRequest;
use mesh_proto::domain::{Balance, Retry};
use mesh_proto::name::ServiceName;

use super::balance::choose;
use super::budget::RetryBudget;
use super::endpoint::{Endpoint, Ready};
use super::http2::Lease;
use super::interim::Watch;
use super::{Answer, http2};
use crate::body::{BoxError, RequestBody};
use crate::call::Call;
use crate::deadline;
use crate::headers::GRPC_TIMEOUT;
use crate::reason::{Reason, Rejection};
use crate::worker::Worker;

/// Connections that may turn out to be closing before a request of one call has found one that is not. Costs no try:
/// nothing was sent.
const STALE_CONNECTIONS_MAX: u32 = 4;

/// The instances of one service.
pub(crate) struct Cluster {
    pub(crate) service: ServiceName,
    /// The service's name as the authority of requests to its sidecars.
    pub(crate) authority: Authority,
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    /// Positions of those to be preferred; empty for no preference.
    pub(crate) local: Vec<usize>,
    pub(crate) balance: Balance,
    pub(crate) retry: Retry,
    pub(crate) turn: Cell<usize>,
    pub(crate) budget: RefCell<RetryBudget>,
}

impl Cluster {
    /// Sends a request to an instance. Where that cannot be connected to, or says that it did not look at the request, the
    /// request goes to another one, as long as there are tries and the budget has some.
    ///
    /// # Errors
    /// No instance took it.
    pub(crate) async fn send(
        &self,
        worker: &Rc<Worker>,
        call: &mut Call,
        head: Parts,
        body: RequestBody,
    ) -> Result<Response<Answer>, Rejection> {
        self.budget.borrow_mut().earn();
        let mut request = Request::from_parts(head, body);
        let (mut tried, mut unreachable) = (Vec::new(), Vec::new());
        let mut stale = 0;
        let mut failed = None;
        loop {
            let is_last = u32::try_from(tried.len() + 1).unwrap_or(u32::MAX) >= self.retry.attempts;
            // One that only refused the request may take it the next time, if there is no other.
            let at = self
                .pick(worker, &tried)
                .or_else(|| self.pick(worker, &unreachable));
            let Some(at) = at else {
                return Err(failed.unwrap_or_else(|| {
                    Rejection::new(
                        Reason::NoInstance,
                        format!("{} has no instance that takes calls", self.service),
                    )
                }));
            };
            let endpoint = &self.endpoints[at];
            let mut held = endpoint.hold();
            let ready = endpoint.ready(worker, &mut held).await;
            call.instance = Some(held);
            let outcome = match ready {
                Err(why) => {
                    unreachable.push(at);
                    let message = format!("no instance of {} could be connected to", self.service);
                    let why = Rejection::new(Reason::ConnectFailed, message).with_detail(why);
                    Outcome::Unseen(why, Some(request))
                }
                Ok(Ready::Http2(lease)) => self.over_http2(lease, request, !is_last).await?,
                Ok(Ready::Http1(sender)) => self.over_http1(endpoint, sender, request).await?,
            };
            request = match outcome {
                Outcome::Answered(answer) => return Ok(answer),
                // The connection was closing under our hands.
                Outcome::Unsent(why, unsent) => {
                    stale += 1;
                    if stale > STALE_CONNECTIONS_MAX {
                        return Err(self.reset(&*why));
                    }
                    unsent
                }
                Outcome::Unseen(why, again) => {
                    tried.push(at);
                    let Some(mut again) =
                        again.filter(|_| !is_last && self.budget.borrow_mut().spend(Instant::now()))
                    else {
                        return Err(why);
                    };
                    if let Some(deadline) = call.deadline {
                        let left = deadline::header(deadline, Instant::now());
                        again.headers_mut().insert(GRPC_TIMEOUT, left);
                    }
                    failed = Some(why);
                    worker.metrics.retried(self.service.as_str());
                    again
                }
            };
        }
    }

    /// `keep`: so much of the request that it can be sent again.
    async fn over_http2(
        &self,
        mut lease: Lease,
        request: Request<RequestBody>,
        keep: bool,
    ) -> Result<Outcome, Rejection> {
        if let Err(error) = lease.ready().await {
            return Ok(Outcome::Unsent(error.into(), request));
        }
        let (head, body) = request.into_parts();
        let again = keep.then(|| copy(&head));
        let mut sending = lease.send(head, body, keep).map_err(|error| self.reset(&error))?;
        match (&mut sending).await {
            Ok(answer) => Ok(Outcome::Answered(answer.map(Answer::Http2))),
            Err(error) if http2::is_unseen(&*error) => {
                let again = again.zip(sending.body_again());
                let again = again.map(|(head, body)| Request::from_parts(head, body));
                Ok(Outcome::Unseen(self.reset(&*error), again))
            }
            Err(error) => Err(self.reset(&*error)),
        }
    }

    async fn over_http1(
        &self,
        endpoint: &Rc<Endpoint>,
        mut sender: SendRequest<RequestBody>,
        mut request: Request<RequestBody>,
    ) -> Result<Outcome, Rejection> {
        let watch = Watch::over(&mut request);
        let answered = watch.wait(sender.try_send_request(request)).await;
        match answered.map_err(|error| self.reset(&error))? {
            Ok(answer) => {
                endpoint.give_back(sender);
                Ok(Outcome::Answered(answer.map(Answer::Http1)))
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) => Ok(Outcome::Unsent(error.into_error().into(), unsent)),
                None => Err(self.reset(&error.into_error())),
            },
        }
    }

    fn reset(&self, error: &(dyn std::error::Error + 'static)) -> Rejection {
        let without_answer = || {
            let message = format!("{} ended the call without an answer", self.service);
            Rejection::new(Reason::UpstreamReset, message)
        };
        http2::refused_here(error)
            .unwrap_or_else(without_answer)
            .with_detail(describe(error))
    }

    /// Prefers, in this order: local ones that do not rest, any that do not rest, any at all. Never one that was tried.
    fn pick(&self, worker: &Worker, tried: &[usize]) -> Option<usize> {
        let now = Instant::now();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let dice = &mut *worker.dice.borrow_mut();
        let usable = |at: usize, even_resting: bool| {
            let endpoint = &self.endpoints[at];
            (!tried.contains(&at) && (even_resting || !endpoint.is_resting(now))).then(|| endpoint.load())
        };
        let algorithm = self.balance.algorithm;
        let near = choose(algorithm, self.local.len(), turn, dice, |at| {
            usable(self.local[at], false)
        });
        near.map(|at| self.local[at])
            .or_else(|| {
                choose(algorithm, self.endpoints.len(), turn, dice, |at| {
                    usable(at, false)
                })
            })
            .or_else(|| choose(algorithm, self.endpoints.len(), turn, dice, |at| usable(at, true)))
    }
}

/// What became of a request that went to one instance.
enum Outcome {
    Answered(Response<Answer>),
    /// Nothing of it was sent. Costs no try.
    Unsent(BoxError, Request<RequestBody>),
    /// No service looked at it; with the request, if it can be sent again.
    Unseen(Rejection, Option<Request<RequestBody>>),
}

/// The head of a request once more, without what the library keeps in it.
fn copy(head: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers = head.headers.clone();
    copy
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
