//! Joins what a decoder says of one exchange: request, fields, rows, response. Says when it is told whole,
//! opened before its answer, in parts, or closed without one. Knows no protocol and no session.

mod one;

use std::collections::{BTreeMap, VecDeque};

use custody_record::Kind;

use crate::item::{Field, Rows};
use crate::protocol::{Direction, ExchangeId, Limits, Outcome};
use one::{Exchange, value_weight};

/// A request whose answer takes longer than this is told before it.
pub const OPEN_AFTER_NS: u64 = 200_000_000;
/// An answer without a request waits this long for it.
pub const UNSOLICITED_AFTER_NS: u64 = 100_000_000;
/// An open exchange that goes on is told in parts of this time …
const PART_AFTER_NS: u64 = 1_000_000_000;
/// … or this size.
const PART_BYTES: usize = 64 << 10;
/// An exchange that holds this much is told although its answer may be near.
const OPEN_BYTES: usize = 192 << 10;
/// Anomalies of one exchange that are kept.
const ANOMALIES_MAX: usize = 16;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its answer.
    Answered(Outcome),
    /// The connection was reset or lost under it.
    Reset,
    /// The connection ended in order without an answer.
    NoResponse,
}

impl End {
    /// As it stands in records.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Answered(Outcome::Ok) => "ok",
            End::Answered(Outcome::Error) => "error",
            End::Answered(Outcome::Cancelled) => "cancelled",
            End::Reset => "reset",
            End::NoResponse => "no_response",
        }
    }
}

/// One exchange or a part of it, ready to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// Whole, open, part or close.
    pub kind: Kind,
    /// Which exchange.
    pub id: ExchangeId,
    /// First byte of what is told, boottime ns.
    pub first_ns: u64,
    /// Last byte of what is told, boottime ns.
    pub last_ns: u64,
    /// From the request's first byte to the end, when it ended.
    pub duration_ns: Option<u64>,
    /// How it ended.
    pub end: Option<End>,
    /// What the decoder said since the telling before.
    pub fields: Vec<Field>,
    /// Rows since the telling before.
    pub rows: Option<Rows>,
    /// Bytes of frames up and down since the telling before.
    pub bytes: [u64; 2],
    /// Codes of what was odd.
    pub anomalies: Vec<&'static str>,
}

/// All exchanges of one connection.
#[derive(Debug)]
pub struct Exchanges {
    limits: Limits,
    open: BTreeMap<ExchangeId, Exchange>,
    told: VecDeque<Telling>,
    /// Sum of the open ones' weights: asked after each chunk, so never counted anew.
    weight: usize,
    /// Not after the earliest moment at which time alone changes something.
    alarm_ns: u64,
    /// Times at which `pending_max` was hit.
    pub pending_limit_hits: u64,
    /// Rows over the limit.
    pub rows_cut: u64,
}

impl Exchanges {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Exchanges {
            limits,
            open: BTreeMap::new(),
            told: VecDeque::new(),
            weight: 0,
            alarm_ns: u64::MAX,
            pending_limit_hits: 0,
            rows_cut: 0,
        }
    }

    /// The next one to be told.
    pub fn next_told(&mut self) -> Option<Telling> {
        self.told.pop_front()
    }

    /// When time alone may change something, boottime ns.
    pub fn deadline_ns(&self) -> Option<u64> {
        (self.alarm_ns != u64::MAX).then_some(self.alarm_ns)
    }

    /// Exchanges that wait for an answer.
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// Whether it waits for its answer.
    pub fn is_open(&self, id: ExchangeId) -> bool {
        self.open.contains_key(&id)
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        256 * self.open.len() + self.weight
    }

    /// A request began.
    pub fn request(&mut self, id: ExchangeId, time_ns: u64, fields: Vec<Field>) {
        self.make_room(id);
        let exchange = self.open.entry(id).or_default();
        exchange.requested = true;
        exchange.first_ns = if exchange.first_ns == 0 { time_ns } else { exchange.first_ns.min(time_ns) };
        exchange.last_ns = exchange.last_ns.max(time_ns);
        exchange.told_ns = exchange.first_ns;
        self.weight += exchange.merge(fields);
        self.alarm_ns = self.alarm_ns.min(time_ns.saturating_add(OPEN_AFTER_NS));
        if exchange.answer.is_some() {
            self.finish(id);
        }
    }

    /// More of it.
    pub fn fields(&mut self, id: ExchangeId, time_ns: u64, fields: Vec<Field>) {
        self.weight += self.touch(id, time_ns).merge(fields);
        self.tell_if_large(id);
    }

    /// Rows of its answer.
    pub fn rows(&mut self, id: ExchangeId, time_ns: u64, mut rows: Rows) {
        let rows_max = self.limits.rows_max;
        let exchange = self.touch(id, time_ns);
        let room = rows_max.saturating_sub(exchange.rows_kept);
        let cut = rows.rows.len().saturating_sub(room);
        rows.rows.truncate(room);
        exchange.rows_kept += rows.rows.len();
        let columns = rows.columns.iter().map(|name| 32 + name.len());
        let cells = rows.rows.iter().flatten().map(|cell| 32 + cell.as_ref().map_or(0, value_weight));
        let weight: usize = columns.chain(cells).sum();
        exchange.weight += weight;
        match &mut exchange.rows {
            Some(known) => {
                known.rows.append(&mut rows.rows);
                if !rows.columns.is_empty() {
                    known.columns = rows.columns;
                }
            }
            None => exchange.rows = Some(rows),
        }
        self.rows_cut += cut as u64;
        self.weight += weight;
        self.tell_if_large(id);
    }

    /// Its answer is complete.
    pub fn response(&mut self, id: ExchangeId, time_ns: u64, outcome: Outcome, fields: Vec<Field>) {
        let exchange = self.touch(id, time_ns);
        exchange.answer = Some(outcome);
        let weight = exchange.merge(fields);
        let requested = exchange.requested;
        self.weight += weight;
        if requested {
            self.finish(id);
        } else {
            self.alarm_ns = self.alarm_ns.min(time_ns.saturating_add(UNSOLICITED_AFTER_NS));
        }
    }

    /// Something odd about it.
    pub fn anomaly(&mut self, id: ExchangeId, time_ns: u64, code: &'static str) {
        let anomalies = &mut self.touch(id, time_ns).anomalies;
        if anomalies.len() < ANOMALIES_MAX && !anomalies.contains(&code) {
            anomalies.push(code);
        }
    }

    /// Bytes of frames that belong to it.
    pub fn bytes(&mut self, id: ExchangeId, direction: Direction, bytes: u64) {
        if let Some(exchange) = self.open.get_mut(&id) {
            exchange.bytes[direction as usize] += bytes;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_ns: u64) {
        if now_ns < self.alarm_ns {
            return;
        }
        self.alarm_ns = u64::MAX;
        let mut unsolicited = Vec::new();
        for (id, exchange) in &mut self.open {
            let due = match (exchange.requested, exchange.opened) {
                (false, _) => exchange.first_ns.saturating_add(UNSOLICITED_AFTER_NS),
                (true, false) => exchange.first_ns.saturating_add(OPEN_AFTER_NS),
                (true, true) => exchange.told_ns.saturating_add(PART_AFTER_NS),
            };
            if due > now_ns {
                self.alarm_ns = self.alarm_ns.min(due);
                continue;
            }
            if !exchange.requested && exchange.answer.is_some() {
                unsolicited.push(*id);
                continue;
            }
            if !exchange.requested {
                // Its request was not seen and will not be; what is still to come of the answer belongs to it.
                exchange.requested = true;
                exchange.anomalies.push(crate::anomaly::RESPONSE_WITHOUT_REQUEST);
            }
            if !exchange.opened {
                exchange.opened = true;
                self.told.push_back(exchange.tell(&mut self.weight, Kind::ExchangeOpen, *id, None));
            } else if exchange.weight > 0 || exchange.bytes != [0, 0] {
                self.told.push_back(exchange.tell(&mut self.weight, Kind::ExchangePart, *id, None));
            }
            exchange.told_ns = now_ns;
            self.alarm_ns = self.alarm_ns.min(now_ns.saturating_add(PART_AFTER_NS));
        }
        for id in unsolicited {
            self.release_unrequested(id);
        }
    }

    /// Memory is short: what is held of each goes out now.
    pub fn tell_all_open(&mut self) {
        for (id, exchange) in self.open.iter_mut().filter(|(_, exchange)| exchange.requested) {
            let kind = if exchange.opened { Kind::ExchangePart } else { Kind::ExchangeOpen };
            exchange.opened = true;
            self.told.push_back(exchange.tell(&mut self.weight, kind, *id, None));
        }
    }

    /// The connection ended: what waits is closed.
    pub fn close(&mut self, end: End) {
        while let Some((&id, exchange)) = self.open.first_key_value() {
            if exchange.requested {
                self.conclude(id, end);
            } else {
                self.release_unrequested(id);
            }
        }
        self.alarm_ns = u64::MAX;
    }

    fn touch(&mut self, id: ExchangeId, time_ns: u64) -> &mut Exchange {
        self.make_room(id);
        let alarm_ns = &mut self.alarm_ns;
        let exchange = self.open.entry(id).or_insert_with(|| {
            *alarm_ns = (*alarm_ns).min(time_ns.saturating_add(UNSOLICITED_AFTER_NS));
            Exchange { first_ns: time_ns, ..Exchange::default() }
        });
        exchange.last_ns = exchange.last_ns.max(time_ns);
        exchange
    }

    /// The oldest goes out open and is forgotten: its answer will stand alone, and say so.
    fn make_room(&mut self, id: ExchangeId) {
        if self.open.len() < self.limits.pending_max || self.open.contains_key(&id) {
            return;
        }
        if let Some((oldest, mut exchange)) = self.open.pop_first() {
            self.pending_limit_hits += 1;
            exchange.anomalies.push(crate::anomaly::PENDING_LIMIT);
            let kind = if exchange.opened { Kind::ExchangePart } else { Kind::ExchangeOpen };
            self.told.push_back(exchange.tell(&mut self.weight, kind, oldest, None));
        }
    }

    fn tell_if_large(&mut self, id: ExchangeId) {
        let Some(exchange) = self.open.get_mut(&id) else { return };
        if !exchange.requested {
            return;
        }
        if !exchange.opened && exchange.weight > OPEN_BYTES {
            exchange.opened = true;
            self.told.push_back(exchange.tell(&mut self.weight, Kind::ExchangeOpen, id, None));
        } else if exchange.opened && exchange.weight > PART_BYTES {
            self.told.push_back(exchange.tell(&mut self.weight, Kind::ExchangePart, id, None));
        }
    }

    fn finish(&mut self, id: ExchangeId) {
        if let Some(outcome) = self.open.get(&id).and_then(|exchange| exchange.answer) {
            self.conclude(id, End::Answered(outcome));
        }
    }

    fn conclude(&mut self, id: ExchangeId, end: End) {
        if let Some(mut exchange) = self.open.remove(&id) {
            let kind = if exchange.opened { Kind::ExchangeClose } else { Kind::Exchange };
            self.told.push_back(exchange.tell(&mut self.weight, kind, id, Some(end)));
        }
    }

    fn release_unrequested(&mut self, id: ExchangeId) {
        if let Some(mut exchange) = self.open.remove(&id) {
            exchange.anomalies.push(crate::anomaly::RESPONSE_WITHOUT_REQUEST);
            let end = exchange.answer.map(End::Answered);
            let mut telling = exchange.tell(&mut self.weight, Kind::Exchange, id, end);
            telling.duration_ns = None;
            self.told.push_back(telling);
        }
    }
}

#[cfg(test)]
mod tests;
