//! How much one host may bring: batches per second, bytes per day, bytes in the store. A host that is over a quota is told
//! when to come back; it keeps what it has, and others go on. Decides from numbers alone, before a signature is checked.

use std::time::Duration;

use custody_ledger::statement::{QuotaKind, Stated};

use crate::config::QuotaSection;
use crate::store::HostRow;

const DAY_NS: u64 = 86_400_000_000_000;
/// So many seconds' worth of batches may come at once: a host that was cut off catches up.
const BURST_S: u64 = 60;
/// So long after a refusal the requests of a host that is still over are thrown away unread.
const UNREAD_NS: u64 = 30_000_000_000;
/// A host that is over what it may store is told to come back after so long: only a person can help it.
const STORED_RETRY: Duration = Duration::from_secs(3600);

/// A batch that may not come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Which quota.
    pub quota: QuotaKind,
    /// What it allows.
    pub limit: u64,
    /// What the host has used of it.
    pub used: u64,
    /// When it may come again.
    pub retry_after: Duration,
}

impl Over {
    /// One sentence for who runs the host.
    pub fn sentence(&self) -> String {
        let Over { quota, limit, used, .. } = self;
        match quota {
            QuotaKind::BatchesPerSecond => format!(
                "this host sends more than the {limit} batches a second that it may: it keeps them, and is heard again soon"
            ),
            QuotaKind::BytesPerDay => format!(
                "this host has sent {used} bytes today (UTC), of the {limit} that it may: it keeps the rest until tomorrow, \
                 or until quota.host_bytes_per_day of the sink is raised"
            ),
            QuotaKind::BytesStored | QuotaKind::Unknown => format!(
                "this host has {used} bytes in the store, of the {limit} that it may have: it keeps the rest until \
                 quota.host_bytes_stored of the sink is raised"
            ),
        }
    }

    /// What the sink states of it.
    pub fn stated(&self) -> Stated {
        Stated::OverQuota { quota: self.quota, limit: self.limit, used: self.used }
    }
}

/// What one host has used.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    stored: u64,
    /// Days since 1970, and bytes of that one.
    day: u64,
    day_bytes: u64,
    /// When all batches so far would have come, had they come evenly, ns on the caller's steady clock.
    even_ns: u64,
    /// The day on which each byte quota was stated to be crossed.
    stated_day: Option<u64>,
    stated_stored: bool,
    stated_rate: bool,
    /// Bytes of the batch that was refused last, and when, on the steady clock, until something is taken again.
    refused: Option<(u64, u64)>,
}

/// The day of a time, both since 1970.
pub const fn day_of(at_ns: u64) -> u64 {
    at_ns / DAY_NS
}

impl Meter {
    /// Takes up where the store stands.
    pub fn of(row: &HostRow) -> Self {
        Meter { stored: row.stored_bytes, day: row.day, day_bytes: row.day_bytes, ..Meter::default() }
    }

    /// Whether a batch of so many bytes may come. `at_ns` is the sink's wall clock, `steady_ns` one that never goes back.
    pub fn admit(&self, quota: &QuotaSection, bytes: u64, at_ns: u64, steady_ns: u64) -> Result<(), Over> {
        let day = day_of(at_ns);
        let today = if day == self.day { self.day_bytes } else { 0 };
        let over = |quota, limit, used, retry_after| Err(Over { quota, limit, used, retry_after });
        if self.stored.saturating_add(bytes) > quota.host_bytes_stored {
            return over(QuotaKind::BytesStored, quota.host_bytes_stored, self.stored, STORED_RETRY);
        }
        if today.saturating_add(bytes) > quota.host_bytes_per_day {
            let rest = Duration::from_nanos(DAY_NS - at_ns % DAY_NS);
            return over(QuotaKind::BytesPerDay, quota.host_bytes_per_day, today, rest);
        }
        let burst_ns = BURST_S * 1_000_000_000;
        let ahead = self.even_ns.saturating_sub(steady_ns);
        if ahead > burst_ns {
            let limit = quota.host_batches_per_second;
            let wait = Duration::from_nanos(ahead - burst_ns).max(Duration::from_millis(1));
            return over(QuotaKind::BatchesPerSecond, limit, limit * BURST_S, wait);
        }
        Ok(())
    }

    /// Counts a batch that was taken.
    pub fn took(&mut self, quota: &QuotaSection, bytes: u64, at_ns: u64, steady_ns: u64) {
        let day = day_of(at_ns);
        if day != self.day {
            (self.day, self.day_bytes) = (day, 0);
        }
        self.stored = self.stored.saturating_add(bytes);
        self.day_bytes = self.day_bytes.saturating_add(bytes);
        let each = 1_000_000_000 / quota.host_batches_per_second.max(1);
        // Half of the burst is free again: what comes over it after that is another time.
        if self.even_ns.saturating_sub(steady_ns) < BURST_S * 500_000_000 {
            self.stated_rate = false;
        }
        self.even_ns = self.even_ns.max(steady_ns) + each;
        self.refused = None;
    }

    /// Bytes of it that are no longer in the store.
    pub fn freed(&mut self, bytes: u64) {
        self.stored = self.stored.saturating_sub(bytes);
        // What comes over it after that is another time.
        self.stated_stored = false;
    }

    /// Writes a refusal down; whether it is a crossing that was not stated yet.
    pub fn refuse(&mut self, over: Over, bytes: u64, at_ns: u64, steady_ns: u64) -> bool {
        self.refused = Some((bytes, steady_ns));
        match over.quota {
            QuotaKind::BytesPerDay => self.stated_day.replace(day_of(at_ns)) != Some(day_of(at_ns)),
            QuotaKind::BatchesPerSecond => !std::mem::replace(&mut self.stated_rate, true),
            QuotaKind::BytesStored | QuotaKind::Unknown => !std::mem::replace(&mut self.stated_stored, true),
        }
    }

    /// Whether the batch that was refused last would be refused again.
    pub fn still_over(&self, quota: &QuotaSection, at_ns: u64, steady_ns: u64) -> Option<Over> {
        let (bytes, _) = self.refused?;
        self.admit(quota, bytes, at_ns, steady_ns).err()
    }

    /// Whether its next request is refused before it is read. Now and then one is read all the same: it may ask again for
    /// receipts whose answer was lost.
    pub fn is_unread(&self, quota: &QuotaSection, at_ns: u64, steady_ns: u64) -> Option<Over> {
        let (_, since_ns) = self.refused?;
        self.still_over(quota, at_ns, steady_ns).filter(|_| steady_ns.saturating_sub(since_ns) < UNREAD_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: QuotaSection =
        QuotaSection { host_batches_per_second: 10, host_bytes_per_day: 1000, host_bytes_stored: 2500 };
    const SECOND: u64 = 1_000_000_000;

    fn take(meter: &mut Meter, bytes: u64, at: u64, steady: u64) -> Result<(), QuotaKind> {
        meter.admit(&QUOTA, bytes, at, steady).map_err(|over| over.quota)?;
        meter.took(&QUOTA, bytes, at, steady);
        Ok(())
    }

    #[test]
    fn a_day_ends_and_the_store_does_not() {
        let mut meter = Meter::default();
        for day in 0..2 {
            let at = day * DAY_NS + 5;
            assert_eq!(take(&mut meter, 1000, at, 0), Ok(()));
            assert_eq!(take(&mut meter, 1, at, 0), Err(QuotaKind::BytesPerDay));
            let over = meter.admit(&QUOTA, 1, at, 0).unwrap_err();
            assert_eq!(over.retry_after, Duration::from_nanos(DAY_NS - 5));
            assert!(meter.refuse(over, 1, at, 0), "each day's crossing is told");
            assert!(!meter.refuse(over, 1, at, 0), "and told once");
            assert_eq!(meter.still_over(&QUOTA, at, UNREAD_NS), Some(over));
            assert_eq!(meter.is_unread(&QUOTA, at, 0), Some(over));
            assert_eq!(meter.is_unread(&QUOTA, at, UNREAD_NS), None, "receipts that were lost are never had");
            assert_eq!(meter.still_over(&QUOTA, at + DAY_NS, 0), None);
        }
        assert_eq!(take(&mut meter, 501, 2 * DAY_NS, 0), Err(QuotaKind::BytesStored));
        assert_eq!(take(&mut meter, 500, 2 * DAY_NS, 0), Ok(()));
    }

    #[test]
    fn a_host_that_was_cut_off_catches_up_and_then_keeps_to_its_rate() {
        let mut meter = Meter::default();
        let mut taken = 0;
        while take(&mut meter, 0, 0, SECOND) == Ok(()) {
            taken += 1;
        }
        assert_eq!(taken, 10 * BURST_S + 1);
        let over = meter.admit(&QUOTA, 0, 0, SECOND).unwrap_err();
        assert_eq!(over.retry_after, Duration::from_millis(100));
        assert!(meter.refuse(over, 0, 0, SECOND));
        // Ten a second from now on, and no news of it.
        for second in 2..5 {
            let taken = (0..100).filter(|_| take(&mut meter, 0, 0, second * SECOND) == Ok(())).count();
            assert_eq!(taken, 10);
            assert!(!meter.refuse(over, 0, 0, SECOND), "a host at its limit is no news each second");
        }
        // After a pause of a minute it is another time.
        take(&mut meter, 0, 0, 65 * SECOND).unwrap();
        assert!(meter.refuse(over, 0, 0, SECOND));
    }
}
