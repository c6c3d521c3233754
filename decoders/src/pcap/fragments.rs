//! Fragments of IP back to datagrams. Bounded in number and bytes: the oldest is given up first, and counted.
//! Where fragments claim the same bytes the first one stands, and that is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use super::ip::Fragment;
use super::tags::Tags;

/// Datagrams that may be incomplete at once.
const DATAGRAMS_MAX: usize = 256;
/// Bytes that they may hold.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Longest payload of IP.
const PAYLOAD_BYTES_MAX: usize = 65_535;
/// Memory of a fragment besides its bytes.
const PIECE_OVERHEAD: usize = 64;
/// How long fragments wait for each other, as RFC 8200 has it.
const WAIT_NS: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    network: Tags,
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Piece {
    length: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Datagram {
    first_ns: u64,
    number: u64,
    pieces: BTreeMap<usize, Piece>,
    length: Option<usize>,
    held_bytes: usize,
}

/// A payload that is whole again, as far as the capture kept it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) length: usize,
    pub(super) bytes: Vec<u8>,
}

/// Datagrams whose fragments are coming.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    datagrams: HashMap<Key, Datagram>,
    order: VecDeque<(Key, u64)>,
    begun: u64,
    held_bytes: usize,
    /// Datagrams that were given up.
    pub(super) incomplete: u64,
    /// Fragments that claimed bytes of another one.
    pub(super) overlapping: u64,
}

impl Fragments {
    /// A fragment of this network; the whole payload when it was the last one missing.
    pub(super) fn push(&mut self, network: Tags, fragment: Fragment<'_>, time_ns: u64) -> Option<Joined> {
        let Fragment { id, offset, last, datagram } = fragment;
        let end = offset + datagram.length;
        if end > PAYLOAD_BYTES_MAX || datagram.length == 0 {
            self.incomplete += 1;
            return None;
        }
        let key = Key { network, from: datagram.from, to: datagram.to, protocol: datagram.protocol, id };
        let aged = |known: &Datagram| known.first_ns.saturating_add(WAIT_NS) < time_ns;
        if self.datagrams.get(&key).is_some_and(aged) {
            self.forget(&key);
            self.incomplete += 1;
        }
        let begun = &mut self.begun;
        let order = &mut self.order;
        let known = self.datagrams.entry(key).or_insert_with(|| {
            *begun += 1;
            order.push_back((key, *begun));
            let pieces = BTreeMap::new();
            Datagram { first_ns: time_ns, number: *begun, pieces, length: None, held_bytes: 0 }
        });
        let before = known.held_bytes;
        self.overlapping += u64::from(known.insert(offset, end, datagram.bytes));
        if last {
            known.length.get_or_insert(end);
        }
        self.held_bytes += known.held_bytes - before;
        if known.is_whole() {
            let joined = self.forget(&key).and_then(Datagram::join);
            return joined;
        }
        while self.datagrams.len() > DATAGRAMS_MAX || self.held_bytes > HELD_BYTES_MAX {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.datagrams.get(&oldest).is_some_and(|datagram| datagram.number == number) {
                self.forget(&oldest);
                self.incomplete += 1;
            }
        }
        if self.order.len() > 4 * DATAGRAMS_MAX {
            let datagrams = &self.datagrams;
            self.order
                .retain(|(key, number)| datagrams.get(key).is_some_and(|known| known.number == *number));
        }
        None
    }

    /// No more packets: what waits is given up.
    pub(super) fn finish(&mut self) {
        self.incomplete += self.datagrams.len() as u64;
        self.datagrams.clear();
        self.order.clear();
        self.held_bytes = 0;
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn forget(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.held_bytes -= datagram.held_bytes;
        Some(datagram)
    }
}

impl Datagram {
    /// Keeps what no other fragment claimed before; whether one did.
    fn insert(&mut self, offset: usize, end: usize, bytes: &[u8]) -> bool {
        let claimed: Vec<(usize, usize)> = self
            .pieces
            .range(..end)
            .map(|(start, piece)| (*start, start + piece.length))
            .filter(|(_, piece_end)| *piece_end > offset)
            .collect();
        let mut at = offset;
        for (start, piece_end) in claimed.iter().copied().chain([(end, end)]) {
            if start > at {
                let kept = bytes.len().min(start - offset);
                let part = bytes.get(at - offset..kept).unwrap_or_default().to_vec();
                self.held_bytes += PIECE_OVERHEAD + part.len();
                self.pieces.insert(at, Piece { length: start - at, bytes: part });
            }
            at = at.max(piece_end);
        }
        !claimed.is_empty()
    }

    fn is_whole(&self) -> bool {
        let Some(length) = self.length else { return false };
        let mut at = 0;
        for (start, piece) in &self.pieces {
            if *start != at {
                return false;
            }
            at = start + piece.length;
            if at >= length {
                return true;
            }
        }
        false
    }

    /// The bytes up to the first that the capture left out.
    fn join(self) -> Option<Joined> {
        let length = self.length?;
        let mut bytes = Vec::with_capacity(length);
        for piece in self.pieces.into_values() {
            bytes.extend_from_slice(&piece.bytes);
            if piece.bytes.len() < piece.length {
                break;
            }
        }
        bytes.truncate(length);
        Some(Joined { length, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ip;
    use super::*;

    fn fragment(id: u32, offset: usize, last: bool, length: usize, bytes: &[u8]) -> Fragment<'_> {
        let address = IpAddr::from([10, 0, 0, 1]);
        let datagram = ip::Datagram { from: address, to: address, protocol: 6, length, bytes };
        Fragment { id, offset, last, datagram }
    }

    #[test]
    fn fragments_in_any_order_are_one_datagram() {
        let parts = [(0, false, &b"abcdefgh"[..]), (8, false, b"ijklmnop"), (16, true, b"qr")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut fragments = Fragments::default();
            let mut joined = None;
            for index in order {
                let (offset, last, bytes) = parts[index];
                assert_eq!(joined, None);
                joined = fragments.push(Tags::default(), fragment(1, offset, last, bytes.len(), bytes), 1);
            }
            assert_eq!(joined, Some(Joined { length: 18, bytes: b"abcdefghijklmnopqr".to_vec() }));
            assert_eq!((fragments.held_bytes(), fragments.overlapping), (0, 0));
        }
    }

    #[test]
    fn of_overlapping_fragments_the_first_stands() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(Tags::default(), fragment(1, 8, true, 8, b"22222222"), 1), None);
        let joined = fragments.push(Tags::default(), fragment(1, 0, false, 16, b"1111111111111111"), 1);
        assert_eq!(joined.map(|joined| joined.bytes), Some(b"1111111122222222".to_vec()));
        assert_eq!(fragments.overlapping, 1);
    }

    #[test]
    fn what_the_capture_cut_off_a_fragment_is_not_joined_over() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(Tags::default(), fragment(1, 0, false, 8, b"abc"), 1), None);
        let joined = fragments.push(Tags::default(), fragment(1, 8, true, 8, b"ijklmnop"), 1);
        assert_eq!(joined, Some(Joined { length: 16, bytes: b"abc".to_vec() }));
    }

    #[test]
    fn fragments_that_never_end_hold_bounded_memory() {
        let mut fragments = Fragments::default();
        let bytes = vec![0; 60_000];
        for id in 0..10_000 {
            assert_eq!(
                fragments.push(Tags::default(), fragment(id, 8, false, bytes.len(), &bytes), id.into()),
                None
            );
            assert!(
                fragments.held_bytes() <= HELD_BYTES_MAX && fragments.order.len() <= 4 * DATAGRAMS_MAX + 1
            );
        }
        fragments.finish();
        assert_eq!(fragments.incomplete, 10_000);
    }
}
