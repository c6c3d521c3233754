//! Which reply belongs to which command: the queue of what the server still has to answer, transactions, and when it
//! is not known any more.
//!
//! Redis answers in order, so the queue is the protocol's own rule. After missing bytes replies are paired all the
//! same, and said to be uncertain; it is certain again when a command follows a silence in which nothing waited.

use std::collections::VecDeque;

use super::command::{Act, Plan, Replies};
use crate::protocol::ExchangeId;

/// After so long without a byte either way nothing is on its way, ns.
const SILENCE_NS: u64 = 200_000_000;

/// A command that waits for its reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: ExchangeId,
    /// When it began, boottime ns.
    pub(super) time_ns: u64,
    /// Its name, where it is known.
    pub(super) name: &'static str,
    pub(super) plan: Plan,
    pub(super) act: Act,
    /// Nothing is missing before it.
    pub(super) certain: bool,
    /// Confirmations of a subscription that came.
    pub(super) confirmed: u64,
}

impl Pending {
    fn weight(&self) -> usize {
        let places = self.plan.places.iter().map(|place| 24 + place.len()).sum::<usize>();
        size_of::<Self>() + self.plan.key.len() + places
    }
}

/// What is paired.
#[derive(Debug)]
pub(super) struct Pairing {
    waiting: VecDeque<Pending>,
    /// Commands behind the limit: so many replies belong to none that is remembered.
    beyond: u64,
    /// What a transaction that goes on has queued; `None` for one that was told when it was queued.
    queued: Option<Vec<Option<Pending>>>,
    weight: usize,
    pending_max: usize,
    certain: bool,
    last_ns: u64,
    /// The client asked for no replies, or for none to the next command.
    off: bool,
    skip: bool,
    /// The client is within MULTI, where nothing takes effect yet.
    in_transaction: bool,
}

impl Pairing {
    pub(super) fn new(pending_max: usize, certain: bool) -> Self {
        Pairing {
            waiting: VecDeque::new(),
            beyond: 0,
            queued: None,
            weight: 0,
            pending_max,
            certain,
            last_ns: 0,
            off: false,
            skip: false,
            in_transaction: false,
        }
    }

    /// Bytes were seen.
    pub(super) fn saw(&mut self, time_ns: u64) {
        self.last_ns = self.last_ns.max(time_ns);
    }

    /// A command begins at this time: after a silence it is the first that waits.
    pub(super) fn begins(&mut self, time_ns: u64, between_replies: bool) {
        let silent = time_ns.saturating_sub(self.last_ns) >= SILENCE_NS && self.last_ns > 0;
        if silent && between_replies && !self.waits() && self.queued.is_none() {
            self.certain = true;
        }
    }

    pub(super) fn is_certain(&self) -> bool {
        self.certain
    }

    /// How the transaction ends is not sure.
    pub(super) fn doubt_transaction(&mut self) {
        for pending in self.queued.iter_mut().flatten().flatten() {
            pending.certain = false;
        }
    }

    /// Bytes are missing: who answers what is not sure from here on. The end of a transaction may be among them.
    pub(super) fn doubt(&mut self) {
        self.doubt_transaction();
        (self.certain, self.off, self.skip, self.in_transaction) = (false, false, false, false);
    }

    /// Some reply is due.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || self.beyond > 0
    }

    /// There is room for another command.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.queued.as_ref().map_or(0, Vec::len) < self.pending_max
    }

    /// Why the server will say nothing to this command, if so.
    pub(super) fn no_reply(&mut self, act: &Act) -> Option<&'static str> {
        match act {
            Act::Acknowledge => return Some("replication"),
            Act::Reset => (self.off, self.skip, self.in_transaction) = (false, false, false),
            Act::Multi => self.in_transaction = true,
            Act::Exec | Act::Discard => self.in_transaction = false,
            Act::Replies(_) if self.in_transaction => {}
            Act::Replies(Replies::On) => (self.off, self.skip) = (false, false),
            Act::Replies(Replies::Off) => {
                (self.off, self.skip) = (true, false);
                return Some("off");
            }
            Act::Replies(Replies::Skip) => {
                self.skip = !self.off;
                return Some(if self.off { "off" } else { "skip" });
            }
            _ => {}
        }
        match (self.off, std::mem::take(&mut self.skip)) {
            (true, _) => Some("off"),
            (false, true) => Some("skip"),
            (false, false) => None,
        }
    }

    /// A command waits. False when it is over the limit.
    pub(super) fn push(&mut self, pending: Pending) -> bool {
        if self.beyond > 0 || self.waiting.len() >= self.pending_max {
            self.beyond += 1;
            return false;
        }
        self.weight += pending.weight();
        self.waiting.push_back(pending);
        true
    }

    /// The command that the server answers now.
    pub(super) fn head(&mut self) -> Option<&mut Pending> {
        self.waiting.front_mut()
    }

    /// Its reply is here.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.waiting.pop_front()?;
        self.weight -= pending.weight();
        Some(pending)
    }

    /// A reply that belongs to a command beyond the limit.
    pub(super) fn pop_beyond(&mut self) -> bool {
        let was = self.beyond > 0;
        self.beyond = self.beyond.saturating_sub(1);
        was
    }

    /// The server speaks although it was asked not to: it has refused that.
    pub(super) fn speaks(&mut self) {
        (self.off, self.skip) = (false, false);
    }

    /// MULTI was accepted. What a transaction before it has queued: its end was not seen.
    pub(super) fn begin_transaction(&mut self) -> Vec<Option<Pending>> {
        let before = self.end_transaction();
        self.queued = Some(Vec::new());
        before
    }

    /// The server queues what is in a transaction, if it is in one.
    pub(super) fn in_transaction(&self) -> bool {
        self.queued.is_some()
    }

    /// It was queued. Given back when as many are remembered as may be.
    pub(super) fn queue(&mut self, pending: Pending) -> Option<Pending> {
        let queued = self.queued.as_mut()?;
        if queued.len() < self.pending_max / 2 {
            self.weight += pending.weight();
            queued.push(Some(pending));
            return None;
        }
        if queued.len() < self.pending_max {
            queued.push(None);
        }
        Some(pending)
    }

    /// The transaction is over: what it had queued.
    pub(super) fn end_transaction(&mut self) -> Vec<Option<Pending>> {
        let queued = self.queued.take().unwrap_or_default();
        self.weight -= queued.iter().flatten().map(Pending::weight).sum::<usize>();
        queued
    }

    /// Replies are missing: takes out all that wait, for their replies may be among them.
    pub(super) fn lose(&mut self) -> Vec<Pending> {
        self.certain = false;
        self.beyond = 0;
        let mut lost: Vec<Pending> = self.end_transaction().into_iter().flatten().collect();
        lost.extend(self.waiting.drain(..));
        self.weight = 0;
        lost
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.weight + self.waiting.capacity() * size_of::<Pending>() / 4
    }
}
