//! A small generator (xorshift64) whose seed is printed, so that a failure can be repeated. Nothing secret comes of it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random and follow from their seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of this seed.
    pub fn of(seed: u64) -> Random {
        // Spread, so that neighbouring seeds begin differently; never zero, which would stay zero.
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound.max(1) as u64) as usize
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// The seed of this run: `CUSTODY_SEED`, or the time. Printed.
pub fn seed() -> u64 {
    let said = std::env::var("CUSTODY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = said.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64)
    });
    println!("CUSTODY_SEED={seed}");
    seed
}

/// How often: the number in this variable of the environment, or `ordinary`.
pub fn count(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(ordinary)
}
