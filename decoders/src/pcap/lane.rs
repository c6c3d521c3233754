//! One direction of a TCP connection: sequence numbers to absolute 64-bit positions, and the order of
//! [`crate::streams`], whose waits end here by what the other end acknowledged and never by time alone.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

use crate::event::Cause;
use crate::streams::{Delivery, Stream};

/// How far from what was seen a segment may lie: the largest window that TCP has.
const WINDOW_BYTES_MAX: u64 = 1 << 30;

/// How far from what was seen a segment lies that goes on with it, by its number alone: one in two thousand does by
/// chance.
const NEAR_BYTES_MAX: u64 = 1 << 20;

/// How far behind the first bytes that were captured a late SYN may lie.
const LATE_BYTES_MAX: u64 = 1 << 16;

/// Segments that are remembered to compare with those that repeat them.
const REMEMBERED_MAX: usize = 16;

/// What a segment was: place, length, hash of its bytes.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    start: u64,
    length: usize,
    hash: u64,
}

/// Pieces out of order that are kept: what a large window holds behind one lost segment.
const PIECES_MAX: usize = 1 << 16;

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    /// Sequence number that has position 0.
    base: Option<u32>,
    /// Its SYN was seen, so position 0 is its first byte.
    pub(super) begun: bool,
    pub(super) stream: Stream,
    /// End of what was seen.
    pub(super) highest: u64,
    /// End of what the other end said that it has.
    pub(super) acknowledged: u64,
    /// Where it ends.
    pub(super) end: Option<u64>,
    remembered: VecDeque<Remembered>,
    /// Bytes of it were in the capture.
    pub(super) has_bytes: bool,
    /// A hole of it was told because the other end had acknowledged it.
    pub(super) missed: bool,
}

impl Default for Lane {
    fn default() -> Self {
        Lane {
            base: None,
            begun: false,
            stream: Stream::of_many_pieces(PIECES_MAX),
            highest: 0,
            acknowledged: 0,
            end: None,
            remembered: VecDeque::new(),
            has_bytes: false,
            missed: false,
        }
    }
}

impl Lane {
    pub(super) fn is_known(&self) -> bool {
        self.base.is_some()
    }

    /// Position 0 is here, unless it is known already.
    pub(super) fn start(&mut self, sequence: u32) {
        self.base.get_or_insert(sequence);
    }

    /// Its SYN came. `false` when it is the SYN of another connection. `untouched`: nothing waits that knows
    /// positions of this lane.
    pub(super) fn begin(&mut self, first: u32, untouched: bool) -> bool {
        let base = *self.base.get_or_insert(first);
        // Captured behind what it begins: packets of several queues change places.
        let behind = u64::from(base.wrapping_sub(first));
        if behind == 0 {
            self.begun = true;
            return true;
        }
        let nothing_told = self.stream.next_position() == 0 && self.stream.held_bytes() == 0;
        if self.begun || behind > LATE_BYTES_MAX {
            return false;
        }
        if untouched && nothing_told && self.end.is_none() {
            self.base = Some(first);
            self.highest += behind;
            self.acknowledged += behind;
        }
        self.begun = true;
        true
    }

    /// It begins elsewhere than it was taken to, if nothing of it was seen. A server that answers a repeated SYN
    /// may choose another number.
    pub(super) fn restart(&mut self, first: u32) -> bool {
        let untouched = !self.has_bytes && self.stream.next_position() == 0 && self.stream.held_bytes() == 0;
        if untouched && self.end.is_none() {
            *self = Lane { base: Some(first), begun: self.begun, ..Lane::default() };
            return true;
        }
        false
    }

    /// The place of a sequence number, near what was seen; below zero: before the beginning.
    pub(super) fn position(&self, sequence: u32) -> i64 {
        let near = sequence.wrapping_sub(self.base.unwrap_or(sequence));
        let from = self.highest.max(self.acknowledged);
        let distance = near.wrapping_sub(from as u32).cast_signed();
        from.cast_signed().saturating_add(distance.into())
    }

    /// Whether a segment of this connection can lie there.
    pub(super) fn is_plausible(&self, position: i64) -> bool {
        let from = self.highest.max(self.acknowledged);
        !self.is_known() || position.abs_diff(from.cast_signed()) <= WINDOW_BYTES_MAX
    }

    /// Whether this number goes on with what was seen.
    pub(super) fn is_near(&self, sequence: u32) -> bool {
        let from = self.highest.max(self.acknowledged);
        self.is_known() && self.position(sequence).abs_diff(from.cast_signed()) <= NEAR_BYTES_MAX
    }

    /// The other end has all before this sequence number. What it then waits for, if anything.
    pub(super) fn acknowledge(&mut self, sequence: u32) -> u64 {
        self.start(sequence);
        let position = self.position(sequence);
        if !self.is_plausible(position) {
            self.restart(sequence);
            return 0;
        }
        let mut position = u64::try_from(position).unwrap_or(0).min(self.end.unwrap_or(u64::MAX));
        // Behind the last byte stands the end, which has a number of its own: one alone behind all that is known
        // is taken for it.
        let known = self.highest.max(self.acknowledged);
        if self.end.is_none() && position == known + 1 {
            position = known;
        }
        // What was said to be there beyond all that was seen, and then not: it was not true, or came out of turn.
        if position < self.acknowledged && self.acknowledged > self.highest {
            self.acknowledged = position.max(self.stream.next_position());
        }
        self.acknowledged = self.acknowledged.max(position);
        position
    }

    /// It ends at this position, unless it is known to end elsewhere.
    pub(super) fn finish(&mut self, position: u64) {
        let end = *self.end.get_or_insert(position);
        self.acknowledged = self.acknowledged.min(end);
    }

    /// Remembers a segment. Whether one that it holds again was another: longer ago than the stream can tell.
    pub(super) fn differs(&mut self, start: u64, bytes: &[u8]) -> bool {
        let end = start + bytes.len() as u64;
        let mut differs = false;
        if start < self.highest {
            differs = self.remembered.iter().any(|known| {
                let held = known.start >= start && known.start + known.length as u64 <= end;
                held && {
                    let from = (known.start - start) as usize;
                    hash(&bytes[from..from + known.length]) != known.hash
                }
            });
        }
        if end > self.highest && !bytes.is_empty() {
            if self.remembered.len() == REMEMBERED_MAX {
                self.remembered.pop_front();
            }
            self.remembered.push_back(Remembered { start, length: bytes.len(), hash: hash(bytes) });
        }
        differs
    }

    /// Bytes before this position were acknowledged and have not come.
    pub(super) fn misses(&self, position: u64) -> bool {
        position.min(self.acknowledged) > self.stream.next_position()
    }

    /// What was acknowledged up to this position and has not come will not come.
    pub(super) fn give_up(&mut self, position: u64, time_ns: u64, out: &mut dyn FnMut(Delivery<'_>)) {
        let (next, position) = (self.stream.next_position(), position.min(self.acknowledged));
        if position > next {
            self.missed = true;
            self.stream.hole(next, position - next, Cause::Unseen, time_ns, out);
        }
    }

    /// Nothing more comes: what is missing is told.
    pub(super) fn close(&mut self, time_ns: u64, out: &mut dyn FnMut(Delivery<'_>)) {
        self.give_up(self.acknowledged, time_ns, out);
        match self.end {
            Some(end) => self.stream.end_at(end, time_ns, out),
            None => self.stream.flush(out),
        }
    }

    /// All is told; only places are still of use.
    pub(super) fn forget(&mut self) {
        self.stream = Stream::default();
        self.remembered = VecDeque::new();
    }

    /// It ended and all of it came.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.stream.next_position() >= end)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_when_sequence_numbers_wrap() {
        let mut lane = Lane::default();
        assert!(lane.begin(u32::MAX - 9, true));
        assert_eq!(lane.position(u32::MAX), 9);
        assert_eq!(lane.position(5), 15);
        assert_eq!(lane.position(u32::MAX - 10), -1);
        for step in 1..=9u64 {
            lane.highest = step << 29;
            let sequence = (u32::MAX - 9).wrapping_add(lane.highest as u32);
            assert_eq!(lane.position(sequence.wrapping_add(7)), lane.highest.cast_signed() + 7);
            assert_eq!(lane.position(sequence.wrapping_sub(7)), lane.highest.cast_signed() - 7);
        }
        assert!(lane.highest > 1 << 32);
    }

    #[test]
    fn a_byte_that_only_an_unseen_end_explains_is_not_missing() {
        let mut lane = Lane::default();
        lane.start(100);
        lane.stream.bytes(0, 1, b"abc", &mut |_| {});
        lane.highest = 3;
        lane.acknowledge(104);
        assert!(!lane.misses(lane.acknowledged));
        lane.acknowledge(105);
        assert!(lane.misses(lane.acknowledged));
    }
}
