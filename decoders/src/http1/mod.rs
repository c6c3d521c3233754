//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112).
//!
//! In flow order: [`probe`](Protocol::probe) (is it this protocol) → `head` (start line and headers) → `length`
//! (where the body ends) → `framing` (heads, chunks, trailers) → `decoder` and `message` (state, pairing) → `fields`
//! (what heads tell) and `body` with `form`, `multipart` and `events` (what bodies tell). README.md says what is decoded
//! and what is not.

mod body;
mod decoder;
mod events;
mod fields;
mod form;
mod framing;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub mod fuzz;
mod head;
mod length;
mod message;
mod multipart;

use crate::protocol::{Decoder, Heads, Limits, Probe, Protocol};

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http1;

impl Protocol for Http1 {
    fn name(&self) -> &'static str {
        "http"
    }

    fn ports(&self) -> &'static [u16] {
        &[80, 8000, 8080]
    }

    fn probe(&self, heads: Heads<'_>) -> Probe {
        let up = Start::of(heads.up);
        let down = Start::of(heads.down);
        match (up, down) {
            (Start::Simple, Start::Status) => Probe::Yes,
            (Start::Simple, Start::Nothing) => Probe::More,
            (Start::Simple, Start::Unsure) if !heads.down.starts_with(b"<") => Probe::More,
            // Other protocols have commands that look so: the answer, or the port, must fit too.
            (Start::Simple, _) => {
                let fits = heads.down.starts_with(b"<") || self.ports().contains(&heads.port);
                if fits { Probe::Yes } else { Probe::No }
            }
            (Start::Request, _) => Probe::Yes,
            (_, Start::Request) => Probe::Reversed,
            (Start::Status, Start::Nothing) => Probe::Reversed,
            (Start::Nothing, Start::Status) => Probe::Yes,
            // Only a server of this protocol says so, whatever it was asked.
            (Start::Other | Start::Unsure, Start::Status) => Probe::Yes,
            (Start::Status, Start::Other | Start::Unsure) => Probe::Reversed,
            (Start::Other, Start::Nothing | Start::Unsure) => Probe::More,
            (Start::Other, _) | (_, Start::Other) => Probe::No,
            _ => Probe::More,
        }
    }

    fn open(&self, limits: &Limits, middle: bool) -> Box<dyn Decoder> {
        Box::new(decoder::Http1Decoder::new(*limits, middle))
    }
}

/// What the first bytes of a direction look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Nothing,
    Unsure,
    Request,
    /// A request of HTTP/0.9.
    Simple,
    Status,
    Other,
}

impl Start {
    fn of(bytes: &[u8]) -> Start {
        let bytes = head::without_blank_lines(bytes);
        if bytes.is_empty() {
            return Start::Nothing;
        }
        if bytes.starts_with(b"HTTP/1.") {
            return Start::Status;
        }
        if b"HTTP/1.".starts_with(bytes) {
            return Start::Unsure;
        }
        match head::request_line_begins(bytes) {
            Some(true) => Start::Request,
            Some(false) if head::simple_request(bytes).is_some() => Start::Simple,
            Some(false) => Start::Other,
            None => Start::Unsure,
        }
    }
}

#[cfg(test)]
crate::harness::tests!(Http1, "http1");

#[cfg(test)]
mod tests;
