//! What a message means: requests, answers, which belongs to which (RFC 9112, 9.3), and their ends.

use super::decoder::{Http1Decoder, Message, State, Waiting};
use super::fields::{self, Content};
use super::framing;
use super::head::Head;
use super::length::{self, Asked, Length};
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Direction, Frame, Out, Outcome};
use custody_record::names;

impl Http1Decoder {
    pub(super) fn asked(&self, direction: Direction) -> Asked {
        match (direction, self.waiting.front()) {
            (Direction::Down, Some(waiting)) => waiting.asked,
            _ => Asked::default(),
        }
    }

    pub(super) fn on_request(
        &mut self,
        head: &Head<'_>,
        method: &str,
        target: &[u8],
        frame: Frame<'_>,
        out: &mut dyn Out,
    ) {
        self.last_id += 1;
        let id = self.last_id;
        out.request(id, frame.time_ns, fields::request(method, target, head));
        if self.waiting.len() < self.limits.pending_max {
            let connect = method == "CONNECT";
            let switch = connect || head.values("upgrade").next().is_some();
            let asked = Asked { head: method == "HEAD", connect, switch };
            self.waiting.push_back(Waiting { id, time_ns: frame.time_ns, asked });
        } else {
            self.uncertain = true;
        }
        self.begin(
            Message { id, status: 0, content: Content::of(head), framing_lines: Vec::new() },
            head,
            frame,
            out,
        );
    }

    pub(super) fn on_status(&mut self, head: &Head<'_>, status: u16, frame: Frame<'_>, out: &mut dyn Out) {
        let interim = (100..200).contains(&status) && status != 101;
        if interim && !self.waiting.is_empty() {
            return;
        }
        // After a hole or in the middle, what came before a request cannot be its answer.
        let stale = |waiting: &&Waiting| !self.uncertain || frame.time_ns >= waiting.time_ns;
        let answered = self.waiting.front().filter(stale).map(|waiting| waiting.id);
        let id = answered.unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        out.fields(id, fields::response(status, head));
        if std::mem::take(&mut self.lane(Direction::Down).blank) {
            out.anomaly(Some(id), anomaly::HTTP1_BLANK_BEFORE_STATUS);
        }
        if self.uncertain && answered.is_some() {
            out.anomaly(Some(id), anomaly::PAIRING_UNCERTAIN);
        }
        self.begin(
            Message { id, status, content: Content::of(head), framing_lines: Vec::new() },
            head,
            frame,
            out,
        );
    }

    /// The body of a message follows its head, or the rest of a head that is longer than a frame.
    fn begin(&mut self, mut message: Message, head: &Head<'_>, frame: Frame<'_>, out: &mut dyn Out) {
        if framing::is_whole(frame.bytes) {
            return self.begin_body(frame, message, head, out);
        }
        for code in head.odd.iter().copied().chain([anomaly::HTTP1_HEAD_TOO_LONG]) {
            out.anomaly(Some(message.id), code);
        }
        message.framing_lines = framing::start_and_framing_lines(frame.bytes);
        let lane = self.lane(frame.direction);
        (lane.message, lane.state) = (Some(message), State::HeadRest { torn: false });
    }

    /// The head is over: what follows it.
    pub(super) fn begin_body(
        &mut self,
        frame: Frame<'_>,
        message: Message,
        head: &Head<'_>,
        out: &mut dyn Out,
    ) {
        let asked = self.asked(frame.direction);
        let mut odd = head.odd.clone();
        let length = length::of(head, asked, &mut odd);
        for code in odd {
            out.anomaly(Some(message.id), code);
        }
        let status = message.status;
        let lane = self.lane(frame.direction);
        lane.message = Some(message);
        lane.state = match length {
            Length::Empty => State::Head,
            Length::Known(left) => State::Body { left },
            Length::UntilEnd => State::Body { left: u64::MAX },
            Length::Chunked => State::ChunkSize,
        };
        if length == Length::Empty {
            self.finish(frame.direction, frame.time_ns, out);
        }
        let switches = status == 101 || (asked.connect && (200..300).contains(&status));
        if frame.direction == Direction::Down && switches {
            out.switch_unknown();
        }
    }

    pub(super) fn finish(&mut self, direction: Direction, time_ns: u64, out: &mut dyn Out) {
        match direction {
            Direction::Up => self.finish_request(out),
            Direction::Down => self.finish_response(time_ns, out),
        }
    }

    pub(super) fn finish_request(&mut self, out: &mut dyn Out) {
        let Some(message) = self.lane(Direction::Up).message.take() else { return };
        // The answer may have come before the body's end: then the exchange is told already.
        if message.id > self.last_answered {
            let fields = message.content.into_fields(names::HTTP_REQUEST_SIZE, names::HTTP_REQUEST_BODY);
            if !fields.is_empty() {
                out.fields(message.id, fields);
            }
        }
    }

    pub(super) fn finish_response(&mut self, time_ns: u64, out: &mut dyn Out) {
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
            let content = std::mem::take(&mut request.content);
            fields = content.into_fields(names::HTTP_REQUEST_SIZE, names::HTTP_REQUEST_BODY);
        }
        fields.extend(message.content.into_fields(names::HTTP_RESPONSE_SIZE, names::HTTP_RESPONSE_BODY));
        out.response(message.id, time_ns, outcome, fields);
    }

    /// The order of answers is not known any more.
    pub(super) fn forget_waiting(&mut self, out: &mut dyn Out) {
        for waiting in self.waiting.drain(..) {
            out.anomaly(Some(waiting.id), anomaly::ANSWER_LOST);
        }
    }
}
