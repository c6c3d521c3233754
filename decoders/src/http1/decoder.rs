//! The state of one connection: messages of both directions, chunks, and which answer belongs to which request.
//! Answers come in the order of requests (RFC 9112, 9.3).

use std::collections::VecDeque;

use memchr::memchr;

use custody_record::names;

use super::fields::{self, Content};
use super::head::{self, Head, StartLine};
use super::length::{self, Asked, Length};
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};
use crate::work;

/// So long is a beginning without an end asked whether a message begins so.
const FIRST_LOOK_BYTES: usize = 64;
/// Longest size line of a chunk, extensions included, and longest trailer line.
const CHUNK_LINE_MAX: usize = 8192;

pub(super) struct Http1Decoder {
    limits: Limits,
    lanes: [Lane; 2],
    /// Requests whose answer has not begun, or goes on.
    waiting: VecDeque<Waiting>,
    last_id: ExchangeId,
    last_answered: ExchangeId,
    /// Requests were lost: an answer may belong to one that was not seen.
    uncertain: bool,
}

struct Waiting {
    id: ExchangeId,
    asked: Asked,
}

/// One direction.
#[derive(Default)]
struct Lane {
    state: State,
    /// Bytes of an unfinished head or line that were searched already.
    searched: usize,
    message: Option<Message>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// In a body of known or unknown length; `u64::MAX` when the end of the stream ends it.
    Body {
        left: u64,
    },
    ChunkSize,
    /// In a chunk; CRLF included.
    Chunk {
        left: u64,
    },
    Trailers,
}

/// A message whose head was told.
struct Message {
    id: ExchangeId,
    status: u16,
    content: Content,
}

impl Http1Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Http1Decoder {
            limits,
            lanes: [Lane::default(), Lane::default()],
            waiting: VecDeque::new(),
            last_id: 0,
            last_answered: 0,
            uncertain: false,
        }
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }

    fn frame_head(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let blank = bytes.len() - head::without_blank_lines(bytes).len();
        if blank == bytes.len() {
            // Told as a frame that says nothing: kept, they would be looked at again with each byte.
            return Framing::Frame(blank);
        }
        let searched = std::mem::replace(&mut self.lane(direction).searched, bytes.len());
        let Some(end) = head::end_of_head(bytes, searched) else {
            let begins = || head::message_begins(&bytes[blank..], direction == Direction::Up);
            // Asked while the first line comes, and never again of a line that is long.
            let started = searched > FIRST_LOOK_BYTES || begins() != Some(false);
            return if started { Framing::NeedMore(bytes.len() + 1) } else { Framing::Unframed };
        };
        self.lane(direction).searched = 0;
        match head::parse(&bytes[..end]) {
            Some(head) if fits(&head, direction) => {
                match length::of(&head, self.asked(direction), &mut Vec::new()) {
                    Length::Known(body) => Framing::Streamed { head: end, body },
                    Length::UntilEnd => Framing::Streamed { head: end, body: u64::MAX },
                    Length::Empty | Length::Chunked => Framing::Frame(end),
                }
            }
            _ => Framing::Unframed,
        }
    }

    fn frame_line(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let searched = std::mem::replace(&mut self.lane(direction).searched, bytes.len());
        work::looked_at(bytes.len().saturating_sub(searched));
        let Some(end) = memchr(b'\n', &bytes[searched.min(bytes.len())..]).map(|at| searched + at + 1) else {
            let too_long = bytes.len() > CHUNK_LINE_MAX;
            return if too_long { Framing::Unframed } else { Framing::NeedMore(bytes.len() + 1) };
        };
        self.lane(direction).searched = 0;
        if self.lane(direction).state == State::Trailers {
            return Framing::Frame(end);
        }
        match length::chunk_size(without_line_end(&bytes[..end])) {
            Some((0, _)) => Framing::Frame(end),
            Some((size, _)) => Framing::Streamed { head: end, body: size + 2 },
            None => Framing::Unframed,
        }
    }

    fn asked(&self, direction: Direction) -> Asked {
        match (direction, self.waiting.front()) {
            (Direction::Down, Some(waiting)) => waiting.asked,
            _ => Asked::default(),
        }
    }

    fn on_request(&mut self, head: &Head<'_>, method: &str, target: &[u8], time_ns: u64, out: &mut dyn Out) {
        self.last_id += 1;
        let id = self.last_id;
        let mut odd = head.odd.clone();
        let length = length::of(head, Asked::default(), &mut odd);
        out.request(id, time_ns, fields::request(method, target, head));
        for code in odd {
            out.anomaly(Some(id), code);
        }
        if self.waiting.len() < self.limits.pending_max {
            let asked = Asked { head: method == "HEAD", connect: method == "CONNECT" };
            self.waiting.push_back(Waiting { id, asked });
        } else {
            self.uncertain = true;
        }
        self.begin_body(Direction::Up, Message { id, status: 0, content: Content::of(head) }, length);
        if length == Length::Empty {
            self.finish_request(out);
        }
    }

    fn on_status(&mut self, head: &Head<'_>, status: u16, time_ns: u64, out: &mut dyn Out) {
        let interim = (100..200).contains(&status) && status != 101;
        if interim && !self.waiting.is_empty() {
            return;
        }
        let asked = self.asked(Direction::Down);
        let id = match self.waiting.front() {
            Some(waiting) => waiting.id,
            None => {
                self.last_id += 1;
                self.last_id
            }
        };
        let mut odd = head.odd.clone();
        let length = length::of(head, asked, &mut odd);
        out.fields(id, fields::response(status, head));
        if self.uncertain {
            out.anomaly(Some(id), anomaly::PAIRING_UNCERTAIN);
        }
        for code in odd {
            out.anomaly(Some(id), code);
        }
        self.begin_body(Direction::Down, Message { id, status, content: Content::of(head) }, length);
        if length == Length::Empty {
            self.finish_response(time_ns, out);
        }
        if status == 101 || (asked.connect && (200..300).contains(&status)) {
            out.switch_unknown();
        }
    }

    fn begin_body(&mut self, direction: Direction, message: Message, length: Length) {
        let lane = self.lane(direction);
        lane.message = Some(message);
        lane.state = match length {
            Length::Empty => State::Head,
            Length::Known(left) => State::Body { left },
            Length::UntilEnd => State::Body { left: u64::MAX },
            Length::Chunked => State::ChunkSize,
        };
    }

    fn on_line(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        let text = without_line_end(frame.bytes);
        let bare = !frame.bytes.ends_with(b"\r\n");
        let lane = self.lane(frame.direction);
        let id = lane.message.as_ref().map(|message| message.id);
        if bare {
            out.anomaly(id, anomaly::HTTP1_BARE_LF);
        }
        if lane.state == State::Trailers {
            if text.is_empty() {
                lane.state = State::Head;
                self.finish(frame.direction, frame.time_ns, out);
            } else if let Some(id) = id {
                let prefix = match frame.direction {
                    Direction::Up => names::HTTP_REQUEST_HEADER,
                    Direction::Down => names::HTTP_RESPONSE_HEADER,
                };
                let (mut odd, mut fields) = (Vec::new(), Vec::new());
                fields::headers(&head::headers(frame.bytes, &mut odd), prefix, &mut fields);
                out.fields(id, fields);
                for code in odd {
                    out.anomaly(Some(id), code);
                }
            }
            return;
        }
        match length::chunk_size(text) {
            Some((size, extended)) => {
                lane.state = if size == 0 { State::Trailers } else { State::Chunk { left: size + 2 } };
                if extended {
                    out.anomaly(id, anomaly::HTTP1_CHUNK_EXTENSION);
                }
            }
            None => lane.state = State::Head,
        }
    }

    /// The last two bytes of a chunk are its CRLF.
    fn on_chunk_data(&mut self, body: Body<'_>, left: u64, out: &mut dyn Out) {
        let bytes_max = self.limits.body_bytes_max;
        let lane = &mut self.lanes[body.direction as usize];
        let Some(message) = &mut lane.message else { return };
        let data = left.saturating_sub(2).min(body.bytes.len() as u64) as usize;
        message.content.push(&body.bytes[..data], bytes_max);
        let expected = &b"\r\n"[2 - (left.min(2) as usize)..];
        let ending = &body.bytes[data..];
        if !expected.starts_with(ending) {
            out.anomaly(Some(message.id), anomaly::HTTP1_BAD_CHUNK);
        }
        out.fields(message.id, Vec::new());
        let left = left.saturating_sub(body.bytes.len() as u64);
        lane.state = if left == 0 { State::ChunkSize } else { State::Chunk { left } };
    }

    fn finish(&mut self, direction: Direction, time_ns: u64, out: &mut dyn Out) {
        match direction {
            Direction::Up => self.finish_request(out),
            Direction::Down => self.finish_response(time_ns, out),
        }
    }

    fn finish_request(&mut self, out: &mut dyn Out) {
        let Some(message) = self.lane(Direction::Up).message.take() else { return };
        // The answer may have come before the body's end: then the exchange is told already.
        if message.id > self.last_answered {
            let fields = message.content.into_fields(names::HTTP_REQUEST_SIZE, names::HTTP_REQUEST_BODY);
            if !fields.is_empty() {
                out.fields(message.id, fields);
            }
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
            let content = std::mem::take(&mut request.content);
            fields = content.into_fields(names::HTTP_REQUEST_SIZE, names::HTTP_REQUEST_BODY);
        }
        fields.extend(message.content.into_fields(names::HTTP_RESPONSE_SIZE, names::HTTP_RESPONSE_BODY));
        out.response(message.id, time_ns, outcome, fields);
    }

    /// The order of answers is not known any more.
    fn forget_waiting(&mut self, out: &mut dyn Out) {
        for waiting in self.waiting.drain(..) {
            out.anomaly(Some(waiting.id), anomaly::ANSWER_LOST);
        }
    }
}

impl Decoder for Http1Decoder {
    fn expects(&self, direction: Direction) -> bool {
        direction == Direction::Up
            || !self.waiting.is_empty()
            || self.lanes[Direction::Down as usize].message.is_some()
    }

    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        match self.lane(direction).state {
            State::Head => self.frame_head(direction, bytes),
            State::ChunkSize | State::Trailers => self.frame_line(direction, bytes),
            State::Body { .. } | State::Chunk { .. } => Framing::Unframed,
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>, _cut: u64, out: &mut dyn Out) {
        self.lane(frame.direction).searched = 0;
        if self.lane(frame.direction).state != State::Head {
            return self.on_line(frame, out);
        }
        let Some(head) = head::parse(frame.bytes) else { return };
        match head.start {
            StartLine::Request { method, target, .. } if frame.direction == Direction::Up => {
                self.on_request(&head, method, target, frame.time_ns, out);
            }
            StartLine::Status { status, .. } if frame.direction == Direction::Down => {
                self.on_status(&head, status, frame.time_ns, out);
            }
            _ => {}
        }
    }

    fn on_body(&mut self, body: Body<'_>, out: &mut dyn Out) {
        let bytes_max = self.limits.body_bytes_max;
        let lane = &mut self.lanes[body.direction as usize];
        match lane.state {
            State::Chunk { left } => self.on_chunk_data(body, left, out),
            State::Body { left } => {
                if let Some(message) = &mut lane.message {
                    message.content.push(body.bytes, bytes_max);
                    if body.direction == Direction::Down {
                        out.fields(message.id, Vec::new());
                    }
                }
                if left != u64::MAX {
                    lane.state = State::Body { left: left.saturating_sub(body.bytes.len() as u64) };
                }
                if body.last {
                    lane.state = State::Head;
                    self.finish(body.direction, body.time_ns, out);
                }
            }
            State::Head | State::ChunkSize | State::Trailers => {}
        }
    }

    fn on_gap(&mut self, direction: Direction, lost: u64, out: &mut dyn Out) {
        let lane = &mut self.lanes[direction as usize];
        lane.searched = 0;
        let within = match &mut lane.state {
            State::Body { left: u64::MAX } => true,
            State::Body { left } if *left >= lost => {
                *left -= lost;
                true
            }
            State::Chunk { left } if *left >= lost => {
                *left -= lost;
                true
            }
            _ => false,
        };
        if let Some(message) = &mut lane.message {
            message.content.lose(if within { lost } else { 0 });
        }
        match lane.state {
            State::Chunk { left: 0 } => lane.state = State::ChunkSize,
            State::Body { left: 0 } => {
                lane.state = State::Head;
                self.finish(direction, 0, out);
            }
            _ => {}
        }
        if within {
            return;
        }
        self.lane(direction).state = State::Head;
        if let Some(message) = &self.lane(direction).message {
            out.anomaly(Some(message.id), anomaly::HTTP1_TRUNCATED);
        }
        self.finish(direction, 0, out);
        match direction {
            Direction::Up => self.uncertain = true,
            Direction::Down => self.forget_waiting(out),
        }
    }

    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        let lane = self.lane(direction);
        lane.state = State::Head;
        lane.searched = 0;
        let request = direction == Direction::Up;
        work::looked_at(bytes.len());
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
        starts
            .filter(|start| *start < bytes.len())
            // The first byte may stand in the middle of a line: there a method must be a known one.
            .filter(|start| *start > 0 || !request || head::begins_with_known_method(bytes))
            .find(|start| head::message_begins(&bytes[*start..], request) == Some(true))
    }

    fn on_end(&mut self, direction: Direction, out: &mut dyn Out) {
        let lane = self.lane(direction);
        if lane.state == State::Head && lane.message.is_none() {
            return;
        }
        lane.state = State::Head;
        if let Some(message) = &lane.message {
            out.anomaly(Some(message.id), anomaly::HTTP1_TRUNCATED);
        }
        self.finish(direction, 0, out);
    }

    fn held_bytes(&self) -> usize {
        let kept = self.lanes.iter().filter_map(|lane| lane.message.as_ref());
        kept.map(|message| message.content.kept.capacity()).sum::<usize>()
            + self.waiting.capacity() * size_of::<Waiting>()
    }
}

fn fits(head: &Head<'_>, direction: Direction) -> bool {
    matches!(head.start, StartLine::Request { .. }) == (direction == Direction::Up)
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
