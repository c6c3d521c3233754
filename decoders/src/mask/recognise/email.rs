//! E-mail addresses (RFC 5321 section 4.1.2 and the internationalised ones of RFC 6531), as far as text
//! around them lets tell them apart: `local@label.label`, the last label a top-level domain by its looks.

use super::super::mark::Mark;
use super::super::span::Span;
use super::shape::Recogniser;

pub(super) const EMAIL: Recogniser = Recogniser {
    kind: "email",
    what: "e-mail addresses",
    told: "local part, labels, a top-level domain by its looks",
    words: &[],
    shapes: &[],
};

const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;

/// `skip` are, in order, places of `@` that are known to be none of an address (they end the user part of a URL);
/// `apostrophes` may stand inside of names, where they are no quotes.
pub(super) fn find(text: &[u8], skip: &[usize], apostrophes: bool, mark: &Mark, spans: &mut Vec<Span>) {
    for at in memchr::memchr_iter(b'@', text) {
        if skip.binary_search(&at).is_ok() {
            continue;
        }
        let local = local_bytes(&text[..at], apostrophes);
        let domain = domain_bytes(&text[at + 1..]);
        if local > 0 && domain > 0 {
            spans.push(Span::new(at - local, at + 1 + domain, mark.clone()));
        }
    }
}

/// How many bytes before the `@` are the local part.
fn local_bytes(before: &[u8], apostrophes: bool) -> usize {
    let window = &before[before.len().saturating_sub(LOCAL_BYTES_MAX + 2)..];
    if let Some(quoted) = window.strip_suffix(b"\"") {
        return memchr::memrchr(b'"', quoted).map_or(0, |open| window.len() - open);
    }
    let mut length = 0;
    for (index, &byte) in window.iter().enumerate().rev() {
        let apostrophe = apostrophes
            && byte == b'\''
            && length > 0
            && index > 0
            && window[index - 1].is_ascii_alphanumeric();
        if !(is_local(byte) || apostrophe) || length == LOCAL_BYTES_MAX {
            break;
        }
        length += 1;
    }
    // Dots around it belong to the text, and so does the rest of a character that is no letter.
    let local = &window[window.len() - length..];
    local.len()
        - local.iter().take_while(|&&byte| matches!(byte, b'.' | b'*' | b'-' | b'#' | 0x80..=0xBF)).count()
}

/// Atom characters, but for those that separate in the texts where addresses stand: `= & ? / { | } '` and the
/// backquote.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || is_foreign(byte) || b".!#$%*+-^_~".contains(&byte)
}

/// A byte of a letter beyond ASCII in UTF-8, as far as its lead byte tells: C2 and E2 lead symbols, spaces and
/// punctuation.
fn is_foreign(byte: u8) -> bool {
    byte >= 0x80 && !matches!(byte, 0xC2 | 0xE2)
}

/// How many bytes after the `@` are the domain: as many labels as end in what may be a top-level domain.
fn domain_bytes(after: &[u8]) -> usize {
    let window = &after[..after.len().min(DOMAIN_BYTES_MAX)];
    let run = window
        .iter()
        .take_while(|&&byte| byte.is_ascii_alphanumeric() || is_foreign(byte) || matches!(byte, b'-' | b'.'))
        .count();
    let (mut best, mut labels, mut at) = (0, 0, 0);
    for label in window[..run].split(|&byte| byte == b'.') {
        if label.is_empty() || label.starts_with(b"-") {
            break;
        }
        labels += 1;
        at += label.len();
        let trimmed = label.len() - label.iter().rev().take_while(|&&byte| byte == b'-').count();
        if labels > 1 && is_top_level(&label[..trimmed]) {
            best = at - (label.len() - trimmed);
        }
        at += 1;
    }
    best
}

fn is_top_level(label: &[u8]) -> bool {
    let letters = label.iter().all(|&byte| byte.is_ascii_alphabetic() || byte >= 0x80);
    (2..=63).contains(&label.len())
        && (letters || label.len() > 4 && label[..4].eq_ignore_ascii_case(b"xn--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut spans = Vec::new();
        find(text.as_bytes(), &[], true, &Mark::redact("email"), &mut spans);
        spans.iter().map(|span| &text[span.start..span.end]).collect()
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, expected) in [
            ("alice@example.org", "alice@example.org"),
            ("mail to <alice.b+tag@mail.example.co.uk>.", "alice.b+tag@mail.example.co.uk"),
            ("email=alice@example.org&x=1", "alice@example.org"),
            ("{\"e\":\"alice@example.org\"}", "alice@example.org"),
            ("'alice@example.org'", "alice@example.org"),
            ("o'brien@example.org", "o'brien@example.org"),
            ("john!doe@example.org", "john!doe@example.org"),
            ("\"john doe\"@example.org", "\"john doe\"@example.org"),
            ("jörg@bücher.example", "jörg@bücher.example"),
            ("user@xn--80ak6aa92e.com today", "user@xn--80ak6aa92e.com"),
            ("a@xn--d1acufc.xn--p1ai", "a@xn--d1acufc.xn--p1ai"),
            ("Write to bob@example.com. Thanks", "bob@example.com"),
            ("bob@example.com.5", "bob@example.com"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
    }

    #[test]
    fn what_only_looks_so_is_left() {
        for text in
            ["", "@", "a@", "@b.org", "root@localhost", "info@presidio.", "a@b..org", "x @> y.z", "1@2.3"]
        {
            assert!(found(text).is_empty(), "{text}");
        }
    }
}
