//! The state of one connection: messages of both directions, chunks, and which answer belongs to which request.
//! Answers come in the order of requests (RFC 9112, 9.3).

use std::collections::VecDeque;

use super::body::Content;
use super::head;
use super::length::Asked;
use super::message::ReadHead;
use crate::anomaly;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out};
use crate::work;

pub(super) struct Http1Decoder {
    pub(super) limits: Limits,
    pub(super) lanes: [Lane; 2],
    /// Requests whose answer has not begun, or goes on.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) last_id: ExchangeId,
    pub(super) last_answered: ExchangeId,
    /// Requests were lost: an answer may belong to one that was not seen.
    pub(super) uncertain: bool,
    /// Where a request ended was not known, and one may have stood behind it that was not found.
    pub(super) request_missed: bool,
}

pub(super) struct Waiting {
    pub(super) id: ExchangeId,
    pub(super) time_ns: u64,
    pub(super) asked: Asked,
    /// Status of each interim answer.
    pub(super) interim: Vec<u16>,
}

/// One direction.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) state: State,
    /// Bytes of an unfinished head or line that were searched already.
    pub(super) searched: usize,
    /// A head whose frame is told next: read once, where its end was found.
    pub(super) read: Option<ReadHead>,
    pub(super) message: Option<Message>,
    /// Empty lines came before the message that follows.
    pub(super) blank: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
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
    /// In a head that is longer than a frame; `torn` when a line of it goes on.
    HeadRest {
        torn: bool,
    },
    /// Where the message ends cannot be said: nothing is a frame before a message surely begins.
    Broken,
}

/// A message whose head was told.
pub(super) struct Message {
    pub(super) id: ExchangeId,
    pub(super) status: u16,
    /// Of an answer that leaves HTTP, what for.
    pub(super) upgrade: Option<String>,
    pub(super) content: Content,
    /// Of a head that is longer than a frame: its start line and what says where the body ends. Later the trailers.
    pub(super) lines: Vec<u8>,
}

impl Http1Decoder {
    pub(super) fn new(limits: Limits, middle: bool) -> Self {
        Http1Decoder {
            limits,
            lanes: [Lane::default(), Lane::default()],
            waiting: VecDeque::new(),
            last_id: 0,
            last_answered: 0,
            uncertain: middle,
            request_missed: false,
        }
    }

    /// The body of this request has not ended yet.
    fn is_coming(&self, id: ExchangeId) -> bool {
        self.lanes[Direction::Up as usize].message.as_ref().is_some_and(|message| message.id == id)
    }

    /// The message of this direction ends before its end.
    fn tear(&mut self, direction: Direction, out: &mut dyn Out) {
        if let Some(message) = &mut self.lane(direction).message {
            message.content.tear();
            out.anomaly(Some(message.id), anomaly::HTTP1_TRUNCATED);
        }
    }

    pub(super) fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }
}

impl Decoder for Http1Decoder {
    fn expects(&self, direction: Direction) -> bool {
        let message = self.lanes[direction as usize].message.is_some();
        match direction {
            // What follows the wish to leave HTTP depends on the answer.
            Direction::Up => message || !self.waiting.back().is_some_and(|waiting| waiting.asked.switch),
            // An answer waits for the rest of its request, as long as that is no longer than patience.
            Direction::Down => message || self.waiting.front().is_some_and(|asked| !self.is_coming(asked.id)),
        }
    }

    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        match self.lane(direction).state {
            State::Head => self.frame_head(direction, bytes),
            State::ChunkSize | State::Trailers | State::HeadRest { .. } => self.frame_line(direction, bytes),
            State::Broken => self.frame_broken(direction, bytes),
            State::Body { .. } | State::Chunk { .. } => Framing::Unframed,
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>, _cut: u64, out: &mut dyn Out) {
        self.lane(frame.direction).searched = 0;
        match self.lane(frame.direction).state {
            State::Head => {}
            State::HeadRest { torn } => return self.on_head_rest(frame, torn, out),
            _ => return self.on_line(frame, out),
        }
        let lane = self.lane(frame.direction);
        let read = lane.read.take();
        lane.blank |= matches!(frame.bytes.first(), Some(b'\r' | b'\n'));
        if let Some(head) = read {
            self.on_head(head, frame, out);
        }
    }

    fn on_body(&mut self, body: Body<'_>, out: &mut dyn Out) {
        match self.lane(body.direction).state {
            State::Chunk { left } => self.on_chunk_data(body, left, out),
            State::Body { left } => {
                self.on_content(body.direction, body.bytes, body.time_ns, out);
                let lane = self.lane(body.direction);
                if left != u64::MAX {
                    lane.state = State::Body { left: left.saturating_sub(body.bytes.len() as u64) };
                }
                if body.last {
                    lane.state = State::Head;
                    self.finish(body.direction, body.time_ns, out);
                }
            }
            _ => {}
        }
    }

    /// Of a head whose rest never comes, its start line: a field may go on, or come again.
    fn on_torn(&mut self, torn: Frame<'_>, out: &mut dyn Out) -> bool {
        if self.lane(torn.direction).state != State::Head {
            return false;
        }
        let line_end = memchr::memchr(b'\n', head::without_blank_lines(torn.bytes)).map_or(0, |end| end + 1);
        let line_end = line_end + torn.bytes.len() - head::without_blank_lines(torn.bytes).len();
        let Some(head) = self.read_head(torn.direction, &torn.bytes[..line_end], false) else { return false };
        self.on_head(head, torn, out);
        true
    }

    fn on_gap(&mut self, direction: Direction, lost: u64, out: &mut dyn Out) {
        let lane = &mut self.lanes[direction as usize];
        (lane.searched, lane.read) = (0, None);
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
        self.tear(direction, out);
        self.finish(direction, 0, out);
        match direction {
            Direction::Up => self.uncertain = true,
            Direction::Down => self.forget_waiting(out),
        }
    }

    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        let request = direction == Direction::Up;
        let lane = self.lane(direction);
        let broken = std::mem::replace(&mut lane.state, State::Head) == State::Broken;
        (lane.searched, lane.read) = (0, None);
        self.request_missed |= broken && request;
        work::looked_at(bytes.len());
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
        starts
            .filter(|start| *start < bytes.len())
            // A line may begin with the end of a body: there a method must be a known one.
            .filter(|start| !request || head::begins_with_known_method(&bytes[*start..]))
            .find(|start| head::message_begins(&bytes[*start..], request, false) == Some(true))
    }

    fn on_end(&mut self, direction: Direction, out: &mut dyn Out) {
        let lane = self.lane(direction);
        if lane.state == State::Head && lane.message.is_none() {
            return;
        }
        lane.state = State::Head;
        self.tear(direction, out);
        self.finish(direction, 0, out);
    }

    fn held_bytes(&self) -> usize {
        let kept = self.lanes.iter().filter_map(|lane| lane.message.as_ref());
        kept.map(|message| message.content.held_bytes() + message.lines.capacity()).sum::<usize>()
            + self.waiting.capacity() * size_of::<Waiting>()
    }
}
