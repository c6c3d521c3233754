//! For which programs TLS was not read: sums of what sessions report, until somebody asks. What a session did not read
//! stands in the record as its own gap; this only adds up.

use super::Pipeline;
use crate::session::Unread;

/// Programs whose unread TLS is kept apart until it is asked for.
const UNREAD_MAX: usize = 1024;

impl Pipeline {
    /// Programs whose TLS was not read since this was asked last.
    pub fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread).into_values().collect()
    }

    /// Remembers for whom the session was not read.
    pub(super) fn note_unread(&mut self, number: u64) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        for unread in session.take_unread() {
            let key = (unread.process.pid, unread.process.start_ns);
            // Beyond the bound the session's own gap stands in the record, and the program's sum is too small.
            if self.unread.len() >= UNREAD_MAX && !self.unread.contains_key(&key) {
                self.counters.unread_over_limit += 1;
                continue;
            }
            let sum = self.unread.entry(key).or_insert(Unread { connections: 0, bytes: 0, ..unread.clone() });
            sum.connections += unread.connections;
            sum.bytes = sum.bytes.saturating_add(unread.bytes);
        }
    }
}
