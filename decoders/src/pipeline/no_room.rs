//! What moved on sockets that there was no room to know: one gap for many calls.

use custody_record::{Kind, names};

use crate::event::Cause;
use crate::item::Field;
use crate::mask::Draft;
use crate::session::{cause_name, draft};

/// What is missed for want of room is told together for this time.
pub(super) const NO_ROOM_WAIT_NS: u64 = 1_000_000_000;

/// Not told yet.
#[derive(Clone, Copy, Default)]
pub(super) struct NoRoom {
    events: u64,
    bytes: u64,
    first_ns: u64,
    last_ns: u64,
}

impl NoRoom {
    pub(super) fn missed(&mut self, bytes: u64, time_ns: u64) {
        self.first_ns = if self.events == 0 { time_ns } else { self.first_ns.min(time_ns) };
        self.last_ns = self.last_ns.max(time_ns);
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The gap, if the first of it is older than this.
    pub(super) fn due(&mut self, before_ns: u64) -> Option<Draft> {
        if self.events == 0 || self.first_ns > before_ns {
            return None;
        }
        let NoRoom { events, bytes, first_ns, last_ns } = std::mem::take(self);
        let fields = vec![
            Field::structure(names::GAP_CAUSE, cause_name(Cause::TableFull)),
            Field::structure(names::GAP_EVENTS, events),
            Field::structure(names::BYTES_LOST, bytes),
        ];
        Some(draft(Kind::Gap, first_ns, last_ns, fields))
    }
}
