//! Is it PostgreSQL, and where does a message surely begin? Never by one plausible byte: a start-up packet
//! with its code, or two messages in a row whose bodies are what their types say.

use crate::protocol::{Direction, Heads, Probe};
use crate::work;

use super::frame::{self, HEADER_BYTES, Head};
use super::parse;

/// What one direction's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Startup,
    Messages,
    More,
    Nothing,
}

/// Which end speaks PostgreSQL's client side, if any.
pub(super) fn probe(heads: Heads<'_>) -> Probe {
    let straight = sides(heads.up, heads.down);
    let reversed = sides(heads.down, heads.up);
    match (straight, reversed) {
        (Probe::Yes, _) => Probe::Yes,
        (_, Probe::Yes) => Probe::Reversed,
        (Probe::No, Probe::No) => Probe::No,
        _ => Probe::More,
    }
}

fn sides(client: &[u8], server: &[u8]) -> Probe {
    let client = sight(Direction::Up, client);
    let server = sight(Direction::Down, server);
    match (client, server) {
        (Sight::Startup, _) => Probe::Yes,
        (Sight::Nothing, _) | (_, Sight::Nothing) => Probe::No,
        (Sight::Messages, _) | (_, Sight::Messages) => Probe::Yes,
        _ => Probe::More,
    }
}

fn sight(direction: Direction, bytes: &[u8]) -> Sight {
    if bytes.is_empty() {
        return Sight::More;
    }
    if direction == Direction::Up {
        match frame::startup(bytes) {
            Head::Message(..) => return Sight::Startup,
            Head::Short if bytes.first() == Some(&0) => return Sight::More,
            _ => {}
        }
    }
    match chain(direction, bytes, usize::MAX) {
        Chain::Sure => Sight::Messages,
        Chain::Open => Sight::More,
        Chain::Broken => Sight::Nothing,
    }
}

/// Longest message that a resync reads: each place is tried, so what a place may cost is bounded.
const RESYNC_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Where in `bytes` messages surely begin.
pub(super) fn resync(direction: Direction, bytes: &[u8]) -> Option<usize> {
    work::looked_at(bytes.len());
    (0..bytes.len()).find(|start| chain(direction, &bytes[*start..], RESYNC_MESSAGE_BYTES_MAX) == Chain::Sure)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Sure,
    Open,
    Broken,
}

/// Two messages in a row: the first whole and readable, the second at least by its header, and readable too
/// when it is whole. One message is enough when the bytes end with it and it carries a checkable body.
fn chain(direction: Direction, bytes: &[u8], length_max: usize) -> Chain {
    let (kind, length) = match frame::typed(direction, bytes) {
        Head::Message(kind, length) => (kind, length),
        Head::Short => return Chain::Open,
        Head::Foreign(_) | Head::Wrong => return Chain::Broken,
    };
    let Some(body) = bytes.get(HEADER_BYTES..length) else { return Chain::Open };
    work::looked_at(body.len().min(length_max));
    if length > length_max || !readable(direction, kind, body) {
        return Chain::Broken;
    }
    let second = &bytes[length..];
    if second.is_empty() {
        return if tells(direction, kind, body) { Chain::Sure } else { Chain::Open };
    }
    match frame::typed(direction, second) {
        Head::Message(kind, length) => match second.get(HEADER_BYTES..length) {
            Some(body) if length <= length_max && !readable(direction, kind, body) => Chain::Broken,
            _ => Chain::Sure,
        },
        Head::Short => Chain::Open,
        Head::Foreign(_) | Head::Wrong => Chain::Broken,
    }
}

/// The body is what its type says.
fn readable(direction: Direction, kind: u8, body: &[u8]) -> bool {
    match direction {
        Direction::Up => kind == b'd' || parse::from_client(kind, body, false).is_ok(),
        Direction::Down if kind == b'Z' => matches!(body, [b'I' | b'T' | b'E']),
        Direction::Down => kind == b'd' || parse::from_server(kind, body, false).is_ok(),
    }
}

/// The body says by itself that this is PostgreSQL: a statement ends at the message's end and nowhere before,
/// an error has a severity and a SQLSTATE.
fn tells(direction: Direction, kind: u8, body: &[u8]) -> bool {
    match (direction, kind) {
        (Direction::Up, b'Q') => body.len() > 1 && body[..body.len() - 1].iter().all(|byte| *byte >= b'\t'),
        (Direction::Down, b'E' | b'N') => match parse::from_server(kind, body, false) {
            Ok(parse::FromServer::Error(report) | parse::FromServer::Notice(report)) => {
                report.field(b'C').len() == 5 && !report.field(b'S').is_empty()
            }
            _ => false,
        },
        _ => false,
    }
}
