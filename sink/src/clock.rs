//! The sink's wall clock, as it stands in receipts.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; zero if the clock stands before that.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
