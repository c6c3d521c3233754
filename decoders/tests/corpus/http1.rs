//! HTTP/1: an exchange is a method, a path and a status. Also the captures of odd TCP, most of which carry it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, rows, stream_of, text};
use crate::compare::{Alone, Class, Comparison, Reason, Said, oddness};

const UNIT: &str = "exchanges (method, path and status), by connection";
const NONE: &str = "none";

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
            let exchange = format!("{request} → {}", answer.as_deref().unwrap_or(NONE));
            *said.entry(stream).or_default().entry(exchange).or_default() += 1;
        }
    }
    Some(said)
}

/// The path of a request's target.
fn path_of(uri: &str) -> &str {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    }
}

/// An exchange that is told in several records, as one that goes on is, is one; its last status is the final one.
fn ours(records: &[Record]) -> Said {
    let kinds = [Kind::Exchange, Kind::ExchangeOpen, Kind::ExchangePart, Kind::ExchangeClose];
    let mut exchanges: BTreeMap<_, (Stream, [Option<String>; 3])> = BTreeMap::new();
    for record in records.iter().filter(|record| kinds.contains(&record.kind)) {
        let known = exchanges.entry((record.session, record.exchange)).or_default();
        known.0 = stream_of(record);
        let names = [names::HTTP_METHOD, names::URL_PATH, names::HTTP_STATUS];
        for (known, name) in known.1.iter_mut().zip(names) {
            *known = text(record, name).or(known.take());
        }
    }
    let mut said = Said::new();
    for (stream, [method, path, status]) in exchanges.into_values() {
        if method.is_none() && status.is_none() {
            continue;
        }
        let request = method.map(|method| format!("{method} {}", path.unwrap_or_default()));
        let (request, status) = (request.as_deref().unwrap_or(NONE), status.as_deref().unwrap_or(NONE));
        *said.entry(stream).or_default().entry(format!("{request} → {status}")).or_default() += 1;
    }
    said
}

fn reason(alone: &Alone<'_>) -> Option<Reason> {
    if alone.file == "suricata-verify__tcp-urgent1.pcap" {
        return Some((
            Class::NotComparable,
            "urgent data within a request: it tells none, we the byte in its place",
        ));
    }
    oddness(alone.records)
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
