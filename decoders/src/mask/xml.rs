//! Masks XML as it comes: one pass, bounded depth, cut or damaged texts included. Elements and attributes are
//! decided by the names that lead to them, all other text by its looks.

use super::mark::Mark;
use super::policy::{Policy, last_name};
use super::recognise::Place;
use super::span::Span;
use super::view;

/// Deepest nesting that is told apart: what lies deeper is masked whole.
const DEPTH_MAX: usize = 64;
/// Longest name that takes part in a path.
const NAME_BYTES_MAX: usize = 256;

/// The walk through one text.
struct Walk<'a> {
    policy: &'a Policy,
    text: &'a str,
    /// Names of the open elements.
    path: Vec<String>,
    /// The outermost open element that is masked: how deep it lies, where its content begins, and as what.
    inside: Option<(usize, usize, Mark)>,
    spans: &'a mut Vec<Span>,
}

/// Adds the parts of an XML text that are to be masked.
pub(crate) fn find(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    // What a name in the text tells (`password=…`), in whatever element it stands.
    policy.find(text.as_bytes(), Place::TEXT, spans);
    let mut walk = Walk { policy, text, path: Vec::new(), inside: None, spans };
    let mut at = 0;
    while let Some(open) = memchr::memchr(b'<', &text.as_bytes()[at..]) {
        let open = at + open;
        walk.content(at, open);
        let rest = &text[open..];
        let end = match rest.as_bytes() {
            [b'<', b'!', b'-', b'-', ..] => after(rest, "-->"),
            [b'<', b'!', b'[', ..] => {
                let end = after(rest, "]]>");
                walk.content(open + rest.len().min("<![CDATA[".len()), open + end);
                end
            }
            [b'<', b'!' | b'?', ..] => after(rest, ">"),
            [b'<', b'/', ..] => {
                walk.close(open);
                after(rest, ">")
            }
            _ => {
                let Some(end) = walk.open(open) else { break };
                end
            }
        };
        at = open + end;
    }
    walk.content(at, text.len());
    if let Some((_, start, mark)) = walk.inside.take() {
        walk.spans.push(Span::new(start, text.len(), mark));
    }
}

/// Where the first `what` ends, or the text.
fn after(rest: &str, what: &str) -> usize {
    memchr::memmem::find(rest.as_bytes(), what.as_bytes()).map_or(rest.len(), |at| at + what.len())
}

/// A name without its prefix.
fn local(name: &str) -> String {
    let name = name.rsplit(':').next().unwrap_or(name);
    name.chars().take(NAME_BYTES_MAX).collect()
}

impl Walk<'_> {
    /// Text between tags: what its element's name says, else what it looks like.
    fn content(&mut self, start: usize, end: usize) {
        if self.inside.is_some() || start >= end || self.path.is_empty() {
            return;
        }
        let text = &self.text.as_bytes()[start..end];
        if text.iter().any(u8::is_ascii_digit) {
            let place = Place::of(last_name(&self.path));
            self.policy.find_decoded(&view::plain(text), start, place, self.spans);
        }
    }

    /// The tag that begins at `open`: attributes, then one level deeper. Says how long it is; `None` when all that
    /// follows is masked.
    fn open(&mut self, open: usize) -> Option<usize> {
        let rest = &self.text[open..];
        let end = tag_bytes(rest.as_bytes());
        let tag = rest[1..end].trim_end_matches('>');
        let closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let name_end = tag.find(|letter: char| letter.is_whitespace()).unwrap_or(tag.len());
        if self.path.len() == DEPTH_MAX {
            self.spans.push(Span::new(open, self.text.len(), Mark::redact("depth")));
            return None;
        }
        self.path.push(local(&tag[..name_end]));
        self.attributes(open + 1 + name_end, open + 1 + tag.len());
        if closed {
            self.path.pop();
        } else if self.inside.is_none()
            && let Some(mark) = self.policy.xml(&self.path)
        {
            self.inside = Some((self.path.len(), open + end, mark));
        }
        Some(end)
    }

    fn attributes(&mut self, mut at: usize, end: usize) {
        while let Some(equals) = self.text[at..end].find('=') {
            let name = self.text[at..at + equals].split_whitespace().last().unwrap_or("").to_owned();
            let value = at + equals + 1;
            let space = self.text[value..end].len() - self.text[value..end].trim_start().len();
            let quote = value + space;
            let Some(open) = self.text[quote..end].chars().next().filter(|open| matches!(open, '"' | '\''))
            else {
                break;
            };
            let length = self.text[quote + 1..end].find(open).unwrap_or(end - quote - 1);
            self.path.push(format!("@{}", local(&name)));
            if let Some(mark) = self.policy.xml(&self.path) {
                self.spans.push(Span::new(quote + 1, quote + 1 + length, mark));
            }
            self.path.pop();
            at = (quote + 1 + length + 1).min(end);
        }
    }

    /// The end tag at `at`: one level up, whatever its name says.
    fn close(&mut self, at: usize) {
        if let Some((depth, start, mark)) = self.inside.take() {
            if depth == self.path.len() {
                self.spans.push(Span::new(start, at, mark));
            } else {
                self.inside = Some((depth, start, mark));
            }
        }
        self.path.pop();
    }
}

/// How long the tag is that begins here: quotes may hold `>`.
fn tag_bytes(rest: &[u8]) -> usize {
    let mut quote = None;
    for (at, &byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if byte == open => quote = None,
            _ => {}
        }
    }
    rest.len()
}
