//! What a connection waits for: a segment that answers lost bytes waits, with all behind it, until those have come
//! or the other end's word for them is old enough. So a request stays before its answer.

use super::{Connection, Context};
use crate::pcap::lane::Lane;
use crate::pcap::segment::Segment;

/// How long what was acknowledged may still come: two captured directions do not keep each other's order.
const LATE_NS: u64 = 50_000_000;
/// What a connection holds of segments that wait for what they answer, and of those behind them.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Memory of a waiting segment besides its bytes.
const WAITING_OVERHEAD: usize = size_of::<Waiting>();

/// Whether a wait is over; one that ends later than any that begins now was set before the clock went back.
pub(in crate::pcap) fn is_due(due_ns: u64, now_ns: u64) -> bool {
    due_ns <= now_ns || due_ns > now_ns.saturating_add(LATE_NS)
}

/// A segment that answers bytes which have not come yet.
#[derive(Debug)]
pub(super) struct Waiting {
    lane: usize,
    position: i64,
    length: usize,
    bytes: Vec<u8>,
    time_ns: u64,
    /// Position of the other direction that it answers, and how long it waits for that.
    needs: u64,
    due_ns: u64,
}

/// The other end has all before `position`, and it has not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    position: u64,
    due_ns: u64,
}

impl Connection {
    /// Whether a segment answers what has not come, or has its turn behind one that does.
    pub(super) fn must_wait(&self, lane: usize, position: i64, needs: u64) -> bool {
        match self.waiting.front() {
            Some(first) if first.lane != lane => position >= first.needs.cast_signed(),
            Some(_) => true,
            None => self.lanes[1 - lane].misses(needs),
        }
    }

    /// Keeps a segment until its turn.
    pub(super) fn wait(
        &mut self,
        lane: usize,
        position: i64,
        segment: &Segment<'_>,
        needs: u64,
        context: &mut Context<'_>,
    ) {
        let (length, bytes, time_ns) = (segment.length, segment.bytes.to_vec(), context.time_ns);
        let due_ns = context.now_ns.saturating_add(LATE_NS);
        self.waiting_bytes += WAITING_OVERHEAD + bytes.len();
        self.waiting.push_back(Waiting { lane, position, length, bytes, time_ns, needs, due_ns });
        if self.waiting_bytes > WAITING_BYTES_MAX {
            context.counts.bounds_hit += 1;
            self.release_all(context);
        }
    }

    /// Hands on what waited and need not wait any more; ends the connection when both directions ended.
    pub(in crate::pcap) fn settle(&mut self, context: &mut Context<'_>) {
        if self.over {
            return;
        }
        for lane in [0, 1] {
            if let Some(claim) = self.claims[lane].filter(|claim| is_due(claim.due_ns, context.now_ns)) {
                self.claims[lane] = None;
                self.give_up(lane, claim.position, context);
            }
        }
        while let Some(first) = self.waiting.front() {
            if self.lanes[1 - first.lane].misses(first.needs) && !is_due(first.due_ns, context.now_ns) {
                break;
            }
            self.release(context);
        }
        if !self.waiting.is_empty() {
            return;
        }
        for lane in [0, 1] {
            let known = &self.lanes[lane];
            if self.claims[lane].is_none() && known.misses(known.acknowledged) {
                let due_ns = context.now_ns.saturating_add(LATE_NS);
                self.claims[lane] = Some(Claim { position: known.acknowledged, due_ns });
            }
        }
        if self.lanes.iter().all(Lane::is_over) {
            self.end(None, context);
        }
    }

    /// When time alone ends a wait.
    pub(in crate::pcap) fn due_ns(&self) -> Option<u64> {
        let claims = self.claims.iter().flatten().map(|claim| claim.due_ns);
        claims.chain(self.waiting.front().map(|first| first.due_ns)).min().filter(|_| !self.over)
    }

    /// What was acknowledged up to this position and has not come will not come.
    pub(super) fn give_up(&mut self, lane: usize, position: u64, context: &mut Context<'_>) {
        let time_ns = context.time_ns;
        self.with(lane, context, |lane, out| lane.give_up(position, time_ns, out));
    }

    /// Memory is short: nothing more is waited for.
    pub(in crate::pcap) fn shed(&mut self, context: &mut Context<'_>) {
        context.counts.bounds_hit += 1;
        self.release_all(context);
        for lane in [0, 1] {
            self.with(lane, context, |lane, out| lane.stream.flush(out));
        }
        self.settle(context);
    }

    pub(super) fn release_all(&mut self, context: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            self.release(context);
        }
    }

    fn release(&mut self, context: &mut Context<'_>) {
        let Some(waiting) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= WAITING_OVERHEAD + waiting.bytes.len();
        let Waiting { lane, position, length, bytes, time_ns, needs, .. } = waiting;
        self.give_up(1 - lane, needs, context);
        self.deliver(lane, position, length, &bytes, time_ns, context);
    }
}
