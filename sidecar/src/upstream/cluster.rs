//! The instances of one service as this thread knows them, and the sending of a call to one of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response};
use mesh_proto::domain::{Balance, Retry};
use mesh_proto::name::ServiceName;

use super::balance::choose;
use super::budget::RetryBudget;
use super::endpoint::{Endpoint, Ready};
use super::interim::Watch;
use super::{Answer, http2};
use crate::body::{BoxError, RequestBody};
use crate::call::Call;
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
    /// Sends a request to an instance, to another one if it cannot be connected to.
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
        let mut tried: Vec<usize> = Vec::new();
        let mut stale = 0;
        let mut failed = None;
        loop {
            let Some(at) = self.pick(worker, &tried) else {
                return Err(failed.unwrap_or_else(|| {
                    Rejection::new(
                        Reason::NoInstance,
                        format!("{} has no instance that takes calls", self.service),
                    )
                }));
            };
            let endpoint = &self.endpoints[at];
            let mut held = endpoint.hold();
            let ready = match endpoint.ready(worker, &mut held).await {
                Ok(ready) => ready,
                Err(why) => {
                    tried.push(at);
                    call.instance = Some(held);
                    let message = format!("no instance of {} could be connected to", self.service);
                    let rejection = Rejection::new(Reason::ConnectFailed, message).with_detail(why);
                    let tries = u32::try_from(tried.len()).unwrap_or(u32::MAX);
                    if tries >= self.retry.attempts || !self.budget.borrow_mut().spend(Instant::now()) {
                        return Err(rejection);
                    }
                    failed = Some(rejection);
                    worker.metrics.retried(self.service.as_str());
                    continue;
                }
            };
            call.instance = Some(held);
            let closing = match ready {
                Ready::Http2(mut sender) => {
                    if let Err(error) = http2::ready(&mut sender).await {
                        (request, error.to_string())
                    } else {
                        let (head, body) = request.into_parts();
                        let sending =
                            http2::send(&mut sender, head, body).map_err(|error| self.reset(&error))?;
                        let answered = sending.await.map_err(|error| self.reset(&*error))?;
                        return Ok(answered.map(Answer::Http2));
                    }
                }
                Ready::Http1(mut sender) => {
                    let watch = Watch::over(&mut request);
                    let answered = watch.wait(sender.try_send_request(request)).await;
                    match answered.map_err(|error| self.reset(&error))? {
                        Ok(response) => {
                            endpoint.give_back(sender);
                            return Ok(response.map(Answer::Http1));
                        }
                        Err(mut error) => match error.take_message() {
                            Some(unsent) => (unsent, error.into_error().to_string()),
                            None => return Err(self.reset(&error.into_error())),
                        },
                    }
                }
            };
            // Nothing was sent: the connection was closing under our hands.
            let (unsent, why) = closing;
            stale += 1;
            if stale > STALE_CONNECTIONS_MAX {
                return Err(self.reset(&*BoxError::from(why)));
            }
            request = unsent;
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

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
