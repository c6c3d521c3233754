//! What a message means: requests, answers, which belongs to which (RFC 9112, 9.3), and their ends.

use custody_record::{Value, names};

use super::body::Content;
use super::decoder::{Http1Decoder, Message, State, Waiting};
use super::fields;
use super::framing;
use super::head::{self, Head, StartLine, note};
use super::length::{self, Asked, Length};
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Direction, Frame, Out, Outcome};

/// Interim answers of one request that are listed.
const INTERIM_MAX: usize = 16;

/// Longest name of a protocol in an `Upgrade`.
const PROTOCOL_NAME_MAX: usize = 32;

/// A head that was read, to be told with its frame.
pub(super) struct ReadHead {
    start: Start,
    fields: Vec<Field>,
    pub(super) odd: Vec<&'static str>,
    /// What an answer would leave HTTP for.
    upgrade: Option<String>,
    /// How the body ends; `None` while a part of the head is to come.
    pub(super) length: Option<Length>,
    content: Content,
}

enum Start {
    Request(Asked),
    Status(u16),
    /// None: the answer to a request of HTTP/0.9 is a body alone.
    Bare,
}

impl ReadHead {
    /// Of HTTP/0.9: its request line is all there is.
    pub(super) fn simple_request(target: &[u8]) -> ReadHead {
        ReadHead {
            start: Start::Request(Asked { simple: true, ..Asked::default() }),
            fields: fields::simple_request(target),
            odd: vec![anomaly::HTTP1_SIMPLE_REQUEST],
            upgrade: None,
            length: Some(Length::Empty),
            content: Content::of_unknown(Direction::Up),
        }
    }

    /// The answer to such a request.
    pub(super) fn bare() -> ReadHead {
        ReadHead {
            start: Start::Bare,
            fields: Vec::new(),
            odd: Vec::new(),
            upgrade: None,
            length: Some(Length::UntilEnd),
            content: Content::of_unknown(Direction::Down),
        }
    }
}

impl Http1Decoder {
    pub(super) fn asked(&self, direction: Direction) -> Asked {
        match (direction, self.waiting.front()) {
            (Direction::Down, Some(waiting)) => waiting.asked,
            _ => Asked::default(),
        }
    }

    /// Reads a head that belongs into this direction; `whole`, or the first lines of it.
    pub(super) fn read_head(&self, direction: Direction, bytes: &[u8], whole: bool) -> Option<ReadHead> {
        let mut head = head::parse(bytes)?;
        let mut odd = std::mem::take(&mut head.odd);
        let length = whole.then(|| length::of(&head, self.asked(direction), &mut odd));
        let (start, fields) = match (head.start, direction) {
            (StartLine::Request { method, target, minor }, Direction::Up) => {
                if whole && minor > 0 && head.values("host").count() != 1 {
                    note(&mut odd, anomaly::HTTP1_BAD_HOST);
                }
                (Start::Request(asked_by(method, &head)), fields::request(method, target, &head))
            }
            (StartLine::Status { status, .. }, Direction::Down) => {
                (Start::Status(status), fields::response(status, &head))
            }
            _ => return None,
        };
        // Where the rest of a head is to come, its body is kept as one text.
        let content = Content::of(&head, direction, length.unwrap_or(Length::Known(0)));
        let upgrade = head.values("upgrade").next().and_then(protocol_name);
        Some(ReadHead { start, fields, odd, upgrade, length, content })
    }

    pub(super) fn on_head(&mut self, head: ReadHead, frame: Frame<'_>, out: &mut dyn Out) {
        let ReadHead { start, fields, odd, upgrade, length, content } = head;
        let (id, status) = match start {
            Start::Request(asked) => (self.on_request(asked, fields, frame, out), 0),
            Start::Status(status) => match self.on_status(status, fields, frame, out) {
                Some(id) => (id, status),
                None => return,
            },
            Start::Bare => (self.answered(frame.time_ns), 0),
        };
        for code in odd {
            out.anomaly(Some(id), code);
        }
        let mut message = Message { id, status, upgrade, content, lines: Vec::new() };
        match length {
            Some(length) => self.begin_body(message, length, frame, out),
            None => {
                message.lines = framing::start_and_framing_lines(frame.bytes);
                let lane = self.lane(frame.direction);
                (lane.message, lane.state) = (Some(message), State::HeadRest { torn: false });
            }
        }
        if matches!(start, Start::Bare) {
            // What was taken for a head is the beginning of the body.
            self.on_content(frame.direction, frame.bytes, frame.time_ns, out);
        }
    }

    fn on_request(&mut self, asked: Asked, fields: Vec<Field>, frame: Frame<'_>, out: &mut dyn Out) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        out.request(id, frame.time_ns, fields);
        if self.request_missed {
            out.anomaly(Some(id), anomaly::PAIRING_UNCERTAIN);
        }
        if std::mem::take(&mut self.lane(Direction::Up).blank) {
            out.anomaly(Some(id), anomaly::HTTP1_BLANK_BEFORE_REQUEST);
        }
        if self.waiting.len() < self.limits.pending_max {
            self.waiting.push_back(Waiting { id, time_ns: frame.time_ns, asked, interim: Vec::new() });
        } else {
            self.uncertain = true;
        }
        id
    }

    /// Which exchange an answer belongs to; `None` when it is an interim one, which was told.
    fn on_status(
        &mut self,
        status: u16,
        fields: Vec<Field>,
        frame: Frame<'_>,
        out: &mut dyn Out,
    ) -> Option<u64> {
        let interim = (100..200).contains(&status) && status != 101;
        if let Some(waiting) = self.waiting.front_mut().filter(|_| interim) {
            if waiting.interim.len() < INTERIM_MAX {
                waiting.interim.push(status);
                let statuses = waiting.interim.iter().map(|status| Some(Value::Unsigned(u64::from(*status))));
                let list = Value::List(statuses.collect());
                out.fields(waiting.id, vec![Field::structure(names::HTTP_INTERIM, list)]);
            }
            return None;
        }
        let id = self.answered(frame.time_ns);
        out.fields(id, fields);
        if std::mem::take(&mut self.lane(Direction::Down).blank) {
            out.anomaly(Some(id), anomaly::HTTP1_BLANK_BEFORE_STATUS);
        }
        if self.uncertain && self.waiting.front().is_some_and(|waiting| waiting.id == id) {
            out.anomaly(Some(id), anomaly::PAIRING_UNCERTAIN);
        }
        Some(id)
    }

    /// The exchange that an answer of this time belongs to; one of its own when nothing was asked.
    fn answered(&mut self, time_ns: u64) -> u64 {
        // After a hole or in the middle, what came before a request cannot be its answer.
        let stale = |waiting: &&Waiting| !self.uncertain || time_ns >= waiting.time_ns;
        let asked = self.waiting.front().filter(stale).map(|waiting| waiting.id);
        asked.unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        })
    }

    /// The head is over: what follows it.
    pub(super) fn begin_body(
        &mut self,
        message: Message,
        length: Length,
        frame: Frame<'_>,
        out: &mut dyn Out,
    ) {
        let asked = self.asked(frame.direction);
        let leaves = match message.status {
            // Nothing is switched to that the client did not wish for (RFC 9110, 15.2.2).
            101 if asked.switch || self.waiting.is_empty() => Some(message.upgrade.clone()),
            200..=299 if asked.connect => Some(Some("tunnel".to_owned())),
            _ => None,
        };
        let lane = self.lane(frame.direction);
        lane.message = Some(message);
        lane.state = match length {
            Length::Empty => State::Head,
            Length::Known(left) => State::Body { left },
            Length::UntilEnd => State::Body { left: u64::MAX },
            Length::Chunked => State::ChunkSize,
            Length::Undecidable => State::Broken,
        };
        if matches!(length, Length::Empty | Length::Undecidable) {
            self.finish(frame.direction, frame.time_ns, out);
        }
        if frame.direction == Direction::Down
            && let Some(upgrade) = leaves
        {
            leave(upgrade, out);
        }
    }

    /// A piece of a body, without its transfer coding.
    pub(super) fn on_content(&mut self, direction: Direction, bytes: &[u8], time_ns: u64, out: &mut dyn Out) {
        let bytes_max = self.limits.body_bytes_max;
        let last_answered = self.last_answered;
        let Some(message) = &mut self.lanes[direction as usize].message else { return };
        message.content.push(bytes, time_ns, bytes_max);
        if direction == Direction::Down {
            out.fields(message.id, message.content.take_events());
        }
        // An exchange that was answered before its request was whole is told already.
        if direction == Direction::Down || message.id > last_answered {
            for code in message.content.take_odd() {
                out.anomaly(Some(message.id), code);
            }
        }
    }

    pub(super) fn finish(&mut self, direction: Direction, time_ns: u64, out: &mut dyn Out) {
        match direction {
            Direction::Up => self.finish_request(out),
            Direction::Down => self.finish_response(time_ns, out),
        }
    }

    fn finish_request(&mut self, out: &mut dyn Out) {
        let Some(message) = self.lane(Direction::Up).message.take() else { return };
        // The answer may have come before the body's end: then the exchange is told already.
        if message.id > self.last_answered && !message.content.is_empty() {
            let fields = told(message.id, message.content, out);
            out.fields(message.id, fields);
        }
    }

    fn finish_response(&mut self, time_ns: u64, out: &mut dyn Out) {
        let Some(message) = self.lane(Direction::Down).message.take() else { return };
        if self.waiting.front().is_some_and(|waiting| waiting.id == message.id) {
            self.waiting.pop_front();
        }
        self.uncertain &= !self.waiting.is_empty();
        self.last_answered = self.last_answered.max(message.id);
        let outcome = if message.status >= 400 { Outcome::Error } else { Outcome::Ok };
        // A request whose body is still coming is told with its answer: what came of it belongs there.
        let mut fields: Vec<Field> = Vec::new();
        if let Some(request) = &mut self.lane(Direction::Up).message
            && request.id == message.id
        {
            let mut content = std::mem::replace(&mut request.content, Content::of_unknown(Direction::Up));
            content.tear();
            fields = told(message.id, content, out);
        }
        fields.extend(told(message.id, message.content, out));
        out.response(message.id, time_ns, outcome, fields);
    }

    /// The order of answers is not known any more.
    pub(super) fn forget_waiting(&mut self, out: &mut dyn Out) {
        for waiting in self.waiting.drain(..) {
            out.anomaly(Some(waiting.id), anomaly::ANSWER_LOST);
        }
    }
}

/// HTTP is over on this connection. WebSocket is not decoded, and looks like nothing else; whatever else follows says what
/// it is by its first bytes.
fn leave(upgrade: Option<String>, out: &mut dyn Out) {
    let opaque = upgrade.as_deref() == Some("websocket");
    out.session(
        upgrade.map(|upgrade| Field::structure(names::PROTOCOL_UPGRADED, upgrade)).into_iter().collect(),
    );
    match opaque {
        true => out.switch_unknown(),
        false => out.switch_probed(),
    }
}

/// The first protocol that an `Upgrade` names (RFC 9110, 7.8), in lower case, if it is the name of one.
fn protocol_name(value: &[u8]) -> Option<String> {
    let first = value.split(|byte| *byte == b',').next()?.trim_ascii();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/+".contains(byte);
    let named = (1..=PROTOCOL_NAME_MAX).contains(&first.len()) && first.iter().all(is_name);
    named.then(|| String::from_utf8_lossy(first).to_ascii_lowercase())
}

/// What a body says; what is odd about it is told.
fn told(id: u64, content: Content, out: &mut dyn Out) -> Vec<Field> {
    let (fields, odd) = content.into_fields();
    for code in odd {
        out.anomaly(Some(id), code);
    }
    fields
}

/// What a request changes about its answer.
fn asked_by(method: &str, head: &Head<'_>) -> Asked {
    let connect = method == "CONNECT";
    let switch = connect || head.values("upgrade").next().is_some();
    Asked { head: method == "HEAD", connect, switch, simple: false }
}
