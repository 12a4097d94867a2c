//! How many further tries a cluster may afford: an engine.
//!
//! Every call earns a share of a try, every try costs a whole one. A trickle is always there, so that quiet services may
//! try again too; a cap keeps a long calm from paying for a storm.

use std::time::Instant;

/// Tries a second that are always affordable.
const TRICKLE_PER_SECOND: f64 = 3.0;
/// Most tries that can be saved up.
const SAVED_MAX: f64 = 100.0;

/// The savings of one cluster.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    saved: f64,
    last: Instant,
}

impl RetryBudget {
    /// With `share` of a try earned by a call, 0.0 to 1.0.
    #[must_use]
    pub fn new(share: f64, now: Instant) -> Self {
        Self {
            share,
            saved: TRICKLE_PER_SECOND,
            last: now,
        }
    }

    /// A call was made.
    pub fn earn(&mut self) {
        self.saved = (self.saved + self.share).min(SAVED_MAX);
    }

    /// Pays for a further try if it can.
    pub fn spend(&mut self, now: Instant) -> bool {
        if self.share <= 0.0 {
            return false;
        }
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.saved = (self.saved + passed * TRICKLE_PER_SECOND).min(SAVED_MAX);
        if self.saved >= 1.0 {
            self.saved -= 1.0;
            true
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tries_stay_within_the_share_of_calls() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(0.2, start);
        let mut tries = 0;
        for _ in 0..1_000 {
            budget.earn();
            tries += u32::from(budget.spend(start));
        }
        assert!((200..=203).contains(&tries), "{tries}");
    }

    #[test]
    fn a_quiet_service_may_try_again_a_few_times_a_second() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(0.2, start);
        assert_eq!((0..10).filter(|_| budget.spend(start)).count(), 3);
        assert!(budget.spend(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_budget_of_nothing_affords_nothing() {
        assert!(!RetryBudget::new(0.0, Instant::now()).spend(Instant::now()));
    }
}
