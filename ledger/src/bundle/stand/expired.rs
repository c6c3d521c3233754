//! The same sink three months later: what it states of bodies that go by age, and bundles of what is left.

use std::ops::Range;

use super::{Bundle, HOST, NOON_NS, OTHER, Placed, Stand, redacted, signer};
use crate::HostId;
use crate::retention::{ExpiredOf, Retention};
use crate::statement::{Signed, Stated, Statement};

const DAY_S: u64 = 86_400;
/// When the sink states: 90 days and an hour behind the noon at which all came.
const STATED_NS: u64 = NOON_NS + (90 * DAY_S + 3_600) * 1_000_000_000;

/// The records of the first segment, those of the second, and both: the first host's batches 0 to 2 of its first epoch lie in
/// the first one, its others in the second one.
pub(in crate::bundle) const EARLY: Range<u64> = 0..5;
pub(in crate::bundle) const LATE: Range<u64> = 5..12;
pub(in crate::bundle) const ALL: Range<u64> = 0..16;

/// What goes of these records: so many batches of each host.
pub(in crate::bundle) fn gone_of(records: Range<u64>, hosts: &[(HostId, u64)]) -> Retention {
    let of = |&(host, batches)| ExpiredOf { host, batches, bodies: 2 * batches, bytes: 36 * batches };
    let (first, end) = (records.start, records.end);
    Retention { age_s: 90 * DAY_S, segment: 1, first, end, hosts: hosts.iter().map(of).collect() }
}

/// Signed by this key.
pub(in crate::bundle) fn sealed(key: u8, what: Stated) -> Vec<u8> {
    Signed::seal(&signer(key), &Statement { host: None, at_ns: STATED_NS, what }).unwrap()
}

/// What the sink states when bodies have their age.
pub(in crate::bundle) fn of_age(retention: Retention) -> Vec<u8> {
    sealed(0xa0, Stated::Retention(retention))
}

impl Stand {
    /// The sink stated this behind all batches.
    pub(in crate::bundle) fn aged(stated: &[Vec<u8>]) -> Self {
        Stand::stating(|_, _| {}, &[], stated)
    }

    /// It stated this before them.
    pub(in crate::bundle) fn stated_before(stated: &[Vec<u8>]) -> Self {
        Stand::stating(|_, _| {}, stated, &[])
    }

    /// Both segments went, as it stated.
    pub(in crate::bundle) fn old() -> Self {
        let late = gone_of(LATE, &[(HOST, 5), (OTHER, 2)]);
        Stand::aged(&[of_age(gone_of(EARLY, &[(HOST, 3)])), of_age(late)])
    }

    /// It stated this, and the first host never sent the bodies of its batch 3.
    pub(in crate::bundle) fn aged_without_bodies_of_batch_3(stated: &[Vec<u8>]) -> Self {
        Stand::stating(|first, _| first[3] = redacted(&first[3], |_| true), &[], stated)
    }

    /// The session when both segments are gone.
    pub(in crate::bundle) fn old_session(&self) -> Bundle {
        let mut bundle = self.session();
        bundle.expire(&self.stated[0], 0, 0..1);
        bundle.expire(&self.stated[1], 1, 1..3);
        bundle
    }
}

impl Bundle {
    /// Puts the statement before a batch, and takes the bodies out of these.
    pub(in crate::bundle) fn expire(&mut self, stated: &Placed, before: usize, gone: Range<usize>) {
        self.stated.push((before, stated.clone()));
        for (frame, _) in &mut self.batches[gone] {
            *frame = redacted(frame, |_| true);
        }
    }
}
