//! Start line and header fields of a message (RFC 9112, 2 to 5). Borrows from the bytes; what is odd becomes a
//! code, never an error.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memrchr};
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::{char, satisfy};
use nom::combinator::{eof, map};
use nom::sequence::{delimited, terminated};
use nom::{IResult, Parser};

use crate::anomaly;
use crate::work;

/// Header fields of one message that are kept.
pub(super) const HEADERS_MAX: usize = 128;
/// Longest name of a header field; a longer one is odd.
const NAME_BYTES_MAX: usize = 128;
/// Longest method.
const METHOD_BYTES_MAX: usize = 24;

/// A header field: name as it came, value without surrounding space.
pub(super) type Header<'a> = (&'a str, Cow<'a, [u8]>);

/// What a message begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) start: StartLine<'a>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) odd: Vec<&'static str>,
}

/// First line of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartLine<'a> {
    Request { method: &'a str, target: &'a [u8], minor: u8 },
    Status { status: u16, minor: u8 },
}

impl Head<'_> {
    /// Values of a header field, in order.
    pub(super) fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }

    pub(super) fn minor(&self) -> u8 {
        match self.start {
            StartLine::Request { minor, .. } | StartLine::Status { minor, .. } => minor,
        }
    }
}

/// Empty lines before a request are no part of it (RFC 9112, 2.2).
pub(super) fn without_blank_lines(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    work::looked_at(blank);
    &bytes[blank..]
}

/// Where the head that begins here ends: behind its empty line. Looks only behind `from`, so that a head that
/// comes byte by byte costs linear time.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let blank = bytes.len() - without_blank_lines(bytes).len();
    let from = from.saturating_sub(2).max(blank);
    work::looked_at(bytes.len() - from);
    memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|line_end| {
        match bytes.get(line_end + 1..)? {
            [b'\n', ..] => Some(line_end + 2),
            [b'\r', b'\n', ..] => Some(line_end + 3),
            _ => None,
        }
    })
}

/// Whether a request line begins here: `None` when more is needed to say.
pub(super) fn request_line_begins(bytes: &[u8]) -> Option<bool> {
    work::looked_at(bytes.len());
    let method = bytes.iter().take_while(|byte| is_method(**byte)).count();
    if method == 0 || method > METHOD_BYTES_MAX {
        return Some(false);
    }
    match bytes.get(method) {
        None => return None,
        Some(b' ') => {}
        Some(_) => return Some(false),
    }
    match memchr(b'\n', bytes) {
        Some(end) => Some(request_line(line(&bytes[..end]).0).is_some()),
        None if bytes[method..].iter().any(|byte| matches!(byte, 0 | 0x7f..)) => Some(false),
        // A target so long that its line has no end yet: the form of the rest is proof enough.
        None if bytes.len() > 1024 => Some(matches!(bytes.get(method + 1), Some(b'/' | b'h'))),
        None => None,
    }
}

/// Methods that are registered and in use (RFC 9110, 9.3; RFC 5789; RFC 4918; RFC 3253; RFC 5323).
const KNOWN_METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
];

/// Whether a method that everybody knows stands here, and not the end of one.
pub(super) fn begins_with_known_method(bytes: &[u8]) -> bool {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    KNOWN_METHODS.iter().any(|known| known.as_bytes() == method)
}

/// Whether a message surely begins here: a start line and, behind it, a header field or the empty line.
/// `None` when more is needed to say.
pub(super) fn message_begins(bytes: &[u8], request: bool) -> Option<bool> {
    let Some(end) = memchr(b'\n', bytes) else {
        work::looked_at(bytes.len());
        let possible = if request {
            request_line_begins(bytes) != Some(false)
        } else {
            bytes.starts_with(b"HTTP/") || b"HTTP/".starts_with(bytes)
        };
        return if possible { None } else { Some(false) };
    };
    work::looked_at(end);
    let first = line(&bytes[..end]).0;
    if !(if request { request_line(first).is_some() } else { status_line(first, &mut Vec::new()).is_some() })
    {
        return Some(false);
    }
    let next = &bytes[end + 1..];
    let next_end = memchr(b'\n', next)?;
    let (second, _) = line(&next[..next_end]);
    Some(second.is_empty() || header_name(second).is_some_and(|(_, odd)| !odd))
}

/// Reads a whole head.
pub(super) fn parse(bytes: &[u8]) -> Option<Head<'_>> {
    work::looked_at(bytes.len());
    let bytes = without_blank_lines(bytes);
    let end = memchr(b'\n', bytes)?;
    let mut odd = Vec::new();
    let first = checked_line(&bytes[..end], &mut odd);
    let start = request_line(first).or_else(|| status_line(first, &mut odd))?;
    let headers = headers(&bytes[end + 1..], &mut odd);
    Some(Head { start, headers, odd })
}

/// Reads header fields up to the empty line; trailers too.
pub(super) fn headers<'a>(bytes: &'a [u8], odd: &mut Vec<&'static str>) -> Vec<Header<'a>> {
    let mut headers: Vec<Header<'a>> = Vec::new();
    let mut kept_last = false;
    let mut at = 0;
    while let Some(length) = memchr(b'\n', &bytes[at..]) {
        let text = checked_line(&bytes[at..at + length], odd);
        at += length + 1;
        if text.is_empty() {
            break;
        }
        if matches!(text[0], b' ' | b'\t') {
            note(odd, anomaly::HTTP1_OBS_FOLD);
            if let Some((_, value)) = headers.last_mut().filter(|_| kept_last) {
                let value = value.to_mut();
                value.push(b' ');
                value.extend_from_slice(text.trim_ascii());
            }
            continue;
        }
        kept_last = false;
        let Some((name, is_odd)) = header_name(text) else {
            note(odd, anomaly::HTTP1_BAD_HEADER);
            continue;
        };
        if is_odd {
            note(odd, anomaly::HTTP1_BAD_HEADER);
        }
        if headers.len() == HEADERS_MAX {
            note(odd, anomaly::HTTP1_TOO_MANY_HEADERS);
            continue;
        }
        let colon = memchr(b':', text).unwrap_or(text.len());
        let value = text.get(colon + 1..).unwrap_or_default().trim_ascii();
        headers.push((name, Cow::Borrowed(value)));
        kept_last = true;
    }
    headers
}

/// The name of a header line, and whether space stands before its colon.
fn header_name(text: &[u8]) -> Option<(&str, bool)> {
    let name = &text[..memchr(b':', text)?];
    let trimmed = name.trim_ascii_end();
    let valid =
        !trimmed.is_empty() && trimmed.len() <= NAME_BYTES_MAX && trimmed.iter().all(|b| is_token(*b));
    let text = std::str::from_utf8(trimmed).ok().filter(|_| valid)?;
    Some((text, trimmed.len() != name.len()))
}

/// A line without its CR, and whether it had one.
fn line(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.split_last() {
        Some((b'\r', rest)) => (rest, true),
        _ => (bytes, false),
    }
}

fn checked_line<'a>(bytes: &'a [u8], odd: &mut Vec<&'static str>) -> &'a [u8] {
    let (text, ended) = line(bytes);
    if !ended {
        note(odd, anomaly::HTTP1_BARE_LF);
    }
    if memchr(b'\r', text).is_some() {
        note(odd, anomaly::HTTP1_BARE_CR);
    }
    text
}

/// Adds a code once.
pub(super) fn note(odd: &mut Vec<&'static str>, code: &'static str) {
    if !odd.contains(&code) {
        odd.push(code);
    }
}

/// `METHOD SP target SP HTTP/1.x`; the target may hold spaces, as some clients send them.
fn request_line(text: &[u8]) -> Option<StartLine<'_>> {
    let (after, method) = method(text).ok()?;
    let space = memrchr(b' ', after)?;
    let (_, minor) = version(&after[space + 1..]).ok()?;
    let target = after[..space].trim_ascii();
    (!target.is_empty()).then_some(())?;
    Some(StartLine::Request { method: std::str::from_utf8(method).ok()?, target, minor })
}

/// `HTTP/1.x SP ddd [SP reason]`, and what servers send instead: another version, too few or too many digits,
/// bytes behind them. Those are told as they are read most often, and noted.
fn status_line<'a>(text: &'a [u8], odd: &mut Vec<&'static str>) -> Option<StartLine<'a>> {
    let space = memchr(b' ', text)?;
    let minor = match (version(&text[..space]), &text[..space]) {
        (Ok((_, minor)), _) => minor,
        (_, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => {
            note(odd, anomaly::HTTP1_BAD_STATUS);
            0
        }
        _ => return None,
    };
    let code = text[space..].trim_ascii_start();
    let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits != 3 || !matches!(code.get(3), None | Some(b' ' | b'\t')) {
        note(odd, anomaly::HTTP1_BAD_STATUS);
    }
    let status = std::str::from_utf8(&code[..digits.min(4)]).ok()?.parse().ok()?;
    Some(StartLine::Status { status, minor })
}

fn method(text: &[u8]) -> IResult<&[u8], &[u8], ()> {
    terminated(take_while_m_n(1, METHOD_BYTES_MAX, is_method), char(' ')).parse(text)
}

fn version(text: &[u8]) -> IResult<&[u8], u8, ()> {
    let digit = satisfy(|digit| digit.is_ascii_digit());
    map(delimited(tag(&b"HTTP/1."[..]), digit, eof), |digit| digit as u8 - b'0').parse(text)
}

fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
