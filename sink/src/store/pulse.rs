//! How long a writer has been at its present commit, for those who must not wait for it to find out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Set by the writer around each commit.
#[derive(Default)]
pub struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    pub(crate) fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Since the commit began; `None` between commits.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }
}
