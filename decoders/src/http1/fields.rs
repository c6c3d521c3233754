//! What is told of a message, each field with its class.

use std::borrow::Cow;

use custody_record::{Value, names};

use super::head::{Head, Header};
use crate::item::{Class, Field, text};

/// A body as it comes in pieces: the first bytes are kept, the rest is counted.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) media_type: String,
    pub(super) coding: String,
    pub(super) kept: Vec<u8>,
    /// Bytes, decoded from the transfer coding.
    pub(super) size: u64,
    /// Of them, bytes that a gap swallowed: what follows the first is not kept.
    pub(super) lost: u64,
}

impl Content {
    pub(super) fn of(head: &Head<'_>) -> Self {
        let first = |name| head.values(name).next().unwrap_or_default();
        let media_type = first("content-type").split(|byte| *byte == b';').next().unwrap_or_default();
        Content {
            media_type: short_text(media_type.trim_ascii()),
            coding: short_text(first("content-encoding")),
            ..Content::default()
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], bytes_max: usize) {
        self.size += bytes.len() as u64;
        if self.lost == 0 {
            let room = bytes_max.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    pub(super) fn lose(&mut self, bytes: u64) {
        self.size = self.size.saturating_add(bytes);
        self.lost = self.lost.saturating_add(bytes);
    }

    pub(super) fn into_fields(self, size_name: &'static str, body_name: &'static str) -> Vec<Field> {
        if self.size == 0 {
            return Vec::new();
        }
        let mut fields = vec![Field::structure(size_name, self.size)];
        if !self.kept.is_empty() {
            let cut = self.size - self.kept.len() as u64;
            let class = Class::Body { media_type: self.media_type, coding: self.coding };
            fields.push(Field::new(body_name, Value::Bytes(self.kept), class).cut_by(cut));
        }
        fields
    }
}

/// Of a request: method, target, version, trace, headers.
pub(super) fn request(method: &str, target: &[u8], head: &Head<'_>) -> Vec<Field> {
    let mut fields = Vec::with_capacity(head.headers.len() + 6);
    fields.push(Field::structure(names::HTTP_METHOD, method));
    let (path, query) = path_and_query(target);
    fields.push(Field::new(names::URL_PATH, text(path), Class::Text));
    if let Some(query) = query {
        fields.push(Field::new(names::URL_QUERY, text(query), Class::Query));
    }
    fields.push(version(head));
    if let Some((trace, span)) = head.values("traceparent").next().and_then(traceparent) {
        fields.push(Field::structure(names::TRACE_ID, trace));
        fields.push(Field::structure(names::SPAN_ID, span));
    }
    headers(&head.headers, names::HTTP_REQUEST_HEADER, &mut fields);
    fields
}

/// Of a response: status, headers.
pub(super) fn response(status: u16, head: &Head<'_>) -> Vec<Field> {
    let mut fields = Vec::with_capacity(head.headers.len() + 2);
    fields.push(Field::structure(names::HTTP_STATUS, u64::from(status)));
    headers(&head.headers, names::HTTP_RESPONSE_HEADER, &mut fields);
    fields
}

/// Header fields; those of one name become one, joined by a comma (RFC 9110, 5.3).
pub(super) fn headers(headers: &[Header<'_>], prefix: &'static str, fields: &mut Vec<Field>) {
    let first = fields.len();
    for (name, value) in headers {
        let known = fields[first..].iter_mut().find(|field| {
            field.name.strip_prefix(prefix).is_some_and(|known| known.eq_ignore_ascii_case(name))
        });
        match known.map(|field| &mut field.value) {
            Some(Value::Text(before)) => {
                before.push_str(", ");
                before.push_str(&text(value));
            }
            _ => {
                let name = name.to_ascii_lowercase();
                let path = Cow::Owned([prefix, &name].concat());
                fields.push(Field::new(path, Value::Text(text(value)), class_of(name)));
            }
        }
    }
}

fn class_of(name: String) -> Class {
    match name.as_str() {
        "authorization" | "proxy-authorization" => Class::Secret("authorization"),
        "cookie" | "set-cookie" => Class::Secret("cookie"),
        _ => Class::Header { name },
    }
}

fn version(head: &Head<'_>) -> Field {
    Field::structure(names::PROTOCOL_VERSION, format!("1.{}", head.minor()))
}

/// Of a target in origin form or absolute form (RFC 9112, 3.2); the authority stands in `host`. Of CONNECT the
/// authority is all there is.
fn path_and_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let origin = match memchr::memmem::find(target, b"://") {
        Some(at) if target[..at].iter().all(u8::is_ascii_alphabetic) => {
            let authority = &target[at + 3..];
            let path = authority.iter().position(|byte| matches!(byte, b'/' | b'?'));
            path.map_or(&b"/"[..], |path| &authority[path..])
        }
        _ => target,
    };
    match memchr::memchr(b'?', origin) {
        Some(at) => (&origin[..at], Some(&origin[at + 1..])),
        None => (origin, None),
    }
}

/// Trace and parent span of a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`.
fn traceparent(value: &[u8]) -> Option<(&str, &str)> {
    let value = std::str::from_utf8(value).ok()?;
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (valid && nonzero(trace) && nonzero(span)).then_some((trace, span))
}

fn short_text(bytes: &[u8]) -> String {
    text(&bytes[..bytes.len().min(100)]).to_ascii_lowercase()
}
