//! Chance that can be had again: numbers from a seed (splitmix64).

use std::hash::{BuildHasher, Hasher, RandomState};

/// Where the numbers come from.
#[derive(Debug)]
pub struct Dice(u64);

/// A seed that nobody chose, short enough to be typed.
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000_000
}

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` on, below `limit`.
    pub fn between(&mut self, least: u64, limit: u64) -> u64 {
        least + self.next() % (limit - least)
    }

    /// A place in something so long.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.between(0, length as u64)).expect("a place")
    }

    /// One of several, each as often as its weight says.
    pub fn choose<T: Copy>(&mut self, weighted: &[(u64, T)]) -> T {
        let total = weighted.iter().map(|(weight, _)| weight).sum();
        let mut left = self.between(0, total);
        for (weight, what) in weighted {
            if left < *weight {
                return *what;
            }
            left -= weight;
        }
        unreachable!("a number below the sum of the weights")
    }
}
