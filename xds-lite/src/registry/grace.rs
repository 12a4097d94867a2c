//! The registration grace: how long an instance outlives the one who registered it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names whose holder is gone, each with the moment its grace ends.
#[derive(Debug)]
pub struct Grace {
    period: Duration,
    until: BTreeMap<String, Instant>,
}

impl Grace {
    /// An engine that gives every name this long.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            until: BTreeMap::new(),
        }
    }

    /// The holder is gone. A grace that already runs is not prolonged.
    pub fn start(&mut self, now: Instant, name: &str) {
        self.until
            .entry(name.to_owned())
            .or_insert_with(|| now + self.period);
    }

    /// It is held again, or needs no grace any more.
    pub fn cancel(&mut self, name: &str) {
        self.until.remove(name);
    }

    /// Nobody could register while contact was lost: every grace begins anew.
    pub fn restart(&mut self, now: Instant) {
        for until in self.until.values_mut() {
            *until = now + self.period;
        }
    }

    /// Takes out the names whose grace has ended.
    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let due: Vec<String> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &due {
            self.until.remove(name);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_ends_once_and_not_early() {
        let now = Instant::now();
        let mut grace = Grace::new(Duration::from_secs(10));
        grace.start(now, "a/1");
        assert!(grace.due(now + Duration::from_secs(9)).is_empty());
        assert_eq!(grace.due(now + Duration::from_secs(10)), ["a/1"]);
        assert!(grace.due(now + Duration::from_secs(11)).is_empty());
    }

    #[test]
    fn losing_the_holder_twice_does_not_prolong_the_grace() {
        let now = Instant::now();
        let mut grace = Grace::new(Duration::from_secs(10));
        grace.start(now, "a/1");
        grace.start(now + Duration::from_secs(9), "a/1");
        assert_eq!(grace.due(now + Duration::from_secs(10)), ["a/1"]);
    }

    #[test]
    fn who_comes_back_in_time_stays() {
        let now = Instant::now();
        let mut grace = Grace::new(Duration::from_secs(10));
        grace.start(now, "a/1");
        grace.cancel("a/1");
        assert!(grace.due(now + Duration::from_secs(60)).is_empty());
    }
}
