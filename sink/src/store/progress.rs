//! How far the store is durable, for those who build on it: they wait for more instead of asking again and again.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Place;

/// Moved with each change of the index.
pub(super) struct Progress {
    covered: Mutex<Place>,
    moved: Condvar,
}

impl Progress {
    pub(super) fn at(covered: Place) -> Self {
        Progress { covered: Mutex::new(covered), moved: Condvar::new() }
    }

    pub(super) fn move_to(&self, covered: Place) {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner) = covered;
        self.moved.notify_all();
    }

    pub(super) fn covered(&self) -> Place {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is more than `place`, waiting for it at most so long.
    pub(super) fn wait_beyond(&self, place: Place, most: Duration) -> bool {
        let covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.moved.wait_timeout_while(covered, most, |covered| *covered <= place);
        let (covered, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *covered > place
    }
}
