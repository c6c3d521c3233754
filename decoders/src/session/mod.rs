//! A session: one connection with its one or two ends on this host. Chooses the end and the layer that are
//! read, so that each byte is told once, feeds the reader, and tells records.
//!
//! Must not know any protocol, nor mask: it hands drafts on.

mod ends;
mod reader;
mod telling;

use std::collections::{BTreeMap, VecDeque};

use crate::anomaly;
use crate::driver::account::Account;
use crate::driver::exchanges::End as ExchangeEnd;
use crate::driver::{Driver, State};
use crate::event::{Binding, Cause, Flow, Layer, Role, Socket, Transport};
use crate::item::Field;
use crate::mask::Draft;
use crate::protocol::{Direction, Limits};
use crate::streams::Delivery;
use ends::End;
pub(crate) use ends::{PairKey, expects_peer, face_each_other};
use reader::{First, Reader, Verdict};
pub(crate) use telling::{cause_name, draft, process_fields};

/// How long bytes wait for the end that is preferred, or for the wire to announce TLS.
const LATCH_WAIT_NS: u64 = 100_000_000;
/// Bytes that wait so.
const LATCH_BYTES: usize = 256 << 10;
/// A session whose protocol is not known, or that had no exchange, is told after this time.
const OPEN_WAIT_NS: u64 = 1_000_000_000;
/// Gaps of a session are told together for this time.
const GAP_WAIT_NS: u64 = 1_000_000_000;
/// How long a closed end whose other end should be on this host waits for it.
const LATE_PEER_NS: u64 = 1_000_000_000;
/// Facts of a session that a decoder may tell.
const FACTS_MAX: usize = 64;
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
    facts: Vec<Field>,
    anomalies: Vec<&'static str>,
    /// What no driver accounts for.
    base: [Account; 2],
    ciphertext_bytes: u64,
    gaps: BTreeMap<Cause, Missing>,
    first_ns: u64,
    last_ns: u64,
    data_ns: Option<u64>,
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

/// What came before it was known from which end to read.
struct Waiting {
    end: usize,
    layer: Layer,
    flow: Flow,
    time_ns: u64,
    position: u64,
    what: What<Vec<u8>>,
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
            facts: Vec::new(),
            anomalies: Vec::new(),
            base: [Account::default(); 2],
            ciphertext_bytes: 0,
            gaps: BTreeMap::new(),
            first_ns: socket.time_ns,
            last_ns: socket.time_ns,
            data_ns: None,
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

    pub(crate) fn bound(&mut self, end: usize, binding: Binding) {
        if let Some(end) = self.ends.get_mut(end) {
            end.binding.get_or_insert(binding);
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
            if self.ends[index].closed.is_some_and(|(closed_ns, _)| closed_ns < now_ns) {
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
        let closes = ends.filter_map(|end| end.closed).map(|(closed_ns, _)| closed_ns.saturating_add(1));
        let waiting = self.waiting.front().map(|first| first.time_ns.saturating_add(LATCH_WAIT_NS));
        let driver = match &self.reader {
            Reader::Decoding(driver) => driver.deadline_ns(),
            Reader::Undecided(_) | Reader::Counting => None,
        };
        let open = self.data_ns.filter(|_| !self.opened).map(|data| data.saturating_add(OPEN_WAIT_NS));
        let gaps = self.gaps.values().map(|missing| missing.first_ns.saturating_add(GAP_WAIT_NS));
        let over = self.over_ns().map(|over| over.saturating_add(1));
        let singles = [waiting, driver, open, over].into_iter().flatten();
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
        streams + reader + self.waiting_bytes
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

    /// Reads it, keeps it until it is known what to read, or leaves it to the other end.
    fn route(&mut self, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let source = match place.layer {
            Layer::Wire => self.wire_source,
            Layer::Plaintext => self.plaintext_source,
        };
        let source = source.or_else(|| self.latch(place));
        match source {
            Some(source) if source != place.end => {}
            Some(_) if place.layer == Layer::Wire || self.plaintext_ready() => {
                self.read(place, what, sink);
            }
            _ => {
                let what = match what {
                    What::Bytes(bytes) => What::Bytes(bytes.to_vec()),
                    What::Hole(length, cause) => What::Hole(length, cause),
                };
                let Place { end, layer, flow, position, time_ns } = place;
                self.waiting_bytes += 64 + if let What::Bytes(bytes) = &what { bytes.len() } else { 0 };
                self.waiting.push_back(Waiting { end, layer, flow, time_ns, position, what });
                if self.waiting_bytes > LATCH_BYTES {
                    self.stop_waiting(sink);
                }
            }
        }
    }

    /// Which end this layer is read from: the accepting one, unless it is not to be had.
    fn latch(&mut self, place: Place) -> Option<usize> {
        let accepting = !self.ends[place.end].client;
        let alone = self.ends.len() == 1 && !self.expects_peer;
        let chosen = if accepting || alone {
            Some(place.end)
        } else if place.layer == Layer::Wire {
            // The accepting end is here: what it tells is read, even when the other was faster.
            self.ends.iter().position(|end| !end.client && end.closed.is_none())
        } else {
            None
        };
        match place.layer {
            Layer::Wire => self.wire_source = chosen,
            Layer::Plaintext => self.plaintext_source = chosen,
        }
        chosen
    }

    /// Plaintext is read at once, unless a decoder still reads the wire and has not switched.
    fn plaintext_ready(&self) -> bool {
        match &self.reader {
            Reader::Decoding(driver) if self.layer == Layer::Wire => {
                driver.state() != State::Running || self.plaintext_forced
            }
            _ => true,
        }
    }

    /// Nothing is waited for: what came is read from where it came first.
    fn stop_waiting(&mut self, sink: Sink<'_>) {
        for waiting in &self.waiting {
            match waiting.layer {
                Layer::Wire => self.wire_source.get_or_insert(waiting.end),
                Layer::Plaintext => self.plaintext_source.get_or_insert(waiting.end),
            };
        }
        self.plaintext_forced |= self.waiting.iter().any(|waiting| waiting.layer == Layer::Plaintext);
        self.replay(sink);
    }

    fn replay(&mut self, sink: Sink<'_>) {
        self.waiting_bytes = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { end, layer, flow, time_ns, position, what } = waiting;
            let what = match &what {
                What::Bytes(bytes) => What::Bytes(bytes.as_slice()),
                What::Hole(length, cause) => What::Hole(*length, *cause),
            };
            self.route(Place { end, layer, flow, position, time_ns }, what, sink);
        }
    }

    fn read(&mut self, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let Place { end, layer, flow, position, time_ns } = place;
        if layer == Layer::Plaintext && self.layer == Layer::Wire {
            self.enter_plaintext(sink);
        }
        if matches!(self.transport, Transport::Udp | Transport::UnixDatagram) {
            return self.count_datagram(end, flow, what);
        }
        self.with_stream(end, layer, flow, sink, |stream, out| match what {
            What::Bytes(bytes) => stream.bytes(position, time_ns, bytes, out),
            What::Hole(length, cause) => stream.hole(position, length, cause, time_ns, out),
        });
        if !self.waiting.is_empty() && self.waiting.iter().any(|waiting| self.has_source(waiting)) {
            self.replay(sink);
        }
    }

    fn has_source(&self, waiting: &Waiting) -> bool {
        match waiting.layer {
            Layer::Wire => self.wire_source.is_some(),
            Layer::Plaintext => self.plaintext_source.is_some() && self.plaintext_ready(),
        }
    }

    fn count_datagram(&mut self, end: usize, flow: Flow, what: What<&[u8]>) {
        let direction = self.direction(end, flow);
        let account = &mut self.base[direction as usize];
        match what {
            What::Bytes(bytes) => {
                account.seen += bytes.len() as u64;
                account.unknown += bytes.len() as u64;
            }
            What::Hole(length, cause) => account.missing(length, cause),
        }
        self.reader = Reader::Counting;
        self.looks_like = Some("datagrams");
    }

    /// Runs `work` on a stream; what it delivers goes to the reader.
    fn with_stream(
        &mut self,
        end: usize,
        layer: Layer,
        flow: Flow,
        sink: Sink<'_>,
        work: impl FnOnce(&mut crate::streams::Stream, &mut dyn FnMut(Delivery<'_>)),
    ) {
        let mut stream = std::mem::take(self.ends[end].stream(layer, flow));
        let disputed = stream.disputed_bytes();
        work(&mut stream, &mut |delivery| {
            let direction = self.direction(end, flow);
            self.deliver(layer, direction, delivery, sink);
        });
        if stream.disputed_bytes() > disputed {
            self.disputed_bytes += stream.disputed_bytes() - disputed;
            self.note(anomaly::ORDER_UNKNOWN);
        }
        *self.ends[end].stream(layer, flow) = stream;
    }

    fn direction(&self, end: usize, flow: Flow) -> Direction {
        if (flow == Flow::Egress) == (self.ends[end].client != self.reversed) {
            Direction::Up
        } else {
            Direction::Down
        }
    }

    fn deliver(&mut self, layer: Layer, direction: Direction, delivery: Delivery<'_>, sink: Sink<'_>) {
        if layer == Layer::Wire && self.tls {
            let length = match delivery {
                Delivery::Bytes { bytes, .. } => bytes.len() as u64,
                Delivery::Gap { length, .. } => length,
            };
            self.ciphertext_bytes = self.ciphertext_bytes.saturating_add(length);
            return;
        }
        match delivery {
            Delivery::Bytes { position, time_ns, bytes } => match &mut self.reader {
                Reader::Undecided(first) => {
                    self.base[direction as usize].seen += bytes.len() as u64;
                    first.push(direction, position, time_ns, bytes);
                    self.decide(sink);
                }
                Reader::Decoding(driver) => {
                    driver.bytes(direction, position, time_ns, bytes);
                    self.follow_driver(sink);
                }
                Reader::Counting => {
                    let account = &mut self.base[direction as usize];
                    account.seen += bytes.len() as u64;
                    account.unknown += bytes.len() as u64;
                }
            },
            Delivery::Gap { length, cause, time_ns, .. } => {
                self.gap(direction, length, cause, time_ns, sink);
            }
        }
    }

    fn gap(&mut self, direction: Direction, length: u64, cause: Cause, time_ns: u64, sink: Sink<'_>) {
        if cause == Cause::Ciphertext && self.layer == Layer::Wire {
            // The kernel side knows it for TLS before the first bytes could tell.
            self.become_tls(sink);
            self.ciphertext_bytes = self.ciphertext_bytes.saturating_add(length);
            return;
        }
        if !matches!(cause, Cause::Limit | Cause::Ciphertext | Cause::Rule) {
            let missing =
                self.gaps.entry(cause).or_insert(Missing { bytes: 0, first_ns: time_ns, last_ns: time_ns });
            missing.bytes = missing.bytes.saturating_add(length);
            missing.last_ns = time_ns;
        }
        match &mut self.reader {
            Reader::Undecided(first) => {
                let head = std::mem::take(&mut first.heads[direction as usize]);
                let account = &mut self.base[direction as usize];
                account.unparsed += head.len() as u64;
                account.missing(length, cause);
                self.middle = true;
            }
            Reader::Decoding(driver) => {
                driver.gap(direction, length, cause, time_ns);
                self.follow_driver(sink);
            }
            Reader::Counting => self.base[direction as usize].missing(length, cause),
        }
    }

    fn decide(&mut self, sink: Sink<'_>) {
        let Reader::Undecided(first) = &mut self.reader else { return };
        let port = self.ends.first().and_then(|end| {
            let endpoint = if end.client { end.socket.remote } else { end.socket.local };
            endpoint.map(|endpoint| endpoint.port)
        });
        match first.decide(port.unwrap_or(0), self.middle, self.layer == Layer::Wire) {
            Verdict::More => {}
            Verdict::Tls => self.become_tls(sink),
            Verdict::Known(protocol, reversed) => {
                let first = std::mem::take(first);
                self.protocol = Some(protocol.name());
                if reversed {
                    self.reverse();
                }
                self.begin(reader::open(protocol, &self.limits, self.middle), first, reversed, sink);
            }
            Verdict::Again => {
                for (account, head) in self.base.iter_mut().zip(&mut first.heads) {
                    account.unparsed += head.len() as u64;
                    head.clear();
                }
            }
            Verdict::Unknown(looks_like) => {
                for (account, head) in self.base.iter_mut().zip(&first.heads) {
                    account.unknown += head.len() as u64;
                }
                self.looks_like = Some(looks_like);
                self.reader = Reader::Counting;
            }
        }
    }

    /// The protocol is known: its decoder gets what was kept, in the order in which it began.
    fn begin(&mut self, mut driver: Box<Driver>, first: First, reversed: bool, sink: Sink<'_>) {
        let mut order = DIRECTIONS;
        if !first.heads[1].is_empty() && first.began[1].1 < first.began[0].1 || first.heads[0].is_empty() {
            order.reverse();
        }
        for taken_as in order {
            let head = &first.heads[taken_as as usize];
            self.base[taken_as as usize].seen -= head.len() as u64;
            let direction = if reversed { taken_as.reverse() } else { taken_as };
            let (position, time_ns) = first.began[taken_as as usize];
            if !head.is_empty() {
                driver.bytes(direction, position, time_ns, head);
            }
        }
        if reversed {
            self.base.swap(0, 1);
        }
        self.reader = Reader::Decoding(driver);
        self.follow_driver(sink);
    }

    fn reverse(&mut self) {
        if self.ends.iter().all(|end| end.socket.role == Role::Unknown) {
            for end in &mut self.ends {
                end.client = !end.client;
            }
        } else {
            self.reversed = !self.reversed;
            self.note(anomaly::ROLE_REVERSED);
        }
    }

    /// The wire carries TLS from here on.
    fn become_tls(&mut self, sink: Sink<'_>) {
        self.retire_driver(sink);
        if let Reader::Undecided(first) = &self.reader {
            for (account, head) in self.base.iter_mut().zip(&first.heads) {
                account.seen -= head.len() as u64;
                self.ciphertext_bytes += head.len() as u64;
            }
        }
        self.tls = true;
        self.looks_like = Some("tls");
        self.reader = Reader::Undecided(First::default());
    }

    fn enter_plaintext(&mut self, sink: Sink<'_>) {
        self.layer = Layer::Plaintext;
        match &mut self.reader {
            Reader::Decoding(driver) if driver.state() == State::AwaitingTls => driver.resume_on_plaintext(),
            Reader::Decoding(_) => {
                self.note(anomaly::TLS_UNANNOUNCED);
                self.become_tls(sink);
            }
            Reader::Undecided(_) | Reader::Counting => self.become_tls(sink),
        }
        self.tls = true;
    }

    /// Tells what the driver has to tell.
    fn follow_driver(&mut self, sink: Sink<'_>) {
        let Reader::Decoding(driver) = &mut self.reader else { return };
        let state = driver.state();
        let facts = driver.take_session_fields();
        let codes = driver.take_anomalies();
        self.tls |= state == State::AwaitingTls;
        for fact in facts {
            let known = self.facts.iter().position(|known| known.name == fact.name);
            match known {
                Some(index) => self.facts[index] = fact,
                None if self.facts.len() < FACTS_MAX => self.facts.push(fact),
                None => {}
            }
        }
        for code in codes {
            self.note(code);
        }
        while let Reader::Decoding(driver) = &mut self.reader {
            let Some(telling) = driver.exchanges().next_told() else { break };
            self.open(sink);
            sink(self.draft_exchange(telling));
        }
    }

    /// The driver's work is done: what waits is closed, and its account becomes the session's.
    fn retire_driver(&mut self, sink: Sink<'_>) {
        let Reader::Decoding(driver) = &mut self.reader else { return };
        for direction in DIRECTIONS {
            driver.end(direction, self.last_ns);
        }
        driver.exchanges().close(ExchangeEnd::NoResponse);
        self.follow_driver(sink);
        if let Reader::Decoding(driver) = std::mem::replace(&mut self.reader, Reader::Counting) {
            for direction in DIRECTIONS {
                let account = &mut self.base[direction as usize];
                *account = account.plus(&driver.account(direction));
            }
        }
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

    fn open(&mut self, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.opened, true) {
            sink(self.draft_open());
        }
    }

    fn tell_gaps(&mut self, begun_before_ns: u64, sink: Sink<'_>) {
        if self.gaps.is_empty() {
            return;
        }
        let mut due = Vec::new();
        self.gaps.retain(|cause, missing| {
            let is_due = missing.first_ns <= begun_before_ns;
            if is_due {
                due.push((*cause, *missing));
            }
            !is_due
        });
        for (cause, missing) in due {
            self.open(sink);
            sink(self.draft_gap(cause, missing.bytes, missing.first_ns, missing.last_ns));
        }
    }

    fn note(&mut self, code: &'static str) {
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
