//! The state of one connection: which answer belongs to which request. Answers come in order.

use std::collections::VecDeque;

use crate::anomaly;
use crate::item::{Class, Field};
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};

use super::frame::{self, HEADER_BYTES, Head};
use super::parse;
use super::state::{self, Effect};

pub(super) struct Connection {
    limits: Limits,
    /// Requests without an answer, the oldest first.
    waiting: VecDeque<ExchangeId>,
    last_id: ExchangeId,
    /// No message is missing, so the order of answers is the order of requests.
    sure: bool,
}

impl Connection {
    pub(super) fn new(limits: Limits, middle: bool) -> Self {
        Connection { limits, waiting: VecDeque::new(), last_id: 0, sure: !middle }
    }

    fn number(&mut self) -> ExchangeId {
        self.last_id += 1;
        self.last_id
    }

    fn on_request(&mut self, time_ns: u64, fields: Vec<Field>, out: &mut dyn Out) {
        let id = self.number();
        out.request(id, time_ns, fields);
        self.sure &= self.waiting.len() < self.limits.pending_max;
        if self.sure {
            self.waiting.push_back(id);
        } else {
            self.forget(out);
            out.anomaly(Some(id), anomaly::ANSWER_LOST);
        }
    }

    fn on_answer(&mut self, frame: Frame<'_>, outcome: Outcome, fields: Vec<Field>, out: &mut dyn Out) {
        // Without its request it stands alone, and the driver says so.
        let id = self.waiting.pop_front().unwrap_or_else(|| self.number());
        out.response(id, frame.time_ns, outcome, fields);
    }

    /// The order of answers is not known any more.
    fn forget(&mut self, out: &mut dyn Out) {
        for id in self.waiting.drain(..) {
            out.anomaly(Some(id), anomaly::ANSWER_LOST);
        }
    }
}

impl Decoder for Connection {
    fn expects(&self, direction: Direction) -> bool {
        direction == Direction::Up || !self.waiting.is_empty() || !self.sure
    }

    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        match frame::head(direction, bytes) {
            Head::Short => Framing::NeedMore(HEADER_BYTES),
            Head::Message(_, length) => Framing::Frame(length),
            Head::Wrong => Framing::Unframed,
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>, cut: u64, out: &mut dyn Out) {
        let Head::Message(kind, _) = frame::head(frame.direction, frame.bytes) else { return };
        let body = &frame.bytes[HEADER_BYTES..];
        let text = |name, bytes: &[u8]| {
            Field::new(name, String::from_utf8_lossy(bytes).into_owned(), Class::Text).cut_by(cut)
        };
        match state::effect(frame.direction, kind) {
            Effect::Hello => out.session(vec![Field::structure("__name__.greeted", true)]),
            Effect::Login => {
                let mut fields = vec![Field::new("__name__.password", "", Class::Secret("password"))];
                fields.extend(parse::login(body).map(|(user, _)| text("__name__.user", user)));
                self.on_request(frame.time_ns, fields, out);
            }
            Effect::Request => self.on_request(frame.time_ns, vec![text("__name__.request", body)], out),
            Effect::Answer(outcome) => self.on_answer(frame, outcome, vec![text("__name__.answer", body)], out),
            Effect::Wrong => {}
        }
    }

    fn on_body(&mut self, _body: Body<'_>, _out: &mut dyn Out) {}

    fn on_gap(&mut self, _direction: Direction, _lost: u64, out: &mut dyn Out) {
        self.sure = false;
        self.forget(out);
    }

    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        frame::resync(direction, bytes)
    }

    fn on_end(&mut self, _direction: Direction, _out: &mut dyn Out) {}

    fn held_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<ExchangeId>()
    }
}
