//! Puts a conversation through stream, driver and decoder, and collects what is told, joined by exchange. The
//! same way as live traffic goes, less sockets and masking.

use std::collections::BTreeMap;

use custody_record::{Kind, Value};

use crate::case::{Case, Step, What};
use crate::driver::account::Account;
use crate::driver::exchanges::{End, Telling};
use crate::driver::{Driver, State};
use crate::event::Cause;
use crate::item::{Class, Field, Rows};
use crate::protocol::{Direction, Limits, Protocol};
use crate::streams::{Delivery, Stream};

/// Both ways.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Up, Direction::Down];

/// One exchange, all its tellings joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// How it ended, if it did.
    pub end: Option<End>,
    /// A request of it was seen.
    pub requested: bool,
    /// Its fields, by name.
    pub fields: BTreeMap<String, Field>,
    /// Its rows.
    pub rows: Option<Rows>,
    /// What was odd.
    pub anomalies: Vec<&'static str>,
}

/// What came of a conversation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By the decoder's own number.
    pub exchanges: BTreeMap<u64, Told>,
    /// Facts of the session, by name.
    pub session: BTreeMap<String, Field>,
    /// What was odd about the session.
    pub anomalies: Vec<&'static str>,
    /// Whether the decoder went on to the end.
    pub state: State,
    /// Up and down.
    pub accounts: [Account; 2],
    /// The most that was held at once.
    pub held_bytes_max: usize,
}

/// A connection that goes on.
pub struct Replay {
    streams: [Stream; 2],
    driver: Driver,
    outcome: Outcome,
}

impl Replay {
    /// Around a fresh decoder.
    pub fn new(protocol: &dyn Protocol, limits: Limits, middle: bool) -> Self {
        Replay {
            streams: [Stream::starting_at(Some(0)), Stream::starting_at(Some(0))],
            driver: Driver::new(protocol.open(&limits, middle), limits),
            outcome: Outcome {
                exchanges: BTreeMap::new(),
                session: BTreeMap::new(),
                anomalies: Vec::new(),
                state: State::Running,
                accounts: [Account::default(); 2],
                held_bytes_max: 0,
            },
        }
    }

    /// Bytes at a place of their direction.
    pub fn bytes(&mut self, direction: Direction, position: u64, time_ns: u64, bytes: &[u8]) {
        self.deliver(direction, |stream, out| stream.bytes(position, time_ns, bytes, out));
    }

    /// Bytes that are missing.
    pub fn hole(&mut self, direction: Direction, position: u64, length: u64, time_ns: u64) {
        self.deliver(direction, |stream, out| stream.hole(position, length, Cause::Unseen, time_ns, out));
    }

    /// The direction ends in order.
    pub fn end(&mut self, direction: Direction, time_ns: u64) {
        self.deliver(direction, |stream, out| stream.flush(out));
        self.driver.end(direction, time_ns);
        self.collect();
    }

    /// Time passes.
    pub fn tick(&mut self, now_ns: u64) {
        for direction in DIRECTIONS {
            self.deliver(direction, |stream, out| stream.expire(now_ns, out));
        }
        self.driver.tick(now_ns);
        self.collect();
    }

    /// Where the next byte of a direction stands.
    pub fn position(&self, direction: Direction) -> u64 {
        self.streams[direction as usize].next_position()
    }

    /// Both directions are over.
    pub fn finish(mut self, time_ns: u64) -> Outcome {
        for direction in DIRECTIONS {
            self.end(direction, time_ns);
        }
        self.driver.exchanges().close(End::NoResponse);
        self.collect();
        self.outcome.state = self.driver.state();
        self.outcome.accounts = DIRECTIONS.map(|direction| self.driver.account(direction));
        self.outcome
    }

    fn deliver(
        &mut self,
        direction: Direction,
        work: impl FnOnce(&mut Stream, &mut dyn FnMut(Delivery<'_>)),
    ) {
        let driver = &mut self.driver;
        work(&mut self.streams[direction as usize], &mut |delivery| match delivery {
            Delivery::Bytes { position, time_ns, bytes } => driver.bytes(direction, position, time_ns, bytes),
            Delivery::Gap { length, cause, time_ns, .. } => driver.gap(direction, length, cause, time_ns),
        });
        self.collect();
    }

    fn collect(&mut self) {
        self.outcome.held_bytes_max = self.outcome.held_bytes_max.max(self.driver.held_bytes());
        while let Some(telling) = self.driver.exchanges().next_told() {
            let told = self.outcome.exchanges.entry(telling.id).or_default();
            join(told, telling);
        }
        for field in self.driver.take_session_fields() {
            self.outcome.session.insert(field.name.clone().into_owned(), field);
        }
        for code in self.driver.take_anomalies() {
            if !self.outcome.anomalies.contains(&code) {
                self.outcome.anomalies.push(code);
            }
        }
    }
}

/// Adds a telling to those before it of the same exchange.
fn join(told: &mut Told, telling: Telling) {
    told.requested |= telling.kind != Kind::Exchange || !telling.anomalies.contains(&UNREQUESTED);
    told.end = telling.end.or(told.end);
    for field in telling.fields {
        match told.fields.get_mut(field.name.as_ref()) {
            Some(known) if matches!(known.class, Class::Body { .. }) => {
                known.cut = field.cut;
                match (&mut known.value, field.value) {
                    (Value::Bytes(before), Value::Bytes(more)) => before.extend(more),
                    (Value::Text(before), Value::Text(more)) => before.push_str(&more),
                    (value, newer) => *value = newer,
                }
            }
            _ => drop(told.fields.insert(field.name.clone().into_owned(), field)),
        }
    }
    match (&mut told.rows, telling.rows) {
        (Some(known), Some(more)) => {
            known.rows.extend(more.rows);
            if !more.columns.is_empty() {
                known.columns = more.columns;
            }
        }
        (known, Some(rows)) => *known = Some(rows),
        (_, None) => {}
    }
    for code in telling.anomalies {
        if !told.anomalies.contains(&code) {
            told.anomalies.push(code);
        }
    }
    told.anomalies.sort_unstable();
}

const UNREQUESTED: &str = crate::anomaly::RESPONSE_WITHOUT_REQUEST;

/// A conversation as it stands in its case, in pieces of at most `piece` bytes.
pub fn replay(protocol: &dyn Protocol, case: &Case, piece: usize) -> Outcome {
    let cut = |step: &Step| match &step.what {
        What::Bytes(bytes) => bytes
            .chunks(piece.max(1))
            .map(|piece| Step { what: What::Bytes(piece.to_vec()), ..step.clone() })
            .collect(),
        _ => vec![step.clone()],
    };
    let steps: Vec<Step> = case.steps.iter().flat_map(cut).collect();
    run(protocol, case, &steps)
}

/// Steps of a case, in any order that keeps each direction's own.
pub fn run(protocol: &dyn Protocol, case: &Case, steps: &[Step]) -> Outcome {
    let mut replay = Replay::new(protocol, case.limits, case.middle);
    let mut positions = [0u64; 2];
    let mut now_ns = 0;
    for Step { direction, time_ns, what } in steps {
        let position = &mut positions[*direction as usize];
        match what {
            What::Bytes(bytes) => {
                replay.bytes(*direction, *position, *time_ns, bytes);
                *position += bytes.len() as u64;
            }
            What::Gap(length) => {
                replay.hole(*direction, *position, *length, *time_ns);
                *position += length;
            }
            What::End => replay.end(*direction, *time_ns),
        }
        now_ns = now_ns.max(*time_ns);
    }
    replay.finish(now_ns)
}
