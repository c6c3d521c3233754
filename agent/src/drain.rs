//! How fast the spool drains, and when it will be empty: from its sums over the last half minute. An estimate, told as one.

use std::collections::VecDeque;

use serde::Serialize;

/// Time between two samples, ns.
const SAMPLE_NS: u64 = 1_000_000_000;
/// Samples that are kept.
const SAMPLES_MAX: usize = 30;

/// Sums of the spool at a moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Written, since the start.
    pub written: u64,
    /// Freed because it was committed, since the start.
    pub freed: u64,
}

/// What was seen lately.
#[derive(Debug, Default)]
pub struct Drain {
    samples: VecDeque<(u64, Flow)>,
}

/// How the spool drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Bytes that come in, each second.
    pub in_per_second: u64,
    /// Bytes that are committed, each second.
    pub out_per_second: u64,
    /// When it will be empty if this goes on, seconds; absent while it does not drain.
    pub seconds_left: Option<u64>,
}

impl Drain {
    /// What the sums are now. More often than each second changes nothing.
    pub fn sample(&mut self, now_ns: u64, flow: Flow) {
        let is_new = self.samples.back().is_none_or(|(last, _)| now_ns.saturating_sub(*last) >= SAMPLE_NS);
        if is_new {
            self.samples.push_back((now_ns, flow));
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Over what was seen, for so many bytes that wait.
    pub fn rates(&self, waiting_bytes: u64) -> Rates {
        let (Some((first_ns, first)), Some((last_ns, last))) = (self.samples.front(), self.samples.back())
        else {
            return Rates::default();
        };
        let milliseconds = last_ns.saturating_sub(*first_ns) / 1_000_000;
        let rate = |before: u64, now: u64| {
            (now.saturating_sub(before)).saturating_mul(1000).checked_div(milliseconds).unwrap_or(0)
        };
        let (in_per_second, out_per_second) =
            (rate(first.written, last.written), rate(first.freed, last.freed));
        let net = out_per_second.saturating_sub(in_per_second);
        Rates { in_per_second, out_per_second, seconds_left: waiting_bytes.checked_div(net) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_estimate_out_of_nothing() {
        let mut drain = Drain::default();
        assert_eq!(drain.rates(5).seconds_left, None);
        drain.sample(SECOND, Flow { written: 9, freed: 9 });
        assert_eq!(drain.rates(5), Rates::default());
        // It fills faster than it drains: no end can be named.
        drain.sample(2 * SECOND, Flow { written: 109, freed: 59 });
        assert_eq!(drain.rates(5), Rates { in_per_second: 100, out_per_second: 50, seconds_left: None });
    }

    #[test]
    fn a_sink_that_is_back_and_an_estimate_that_still_counts_the_hours_without_it() {
        let mut drain = Drain::default();
        for second in 0..100 {
            drain.sample(second * SECOND, Flow { written: second * 10, freed: 0 });
        }
        for second in 100..130 {
            drain.sample(second * SECOND, Flow { written: second * 10, freed: (second - 99) * 110 });
            drain.sample(second * SECOND + 5, Flow::default());
        }
        let rates = drain.rates(1000);
        assert_eq!(rates, Rates { in_per_second: 10, out_per_second: 110, seconds_left: Some(10) });
    }
}
