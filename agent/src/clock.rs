//! The two clocks: the kernel's boottime, by which events are ordered, and the wall clock, which is a claim.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Boottime, ns.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Wall clock, ns since 1970.
pub fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What the wall clock showed at a boottime, as far as it is known now.
pub fn wall_at(boottime: u64) -> u64 {
    wall_ns().saturating_sub(boottime_ns().saturating_sub(boottime))
}
