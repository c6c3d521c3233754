//! Passwords in the user part of URLs and connection strings (RFC 3986 section 3.2.1).

use super::super::mark::Mark;
use super::super::span::Span;

/// Longest authority that is looked at.
const AUTHORITY_BYTES_MAX: usize = 1024;
/// How far a password that holds unencoded `/`, `?` or `#` is looked for.
const STRAY_BYTES_MAX: usize = 256;
/// A user part without a password is a token when it is this long.
const TOKEN_BYTES_MIN: usize = 20;

/// The URL whose `://` stands at `anchor`: adds its password, and returns the place of the `@` that ends the
/// user part.
pub(super) fn password(text: &[u8], anchor: usize, spans: &mut Vec<Span>) -> Option<usize> {
    if anchor == 0 || !text[anchor - 1].is_ascii_alphanumeric() {
        return None;
    }
    let start = anchor + 3;
    let window = &text[start..text.len().min(start + AUTHORITY_BYTES_MAX)];
    let end = window.iter().position(|&byte| ends_url(byte) || matches!(byte, b'/' | b'?' | b'#'));
    let end = end.unwrap_or(window.len());
    let at = memchr::memrchr(b'@', &window[..end]).or_else(|| stray_at(window, end))?;
    let user = &window[..at];
    match memchr::memchr(b':', user) {
        Some(colon) => spans.push(Span::new(start + colon + 1, start + at, Mark::redact("password"))),
        None if user.len() >= TOKEN_BYTES_MIN => {
            spans.push(Span::new(start, start + at, Mark::redact("token")));
        }
        None => {}
    }
    Some(start + at)
}

/// The `@` after a password that should have been encoded. A port is no password.
fn stray_at(window: &[u8], end: usize) -> Option<usize> {
    let colon = memchr::memchr(b':', &window[..end])?;
    if window[colon + 1..end].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let stray = &window[..window.len().min(end + STRAY_BYTES_MAX)];
    let stop = stray.iter().position(|&byte| ends_url(byte)).unwrap_or(stray.len());
    memchr::memrchr(b'@', &stray[..stop])
}

fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`')
}
