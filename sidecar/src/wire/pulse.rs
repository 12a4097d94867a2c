//! The clocks of one connection, all in one: an engine that is asked once a second what it thinks of the connection.
//!
//! ```text
//!  opened ──first frame──► in use ──no calls for long, or old──► told to go ──calls end, or the grace──► closed
//!     └──too slow──► cut      └──takes nothing──► cut
//! ```
//!
//! Seconds are exact enough for all of them, so a connection has no timer of its own: passing bytes note the thread's
//! present second, and one sweep over all connections of a thread finds those that are due.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// Seconds that a thread has counted.
pub(crate) type Tick = u32;

/// Whether a bound of so many seconds is over. The second in which it began was not a whole one, so it rings up to a
/// second late, and never early.
pub(crate) fn passed(since: Tick, now: Tick, bound: Tick) -> bool {
    now.saturating_sub(since) > bound
}

/// Bounds of a connection, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From accept to the first complete frame, or the first byte of HTTP/1.
    pub(crate) first: Tick,
    /// Bytes wait to be sent and the peer takes none.
    pub(crate) write_stall: Tick,
    /// No call is under way.
    pub(crate) idle: Tick,
    /// The connection is told to go elsewhere after this, so that identities on it stay fresh.
    pub(crate) age: Tick,
    /// After being told, calls under way have this long.
    pub(crate) grace: Tick,
    /// Whether the peer is asked for a sign of life.
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Whether it is told to go when the sidecar drains.
    pub(crate) drains: bool,
}

/// How a peer that is gone without a word is noticed; in seconds without a byte from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// Before it is asked while calls are under way.
    pub(crate) busy: Tick,
    /// Before it is asked otherwise.
    pub(crate) idle: Tick,
    /// More, before it is given up.
    pub(crate) timeout: Tick,
}

/// What has to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask for a sign of life.
    Ping,
    /// Tell the peer to go elsewhere, let calls end.
    GoAway,
    /// Close it now; the word says why.
    Cut(&'static str),
}

/// What is noted of a connection.
pub(crate) struct Pulse {
    limits: Limits,
    opened: Tick,
    now: Cell<Tick>,
    begun: Cell<bool>,
    calls: Cell<u32>,
    last_call: Cell<Tick>,
    unsent_since: Cell<Option<Tick>>,
    heard_at: Cell<Tick>,
    asked_at: Cell<Option<Tick>>,
    told_at: Cell<Option<Tick>>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    pub(crate) fn new(limits: Limits, now: Tick) -> Self {
        Self {
            limits,
            opened: now,
            now: Cell::new(now),
            begun: Cell::new(false),
            calls: Cell::new(0),
            last_call: Cell::new(now),
            unsent_since: Cell::new(None),
            heard_at: Cell::new(now),
            asked_at: Cell::new(None),
            told_at: Cell::new(None),
            order: Cell::new(None),
            waker: RefCell::default(),
        }
    }

    /// The present second, as of the last sweep.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Calls under way.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.get()
    }

    /// Whether it is told to go when the sidecar drains.
    pub(crate) fn drains(&self) -> bool {
        self.limits.drains
    }

    /// Something came from the peer.
    pub(crate) fn heard(&self) {
        self.heard_at.set(self.now.get());
        self.asked_at.set(None);
    }

    /// The peer has said enough to be served.
    pub(crate) fn begin(&self) {
        self.begun.set(true);
    }

    /// A call began.
    pub(crate) fn call_began(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// A call ended.
    pub(crate) fn call_ended(&self) {
        self.calls.set(self.calls.get().saturating_sub(1));
        self.last_call.set(self.now.get());
    }

    /// Bytes wait that the socket does not take (`true`), or everything was sent; `progress`: some were sent since.
    pub(crate) fn waits(&self, unsent: bool, progress: bool) {
        let since = match (unsent, self.unsent_since.get()) {
            (false, _) => None,
            (true, Some(since)) if !progress => Some(since),
            (true, _) => Some(self.now.get()),
        };
        self.unsent_since.set(since);
    }

    /// Tells the peer to go elsewhere.
    pub(crate) fn tell_to_go(&self) {
        if self.told_at.get().is_none() {
            self.told_at.set(Some(self.now.get()));
            self.give(Order::GoAway);
        }
    }

    /// Looks at the clocks; whoever drives the connection is woken when something is due.
    pub(crate) fn sweep(&self, now: Tick) {
        self.now.set(now);
        let over = |since: Tick, bound: Tick| passed(since, now, bound);
        if !self.begun.get() && over(self.opened, self.limits.first) {
            return self.give(Order::Cut("said nothing"));
        }
        if self
            .unsent_since
            .get()
            .is_some_and(|then| over(then, self.limits.write_stall))
        {
            return self.give(Order::Cut("takes nothing that is sent"));
        }
        if let Some(order) = self.sign_of_life(now) {
            return self.give(order);
        }
        if let Some(told) = self.told_at.get() {
            if over(told, self.limits.grace) {
                self.give(Order::Cut("calls did not end after it was told to go"));
            }
            return;
        }
        let is_idle = self.calls.get() == 0 && over(self.last_call.get(), self.limits.idle);
        if is_idle || over(self.opened, self.limits.age) {
            self.tell_to_go();
        }
    }

    /// Asks a peer that has been silent for long, and gives up one that does not answer.
    fn sign_of_life(&self, now: Tick) -> Option<Order> {
        let KeepAlive { busy, idle, timeout } = self.limits.keep_alive?;
        if let Some(asked) = self.asked_at.get() {
            return passed(asked, now, timeout).then_some(Order::Cut("gives no sign of life"));
        }
        let patience = if self.calls.get() > 0 { busy } else { idle };
        passed(self.heard_at.get(), now, patience).then(|| {
            self.asked_at.set(Some(now));
            Order::Ping
        })
    }

    /// What is to be done, once; otherwise whoever drives the connection is woken when there is something.
    pub(crate) fn take_order(&self, cx: &Context<'_>) -> Option<Order> {
        if let Some(order) = self.order.take() {
            return Some(order);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        None
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        first: 10,
        write_stall: 60,
        idle: 300,
        age: 1_800,
        grace: 30,
        keep_alive: None,
        drains: true,
    };

    /// The first order of a connection to which this happens in these seconds, and when it is given: in the second
    /// after the bound.
    fn first_order(last: Tick, happen: impl Fn(&Pulse, Tick)) -> Option<(Tick, Order)> {
        let pulse = Pulse::new(LIMITS, 0);
        let cx = Context::from_waker(Waker::noop());
        (0..=last).find_map(|now| {
            pulse.sweep(now);
            happen(&pulse, now);
            Some((now, pulse.take_order(&cx)?))
        })
    }

    #[test]
    fn whoever_says_nothing_is_cut_after_ten_seconds() {
        assert_eq!(
            first_order(100, |_, _| {}),
            Some((11, Order::Cut("said nothing")))
        );
    }

    #[test]
    fn a_connection_without_calls_is_told_to_go_and_closed_in_time() {
        assert_eq!(
            first_order(1_000, |pulse, _| pulse.begin()),
            Some((301, Order::GoAway))
        );
        // A call every now and then keeps it.
        let busy = |pulse: &Pulse, now: Tick| {
            pulse.begin();
            if now.is_multiple_of(200) {
                pulse.call_began();
                pulse.call_ended();
            }
        };
        assert_eq!(first_order(1_800, busy), None);
        assert_eq!(first_order(2_000, busy), Some((1_801, Order::GoAway)));
    }

    #[test]
    fn a_long_call_keeps_its_connection_until_that_is_old_and_then_for_the_grace() {
        let pulse = Pulse::new(LIMITS, 0);
        let cx = Context::from_waker(Waker::noop());
        pulse.begin();
        pulse.call_began();
        let orders: Vec<_> = (0..3_000)
            .filter_map(|now| {
                pulse.sweep(now);
                Some((now, pulse.take_order(&cx)?))
            })
            .take(2)
            .collect();
        let cut = Order::Cut("calls did not end after it was told to go");
        assert_eq!(orders, [(1_801, Order::GoAway), (1_832, cut)]);
    }

    #[test]
    fn a_peer_that_answers_no_ping_is_given_up_and_one_that_does_is_kept() {
        let keep_alive = Some(KeepAlive {
            busy: 10,
            idle: 30,
            timeout: 20,
        });
        let orders = |busy: bool, answers: bool| {
            let pulse = Pulse::new(Limits { keep_alive, ..LIMITS }, 0);
            let cx = Context::from_waker(Waker::noop());
            pulse.begin();
            if busy {
                pulse.call_began();
            }
            let mut seen = Vec::new();
            for now in 0..100 {
                pulse.sweep(now);
                if let Some(order) = pulse.take_order(&cx) {
                    seen.push((now, order));
                    if answers {
                        pulse.heard();
                    }
                }
            }
            seen.truncate(3);
            seen
        };
        let cut = Order::Cut("gives no sign of life");
        assert_eq!(orders(true, false)[..2], [(11, Order::Ping), (32, cut)]);
        assert_eq!(orders(false, false)[..2], [(31, Order::Ping), (52, cut)]);
        assert_eq!(orders(true, true), [11, 22, 33].map(|now| (now, Order::Ping)));
    }

    #[test]
    fn whoever_takes_nothing_is_cut_but_not_whoever_takes_slowly() {
        let stuck = |pulse: &Pulse, now: Tick| {
            pulse.begin();
            if now == 5 {
                pulse.waits(true, false);
            } else if now > 5 {
                pulse.waits(true, now == 20);
            }
        };
        assert_eq!(
            first_order(299, stuck),
            Some((81, Order::Cut("takes nothing that is sent")))
        );
        let slow = |pulse: &Pulse, now: Tick| {
            pulse.begin();
            pulse.waits(true, now.is_multiple_of(50));
        };
        assert_eq!(first_order(299, slow), None);
    }
}
