//! Masks names with values: query strings, forms, cookies, and whole headers.

use super::mark::Mark;
use super::policy::Policy;
use super::recognise::Place;
use super::span::Span;
use super::view;

/// A query string or an `application/x-www-form-urlencoded` body (WHATWG URL, section 5).
pub(crate) fn query(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    for (start, end) in parts(text, |byte| byte == b'&' || byte == b';') {
        let pair = &text[start..end];
        let equals = pair.find('=').unwrap_or(0);
        let name = view::percent(&pair.as_bytes()[..equals], true);
        policy.find_decoded(&name, start, Place::TEXT, spans);
        let first = if equals == 0 { start } else { start + equals + 1 };
        let name = String::from_utf8_lossy(&name.bytes);
        match policy.parameter(&name) {
            Some(mark) => spans.push(Span::new(first, end, mark)),
            None => {
                let value = view::percent(&text.as_bytes()[first..end], true);
                policy.find_decoded(&value, first, Place::of(&name), spans);
            }
        }
    }
}

/// A header's value, by the header's name.
pub(crate) fn header(policy: &Policy, name: &str, text: &str, spans: &mut Vec<Span>) {
    match name {
        "cookie" => cookies(policy, text, spans),
        "set-cookie" => set_cookie(policy, text, spans),
        "authorization" | "proxy-authorization" => authorization(text, spans),
        _ => match policy.header(name) {
            Some(mark) => spans.push(Span::new(0, text.len(), mark)),
            None => policy.find_often(text, name, spans),
        },
    }
}

/// Schemes that may be told; anything else before the first space may be the credential itself.
const SCHEMES: &[&str] = &[
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "ntlm",
    "hoba",
    "mutual",
    "token",
    "apikey",
    "aws4-hmac-sha256",
    "scram-sha-1",
    "scram-sha-256",
    "dpop",
    "gnap",
    "vapid",
];

/// The scheme stays, what follows it does not (RFC 9110 section 11.4).
fn authorization(text: &str, spans: &mut Vec<Span>) {
    let scheme = text.find(' ').unwrap_or(0);
    let known = SCHEMES.iter().any(|known| text[..scheme].eq_ignore_ascii_case(known));
    let start = if known { scheme + 1 } else { 0 };
    spans.push(Span::new(start, text.len(), Mark::redact("credentials")));
}

/// Names of cookies stay, their values never do (RFC 6265 section 4.2).
fn cookies(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    for (start, end) in parts(text, |byte| byte == b';') {
        cookie(policy, text, start, end, spans);
    }
}

fn cookie(policy: &Policy, text: &str, start: usize, end: usize, spans: &mut Vec<Span>) {
    let first = text[start..end].find('=').map_or(start, |equals| start + equals + 1);
    policy.find_in(text, (start, first), spans);
    let name = text[start..first].trim().trim_end_matches('=');
    spans.push(Span::new(first, end, policy.cookie(name)));
}

/// Attributes of a cookie that are no part of its value (RFC 6265 section 4.1).
const ATTRIBUTES: &[&str] =
    &["expires", "max-age", "domain", "path", "secure", "httponly", "samesite", "partitioned", "priority"];

fn set_cookie(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    for (start, end) in parts(text, |byte| byte == b';') {
        let part = text[start..end].trim();
        let name = part.split('=').next().unwrap_or(part).trim();
        if start == 0 || !ATTRIBUTES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            cookie(policy, text, start, end, spans);
        }
    }
}

/// The parts between separators, with their places.
fn parts(text: &str, separates: impl Fn(u8) -> bool) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.as_bytes().get(start..)?;
        let length = rest.iter().position(|&byte| separates(byte)).unwrap_or(rest.len());
        let part = (start, start + length);
        start += length + 1;
        Some(part)
    })
}
