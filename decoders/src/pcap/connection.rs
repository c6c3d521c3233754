//! One TCP connection of a capture: who asks, what each segment adds, when it is over. Makes events for the
//! pipeline, in which each direction is whole and in order, or has a hole of exact size.
//!
//! Must not look into the bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::lane::Lane;
use super::segment::{Flags, Segment};
use super::{Counts, Listener, Seen};
use crate::anomaly;
use crate::event::{
    Cause, Chunk, Endpoint, Event, Flow, Hole, Layer, Process, Role, Socket, SocketId, Transport,
};
use crate::registry;
use crate::streams::Delivery;

/// How long what was acknowledged may still come: two captured directions do not keep each other's order.
pub(super) const LATE_NS: u64 = 50_000_000;
/// What a connection holds of segments that wait for what they answer, and of those behind them.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Segments in a row that cannot be of this connection, after which they are taken for another one.
const STRANGERS_MAX: u32 = 8;
/// How long after its end the ports of a connection may be used again without a SYN in the capture.
const REUSE_NS: u64 = 60_000_000_000;
/// Memory of a waiting segment besides its bytes.
const WAITING_OVERHEAD: usize = size_of::<Waiting>();

/// A segment that answers bytes which have not come yet.
#[derive(Debug)]
struct Waiting {
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
struct Claim {
    position: u64,
    due_ns: u64,
}

/// What goes with each call.
pub(super) struct Context<'a> {
    pub(super) listener: &'a mut dyn Listener,
    pub(super) counts: &'a mut Counts,
    pub(super) packet: u64,
    pub(super) time_ns: u64,
    /// The latest time of all packets.
    pub(super) now_ns: u64,
}

/// One connection. Lane 0 is what the lower endpoint sends.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    ends: [Endpoint; 2],
    lanes: [Lane; 2],
    /// Lane of who asked for the connection.
    client: Option<usize>,
    /// A SYN was seen.
    begun: bool,
    opened: bool,
    pub(super) over: bool,
    first_ns: u64,
    pub(super) last_ns: u64,
    /// The first waits for what it answers, the others for their turn: so a request stays before its answer.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    claims: [Option<Claim>; 2],
    /// It stands in the queue of those whose holes end by time.
    pub(super) due: bool,
    /// A SYN with another number, while this connection goes on: whose, and its number.
    asked_anew: Option<(usize, u32)>,
    strangers: u32,
}

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    Here,
    /// To a connection of the same ends that begins with it.
    Anew,
    /// To one that began with this SYN (lane, sequence number) of before.
    AnewAfter(usize, u32),
    /// It asks for another connection while this one goes on: that remains to be seen.
    Nowhere,
}

impl Connection {
    pub(super) fn new(number: u64, ends: [Endpoint; 2], time_ns: u64) -> Self {
        Connection {
            number,
            ends,
            lanes: [Lane::default(), Lane::default()],
            client: None,
            begun: false,
            opened: false,
            over: false,
            first_ns: time_ns,
            last_ns: time_ns,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            claims: [None; 2],
            due: false,
            asked_anew: None,
            strangers: 0,
        }
    }

    /// A SYN of before the connection was known for its own.
    pub(super) fn asked(&mut self, lane: usize, sequence: u32) {
        self.client = Some(lane);
        self.begun = true;
        self.lanes[lane].begin(sequence.wrapping_add(1), true);
    }

    /// Memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let streams: usize = self.lanes.iter().map(|lane| lane.stream.held_bytes()).sum();
        streams + self.waiting_bytes
    }

    /// Takes a segment. When it belongs elsewhere it was not looked at further.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Belongs {
        let lane = usize::from(segment.from != self.ends[0]);
        if segment.flags.syn() && !segment.flags.rst() {
            let ours = self.synchronise(lane, segment);
            if let Some(elsewhere) = ours {
                return elsewhere;
            }
        } else if let Some(elsewhere) = self.stranger(lane, segment, context.time_ns) {
            return elsewhere;
        }
        let told = if self.over {
            context.counts.after_end_bytes += segment.length as u64;
            "after the end"
        } else {
            self.take(lane, segment, context)
        };
        self.last_ns = self.last_ns.max(context.time_ns);
        context.listener.segment(&Seen {
            packet: context.packet,
            connection: self.number,
            from: segment.from,
            to: segment.to,
            position: self.lanes[lane].is_known().then(|| self.lanes[lane].position(segment.sequence)),
            length: segment.length as u64,
            flags: segment.flags,
            told,
        });
        Belongs::Here
    }

    /// A SYN: it begins this connection, repeats, comes late, or asks for another one.
    fn synchronise(&mut self, lane: usize, segment: &Segment<'_>) -> Option<Belongs> {
        let answers = segment.flags.ack();
        if let (true, Some((asked, sequence))) = (answers, self.asked_anew)
            && asked != lane
            && segment.acknowledged.is_some_and(|number| number.wrapping_sub(sequence) <= 1 << 16)
        {
            return Some(Belongs::AnewAfter(asked, sequence));
        }
        if self.over && !self.lanes[lane].begun {
            return Some(Belongs::Anew);
        }
        let untouched = self.waiting.is_empty() && self.claims[lane].is_none();
        if self.lanes[lane].begin(segment.sequence.wrapping_add(1), untouched) {
            self.client.get_or_insert(if answers { 1 - lane } else { lane });
            self.begun = true;
            return None;
        }
        let carried = self.lanes.iter().any(|lane| lane.has_bytes);
        if self.over || !carried {
            return Some(Belongs::Anew);
        }
        if !answers {
            self.asked_anew = Some((lane, segment.sequence));
        }
        Some(Belongs::Nowhere)
    }

    /// Whether a segment without SYN is of another connection between the same ends.
    fn stranger(&mut self, lane: usize, segment: &Segment<'_>, time_ns: u64) -> Option<Belongs> {
        if let Some((asked, sequence)) = self.asked_anew {
            let number = if lane == asked { Some(segment.sequence) } else { segment.acknowledged };
            if number == Some(sequence.wrapping_add(1)) {
                return Some(Belongs::AnewAfter(asked, sequence));
            }
        }
        let carries = segment.length > 0 && !segment.flags.rst();
        if self.over && carries && time_ns.saturating_sub(self.last_ns) > REUSE_NS {
            return Some(Belongs::Anew);
        }
        let known = &self.lanes[lane];
        if known.is_plausible(known.position(segment.sequence)) {
            self.strangers = 0;
            return None;
        }
        self.strangers += 1;
        (self.strangers >= STRANGERS_MAX && carries).then_some(Belongs::Anew)
    }

    fn take(&mut self, lane: usize, segment: &Segment<'_>, context: &mut Context<'_>) -> &'static str {
        let Segment { sequence, flags, length, .. } = *segment;
        let first = sequence.wrapping_add(u32::from(flags.syn()));
        let other = 1 - lane;
        if self.lanes[lane].is_known() && !self.lanes[lane].is_plausible(self.lanes[lane].position(first)) {
            let answers_reset = flags.rst() && segment.acknowledged.is_some() && !self.lanes[lane].has_bytes;
            if !answers_reset {
                context.counts.implausible_segments += 1;
                context.counts.implausible_bytes += length as u64;
                return "cannot be of this connection";
            }
        }
        if flags.rst() {
            self.end(Some(lane), context);
            return "reset";
        }
        let needs = segment.acknowledged.map_or(0, |number| self.lanes[other].acknowledge(number));
        if self.lanes[other].is_silent() && self.waiting.is_empty() {
            self.give_up(other, needs, context);
        }
        if length > 0 || flags.fin() {
            self.lanes[lane].start(first);
        }
        let position = self.lanes[lane].position(first);
        let known = &self.lanes[lane];
        let end = position.saturating_add(length as i64);
        if length <= 1
            && !flags.syn()
            && !flags.fin()
            && known.is_known()
            && position.saturating_add(1) == known.highest.cast_signed()
            && known.stream.next_position() == known.highest
        {
            context.counts.keep_alives += 1;
            self.settle(context);
            return "keep-alive";
        }
        if length == 0 && !flags.fin() {
            self.settle(context);
            return if flags.syn() { "begins" } else { "acknowledges" };
        }
        let told = verdict(known, position, end, flags);
        if flags.fin() {
            self.lanes[lane].finish(end.max(0).cast_unsigned());
        }
        let bytes = segment.bytes;
        if self.must_wait(lane, position, needs) {
            self.waiting_bytes += WAITING_OVERHEAD + bytes.len();
            let (bytes, time_ns) = (bytes.to_vec(), context.time_ns);
            let due_ns = context.now_ns.saturating_add(LATE_NS);
            self.waiting.push_back(Waiting { lane, position, length, bytes, time_ns, needs, due_ns });
            if self.waiting_bytes > WAITING_BYTES_MAX {
                context.counts.bounds_hit += 1;
                self.release_all(context);
            }
            self.settle(context);
            return "waits for what it answers";
        }
        self.deliver(lane, position, length, bytes, context.time_ns, context);
        self.settle(context);
        told
    }

    /// Whether a segment answers what has not come, or has its turn behind one that does.
    fn must_wait(&self, lane: usize, position: i64, needs: u64) -> bool {
        match self.waiting.front() {
            Some(first) if first.lane != lane => position >= first.needs.cast_signed(),
            Some(_) => true,
            None => self.lanes[1 - lane].misses(needs),
        }
    }

    /// Hands on what waited and need not wait any more; ends the connection when both directions ended.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) {
        if self.over {
            return;
        }
        for lane in [0, 1] {
            if let Some(claim) = self.claims[lane].filter(|claim| claim.due_ns <= context.now_ns) {
                self.claims[lane] = None;
                self.give_up(lane, claim.position, context);
            }
        }
        while let Some(first) = self.waiting.front() {
            if self.lanes[1 - first.lane].misses(first.needs) && first.due_ns > context.now_ns {
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
    pub(super) fn due_ns(&self) -> Option<u64> {
        let claims = self.claims.iter().flatten().map(|claim| claim.due_ns);
        claims.chain(self.waiting.front().map(|first| first.due_ns)).min().filter(|_| !self.over)
    }

    /// What was acknowledged up to this position and has not come will not come.
    fn give_up(&mut self, lane: usize, position: u64, context: &mut Context<'_>) {
        let time_ns = context.time_ns;
        self.with(lane, context, |lane, out| lane.give_up(position, time_ns, out));
    }

    /// Memory is short: nothing more is waited for.
    pub(super) fn shed(&mut self, context: &mut Context<'_>) {
        context.counts.bounds_hit += 1;
        self.release_all(context);
        for lane in [0, 1] {
            self.with(lane, context, |lane, out| lane.stream.flush(out));
        }
        self.settle(context);
    }

    fn release_all(&mut self, context: &mut Context<'_>) {
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

    fn deliver(
        &mut self,
        lane: usize,
        position: i64,
        length: usize,
        bytes: &[u8],
        time_ns: u64,
        context: &mut Context<'_>,
    ) {
        let mut end = position.saturating_add(length as i64).max(0).cast_unsigned();
        let before = usize::try_from(position.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        context.counts.before_beginning_bytes += before.min(length) as u64;
        let bytes = bytes.get(before..).unwrap_or_default();
        let start = position.max(0).cast_unsigned();
        if let Some(last) = self.lanes[lane].end.filter(|last| *last < end) {
            context.counts.after_end_bytes += end - last.max(start);
            end = last;
        }
        let bytes = &bytes[..bytes.len().min(end.saturating_sub(start) as usize)];
        let (repeated, disputed) =
            (self.lanes[lane].stream.duplicate_bytes(), self.lanes[lane].stream.disputed_bytes());
        let captured = start + bytes.len() as u64;
        self.with(lane, context, |lane, out| {
            lane.stream.bytes(start, time_ns, bytes, out);
            if captured < end {
                lane.stream.hole(captured, end - captured, Cause::Limit, time_ns, out);
            }
        });
        let known = &mut self.lanes[lane];
        known.has_bytes |= end > start;
        known.highest = known.highest.max(end);
        context.counts.repeated_bytes += known.stream.duplicate_bytes() - repeated;
        if known.stream.disputed_bytes() > disputed {
            context.counts.disputed_bytes += known.stream.disputed_bytes() - disputed;
            self.open(context);
            context.listener.event(Event::Odd(SocketId(self.number), anomaly::TCP_OVERLAP));
        }
    }

    /// Runs `work` on a lane; what it delivers becomes events.
    fn with(
        &mut self,
        index: usize,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Lane, &mut dyn FnMut(Delivery<'_>)),
    ) {
        let mut lane = std::mem::take(&mut self.lanes[index]);
        work(&mut lane, &mut |delivery| self.tell(index, delivery, context));
        self.lanes[index] = lane;
    }

    fn tell(&mut self, lane: usize, delivery: Delivery<'_>, context: &mut Context<'_>) {
        self.open(context);
        let socket = SocketId(self.number);
        let flow = if Some(lane) == self.client { Flow::Ingress } else { Flow::Egress };
        let layer = Layer::Wire;
        context.listener.event(match delivery {
            Delivery::Bytes { position, time_ns, bytes } => {
                context.counts.stream_bytes += bytes.len() as u64;
                Event::Chunk(Chunk { socket, flow, layer, position, time_ns, bytes })
            }
            Delivery::Gap { position, length, cause, time_ns } => {
                let (holes, missing) = match cause {
                    Cause::Limit => (&mut context.counts.cut_holes, &mut context.counts.cut_bytes),
                    _ => (&mut context.counts.lost_holes, &mut context.counts.lost_bytes),
                };
                *holes += 1;
                *missing = missing.saturating_add(length);
                Event::Hole(Hole { socket, flow, layer, position, length, cause, time_ns })
            }
        });
    }

    /// Tells of the connection, once there is something to tell: by then a SYN that was captured late has come.
    fn open(&mut self, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        let known = self.client.is_some();
        let client = *self.client.get_or_insert_with(|| guess_client(&self.ends));
        let id = SocketId(self.number);
        context.listener.event(Event::Open(Socket {
            id,
            time_ns: self.first_ns,
            transport: Transport::Tcp,
            role: if known { Role::Server } else { Role::Unknown },
            local: Some(self.ends[1 - client]),
            remote: Some(self.ends[client]),
            peer: None,
            // One for each: no connection of a capture is the other end of another one.
            netns: self.number as u32,
            existing: !self.begun,
            positions: [Some(0); 2],
            process: Arc::new(Process::default()),
        }));
        if !known {
            context.counts.guessed += 1;
            context.listener.event(Event::Odd(id, anomaly::ENDS_GUESSED));
        }
    }

    /// The connection is over, by a reset of this lane, by both ends, or because it is forgotten.
    pub(super) fn end(&mut self, reset_by: Option<usize>, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.flush(context);
        self.open(context);
        let socket = SocketId(self.number);
        let client = self.client.unwrap_or(0);
        if let Some(lane) = reset_by {
            let flow = if lane == client { Flow::Ingress } else { Flow::Egress };
            context.listener.event(Event::Reset(socket, flow));
        }
        let ends = [client, 1 - client].map(|lane| self.lanes[lane].end);
        context.listener.event(Event::Close(socket, ends, self.last_ns.max(context.time_ns)));
        for lane in &mut self.lanes {
            lane.stream = Default::default();
        }
    }

    /// Nothing more comes: all that is held or missing is told.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) {
        self.release_all(context);
        let time_ns = context.time_ns;
        for lane in [0, 1] {
            self.with(lane, context, |lane, out| lane.close(time_ns, out));
        }
        if !self.over {
            self.open(context);
        }
    }
}

impl Lane {
    /// The capture holds nothing of it but what the other end acknowledges.
    fn is_silent(&self) -> bool {
        !self.has_bytes && self.missed
    }
}

fn verdict(lane: &Lane, position: i64, end: i64, flags: Flags) -> &'static str {
    let next = lane.stream.next_position().cast_signed();
    match (position, end) {
        _ if position == next && flags.fin() => "ends",
        _ if position == next => "in order",
        _ if end < 0 => "before the beginning",
        _ if position > next => "ahead",
        _ if end > next => "in part repeated",
        _ => "repeated",
    }
}

/// Who asked, when no SYN says so: who speaks to a port where servers listen; else the higher port.
fn guess_client(ends: &[Endpoint; 2]) -> usize {
    match ends.map(|end| registry::is_known_port(end.port)) {
        [true, false] => 1,
        [false, true] => 0,
        _ => usize::from(ends[1].port > ends[0].port),
    }
}
