//! Bytes that come before their socket is in sight: they wait a moment, then they are lost, and that is told.

use super::*;

/// Bytes or a hole of a socket that was not seen yet.
pub(super) struct Orphan {
    pub(super) socket: SocketId,
    pub(super) layer: Layer,
    pub(super) flow: Flow,
    pub(super) position: u64,
    pub(super) time_ns: u64,
    pub(super) what: What<Vec<u8>>,
}

impl Pipeline {
    pub(super) fn adopt_orphans(&mut self, socket: SocketId, sink: &mut dyn FnMut(Draft)) {
        if !self.orphans.iter().any(|orphan| orphan.socket == socket) {
            return;
        }
        for orphan in std::mem::take(&mut self.orphans) {
            if orphan.socket != socket {
                self.orphans.push_back(orphan);
                continue;
            }
            self.orphan_bytes -= orphan_weight(&orphan.what);
            let Orphan { layer, flow, position, time_ns, what, .. } = orphan;
            let what = match &what {
                What::Bytes(bytes) => What::Bytes(bytes.as_slice()),
                What::Hole(length, cause) => What::Hole(*length, *cause),
            };
            self.input(socket, layer, flow, position, time_ns, what, sink);
        }
    }

    /// Bytes whose socket never came in sight are lost, and that is told.
    pub(super) fn drop_orphans(&mut self, before_ns: u64, sink: &mut dyn FnMut(Draft)) {
        let (mut bytes, mut first_ns, mut last_ns) = (0u64, u64::MAX, 0);
        while self.orphans.front().is_some_and(|orphan| orphan.time_ns <= before_ns) {
            let Some(orphan) = self.orphans.pop_front() else { break };
            self.orphan_bytes -= orphan_weight(&orphan.what);
            bytes = bytes.saturating_add(match &orphan.what {
                What::Bytes(bytes) => bytes.len() as u64,
                What::Hole(length, _) => *length,
            });
            first_ns = first_ns.min(orphan.time_ns);
            last_ns = last_ns.max(orphan.time_ns);
        }
        if bytes > 0 {
            self.counters.orphan_bytes = self.counters.orphan_bytes.saturating_add(bytes);
            let fields = vec![
                Field::structure(names::BYTES_LOST, bytes),
                Field::structure(names::GAP_CAUSE, "unknown_socket"),
            ];
            sink(draft(Kind::Gap, first_ns, last_ns, fields));
        }
    }
}

pub(super) fn orphan_weight(what: &What<Vec<u8>>) -> usize {
    size_of::<Orphan>() + if let What::Bytes(bytes) = what { bytes.len() } else { 0 }
}
