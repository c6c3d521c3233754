//! What is told of a message, each field with its class.

use std::borrow::Cow;

use custody_record::{Value, names};

use super::head::{Head, Header};
use crate::item::{Class, Field, text};

/// Of a request: method, target, version, trace, headers.
pub(super) fn request(method: &str, target: &[u8], head: &Head<'_>) -> Vec<Field> {
    let version = if head.minor() == 0 { "1.0" } else { "1.1" };
    let mut fields = Vec::with_capacity(head.headers.len() + 8);
    start(method, target, version, &mut fields);
    if let Some((trace, span)) = only(head.values("traceparent")).and_then(traceparent) {
        fields.push(Field::structure(names::TRACE_ID, trace));
        fields.push(Field::structure(names::SPAN_ID, span));
    }
    headers(&head.headers, names::HTTP_REQUEST_HEADER, &mut fields);
    fields
}

/// Of a request of HTTP/0.9.
pub(super) fn simple_request(target: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    start("GET", target, "0.9", &mut fields);
    fields
}

fn start(method: &str, target: &[u8], version: &'static str, fields: &mut Vec<Field>) {
    // A token is all that the specification allows; else it is anybody's text.
    let class =
        if method.bytes().all(|byte| byte.is_ascii_alphabetic()) { Class::Structure } else { Class::Text };
    fields.push(Field::new(names::HTTP_METHOD, method, class));
    let (origin, rest) = origin_and_rest(target);
    if let Some(origin) = origin {
        fields.push(Field::new(names::URL_ORIGIN, text(origin), Class::Text));
    }
    let (path, query) = match memchr::memchr(b'?', rest) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    // Absolute form without a path.
    let path = if path.is_empty() { b"/" } else { path };
    fields.push(Field::new(names::URL_PATH, text(path), Class::Text));
    if let Some(query) = query {
        fields.push(Field::new(names::URL_QUERY, text(query), Class::Query));
    }
    fields.push(Field::structure(names::PROTOCOL_VERSION, version));
}

/// The one value, if it is the only one.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Of a response: status, headers.
pub(super) fn response(status: u16, head: &Head<'_>) -> Vec<Field> {
    let mut fields = Vec::with_capacity(head.headers.len() + 2);
    fields.push(Field::structure(names::HTTP_STATUS, u64::from(status)));
    headers(&head.headers, names::HTTP_RESPONSE_HEADER, &mut fields);
    fields
}

/// Header fields; those of one name become one, joined by a comma (RFC 9110, 5.3), but for cookies: a semicolon joins
/// those that are sent, and those that are set hold commas of their own.
pub(super) fn headers(headers: &[Header<'_>], prefix: &'static str, fields: &mut Vec<Field>) {
    let first = fields.len();
    for (name, value) in headers {
        let value = text(value);
        let known = fields[first..].iter_mut().find(|field| {
            field.name.strip_prefix(prefix).is_some_and(|known| known.eq_ignore_ascii_case(name))
        });
        let Some(known) = known else {
            let name = name.to_ascii_lowercase();
            let path = Cow::Owned([prefix, &name].concat());
            fields.push(Field::new(path, Value::Text(value), Class::Header { name }));
            continue;
        };
        match &mut known.value {
            Value::List(values) => values.push(Some(Value::Text(value))),
            before if name.eq_ignore_ascii_case("set-cookie") => {
                let before_value = std::mem::replace(before, Value::Bool(false));
                *before = Value::List(vec![Some(before_value), Some(Value::Text(value))]);
            }
            Value::Text(before) => {
                before.push_str(if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " });
                before.push_str(&value);
            }
            _ => {}
        }
    }
}

/// Of a target in absolute form its scheme with authority, and what follows (RFC 9112, 3.2). All others are whole: a
/// path, `*`, or the authority that CONNECT names.
fn origin_and_rest(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match memchr::memmem::find(target, b"://") {
        Some(at) if at > 0 && target[..at].iter().all(u8::is_ascii_alphabetic) => {
            let authority = &target[at + 3..];
            let end =
                authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
            let (origin, rest) = target.split_at(at + 3 + end);
            (Some(origin), rest)
        }
        _ => (None, target),
    }
}

/// Trace and parent span of a `traceparent` (W3C Trace Context, 3.2): `00-<32 hex>-<16 hex>-<2 hex>`, in lower case.
/// Version 00 is exactly that; a higher one may go on behind another `-`; ff is none.
fn traceparent(value: &[u8]) -> Option<(&str, &str)> {
    let value = std::str::from_utf8(value).ok()?;
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let ends = version != "00" || parts.next().is_none();
    (valid && ends && nonzero(trace) && nonzero(span)).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_its_specification_says() {
        let known = format!("{TRACE}-{SPAN}");
        for (value, valid) in [
            (format!("00-{known}-01"), true),
            (format!("cc-{known}-01"), true),
            (format!("cc-{known}-01-what-comes-later"), true),
            (format!("00-{known}-01-what-comes-later"), false),
            (format!("00-{known}-01-"), false),
            (format!("ff-{known}-01"), false),
            (format!("0-{known}-01"), false),
            (format!("00-{known}"), false),
            (format!("00-{known}-1"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!(" 00-{known}-01"), false),
            (String::new(), false),
        ] {
            let expected = valid.then_some((TRACE, SPAN));
            assert_eq!(traceparent(value.as_bytes()), expected, "{value}");
        }
        let twice = [b"a".as_slice(), b"b"];
        assert_eq!(only(twice.into_iter()), None, "two of them are none");
    }

    #[test]
    fn targets_of_all_forms_are_taken_apart() {
        for (target, origin, rest) in [
            ("/a?b=http://c", None, "/a?b=http://c"),
            ("http://u:p@h:1/a?b", Some("http://u:p@h:1"), "/a?b"),
            ("https://h?b", Some("https://h"), "?b"),
            ("http://h", Some("http://h"), ""),
            ("h:443", None, "h:443"),
            ("*", None, "*"),
        ] {
            let expected = (origin.map(str::as_bytes), rest.as_bytes());
            assert_eq!(origin_and_rest(target.as_bytes()), expected, "{target}");
        }
    }
}
