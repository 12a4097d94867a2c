//! How one call gets on: its bytes, what it waits for, and whether a clock has rung for it. An engine, but for the wakers.
//!
//! ```text
//!  caller ── request body ──► RequestBody ──► service        a caller that owes bytes and sends none: body stall
//!  caller ◄── AnswerBody ◄── answer ◄──────── service        a caller that takes nothing: write stall
//!                                                            nothing either way: stream idle
//! ```

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::reason::{Reason, Rejection};
use crate::wire::{self, Tick};

/// A caller that owes a body and sends no byte of it for so many seconds.
const BODY_STALL: Tick = 30;
/// A body may not trickle slower than so many bytes a second, on average, after so many seconds.
const BODY_RATE_MIN: u64 = 240;
const BODY_RATE_AFTER: Tick = 60;
/// A caller that takes nothing of its answer for so many seconds.
const WRITE_STALL: Tick = 60;
/// A stream on which nothing moves for so long.
pub(crate) const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(300);

/// What a clock rang for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    Deadline,
    BodyStall,
    WriteStall,
    StreamIdle,
    /// The call is over; what is left of its request goes nowhere.
    Ended,
}

impl Alarm {
    /// As the caller is told.
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Alarm::Deadline => Rejection::new(
                Reason::DeadlinePassed,
                "the deadline passed before the answer was complete",
            ),
            Alarm::BodyStall => Rejection::new(
                Reason::RequestStalled,
                "the body of the request did not come, or came too slowly",
            ),
            Alarm::WriteStall | Alarm::Ended => {
                Rejection::new(Reason::CallerStalled, "the answer was not taken")
            }
            Alarm::StreamIdle => Rejection::new(
                Reason::StreamIdle,
                "nothing moved on this stream for long; send something now and then, or raise streamIdle",
            ),
        }
    }
}

/// Which bounds a call has besides its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// One request and one answer: the request has to come at once.
    pub(crate) unary: bool,
    /// How long nothing may move; nothing for no bound.
    pub(crate) idle: Option<Duration>,
}

/// How one call gets on.
pub(crate) struct Progress {
    began: Tick,
    now: Cell<Tick>,
    bounds: Cell<Bounds>,
    deadline: Cell<Option<Instant>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Since when a piece of the request is waited for.
    owes: Cell<Option<Tick>>,
    /// Since when a piece of the answer is given and no other asked for.
    given: Cell<Option<Tick>>,
    moved: Cell<Tick>,
    answered: Cell<bool>,
    rung: Cell<Option<Alarm>>,
    /// What turned out to be wrong with the request while it was on its way upstream.
    wrong: RefCell<Option<Box<Rejection>>>,
    call: RefCell<Option<Waker>>,
    request: RefCell<Option<Waker>>,
}

impl Progress {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            began: now,
            now: Cell::new(now),
            bounds: Cell::new(Bounds {
                unary: false,
                idle: Some(STREAM_IDLE_DEFAULT),
            }),
            deadline: Cell::new(None),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            owes: Cell::new(None),
            given: Cell::new(None),
            moved: Cell::new(now),
            answered: Cell::new(false),
            rung: Cell::new(None),
            wrong: RefCell::default(),
            call: RefCell::default(),
            request: RefCell::default(),
        }
    }

    /// Bytes from the caller.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    /// Bytes to the caller.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        self.bounds.set(bounds);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.deadline.set(Some(deadline));
    }

    /// So many bytes of the request came.
    pub(crate) fn came(&self, bytes: usize) {
        self.bytes_in.set(self.bytes_in.get() + bytes as u64);
        self.owes.set(None);
        self.moved.set(self.now.get());
    }

    /// The request is complete, or nobody waits for more of it.
    pub(crate) fn owes_nothing(&self) {
        self.owes.set(None);
    }

    /// More of the request is waited for. Whoever waits is woken when a clock rings.
    pub(crate) fn waits_for_caller(&self, cx: &Context<'_>) {
        if self.owes.get().is_none() {
            self.owes.set(Some(self.now.get()));
        }
        keep(&self.request, cx);
    }

    /// Keeps what is wrong with the request, for the answer.
    pub(crate) fn refuse(&self, rejection: Rejection) {
        *self.wrong.borrow_mut() = Some(Box::new(rejection));
    }

    /// What was wrong with the request, told once.
    pub(crate) fn refused(&self) -> Option<Rejection> {
        self.wrong.borrow_mut().take().map(|rejection| *rejection)
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        self.answered.set(true);
        self.moved.set(self.now.get());
    }

    /// So many bytes of the answer are given to be sent.
    pub(crate) fn gave(&self, bytes: usize) {
        self.bytes_out.set(self.bytes_out.get() + bytes as u64);
        self.given.set(Some(self.now.get()));
        self.moved.set(self.now.get());
    }

    /// The next piece of the answer is asked for.
    pub(crate) fn asked(&self) {
        self.given.set(None);
    }

    /// What a clock rang for; the call is woken when one rings later.
    pub(crate) fn alarm(&self, cx: &Context<'_>) -> Option<Alarm> {
        if self.rung.get().is_none() {
            keep(&self.call, cx);
        }
        self.rung.get()
    }

    /// What a clock rang for.
    pub(crate) fn has_rung(&self) -> Option<Alarm> {
        self.rung.get()
    }

    /// The call is over.
    pub(crate) fn end(&self) {
        if self.rung.get().is_none() {
            self.rung.set(Some(Alarm::Ended));
        }
        self.call.take();
        if let Some(waker) = self.request.take() {
            waker.wake();
        }
    }

    /// What a deadline that has come means: a call that waits for its own caller is not the service's to answer for.
    pub(crate) fn late(&self) -> Alarm {
        if self.bounds.get().unary && self.owes.get().is_some() && !self.answered.get() {
            Alarm::BodyStall
        } else {
            Alarm::Deadline
        }
    }

    /// A clock rings; the first one counts.
    pub(crate) fn ring(&self, alarm: Alarm) {
        if self.rung.get().is_some() {
            return;
        }
        self.rung.set(Some(alarm));
        for waker in [self.call.take(), self.request.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Looks at all clocks but the deadline.
    pub(crate) fn sweep(&self, now: Tick) {
        self.now.set(now);
        if let Some(alarm) = self.due(now) {
            self.ring(alarm);
        }
    }

    fn due(&self, now: Tick) -> Option<Alarm> {
        let passed = |since: Tick, bound: Tick| wire::passed(since, now, bound);
        let Bounds { unary, idle } = self.bounds.get();
        if let Some(since) = self.owes.get() {
            // A stream may be silent once it has begun; before that, on either side, silence is a caller that forgot.
            let must_come = unary || (self.bytes_in.get() == 0 && !self.answered.get());
            if must_come && passed(since, BODY_STALL) {
                return Some(Alarm::BodyStall);
            }
            let age = now.saturating_sub(self.began);
            if unary && age >= BODY_RATE_AFTER && self.bytes_in.get() < BODY_RATE_MIN * u64::from(age) {
                return Some(Alarm::BodyStall);
            }
        }
        if self.given.get().is_some_and(|since| passed(since, WRITE_STALL)) {
            return Some(Alarm::WriteStall);
        }
        let idle = idle.map(|idle| Tick::try_from(idle.as_millis().div_ceil(1_000)).unwrap_or(Tick::MAX));
        idle.filter(|bound| passed(self.moved.get(), *bound))
            .map(|_| Alarm::StreamIdle)
    }
}

fn keep(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNARY: Bounds = Bounds {
        unary: true,
        idle: None,
    };
    const STREAM: Bounds = Bounds {
        unary: false,
        idle: Some(STREAM_IDLE_DEFAULT),
    };

    /// When a clock rings, and for what, for a call to which this happens in these seconds: in the second after
    /// the bound.
    fn rings(bounds: Bounds, happen: impl Fn(&Progress, Tick, &Context<'_>)) -> Option<(Tick, Alarm)> {
        let progress = Progress::new(0);
        progress.set_bounds(bounds);
        let cx = Context::from_waker(Waker::noop());
        (0..2_000).find_map(|now| {
            progress.sweep(now);
            happen(&progress, now, &cx);
            Some((now, progress.has_rung()?))
        })
    }

    #[test]
    fn a_unary_request_that_stops_coming_is_given_up_after_thirty_seconds() {
        let stops = |progress: &Progress, now: Tick, cx: &Context<'_>| {
            if now <= 5 {
                progress.came(100_000);
            }
            progress.waits_for_caller(cx);
        };
        assert_eq!(rings(UNARY, stops), Some((36, Alarm::BodyStall)));
    }

    #[test]
    fn a_unary_request_that_trickles_is_given_up_after_a_minute() {
        let trickles = |progress: &Progress, _: Tick, cx: &Context<'_>| {
            progress.came(100);
            progress.waits_for_caller(cx);
        };
        assert_eq!(rings(UNARY, trickles), Some((60, Alarm::BodyStall)));
        let fast = |progress: &Progress, now: Tick, cx: &Context<'_>| {
            progress.came(1_000);
            if now < 1_500 {
                progress.waits_for_caller(cx);
            }
        };
        assert_eq!(rings(UNARY, fast), None);
    }

    #[test]
    fn a_stream_that_never_began_is_given_up_but_one_that_was_answered_may_be_silent() {
        let silent = |progress: &Progress, _: Tick, cx: &Context<'_>| progress.waits_for_caller(cx);
        assert_eq!(rings(STREAM, silent), Some((31, Alarm::BodyStall)));
        let answered = |progress: &Progress, now: Tick, cx: &Context<'_>| {
            progress.waits_for_caller(cx);
            if now == 1 {
                progress.answered();
            }
        };
        assert_eq!(rings(STREAM, answered), Some((302, Alarm::StreamIdle)));
        let lifted = Bounds { idle: None, ..STREAM };
        assert_eq!(rings(lifted, answered), None);
    }

    #[test]
    fn a_caller_that_takes_nothing_is_given_up_after_a_minute_but_not_a_service_that_is_slow() {
        let stuck = |progress: &Progress, now: Tick, _: &Context<'_>| {
            if now == 10 {
                progress.gave(100);
            }
        };
        assert_eq!(rings(UNARY, stuck), Some((71, Alarm::WriteStall)));
        let slow = |progress: &Progress, now: Tick, _: &Context<'_>| {
            if now.is_multiple_of(100) {
                progress.gave(100);
            } else {
                progress.asked();
            }
        };
        assert_eq!(rings(STREAM, slow), None);
    }

    #[test]
    fn a_deadline_that_comes_while_the_caller_owes_its_request_is_the_callers_doing() {
        let progress = Progress::new(0);
        progress.set_bounds(UNARY);
        assert_eq!(progress.late(), Alarm::Deadline);
        progress.waits_for_caller(&Context::from_waker(Waker::noop()));
        assert_eq!(progress.late(), Alarm::BodyStall);
        progress.came(1);
        assert_eq!(progress.late(), Alarm::Deadline);
    }

    #[test]
    fn what_is_left_of_a_request_ends_with_its_call() {
        let progress = Progress::new(0);
        progress.end();
        assert_eq!(progress.has_rung(), Some(Alarm::Ended));
    }
}
