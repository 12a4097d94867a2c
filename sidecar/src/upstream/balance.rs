//! Chooses an instance: an engine over plain numbers.

use mesh_proto::domain::BalanceAlgorithm;

/// What is known of one instance that may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Calls in flight.
    pub active: u32,
    /// Share against its siblings, 1 or more.
    pub weight: u32,
}

/// A small generator of random numbers (xorshift64*); good enough to spread load, and for nothing else.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// With any seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number under `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let high = self.number() >> 33;
        if bound == 0 {
            0
        } else {
            usize::try_from(high).unwrap_or(0) % bound
        }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Chooses one of `count` instances. `load` tells of the one at a position, or nothing where it may not be chosen; `turn`
/// counts the choices made so far. Looks at two in the common case, at all only when most may not be chosen.
pub fn choose(
    algorithm: BalanceAlgorithm,
    count: usize,
    turn: usize,
    dice: &mut Dice,
    load: impl Fn(usize) -> Option<Load>,
) -> Option<usize> {
    if count == 0 {
        return None;
    }
    // The first that may be chosen, from a position on, round the end.
    let from = |start: usize| {
        (0..count)
            .map(|step| (start + step) % count)
            .find_map(|at| Some((at, load(at)?)))
    };
    match algorithm {
        BalanceAlgorithm::RoundRobin => from(turn % count).map(|(at, _)| at),
        BalanceAlgorithm::LeastRequest => {
            let (a, one) = from(dice.below(count))?;
            // Drawn from the others, so that two instances are always compared with each other.
            let (b, two) = from((a + 1 + dice.below(count.max(2) - 1)) % count)?;
            // (active + 1) / weight, compared without division.
            let cost = |own: Load, other: Load| u64::from(own.active + 1) * u64::from(other.weight);
            Some(if cost(one, two) <= cost(two, one) { a } else { b })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(active: &[Option<u32>], dice: &mut Dice) -> Option<usize> {
        choose(BalanceAlgorithm::LeastRequest, active.len(), 0, dice, |at| {
            active[at].map(|active| Load { active, weight: 100 })
        })
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(least(&[], &mut Dice::new(1)), None);
        assert_eq!(least(&[None, None], &mut Dice::new(1)), None);
    }

    #[test]
    fn of_two_the_less_busy_is_always_chosen() {
        let mut dice = Dice::new(7);
        for _ in 0..100 {
            assert_eq!(least(&[Some(5), Some(2)], &mut dice), Some(1));
        }
    }

    #[test]
    fn the_busiest_of_many_is_never_chosen_and_the_others_share() {
        let mut dice = Dice::new(3);
        let mut seen = [0usize; 4];
        for _ in 0..4_000 {
            seen[least(&[Some(0), Some(0), Some(0), Some(9)], &mut dice).unwrap()] += 1;
        }
        assert_eq!(seen[3], 0);
        assert!(
            seen[..3].iter().all(|count| (900..1_900).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn the_only_one_that_may_be_chosen_is_found_wherever_it_stands() {
        let mut dice = Dice::new(5);
        for _ in 0..50 {
            assert_eq!(least(&[None, None, None, Some(9), None], &mut dice), Some(3));
        }
    }

    #[test]
    fn a_weight_counts_like_so_many_instances() {
        let loads = [
            Load {
                active: 3,
                weight: 400,
            },
            Load {
                active: 1,
                weight: 100,
            },
        ];
        let chosen = choose(BalanceAlgorithm::LeastRequest, 2, 0, &mut Dice::new(9), |at| {
            Some(loads[at])
        });
        assert_eq!(chosen, Some(0));
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_those_that_rest() {
        let turns: Vec<_> = (0..4)
            .map(|turn| {
                choose(BalanceAlgorithm::RoundRobin, 3, turn, &mut Dice::new(1), |at| {
                    (at != 1).then_some(Load { active: 0, weight: 1 })
                })
            })
            .collect();
        assert_eq!(turns, [Some(0), Some(2), Some(2), Some(0)]);
    }
}
