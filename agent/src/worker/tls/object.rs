//! One TLS object: its write that is not settled yet, its plaintext that waits for a socket, and how far its
//! two directions were told. It knows no socket tables and no limits; those are the binder's.

use std::mem::take;

use bytes::Bytes;
use custody_abi as abi;
use custody_decoders::event::{Binding, Cause, Flow};

use super::{Extent, Owner};

/// Bytes, or the fact that they are missing.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Bytes(Bytes),
    Missing { length: u64, cause: Cause },
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Missing { length, .. } => *length,
        }
    }

    /// The part from `from` on, `length` bytes of it at most.
    fn part(&self, from: u64, length: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(bytes.len());
                Self::Bytes(bytes.slice(from..to))
            }
            Self::Missing { length: all, cause } => {
                Self::Missing { length: all.saturating_sub(from).min(length), cause: *cause }
            }
        }
    }
}

/// A piece at its position in the TLS object.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) flow: Flow,
    pub(super) position: u64,
    pub(super) time_ns: u64,
    pub(super) content: Content,
    pub(super) extent: Extent,
}

impl Held {
    /// Bytes of memory, about.
    pub(super) fn cost(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => size_of::<Self>() + bytes.len(),
            Content::Missing { .. } => size_of::<Self>(),
        }
    }

    /// Adds `next` to this one if both are missing for the same cause.
    fn absorbs(&mut self, next: &Self) -> bool {
        let end = self.end();
        match (&mut self.content, &next.content) {
            (Content::Missing { length, cause }, Content::Missing { length: more, cause: other })
                if cause == other && self.flow == next.flow && end == next.position =>
            {
                *length = length.saturating_add(*more);
                true
            }
            _ => false,
        }
    }

    fn end(&self) -> u64 {
        self.position.saturating_add(self.content.length())
    }
}

pub(super) struct Object<S> {
    pub(super) task: abi::TaskKey,
    pub(super) existing: bool,
    pub(super) owner: Option<Owner<S>>,
    pub(super) binding: Binding,
    /// Two sockets were seen: none is believed any more.
    pub(super) disputed: bool,
    /// Confirmed pieces that wait for the owner.
    pub(super) held: Vec<Held>,
    /// The write that is not settled.
    pub(super) pending: Vec<Held>,
    pub(super) pending_call: u64,
    /// The try before it, to compare with.
    pub(super) previous: Vec<Held>,
    /// Ends of what was confirmed, by the object's own positions.
    next: [u64; 2],
    /// Ends of what was told while unbound.
    pub(super) told: [u64; 2],
    /// What the binder counted of this object.
    pub(super) counted: usize,
}

impl<S> Object<S> {
    pub(super) fn new(task: abi::TaskKey, existing: bool) -> Self {
        Self {
            task,
            existing,
            owner: None,
            binding: Binding::Unknown,
            disputed: false,
            held: Vec::new(),
            pending: Vec::new(),
            pending_call: 0,
            previous: Vec::new(),
            next: [0; 2],
            told: [0; 2],
            counted: 0,
        }
    }

    /// Bytes of memory that it holds, about.
    pub(super) fn cost(&self) -> usize {
        [&self.held, &self.pending, &self.previous].into_iter().flatten().map(Held::cost).sum()
    }

    /// A piece of the waiting write; returns what it costs.
    pub(super) fn await_settle(&mut self, held: Held) -> usize {
        if self.pending.last_mut().is_some_and(|last| last.absorbs(&held)) {
            return 0;
        }
        let cost = held.cost();
        self.counted += cost;
        self.pending.push(held);
        cost
    }

    /// Confirmed pieces wait for the owner; returns what they cost.
    pub(super) fn await_owner(&mut self, confirmed: Vec<Held>) -> usize {
        let mut cost = 0;
        for held in confirmed {
            if !self.held.last_mut().is_some_and(|last| last.absorbs(&held)) {
                cost += held.cost();
                self.held.push(held);
            }
        }
        self.counted += cost;
        cost
    }

    /// Makes room for another call's data. True when the call before it is tried again.
    pub(super) fn supersede(&mut self, call: u64) -> bool {
        self.pending_call = call;
        self.previous = take(&mut self.pending);
        !self.previous.is_empty()
    }

    /// Whether the piece is not what the try before it had at the same place.
    pub(super) fn differs(&self, piece: &Held) -> bool {
        let Content::Bytes(bytes) = &piece.content else { return false };
        let first = self.previous.partition_point(|old| old.end() <= piece.position);
        self.previous[first..].iter().take_while(|old| old.position < piece.end()).any(|old| {
            let Content::Bytes(old_bytes) = &old.content else { return false };
            let (from, to) = (piece.position.max(old.position), piece.end().min(old.end()));
            let cut = |start: u64, all: &Bytes| all.slice((from - start) as usize..(to - start) as usize);
            from < to && cut(piece.position, bytes) != cut(old.position, old_bytes)
        })
    }

    /// A write returned: `accepted` bytes from `position` on were taken.
    pub(super) fn settle(&mut self, call: u64, position: u64, accepted: u64, time_ns: u64) -> Vec<Held> {
        self.previous.clear();
        let mut confirmed = Vec::new();
        if call != self.pending_call {
            // This call's data never came; what waits is of a call before it.
            confirmed = self.confirm(position, time_ns);
            self.pending.clear();
        }
        // Nothing accepted: OpenSSL may have sent a part of it, so it stays until the retry or the end.
        if accepted > 0 {
            let end = position.saturating_add(accepted);
            confirmed.extend(self.confirm(end, time_ns));
        }
        confirmed
    }

    /// Bytes of the waiting write before `end` were taken by the library; if some were, the call is over.
    pub(super) fn confirm(&mut self, end: u64, time_ns: u64) -> Vec<Held> {
        if end <= self.next[Flow::Egress as usize] {
            return Vec::new();
        }
        let mut confirmed = Vec::new();
        for mut held in take(&mut self.pending) {
            if held.position >= end {
                continue;
            }
            held.content = held.content.part(0, end - held.position);
            confirmed.extend(self.take(held));
        }
        confirmed.extend(self.reach(Flow::Egress, end, time_ns));
        confirmed
    }

    /// The write that waits will never be settled.
    pub(super) fn abandon(&mut self) -> Vec<Held> {
        self.previous.clear();
        let mut confirmed = Vec::new();
        for mut held in take(&mut self.pending) {
            held.extent = Extent::Unknown;
            confirmed.extend(self.take(held));
        }
        confirmed
    }

    /// A piece that is known to have moved: what is missing before it, then what of it is new.
    pub(super) fn take(&mut self, mut held: Held) -> Vec<Held> {
        let mut confirmed = self.reach(held.flow, held.position, held.time_ns);
        let next = &mut self.next[held.flow as usize];
        if held.end() <= *next {
            return confirmed;
        }
        let known = next.saturating_sub(held.position);
        held.content = held.content.part(known, u64::MAX);
        held.position += known;
        *next = held.end();
        confirmed.push(held);
        confirmed
    }

    /// The direction has come as far as `position`: what was not told of it is missing.
    pub(super) fn reach(&mut self, flow: Flow, position: u64, time_ns: u64) -> Vec<Held> {
        let next = &mut self.next[flow as usize];
        if position <= *next {
            return Vec::new();
        }
        let content = Content::Missing { length: position - *next, cause: Cause::Unseen };
        let hole = Held { flow, position: *next, time_ns, content, extent: Extent::Confirmed };
        *next = position;
        vec![hole]
    }
}
