//! What a decoder may write to while it looks at bytes: exchanges, facts and anomalies of the session, and the
//! wish to leave the layer. Bounded.

use super::State;
use super::exchanges::Exchanges;
use crate::item::{Field, Rows};
use crate::protocol::{Direction, ExchangeId, Limits, Out, Outcome};
use crate::related::{Relation, Secret};

/// Relations of one chunk that wait to be resolved: a connection has one secret and names one other.
const RELATIONS_MAX: usize = 4;
/// Anomalies of a session that wait to be told.
const ANOMALIES_MAX: usize = 16;

/// What the decoder may write to while it looks at bytes.
pub(super) struct Context {
    pub(super) exchanges: Exchanges,
    /// Bytes of frames that no exchange has claimed yet.
    pub(super) unclaimed: [u64; 2],
    direction: Direction,
    first_ns: u64,
    time_ns: u64,
    pub(super) session: Vec<Field>,
    pub(super) anomalies: Vec<&'static str>,
    pub(super) switch: Option<State>,
    pub(super) relations: Vec<Relation>,
}

impl Context {
    pub(super) fn new(limits: Limits) -> Self {
        Context {
            exchanges: Exchanges::new(limits),
            unclaimed: [0, 0],
            direction: Direction::Up,
            first_ns: 0,
            time_ns: 0,
            session: Vec::new(),
            anomalies: Vec::new(),
            switch: None,
            relations: Vec::new(),
        }
    }

    fn relate(&mut self, relation: Relation) {
        if self.relations.len() < RELATIONS_MAX {
            self.relations.push(relation);
        }
    }

    pub(super) fn enter(&mut self, direction: Direction, first_ns: u64, time_ns: u64) {
        self.direction = direction;
        self.first_ns = first_ns.min(time_ns);
        self.time_ns = time_ns;
    }

    pub(super) fn note(&mut self, code: &'static str) {
        if self.anomalies.len() < ANOMALIES_MAX && !self.anomalies.contains(&code) {
            self.anomalies.push(code);
        }
    }

    /// More of an exchange, at the moment of what came last.
    pub(super) fn say(&mut self, id: ExchangeId, fields: Vec<Field>) {
        self.exchanges.fields(id, self.time_ns, fields);
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

    fn goes_by(&mut self, secret: &[u8]) {
        self.relate(Relation::GoesBy(Secret::of(secret)));
    }

    fn names_other(&mut self, id: ExchangeId, secret: &[u8], field: &'static str) {
        self.relate(Relation::Names(id, Secret::of(secret), field));
    }

    fn switch_tls(&mut self) {
        self.switch = Some(State::AwaitingTls);
    }

    fn switch_unknown(&mut self) {
        self.switch = Some(State::Stopped);
    }

    fn switch_probed(&mut self) {
        self.switch = Some(State::Left);
    }
}
