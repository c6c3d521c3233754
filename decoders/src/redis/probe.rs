//! Is it Redis, and where does a value surely begin? Never by one plausible byte: a command whose lengths fit its name,
//! or two headers that agree.

use super::PORTS;
use super::lane::Grammar;
use super::table;
use super::token::{self, Scan, Token};
use crate::protocol::{Heads, Probe};
use crate::work;

/// Lines and bulks that a look into bytes skips over; longer ones prove nothing, and may be no frame.
const BULK_BYTES_MAX: usize = 2 << 10;

/// What the first bytes of a direction look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Nothing,
    Unsure,
    /// A command that is known.
    Command,
    /// An array of bulks: a command of some module, or a reply.
    Array,
    /// An inline command that is known.
    Line,
    /// A value that only servers send.
    Reply,
    /// A value that other protocols' servers send as well.
    MaybeReply,
    Other,
}

/// Names that are commands in other protocols of lines too: there the other side must speak RESP, or the port be ours.
pub(super) fn probe(heads: Heads<'_>) -> Probe {
    let ours = PORTS.contains(&heads.port);
    let (up, down) = (sight(heads.up), sight(heads.down));
    match (sides(up, down, ours), sides(down, up, false)) {
        (Probe::Yes, _) => Probe::Yes,
        (_, Probe::Yes) if up != Sight::Nothing => Probe::Reversed,
        (Probe::No, Probe::No) => Probe::No,
        _ => Probe::More,
    }
}

fn sides(client: Sight, server: Sight, ours: bool) -> Probe {
    use Sight::{Array, Command, Line, MaybeReply, Nothing, Other, Reply, Unsure};
    match (client, server) {
        (Command, _) => Probe::Yes,
        (Array, Reply | MaybeReply) => Probe::Yes,
        (Line, Reply | MaybeReply | Array | Command) => Probe::Yes,
        (Line, Nothing) if ours => Probe::Yes,
        // Only a server of this protocol says so, whatever it was asked.
        (Nothing | Other | MaybeReply | Unsure, Reply) => Probe::Yes,
        (Reply | MaybeReply | Other, _) | (Array | Line, Other) => Probe::No,
        (Nothing, Other) => Probe::No,
        (Nothing, MaybeReply) if ours => Probe::Yes,
        (Nothing | Unsure | Array | Line, _) => Probe::More,
    }
}

fn sight(bytes: &[u8]) -> Sight {
    // The server passes over empty lines.
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if blank == bytes.len() && blank > 0 {
        return Sight::Unsure;
    }
    let bytes = &bytes[blank..];
    match bytes.first() {
        None => Sight::Nothing,
        Some(b'*') => match array(without_empty_arrays(bytes)) {
            Sight::Command => Sight::Command,
            _ => array(bytes),
        },
        Some(
            b'+' | b'-' | b':' | b'$' | b'%' | b'~' | b'>' | b'_' | b',' | b'#' | b'(' | b'=' | b'!' | b'|',
        ) => value(bytes),
        Some(byte) if byte.is_ascii_alphabetic() => line(bytes),
        Some(_) => Sight::Other,
    }
}

/// The server passes over commands of no words as well; from a server, such an array is a reply.
fn without_empty_arrays(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"*0\r\n").or_else(|| bytes.strip_prefix(b"*-1\r\n")) {
        bytes = rest;
    }
    bytes
}

fn array(bytes: &[u8]) -> Sight {
    match command(bytes) {
        Found::Sure(name) if !table::find(name).name.is_empty() || name.contains(&b'.') => Sight::Command,
        Found::Sure(name) if MESSAGES.contains(&name) => Sight::Reply,
        Found::Sure(_) => Sight::Array,
        Found::Open => Sight::Unsure,
        Found::None => match header(bytes) {
            Header::Whole(length) => match header(&bytes[length..]) {
                Header::Whole(_) => Sight::MaybeReply,
                Header::More => Sight::MaybeReply,
                Header::None => Sight::Other,
            },
            Header::More => Sight::Unsure,
            Header::None => Sight::Other,
        },
    }
}

/// First words of what a server says to those who listen.
const MESSAGES: [&[u8]; 3] = [b"message", b"pmessage", b"smessage"];
/// Words by which a server of Redis turns a client away, or says what it is at.
const TURNED_AWAY: [&str; 8] = [
    "-DENIED Redis",
    "-ERR max number of clients",
    "-ERR unknown command '",
    "-ERR Protocol error: ",
    "-NOAUTH Auth",
    "-LOADING Redis",
    "-MASTERDOWN Link",
    "-MISCONF Redis",
];

fn value(bytes: &[u8]) -> Sight {
    if TURNED_AWAY.iter().any(|words| bytes.starts_with(words.as_bytes())) {
        return Sight::Reply;
    }
    match header(bytes) {
        Header::More => Sight::Unsure,
        Header::None => Sight::Other,
        Header::Whole(length) if bytes[0] == b'>' => match header(&bytes[length..]) {
            Header::None => Sight::Other,
            Header::Whole(_) => Sight::Reply,
            Header::More => Sight::Unsure,
        },
        Header::Whole(_) => Sight::MaybeReply,
    }
}

fn line(bytes: &[u8]) -> Sight {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        let word = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        return if word <= table::NAME_BYTES_MAX && bytes.len() < 1024 {
            Sight::Unsure
        } else {
            Sight::Other
        };
    };
    let line = bytes[..end].trim_ascii_end();
    // The start line of another protocol may begin with GET as well.
    let versioned = line.rsplit(|byte| *byte == b' ').next().is_some_and(|word| {
        word.contains(&b'/')
            && word.len() > 4
            && word.is_ascii()
            && word[..4].iter().all(u8::is_ascii_uppercase)
    });
    let printable = line.iter().all(|byte| (b' '..0x7f).contains(byte) || *byte == b'\t');
    if printable && !versioned && table::begins_with_known(line) { Sight::Line } else { Sight::Other }
}

enum Found<'a> {
    Sure(&'a [u8]),
    Open,
    None,
}

/// A command's first two headers and its name, which the second length fits.
fn command(bytes: &[u8]) -> Found<'_> {
    let (count, length) = match token::command(bytes, 0, BULK_BYTES_MAX, false) {
        Scan::Token(Token::Open(_, Some(count)), length) => (count, length),
        Scan::More(_) => return Found::Open,
        _ => return Found::None,
    };
    let rest = &bytes[length..];
    match token::command(rest, 0, BULK_BYTES_MAX, true) {
        Scan::Token(Token::Bulk(_, name, true), length) if is_name(name) => match rest.get(length) {
            Some(b'$') if count > 1 => Found::Sure(name),
            Some(_) if count > 1 => Found::None,
            None if count > 1 => Found::Open,
            Some(b'*') | None => Found::Sure(name),
            Some(_) => Found::None,
        },
        Scan::More(wanted) if wanted <= table::NAME_BYTES_MAX + 16 => Found::Open,
        _ => Found::None,
    }
}

fn is_name(name: &[u8]) -> bool {
    (1..=table::NAME_BYTES_MAX).contains(&name.len())
        && name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

enum Header {
    /// A header, or a whole value of one line or of a short bulk.
    Whole(usize),
    More,
    None,
}

fn header(bytes: &[u8]) -> Header {
    match token::reply(bytes, 0, BULK_BYTES_MAX) {
        Scan::Token(Token::Bulk(_, _, false) | Token::Large(..) | Token::Close | Token::CloseString, _) => {
            Header::None
        }
        Scan::Token(Token::Bulk(b';', ..), _) => Header::None,
        Scan::Token(Token::Line(_, text), _) if text.iter().any(|byte| *byte < b' ') => Header::None,
        Scan::Token(Token::Line(..), length) if length > BULK_BYTES_MAX => Header::None,
        Scan::Token(_, length) => Header::Whole(length),
        Scan::More(_) if bytes.len() <= BULK_BYTES_MAX => Header::More,
        _ => Header::None,
    }
}

/// Where in `bytes` a value of this grammar surely begins: the first place whose headers agree, unless an earlier one may
/// still turn out to be it.
pub(super) fn resync(grammar: Grammar, bytes: &[u8]) -> Option<usize> {
    work::looked_at(bytes.len());
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
    for start in starts.filter(|start| *start < bytes.len()) {
        let rest = &bytes[start..];
        let found = match grammar {
            Grammar::Replies => two_headers(rest),
            _ if rest[0] == b'*' => command(rest),
            _ => Found::None,
        };
        match found {
            Found::Sure(_) => return Some(start),
            Found::Open => return None,
            Found::None => {}
        }
    }
    None
}

fn two_headers(bytes: &[u8]) -> Found<'_> {
    let length = match header(bytes) {
        Header::Whole(length) => length,
        Header::More => return Found::Open,
        Header::None => return Found::None,
    };
    match header(&bytes[length..]) {
        Header::Whole(_) => Found::Sure(&[]),
        Header::More => Found::Open,
        Header::None => Found::None,
    }
}
