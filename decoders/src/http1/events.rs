//! Answers that go on without an announced end: server-sent events (WHATWG HTML, 9.2) and texts of one JSON value a
//! line (NDJSON, the watch of Kubernetes). Whole events alone are handed out, so that masking never meets half a value;
//! bounded by the limit of a body a second, so that a bulk of them costs no more than other bodies.

use crate::anomaly;
use crate::work;

const SECOND_NS: u64 = 1_000_000_000;

/// How events end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// At an empty line.
    ServerSent,
    /// At the end of a line.
    Lines,
    /// As lines do, if the first line is a JSON object; else at the end of the body.
    Unsure,
    /// At the end of the body.
    One,
}

pub(super) struct Events {
    kind: Kind,
    /// Begun, without an end yet.
    held: Vec<u8>,
    /// Of it, bytes in which no end was found.
    searched: usize,
    /// Whole, not handed out yet.
    ready: Vec<u8>,
    /// Something was handed out.
    told: bool,
    /// The event that is coming is too long: it is left out up to its end.
    skipping: bool,
    /// Bytes that are left out of the one event that is the body.
    cut: u64,
    dropped: bool,
    second_ns: u64,
    second_bytes: usize,
}

impl Events {
    /// For answers of these types.
    pub(super) fn of(media_type: &str) -> Option<Events> {
        let kind = match media_type {
            "text/event-stream" => Kind::ServerSent,
            "application/x-ndjson" | "application/jsonl" => Kind::Lines,
            "application/json" => Kind::Unsure,
            _ => return None,
        };
        let (held, ready) = (Vec::new(), Vec::new());
        let (searched, cut, second_ns, second_bytes) = (0, 0, 0, 0);
        let (told, skipping, dropped) = (false, false, false);
        Some(Events { kind, held, searched, ready, told, skipping, cut, dropped, second_ns, second_bytes })
    }

    /// Bytes that may be told within this second.
    pub(super) fn room(&mut self, time_ns: u64, bytes_max: usize) -> usize {
        if time_ns.saturating_sub(self.second_ns) >= SECOND_NS {
            (self.second_ns, self.second_bytes) = (time_ns, 0);
        }
        bytes_max.saturating_sub(self.second_bytes + self.held.len())
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], time_ns: u64, bytes_max: usize) {
        while !bytes.is_empty() {
            let begun = self.held.len();
            let length = bytes.len().min(bytes_max.saturating_sub(begun));
            self.held.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            work::looked_at(self.held.len() - self.searched);
            match self.end_of_last() {
                Some(end) => self.hand_out(end, time_ns, bytes_max),
                None if self.held.len() < bytes_max => {}
                None if self.told || self.kind != Kind::One && self.skipping => self.skip(),
                // The one event, or the first: its beginning is what there is to tell.
                None => {
                    self.kind = Kind::One;
                    self.cut += bytes.len() as u64;
                    return;
                }
            }
        }
    }

    /// The event is too long: nothing of it is kept but what may be the beginning of its end.
    fn skip(&mut self) {
        (self.skipping, self.dropped) = (true, true);
        let kept = self.held.len().min(3);
        self.held.drain(..self.held.len() - kept);
        self.searched = 0;
    }

    fn hand_out(&mut self, end: usize, time_ns: u64, bytes_max: usize) {
        let room = self.room(time_ns, bytes_max) + self.held.len();
        let rest = self.held.split_off(end);
        let events = std::mem::replace(&mut self.held, rest);
        self.searched = 0;
        if std::mem::take(&mut self.skipping) || events.len() > room {
            self.dropped = true;
            return;
        }
        self.second_bytes += events.len();
        self.told = true;
        self.ready.extend_from_slice(&events);
    }

    /// Where the last whole event that is held ends.
    fn end_of_last(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        self.searched = self.held.len();
        if self.kind == Kind::Unsure {
            let end = memchr::memchr(b'\n', &self.held)?;
            let line = self.held[..end].trim_ascii();
            let object = line.first() == Some(&b'{') && line.last() == Some(&b'}');
            self.kind = if object { Kind::Lines } else { Kind::One };
        }
        let rest = &self.held[from..];
        let last = |needle: &[u8]| memchr::memmem::rfind(rest, needle).map(|at| from + at + needle.len());
        match self.kind {
            Kind::Unsure | Kind::One => None,
            Kind::Lines => last(b"\n"),
            Kind::ServerSent => last(b"\n\n").max(last(b"\n\r\n")).max(last(b"\r\r")),
        }
    }

    /// Whole events since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// The body is over: what was not handed out, bytes missing at its end, and what was odd.
    /// Half an event at the end of a `torn` body is left out, but for the one event that is the body.
    pub(super) fn into_rest(mut self, torn: bool) -> (Vec<u8>, u64, Option<&'static str>) {
        if !self.skipping && (!torn || !self.told) {
            self.ready.append(&mut self.held);
        }
        (self.ready, self.cut, self.dropped.then_some(anomaly::CONTENT_PARTS_CUT))
    }

    /// Memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity() + self.ready.capacity()
    }
}
