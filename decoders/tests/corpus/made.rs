//! Captures made with known content: their counts are the truth, and ours equal them.

use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{corpus, decode, number, text};

/// All records of a made capture, which is whole.
fn made(corpus: &Path, name: &str) -> Vec<Record> {
    let decoded = decode(&corpus.join("made").join(name));
    assert!(!decoded.damaged, "{name} is damaged");
    decoded.records
}

#[test]
fn made_captures_have_known_counts() {
    let Some(corpus) = corpus() else { return };
    println!("made: files of known content, exchanges ours of those that were made");
    let count = |file: &str, what: &str, ours: usize, made: usize| {
        println!("  {file}: {ours} of {made} {what}");
        assert_eq!(ours, made, "{file}: {what}");
    };

    let file = "pg_tpcb_ext_small.pcap";
    let records = made(&corpus, file);
    let executes = records.iter().filter(|record| {
        record.kind == Kind::Exchange && text(record, names::DB_MESSAGE).as_deref() == Some("Execute")
    });
    count(file, "executes", executes.count(), 8400);

    let file = "redis_p16_small.pcap";
    let records = made(&corpus, file);
    let operation = |record: &Record| text(record, names::DB_OPERATION);
    let commands: Vec<&Record> = records.iter().filter(|record| operation(record).is_some()).collect();
    let is_load = |record: &&&Record| matches!(operation(record).as_deref(), Some("SET" | "GET" | "HSET"));
    count(file, "commands of the load", commands.iter().filter(is_load).count(), 30_000);
    // Beside the load, each CONFIG that the capture holds: the client asks for two settings before it begins.
    count(file, "commands", commands.len(), 30_002);
    let answered = |record: &&&Record| text(record, names::OUTCOME).as_deref() == Some("ok");
    count(file, "answered", commands.iter().filter(answered).count(), 30_002);
    assert!(commands.iter().all(|record| record.anomalies.is_empty()), "{file}");

    let file = "http_small.pcap";
    let records = made(&corpus, file);
    let is_request = |record: &&Record| matches!(record.kind, Kind::Exchange | Kind::ExchangeOpen);
    count(file, "requests", records.iter().filter(is_request).count(), 7986);
    let answered = |record: &&Record| {
        number(record, names::HTTP_STATUS) == 200 && number(record, names::HTTP_RESPONSE_SIZE) == 149
    };
    count(file, "answered with their 149 bytes", records.iter().filter(answered).count(), 7983);
    let cut_off = |record: &&Record| text(record, names::OUTCOME).as_deref() == Some("no_response");
    let ended = records.iter().filter(|record| matches!(record.kind, Kind::Exchange | Kind::ExchangeClose));
    count(file, "cut off by the end", ended.filter(cut_off).count(), 7986 - 7983);
}
