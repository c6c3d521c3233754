//! Addresses of hosts: IPv4 and IPv6 (RFC 4291 section 2.2), and of network cards. Off by default, for they are
//! facts of operations; who counts them as personal turns them on.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::shape::Recogniser;

pub(super) const IP: Recogniser = Recogniser {
    kind: "ip",
    what: "IPv4 and IPv6 addresses",
    told: "they can be read as one",
    words: &["ip", "ipaddress"],
    shapes: &[],
};

pub(super) const MAC: Recogniser = Recogniser {
    kind: "mac",
    what: "addresses of network cards",
    told: "six pairs or three quads of hex digits",
    words: &["mac", "macaddress"],
    shapes: &[],
};

/// Longest text of an address.
const ADDRESS_BYTES_MAX: usize = 45;

/// Calls `found` with each address and whether it is a network card's. A length after a `/` belongs to it.
pub(super) fn find(text: &[u8], mut found: impl FnMut(usize, usize, bool)) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'-');
    let mut at = 0;
    while at < text.len() {
        let length = text[at..].iter().take_while(|&&byte| is_part(byte)).count();
        let (start, end) = (at, at + length);
        at = end + 1;
        let begins = start == 0 || !text[start - 1].is_ascii_alphanumeric();
        let ends = text.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let run = text[start..end].trim_ascii_end();
        let run =
            &run[..run.len() - run.iter().rev().take_while(|&&byte| matches!(byte, b'.' | b'-')).count()];
        if !begins || !ends || run.len() > ADDRESS_BYTES_MAX {
            continue;
        }
        let Ok(word) = std::str::from_utf8(run) else { continue };
        if is_card(run) {
            found(start, start + run.len(), true);
        } else if word.parse::<Ipv4Addr>().is_ok() || word.parse::<Ipv6Addr>().is_ok() {
            let widest = if word.contains(':') { 128 } else { 32 };
            let end = start + run.len();
            found(start, end + prefix_bytes(&text[end..], widest), false);
        }
    }
}

/// How long `/24` is, when it can be the length of a prefix.
fn prefix_bytes(rest: &[u8], widest: u32) -> usize {
    let Some((b'/', digits)) = rest.split_first() else { return 0 };
    let length = digits.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let fits = (1..=3).contains(&length) && super::check::number(&digits[..length]) <= widest;
    if fits { 1 + length } else { 0 }
}

/// `00:1a:2b:3c:4d:5e`, the same with hyphens, `001a.2b3c.4d5e`.
fn is_card(word: &[u8]) -> bool {
    let groups = |separator: u8, length: usize, count: usize| {
        let mut groups = word.split(|&byte| byte == separator);
        groups.clone().count() == count
            && groups.all(|group| group.len() == length && group.iter().all(u8::is_ascii_hexdigit))
    };
    groups(b':', 2, 6) || groups(b'-', 2, 6) || groups(b'.', 4, 3)
}
