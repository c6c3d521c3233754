//! Which protocol a session speaks: the first bytes of both directions go to every registered probe; what
//! nobody knows is classified, never shown.

use crate::driver::Driver;
use crate::protocol::{Direction, Heads, Limits, Probe, Protocol};
use crate::registry;

/// First bytes of a direction that are looked at.
const HEAD_BYTES: usize = 4096;
/// A stream that is joined in the middle is looked at so many times.
const MIDDLE_ATTEMPTS: u32 = 64;

/// Who reads the bytes of a session.
pub(crate) enum Reader {
    /// Not known yet.
    Undecided(First),
    /// A decoder.
    Decoding(Box<Driver>),
    /// Nobody: the bytes are counted.
    Counting,
}

/// First bytes of both directions.
#[derive(Default)]
pub(crate) struct First {
    pub(crate) heads: [Vec<u8>; 2],
    /// Position and time of each head's first byte.
    pub(crate) began: [(u64, u64); 2],
    attempts: u32,
}

/// What looking at the first bytes gave.
pub(crate) enum Verdict {
    /// More bytes are needed.
    More,
    /// TLS: the plaintext is to be had from its library, or not at all.
    Tls,
    /// This protocol, with up and down swapped or not.
    Known(&'static dyn Protocol, bool),
    /// What came is in the middle of something: it is left out, and the next chunk is looked at.
    Again,
    /// Nobody knows it.
    Unknown(&'static str),
}

impl First {
    pub(crate) fn push(&mut self, direction: Direction, position: u64, time_ns: u64, bytes: &[u8]) {
        let index = direction as usize;
        if self.heads[index].is_empty() {
            self.began[index] = (position, time_ns);
        }
        self.heads[index].extend_from_slice(bytes);
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.heads.iter().map(Vec::capacity).sum()
    }

    pub(crate) fn decide(&mut self, port: u16, middle: bool, wire: bool) -> Verdict {
        let [up, down] = &self.heads;
        let short = |head: &[u8]| head[..head.len().min(HEAD_BYTES)].len();
        let heads = Heads { up: &up[..short(up)], down: &down[..short(down)], port };
        if wire && (is_tls(up, middle) || is_tls(down, middle)) {
            return Verdict::Tls;
        }
        let mut more = wire && (may_become_tls(up) || may_become_tls(down));
        for protocol in registry::PROTOCOLS {
            match protocol.probe(heads) {
                Probe::Yes => return Verdict::Known(*protocol, false),
                Probe::Reversed => return Verdict::Known(*protocol, true),
                Probe::More => more = true,
                Probe::No => {}
            }
        }
        if more && up.len() < HEAD_BYTES && down.len() < HEAD_BYTES {
            return Verdict::More;
        }
        self.attempts += 1;
        if middle && self.attempts < MIDDLE_ATTEMPTS {
            return Verdict::Again;
        }
        Verdict::Unknown(classify(up, down))
    }
}

/// A decoder for what was found.
pub(crate) fn open(protocol: &'static dyn Protocol, limits: &Limits, middle: bool) -> Box<Driver> {
    Box::new(Driver::new(protocol.open(limits, middle), *limits))
}

/// A record of TLS: a handshake at the beginning, any type in the middle.
fn is_tls(head: &[u8], middle: bool) -> bool {
    let [kind, 3, minor, high, low, ..] = *head else { return false };
    let length = u16::from_be_bytes([high, low]);
    let kinds = if middle { 20..=23 } else { 22..=22 };
    kinds.contains(&kind) && minor <= 4 && (1..=(1 << 14) + 256).contains(&length)
}

fn may_become_tls(head: &[u8]) -> bool {
    !head.is_empty() && head.len() < 5 && head[0] == 22 && head.get(1).is_none_or(|major| *major == 3)
}

/// What kind of bytes these are, in one word.
pub(crate) fn classify(up: &[u8], down: &[u8]) -> &'static str {
    let starts = |prefix: &[u8]| up.starts_with(prefix) || down.starts_with(prefix);
    let head = if up.is_empty() { down } else { up };
    if starts(b"SSH-") {
        "ssh"
    } else if starts(b"PRI * HTTP/2.0") {
        "http2"
    } else if is_tls(up, false) || is_tls(down, false) {
        "tls"
    } else if head.is_empty() {
        "empty"
    } else if std::str::from_utf8(&head[..head.len().min(64)]).is_ok_and(is_printable) {
        "text"
    } else {
        "binary"
    }
}

fn is_printable(text: &str) -> bool {
    text.chars().all(|character| !character.is_control() || matches!(character, '\r' | '\n' | '\t'))
}
