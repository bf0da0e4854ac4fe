// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Delays by chance, up to a bound: what a device does, and what a CPU hears of it, comes later than it
//! would, and so at other places of the guest's program.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// The seed serves other choices as well, which are to be others.
const APART: u64 = 0x6a69_7474_6572;

/// Most ticks of a delay that may be asked for.
pub const MAX_TICKS: u32 = 65_536;

/// Where delays come from. Without a bound, there are none, and nothing is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jitter {
    rng: SplitMix64,
    bound: u32,
}

impl Default for Jitter {
    fn default() -> Self {
        Jitter::new(0, 0)
    }
}

impl Jitter {
    /// Delays up to `bound` ticks; 0 is none.
    pub fn new(seed: u64, bound: u32) -> Self {
        Jitter {
            rng: SplitMix64::seed_from_u64(seed ^ APART),
            bound,
        }
    }

    /// Whether there are any.
    pub fn is_on(&self) -> bool {
        self.bound > 0
    }

    /// The bound.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// The next delay in ticks, from 0 to the bound.
    pub fn ticks(&mut self) -> u64 {
        if !self.is_on() {
            return 0;
        }
        let values = u64::from(self.bound) + 1;
        ((self.rng.next_u64() >> 32) * values) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_within_the_bound_and_reach_it() {
        let mut jitter = Jitter::new(7, 3);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[usize::try_from(jitter.ticks()).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| *n > 150), "{seen:?}");
        assert_eq!(Jitter::new(7, u32::MAX).ticks() >> 32, 0);
    }

    #[test]
    fn one_seed_gives_the_same_delays_and_another_others() {
        let some = |seed| {
            let mut jitter = Jitter::new(seed, 1000);
            (0..20).map(|_| jitter.ticks()).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!((0..20).all(|_| Jitter::default().ticks() == 0));
    }
}
