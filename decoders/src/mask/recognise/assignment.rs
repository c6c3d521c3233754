//! Secrets by the name before them in free text: `password=…`, `"apiKey": "…"`, `(token)=(…)`,
//! `Authorization: …`, `<password>…</password>`.

use super::super::mark::Mark;
use super::super::secret;
use super::super::span::Span;

const NAME_BYTES_MAX: usize = 64;
const SPACES_MAX: usize = 4;
const TAG_BYTES_MAX: usize = 256;

pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let mut done = 0;
    for at in memchr::memchr3_iter(b'=', b':', b'<', text) {
        if at < done {
            continue;
        }
        let found = if text[at] == b'<' { element(text, at) } else { assigned(text, at) };
        if let Some((start, end, kind)) = found {
            spans.push(Span::new(start, end, Mark::redact(kind)));
            done = end;
        }
    }
}

/// The value after the `=` or `:` at `at`, when the name before it is a secret's.
fn assigned(text: &[u8], at: usize) -> Option<(usize, usize, &'static str)> {
    let kind = secret::kind_of_name(name_before(text, at))?;
    let mut start = at + 1;
    // `=>`, `:=`, `==`, `::=`.
    start += count(&text[start..], 2, |byte| matches!(byte, b'=' | b'>' | b':'));
    start += count(&text[start..], SPACES_MAX, |byte| byte == b' ' || byte == b'\t');
    let rest = &text[start..];
    if text[at] == b':' && rest.starts_with(b"//") {
        return None;
    }
    let whole_line = text[at] == b':' && matches!(kind, "credentials" | "cookie");
    let (open, length) = match rest {
        [b'\\', quote @ (b'"' | b'\''), inner @ ..] => (2, until_escaped(inner, *quote)),
        [quote @ (b'"' | b'\'' | b'`'), inner @ ..] => (1, until_quote(inner, *quote)),
        [b'(', inner @ ..] => (1, until(inner, |byte| byte == b')')),
        _ if whole_line => (0, until(rest, |byte| matches!(byte, b'\r' | b'\n' | b'"' | b'\''))),
        _ => (0, until(rest, ends_bare)),
    };
    (length > 0).then_some((start + open, start + open + length, kind))
}

/// The name that ends before `at`, without the quote or bracket that closes it.
fn name_before(text: &[u8], at: usize) -> &[u8] {
    let mut end = at - text[..at].iter().rev().take(SPACES_MAX).take_while(|&&byte| byte == b' ').count();
    end -= text[..end].iter().rev().take(2).take_while(|&&byte| b"\"'`)]\\".contains(&byte)).count();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[".contains(&byte);
    let length = text[..end].iter().rev().take(NAME_BYTES_MAX).take_while(|&&byte| is_name(byte)).count();
    &text[end - length..end]
}

/// The text of the element that begins at `at`, when its name is a secret's.
fn element(text: &[u8], at: usize) -> Option<(usize, usize, &'static str)> {
    let tag = &text[at + 1..text.len().min(at + 1 + TAG_BYTES_MAX)];
    let name = count(tag, NAME_BYTES_MAX, |byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
    let kind = secret::kind_of_name(&tag[..name])?;
    let close = memchr::memchr(b'>', tag)?;
    if tag[..close].ends_with(b"/") {
        return None;
    }
    let start = at + 1 + close + 1;
    let length = memchr::memchr(b'<', &text[start..]).unwrap_or(text.len() - start);
    (length > 0).then_some((start, start + length, kind))
}

fn count(text: &[u8], most: usize, holds: impl Fn(u8) -> bool) -> usize {
    text.iter().take(most).take_while(|&&byte| holds(byte)).count()
}

fn until(text: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&byte| ends(byte)).unwrap_or(text.len())
}

fn ends_bare(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",;&\"'`<>)}]|".contains(&byte)
}

/// Up to the quote that no backslash stands before; all of it when there is none.
fn until_quote(text: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

/// Up to the backslash that stands right before the quote; all of it when there is none.
fn until_escaped(text: &[u8], quote: u8) -> usize {
    memchr::memmem::find(text, &[b'\\', quote]).unwrap_or(text.len())
}
