//! How long to wait before the next try, as a value.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Each wait is longer than the one before by this factor.
const FACTOR: f64 = 1.6;
/// And moved by up to this share, so that a herd spreads.
const JITTER: f64 = 0.2;

/// Grows with every failure; see [`Backoff::next`].
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins at `first` and never waits longer than `most`, jitter aside.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// The wait before the next try. `random` is between 0 and 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let wait = self.next.mul_f64(1.0 + JITTER * (2.0 * random - 1.0));
        self.next = self.next.mul_f64(FACTOR).min(self.most);
        wait
    }

    /// Something went well: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between 0 and 1, fresh with every call. For spreading, not for secrets.
#[must_use]
pub fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0u8) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let waits: Vec<_> = (0..20).map(|_| backoff.next(0.5)).collect();
        assert_eq!(waits[0], Duration::from_millis(100));
        assert_eq!(waits[1], Duration::from_millis(160));
        assert_eq!(waits[19], Duration::from_secs(30));
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_herd_is_spread_by_a_fifth_to_either_side() {
        let wait = |random| Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next(random);
        assert_eq!(wait(0.0), Duration::from_millis(800));
        assert_eq!(wait(1.0), Duration::from_millis(1200));
        assert!((0.0..=1.0).contains(&random()));
    }
}
