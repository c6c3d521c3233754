//! HTTP/1: an exchange is a method, a path and a status. Also the captures of odd TCP, most of which carry it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, rows, stream_of, text};
use crate::compare::{Class, Comparison, Difference, Exchange, NONE, Reason, Said};

const UNIT: &str = "method, path and status of each exchange";

/// Requests of a connection in their order, each with the status of its final answer.
fn theirs(corpus: &Path, folder: &str, file: &Path) -> Option<Said> {
    // Of a frame all methods are told before all paths.
    let mut frames: BTreeMap<(u64, Stream), [VecDeque<String>; 3]> = BTreeMap::new();
    for row in rows(corpus, folder, file)? {
        let kind = match row.field.as_str() {
            "http.request.method" => 0,
            "http.request.uri" => 1,
            "http.response.code" => 2,
            _ => continue,
        };
        frames.entry((row.frame, row.stream)).or_default()[kind].push_back(row.value);
    }
    let mut exchanges: BTreeMap<Stream, Vec<(String, Option<String>)>> = BTreeMap::new();
    for ((_, stream), [methods, mut uris, codes]) in frames {
        let exchanges = exchanges.entry(stream).or_default();
        for method in methods {
            let uri = uris.pop_front().unwrap_or_default();
            exchanges.push((format!("{method} {}", path_of(&uri)), None));
        }
        for code in codes.into_iter().filter(|code| !code.starts_with('1') || code == "101") {
            match exchanges.iter_mut().find(|(_, answer)| answer.is_none()) {
                Some(open) => open.1 = Some(code),
                None => exchanges.push((NONE.to_owned(), Some(code))),
            }
        }
    }
    let mut said = Said::new();
    for (stream, exchanges) in exchanges {
        for (request, answer) in exchanges {
            said.entry(stream).or_default().push(Exchange::new(request, answer.as_deref().unwrap_or(NONE)));
        }
    }
    Some(said)
}

/// The path of a request's target.
fn path_of(uri: &str) -> &str {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None if path.is_empty() => "/",
        None => path,
    }
}

/// Of one of ours: its connection, its method, path and status, and its anomalies.
type Known = (Stream, [Option<String>; 3], BTreeSet<String>);

/// An exchange that is told in several records, as one that goes on is, is one; its last status is the final one.
fn ours(records: &[Record]) -> Said {
    let kinds = [Kind::Exchange, Kind::ExchangeOpen, Kind::ExchangePart, Kind::ExchangeClose];
    let mut exchanges: BTreeMap<_, Known> = BTreeMap::new();
    for record in records.iter().filter(|record| kinds.contains(&record.kind)) {
        let known = exchanges.entry((record.session, record.exchange)).or_default();
        known.0 = stream_of(record);
        let names = [names::HTTP_METHOD, names::URL_PATH, names::HTTP_STATUS];
        for (known, name) in known.1.iter_mut().zip(names) {
            *known = text(record, name).or(known.take());
        }
        known.2.extend(record.anomalies.iter().map(ToString::to_string));
    }
    let mut said = Said::new();
    for (stream, [method, path, status], codes) in exchanges.into_values() {
        if method.is_none() && status.is_none() {
            continue;
        }
        let request = method.map(|method| format!("{method} {}", path.unwrap_or_default()));
        let (what, how) = (request.as_deref().unwrap_or(NONE), status.as_deref().unwrap_or(NONE));
        said.entry(stream).or_default().push(Exchange { codes, ..Exchange::new(what, how) });
    }
    said
}

/// Whether the connection holds a request line of this method and path, as one reader told it.
fn has_request_line(difference: &Difference<'_>, what: &str) -> bool {
    // What is masked in a path stands for anything.
    let begins = what.split('‹').next().unwrap_or_default();
    difference.has_line(begins.as_bytes())
}

/// Whether the connection holds a status line of this status: digits behind a version, whatever stands before it.
fn has_status_line(difference: &Difference<'_>, how: &str) -> bool {
    let says = |line: &[u8]| {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|word| word.starts_with(how.as_bytes()))
    };
    let [one, other] = difference.bytes;
    [one, other]
        .into_iter()
        .any(|bytes| memchr::memmem::find_iter(bytes, b"HTTP/").any(|at| says(&bytes[at..])))
}

fn reason(difference: &Difference<'_>) -> Option<Reason> {
    let (ours, theirs) = (difference.ours, difference.theirs);
    if difference.file == "suricata-verify__tcp-urgent1.pcap" {
        return Some((
            Class::NotComparable,
            "urgent data within a request: it tells none, we the byte in its place",
        ));
    }
    let ours = ours?;
    let they_tell = |side: fn(&Exchange) -> &str| theirs.is_some_and(|theirs| side(theirs) != NONE);
    let request_is_theirs = they_tell(|one| &one.what);
    let answer_is_theirs = they_tell(|one| &one.how);
    let request_is_there = ours.what == NONE || request_is_theirs || has_request_line(difference, &ours.what);
    let answer_is_there = ours.how == NONE || answer_is_theirs || has_status_line(difference, &ours.how);
    if !request_is_there || !answer_is_there {
        return None;
    }
    let why = match (ours.what != NONE && !request_is_theirs, ours.how != NONE && !answer_is_theirs) {
        (true, true) => "it tells neither the request nor the status line, and both stand in the bytes",
        (true, false) => "it does not tell a request whose line stands in the bytes",
        (false, true) if ours.is("http1_truncated") || difference.lost > 0 => {
            "it does not tell an answer that is not whole, whose status line stands in the bytes"
        }
        (false, true) => "it does not tell an answer whose status line stands in the bytes",
        (false, false) => return None,
    };
    Some((Class::TheirsWrong, why))
}

#[test]
fn http1_captures() {
    let theirs = |corpus: &Path, file: &Path| theirs(corpus, "http1", file);
    Comparison { folder: "http1", unit: UNIT, theirs, ours, reason }.run();
}

#[test]
fn captures_of_odd_tcp() {
    let theirs = |corpus: &Path, file: &Path| theirs(corpus, "tcp", file);
    Comparison { folder: "tcp", unit: UNIT, theirs, ours, reason }.run();
}
