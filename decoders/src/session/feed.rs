//! From ordered bytes to what they say: the first bytes decide who reads, TLS changes the layer that is read, and
//! the driver's findings become drafts.

use super::reader::{self, First, Verdict};
use super::route::is_lost;
use super::{DIRECTIONS, Missing, Reader, Session, Sink};
use crate::anomaly;
use crate::driver::exchanges::End as ExchangeEnd;
use crate::driver::{Driver, State};
use crate::event::{Cause, Layer, Role};
use crate::protocol::Direction;
use crate::related::Relation;
use crate::streams::Delivery;

/// Facts of a session that a decoder may tell.
const FACTS_MAX: usize = 64;

impl Session {
    pub(super) fn deliver(
        &mut self,
        layer: Layer,
        direction: Direction,
        delivery: Delivery<'_>,
        sink: Sink<'_>,
    ) {
        if layer == Layer::Wire && self.tls {
            return self.ciphertext(direction, &delivery);
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
            self.hellos.give_up(direction as usize);
            self.ciphertext_bytes = self.ciphertext_bytes.saturating_add(length);
            return;
        }
        if is_lost(cause) {
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

    pub(super) fn decide(&mut self, sink: Sink<'_>) {
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
    pub(super) fn begin(&mut self, mut driver: Box<Driver>, first: First, reversed: bool, sink: Sink<'_>) {
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
    pub(super) fn become_tls(&mut self, sink: Sink<'_>) {
        self.retire_driver(sink);
        if let Reader::Undecided(first) = &self.reader {
            for direction in DIRECTIONS {
                let head = &first.heads[direction as usize];
                self.base[direction as usize].seen -= head.len() as u64;
                self.ciphertext_bytes += head.len() as u64;
                self.hellos.push(direction as usize, head);
            }
        }
        self.tls = true;
        self.looks_like = Some("tls");
        self.reader = Reader::Undecided(First::default());
    }

    /// What the TLS library's caller sees at this end is read from here on.
    pub(super) fn enter_plaintext(&mut self, end: usize, sink: Sink<'_>) {
        // A connection that was open before the agent says of itself that its beginning is not known.
        let missed = self.ends[end].bound_late && self.hellos.is_begun();
        if missed {
            self.middle = true;
            self.tell_unread(sink);
        }
        self.layer = Layer::Plaintext;
        match &mut self.reader {
            // What it waits for was missed.
            Reader::Decoding(_) if missed => self.become_tls(sink),
            Reader::Decoding(driver) if driver.state() == State::AwaitingTls => driver.resume_on_plaintext(),
            Reader::Decoding(_) => {
                self.note(anomaly::TLS_UNANNOUNCED);
                self.become_tls(sink);
            }
            Reader::Undecided(_) | Reader::Counting => self.become_tls(sink),
        }
        self.tls = true;
    }

    /// What was said of this session and others.
    pub(crate) fn take_relations(&mut self) -> Vec<Relation> {
        match &mut self.reader {
            Reader::Decoding(driver) => driver.take_relations(),
            Reader::Undecided(_) | Reader::Counting => Vec::new(),
        }
    }

    /// The driver, while one decodes.
    pub(crate) fn driver(&mut self) -> Option<&mut Driver> {
        match &mut self.reader {
            Reader::Decoding(driver) => Some(driver),
            Reader::Undecided(_) | Reader::Counting => None,
        }
    }

    /// Tells what the driver has to tell.
    pub(super) fn follow_driver(&mut self, sink: Sink<'_>) {
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
            let Some(mut telling) = driver.exchanges().next_told() else { break };
            telling.id += self.exchanges_before;
            self.last_exchange = self.last_exchange.max(telling.id);
            self.open(sink);
            sink(self.draft_exchange(telling));
        }
        if state == State::Left {
            self.hand_over(sink);
        }
    }

    /// The connection goes on in another protocol: its first bytes decide who reads it.
    fn hand_over(&mut self, sink: Sink<'_>) {
        let Reader::Decoding(driver) = &mut self.reader else { return };
        let rest = driver.take_rest();
        self.retire_driver(sink);
        self.handed_over = true;
        self.exchanges_before = self.last_exchange;
        let mut first = First::default();
        for (direction, (position, time_ns, bytes)) in DIRECTIONS.into_iter().zip(&rest) {
            self.base[direction as usize].seen += bytes.len() as u64;
            if !bytes.is_empty() {
                first.push(direction, *position, *time_ns, bytes);
            }
        }
        self.reader = Reader::Undecided(first);
        if rest.iter().any(|(_, _, bytes)| !bytes.is_empty()) {
            self.decide(sink);
        }
    }

    /// The driver's work is done: what waits is closed, and its account becomes the session's.
    pub(super) fn retire_driver(&mut self, sink: Sink<'_>) {
        let Reader::Decoding(driver) = &mut self.reader else { return };
        for direction in DIRECTIONS {
            driver.end(direction, self.last_ns);
        }
        let reset = self.reset_by_client.is_some();
        driver.exchanges().close(if reset { ExchangeEnd::Reset } else { ExchangeEnd::NoResponse });
        self.follow_driver(sink);
        if let Reader::Decoding(driver) = std::mem::replace(&mut self.reader, Reader::Counting) {
            for direction in DIRECTIONS {
                let account = &mut self.base[direction as usize];
                *account = account.plus(&driver.account(direction));
            }
        }
    }
}
