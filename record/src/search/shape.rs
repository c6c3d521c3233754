//! A statement without its values, so that statements that differ only in those count as one. Works on any dialect of
//! SQL, and knows none: what it does not understand stays as it is. Linear.

use crate::{Value, View, names};

/// Longest shape, bytes.
const SHAPE_BYTES_MAX: usize = 300;
/// Longest text that is looked at, bytes: what lies beyond would not be shown.
const SOURCE_BYTES_MAX: usize = 16 << 10;

/// What an exchange asked, values left out: `SELECT * FROM t WHERE id = ?`, `GET /users/{}`, `HGETALL`.
pub fn statement(view: &View) -> Option<String> {
    let text = |name: &str| view.field(name).and_then(Value::as_text);
    if let Some(method) = text(names::HTTP_METHOD) {
        return Some(format!("{method} {}", path(text(names::URL_PATH).unwrap_or_default())));
    }
    // A command that is one word with arguments: their number and kind is no part of what was asked.
    if let Some(operation) = text(names::DB_OPERATION) {
        return Some(cut(operation.to_uppercase()));
    }
    // At the level `summary` there is no statement, but its first words.
    text(names::DB_QUERY_TEXT)
        .map(sql)
        .or_else(|| text(names::DB_QUERY_SUMMARY).map(|words| cut(words.to_owned())))
}

/// A path with the segments left out that look like an identifier.
fn path(path: &str) -> String {
    let is_identifier = |segment: &str| {
        let hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        digits == segment.len() && digits > 0
            || hexadecimal && segment.len() >= 8 && digits > 0
            || segment.contains('‹')
    };
    let shown = path.get(..SOURCE_BYTES_MAX).unwrap_or(path);
    let segments = shown.split('/').map(|segment| if is_identifier(segment) { "{}" } else { segment });
    cut(segments.collect::<Vec<_>>().join("/"))
}

/// A statement with its literals, masks and comments left out, and lists of them as one.
pub fn sql(statement: &str) -> String {
    let mut out = String::new();
    let mut end = statement.len().min(SOURCE_BYTES_MAX);
    while !statement.is_char_boundary(end) {
        end -= 1;
    }
    let mut rest = &statement[..end];
    let mut space = false;
    while let Some(first) = rest.chars().next() {
        if out.len() > SHAPE_BYTES_MAX {
            break;
        }
        let (length, shown) = token(rest, first);
        let (own, after) = rest.split_at(length.clamp(first.len_utf8(), rest.len()));
        rest = after;
        if shown == Shown::Space {
            space = true;
            continue;
        }
        if space && !out.is_empty() {
            out.push(' ');
        }
        space = false;
        match shown {
            Shown::Value => {
                out.push('?');
                // A list of values is as one: `IN (1, 2, 3)` and `VALUES (1, 2), (3, 4)`.
                let list = ["?, ?", "?,?", "? , ?"].iter().find(|list| out.ends_with(**list));
                if let Some(list) = list {
                    out.truncate(out.len() + 1 - list.len());
                }
            }
            _ => {
                out.push_str(own);
                let list = ["(?), (?)", "(?),(?)"].iter().find(|list| out.ends_with(**list));
                if let Some(list) = list {
                    out.truncate(out.len() + 3 - list.len());
                }
            }
        }
    }
    cut(out)
}

#[derive(PartialEq)]
enum Shown {
    Value,
    Text,
    Space,
}

/// Length of the first token, and what becomes of it.
fn token(rest: &str, first: char) -> (usize, Shown) {
    let run = |fits: &dyn Fn(char) -> bool| rest.find(|c: char| !fits(c)).unwrap_or(rest.len());
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let after = |opening: usize, closing: &str| {
        let inner = rest.get(opening..).unwrap_or_default();
        inner.find(closing).map_or(rest.len(), |at| opening + at + closing.len())
    };
    match first {
        c if c.is_whitespace() => (run(&char::is_whitespace), Shown::Space),
        '\'' => (quoted(rest, false), Shown::Value),
        'e' | 'E' if rest[1..].starts_with('\'') => (1 + quoted(&rest[1..], true), Shown::Value),
        'b' | 'B' | 'x' | 'X' | 'n' | 'N' if rest[1..].starts_with('\'') => {
            (1 + quoted(&rest[1..], false), Shown::Value)
        }
        '‹' => (after(first.len_utf8(), "›"), Shown::Value),
        '-' if rest.starts_with("--") => (after(2, "\n"), Shown::Space),
        '/' if rest.starts_with("/*") => (after(2, "*/"), Shown::Space),
        '$' => {
            let tag = 1 + rest[1..].find(|c: char| !is_name(c)).unwrap_or(rest.len() - 1);
            if rest[tag..].starts_with('$') {
                (after(tag + 1, &rest[..=tag]), Shown::Value)
            } else {
                (tag, Shown::Value) // A parameter: its value comes apart.
            }
        }
        '?' => (1, Shown::Value),
        '"' => (after(1, "\""), Shown::Text),
        c if c.is_ascii_digit() => {
            let number = run(&|c| c.is_alphanumeric() || c == '.');
            (number, Shown::Value)
        }
        c if is_name(c) => (run(&is_name), Shown::Text),
        c => (c.len_utf8(), Shown::Text),
    }
}

/// Length of a text in single quotes; what is not closed reaches to the end.
fn quoted(rest: &str, backslashes: bool) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslashes => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn cut(mut text: String) -> String {
    if text.len() > SHAPE_BYTES_MAX {
        let end = (0..=SHAPE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_that_differ_in_values_have_one_shape() {
        for (statement, shape) in [
            ("SELECT  *\n FROM t WHERE id = 42", "SELECT * FROM t WHERE id = ?"),
            ("SELECT 'it''s', E'a\\'b', x'1f', 1.5e3", "SELECT ?"),
            ("SELECT * FROM t WHERE id IN (1, 2,3)", "SELECT * FROM t WHERE id IN (?)"),
            ("INSERT INTO t VALUES (1, 'a'), (2, 'b'),(3,'c')", "INSERT INTO t VALUES (?)"),
            ("SELECT $1, t2.c3 -- why\nFROM \"T 1\" /* 7 */", "SELECT ?, t2.c3 FROM \"T 1\""),
            (
                "SELECT $f$ it's $f$ WHERE mail = '‹email·redact›' OR m = ‹email·redact›",
                "SELECT ? WHERE mail = ? OR m = ?",
            ),
            ("SELECT 'open", "SELECT ?"),
            ("SELECT é'x'", "SELECT é?"),
            ("", ""),
        ] {
            assert_eq!(sql(statement), shape);
        }
        assert_eq!(path("/v1/users/42/orders/0190a000-0000-7000"), "/v1/users/{}/orders/{}");
        assert_eq!(path("/cafe/"), "/cafe/");
    }

    proptest! {
        #[test]
        fn any_text_has_a_shape_and_no_literal_survives(text in "[a-c'\"$‹›(),? 0-9é/*-]{0,60}", tail in ".{0,600}") {
            let shape = sql(&format!("{text}{tail}"));
            prop_assert!(shape.len() <= SHAPE_BYTES_MAX + '…'.len_utf8());
            prop_assert_eq!(sql(&format!("v = '{}'", text.replace('\'', "''"))), "v = ?");
        }
    }
}
