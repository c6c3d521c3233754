//! Order: chunks of one direction and layer come in as the kernel told them, and go out by position, each
//! byte once, with what is missing said in its place.
//!
//! Never guesses: two chunks that claim the same range with different bytes are counted and become a hole,
//! and are never joined for a decoder. Knows nothing of connections or protocols.

mod fill;

use std::collections::BTreeMap;

use crate::event::Cause;

/// How long a hole may wait to be filled before it is a gap.
pub const REORDER_WAIT_NS: u64 = 100_000_000;
/// Delivered bytes that are kept to compare with chunks that claim their place.
const TAIL_BYTES: usize = 512;
/// Pieces out of order that are kept; beyond it waiting ends.
const PIECES_MAX: usize = 1024;
/// How far ahead of what was delivered a position may lie, and how long a hole may be. Beyond a tebibyte it is
/// no loss but a position that somebody got wrong: it is refused and counted, and moves nothing.
pub const JUMP_BYTES_MAX: u64 = 1 << 40;
/// What a kept piece costs besides its bytes.
const PIECE_OVERHEAD: usize = 96;

/// What comes out, in order of position.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// Bytes, following what was delivered before.
    Bytes {
        /// Offset of the first.
        position: u64,
        /// When they moved, boottime ns.
        time_ns: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Bytes that will not come.
    Gap {
        /// Offset of the first.
        position: u64,
        /// How many.
        length: u64,
        /// Why.
        cause: Cause,
        /// When, boottime ns.
        time_ns: u64,
    },
}

/// One direction of one layer.
#[derive(Debug, Default)]
pub struct Stream {
    next: u64,
    /// Where it begins is not known: `next` is where the first bytes or the first hole stand.
    floating: bool,
    /// Pieces that are kept beyond [`PIECES_MAX`].
    pieces_more: usize,
    pieces: BTreeMap<u64, Piece>,
    held_bytes: usize,
    /// What the other end told of places that this stream has not come to, for holes that may be told there.
    spare: BTreeMap<u64, Vec<u8>>,
    spare_bytes: usize,
    tail: Vec<u8>,
    duplicate_bytes: u64,
    disputed_bytes: u64,
    misplaced: u64,
    misplaced_bytes: u64,
}

#[derive(Debug)]
struct Piece {
    time_ns: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// `open`: the other end may still have the bytes.
    Hole {
        length: u64,
        cause: Cause,
        open: bool,
    },
}

impl Piece {
    fn length(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Hole { length, .. } => *length,
        }
    }

    fn weight(&self) -> usize {
        PIECE_OVERHEAD
            + match &self.content {
                Content::Bytes(bytes) => bytes.len(),
                Content::Hole { .. } => 0,
            }
    }

    /// Splits off what lies `at` bytes behind the beginning.
    fn split(&mut self, at: u64) -> Piece {
        let content = match &mut self.content {
            Content::Bytes(bytes) => Content::Bytes(bytes.split_off(at as usize)),
            Content::Hole { length, cause, open } => {
                let rest = *length - at;
                *length = at;
                Content::Hole { length: rest, cause: *cause, open: *open }
            }
        };
        Piece { time_ns: self.time_ns, content }
    }
}

impl Stream {
    /// A stream whose next byte stands at `position`; `None`: wherever the first one does.
    pub fn starting_at(position: Option<u64>) -> Self {
        Stream { next: position.unwrap_or(0), floating: position.is_none(), ..Stream::default() }
    }

    /// A stream at position 0 that keeps more pieces: for a reader of files, who bounds the bytes of all streams.
    pub fn of_many_pieces(pieces_max: usize) -> Self {
        Stream { pieces_more: pieces_max.saturating_sub(PIECES_MAX), ..Stream::default() }
    }

    /// Position of the next byte to be delivered.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.spare_bytes + self.tail.capacity()
    }

    /// Bytes that came twice and agreed, as far as that could be seen.
    pub fn duplicate_bytes(&self) -> u64 {
        self.duplicate_bytes
    }

    /// Bytes whose place was claimed by other bytes too.
    pub fn disputed_bytes(&self) -> u64 {
        self.disputed_bytes
    }

    /// Chunks, holes and ends that were refused, because no stream is where they claim to be.
    pub fn misplaced(&self) -> u64 {
        self.misplaced
    }

    /// Bytes of the chunks among them.
    pub fn misplaced_bytes(&self) -> u64 {
        self.misplaced_bytes
    }

    /// When waiting for the first hole ends, boottime ns.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.pieces.first_key_value().map(|(_, piece)| piece.time_ns.saturating_add(REORDER_WAIT_NS))
    }

    /// Bytes came.
    pub fn bytes(
        &mut self,
        position: u64,
        time_ns: u64,
        bytes: &[u8],
        out: &mut (impl FnMut(Delivery<'_>) + ?Sized),
    ) {
        let Some(end) = self.place(position, bytes.len() as u64) else {
            self.misplaced_bytes += bytes.len() as u64;
            return;
        };
        let (mut position, mut bytes) = (position, bytes);
        if position < self.next {
            let known = (end.min(self.next) - position) as usize;
            self.compare_delivered(position, &bytes[..known]);
            bytes = &bytes[known..];
            position = self.next;
        }
        if bytes.is_empty() {
            return;
        }
        if position == self.next && self.pieces.is_empty() {
            return self.deliver_bytes(time_ns, bytes, out);
        }
        self.keep(position, time_ns, bytes);
        self.drain_bounded(out);
    }

    /// Bytes that moved and were not captured.
    pub fn hole(
        &mut self,
        position: u64,
        length: u64,
        cause: Cause,
        time_ns: u64,
        out: &mut (impl FnMut(Delivery<'_>) + ?Sized),
    ) {
        self.put_hole(position, Piece { time_ns, content: Content::Hole { length, cause, open: false } });
        self.drain_bounded(out);
    }

    /// Time passes: holes that waited long enough become gaps.
    pub fn expire(&mut self, now_ns: u64, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        while self.deadline_ns().is_some_and(|deadline| deadline <= now_ns) {
            self.give_up(out);
        }
    }

    /// Nothing more is waited for.
    pub fn flush(&mut self, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        self.drop_spare();
        while !self.pieces.is_empty() {
            self.give_up(out);
        }
    }

    /// The stream ended at this position: what is missing there is a gap.
    pub fn end_at(&mut self, position: u64, time_ns: u64, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        self.flush(out);
        if self.floating || self.place(position, 0).is_none() {
            return;
        }
        if position > self.next {
            self.deliver_gap(position - self.next, Cause::Unseen, time_ns, out);
        }
    }

    /// Puts a hole where nothing is kept; where the range ends.
    fn put_hole(&mut self, position: u64, hole: Piece) -> Option<u64> {
        let Content::Hole { cause, open, length } = hole.content else { return None };
        let end = self.place(position, length)?;
        let mut at = position.max(self.next);
        if at >= end {
            return Some(end);
        }
        // Pieces do not overlap: of those that begin before, only the nearest can reach here.
        let from = self.pieces.range(..=at).next_back().map_or(at, |(start, _)| *start);
        let claimed: Vec<(u64, u64)> = self
            .pieces
            .range(from..end)
            .map(|(start, piece)| (*start, start + piece.length()))
            .filter(|(_, piece_end)| *piece_end > at)
            .collect();
        for (start, piece_end) in claimed.into_iter().chain([(end, end)]) {
            if start > at {
                let content = Content::Hole { length: start - at, cause, open };
                self.insert(at, Piece { time_ns: hole.time_ns, content });
            }
            at = at.max(piece_end);
        }
        Some(end)
    }

    fn drain_bounded(&mut self, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        self.drain(out);
        if self.pieces.len() > PIECES_MAX + self.pieces_more {
            self.flush(out);
        }
    }

    /// Where the range ends, if a stream can reach there from where this one is.
    fn place(&mut self, position: u64, length: u64) -> Option<u64> {
        if std::mem::take(&mut self.floating) {
            self.next = position;
        }
        let end = position.checked_add(length);
        let farthest = self.next.saturating_add(JUMP_BYTES_MAX);
        let place = end.filter(|_| position <= farthest && length <= JUMP_BYTES_MAX);
        self.misplaced += u64::from(place.is_none());
        place
    }

    fn give_up(&mut self, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        if let Some((&start, piece)) = self.pieces.first_key_value() {
            let time_ns = piece.time_ns;
            if start > self.next {
                self.deliver_gap(start - self.next, Cause::Unseen, time_ns, out);
            }
            self.close_first();
            self.drain(out);
        }
    }

    fn drain(&mut self, out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        while let Some(entry) = self.pieces.first_entry() {
            if *entry.key() != self.next || entry.get().is_open() {
                return;
            }
            let piece = entry.remove();
            self.held_bytes -= piece.weight();
            match piece.content {
                Content::Bytes(bytes) => self.deliver_bytes(piece.time_ns, &bytes, out),
                Content::Hole { length, cause, .. } => self.deliver_gap(length, cause, piece.time_ns, out),
            }
        }
    }

    fn deliver_bytes(&mut self, time_ns: u64, bytes: &[u8], out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        let position = self.next;
        self.next += bytes.len() as u64;
        if bytes.len() >= TAIL_BYTES {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - TAIL_BYTES..]);
        } else {
            let surplus = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
            self.tail.drain(..surplus);
            self.tail.extend_from_slice(bytes);
        }
        out(Delivery::Bytes { position, time_ns, bytes });
    }

    fn deliver_gap(
        &mut self,
        length: u64,
        cause: Cause,
        time_ns: u64,
        out: &mut (impl FnMut(Delivery<'_>) + ?Sized),
    ) {
        let position = self.next;
        self.next = self.next.saturating_add(length);
        self.tail.clear();
        out(Delivery::Gap { position, length, cause, time_ns });
    }

    /// Bytes for a range that is delivered already. What the tail no longer holds cannot be compared and is
    /// taken for a repetition.
    fn compare_delivered(&mut self, position: u64, bytes: &[u8]) {
        let tail_start = self.next - self.tail.len() as u64;
        let from = position.max(tail_start);
        let skip = ((from - position) as usize).min(bytes.len());
        let seen = &bytes[skip..];
        let tail = &self.tail[(from - tail_start) as usize..];
        if seen == &tail[..seen.len()] {
            self.duplicate_bytes += bytes.len() as u64;
        } else {
            self.disputed_bytes += bytes.len() as u64;
        }
    }

    /// Keeps bytes ahead of what is missing; where they meet kept ones, both must agree.
    fn keep(&mut self, position: u64, time_ns: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        self.split_at(position);
        self.split_at(end);
        let claimed: Vec<u64> = self.pieces.range(position..end).map(|(start, _)| *start).collect();
        let mut at = position;
        for start in claimed {
            self.insert_bytes(at, start, position, time_ns, bytes);
            let Some(mut piece) = self.pieces.remove(&start) else { continue };
            self.held_bytes -= piece.weight();
            at = start + piece.length();
            let ours = &bytes[(start - position) as usize..(at - position) as usize];
            match &piece.content {
                Content::Bytes(theirs) if theirs == ours => self.duplicate_bytes += ours.len() as u64,
                Content::Bytes(theirs) => {
                    self.disputed_bytes += 2 * ours.len() as u64;
                    let length = theirs.len() as u64;
                    piece.content = Content::Hole { length, cause: Cause::Unseen, open: false };
                }
                Content::Hole { .. } => piece.content = Content::Bytes(ours.to_vec()),
            }
            self.insert(start, piece);
        }
        self.insert_bytes(at, end, position, time_ns, bytes);
    }

    fn insert_bytes(&mut self, from: u64, to: u64, position: u64, time_ns: u64, bytes: &[u8]) {
        if to > from {
            let part = &bytes[(from - position) as usize..(to - position) as usize];
            self.insert(from, Piece { time_ns, content: Content::Bytes(part.to_vec()) });
        }
    }

    fn insert(&mut self, position: u64, piece: Piece) {
        self.held_bytes += piece.weight();
        self.pieces.insert(position, piece);
    }

    /// Makes a border between pieces at `position`.
    fn split_at(&mut self, position: u64) {
        let Some((&start, piece)) = self.pieces.range_mut(..position).next_back() else { return };
        if start + piece.length() > position {
            let rest = piece.split(position - start);
            self.held_bytes += PIECE_OVERHEAD;
            self.pieces.insert(position, rest);
        }
    }
}

#[cfg(test)]
mod tests;
