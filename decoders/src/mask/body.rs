//! Masks a body by its media type. What nobody reads here is left out whole, with its length.

use super::mark::Mark;
use super::policy::Policy;
use super::recognise::Place;
use super::span::Span;
use super::{json, pairs};

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// RFC 8259, and texts of one JSON value a line.
    Json,
    /// Names and values.
    Form,
    /// Parts, each with headers.
    Multipart,
    /// Events, JSON in many of them.
    Events,
    /// Text that recognisers read.
    Text,
}

/// How a body of this type is read; `None` when it is not.
pub(crate) fn reading(media_type: &str, coding: &str, bytes: &[u8]) -> Option<Reading> {
    if !matches!(coding, "" | "identity") || memchr::memchr(0, bytes).is_some() {
        return None;
    }
    match media_type {
        "application/x-www-form-urlencoded" => Some(Reading::Form),
        "multipart/form-data" => Some(Reading::Multipart),
        "application/json" | "text/json" | "application/x-ndjson" | "application/jsonl" => {
            Some(Reading::Json)
        }
        "text/event-stream" => Some(Reading::Events),
        "application/xml"
        | "application/javascript"
        | "application/sql"
        | "application/graphql"
        | "application/x-yaml"
        | "application/yaml"
        | "application/toml" => Some(Reading::Text),
        _ if media_type.ends_with("+json") => Some(Reading::Json),
        _ if media_type.ends_with("+xml") || media_type.starts_with("text/") => Some(Reading::Text),
        // Not told: by its looks.
        "" => match bytes.trim_ascii_start() {
            [b'{' | b'[', ..] => Some(Reading::Json),
            _ => std::str::from_utf8(bytes).is_ok().then_some(Reading::Text),
        },
        _ => None,
    }
}

/// Adds the parts of a body that are to be masked.
pub(crate) fn find(policy: &Policy, reading: Reading, text: &str, spans: &mut Vec<Span>) {
    match reading {
        Reading::Json => json::find(policy, text, spans),
        Reading::Form => pairs::query(policy, text, spans),
        Reading::Multipart => multipart(policy, text, spans),
        Reading::Events => events(policy, text, spans),
        Reading::Text => policy.find(text.as_bytes(), Place::Text, spans),
    }
}

/// Server-sent events: what recognisers read in all of it, and JSON where it begins in a line of data.
fn events(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    policy.find(text.as_bytes(), Place::Text, spans);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(json_text) =
            line.strip_prefix("data:").filter(|data| data.trim_start().starts_with(['{', '[']))
        {
            let at = start + line.len() - json_text.len();
            let first = spans.len();
            json::find(policy, json_text, spans);
            for span in &mut spans[first..] {
                span.start += at;
                span.end += at;
            }
        }
        start += line.len();
    }
}

/// Rows in columns of these marks, a tab between the cells. A line of another shape is masked whole when any
/// column is.
pub(crate) fn tabular(policy: &Policy, marks: &[Option<Mark>], text: &str, spans: &mut Vec<Span>) {
    let Some(first) = marks.iter().flatten().next() else {
        return find(policy, Reading::Text, text, spans);
    };
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let cells = line.trim_end_matches(['\r', '\n']);
        if cells.split('\t').count() != marks.len() {
            if !matches!(cells, "" | "\\.") {
                spans.push(Span::new(start, start + cells.len(), first.clone()));
            }
        } else {
            let mut at = start;
            for (cell, mark) in cells.split('\t').zip(marks) {
                match mark {
                    Some(mark) if cell != "\\N" => spans.push(Span::new(at, at + cell.len(), mark.clone())),
                    _ => policy.find_in(text, (at, at + cell.len()), spans),
                }
                at += cell.len() + 1;
            }
        }
        start += line.len();
    }
}

/// `multipart/form-data` (RFC 7578): the first line is the boundary. Files are left out, fields are decided
/// by their names.
fn multipart(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    let boundary = text.lines().next().unwrap_or("");
    if !boundary.starts_with("--") || boundary.len() < 3 {
        return policy.find(text.as_bytes(), Place::Text, spans);
    }
    let mut start = 0;
    while let Some(found) = memchr::memmem::find(&text.as_bytes()[start..], boundary.as_bytes()) {
        let head = start + found + boundary.len();
        let next = memchr::memmem::find(&text.as_bytes()[head..], boundary.as_bytes());
        let end = next.map_or(text.len(), |next| head + next);
        part(policy, text, (head, end), spans);
        start = end;
    }
}

fn part(policy: &Policy, text: &str, (start, end): (usize, usize), spans: &mut Vec<Span>) {
    let part = &text.as_bytes()[start..end];
    let Some(blank) = memchr::memmem::find(part, b"\r\n\r\n") else {
        return policy.find_in(text, (start, end), spans);
    };
    let headers = &text[start..start + blank];
    let first = start + blank + 4;
    let last = if part.ends_with(b"\r\n") { end.saturating_sub(2).max(first) } else { end };
    policy.find_in(text, (start, start + blank), spans);
    let name = attribute(headers, "name").unwrap_or("");
    if let Some(mark) = policy.parameter(name) {
        spans.push(Span::new(first, last, mark));
    } else if attribute(headers, "filename").is_some() {
        spans.push(Span::new(first, last, Mark::redact("file")));
    } else {
        policy.find_in(text, (first, last), spans);
    }
}

/// An attribute of the part's headers: ` name="…"`.
fn attribute<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers.split([';', '\n']).find_map(|piece| {
        let (key, value) = piece.trim().split_once('=')?;
        let key = key.trim_end_matches('*');
        key.eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}
