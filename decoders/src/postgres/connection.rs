//! One connection: phases before the first message, frames of both directions, gaps and the end.

use crate::anomaly;
use custody_record::names;

use crate::item::Field;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};

use super::answer::Answer;
use super::copy::CopyDirection;
use super::early::EarlyCopy;
use super::frame::{self, HEADER_BYTES, Head};
use super::names::{Names, Portal, Statement};
use super::pairing::{Entry, Pairing};
use super::{parse, probe};

/// What the next packet is, as far as the client's start decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A packet without a type comes from the client.
    Start,
    /// The client wished for encryption, and the answer is one byte.
    AskedSsl,
    /// The same for GSSAPI.
    AskedGss,
    /// The client speaks protocol 2: the answer is an error, or what nobody decodes.
    Old,
    /// Typed messages both ways.
    Messages,
}

/// An error of a batch whose Sync has not come yet: all up to there is skipped.
#[derive(Debug)]
pub(super) struct Skipping {
    /// The error, until an exchange carries it.
    pub(super) failure: Option<Failure>,
    /// What came since and is never run: its names are taken back at the Sync.
    pub(super) skipped: Vec<Entry>,
}

/// An error of a step that is no exchange by itself.
#[derive(Debug)]
pub(super) struct Failure {
    /// When the step was sent.
    pub(super) sent_ns: u64,
    /// When it failed.
    pub(super) failed_ns: u64,
    /// What failed.
    pub(super) request: Vec<Field>,
    /// How.
    pub(super) outcome: Outcome,
    /// Why.
    pub(super) response: Vec<Field>,
}

/// The state of one connection.
pub(super) struct Connection {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    pub(super) last_exchange: ExchangeId,
    /// When anything was seen last.
    last_ns: u64,
    pub(super) pairing: Pairing,
    pub(super) statements: Names<Statement>,
    pub(super) portals: Names<Portal>,
    pub(super) answer: Answer,
    pub(super) skipping: Option<Skipping>,
    /// The session that asked the server to cancel what runs now.
    pub(super) cancelled_by: Option<u64>,
    /// A CancelRequest that waits for the server to close.
    pub(super) cancel: Option<ExchangeId>,
    /// The start-up that goes on, for the steps of authentication.
    pub(super) starting: Option<ExchangeId>,
    /// The server asked the client to prove who it is.
    pub(super) authentication_asked: bool,
    /// The server asked for SASL; the client's next message names its mechanism.
    pub(super) sasl_asked: bool,
    /// The client has sent all of its COPY data.
    pub(super) copy_done: bool,
    /// COPY data that came before the server's wish for them.
    pub(super) early_copy: Option<EarlyCopy>,
    /// The server asked for a credential, and none came since.
    pub(super) credential_owed: bool,
    /// The client's last message was Sync or Flush: it waits for what it asked.
    pub(super) client_waits: bool,
}

impl Connection {
    pub(super) fn new(limits: &Limits, middle: bool) -> Self {
        Connection {
            limits: *limits,
            phase: if middle { Phase::Messages } else { Phase::Start },
            last_exchange: 0,
            last_ns: 0,
            pairing: Pairing::new(limits.pending_max),
            statements: Names::new(limits.names_max),
            portals: Names::new(limits.names_max),
            answer: Answer::default(),
            skipping: None,
            cancelled_by: None,
            cancel: None,
            starting: None,
            authentication_asked: false,
            sasl_asked: false,
            copy_done: false,
            early_copy: None,
            credential_owed: false,
            client_waits: false,
        }
    }

    /// The next exchange's number.
    pub(super) fn number(&mut self) -> ExchangeId {
        self.last_exchange += 1;
        self.last_exchange
    }

    /// Something whole by itself that nobody asked for: a notification, an error to all.
    pub(super) fn tell(&mut self, failure: Failure, out: &mut dyn Out) {
        let id = self.number();
        out.request(id, failure.sent_ns, failure.request);
        if !self.pairing.is_sure() {
            // It may be part of an exchange whose request is not known.
            out.anomaly(Some(id), anomaly::POSTGRES_UNPAIRED);
        }
        out.response(id, failure.failed_ns, failure.outcome, failure.response);
    }

    /// What is pending stays without its answer.
    pub(super) fn lose(&mut self, code: &'static str, out: &mut dyn Out) {
        self.skipping = None;
        self.starting = None;
        self.early_copy = None;
        let entries = self.pairing.lose();
        if let Some(id) = entries.first().and_then(|head| head.exchange) {
            self.answer.abandon(id, out);
        }
        self.answer = Answer::default();
        for id in entries.iter().filter_map(|entry| entry.exchange) {
            out.anomaly(Some(id), code);
        }
        self.tell_unanswered(&entries, Some(code), out);
    }

    /// The client said what was not seen: nothing is waited for that may stand in the hole.
    fn on_client_gap(&mut self, lost: u64, out: &mut dyn Out) {
        self.skipping = None;
        self.early_copy = None;
        (self.copy_done, self.credential_owed, self.sasl_asked, self.client_waits) =
            (true, false, false, false);
        if let Some(copy) = self.answer.copy().filter(|copy| copy.direction.carries(Direction::Up)) {
            copy.lost(lost);
            out.anomaly(self.pairing.head().and_then(|head| head.exchange), anomaly::POSTGRES_COPY_LOST);
        }
        self.pairing.lose_after_pending();
    }

    fn on_negotiation(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        let gss = self.phase == Phase::AskedGss;
        let request = if gss { "GSSENCRequest" } else { "SSLRequest" };
        let told = match (frame.bytes, gss) {
            ([b'S'], false) => "ssl_accepted",
            ([b'N'], false) => "ssl_refused",
            ([b'G'], true) => "gss_accepted",
            ([b'N'], true) => "gss_refused",
            // A server that knows neither answers with an error and closes.
            _ => {
                self.phase = Phase::Start;
                return self.refused(request, frame, out);
            }
        };
        self.phase = Phase::Start;
        out.session(vec![Field::structure(names::DB_ENCRYPTION, told)]);
        match told {
            "ssl_accepted" => out.switch_tls(),
            "gss_accepted" => out.switch_unknown(),
            _ => {}
        }
    }

    fn framing_of_negotiation(bytes: &[u8]) -> Framing {
        match bytes.first() {
            None => Framing::NeedMore(1),
            Some(b'S' | b'N' | b'G') => Framing::Frame(1),
            Some(b'E') => framing_of_error(bytes),
            Some(_) => Framing::Unframed,
        }
    }

    /// The answer to a start of protocol 2.
    fn on_old(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        match frame.bytes.first() {
            Some(b'E') => self.on_startup_error(frame, out),
            _ => out.switch_unknown(),
        }
    }

    fn expects_startup(&self, direction: Direction) -> bool {
        direction == Direction::Up && self.phase != Phase::Messages
    }

    /// The server's next message may be an error in the form of protocol 2.
    fn may_be_old_error(&self, direction: Direction) -> bool {
        direction == Direction::Down && self.starting.is_some()
    }
}

impl Decoder for Connection {
    fn expects(&self, direction: Direction) -> bool {
        match (direction, self.phase) {
            // What follows depends on the answer: a start-up packet, or what TLS carries.
            (Direction::Up, Phase::AskedSsl | Phase::AskedGss) => false,
            (Direction::Up, Phase::Start) => true,
            (Direction::Down, phase) if phase != Phase::Messages => phase != Phase::Start,
            // After a hole, what would be waited for may have stood in it.
            _ if !self.pairing.is_sure() => true,
            // A credential follows the wish for it, and what is bound to a statement its description.
            (Direction::Up, _) if self.starting.is_some() => self.credential_owed,
            (Direction::Up, _) => !(self.client_waits && self.pairing.awaits_description()),
            // The server waits for a credential that it asked for, and for COPY data, before it goes on.
            (Direction::Down, _) => {
                let waits = (self.starting.is_some() && self.credential_owed)
                    || (self.answer.copying() == Some(CopyDirection::In) && !self.copy_done);
                self.pairing.head().is_some() && !waits
            }
        }
    }

    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        match (direction, bytes) {
            (Direction::Down, [b'E', ..]) if self.may_be_old_error(direction) => {
                return framing_of_error(bytes);
            }
            (Direction::Down, [_, ..]) if self.phase == Phase::Old => return Framing::Frame(1),
            _ => {}
        }
        if direction == Direction::Down && matches!(self.phase, Phase::AskedSsl | Phase::AskedGss) {
            return Self::framing_of_negotiation(bytes);
        }
        let (head, least) = if self.expects_startup(direction) {
            (frame::startup(bytes), 8)
        } else {
            (frame::typed(direction, bytes), HEADER_BYTES)
        };
        match head {
            Head::Message(b'd', length) => {
                Framing::Streamed { head: HEADER_BYTES, body: (length - HEADER_BYTES) as u64 }
            }
            Head::Message(_, length) => Framing::Frame(length),
            Head::Foreign(length) => Framing::Foreign(length),
            Head::Short => Framing::NeedMore(least),
            Head::Wrong => Framing::Unframed,
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>, cut: u64, out: &mut dyn Out) {
        self.last_ns = self.last_ns.max(frame.time_ns);
        match frame.direction {
            Direction::Up if self.expects_startup(Direction::Up) => self.on_startup_packet(frame, cut, out),
            Direction::Down if matches!(self.phase, Phase::AskedSsl | Phase::AskedGss) => {
                self.on_negotiation(frame, out);
            }
            Direction::Down if self.phase == Phase::Old => self.on_old(frame, out),
            Direction::Down if self.may_be_old_error(Direction::Down) && is_old_error(frame.bytes) => {
                self.on_startup_error(frame, out);
            }
            direction => {
                let Some((&[kind, ..], body)) = frame.bytes.split_first_chunk::<HEADER_BYTES>() else {
                    return;
                };
                match direction {
                    _ if kind == b'd' => self.on_copy_head(frame),
                    Direction::Up => self.on_client(kind, body, cut > 0, frame.time_ns, out),
                    Direction::Down => self.on_server(kind, body, cut > 0, frame.time_ns, out),
                }
            }
        }
    }

    fn on_body(&mut self, body: Body<'_>, out: &mut dyn Out) {
        self.last_ns = self.last_ns.max(body.time_ns);
        let Some(copy) = self.answer.copy().filter(|copy| copy.direction.carries(body.direction)) else {
            if let (Direction::Up, Some(early)) = (body.direction, &mut self.early_copy) {
                early.data(body.bytes, &self.limits);
            }
            return;
        };
        copy.data(body, &self.limits);
        let id = self.pairing.head().and_then(|head| head.exchange);
        if let (true, Some(id), Some(part)) = (body.last, id, copy.part()) {
            out.fields(id, part);
        }
    }

    fn on_gap(&mut self, direction: Direction, lost: u64, out: &mut dyn Out) {
        // Whatever stood in the hole, the start is over: only typed messages can follow.
        self.phase = Phase::Messages;
        match direction {
            Direction::Down => self.lose(anomaly::POSTGRES_UNPAIRED, out),
            Direction::Up => self.on_client_gap(lost, out),
        }
    }

    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        if self.expects_startup(direction) {
            return None;
        }
        let found = probe::resync(direction, bytes)?;
        if direction == Direction::Up {
            // What was held while no message was sure to begin may be answered long since.
            self.pairing.doubt();
        }
        Some(found)
    }

    fn on_end(&mut self, direction: Direction, out: &mut dyn Out) {
        if direction == Direction::Down {
            self.on_server_end(self.last_ns, out);
        }
    }

    fn on_named(&mut self, by_session: u64) {
        // Between two statements the server ignores it.
        self.cancelled_by = self.pairing.head().map(|_| by_session);
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.pairing.held_bytes()
            + self.statements.held_bytes()
            + self.portals.held_bytes()
            + self.answer.held_bytes()
            + self.early_copy.as_ref().map_or(0, |early| early.data.capacity())
    }
}

/// An error in the form of either protocol.
fn framing_of_error(bytes: &[u8]) -> Framing {
    let head =
        if is_old_error(bytes) { frame::old_error(bytes) } else { frame::typed(Direction::Down, bytes) };
    match head {
        Head::Message(_, length) => Framing::Frame(length),
        Head::Short => Framing::NeedMore(HEADER_BYTES.max(bytes.len() + 1)),
        Head::Foreign(_) | Head::Wrong => Framing::Unframed,
    }
}

fn is_old_error(bytes: &[u8]) -> bool {
    frame::old_error(bytes) != Head::Wrong && frame::typed(Direction::Down, bytes) == Head::Wrong
}

/// Code of the anomaly for a body that could not be read.
pub(super) fn code(malformed: parse::Malformed) -> &'static str {
    match malformed {
        parse::Malformed::Short => anomaly::POSTGRES_SHORT,
        parse::Malformed::Leftover => anomaly::POSTGRES_LEFTOVER,
        parse::Malformed::Unknown => anomaly::POSTGRES_UNKNOWN_CODE,
    }
}
