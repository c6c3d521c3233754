//! How many bytes were looked at, so that a test can prove that no path is quadratic without asking a clock.
//! Counts in tests and under the feature `harness`; nothing is left of it elsewhere.

#[cfg(any(test, feature = "harness"))]
mod counter {
    use std::cell::Cell;

    thread_local! {
        static LOOKED_AT: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn looked_at(bytes: usize) {
        LOOKED_AT.with(|count| count.set(count.get().saturating_add(bytes as u64)));
    }

    /// Counts from here on, on this thread.
    pub(crate) fn start() {
        LOOKED_AT.with(|count| count.set(0));
    }

    /// Bytes since the start.
    pub(crate) fn done() -> u64 {
        LOOKED_AT.with(Cell::get)
    }
}

#[cfg(any(test, feature = "harness"))]
pub(crate) use counter::{done, looked_at, start};

/// So many bytes are looked at: called by what scans, moves or parses bytes that may come again.
#[cfg(not(any(test, feature = "harness")))]
#[inline(always)]
pub(crate) fn looked_at(_bytes: usize) {}
