//! One TCP connection of a capture: who asks, what each segment adds, when it is over. Makes events for the
//! pipeline, in which each direction is whole and in order, or has a hole of exact size.
//!
//! Must not look into the bytes.

mod telling;
mod waits;

use std::collections::VecDeque;

use super::lane::Lane;
use super::segment::{Flags, Segment};
use super::{Counts, Listener, Seen};
use crate::anomaly;
use crate::event::{Cause, Endpoint, Event, SocketId};
pub(super) use waits::is_due;
use waits::{Claim, Waiting};

/// Segments in a row that cannot be of this connection, after which they are taken for another one.
const STRANGERS_MAX: u32 = 8;
/// How long after its end the ports of a connection may be used again without a SYN in the capture.
const REUSE_NS: u64 = 60_000_000_000;

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

    /// Whether the numbers of a segment go on with this connection's.
    pub(super) fn goes_on_with(&self, segment: &Segment<'_>) -> bool {
        let lane = usize::from(segment.from != self.ends[0]);
        let acknowledges = |number| self.lanes[1 - lane].is_near(number);
        self.lanes[lane].is_near(segment.sequence) || segment.acknowledged.is_some_and(acknowledges)
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
        let answered = segment.acknowledged.is_some_and(|number| {
            let asked = &self.lanes[1 - lane];
            asked.is_plausible(asked.position(number))
        });
        if answered && !self.over && untouched && self.lanes[lane].restart(segment.sequence.wrapping_add(1)) {
            return None;
        }
        if answered {
            return Some(Belongs::Nowhere);
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
            self.wait(lane, position, segment, needs, context);
            self.settle(context);
            return "waits for what it answers";
        }
        self.deliver(lane, position, length, bytes, context.time_ns, context);
        self.settle(context);
        told
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
        let differs = self.lanes[lane].differs(start, bytes);
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
        let disputed = known.stream.disputed_bytes() - disputed;
        if disputed > 0 || differs {
            context.counts.disputed_bytes += disputed.max(bytes.len() as u64);
            self.open(context);
            context.listener.event(Event::Odd(SocketId(self.number), anomaly::TCP_OVERLAP));
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
