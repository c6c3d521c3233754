//! One direction: what is held of it, where it stands, and when its bytes came.

use std::collections::VecDeque;

use super::account::Account;

/// Chunks of held bytes whose times are kept apart; beyond it the newest stands for several.
const TIMES_MAX: usize = 256;

/// One direction.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) held: Vec<u8>,
    /// How many bytes must be there before asking again.
    pub(super) wanted: usize,
    pub(super) position: u64,
    pub(super) time_ns: u64,
    /// When the held bytes came: end position and time of each chunk, boottime ns.
    pub(super) times: VecDeque<(u64, u64)>,
    pub(super) mode: Mode,
    /// Kept back since, because the decoder does not expect it.
    pub(super) early_since_ns: Option<u64>,
    /// Nothing is kept back: a hole or the end follows what is held.
    pub(super) is_last: bool,
    pub(super) ended: bool,
    pub(super) account: Account,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Frames,
    Body {
        left: u64,
    },
    /// The rest of a frame whose end is known: over the limit (cut), or torn by a gap.
    Skip {
        left: u64,
        cut: bool,
    },
    Resync,
}

impl Lane {
    /// A chunk came that ends there.
    pub(super) fn came(&mut self, end: u64, time_ns: u64) {
        let full = self.times.len() >= TIMES_MAX;
        match self.times.back_mut() {
            Some(last) if full || last.1 == time_ns => *last = (end, time_ns),
            _ => self.times.push_back((end, time_ns)),
        }
    }

    /// When the byte at this position came; those before it are not asked for any more.
    fn time_at(&mut self, position: u64) -> u64 {
        while self.times.front().is_some_and(|(end, _)| *end <= position) {
            self.times.pop_front();
        }
        self.times.front().map_or(self.time_ns, |(_, time_ns)| *time_ns)
    }

    /// When the first and the last of the next bytes came.
    pub(super) fn times_of(&mut self, length: usize) -> (u64, u64) {
        let first_ns = self.time_at(self.position);
        (first_ns, self.time_at(self.position + (length as u64).saturating_sub(1)))
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity() + self.times.capacity() * size_of::<(u64, u64)>()
    }
}
