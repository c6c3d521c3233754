//! Where heads, chunk lines and trailers end, and what chunks hold (RFC 9112, 2.2, 6 and 7).

use memchr::memchr;

use super::decoder::{Http1Decoder, State};
use super::fields;
use super::head::{self, HEADERS_MAX, note};
use super::length::{self, Length};
use super::message::ReadHead;
use crate::anomaly;
use crate::protocol::{Body, Direction, Frame, Framing, Out};
use crate::work;
use custody_record::names;

/// So long is a beginning without an end asked whether a message begins so.
const FIRST_LOOK_BYTES: usize = 64;
/// Longest size line of a chunk, extensions included, and longest trailer line.
const CHUNK_LINE_MAX: usize = 8192;

impl Http1Decoder {
    pub(super) fn frame_head(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        if self.asked(direction).simple && !bytes.starts_with(b"HTTP/") {
            if b"HTTP/".starts_with(bytes) {
                return Framing::NeedMore(bytes.len() + 1);
            }
            self.lane(direction).read = Some(ReadHead::bare());
            return Framing::Streamed { head: 1, body: u64::MAX };
        }
        let blank = bytes.len() - head::without_blank_lines(bytes).len();
        if blank == bytes.len() {
            // Told as a frame that says nothing: kept, they would be looked at again with each byte.
            return Framing::Frame(blank);
        }
        let searched = std::mem::replace(&mut self.lane(direction).searched, bytes.len());
        let Some(end) = head::end_of_head(bytes, searched) else {
            let begins = || head::message_begins(&bytes[blank..], direction == Direction::Up, true);
            // Asked while the first line comes, and never again of a line that is long.
            let started = searched > FIRST_LOOK_BYTES || begins() != Some(false);
            return match started {
                true if bytes.len() >= self.limits.frame_bytes_max => self.frame_long_head(direction, bytes),
                true => Framing::NeedMore(bytes.len() + 1),
                false => self.frame_simple(direction, blank, bytes),
            };
        };
        if end > self.limits.frame_bytes_max {
            return self.frame_long_head(direction, bytes);
        }
        self.lane(direction).searched = 0;
        let Some(read) = self.read_head(direction, &bytes[..end], true) else {
            return self.frame_simple(direction, blank, bytes);
        };
        let length = read.length;
        self.lane(direction).read = Some(read);
        framed(end, length.unwrap_or(Length::Empty))
    }

    /// What begins no head may be a request of HTTP/0.9: a line.
    fn frame_simple(&mut self, direction: Direction, blank: usize, bytes: &[u8]) -> Framing {
        self.lane(direction).searched = 0;
        let simple = head::simple_request(&bytes[blank..]).filter(|_| direction == Direction::Up);
        let Some((target, end)) = simple.filter(|(_, end)| *end <= self.limits.frame_bytes_max) else {
            return Framing::Unframed;
        };
        self.lane(direction).read = Some(ReadHead::simple_request(target));
        Framing::Frame(blank + end)
    }

    /// A head that does not fit into a frame is told by its first lines; the rest is read line by line.
    fn frame_long_head(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let bytes = &bytes[..bytes.len().min(self.limits.frame_bytes_max)];
        self.lane(direction).searched = 0;
        let end = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let Some(mut read) = self.read_head(direction, &bytes[..end], false) else {
            return Framing::Unframed;
        };
        note(&mut read.odd, anomaly::HTTP1_HEAD_TOO_LONG);
        self.lane(direction).read = Some(read);
        Framing::Frame(end)
    }

    /// A line of the rest of a long head; behind the last one the body begins.
    fn frame_head_rest(&self, direction: Direction, line: &[u8], torn: bool) -> Framing {
        let lane = &self.lanes[direction as usize];
        let Some(message) = lane.message.as_ref().filter(|_| !torn && without_line_end(line).is_empty())
        else {
            return Framing::Frame(line.len());
        };
        let length = head::parse(&message.lines)
            .map_or(Length::UntilEnd, |head| length::of(&head, self.asked(direction), &mut Vec::new()));
        framed(line.len(), length)
    }

    pub(super) fn on_head_rest(&mut self, frame: Frame<'_>, torn: bool, out: &mut dyn Out) {
        let lane = self.lane(frame.direction);
        let Some(message) = &mut lane.message else { return };
        let text = without_line_end(frame.bytes);
        let ends = frame.bytes.ends_with(b"\n");
        lane.state = State::HeadRest { torn: !ends };
        if torn || !ends {
            return;
        }
        if !text.is_empty() {
            let room = message.lines.len() < CHUNK_LINE_MAX && frame.bytes.len() <= CHUNK_LINE_MAX;
            if room && says_framing(text) {
                message.lines.extend_from_slice(frame.bytes);
            }
            return;
        }
        let Some(mut message) = lane.message.take() else { return };
        let lines = std::mem::take(&mut message.lines);
        let Some(head) = head::parse(&lines) else { return };
        let mut odd = Vec::new();
        let length = length::of(&head, self.asked(frame.direction), &mut odd);
        for code in odd {
            out.anomaly(Some(message.id), code);
        }
        self.begin_body(message, length, frame, out);
    }

    pub(super) fn frame_line(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let line_max = CHUNK_LINE_MAX.min(self.limits.frame_bytes_max);
        let lane = &mut self.lanes[direction as usize];
        let searched = std::mem::replace(&mut lane.searched, bytes.len()).min(bytes.len());
        work::looked_at(bytes.len() - searched);
        let end = memchr(b'\n', &bytes[searched..]).map(|at| searched + at + 1);
        let end = match (end.filter(|end| *end <= line_max), lane.state) {
            (Some(end), _) => end,
            (None, _) if bytes.len() < line_max => return Framing::NeedMore(bytes.len() + 1),
            // What says nothing of the body may be as long as it likes.
            (None, State::HeadRest { .. }) => line_max,
            (None, _) => return Framing::Unframed,
        };
        lane.searched = 0;
        match lane.state {
            State::Trailers => return Framing::Frame(end),
            State::HeadRest { torn } => return self.frame_head_rest(direction, &bytes[..end], torn),
            _ => {}
        }
        match length::chunk_size(without_line_end(&bytes[..end])) {
            Ok((size @ 1.., _)) => Framing::Streamed { head: end, body: size + 2 },
            // The last chunk; or none, told so that the message says what was wrong with it.
            Ok((0, _)) | Err(_) => Framing::Frame(end),
        }
    }

    pub(super) fn on_line(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        let text = without_line_end(frame.bytes);
        let bare = !frame.bytes.ends_with(b"\r\n");
        let lane = self.lane(frame.direction);
        let id = lane.message.as_ref().map(|message| message.id);
        if bare {
            out.anomaly(id, anomaly::HTTP1_BARE_LF);
        }
        if lane.state == State::Trailers {
            return self.on_trailer(frame, out);
        }
        match length::chunk_size(text) {
            Ok((size, odd)) => {
                lane.state = if size == 0 { State::Trailers } else { State::Chunk { left: size + 2 } };
                for code in odd {
                    out.anomaly(id, code);
                }
            }
            Err(code) => self.break_off(frame.direction, code, frame.time_ns, out),
        }
    }

    /// Trailers are told together, so that those of one name are joined.
    fn on_trailer(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        let lane = self.lane(frame.direction);
        let Some(message) = &mut lane.message else { return };
        let id = message.id;
        if !without_line_end(frame.bytes).is_empty() {
            match message.lines.len() + frame.bytes.len() <= CHUNK_LINE_MAX {
                true => message.lines.extend_from_slice(frame.bytes),
                false => out.anomaly(Some(id), anomaly::HTTP1_TOO_MANY_HEADERS),
            }
            return;
        }
        let prefix = match frame.direction {
            Direction::Up => names::HTTP_REQUEST_HEADER,
            Direction::Down => names::HTTP_RESPONSE_HEADER,
        };
        let (mut odd, mut fields) = (Vec::new(), Vec::new());
        fields::headers(&head::headers(&message.lines, &mut odd), prefix, &mut fields);
        lane.state = State::Head;
        out.fields(id, fields);
        for code in odd {
            out.anomaly(Some(id), code);
        }
        self.finish(frame.direction, frame.time_ns, out);
    }

    /// Where this message ends cannot be said any more: it is told as it is, and nothing behind it is taken for
    /// a frame before a message surely begins.
    fn break_off(&mut self, direction: Direction, code: &'static str, time_ns: u64, out: &mut dyn Out) {
        let message = self.lane(direction).message.as_mut();
        let id = message.map(|message| {
            message.content.tear();
            message.id
        });
        out.anomaly(id, code);
        self.finish(direction, time_ns, out);
        self.lane(direction).state = State::Broken;
    }

    /// Where a message ended is not known: the next one stands here, or somewhere behind.
    pub(super) fn frame_broken(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let request = direction == Direction::Up;
        let surely = match head::message_begins(bytes, request, false) {
            // All of it is looked at again, so only when there is a good part more.
            None if bytes.len() < CHUNK_LINE_MAX => {
                return Framing::NeedMore(bytes.len() + bytes.len() / 8 + 1);
            }
            begins => begins == Some(true) && (!request || head::begins_with_known_method(bytes)),
        };
        if !surely {
            return Framing::Unframed;
        }
        self.lane(direction).state = State::Head;
        self.frame_head(direction, bytes)
    }

    /// The last two bytes of a chunk are its CRLF.
    pub(super) fn on_chunk_data(&mut self, body: Body<'_>, left: u64, out: &mut dyn Out) {
        let data = left.saturating_sub(2).min(body.bytes.len() as u64) as usize;
        self.on_content(body.direction, &body.bytes[..data], body.time_ns, out);
        let expected = &b"\r\n"[2 - (left.min(2) as usize)..];
        let ending = &body.bytes[data..];
        if !expected.starts_with(ending) {
            return self.break_off(body.direction, anomaly::HTTP1_BAD_CHUNK, body.time_ns, out);
        }
        let left = left.saturating_sub(body.bytes.len() as u64);
        let lane = self.lane(body.direction);
        lane.state = if left == 0 { State::ChunkSize } else { State::Chunk { left } };
    }
}

/// A head, and the body behind it.
fn framed(head: usize, length: Length) -> Framing {
    match length {
        Length::Known(body) => Framing::Streamed { head, body },
        Length::UntilEnd => Framing::Streamed { head, body: u64::MAX },
        Length::Empty | Length::Chunked | Length::Undecidable => Framing::Frame(head),
    }
}

/// Of a head, what says where its body ends: the start line and two header fields.
pub(super) fn start_and_framing_lines(head: &[u8]) -> Vec<u8> {
    let mut lines = head::without_blank_lines(head).split_inclusive(|byte| *byte == b'\n');
    let start = lines.next().unwrap_or_default();
    let framing = lines.filter(|line| says_framing(line) && line.len() <= CHUNK_LINE_MAX).take(HEADERS_MAX);
    std::iter::once(start).chain(framing).flatten().copied().collect()
}

fn says_framing(line: &[u8]) -> bool {
    let name = &line[..memchr(b':', line).unwrap_or(0)];
    let name = name.trim_ascii();
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
