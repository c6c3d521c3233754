//! A session: one connection with its one or two ends on this host. Chooses the end and the layer that are
//! read, so that each byte is told once, feeds the reader, and tells records.
//!
//! Must not know any protocol, nor mask: it hands drafts on.

mod ends;
mod feed;
#[cfg(feature = "harness")]
pub mod fuzz;
mod hello;
mod reader;
mod route;
mod telling;
mod unread;

use std::collections::{BTreeMap, VecDeque};

use crate::driver::account::Account;
use crate::event::{Binding, Cause, Flow, Layer, Role, Socket, Transport};
use crate::item::Field;
use crate::mask::Draft;
use crate::protocol::{Direction, Limits};
use crate::streams::Stream;
use ends::End;
pub(crate) use ends::{PairKey, expects_peer, face_each_other};
use hello::Hellos;
use reader::{First, Reader};
use route::Waiting;
pub use route::{LATCH_BYTES, LATCH_WAIT_NS};
pub(crate) use telling::{cause_name, draft, process_fields};
pub use unread::Unread;
use unread::Untold;

/// A session whose protocol is not known, or that had no exchange, is told after this time.
const OPEN_WAIT_NS: u64 = 1_000_000_000;
/// Gaps of a session are told together for this time.
const GAP_WAIT_NS: u64 = 1_000_000_000;
/// How long a closed end whose other end should be on this host waits for it.
const LATE_PEER_NS: u64 = 1_000_000_000;
/// Codes of anomalies that a session remembers.
const CODES_MAX: usize = 32;

/// Where drafts go.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Draft);

/// One connection.
pub(crate) struct Session {
    pub(crate) number: u64,
    transport: Transport,
    limits: Limits,
    ends: Vec<End>,
    expects_peer: bool,
    wire_source: Option<usize>,
    plaintext_source: Option<usize>,
    plaintext_forced: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    reader: Reader,
    layer: Layer,
    middle: bool,
    /// Up and down follow the protocol, against the roles.
    reversed: bool,
    tls: bool,
    protocol: Option<&'static str>,
    looks_like: Option<&'static str>,
    /// It left a protocol for another; exchanges are numbered on from those of before.
    handed_over: bool,
    exchanges_before: u64,
    last_exchange: u64,
    facts: Vec<Field>,
    anomalies: Vec<&'static str>,
    /// What no driver accounts for.
    base: [Account; 2],
    ciphertext_bytes: u64,
    hellos: Hellos,
    unread: Untold,
    gaps: BTreeMap<Cause, Missing>,
    first_ns: u64,
    last_ns: u64,
    data_ns: Option<u64>,
    /// Who broke the connection off, told by either end: `true` for the client.
    reset_by_client: Option<bool>,
    opened: bool,
    disputed_bytes: u64,
    /// Memory held when it was last asked.
    pub(crate) held_bytes: usize,
    /// Moment for which the pipeline's timer is set.
    pub(crate) armed_ns: u64,
}

/// Bytes that were lost and are not told yet.
#[derive(Clone, Copy)]
struct Missing {
    bytes: u64,
    first_ns: u64,
    last_ns: u64,
}

/// Bytes, or a hole.
#[derive(Clone, Copy)]
pub(crate) enum What<B> {
    Bytes(B),
    Hole(u64, Cause),
}

/// Where in a session something came.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) end: usize,
    pub(crate) layer: Layer,
    pub(crate) flow: Flow,
    pub(crate) position: u64,
    pub(crate) time_ns: u64,
}

impl Session {
    pub(crate) fn new(number: u64, socket: Socket, limits: Limits) -> Self {
        let client = ends::is_client(&socket, None);
        Session {
            number,
            transport: socket.transport,
            limits,
            expects_peer: expects_peer(&socket),
            wire_source: None,
            plaintext_source: None,
            plaintext_forced: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            reader: Reader::Undecided(First::default()),
            layer: Layer::Wire,
            middle: socket.existing,
            reversed: false,
            tls: false,
            protocol: None,
            looks_like: None,
            handed_over: false,
            exchanges_before: 0,
            last_exchange: 0,
            facts: Vec::new(),
            anomalies: Vec::new(),
            base: [Account::default(); 2],
            ciphertext_bytes: 0,
            hellos: Hellos::default(),
            unread: Untold::default(),
            gaps: BTreeMap::new(),
            first_ns: socket.time_ns,
            last_ns: socket.time_ns,
            data_ns: None,
            reset_by_client: None,
            opened: false,
            disputed_bytes: 0,
            held_bytes: 0,
            armed_ns: u64::MAX,
            ends: vec![End::new(socket, client)],
        }
    }

    /// The other end shows up; its index.
    pub(crate) fn join(&mut self, socket: Socket) -> usize {
        let client = ends::is_client(&socket, self.ends.first());
        let known = socket.role != Role::Unknown;
        self.ends.push(End::new(socket, client));
        let nothing_read = self.wire_source.is_none() && self.plaintext_source.is_none();
        if known && nothing_read && self.ends[0].socket.role == Role::Unknown {
            self.ends[0].client = !client;
        }
        self.ends.len() - 1
    }

    /// Whether this socket is the other end of this session.
    pub(crate) fn awaits(&self, socket: &Socket) -> bool {
        self.ends.len() == 1 && face_each_other(&self.ends[0].socket, socket)
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.ends.iter().map(|end| &end.socket)
    }

    pub(crate) fn bound(&mut self, end: usize, binding: Binding, existing: bool) {
        if let Some(end) = self.ends.get_mut(end) {
            end.bound_late = existing && end.binding.is_none_or(|_| end.bound_late);
            end.binding.get_or_insert(binding);
        }
    }

    pub(crate) fn reset(&mut self, end: usize, flow: Flow) {
        if let Some(end) = self.ends.get(end) {
            self.reset_by_client.get_or_insert(end.client == (flow == Flow::Egress));
        }
    }

    pub(crate) fn close(&mut self, end: usize, positions: [Option<u64>; 2], time_ns: u64) {
        if let Some(end) = self.ends.get_mut(end) {
            end.closed.get_or_insert((time_ns, positions));
        }
    }

    /// Bytes or a hole of one end.
    pub(crate) fn input(&mut self, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let Some(end) = self.ends.get_mut(place.end) else { return };
        let length = match what {
            What::Bytes(bytes) => bytes.len() as u64,
            What::Hole(length, _) => length,
        };
        let told = &mut end.bytes[place.layer as usize][place.flow as usize];
        *told = told.saturating_add(length);
        self.last_ns = self.last_ns.max(place.time_ns);
        if self.data_ns.is_none() {
            self.data_ns = Some(place.time_ns);
            self.first_ns = self.first_ns.min(place.time_ns);
        }
        self.route(place, what, sink);
    }

    /// Time passes. `true` when the session is over and told.
    pub(crate) fn tick(&mut self, now_ns: u64, sink: Sink<'_>) -> bool {
        if self.waiting.front().is_some_and(|first| first.time_ns.saturating_add(LATCH_WAIT_NS) <= now_ns) {
            self.stop_waiting(sink);
        }
        for index in 0..self.ends.len() {
            for (layer, flow) in LANES {
                let due = self.ends[index].stream(layer, flow).deadline_ns();
                if due.is_some_and(|due| due <= now_ns) {
                    self.with_stream(index, layer, flow, sink, |stream, out| stream.expire(now_ns, out));
                }
            }
            if self.end_is_due(&self.ends[index]).is_some_and(|due| due <= now_ns) {
                self.end_of(index, sink);
            }
        }
        if let Reader::Decoding(driver) = &mut self.reader {
            driver.tick(now_ns);
        }
        self.follow_driver(sink);
        if !self.opened && self.data_ns.is_some_and(|data| data.saturating_add(OPEN_WAIT_NS) <= now_ns) {
            self.open(sink);
        }
        self.tell_gaps(now_ns.saturating_sub(GAP_WAIT_NS), sink);
        self.tell_unread_while_open(now_ns, sink);
        let over = self.over_ns().is_some_and(|over| over < now_ns);
        if over {
            self.finish(sink);
        }
        over
    }

    /// When time alone may change something, boottime ns.
    pub(crate) fn deadline_ns(&self) -> u64 {
        let streams =
            self.ends.iter().flat_map(|end| end.streams().filter_map(|stream| stream.deadline_ns()));
        let ends = self.ends.iter().filter(|end| !end.ended);
        let closes = ends.filter_map(|end| self.end_is_due(end));
        let waiting = self.waiting.front().map(|first| first.time_ns.saturating_add(LATCH_WAIT_NS));
        let driver = match &self.reader {
            Reader::Decoding(driver) => driver.deadline_ns(),
            Reader::Undecided(_) | Reader::Counting => None,
        };
        let open = self.data_ns.filter(|_| !self.opened).map(|data| data.saturating_add(OPEN_WAIT_NS));
        let gaps = self.gaps.values().map(|missing| missing.first_ns.saturating_add(GAP_WAIT_NS));
        let over = self.over_ns().map(|over| over.saturating_add(1));
        let singles = [waiting, driver, open, over, self.unread_due_ns()].into_iter().flatten();
        streams.chain(closes).chain(gaps).chain(singles).min().unwrap_or(u64::MAX)
    }

    /// The last that can be told of it.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        self.stop_waiting(sink);
        for index in 0..self.ends.len() {
            self.end_of(index, sink);
        }
        if let Reader::Undecided(first) = &self.reader {
            self.looks_like.get_or_insert_with(|| reader::classify(&first.heads[0], &first.heads[1]));
            for direction in DIRECTIONS {
                let held = first.heads[direction as usize].len() as u64;
                self.base[direction as usize].unknown += held;
            }
            self.reader = Reader::Counting;
        }
        self.retire_driver(sink);
        self.open(sink);
        self.tell_gaps(u64::MAX, sink);
        self.tell_unread_at_the_end(sink);
        debug_assert!(self.accounts().iter().all(Account::balances));
        sink(self.draft_close());
    }

    /// Memory held now.
    pub(crate) fn measure(&self) -> usize {
        let streams: usize = self.ends.iter().flat_map(End::streams).map(|stream| stream.held_bytes()).sum();
        let reader = match &self.reader {
            Reader::Undecided(first) => first.held_bytes(),
            Reader::Decoding(driver) => driver.held_bytes(),
            Reader::Counting => 0,
        };
        streams + reader + self.waiting_bytes + self.hellos.held_bytes()
    }

    /// Memory is short: what is buffered is given up, and counted.
    pub(crate) fn shed(&mut self, sink: Sink<'_>) {
        self.stop_waiting(sink);
        for index in 0..self.ends.len() {
            for (layer, flow) in LANES {
                self.with_stream(index, layer, flow, sink, |stream, out| stream.flush(out));
            }
        }
        if let Reader::Decoding(driver) = &mut self.reader {
            driver.shed();
            driver.exchanges().tell_all_open();
        }
        self.follow_driver(sink);
    }

    /// Byte accounts up and down of the layer that is read.
    pub(crate) fn accounts(&self) -> [Account; 2] {
        DIRECTIONS.map(|direction| {
            let base = &self.base[direction as usize];
            match &self.reader {
                Reader::Decoding(driver) => base.plus(&driver.account(direction)),
                Reader::Undecided(first) => {
                    let pending = first.heads[direction as usize].len() as u64;
                    Account { pending: base.pending + pending, ..*base }
                }
                Reader::Counting => *base,
            }
        })
    }

    fn protocol_name(&self) -> &'static str {
        self.protocol.unwrap_or("unknown")
    }

    fn looks_like(&self) -> &'static str {
        match (&self.reader, self.looks_like) {
            (_, Some(known)) => known,
            (Reader::Undecided(first), None) => reader::classify(&first.heads[0], &first.heads[1]),
            _ => "unknown",
        }
    }

    /// When a closed end has told all: holes that the other end, still open, may fill are waited for.
    fn end_is_due(&self, end: &End) -> Option<u64> {
        let closed_ns = end.closed?.0.saturating_add(1);
        let all_closed = self.ends.len() == 2 && self.ends.iter().all(|end| end.closed.is_some());
        let holes = end.wire.iter().filter_map(Stream::open_until_ns).filter(|_| !all_closed);
        Some(holes.fold(closed_ns, u64::max))
    }

    /// An end is closed and all that it told has come.
    fn end_of(&mut self, index: usize, sink: Sink<'_>) {
        let Some(end) = self.ends.get_mut(index) else { return };
        if std::mem::replace(&mut end.ended, true) {
            return;
        }
        let (closed_ns, positions) = end.closed.unwrap_or((self.last_ns, [None, None]));
        self.last_ns = self.last_ns.max(closed_ns);
        if self.waiting.iter().any(|waiting| waiting.end == index) {
            self.stop_waiting(sink);
        }
        for (layer, flow) in LANES {
            let source = if layer == Layer::Wire { self.wire_source } else { self.plaintext_source };
            let position = positions[flow as usize].filter(|_| layer == Layer::Wire && source == Some(index));
            self.with_stream(index, layer, flow, sink, |stream, out| match position {
                Some(position) => stream.end_at(position, closed_ns, out),
                None => stream.flush(out),
            });
        }
        let read = if self.layer == Layer::Wire { self.wire_source } else { self.plaintext_source };
        if read == Some(index) {
            if let Reader::Decoding(driver) = &mut self.reader {
                for direction in DIRECTIONS {
                    driver.end(direction, closed_ns);
                }
            }
            self.follow_driver(sink);
        }
    }

    /// When nothing more can come; `None` while an end is open.
    fn over_ns(&self) -> Option<u64> {
        let mut over = 0;
        for end in &self.ends {
            over = over.max(end.closed?.0);
        }
        let peer_may_come = self.ends.len() == 1 && self.expects_peer;
        Some(if peer_may_come { over.saturating_add(LATE_PEER_NS) } else { over })
    }

    pub(crate) fn note(&mut self, code: &'static str) {
        if self.anomalies.len() < CODES_MAX && !self.anomalies.contains(&code) {
            self.anomalies.push(code);
        }
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Up, Direction::Down];
const LANES: [(Layer, Flow); 4] = [
    (Layer::Wire, Flow::Ingress),
    (Layer::Wire, Flow::Egress),
    (Layer::Plaintext, Flow::Ingress),
    (Layer::Plaintext, Flow::Egress),
];
