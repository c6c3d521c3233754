//! The pieces of RESP2 and RESP3: one header, line or bulk at a time. Length is law; nothing is kept here.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/> and the RESP3 specification,
//! <https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md>.

use memchr::memchr;

use crate::anomaly;
use crate::work;

/// What the server takes as a bulk by default (`proto-max-bulk-len`), bytes.
const BULK_BYTES_MAX: i64 = 512 << 20;
/// Elements that an aggregate may announce: more is refused by the server.
const ELEMENTS_MAX: i64 = i32::MAX as i64;
/// Digits of a number in a header: an `i64` has nineteen.
const DIGITS_MAX: usize = 19;
/// What the server takes as an inline command (`PROTO_INLINE_MAX_SIZE`), bytes.
pub(super) const INLINE_BYTES_MAX: usize = 64 << 10;
/// CR and LF.
pub(super) const LINE_END_BYTES: usize = 2;

/// One piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A value on one line: `+ - : , # ( _`.
    Line(u8, &'a [u8]),
    /// A value with a length: `$ ! =`, and `;` for a part of a streamed string. Says whether CRLF follows, as it must.
    Bulk(u8, &'a [u8], bool),
    /// The header of one that is longer than is buffered; its bytes follow.
    Large(u8, u64),
    /// `$-1` and `*-1`: nothing, in RESP2.
    Null,
    /// An aggregate begins, `* % ~ > |`: its elements, or `None` when a `.` will end it.
    Open(u8, Option<u64>),
    /// A string begins whose parts follow.
    OpenString,
    /// The last part of it, which is empty.
    CloseString,
    /// The end of an aggregate of unknown length.
    Close,
    /// An inline command (an empty one says nothing).
    Inline(&'a [u8]),
    /// A command without arguments at all, which the server passes over.
    Nothing,
}

/// What stands at the head of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan<'a> {
    /// A piece of so many bytes.
    Token(Token<'a>, usize),
    /// At least so many bytes are needed.
    More(usize),
    /// What cannot be: the code of its anomaly.
    Odd(&'static str),
}

enum Number {
    Whole(i64, usize),
    Streamed(usize),
    More(usize),
    Odd,
}

/// The number of a header, from the byte behind its type, and where its line ends.
fn number(bytes: &[u8]) -> Number {
    if bytes.get(1) == Some(&b'?') {
        return match bytes.get(2..4) {
            None => Number::More(4),
            Some(b"\r\n") => Number::Streamed(4),
            Some(_) => Number::Odd,
        };
    }
    let negative = bytes.get(1) == Some(&b'-');
    let first = 1 + usize::from(negative);
    let mut value: i64 = 0;
    let mut at = first;
    loop {
        match bytes.get(at) {
            None => return Number::More(at + LINE_END_BYTES),
            Some(digit @ b'0'..=b'9') if at - first < DIGITS_MAX => {
                let Some(next) =
                    value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit - b'0')))
                else {
                    return Number::Odd;
                };
                value = next;
                at += 1;
            }
            Some(b'\r') if at > first => break,
            Some(_) => return Number::Odd,
        }
    }
    match bytes.get(at + 1) {
        None => Number::More(at + LINE_END_BYTES),
        Some(b'\n') => Number::Whole(if negative { -value } else { value }, at + LINE_END_BYTES),
        Some(_) => Number::Odd,
    }
}

/// A piece of a reply. `searched` bytes are known to hold no line's end; bulks over `bulk_bytes_max` are
/// [`Token::Large`].
pub(super) fn reply(bytes: &[u8], searched: usize, bulk_bytes_max: usize) -> Scan<'_> {
    match bytes.first() {
        None => Scan::More(1),
        Some(kind @ (b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_')) => line(*kind, bytes, searched),
        Some(kind @ (b'$' | b'!' | b'=' | b';')) => bulk(*kind, bytes, bulk_bytes_max),
        Some(kind @ (b'*' | b'%' | b'~' | b'>' | b'|')) => aggregate(*kind, bytes),
        Some(b'.') => match bytes.get(1..3) {
            None => Scan::More(3),
            Some(b"\r\n") => Scan::Token(Token::Close, 3),
            Some(_) => Scan::Odd(anomaly::REDIS_BAD_VALUE),
        },
        Some(_) => Scan::Odd(anomaly::REDIS_UNKNOWN_TYPE),
    }
}

/// A piece of a command: its head, or one of its arguments.
pub(super) fn command(bytes: &[u8], searched: usize, bulk_bytes_max: usize, within: bool) -> Scan<'_> {
    match (bytes.first(), within) {
        (None, _) => Scan::More(1),
        (Some(b'$'), true) => match bulk(b'$', bytes, bulk_bytes_max) {
            // A server refuses an argument that is none.
            Scan::Token(Token::Null | Token::OpenString, _) => Scan::Odd(anomaly::REDIS_BAD_LENGTH),
            scan => scan,
        },
        (Some(_), true) => Scan::Odd(anomaly::REDIS_UNKNOWN_TYPE),
        (Some(b'*'), false) => match number(bytes) {
            Number::Whole(count, end) if count <= 0 => Scan::Token(Token::Nothing, end),
            Number::Whole(count, end) if count <= ELEMENTS_MAX => {
                Scan::Token(Token::Open(b'*', Some(count.unsigned_abs())), end)
            }
            Number::More(wanted) => Scan::More(wanted),
            _ => Scan::Odd(anomaly::REDIS_BAD_LENGTH),
        },
        (Some(_), false) => inline(bytes, searched),
    }
}

fn inline(bytes: &[u8], searched: usize) -> Scan<'_> {
    let from = searched.min(bytes.len());
    let end = memchr(b'\n', &bytes[from..]).map(|at| from + at);
    work::looked_at(end.unwrap_or(bytes.len()) - from);
    match end {
        Some(end) if end <= INLINE_BYTES_MAX => {
            let line = &bytes[..end];
            Scan::Token(Token::Inline(line.strip_suffix(b"\r").unwrap_or(line)), end + 1)
        }
        None if bytes.len() <= INLINE_BYTES_MAX => Scan::More(bytes.len() + 1),
        _ => Scan::Odd(anomaly::REDIS_BAD_LENGTH),
    }
}

fn line(kind: u8, bytes: &[u8], searched: usize) -> Scan<'_> {
    let from = searched.clamp(1, bytes.len());
    let end = memchr(b'\n', &bytes[from..]).map(|at| from + at);
    work::looked_at(end.unwrap_or(bytes.len()) - from);
    let Some(end) = end else { return Scan::More(bytes.len() + 1) };
    let Some(text) = bytes[1..end].strip_suffix(b"\r") else { return Scan::Odd(anomaly::REDIS_BAD_VALUE) };
    let sound = match kind {
        b'_' => text.is_empty(),
        b'#' => matches!(text, b"t" | b"f"),
        b':' | b'(' => is_integer(text),
        b',' => !text.is_empty(),
        _ => true,
    };
    if sound { Scan::Token(Token::Line(kind, text), end + 1) } else { Scan::Odd(anomaly::REDIS_BAD_VALUE) }
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn bulk(kind: u8, bytes: &[u8], bulk_bytes_max: usize) -> Scan<'_> {
    let (length, head) = match number(bytes) {
        Number::Whole(0, head) if kind == b';' => return Scan::Token(Token::CloseString, head),
        Number::Whole(length, head) if (0..=BULK_BYTES_MAX).contains(&length) => (length as usize, head),
        Number::Whole(-1, head) if kind == b'$' => return Scan::Token(Token::Null, head),
        Number::Streamed(head) if kind == b'$' => return Scan::Token(Token::OpenString, head),
        Number::More(wanted) => return Scan::More(wanted),
        _ => return Scan::Odd(anomaly::REDIS_BAD_LENGTH),
    };
    if length > bulk_bytes_max {
        return Scan::Token(Token::Large(kind, length as u64), head);
    }
    let whole = head + length + LINE_END_BYTES;
    match bytes.get(head..whole) {
        None => Scan::More(whole),
        Some(body) => {
            let (text, end) = body.split_at(length);
            Scan::Token(Token::Bulk(kind, text, end == b"\r\n"), whole)
        }
    }
}

fn aggregate(kind: u8, bytes: &[u8]) -> Scan<'_> {
    match number(bytes) {
        Number::Whole(count, end) if (0..=ELEMENTS_MAX).contains(&count) => {
            let count = count.unsigned_abs();
            let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            Scan::Token(Token::Open(kind, Some(count * each)), end)
        }
        Number::Whole(-1, end) if kind == b'*' => Scan::Token(Token::Null, end),
        Number::Streamed(end) if kind != b'|' => Scan::Token(Token::Open(kind, None), end),
        Number::More(wanted) => Scan::More(wanted),
        _ => Scan::Odd(anomaly::REDIS_BAD_LENGTH),
    }
}
