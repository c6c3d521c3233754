//! Start line and header fields of a message (RFC 9112, 2 to 5). Borrows from the bytes; what is odd becomes a
//! code, never an error.

use std::borrow::Cow;

use crate::anomaly;
use crate::work;
use memchr::{memchr, memchr_iter, memchr2, memrchr};

/// Header fields of one message that are kept.
pub(super) const HEADERS_MAX: usize = 128;
/// Longest name of a header field; a longer one is odd.
const NAME_BYTES_MAX: usize = 128;
/// Longest method.
const METHOD_BYTES_MAX: usize = 32;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Some(end) => Some(request_line(line(&bytes[..end]).0, &mut Vec::new()).is_some()),
        None if bytes[method..].iter().any(|byte| matches!(byte, 0 | 0x7f..)) => Some(false),
        // A target so long that its line has no end yet: the form of the rest is proof enough.
        None if bytes.len() > 1024 => Some(matches!(bytes.get(method + 1), Some(b'/' | b'h'))),
        None => None,
    }
}

/// Methods that are registered (RFC 9110, 16.1.1, and the registry that it founds).
const KNOWN_METHODS: &[&str] = &[
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "LABEL",
    "LINK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "ORDERPATCH",
    "QUERY",
    "REBIND",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// Whether a method that everybody knows stands here, and not the end of one.
pub(super) fn begins_with_known_method(bytes: &[u8]) -> bool {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    KNOWN_METHODS.iter().any(|known| known.as_bytes() == method)
}

/// Whether a method that everybody knows stands here, alone or before a target.
fn begins_with_bare_method(bytes: &[u8]) -> bool {
    let bare = |rest: &[u8]| matches!(rest.first(), Some(b' ' | b'\r'));
    KNOWN_METHODS.iter().any(|known| bytes.strip_prefix(known.as_bytes()).is_some_and(bare))
}

/// Whether a message surely begins here: a start line and, behind it, a header field or the empty line. Where a message
/// is due, a request line of any kind is one. `None` when more is needed to say.
pub(super) fn message_begins(bytes: &[u8], request: bool, due: bool) -> Option<bool> {
    let Some(end) = memchr(b'\n', bytes) else {
        work::looked_at(bytes.len());
        let possible = if request {
            request_line_begins(bytes) != Some(false) || due && begins_with_bare_method(bytes)
        } else {
            STATUS_BEGINS.iter().any(|begins| bytes.starts_with(begins) || begins.starts_with(bytes))
        };
        return if possible { None } else { Some(false) };
    };
    work::looked_at(end);
    let first = line(&bytes[..end]).0;
    let odd = &mut Vec::new();
    let start = match (request, due) {
        (true, true) => any_request_line(first, odd),
        (true, false) => request_line(first, odd),
        (false, _) => status_line(first, odd),
    };
    if start.is_none() {
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
    let status = STATUS_BEGINS.iter().any(|begins| first.starts_with(begins));
    let start = if status { status_line(first, &mut odd) } else { any_request_line(first, &mut odd) }?;
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
            note(odd, anomaly::HTTP1_SPACE_BEFORE_COLON);
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
    if memchr2(b'\r', 0, text).is_some() {
        for (byte, code) in [(b'\r', anomaly::HTTP1_BARE_CR), (0, anomaly::HTTP1_NUL)] {
            if text.contains(&byte) {
                note(odd, code);
            }
        }
    }
    text
}

/// Adds a code once.
pub(super) fn note(odd: &mut Vec<&'static str>, code: &'static str) {
    if !odd.contains(&code) {
        odd.push(code);
    }
}

/// `METHOD SP target SP HTTP/1.x`. What some programs send instead is told as most servers read it, and noted: spaces
/// in the target, another version, bytes in a method that none may hold.
fn request_line<'a>(text: &'a [u8], odd: &mut Vec<&'static str>) -> Option<StartLine<'a>> {
    let method_end = memchr(b' ', text).filter(|end| (1..=METHOD_BYTES_MAX).contains(end))?;
    let (method, after) = text.split_at(method_end);
    if !method.iter().copied().all(is_method) || method == b"PRI" {
        return None;
    }
    let trimmed = after.trim_ascii_end();
    let space = memrchr(b' ', trimmed)?;
    let minor = match &trimmed[space + 1..] {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        version => {
            let minor = other_version(version)?;
            note(odd, anomaly::HTTP1_BAD_VERSION);
            minor
        }
    };
    let between = &trimmed[..space];
    let target = between.trim_ascii();
    if target.is_empty() {
        return None;
    }
    if trimmed.len() < after.len()
        || target.len() + 1 < between.len()
        || memchr2(b' ', b'\t', target).is_some()
    {
        note(odd, anomaly::HTTP1_REQUEST_LINE_SPACE);
    }
    if !method.iter().copied().all(is_token) {
        note(odd, anomaly::HTTP1_BAD_METHOD);
    }
    Some(StartLine::Request { method: std::str::from_utf8(method).ok()?, target, minor })
}

/// A request line without a version, or without anything but its method: told where that is a registered one, as
/// servers answer it. A request of HTTP/0.9 is none.
fn any_request_line<'a>(text: &'a [u8], odd: &mut Vec<&'static str>) -> Option<StartLine<'a>> {
    if let Some(start) = request_line(text, odd) {
        return Some(start);
    }
    let mut words = text.splitn(3, |byte| *byte == b' ');
    let method = std::str::from_utf8(words.next()?).ok()?;
    if !KNOWN_METHODS.contains(&method) || is_simple_request(text) {
        return None;
    }
    note(odd, anomaly::HTTP1_BAD_VERSION);
    Some(StartLine::Request { method, target: words.next().unwrap_or_default(), minor: 1 })
}

/// A version that is not 1.0 or 1.1, in either case: which of the two it is read as.
fn other_version(text: &[u8]) -> Option<u8> {
    let (name, version) = text.split_at_checked(5)?;
    let [major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9', rest @ ..] = version else { return None };
    let named = name.eq_ignore_ascii_case(b"http/") && rest.iter().all(u8::is_ascii_digit);
    named.then_some(u8::from((*major, *minor) >= (b'1', b'1')))
}

/// Whether this line, without its end, is a request of HTTP/0.9 (RFC 1945, 4.1).
fn is_simple_request(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let target = line.strip_prefix(b"GET /").or_else(|| line.strip_prefix(b"GET http://"));
    target.is_some_and(|target| target.iter().all(u8::is_ascii_graphic))
}

/// Of a request of HTTP/0.9 at the head of `bytes`, its target and where it ends.
pub(super) fn simple_request(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr(b'\n', bytes)?;
    let (text, _) = line(&bytes[..end]);
    is_simple_request(text).then(|| (text[4..].trim_ascii_end(), end + 1))
}

/// What an answer begins with; servers of Shoutcast say `ICY`.
const STATUS_BEGINS: [&[u8]; 2] = [b"HTTP/", b"ICY "];

/// `HTTP/1.x SP ddd [SP reason]`, and what servers send instead: another version, too few or too many digits,
/// bytes behind them. Those are told as they are read most often, and noted.
fn status_line<'a>(text: &'a [u8], odd: &mut Vec<&'static str>) -> Option<StartLine<'a>> {
    let space = memchr(b' ', text)?;
    let code = text[space..].trim_ascii_start();
    let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sure = digits == 3 && matches!(code.get(3), None | Some(b' ' | b'\t'));
    if !sure {
        note(odd, anomaly::HTTP1_BAD_STATUS);
    }
    let minor = match &text[..space] {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => minor - b'0',
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            note(odd, anomaly::HTTP1_BAD_STATUS);
            0
        }
        version
            if sure && STATUS_BEGINS.iter().any(|begins| version.starts_with(begins.trim_ascii_end())) =>
        {
            note(odd, anomaly::HTTP1_BAD_STATUS);
            let minor = version.strip_prefix(b"HTTP/1.").unwrap_or_default();
            u8::from(minor.iter().any(|digit| *digit != b'0'))
        }
        _ => return None,
    };
    let status = std::str::from_utf8(&code[..digits.min(4)]).ok()?.parse().ok()?;
    Some(StartLine::Status { status, minor })
}

fn is_method(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
