//! One clock for all that waits on a data thread: deadlines of calls to the millisecond, stalls and idleness to
//! the second, never early.
//!
//! ```text
//!  calls ───── enter, leave ──► Clock ◄── enter, leave ───── connections (their pulses)
//!                                 │ run: sleeps to the next second, or to a deadline before it
//!                                 └► rings those that are due; nobody else is woken, and no call has a timer of its own
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use crate::progress::Progress;
use crate::wire::{Limits, Pulse, Tick};

const SECOND: Duration = Duration::from_secs(1);

/// The clock of one data thread.
pub(crate) struct Clock {
    tick: Cell<Tick>,
    /// When the next second begins.
    next_tick: Cell<Instant>,
    calls: RefCell<Slab<Rc<Progress>>>,
    pulses: RefCell<Slab<Rc<Pulse>>>,
    /// When it looks next; a deadline before that has to be told.
    looks_at: Cell<Instant>,
    sooner: Notify,
    draining: Cell<bool>,
}

/// A call on the clock; off it when dropped.
pub(crate) struct Ticket {
    clock: Rc<Clock>,
    key: usize,
    pulse: Rc<Pulse>,
    pub(crate) progress: Rc<Progress>,
}

/// A connection on the clock; off it when dropped.
pub(crate) struct Watched {
    clock: Rc<Clock>,
    key: usize,
    pub(crate) pulse: Rc<Pulse>,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            tick: Cell::new(0),
            next_tick: Cell::new(now + SECOND),
            calls: RefCell::default(),
            pulses: RefCell::default(),
            looks_at: Cell::new(now + SECOND),
            sooner: Notify::new(),
            draining: Cell::new(false),
        })
    }

    /// The present second.
    pub(crate) fn tick(&self) -> Tick {
        self.tick.get()
    }

    /// A call begins.
    pub(crate) fn call(self: &Rc<Self>, pulse: Rc<Pulse>) -> Ticket {
        let progress = Rc::new(Progress::new(self.tick()));
        let key = self.calls.borrow_mut().insert(progress.clone());
        pulse.call_began();
        Ticket {
            clock: self.clone(),
            key,
            pulse,
            progress,
        }
    }

    /// A connection begins.
    pub(crate) fn connection(self: &Rc<Self>, limits: Limits) -> Watched {
        let pulse = Rc::new(Pulse::new(limits, self.tick()));
        if self.draining.get() && limits.drains {
            pulse.tell_to_go();
        }
        let key = self.pulses.borrow_mut().insert(pulse.clone());
        Watched {
            clock: self.clone(),
            key,
            pulse,
        }
    }

    /// Tells every connection, and those to come, to go elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for (_, pulse) in self.pulses.borrow().iter() {
            if pulse.drains() {
                pulse.tell_to_go();
            }
        }
    }

    /// Rings what is due, for ever.
    pub(crate) async fn run(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.looks_at.get().into()) => {}
                () = self.sooner.notified() => {}
            }
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        let is_new = self.pass_time(now);
        let tick = self.tick();
        let mut next = self.next_tick.get();
        for (_, progress) in self.calls.borrow().iter() {
            match progress.deadline() {
                Some(deadline) if deadline <= now => progress.ring(progress.late()),
                Some(deadline) => next = next.min(deadline),
                None => {}
            }
            if is_new {
                progress.sweep(tick);
            }
        }
        if is_new {
            for (_, pulse) in self.pulses.borrow().iter() {
                pulse.sweep(tick);
            }
        }
        self.looks_at.set(next);
    }

    /// Whether a second passed since the last one.
    ///
    /// Seconds in which this thread did not come to look are not counted: what peers sent meanwhile may wait in their
    /// sockets, and a thread that was busy must not take its own silence for theirs.
    fn pass_time(&self, now: Instant) -> bool {
        let due = self.next_tick.get();
        if now < due {
            return false;
        }
        self.tick.set(self.tick().saturating_add(1));
        let in_time = now < due + SECOND;
        self.next_tick.set(if in_time { due } else { now } + SECOND);
        true
    }
}

impl Ticket {
    /// Bounds the call in time.
    pub(crate) fn bound(&self, deadline: Instant) {
        self.progress.set_deadline(deadline);
        if deadline < self.clock.looks_at.get() {
            self.clock.looks_at.set(deadline);
            self.clock.sooner.notify_one();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.clock.calls.borrow_mut().try_remove(self.key);
        self.progress.end();
        self.pulse.call_ended();
        // What a burst of calls needed is given back once there are none.
        shrink(&self.clock.calls);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.clock.pulses.borrow_mut().try_remove(self.key);
        shrink(&self.clock.pulses);
    }
}

fn shrink<T>(slab: &RefCell<Slab<T>>) {
    /// Room that is kept for good.
    const KEPT: usize = 1_024;
    let mut slab = slab.borrow_mut();
    if slab.is_empty() && slab.capacity() > KEPT {
        *slab = Slab::new();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::progress::{Alarm, Bounds};

    const LIMITS: Limits = Limits {
        first: 10,
        write_stall: 60,
        idle: 300,
        age: 1_800,
        grace: 30,
        keep_alive: None,
        drains: true,
    };

    fn call(clock: &Rc<Clock>) -> Ticket {
        clock.call(clock.connection(LIMITS).pulse.clone())
    }

    fn rung(ticket: &Ticket) -> Option<Alarm> {
        ticket.progress.alarm(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_rings_when_it_has_come_and_not_before() {
        let began = Instant::now();
        let clock = Clock::new(began);
        let (soon, late) = (call(&clock), call(&clock));
        soon.bound(began + Duration::from_millis(30));
        late.bound(began + Duration::from_millis(2_500));
        assert_eq!(clock.looks_at.get(), began + Duration::from_millis(30));
        clock.look(began + Duration::from_millis(29));
        assert_eq!((rung(&soon), rung(&late)), (None, None));
        clock.look(began + Duration::from_millis(30));
        assert_eq!((rung(&soon), rung(&late)), (Some(Alarm::Deadline), None));
        drop(soon);
        clock.look(began + Duration::from_millis(2_100));
        assert_eq!(clock.looks_at.get(), began + Duration::from_millis(2_500));
        clock.look(began + Duration::from_millis(2_500));
        assert_eq!(rung(&late), Some(Alarm::Deadline));
    }

    #[test]
    fn calls_that_ended_leave_nothing_behind() {
        let clock = Clock::new(Instant::now());
        let calls: Vec<_> = (0..5_000).map(|_| call(&clock)).collect();
        drop(calls);
        assert_eq!(
            (clock.calls.borrow().len(), clock.calls.borrow().capacity()),
            (0, 0)
        );
    }

    #[test]
    fn seconds_in_which_the_thread_did_not_look_are_nobodys_silence() {
        let began = Instant::now();
        let clock = Clock::new(began);
        let stream = call(&clock);
        stream.progress.set_bounds(Bounds {
            unary: false,
            idle: Some(SECOND),
        });
        clock.look(began + Duration::from_millis(6_400));
        assert_eq!((clock.tick(), rung(&stream)), (1, None));
        stream.progress.gave(1);
        stream.progress.asked();
        clock.look(began + Duration::from_millis(7_399));
        assert_eq!((clock.tick(), rung(&stream)), (1, None));
        clock.look(began + Duration::from_millis(7_400));
        assert_eq!((clock.tick(), rung(&stream)), (2, None));
        clock.look(began + Duration::from_millis(8_400));
        assert_eq!((clock.tick(), rung(&stream)), (3, Some(Alarm::StreamIdle)));
    }

    #[tokio::test]
    async fn a_deadline_that_comes_before_the_next_look_is_not_missed() {
        let clock = Clock::new(Instant::now());
        let ticket = call(&clock);
        let ringing = async {
            tokio::task::yield_now().await;
            ticket.bound(Instant::now() + Duration::from_millis(10));
            std::future::poll_fn(|cx| match ticket.progress.alarm(cx) {
                Some(alarm) => std::task::Poll::Ready(alarm),
                None => std::task::Poll::Pending,
            })
            .await
        };
        let rang = tokio::select! {
            alarm = ringing => alarm,
            () = clock.run() => unreachable!(),
        };
        assert_eq!(rang, Alarm::Deadline);
    }
}
