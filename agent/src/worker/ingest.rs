//! The two rings → one order. Control events and data come through rings of their own, so that data cannot
//! starve control; here they meet again: what opens (sockets, programs, bindings) comes before the data that
//! needs it, what closes comes after the data of before it. Must not look at payload.
//!
//! One drain: note the data ring's end, read the whole control ring, then the data ring up to that end. So
//! every opening that precedes a piece of data has been read by then, and all of them go first: data carries
//! the time at which its call began, which lies before the first sight of its socket, so times cannot tell.
//! Closings wait for one drain more, in which all data that was made before them has been read.
//!
//! Events carry numbers. Two CPUs may swap neighbours, so a missing number is called lost only when a whole
//! drain has passed without it.

use std::collections::VecDeque;

use custody_abi::kind;

use super::parse;

/// Spans of missing numbers that are remembered; beyond it the oldest is called lost at once.
const MISSING_SPANS_MAX: usize = 1024;

/// Numbers that were skipped, and when.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    end: u64,
    drain: u64,
}

/// Watches the numbers of one ring.
#[derive(Debug, Default)]
struct Numbers {
    /// The next number, once one was seen or the ring is known to be new.
    next: Option<u64>,
    missing: VecDeque<Span>,
    lost: u64,
}

impl Numbers {
    fn see(&mut self, number: u64, drain: u64) {
        let next = *self.next.get_or_insert(number);
        if number >= next {
            if number > next {
                self.missing.push_back(Span { first: next, end: number, drain });
                if self.missing.len() > MISSING_SPANS_MAX
                    && let Some(span) = self.missing.pop_front()
                {
                    self.lost = self.lost.saturating_add(span.end - span.first);
                }
            }
            self.next = Some(number.saturating_add(1));
            return;
        }
        let found = self.missing.iter().position(|span| (span.first..span.end).contains(&number));
        if let Some(index) = found
            && let Some(span) = self.missing.remove(index)
        {
            for part in [Span { end: number, ..span }, Span { first: number + 1, ..span }] {
                if part.first < part.end {
                    self.missing.insert(index, part);
                }
            }
        }
    }

    /// How many are lost for good, of those that were missing before this drain.
    fn settle(&mut self, drain: u64) -> u64 {
        let mut lost = std::mem::take(&mut self.lost);
        self.missing.retain(|span| {
            let waits = span.drain >= drain;
            lost = lost.saturating_add(if waits { 0 } else { span.end - span.first });
            waits
        });
        lost
    }
}

/// A control event that waits for its turn.
#[derive(Debug)]
struct Waiting {
    time_ns: u64,
    drain: u64,
    bytes: Vec<u8>,
}

/// Joins the rings.
#[derive(Debug, Default)]
pub struct Ingest {
    control: Numbers,
    data: Numbers,
    openings: VecDeque<Waiting>,
    closings: VecDeque<Waiting>,
    drain: u64,
    /// Records that are no events of this ABI.
    pub malformed: u64,
}

impl Ingest {
    /// `fresh`: the rings are new, so their first number is 0. A worker that takes over begins where it is.
    pub fn new(fresh: bool) -> Self {
        let next = fresh.then_some(0);
        Ingest {
            control: Numbers { next, ..Numbers::default() },
            data: Numbers { next, ..Numbers::default() },
            ..Ingest::default()
        }
    }

    /// A record of the control ring. All of them are read before the data of the same drain.
    pub fn control(&mut self, bytes: &[u8]) {
        let Some(header) = parse::header(bytes) else {
            self.malformed += 1;
            return;
        };
        self.control.see(header.seq, self.drain);
        let waiting = Waiting { time_ns: header.time_ns, drain: self.drain, bytes: bytes.to_vec() };
        let closes = matches!(header.kind, kind::SOCKET_CLOSE | kind::EXIT | kind::TLS_CLOSE);
        let queue = if closes { &mut self.closings } else { &mut self.openings };
        // Nearly sorted already: look for the place from the end.
        let place = queue.iter().rposition(|other| other.time_ns <= waiting.time_ns).map_or(0, |at| at + 1);
        queue.insert(place, waiting);
    }

    /// A record of the data ring; first what this drain read of openings, then itself go to `emit`.
    pub fn data(&mut self, bytes: &[u8], emit: &mut impl FnMut(&[u8])) {
        let Some(header) = parse::header(bytes) else {
            self.malformed += 1;
            return;
        };
        self.data.see(header.seq, self.drain);
        for opening in self.openings.drain(..) {
            emit(&opening.bytes);
        }
        emit(bytes);
    }

    /// Ends a drain: the openings that are left, then the closings of the drain before. Returns how many
    /// events are lost for good.
    pub fn finish(&mut self, emit: &mut impl FnMut(&[u8])) -> u64 {
        for opening in self.openings.drain(..) {
            emit(&opening.bytes);
        }
        let drain = self.drain;
        // Times order them, and a closing that was read late may carry an early time: each waits for itself.
        self.closings.retain(|closing| {
            let waits = closing.drain >= drain;
            if !waits {
                emit(&closing.bytes);
            }
            waits
        });
        let lost = self.control.settle(drain).saturating_add(self.data.settle(drain));
        self.drain += 1;
        lost
    }
}

#[cfg(test)]
mod tests {
    use custody_abi::{Data, Header, SocketClose, SocketOpen};

    use super::super::parse::tests::bytes_of;
    use super::*;

    fn header(kind: u16, seq: u64, time_ns: u64) -> Header {
        Header { kind, seq, time_ns, ..Header::default() }
    }
    fn open(seq: u64, time_ns: u64) -> Vec<u8> {
        bytes_of(&SocketOpen { header: header(kind::SOCKET_OPEN, seq, time_ns), ..Default::default() }, b"")
    }
    fn close(seq: u64, time_ns: u64) -> Vec<u8> {
        bytes_of(&SocketClose { header: header(kind::SOCKET_CLOSE, seq, time_ns), ..Default::default() }, b"")
    }
    fn data(seq: u64, time_ns: u64) -> Vec<u8> {
        bytes_of(&Data { header: header(kind::DATA, seq, time_ns), ..Default::default() }, b"")
    }

    fn drain(ingest: &mut Ingest, control: &[Vec<u8>], data: &[Vec<u8>]) -> (Vec<(u16, u64)>, u64) {
        let mut seen = Vec::new();
        let mut emit = |bytes: &[u8]| {
            let header = parse::header(bytes).unwrap();
            seen.push((header.kind, header.time_ns));
        };
        control.iter().for_each(|bytes| ingest.control(bytes));
        data.iter().for_each(|bytes| ingest.data(bytes, &mut emit));
        let lost = ingest.finish(&mut emit);
        (seen, lost)
    }

    #[test]
    fn opens_precede_data_and_closes_follow_a_drain_later() {
        let mut ingest = Ingest::new(true);
        let (seen, _) =
            drain(&mut ingest, &[open(0, 10), close(1, 30), open(2, 40)], &[data(0, 20), data(1, 50)]);
        assert_eq!(seen, [(2, 10), (2, 40), (1, 20), (1, 50)]);
        // Data that was made before the close, but read in the next drain.
        let (seen, _) = drain(&mut ingest, &[], &[data(2, 29)]);
        assert_eq!(seen, [(1, 29), (3, 30)]);
    }

    #[test]
    fn data_whose_call_began_before_its_socket_was_first_seen_follows_the_opening() {
        let mut ingest = Ingest::new(true);
        let (seen, _) = drain(&mut ingest, &[open(0, 11)], &[data(0, 10)]);
        assert_eq!(seen, [(2, 11), (1, 10)]);
    }

    #[test]
    fn swapped_neighbours_are_no_loss() {
        let mut ingest = Ingest::new(true);
        let (_, lost) = drain(&mut ingest, &[], &[data(1, 1), data(0, 1), data(2, 1)]);
        assert_eq!(lost, 0);
        assert_eq!(drain(&mut ingest, &[], &[]).1, 0);
    }

    #[test]
    fn a_missing_number_is_lost_after_a_whole_drain() {
        let mut ingest = Ingest::new(true);
        assert_eq!(drain(&mut ingest, &[open(2, 1)], &[data(0, 1), data(5, 1)]).1, 0);
        // One of the missing numbers comes late, which splits the hole.
        assert_eq!(drain(&mut ingest, &[], &[data(2, 1)]).1, 2 + 3);
        assert_eq!(drain(&mut ingest, &[], &[]).1, 0);
    }

    #[test]
    fn a_worker_that_takes_over_begins_where_the_ring_is() {
        let mut ingest = Ingest::new(false);
        drain(&mut ingest, &[], &[data(70_000, 1)]);
        assert_eq!(drain(&mut ingest, &[], &[]).1, 0);
    }

    #[test]
    fn holes_beyond_the_bound_are_lost_at_once_and_counted() {
        let mut ingest = Ingest::new(true);
        let every_second: Vec<Vec<u8>> = (0..3000).map(|index| data(index * 2 + 1, 1)).collect();
        let (_, lost) = drain(&mut ingest, &[], &every_second);
        assert_eq!(lost, 3000 - MISSING_SPANS_MAX as u64);
        assert_eq!(drain(&mut ingest, &[], &[]).1, MISSING_SPANS_MAX as u64);
    }

    #[test]
    fn numbers_at_the_end_of_all_numbers_end_no_worker() {
        let mut ingest = Ingest::new(true);
        drain(&mut ingest, &[open(u64::MAX, 1)], &[data(u64::MAX, 1)]);
        assert_eq!(drain(&mut ingest, &[], &[]).1, u64::MAX);
    }

    #[test]
    fn short_records_are_counted_and_skipped() {
        let mut ingest = Ingest::new(true);
        ingest.control(b"x");
        ingest.data(b"", &mut |_| panic!("nothing to emit"));
        assert_eq!(ingest.malformed, 2);
    }
}
