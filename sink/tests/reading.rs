//! The real program, read by people over real sockets: who may, what a slow reader costs others (nothing), and
//! that it is told what it missed.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;

use custody_ledger::wire::{self, ErrorResponse, RefusalCode};
use custody_record::view::{HostView, Notice, SessionView, TailLine};
use custody_record::{Kind, Record, Times, Value, names};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use support::{Credentials, Host, Sink, batch_of};

/// An exchange whose answer has a body of so many bytes.
fn exchange(number: u64, bytes: usize) -> Vec<u8> {
    let fields = [
        (names::URL_PATH, Value::from(format!("/{number}"))),
        (names::HTTP_RESPONSE_BODY, Value::from("x".repeat(bytes))),
    ];
    let record = Record {
        kind: Kind::Exchange,
        session: None,
        exchange: Some(number),
        times: Times { first_ns: 1, last_ns: 2 },
        fields: fields.map(|(name, value)| (name.into(), value)).into(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    record.encode().unwrap()
}

async fn reader(sink: &Sink) -> Credentials {
    let token = sink.token(&["--role", "reader", "--name", "dana@corp"]);
    sink.enrol_with(&token).await.unwrap().credentials
}

async fn get(sink: &Sink, who: Option<&Credentials>, path: &str) -> (u16, Vec<u8>) {
    sink.request(who, Method::GET, path, Vec::new()).await.unwrap()
}

/// Lines of an answer that does not end by itself.
struct Lines {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Lines {
    async fn open(sink: &Sink, reader: &Credentials, path: &str) -> Self {
        let response = sink.open(Some(reader), Method::GET, path, Vec::new()).await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), bytes: Vec::new() }
    }

    async fn next(&mut self) -> TailLine {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                if line.len() > 1 {
                    return serde_json::from_slice(&line).unwrap();
                }
                continue;
            }
            let frame = self.body.frame().await.unwrap().unwrap();
            self.bytes.extend_from_slice(frame.data_ref().unwrap());
        }
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed_and_slows_nobody() {
    const BATCHES: u64 = 150;
    let sink = Sink::start_with("[limits]\nsubscriber_batches_max = 4");
    let (host, reader) = (sink.enrol().await, reader(&sink).await);
    let mut slow = Lines::open(&sink, &reader, "/v1/tail?follow=true").await;
    let mut quick = Lines::open(&sink, &reader, "/v1/tail?follow=true").await;
    for lines in [&mut slow, &mut quick] {
        assert_eq!(lines.next().await, TailLine::Notice(Notice::Hosts { shown: 1, known: 1 }));
    }
    // Nobody reads the slow one's answer while far more than sockets hold is stored, and read by the other.
    let mut chain = host.epoch(1, None);
    for number in 0..BATCHES {
        let batch = batch_of(&mut chain, &exchange(number, 200_000));
        assert_eq!(sink.append(&host, &[&batch]).await.receipts.len(), 1);
        match quick.next().await {
            TailLine::Entry(view) => assert_eq!((view.seq, view.exchange), (number, Some(number))),
            TailLine::Notice(notice) => panic!("the quick reader was told {notice:?}"),
        }
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < BATCHES {
        match slow.next().await {
            TailLine::Entry(view) => {
                assert_eq!(view.seq, seen + missed, "what is missing is told where it is missing");
                seen += 1;
            }
            TailLine::Notice(Notice::Missed(batches)) => missed += batches,
            TailLine::Notice(_) => {}
        }
    }
    assert!(missed > 0, "the slow reader was never behind: the test shows nothing");
}

#[tokio::test]
async fn only_people_read() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    let entries = ["/v1/hosts", "/v1/tail", "/v1/sessions", "/v1/sessions/abc", "/v1/entries/web-1/1/0"];
    let found = ["/v1/search?q=x", "/v1/timeline?id=abc", "/v1/stats?by=host"];
    for path in entries.into_iter().chain(found) {
        for who in [None, Some(&host.credentials)] {
            let (status, body) = get(&sink, who, path).await;
            let refusal = wire::decode::<ErrorResponse>(&body).unwrap().refusal;
            assert_eq!((status, refusal.code), (403, RefusalCode::Forbidden), "{path}");
        }
    }
}

async fn three_stored(sink: &Sink) -> Host {
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    for number in 0..3 {
        sink.append(&host, &[&batch_of(&mut chain, &exchange(number, 1))]).await;
    }
    host
}

#[tokio::test]
async fn what_is_stored_is_found_by_host_filter_number_and_citation() {
    let sink = Sink::start();
    let (host, reader) = (three_stored(&sink).await, reader(&sink).await);
    let (_, hosts) = get(&sink, Some(&reader), "/v1/hosts").await;
    let hosts: Vec<HostView> = serde_json::from_slice(&hosts).unwrap();
    assert_eq!(hosts[0].head.map(|head| (head.epoch, head.batch, head.seq)), Some((1, 2, 2)));
    assert!(!hosts[0].silent);
    let paths = async |query: &str| -> Vec<String> {
        let (status, body) = get(&sink, Some(&reader), &format!("/v1/tail{query}")).await;
        assert_eq!(status, 200, "{query}");
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
        lines
            .filter_map(|line| match line {
                TailLine::Entry(view) => view.text(names::URL_PATH).map(|path| path.into_owned()),
                TailLine::Notice(_) => None,
            })
            .collect()
    };
    assert_eq!(paths("").await, ["/0", "/1", "/2"]);
    assert_eq!(paths("?n=2").await, ["/1", "/2"]);
    assert_eq!(paths("?where=url.path%20%3D%20%27/1%27").await, ["/1"]);
    assert_eq!(paths("?where=host%20%3D%20other").await, [""; 0]);
    assert_eq!(paths("?until=1").await, [""; 0]);
    let id = host.id;
    let (status, entry) = get(&sink, Some(&reader), &format!("/v1/entries/{id}/1/2")).await;
    assert_eq!(status, 200);
    let entry: custody_record::View = serde_json::from_slice(&entry).unwrap();
    assert_eq!(entry.text(names::URL_PATH).as_deref(), Some("/2"));
}

#[tokio::test]
async fn bad_questions_get_a_sentence() {
    let sink = Sink::start();
    let (_, reader) = (three_stored(&sink).await, reader(&sink).await);
    let cases = [
        ("/v1/tail?where=no_such_field%20%3D%201", 422, "no_such_field"),
        ("/v1/tail?n=many", 422, "n"),
        ("/v1/tail?no_such_key=1", 422, "no_such_key"),
        ("/v1/tail?n=2000000", 422, "at most"),
        ("/v1/sessions/zzzzzz", 404, "no session"),
        ("/v1/sessions/i", 422, ""),
        ("/v1/entries/nobody/1/1", 404, "no such host"),
    ];
    for (path, expected, sentence) in cases {
        let (status, body) = get(&sink, Some(&reader), path).await;
        let refusal = wire::decode::<ErrorResponse>(&body).unwrap().refusal;
        assert_eq!(status, expected, "{path}: {}", refusal.detail);
        assert!(refusal.detail.contains(sentence), "{path}: {}", refusal.detail);
    }
    let (_, sessions) = get(&sink, Some(&reader), "/v1/sessions").await;
    assert_eq!(serde_json::from_slice::<Vec<SessionView>>(&sessions).unwrap(), []);
}

#[tokio::test]
async fn a_sink_that_stops_ends_those_who_follow() {
    let mut sink = Sink::start();
    let reader = reader(&sink).await;
    let mut lines = Lines::open(&sink, &reader, "/v1/tail?follow=true").await;
    lines.next().await;
    // Waits until the process ended; one that follows must not hold it.
    sink.stop();
    while let Some(frame) = lines.body.frame().await {
        assert!(frame.is_ok_and(|frame| frame.data_ref().is_some_and(|data| data[..] == b"\n"[..])));
    }
}
