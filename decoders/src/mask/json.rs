//! Masks JSON (RFC 8259), as it comes: one pass, bounded depth, cut or damaged texts included. The text stays
//! as it was but for masked values, which become strings.

use super::mark::Mark;
use super::policy::Policy;
use super::recognise::Place;
use super::span::Span;
use super::view;

/// Deepest nesting that is told apart: what lies deeper is masked whole.
const DEPTH_MAX: usize = 64;
/// Longest key that takes part in a path.
const KEY_BYTES_MAX: usize = 256;

struct Level {
    object: bool,
    /// Marks all that lies inside.
    mark: Option<Mark>,
}

/// Adds the parts of a JSON text that are to be masked. Several texts one after the other are read so too.
pub(crate) fn find(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    // The next string in an object is a key.
    let mut key = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            open @ (b'{' | b'[') => {
                if levels.len() == DEPTH_MAX {
                    let mut whole = Span::new(at, bytes.len(), Mark::redact("depth"));
                    whole.quoted = true;
                    spans.push(whole);
                    return;
                }
                let mark = mark_of(policy, &levels, &path);
                let object = open == b'{';
                levels.push(Level { object, mark });
                path.push(if object { String::new() } else { "*".to_owned() });
                key = object;
                at += 1;
            }
            b'}' | b']' => {
                levels.pop();
                path.pop();
                key = false;
                at += 1;
            }
            b',' => {
                key = levels.last().is_some_and(|level| level.object);
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at + 1);
                if key {
                    if let Some(last) = path.last_mut() {
                        *last = decoded(&bytes[at + 1..end]);
                    }
                    policy.find_escaped(bytes, (at + 1, end), spans);
                    key = false;
                } else {
                    string(policy, bytes, (at + 1, end), mark_of(policy, &levels, &path), spans);
                }
                at = end + 1;
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                let length = bytes[at..].iter().position(|byte| b",]}\" \t\r\n:{[".contains(byte));
                let end = length.map_or(bytes.len(), |length| at + length);
                bare(policy, bytes, (at, end), mark_of(policy, &levels, &path), spans);
                at = end;
            }
        }
    }
}

/// What is to be done with a value here: by its path, or because all around it is a secret.
fn mark_of(policy: &Policy, levels: &[Level], path: &[String]) -> Option<Mark> {
    levels.last().and_then(|level| level.mark.clone()).or_else(|| policy.json(path))
}

fn string(
    policy: &Policy,
    bytes: &[u8],
    (start, end): (usize, usize),
    mark: Option<Mark>,
    spans: &mut Vec<Span>,
) {
    match mark {
        Some(mark) => spans.push(Span::new(start, end, mark)),
        None => policy.find_escaped(bytes, (start, end), spans),
    }
}

/// A number, a word, or what is no JSON.
fn bare(
    policy: &Policy,
    bytes: &[u8],
    (start, end): (usize, usize),
    mark: Option<Mark>,
    spans: &mut Vec<Span>,
) {
    if matches!(&bytes[start..end], b"null" | b"true" | b"false") {
        return;
    }
    let first = spans.len();
    match mark {
        Some(mark) => spans.push(Span::new(start, end, mark)),
        None => policy.find(&bytes[start..end], Place::Text, spans),
    }
    for span in &mut spans[first..] {
        (span.start, span.end, span.quoted) = (start, end, true);
    }
}

/// Where a string that begins at `start` ends: at its quote, or at the end of the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if bytes[at + found] == b'"' {
            return at + found;
        }
        at += found + 2;
    }
    bytes.len()
}

fn decoded(key: &[u8]) -> String {
    let key = &key[..key.len().min(KEY_BYTES_MAX)];
    String::from_utf8_lossy(&view::backslash(key).bytes).into_owned()
}
