//! Masks JSON (RFC 8259), as it comes: one pass, bounded depth, cut or damaged texts included. The text stays
//! as it was but for masked values, which become strings.

use super::mark::Mark;
use super::policy::{Policy, last_name};
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

/// Adds the parts of a JSON text that are to be masked, and says whether it is one. Several texts one after the other
/// are read so too. What has no name of its own has the name of `place`.
pub(crate) fn find(policy: &Policy, text: &str, place: Place<'_>, spans: &mut Vec<Span>) -> bool {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    // The next string in an object is a key.
    let mut key = false;
    let mut at = 0;
    let mut is_json = true;
    while at < bytes.len() {
        match bytes[at] {
            open @ (b'{' | b'[') => {
                if levels.len() == DEPTH_MAX {
                    let mut whole = Span::new(at, bytes.len(), Mark::redact("depth"));
                    whole.quoted = true;
                    spans.push(whole);
                    return is_json;
                }
                let mark = mark_of(policy, &levels, &path);
                let object = open == b'{';
                levels.push(Level { object, mark });
                path.push(if object { String::new() } else { "*".to_owned() });
                key = object;
                at += 1;
            }
            close @ (b'}' | b']') => {
                is_json &= levels.last().is_some_and(|level| level.object == (close == b'}'));
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
                is_json &= end < bytes.len();
                if key {
                    if let Some(last) = path.last_mut() {
                        put_decoded(&bytes[at + 1..end], last);
                    }
                    is_json &= bytes[bytes.len().min(end + 1)..].trim_ascii_start().starts_with(b":");
                    policy.find_in_key(text, (at + 1, end), spans);
                    key = false;
                } else {
                    let mark = mark_of(policy, &levels, &path);
                    string(policy, bytes, (at + 1, end), mark, here(&path, place), spans);
                }
                at = end + 1;
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                let length = bytes[at..].iter().position(|byte| b",]}\" \t\r\n:{[".contains(byte));
                let end = length.map_or(bytes.len(), |length| at + length);
                is_json &= is_bare(&bytes[at..end]) && !key;
                bare(policy, bytes, (at, end), mark_of(policy, &levels, &path), here(&path, place), spans);
                at = end;
            }
        }
    }
    is_json && levels.is_empty()
}

/// A number, or one of the three words.
fn is_bare(word: &[u8]) -> bool {
    let number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    matches!(word, b"null" | b"true" | b"false") || word.iter().all(number)
}

/// Where a value stands: in the field that the path names, or in the one that holds the text.
fn here<'a>(path: &'a [String], place: Place<'a>) -> Place<'a> {
    match last_name(path) {
        "" => place,
        name => Place::of(name),
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
    place: Place<'_>,
    spans: &mut Vec<Span>,
) {
    match mark {
        Some(mark) => spans.push(Span::new(start, end, mark)),
        None => policy.find_escaped(bytes, (start, end), place, spans),
    }
}

/// A number, a word, or what is no JSON.
fn bare(
    policy: &Policy,
    bytes: &[u8],
    (start, end): (usize, usize),
    mark: Option<Mark>,
    place: Place<'_>,
    spans: &mut Vec<Span>,
) {
    if matches!(&bytes[start..end], b"null" | b"true" | b"false") {
        return;
    }
    let first = spans.len();
    match mark {
        Some(mark) => spans.push(Span::new(start, end, mark)),
        None => policy.find(&bytes[start..end], place, spans),
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

/// A key as it is meant, in the place of the one before.
fn put_decoded(key: &[u8], last: &mut String) {
    let key = &key[..key.len().min(KEY_BYTES_MAX)];
    last.clear();
    match std::str::from_utf8(key) {
        Ok(plain) if memchr::memchr(b'\\', key).is_none() => last.push_str(plain),
        _ => last.push_str(&String::from_utf8_lossy(&view::backslash(key).bytes)),
    }
}
