//! What is hard, once for all protocols: buffering, frame limits, bodies in pieces, resync after a gap,
//! patience with answers that overtake their request, byte accounts, and a decoder's panic.
//!
//! In: the bytes and gaps of both directions in order. Out: [`exchanges::Telling`]s and [`Notice`]s. Knows no
//! socket, no process and no protocol by name.

pub mod account;
mod context;
pub mod exchanges;
mod lane;
mod step;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::anomaly;
use crate::event::Cause;
use crate::item::Field;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Framing, Limits};
use crate::related::Relation;
use crate::work;
use account::Account;
use context::Context;
use exchanges::Exchanges;
use lane::{Lane, Mode};

/// How long bytes of a direction that the decoder does not expect yet are kept back.
const PATIENCE_NS: u64 = 100_000_000;
/// Stands for "since when" once the wait is over and the bytes are told as they are.
const PATIENCE_OVER: u64 = 0;

/// Whether the decoder goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It decodes.
    Running,
    /// It waits for the plaintext of TLS; what the layer of before carries is ciphertext.
    AwaitingTls,
    /// It is done: the rest speaks what nobody decodes.
    Stopped,
    /// It is done: the rest speaks another protocol, and is handed over by [`Driver::take_rest`].
    Left,
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

impl Driver {
    /// Around a fresh decoder.
    pub fn new(decoder: Box<dyn Decoder>, limits: Limits) -> Self {
        Driver {
            decoder,
            limits,
            lanes: [Lane::default(), Lane::default()],
            context: Context::new(limits),
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

    /// What the decoder said of this session and others since the last call.
    pub(crate) fn take_relations(&mut self) -> Vec<Relation> {
        std::mem::take(&mut self.context.relations)
    }

    /// The session that an exchange named by its secret.
    pub(crate) fn names_session(&mut self, id: ExchangeId, field: &'static str, session: u64) {
        if self.context.exchanges.is_open(id) {
            self.context.say(id, vec![Field::structure(field, session)]);
        }
    }

    /// Another session has named this one.
    pub(crate) fn named_by(&mut self, session: u64) {
        self.guarded(|driver| driver.decoder.on_named(session));
    }

    /// Byte account of a direction.
    pub fn account(&self, direction: Direction) -> Account {
        let lane = &self.lanes[direction as usize];
        Account { pending: lane.held.len() as u64, ..lane.account }
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(Lane::held_bytes).sum();
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
        lane.came(position + bytes.len() as u64, time_ns);
        if self.state != State::Running {
            lane.position = position + bytes.len() as u64;
            lane.times.clear();
            return self.count(direction, bytes.len() as u64);
        }
        if lane.held.is_empty() {
            lane.position = position;
            let used = self.consume(direction, bytes);
            let lane = &mut self.lanes[direction as usize];
            lane.held.extend_from_slice(&bytes[used..]);
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
        if lane.early_since_ns.is_some() {
            // What waits to be expected is whole: it is told before the hole, as time would have told it.
            self.tell_held(direction);
        }
        self.lanes[direction as usize].early_since_ns = None;
        let frame_left = self.torn_frame(direction);
        let held = self.lanes[direction as usize].held.len() as u64;
        self.give_up_held(direction);
        let lane = &mut self.lanes[direction as usize];
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
        lane.position = lane.position.saturating_add(length);
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
            self.tell_held(direction);
            if let Some(state) = self.context.switch.take() {
                self.leave(state);
            }
        }
        if self.state == State::Running {
            let lane = &mut self.lanes[direction as usize];
            lane.ended = true;
            let body = lane.mode == Mode::Body { left: u64::MAX };
            self.give_up_held(direction);
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
        let held = std::mem::take(&mut lane.held).len() as u64;
        self.count(direction, held);
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

    /// Memory is short: what is buffered is given up, as a gap that the decoder hears of.
    pub fn shed(&mut self) {
        self.context.note(anomaly::MEMORY_SHED);
        for direction in [Direction::Up, Direction::Down] {
            let torn = self.torn_frame(direction);
            let lane = &mut self.lanes[direction as usize];
            let held = std::mem::take(&mut lane.held).len() as u64;
            lane.times.clear();
            lane.wanted = 0;
            if held == 0 || self.state != State::Running {
                continue;
            }
            lane.account.cut += held;
            lane.position = lane.position.saturating_add(held);
            lane.early_since_ns = None;
            lane.mode = match torn {
                Some(whole) if whole >= held => after(whole - held, |left| Mode::Skip { left, cut: true }),
                _ => Mode::Resync,
            };
            let time_ns = lane.time_ns;
            self.context.enter(direction, time_ns, time_ns);
            self.guarded(|driver| driver.decoder.on_gap(direction, held, &mut driver.context));
            self.settle(direction);
        }
    }

    /// Length of the frame whose beginning is held, where its head tells: then it alone is dropped, and the next
    /// one begins where this length says.
    fn torn_frame(&mut self, direction: Direction) -> Option<u64> {
        let lane = &self.lanes[direction as usize];
        if lane.mode != Mode::Frames || lane.held.is_empty() || lane.wanted <= lane.held.len() {
            return None;
        }
        match self.decoder.framing(direction, &lane.held) {
            Framing::Frame(length) => Some(length as u64),
            _ => None,
        }
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
            lane.mode = Mode::Frames;
            lane.wanted = 0;
            lane.early_since_ns = None;
            if state == State::Left {
                continue;
            }
            let held = std::mem::take(&mut lane.held).len() as u64;
            lane.position += held;
            lane.times.clear();
            self.count(direction, held);
        }
    }

    /// What another protocol begins with, up and down: where, when, and what of it has come.
    pub fn take_rest(&mut self) -> [(u64, u64, Vec<u8>); 2] {
        self.state = State::Stopped;
        self.lanes.each_mut().map(|lane| {
            let rest = std::mem::take(&mut lane.held);
            lane.account.seen -= rest.len() as u64;
            (lane.position, lane.times_of(1).0, rest)
        })
    }

    fn count(&mut self, direction: Direction, bytes: u64) {
        let account = &mut self.lanes[direction as usize].account;
        match self.state {
            State::AwaitingTls => account.skipped += bytes,
            State::Running | State::Stopped | State::Left | State::Failed => account.unknown += bytes,
        }
    }

    /// Whatever is whole among what is held is told, expected or not: a hole or the end follows.
    fn tell_held(&mut self, direction: Direction) {
        let lane = &mut self.lanes[direction as usize];
        (lane.is_last, lane.wanted) = (true, 0);
        self.retry(direction);
        self.lanes[direction as usize].is_last = false;
    }

    /// Looks again at what is held.
    fn retry(&mut self, direction: Direction) {
        let lane = &mut self.lanes[direction as usize];
        if lane.held.len() < lane.wanted && matches!(lane.mode, Mode::Frames | Mode::Resync) {
            return;
        }
        let mut held = std::mem::take(&mut lane.held);
        let used = self.consume(direction, &held);
        let lane = &mut self.lanes[direction as usize];
        if used > 0 {
            work::looked_at(held.len() - used);
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
