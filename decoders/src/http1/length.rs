//! Where a message's body ends (RFC 9112, 6.3), and what is odd about how it says so.

use super::head::{Head, StartLine, note};
use crate::anomaly;

/// Digits of a chunk's size that count: 60 bits.
const CHUNK_DIGITS_MAX: usize = 15;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Empty,
    Known(u64),
    Chunked,
    UntilEnd,
    /// A request must say so validly: what follows is a body of unknown length, or none (RFC 9112, 6.3).
    Undecidable,
}

/// What the request that is answered changes about its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) head: bool,
    pub(super) connect: bool,
    /// It was one of HTTP/0.9, whose answer is a body alone.
    pub(super) simple: bool,
    /// After its answer the connection may speak another protocol.
    pub(super) switch: bool,
}

/// Where the body behind this head ends. `asked` tells of the request that a response answers.
pub(super) fn of(head: &Head<'_>, asked: Asked, odd: &mut Vec<&'static str>) -> Length {
    let status = match head.start {
        StartLine::Status { status, .. } => Some(status),
        StartLine::Request { .. } => None,
    };
    let announced = announced(head, odd);
    match (status, announced) {
        (Some(100..=199 | 204 | 304), _) => Length::Empty,
        (Some(_), _) if asked.head => Length::Empty,
        (Some(200..=299), _) if asked.connect => Length::Empty,
        (Some(_), None) => Length::UntilEnd,
        (None, None) => Length::Empty,
        (_, Some(Length::Known(0))) => Length::Empty,
        (None, Some(Length::UntilEnd)) => Length::Undecidable,
        (_, Some(length)) => length,
    }
}

fn announced(head: &Head<'_>, odd: &mut Vec<&'static str>) -> Option<Length> {
    let coded = transfer_coding(head, odd);
    let length = content_length(head, odd);
    if coded.is_some() && length.is_some() {
        note(odd, anomaly::HTTP1_CONFLICTING_LENGTH);
    }
    coded.or(length)
}

fn transfer_coding(head: &Head<'_>, odd: &mut Vec<&'static str>) -> Option<Length> {
    let mut codings = 0;
    let mut chunked = 0;
    let mut last_is_chunked = false;
    let mut identity = true;
    for value in head.values("transfer-encoding") {
        for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            codings += 1;
            // RFC 2616 knew a coding that is none.
            identity &= coding.eq_ignore_ascii_case(b"identity");
            last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            chunked += u32::from(last_is_chunked);
        }
    }
    if codings == 0 {
        return None;
    }
    if !last_is_chunked || chunked != 1 || head.minor() == 0 {
        note(odd, anomaly::HTTP1_BAD_TRANSFER_CODING);
    }
    if identity {
        return None;
    }
    // HTTP/1.0 knows no chunks: framing is faulty, and the connection is over with this message (6.1).
    Some(if last_is_chunked && head.minor() > 0 { Length::Chunked } else { Length::UntilEnd })
}

fn content_length(head: &Head<'_>, odd: &mut Vec<&'static str>) -> Option<Length> {
    let request = matches!(head.start, StartLine::Request { .. });
    let (mut first, mut differ): (Option<Option<u64>>, bool) = (None, false);
    for value in head.values("content-length") {
        for text in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // Where a sign is all that is wrong, it is read as most do.
            let unsigned = text.strip_prefix(b"+").unwrap_or(text);
            let number = decimal(unsigned);
            if number.is_none() || unsigned.len() < text.len() {
                note(odd, anomaly::HTTP1_BAD_LENGTH);
            }
            match first {
                None => first = Some(number),
                Some(known) if known != number => {
                    note(odd, anomaly::HTTP1_CONFLICTING_LENGTH);
                    differ = true;
                }
                Some(_) => note(odd, anomaly::HTTP1_REPEATED_LENGTH),
            }
        }
    }
    match first? {
        _ if differ && request => Some(Length::Undecidable),
        number => Some(number.map_or(Length::UntilEnd, Length::Known)),
    }
}

/// Digits only: no sign, no space, nothing beyond 2^63, which no body reaches.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok().filter(|number| *number <= i64::MAX as u64)
}

/// The size line of a chunk: its size and what is odd about the line, or the code that says why it is none.
pub(super) fn chunk_size(text: &[u8]) -> Result<(u64, Vec<&'static str>), &'static str> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, after) = text.split_at(digits);
    let rest = after.trim_ascii();
    if digits == 0 || !(rest.is_empty() || rest[0] == b';') {
        return Err(anomaly::HTTP1_BAD_CHUNK);
    }
    let zeros = number.iter().take_while(|digit| **digit == b'0').count();
    if digits - zeros > CHUNK_DIGITS_MAX {
        return Err(anomaly::HTTP1_CHUNK_SIZE_OVERFLOW);
    }
    let value = |digit: &u8| (*digit as char).to_digit(16).map_or(0, u64::from);
    let size = number.iter().fold(0, |size, digit| size << 4 | value(digit));
    let mut odd = Vec::new();
    if digits > 16 || after.first().is_some_and(u8::is_ascii_whitespace) {
        odd.push(anomaly::HTTP1_CHUNK_SIZE_ODD);
    }
    if !rest.is_empty() {
        odd.push(anomaly::HTTP1_CHUNK_EXTENSION);
    }
    Ok((size, odd))
}
