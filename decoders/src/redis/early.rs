//! Replies that are seen before their command, while the server may speak unasked: nothing can be held back then, so
//! they wait here. What was said before a command began cannot be its reply. Bounded.

use std::collections::VecDeque;

use super::answer::Reply;
use super::connection::Connection;
use super::tree::Tree;
use crate::protocol::{Direction, Out};

/// Replies that wait for their command.
const WAITING_MAX: usize = 16;

/// A reply that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tree: Tree,
    /// When its last byte was seen, boottime ns.
    pub(super) time_ns: u64,
    pub(super) odd: Option<&'static str>,
}

/// Those of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Early {
    waiting: VecDeque<Waiting>,
    weight: usize,
}

impl Early {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.weight += waiting.tree.held_bytes();
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.weight -= waiting.tree.held_bytes();
        Some(waiting)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.weight + self.waiting.capacity() * size_of::<Waiting>()
    }
}

impl Connection {
    /// Those that were said before this time answer no command that begins now.
    pub(super) fn release_early(&mut self, before_ns: u64, out: &mut dyn Out) {
        while self.early.waiting.front().is_some_and(|waiting| waiting.time_ns < before_ns) {
            let Some(waiting) = self.early.pop() else { return };
            self.recall(waiting.odd);
            self.on_unmatched(Reply::of(&waiting.tree), waiting.time_ns, out);
        }
    }

    /// A command came: the next of them is its reply.
    pub(super) fn answer_early(&mut self, out: &mut dyn Out) {
        while self.pairing.waits() {
            let Some(waiting) = self.early.pop() else { return };
            let rest = std::mem::take(&mut self.early);
            self.recall(waiting.odd);
            self.on_reply(&waiting.tree, waiting.time_ns, out);
            self.early = rest;
        }
    }

    fn recall(&mut self, odd: Option<&'static str>) {
        if let Some(odd) = odd {
            self.set_odd(Direction::Down, odd);
        }
    }
}
