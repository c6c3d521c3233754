//! A body as it comes in pieces: its codings are taken off, and what it says is kept by its shape: one text, the
//! fields of a form, or the events of a stream. What is over a limit is counted. Knows no framing.

use custody_record::{Value, names};

use super::events::Events;
use super::form;
use super::head::Head;
use super::length::Length;
use super::multipart::Multipart;
use crate::content::{Decoding, Stop};
use crate::item::{Class, Field, text};
use crate::protocol::Direction;

/// Names of the fields that tell of a body.
struct Names {
    size: &'static str,
    content: &'static str,
    coding: &'static str,
    decoded_size: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        size: names::HTTP_REQUEST_SIZE,
        content: names::HTTP_REQUEST_BODY,
        coding: names::HTTP_REQUEST_CODING,
        decoded_size: names::HTTP_REQUEST_DECODED_SIZE,
    },
    Names {
        size: names::HTTP_RESPONSE_SIZE,
        content: names::HTTP_RESPONSE_BODY,
        coding: names::HTTP_RESPONSE_CODING,
        decoded_size: names::HTTP_RESPONSE_DECODED_SIZE,
    },
];

/// A body.
pub(super) struct Content {
    direction: Direction,
    media_type: String,
    /// As announced; empty when plain.
    coding: String,
    coded: Coded,
    shape: Shape,
    /// Bytes, decoded from the chunks.
    size: u64,
    /// Of them, bytes that a gap swallowed: what follows the first is not kept.
    lost: u64,
    /// It ended before its end.
    torn: bool,
    /// Bytes without codings.
    decoded: u64,
    odd: Vec<&'static str>,
}

enum Coded {
    /// No coding, or one that nobody knows: the bytes are kept as they come.
    Plain,
    /// The bytes are decoded.
    Open(Box<Decoding>),
    /// Decoding is over, or stopped: then the rest is counted, and what was decoded is `cut`.
    Stopped { cut: bool },
}

enum Shape {
    /// One text, its first bytes.
    Whole(Vec<u8>),
    /// A form: its first bytes.
    Form(Vec<u8>),
    Multipart(Box<Multipart>),
    Events(Box<Events>),
}

impl Content {
    /// What the head says of the body behind it.
    pub(super) fn of(head: &Head<'_>, direction: Direction, length: Length) -> Content {
        let first = |name| head.values(name).next().unwrap_or_default();
        let media_type = short_text(first("content-type").split(|byte| *byte == b';').next());
        let coding = if length == Length::Empty { String::new() } else { codings(head) };
        let (coded, known) = match Decoding::of(&coding) {
            Some(decoding) if decoding.is_identity() => (Coded::Plain, true),
            Some(decoding) => (Coded::Open(Box::new(decoding)), true),
            None => (Coded::Plain, false),
        };
        let endless = matches!(length, Length::Chunked | Length::UntilEnd);
        let shape = match (direction, media_type.as_str()) {
            _ if !known => Shape::Whole(Vec::new()),
            (Direction::Up, "application/x-www-form-urlencoded") => Shape::Form(Vec::new()),
            (Direction::Up, "multipart/form-data") => {
                match form::parameter(first("content-type"), "boundary") {
                    Some(boundary) => Shape::Multipart(Box::new(Multipart::new(&boundary))),
                    None => Shape::Whole(Vec::new()),
                }
            }
            (Direction::Down, media_type) if endless => match Events::of(media_type) {
                Some(events) => Shape::Events(Box::new(events)),
                None => Shape::Whole(Vec::new()),
            },
            _ => Shape::Whole(Vec::new()),
        };
        Content { media_type, coding, coded, shape, ..Content::of_unknown(direction) }
    }

    /// Of a body of which nothing is known.
    pub(super) fn of_unknown(direction: Direction) -> Content {
        Content {
            direction,
            media_type: String::new(),
            coding: String::new(),
            coded: Coded::Plain,
            shape: Shape::Whole(Vec::new()),
            size: 0,
            lost: 0,
            torn: false,
            decoded: 0,
            odd: Vec::new(),
        }
    }

    /// Nothing of it came.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8], time_ns: u64, bytes_max: usize) {
        self.size += bytes.len() as u64;
        if self.lost > 0 {
            return;
        }
        if matches!(self.coded, Coded::Plain) {
            return self.keep(bytes, time_ns, bytes_max);
        }
        let room = match &mut self.shape {
            Shape::Whole(kept) | Shape::Form(kept) => bytes_max.saturating_sub(kept.len()),
            Shape::Multipart(_) => bytes_max.saturating_sub(self.decoded as usize),
            Shape::Events(events) => events.room(time_ns, bytes_max),
        };
        let Coded::Open(decoding) = &mut self.coded else { return };
        let mut plain = Vec::new();
        let stopped = decoding.push(bytes, room, &mut plain);
        self.decoded += plain.len() as u64;
        self.keep(&plain, time_ns, bytes_max);
        if let Err(stop) = stopped {
            self.stop(stop);
        }
    }

    fn keep(&mut self, plain: &[u8], time_ns: u64, bytes_max: usize) {
        match &mut self.shape {
            Shape::Whole(kept) | Shape::Form(kept) => {
                let room = bytes_max.saturating_sub(kept.len());
                kept.extend_from_slice(&plain[..plain.len().min(room)]);
            }
            Shape::Multipart(multipart) => multipart.push(plain, bytes_max),
            Shape::Events(events) => events.push(plain, time_ns, bytes_max),
        }
    }

    fn stop(&mut self, stop: Stop) {
        // What follows the end is no part of the content.
        self.coded = Coded::Stopped { cut: stop != Stop::Trailing };
        self.odd.extend(stop.code());
    }

    /// Bytes of it that will not come.
    pub(super) fn lose(&mut self, bytes: u64) {
        self.size = self.size.saturating_add(bytes);
        self.lost = self.lost.saturating_add(bytes);
        if !matches!(self.coded, Coded::Plain) {
            self.coded = Coded::Stopped { cut: true };
        }
    }

    /// Its message ends before its end.
    pub(super) fn tear(&mut self) {
        self.torn = true;
    }

    /// Codes of what was odd since the last call.
    pub(super) fn take_odd(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.odd)
    }

    /// Events that are whole, as a piece of the body.
    pub(super) fn take_events(&mut self) -> Vec<Field> {
        match &mut self.shape {
            Shape::Events(events) => {
                let piece = events.take();
                if piece.is_empty() { Vec::new() } else { vec![self.body_field(piece, 0)] }
            }
            _ => Vec::new(),
        }
    }

    /// The body is over: what it said and was not told, and what was odd about it.
    pub(super) fn into_fields(mut self) -> (Vec<Field>, Vec<&'static str>) {
        if self.size == 0 {
            return (Vec::new(), Vec::new());
        }
        let names = &NAMES[self.direction as usize];
        let mut fields = vec![Field::structure(names.size, self.size)];
        let decoded = !matches!(self.coded, Coded::Plain);
        if let Coded::Open(decoding) = &self.coded {
            match decoding.finish() {
                Ok(()) => self.coded = Coded::Stopped { cut: false },
                Err(stop) => self.stop(stop),
            }
        }
        let cut = self.lost.max(u64::from(matches!(self.coded, Coded::Stopped { cut: true })));
        if decoded {
            fields.push(Field::structure(names.coding, self.coding.as_str()));
            fields.push(Field::structure(names.decoded_size, self.decoded));
        }
        match std::mem::replace(&mut self.shape, Shape::Whole(Vec::new())) {
            Shape::Whole(kept) => {
                let cut = if decoded { cut } else { self.size - kept.len() as u64 };
                if !kept.is_empty() {
                    fields.push(self.body_field(kept, cut));
                }
            }
            Shape::Form(kept) => {
                let cut = if decoded { cut } else { self.size - kept.len() as u64 };
                let cut = cut.max(u64::from(self.torn));
                form::fields(&kept, cut, &mut fields);
            }
            Shape::Multipart(multipart) => self.odd.extend(multipart.into_fields(&mut fields)),
            Shape::Events(events) => {
                let (rest, rest_cut, odd) = events.into_rest(self.torn || self.lost > 0);
                self.odd.extend(odd);
                if !rest.is_empty() {
                    fields.push(self.body_field(rest, cut.max(rest_cut)));
                }
            }
        }
        (fields, self.odd)
    }

    fn body_field(&self, bytes: Vec<u8>, cut: u64) -> Field {
        // What was decoded is plain; a coding that nobody knows is dropped by masking.
        let plain = !matches!(self.coded, Coded::Plain) || matches!(self.shape, Shape::Events(_));
        let coding = if plain { String::new() } else { self.coding.clone() };
        let class = Class::Body { media_type: self.media_type.clone(), coding };
        Field::new(NAMES[self.direction as usize].content, Value::Bytes(bytes), class).cut_by(cut)
    }

    /// Memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let shape = match &self.shape {
            Shape::Whole(kept) | Shape::Form(kept) => kept.capacity(),
            Shape::Multipart(multipart) => multipart.held_bytes(),
            Shape::Events(events) => events.held_bytes(),
        };
        let decoding = if let Coded::Open(decoding) = &self.coded { decoding.held_bytes() } else { 0 };
        shape + decoding + self.media_type.capacity() + self.coding.capacity()
    }
}

/// Codings in the order in which they were applied: those of the content, then those of the transfer. What is no coding
/// of a transfer (`chunked` is taken off by the framing) hides nothing: the bytes are kept as they are.
fn codings(head: &Head<'_>) -> String {
    let list = |name| {
        head.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|coding| short_text(Some(coding)))
    };
    let of_transfer = |coding: &String| matches!(coding.as_str(), "gzip" | "x-gzip" | "deflate");
    let mut codings = String::new();
    for coding in list("content-encoding").chain(list("transfer-encoding").filter(of_transfer)) {
        if !matches!(coding.as_str(), "" | "identity") && codings.len() < 100 {
            codings.push_str(if codings.is_empty() { "" } else { ", " });
            codings.push_str(&coding);
        }
    }
    codings
}

fn short_text(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default().trim_ascii();
    text(&bytes[..bytes.len().min(100)]).to_ascii_lowercase()
}
