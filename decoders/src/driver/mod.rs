//! What is hard, once for all protocols: buffering, frame limits, bodies in pieces, resync after a gap,
//! patience with answers that overtake their request, byte accounts, and a decoder's panic.
//!
//! In: the bytes and gaps of both directions in order. Out: [`exchanges::Telling`]s and [`Notice`]s. Knows no
//! socket, no process and no protocol by name.

pub mod account;
pub mod exchanges;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::anomaly;
use crate::event::Cause;
use crate::item::{Field, Rows};
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};
use account::Account;
use exchanges::Exchanges;

/// How long bytes of a direction that the decoder does not expect yet are kept back.
const PATIENCE_NS: u64 = 100_000_000;
/// Stands for "since when" once the wait is over and the bytes are told as they are.
const PATIENCE_OVER: u64 = 0;
/// Bytes that are kept for the next look while no frame is sure to begin.
const RESYNC_BYTES: usize = 4096;
/// Anomalies of a session that wait to be told.
const ANOMALIES_MAX: usize = 16;

/// Whether the decoder goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It decodes.
    Running,
    /// It waits for the plaintext of TLS; what the layer of before carries is ciphertext.
    AwaitingTls,
    /// It is done: the rest speaks what nobody decodes.
    Stopped,
    /// It panicked: the rest is counted.
    Failed,
}

/// The decoder of one connection and all that feeds it.
pub struct Driver {
    decoder: Box<dyn Decoder>,
    limits: Limits,
    lanes: [Lane; 2],
    context: Context,
    state: State,
}

/// One direction.
#[derive(Default)]
struct Lane {
    held: Vec<u8>,
    /// How many bytes must be there before asking again.
    wanted: usize,
    /// When the oldest held byte was seen.
    held_since_ns: u64,
    position: u64,
    time_ns: u64,
    mode: Mode,
    /// Kept back since, because the decoder does not expect it.
    early_since_ns: Option<u64>,
    ended: bool,
    account: Account,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
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

/// What the decoder may write to while it looks at bytes.
struct Context {
    exchanges: Exchanges,
    /// Bytes of frames that no exchange has claimed yet.
    unclaimed: [u64; 2],
    direction: Direction,
    first_ns: u64,
    time_ns: u64,
    session: Vec<Field>,
    anomalies: Vec<&'static str>,
    switch: Option<State>,
}

impl Driver {
    /// Around a fresh decoder.
    pub fn new(decoder: Box<dyn Decoder>, limits: Limits) -> Self {
        Driver {
            decoder,
            limits,
            lanes: [Lane::default(), Lane::default()],
            context: Context {
                exchanges: Exchanges::new(limits),
                unclaimed: [0, 0],
                direction: Direction::Up,
                first_ns: 0,
                time_ns: 0,
                session: Vec::new(),
                anomalies: Vec::new(),
                switch: None,
            },
            state: State::Running,
        }
    }

    /// Whether it goes on.
    pub fn state(&self) -> State {
        self.state
    }

    /// Exchanges to be told.
    pub fn exchanges(&mut self) -> &mut Exchanges {
        &mut self.context.exchanges
    }

    /// Facts of the session since the last call.
    pub fn take_session_fields(&mut self) -> Vec<Field> {
        std::mem::take(&mut self.context.session)
    }

    /// Anomalies of no exchange since the last call.
    pub fn take_anomalies(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.context.anomalies)
    }

    /// Byte account of a direction.
    pub fn account(&self, direction: Direction) -> Account {
        let lane = &self.lanes[direction as usize];
        Account { pending: lane.held.len() as u64, ..lane.account }
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.held.capacity()).sum();
        lanes + self.decoder.held_bytes() + self.context.exchanges.held_bytes()
    }

    /// When time alone may change something, boottime ns.
    pub fn deadline_ns(&self) -> Option<u64> {
        let patience = self.lanes.iter().filter_map(|lane| lane.early_since_ns);
        patience
            .filter(|since| *since != PATIENCE_OVER)
            .map(|since| since.saturating_add(PATIENCE_NS))
            .chain(self.context.exchanges.deadline_ns())
            .min()
    }

    /// The plaintext layer begins: the decoder goes on with it.
    pub fn resume_on_plaintext(&mut self) {
        if self.state == State::AwaitingTls {
            self.state = State::Running;
        }
    }

    /// Bytes of one direction, following those of before.
    pub fn bytes(&mut self, direction: Direction, position: u64, time_ns: u64, bytes: &[u8]) {
        let lane = &mut self.lanes[direction as usize];
        lane.account.seen = lane.account.seen.saturating_add(bytes.len() as u64);
        lane.time_ns = time_ns;
        if self.state != State::Running {
            lane.position = position + bytes.len() as u64;
            return self.count(direction, bytes.len() as u64);
        }
        if lane.held.is_empty() {
            lane.position = position;
            lane.held_since_ns = time_ns;
            let used = self.consume(direction, bytes);
            let lane = &mut self.lanes[direction as usize];
            lane.held.extend_from_slice(&bytes[used..]);
            if used > 0 {
                lane.held_since_ns = time_ns;
            }
        } else {
            lane.held.extend_from_slice(bytes);
            self.retry(direction);
        }
        self.settle(direction);
    }

    /// Bytes that will not come.
    pub fn gap(&mut self, direction: Direction, length: u64, cause: Cause, time_ns: u64) {
        let lane = &mut self.lanes[direction as usize];
        lane.account.missing(length, cause);
        lane.time_ns = time_ns;
        if self.state != State::Running {
            return;
        }
        lane.early_since_ns = None;
        // A frame whose end is known is dropped whole, and the next one begins where its length says.
        let frame_left = match lane.mode {
            Mode::Frames if !lane.held.is_empty() && lane.wanted > lane.held.len() => {
                match self.decoder.framing(direction, &self.lanes[direction as usize].held) {
                    Framing::Frame(length) => Some(length as u64),
                    _ => None,
                }
            }
            _ => None,
        };
        let lane = &mut self.lanes[direction as usize];
        let held = lane.held.len() as u64;
        lane.account.unparsed += held;
        lane.held.clear();
        lane.wanted = 0;
        lane.mode = match (lane.mode, frame_left) {
            (Mode::Body { left: u64::MAX }, _) => lane.mode,
            (Mode::Body { left }, _) if left >= length => after(left - length, |left| Mode::Body { left }),
            (Mode::Skip { left, cut }, _) if left >= length => {
                after(left - length, |left| Mode::Skip { left, cut })
            }
            (Mode::Frames, Some(whole)) if whole - held >= length => {
                after(whole - held - length, |left| Mode::Skip { left, cut: false })
            }
            _ => Mode::Resync,
        };
        lane.position = lane.position.saturating_add(held).saturating_add(length);
        self.context.enter(direction, time_ns, time_ns);
        self.guarded(|driver| driver.decoder.on_gap(direction, length, &mut driver.context));
        self.settle(direction);
    }

    /// The stream of this direction ended in order.
    pub fn end(&mut self, direction: Direction, time_ns: u64) {
        let lane = &mut self.lanes[direction as usize];
        if lane.ended {
            return;
        }
        if self.state == State::Running {
            lane.early_since_ns = Some(PATIENCE_OVER);
            self.retry(direction);
            let lane = &mut self.lanes[direction as usize];
            lane.ended = true;
            let body = lane.mode == Mode::Body { left: u64::MAX };
            self.context.enter(direction, time_ns, time_ns);
            self.guarded(|driver| {
                if body {
                    let last = Body { direction, time_ns, bytes: &[], last: true };
                    driver.decoder.on_body(last, &mut driver.context);
                }
                driver.decoder.on_end(direction, &mut driver.context);
            });
        }
        let lane = &mut self.lanes[direction as usize];
        lane.ended = true;
        lane.account.unparsed += lane.held.len() as u64;
        lane.held = Vec::new();
    }

    /// Time passes.
    pub fn tick(&mut self, now_ns: u64) {
        for direction in [Direction::Up, Direction::Down] {
            let lane = &mut self.lanes[direction as usize];
            let waits = lane.early_since_ns.filter(|since| *since != PATIENCE_OVER);
            if waits.is_some_and(|since| since.saturating_add(PATIENCE_NS) <= now_ns) {
                lane.early_since_ns = Some(PATIENCE_OVER);
                self.retry(direction);
                self.settle(direction);
            }
        }
        self.context.exchanges.tick(now_ns);
    }

    /// Memory is short: what is buffered is given up.
    pub fn shed(&mut self) {
        for lane in &mut self.lanes {
            if !lane.held.is_empty() {
                lane.account.cut += lane.held.len() as u64;
                lane.position += lane.held.len() as u64;
                lane.mode = Mode::Resync;
            }
            lane.held = Vec::new();
            lane.wanted = 0;
        }
        self.context.note(anomaly::MEMORY_SHED);
    }

    /// After one direction moved, the other may be expected now.
    fn settle(&mut self, moved: Direction) {
        let other = moved.reverse();
        if self.state == State::Running && self.lanes[other as usize].early_since_ns.is_some() {
            self.retry(other);
        }
        if let Some(state) = self.context.switch.take() {
            self.leave(state);
        }
    }

    /// The decoder is done with this layer: what is buffered belongs to what comes next.
    fn leave(&mut self, state: State) {
        self.state = state;
        for direction in [Direction::Up, Direction::Down] {
            let lane = &mut self.lanes[direction as usize];
            let held = std::mem::take(&mut lane.held).len() as u64;
            lane.position += held;
            lane.mode = Mode::Frames;
            lane.wanted = 0;
            lane.early_since_ns = None;
            self.count(direction, held);
        }
    }

    fn count(&mut self, direction: Direction, bytes: u64) {
        let account = &mut self.lanes[direction as usize].account;
        match self.state {
            State::AwaitingTls => account.skipped += bytes,
            State::Running | State::Stopped | State::Failed => account.unknown += bytes,
        }
    }

    /// Looks again at what is held.
    fn retry(&mut self, direction: Direction) {
        let lane = &mut self.lanes[direction as usize];
        if lane.held.len() < lane.wanted && lane.mode == Mode::Frames {
            return;
        }
        let mut held = std::mem::take(&mut lane.held);
        let used = self.consume(direction, &held);
        let lane = &mut self.lanes[direction as usize];
        if used > 0 {
            lane.held_since_ns = lane.time_ns;
            held.drain(..used);
        }
        if held.is_empty() && held.capacity() > 64 << 10 {
            held = Vec::new();
        }
        lane.held = held;
    }

    /// Tells what is complete in `bytes`; how many were used.
    fn consume(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let mut used = 0;
        self.guarded(|driver| {
            while used < bytes.len() && driver.context.switch.is_none() {
                match driver.step(direction, &bytes[used..]) {
                    0 => break,
                    step => {
                        used += step;
                        let lane = &mut driver.lanes[direction as usize];
                        lane.position += step as u64;
                    }
                }
            }
        });
        if self.state == State::Failed {
            self.count(direction, (bytes.len() - used) as u64);
            return bytes.len();
        }
        used
    }

    /// One step: a frame, a piece of a body, or bytes left out. 0 when more is needed.
    fn step(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let lane = &mut self.lanes[direction as usize];
        match lane.mode {
            Mode::Frames => self.step_frame(direction, bytes),
            Mode::Body { left } => {
                let step = (bytes.len() as u64).min(left);
                let rest = if left == u64::MAX { left } else { left - step };
                lane.mode = after(rest, |left| Mode::Body { left });
                self.tell_body(direction, &bytes[..step as usize], rest == 0);
                step as usize
            }
            Mode::Skip { left, cut } => {
                let step = (bytes.len() as u64).min(left);
                lane.mode = after(left - step, |left| Mode::Skip { left, cut });
                *(if cut { &mut lane.account.cut } else { &mut lane.account.unparsed }) += step;
                step as usize
            }
            Mode::Resync => self.step_resync(direction, bytes),
        }
    }

    fn step_frame(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let frame_max = self.limits.frame_bytes_max;
        if !self.decoder.expects(direction) && bytes.len() < frame_max {
            let lane = &mut self.lanes[direction as usize];
            let since = *lane.early_since_ns.get_or_insert(lane.time_ns.max(1));
            if since != PATIENCE_OVER {
                lane.wanted = 0;
                return 0;
            }
        }
        match self.decoder.framing(direction, bytes) {
            Framing::NeedMore(_) if bytes.len() >= frame_max => {
                self.context.note(anomaly::FRAME_TOO_LONG);
                self.leave_out(direction, 1)
            }
            Framing::NeedMore(wanted) => self.want(direction, wanted.clamp(bytes.len() + 1, frame_max)),
            Framing::Frame(0) | Framing::Streamed { head: 0, .. } | Framing::Unframed => {
                self.context.note(anomaly::UNPARSED);
                self.leave_out(direction, 1)
            }
            Framing::Frame(length) if length > frame_max => {
                if bytes.len() < frame_max {
                    return self.want(direction, frame_max);
                }
                let cut = (length - frame_max) as u64;
                self.lanes[direction as usize].mode = Mode::Skip { left: cut, cut: true };
                self.tell_frame(direction, &bytes[..frame_max], cut)
            }
            Framing::Frame(length) if length > bytes.len() => self.want(direction, length),
            Framing::Frame(length) => self.tell_frame(direction, &bytes[..length], 0),
            Framing::Streamed { head, .. } if head > bytes.len() => {
                self.want(direction, head.clamp(bytes.len() + 1, frame_max))
            }
            Framing::Streamed { head, body } => {
                self.lanes[direction as usize].mode = after(body, |left| Mode::Body { left });
                let used = self.tell_frame(direction, &bytes[..head], 0);
                if body == 0 && self.context.switch.is_none() {
                    self.tell_body(direction, &[], true);
                }
                used
            }
        }
    }

    fn step_resync(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let lane = &mut self.lanes[direction as usize];
        let skipped = match self.decoder.resync(direction, bytes) {
            Some(0) => {
                lane.mode = Mode::Frames;
                return self.step_frame(direction, bytes);
            }
            Some(offset) => {
                lane.mode = Mode::Frames;
                offset.min(bytes.len())
            }
            None => bytes.len().saturating_sub(RESYNC_BYTES / 2) / RESYNC_BYTES * RESYNC_BYTES,
        };
        lane.account.unparsed += skipped as u64;
        skipped
    }

    fn leave_out(&mut self, direction: Direction, bytes: usize) -> usize {
        let lane = &mut self.lanes[direction as usize];
        lane.mode = Mode::Resync;
        lane.account.unparsed += bytes as u64;
        bytes
    }

    fn want(&mut self, direction: Direction, bytes: usize) -> usize {
        self.lanes[direction as usize].wanted = bytes;
        0
    }

    fn tell_frame(&mut self, direction: Direction, bytes: &[u8], cut: u64) -> usize {
        let lane = &mut self.lanes[direction as usize];
        lane.wanted = 0;
        if self.decoder.expects(direction) {
            lane.early_since_ns = None;
        }
        let frame = Frame { direction, position: lane.position, time_ns: lane.time_ns, bytes };
        self.context.enter(direction, lane.held_since_ns, lane.time_ns);
        self.context.unclaimed[direction as usize] += bytes.len() as u64;
        self.decoder.on_frame(frame, cut, &mut self.context);
        self.lanes[direction as usize].account.framed += bytes.len() as u64;
        bytes.len()
    }

    fn tell_body(&mut self, direction: Direction, bytes: &[u8], last: bool) {
        let lane = &mut self.lanes[direction as usize];
        self.context.enter(direction, lane.time_ns, lane.time_ns);
        self.context.unclaimed[direction as usize] += bytes.len() as u64;
        let body = Body { direction, time_ns: lane.time_ns, bytes, last };
        self.decoder.on_body(body, &mut self.context);
        self.lanes[direction as usize].account.framed += bytes.len() as u64;
    }

    /// Runs what calls the decoder; a panic ends decoding of this connection, and only that.
    fn guarded(&mut self, call: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| call(&mut *self))).is_err() {
            self.context.note(anomaly::DECODER_PANICKED);
            self.context.switch = None;
            self.state = State::Failed;
            for lane in &mut self.lanes {
                lane.account.unknown += lane.held.len() as u64;
                lane.held = Vec::new();
                lane.early_since_ns = None;
            }
        }
    }
}

fn after(left: u64, mode: impl FnOnce(u64) -> Mode) -> Mode {
    if left == 0 { Mode::Frames } else { mode(left) }
}

impl Context {
    fn enter(&mut self, direction: Direction, first_ns: u64, time_ns: u64) {
        self.direction = direction;
        self.first_ns = first_ns.min(time_ns);
        self.time_ns = time_ns;
    }

    fn note(&mut self, code: &'static str) {
        if self.anomalies.len() < ANOMALIES_MAX && !self.anomalies.contains(&code) {
            self.anomalies.push(code);
        }
    }

    /// Bytes that no exchange claimed belong to the one that the decoder speaks of now.
    fn claim(&mut self, id: ExchangeId) {
        let bytes = std::mem::take(&mut self.unclaimed[self.direction as usize]);
        self.exchanges.bytes(id, self.direction, bytes);
    }
}

impl Out for Context {
    fn request(&mut self, id: ExchangeId, time_ns: u64, fields: Vec<Field>) {
        let first_ns = if time_ns == self.time_ns { self.first_ns } else { time_ns };
        // The answer may be waiting for it: its bytes are claimed before the exchange is told.
        self.exchanges.fields(id, first_ns, Vec::new());
        self.claim(id);
        self.exchanges.request(id, first_ns, fields);
    }

    fn fields(&mut self, id: ExchangeId, fields: Vec<Field>) {
        self.exchanges.fields(id, self.time_ns, fields);
        self.claim(id);
    }

    fn rows(&mut self, id: ExchangeId, rows: Rows) {
        self.exchanges.rows(id, self.time_ns, rows);
        self.claim(id);
    }

    fn response(&mut self, id: ExchangeId, time_ns: u64, outcome: Outcome, fields: Vec<Field>) {
        self.exchanges.fields(id, time_ns, Vec::new());
        self.claim(id);
        self.exchanges.response(id, time_ns, outcome, fields);
    }

    fn session(&mut self, fields: Vec<Field>) {
        self.session.extend(fields);
    }

    fn anomaly(&mut self, id: Option<ExchangeId>, code: &'static str) {
        match id {
            Some(id) => self.exchanges.anomaly(id, self.time_ns, code),
            None => self.note(code),
        }
    }

    fn switch_tls(&mut self) {
        self.switch = Some(State::AwaitingTls);
    }

    fn switch_unknown(&mut self) {
        self.switch = Some(State::Stopped);
    }
}
