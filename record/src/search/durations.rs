//! Many durations in little memory: counted by what they begin with in binary, so that each is known to 1 in 32.

use std::collections::BTreeMap;

/// Counted durations.
#[derive(Debug, Default)]
pub(super) struct Durations {
    longest: Option<u64>,
    /// How many there are of each [`bucket`].
    buckets: BTreeMap<u16, u64>,
}

impl Durations {
    /// One more, ns.
    pub(super) fn add(&mut self, duration: u64) {
        *self.buckets.entry(bucket(duration)).or_default() += 1;
        self.longest = self.longest.max(Some(duration));
    }

    /// The longest, exactly.
    pub(super) fn longest(&self) -> Option<u64> {
        self.longest
    }

    /// What `percent` of all do not exceed; at most one in 32 too high.
    pub(super) fn quantile(&self, percent: u64) -> Option<u64> {
        let total: u64 = self.buckets.values().sum();
        let rank = total.saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0;
        for (bucket, count) in &self.buckets {
            below += count;
            if below >= rank {
                return Some(end_of(*bucket).min(self.longest?));
            }
        }
        None
    }
}

/// Parts of each power of two: a duration is known to 1 in 32.
const PARTS_BITS: u32 = 5;

/// Durations that are told as one.
fn bucket(duration: u64) -> u16 {
    let exponent = duration.max(1).ilog2().saturating_sub(PARTS_BITS);
    // Below 2 * 32 + 60 * 32.
    (u64::from(exponent << PARTS_BITS) + (duration >> exponent)) as u16
}

/// The longest duration of a bucket.
fn end_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let exponent = (bucket >> PARTS_BITS).saturating_sub(1);
    let part = bucket - (exponent << PARTS_BITS);
    (u128::from(part + 1) << exponent).saturating_sub(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_and_99_of_a_hundred() {
        let mut durations = Durations::default();
        assert_eq!((durations.quantile(50), durations.longest()), (None, None));
        (1..=100).for_each(|duration| durations.add(duration * 1_000_000));
        let (half, most) = (durations.quantile(50).unwrap(), durations.quantile(99).unwrap());
        assert!(
            (50_000_000..52_000_000).contains(&half) && (99_000_000..=100_000_000).contains(&most),
            "{half} {most}"
        );
        assert_eq!(durations.longest(), Some(100_000_000));
    }

    proptest! {
        #[test]
        fn a_duration_is_told_at_most_one_in_32_too_long(duration: u64) {
            let told = end_of(bucket(duration));
            prop_assert!(told >= duration && told - duration <= duration / 32, "{duration} {told}");
        }

        #[test]
        fn longer_is_never_told_shorter(one: u64, two: u64) {
            prop_assert_eq!(one.cmp(&two).then(bucket(one).cmp(&bucket(two))), one.cmp(&two));
            prop_assert!(one > two || bucket(one) <= bucket(two));
        }
    }
}
