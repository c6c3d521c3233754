//! Holes of one end that the other end's bytes at the same positions fill: what sendfile and splice moved was
//! read by somebody.
//!
//! Never changes bytes that this end told, and never delivers bytes of the other end where no hole was told.

use super::{Content, Delivery, Piece, REORDER_WAIT_NS, Stream};
use crate::event::Cause;

/// Bytes of the other end that are kept for holes that are not told yet.
const SPARE_BYTES_MAX: usize = 256 << 10;
/// Pieces of them.
const SPARE_PIECES_MAX: usize = 64;

impl Piece {
    /// A hole that the other end may still fill.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.content, Content::Hole { open: true, .. })
    }
}

impl Stream {
    /// As [`Stream::hole`], of bytes that the other end may have: it waits for them like a hole between
    /// positions.
    pub fn open_hole(
        &mut self,
        position: u64,
        length: u64,
        cause: Cause,
        time_ns: u64,
        out: &mut (impl FnMut(Delivery<'_>) + ?Sized),
    ) {
        let hole = Piece { time_ns, content: Content::Hole { length, cause, open: true } };
        let Some(end) = self.put_hole(position, hole) else { return };
        let known: Vec<u64> = self
            .spare
            .range(..end)
            .filter(|(start, bytes)| *start + bytes.len() as u64 > position)
            .map(|(start, _)| *start)
            .collect();
        for start in known {
            if let Some(bytes) = self.spare.remove(&start) {
                self.spare_bytes -= bytes.len();
                self.fill_holes(start, &bytes);
                self.spare(start, &bytes);
            }
        }
        self.drain_bounded(out);
    }

    /// Bytes that the other end told at these positions.
    pub fn fill(&mut self, position: u64, bytes: &[u8], out: &mut (impl FnMut(Delivery<'_>) + ?Sized)) {
        let Some(end) = position.checked_add(bytes.len() as u64) else { return };
        if self.floating || end <= self.next {
            return self.drop_passed();
        }
        self.fill_holes(position, bytes);
        self.spare(position, bytes);
        self.drain_bounded(out);
    }

    /// When the first hole that the other end may fill is given up, boottime ns.
    pub fn open_until_ns(&self) -> Option<u64> {
        let (_, first) = self.pieces.iter().find(|(_, piece)| piece.is_open())?;
        Some(first.time_ns.saturating_add(REORDER_WAIT_NS))
    }

    /// The first piece is waited for no longer.
    pub(super) fn close_first(&mut self) {
        if let Some(mut first) = self.pieces.first_entry()
            && let Content::Hole { open, .. } = &mut first.get_mut().content
        {
            *open = false;
        }
    }

    fn fill_holes(&mut self, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        let holes: Vec<(u64, u64)> = self
            .pieces
            .range(..end)
            .filter(|(_, piece)| piece.is_open())
            .map(|(start, piece)| ((*start).max(position), (start + piece.length()).min(end)))
            .filter(|(from, to)| from < to)
            .collect();
        for (from, to) in holes {
            self.split_at(from);
            self.split_at(to);
            let Some(piece) = self.pieces.get_mut(&from) else { continue };
            let part = &bytes[(from - position) as usize..(to - position) as usize];
            piece.content = Content::Bytes(part.to_vec());
            self.held_bytes += part.len();
        }
    }

    /// Keeps what lies behind all that this end told, within bounds: a hole may follow that it fills.
    fn spare(&mut self, position: u64, bytes: &[u8]) {
        self.drop_passed();
        let last = self.pieces.last_key_value().map_or(0, |(start, piece)| start + piece.length());
        let from = position.max(self.next).max(last);
        let skip = usize::try_from(from - position).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(skip..).filter(|rest| !rest.is_empty()) else { return };
        let room = self.spare_bytes + rest.len() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_PIECES_MAX;
        if room && !self.spare.contains_key(&from) {
            self.spare_bytes += rest.len();
            self.spare.insert(from, rest.to_vec());
        }
    }

    /// Lets go of what this stream has passed.
    fn drop_passed(&mut self) {
        while let Some(first) = self.spare.first_entry() {
            if *first.key() + first.get().len() as u64 > self.next {
                break;
            }
            self.spare_bytes -= first.remove().len();
        }
    }

    /// Lets go of all that the other end told ahead.
    pub(super) fn drop_spare(&mut self) {
        self.spare.clear();
        self.spare_bytes = 0;
    }
}
