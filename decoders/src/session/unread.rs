//! TLS whose plaintext nobody reads: how many bytes of a session stayed ciphertext, told as a gap of its own kind, and
//! reported for the programs that speak so.
//!
//! Must not call unread what may still be read: a session is told at its end, and before it only when far more moved
//! than a handshake has.

use std::sync::Arc;

use custody_record::{Kind, names};

use super::telling::draft;
use super::{Session, Sink};
use crate::event::{Layer, Process};
use crate::item::Field;
use crate::mask::Draft;
use crate::protocol::Direction;
use crate::streams::Delivery;

/// Cause of the gap.
pub(crate) const TLS_NOT_READ: &str = "tls_not_read";
/// A session that stays open is looked at with this interval.
const LOOK_INTERVAL_NS: u64 = 60_000_000_000;
/// What must have moved before it is told: more than any handshake has, certificates included.
const OPEN_BYTES_MIN: u64 = 64 << 10;

/// What is to be told of a session's ciphertext.
#[derive(Default)]
pub(super) struct Untold {
    /// Bytes that stand in a gap already.
    told_bytes: u64,
    looked_ns: u64,
    /// Told, and not reported yet.
    report_bytes: u64,
    reported: bool,
}

/// TLS of one program that was not read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Who: an end of the connection on this host.
    pub process: Arc<Process>,
    /// Connections that were not counted in an earlier report.
    pub connections: u64,
    /// Bytes on the wire, handshakes included.
    pub bytes: u64,
}

impl Session {
    /// Wire bytes of a session that is TLS.
    pub(super) fn ciphertext(&mut self, direction: Direction, delivery: &Delivery<'_>) {
        let length = match delivery {
            Delivery::Bytes { bytes, .. } => {
                self.hellos.push(direction as usize, bytes);
                bytes.len() as u64
            }
            Delivery::Gap { length, .. } => {
                self.hellos.give_up(direction as usize);
                *length
            }
        };
        self.ciphertext_bytes = self.ciphertext_bytes.saturating_add(length);
    }

    /// No plaintext will come any more.
    pub(super) fn tell_unread_at_the_end(&mut self, sink: Sink<'_>) {
        if self.is_unread() && !self.hellos.is_refused() {
            self.tell_unread(sink);
        }
    }

    /// When an open session is looked at next.
    pub(super) fn unread_due_ns(&self) -> Option<u64> {
        let since = self.unread.looked_ns.max(self.first_ns);
        self.is_unread().then(|| since.saturating_add(LOOK_INTERVAL_NS))
    }

    pub(super) fn tell_unread_while_open(&mut self, now_ns: u64, sink: Sink<'_>) {
        if self.unread_due_ns().is_none_or(|due| due > now_ns) {
            return;
        }
        self.unread.looked_ns = now_ns;
        if self.ciphertext_bytes - self.unread.told_bytes >= OPEN_BYTES_MIN {
            self.tell_unread(sink);
        }
    }

    /// What is to be reported for the programs at its ends.
    pub(crate) fn take_unread(&mut self) -> impl Iterator<Item = Unread> + '_ {
        let bytes = std::mem::take(&mut self.unread.report_bytes);
        let connections = u64::from(bytes > 0 && !std::mem::replace(&mut self.unread.reported, bytes > 0));
        let processes = self.ends.iter().map(|end| Arc::clone(&end.socket.process));
        let known = processes.filter(move |process| bytes > 0 && process.pid != 0);
        known.map(move |process| Unread { process, connections, bytes })
    }

    /// TLS, and no library told of it. In a capture there is none to tell.
    fn is_unread(&self) -> bool {
        let untold = |end: &super::End| end.binding.is_none() && !end.socket.whole;
        self.tls && self.layer == Layer::Wire && self.ends.iter().all(untold)
    }

    /// What is ciphertext so far stays so.
    pub(super) fn tell_unread(&mut self, sink: Sink<'_>) {
        let bytes = self.ciphertext_bytes - self.unread.told_bytes;
        if bytes == 0 {
            return;
        }
        self.unread.told_bytes = self.ciphertext_bytes;
        self.unread.report_bytes = self.unread.report_bytes.saturating_add(bytes);
        self.open(sink);
        sink(self.draft_unread(bytes));
    }

    fn draft_unread(&self, bytes: u64) -> Draft {
        let mut fields = vec![
            Field::structure(names::BYTES_SKIPPED, bytes),
            Field::structure(names::GAP_CAUSE, TLS_NOT_READ),
        ];
        self.brief(&mut fields);
        self.hellos.fields(&mut fields);
        self.own(draft(Kind::Gap, self.first_ns, self.last_ns, fields))
    }
}
