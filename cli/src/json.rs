//! A view as a line of JSON: the bytes that its `Serialize` and `text::escape_json` give, several times as fast,
//! because text that needs no escape (nearly all of it) is seen in one look and copied whole. What is not plain and no
//! quote goes through `serde_json`, so that the form has one home; a test holds both beside each other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use custody_record::text::escape_json;
use custody_record::{Fields, MaskedField, Record, Value, View};
use serde::Serialize;

/// Appends the view, without an end of line.
pub(crate) fn view(view: &View, out: &mut Vec<u8>) {
    let View { host, host_name, epoch, seq, entry_type, session_id, exchange, received, wall, .. } = view;
    let mut map = Map::begin(out);
    map.key("host").text(host);
    map.key("host_name").text(host_name);
    map.key("epoch").unsigned(*epoch);
    map.key("seq").unsigned(*seq);
    map.key("type").text(entry_type);
    if let Some(id) = session_id {
        map.key("session_id").text(id.as_str());
    }
    if let Some(exchange) = exchange {
        map.key("exchange").unsigned(*exchange);
    }
    map.key("received").signed(*received);
    map.key("wall").signed(*wall);
    map.key("status").text(view.status.as_str());
    if let Some(said) = &view.record {
        record(said, map.key("record"));
    }
    if !view.session.is_empty() {
        fields(&view.session, map.key("session"));
    }
    if !view.labels.is_empty() {
        map.key("labels").other(&view.labels);
    }
    if view.unreadable {
        map.key("unreadable").raw("true");
    }
    if view.expired {
        map.key("expired").raw("true");
    }
    map.end();
}

fn record(record: &Record, out: &mut Vec<u8>) {
    let Record { kind, session, exchange, times, masked, kinds, anomalies, .. } = record;
    let mut map = Map::begin(out);
    map.key("kind").text(kind.as_str());
    if let Some(session) = session {
        map.key("session").unsigned(*session);
    }
    if let Some(exchange) = exchange {
        map.key("exchange").unsigned(*exchange);
    }
    let mut both = Map::begin(map.key("times"));
    both.key("first_ns").unsigned(times.first_ns);
    both.key("last_ns").unsigned(times.last_ns);
    both.end();
    fields(&record.fields, map.key("fields"));
    if !masked.is_empty() {
        map.key("masked").list(masked, |out, MaskedField { path, kind, action }| {
            let mut map = Map::begin(out);
            map.key("path").text(path);
            map.key("kind").text(kind);
            map.key("action").text(action);
            map.end();
        });
    }
    if !kinds.is_empty() {
        counts(kinds, map.key("kinds"));
    }
    if !anomalies.is_empty() {
        map.key("anomalies").list(anomalies, |out, code| out.text(code));
    }
    map.end();
}

fn fields(fields: &Fields, out: &mut Vec<u8>) {
    let mut map = Map::begin(out);
    for (name, said) in fields {
        value(said, map.key(name));
    }
    map.end();
}

fn counts(counts: &BTreeMap<Cow<'static, str>, u64>, out: &mut Vec<u8>) {
    let mut map = Map::begin(out);
    for (kind, count) in counts {
        map.key(kind).unsigned(*count);
    }
    map.end();
}

fn value(said: &Value, out: &mut Vec<u8>) {
    match said {
        Value::Text(text) => out.text(text),
        Value::Unsigned(number) => out.unsigned(*number),
        Value::Signed(number) => out.signed(*number),
        Value::Bool(true) => out.raw("true"),
        Value::Bool(false) => out.raw("false"),
        Value::List(values) => out.list(values, |out, item| match item {
            Some(item) => value(item, out),
            None => out.raw("null"),
        }),
        Value::Float(_) | Value::Bytes(_) => out.other(said),
    }
}

/// An object that is being written.
struct Map<'a> {
    out: &'a mut Vec<u8>,
    before: u8,
}

impl<'a> Map<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        Map { out, before: b'{' }
    }

    /// What is written next is the value of this key.
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.out.push(std::mem::replace(&mut self.before, b','));
        self.out.text(key);
        self.out.push(b':');
        self.out
    }

    fn end(self) {
        if self.before == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// The leaves.
trait Write {
    fn raw(&mut self, text: &str);
    fn text(&mut self, text: &str);
    /// What stands between two quotes or backslashes.
    fn unquoted(&mut self, text: &str);
    fn unsigned(&mut self, number: u64);
    fn signed(&mut self, number: i64);
    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Vec<u8>, &T));
    /// As `serde_json` writes it.
    fn other(&mut self, value: &impl Serialize);
}

impl Write for Vec<u8> {
    fn raw(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        self.reserve(text.len() + 2);
        self.push(b'"');
        if is_plain(text.as_bytes()) {
            self.raw(text);
        } else {
            // Of what is not plain, most is JSON within JSON: its quotes alone need an escape.
            let mut from = 0;
            for at in memchr::memchr2_iter(b'"', b'\\', text.as_bytes()) {
                self.unquoted(&text[from..at]);
                self.extend_from_slice(&[b'\\', text.as_bytes()[at]]);
                from = at + 1;
            }
            self.unquoted(&text[from..]);
        }
        self.push(b'"');
    }

    fn unquoted(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            return self.raw(text);
        }
        let json = serde_json::to_string(text).unwrap_or_default();
        let escaped = escape_json(&json);
        self.raw(escaped.get(1..escaped.len() - 1).unwrap_or_default());
    }

    fn unsigned(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        self.extend_from_slice(&digits[digits.len() - count..]);
    }

    fn signed(&mut self, number: i64) {
        if number < 0 {
            self.push(b'-');
        }
        self.unsigned(number.unsigned_abs());
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        self.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(b',');
            }
            write(self, item);
        }
        self.push(b']');
    }

    fn other(&mut self, value: &impl Serialize) {
        // Text, numbers, bytes and maps of text: of these none can fail.
        let json = serde_json::to_string(value).unwrap_or_default();
        self.raw(&escape_json(&json));
    }
}

/// Whether a text stands in JSON as it is: printable ASCII without quote and backslash. Looks at eight bytes at once.
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else {
        let odd = |byte: &u8| !(b' '..=b'~').contains(byte) || matches!(byte, b'"' | b'\\');
        return !text.iter().any(odd);
    };
    // No short cut, so that several words are looked at together. The last one may overlap the one before.
    let (words, _) = text.as_chunks::<8>();
    words.iter().fold(odd_bytes(last), |any, word| any | odd_bytes(word)) == 0
}

/// The high bit of each byte that is not plain, and maybe of others when there is one.
fn odd_bytes(word: &[u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*word);
    // A byte below the limit borrows from its high bit, unless that is set already: then it is no ASCII.
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (word | below(word, b' ') | equal(b'"') | equal(b'\\') | equal(0x7f)) & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use custody_record::{Kind, SessionId, Status, Times};

    use super::*;

    fn told(value: Value, more: bool) -> View {
        let masked = MaskedField { path: "a\"b".into(), kind: "email".into(), action: "redact".into() };
        let name = "http.request.header.x\u{202e}";
        let record = Record {
            kind: Kind::ExchangeOpen,
            session: more.then_some(u64::MAX),
            exchange: more.then_some(0),
            times: Times { first_ns: 10, last_ns: u64::MAX },
            fields: Fields::from([("a".into(), value), (name.into(), Value::Unsigned(9))]),
            masked: if more { vec![masked.clone(), masked] } else { Vec::new() },
            kinds: if more { BTreeMap::from([("email".into(), 2)]) } else { BTreeMap::new() },
            anomalies: if more { vec!["x".into(), "y".into()] } else { Vec::new() },
        };
        View {
            host: "h".into(),
            host_name: "name of “host”".into(),
            epoch: 0,
            seq: 18_446_744_073_709_551_615,
            entry_type: "exchange".into(),
            session_id: more.then(|| SessionId::of(&[1; 16], 1, &[2; 16], 3)),
            exchange: more.then_some(7),
            received: i64::MIN,
            wall: -1,
            status: Status::Unstored,
            record: Some(record),
            session: if more { Fields::from([("b".into(), Value::Bool(true))]) } else { Fields::new() },
            labels: if more { [("k".to_owned(), "v\n".to_owned())].into() } else { BTreeMap::new() },
            unreadable: more,
            expired: more,
        }
    }

    #[test]
    fn each_odd_byte_is_seen_at_each_place() {
        for length in 0..20 {
            assert!(is_plain(&vec![b'~'; length]));
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut text = vec![b' '; length];
                text[at] = byte;
                let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), plain, "byte {byte} at {at} of {length}");
            }
        }
    }

    #[test]
    fn a_line_is_what_serde_and_the_escapes_give() {
        let long = |end: &str| Value::Text("sixteen bytes ok".repeat(3) + end);
        let list = Value::List(vec![None, Some(Value::Signed(-5)), Some(Value::Float(1.5)), Some("".into())]);
        let texts =
            ["\"", "\\", "\n", "\"\n\\ä\"", "\u{7f}", "\u{0}", "ä", "\u{2028}", "😀", "", "/"].map(long);
        let others = [list, Value::List(Vec::new()), Value::Float(f64::NAN), Value::Bytes(vec![0, 255])];
        for value in texts.into_iter().chain(others).chain([Value::Bool(false), Value::Signed(i64::MIN)]) {
            for more in [true, false] {
                let told = told(value.clone(), more);
                let mut line = Vec::new();
                view(&told, &mut line);
                let expected = serde_json::to_string(&told).unwrap();
                assert_eq!(String::from_utf8(line).unwrap(), escape_json(&expected));
            }
            let bare = View { record: None, ..told(value, false) };
            let mut line = Vec::new();
            view(&bare, &mut line);
            assert_eq!(line, serde_json::to_string(&bare).unwrap().into_bytes());
        }
    }
}
