//! Redis, value by value: the second reader tells the words of all commands of a segment in one row after the other, and
//! which reply answers which command not at all. A third one does, for a few captures.

use std::collections::VecDeque;
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{corpus, decode, rows, stream_of, text};
use crate::compare::{Alone, Class, Comparison, Reason, Said};

const PORT: u64 = 6379;

fn count(said: &mut Said, stream: (u64, u64), name: &str, value: &str) {
    *said.entry(stream).or_default().entry(format!("{name}={value}")).or_default() += 1;
}

/// Commands, error codes and statuses. The second reader tells the lengths of all commands of a segment before their
/// words, knows no inline commands and drops what spans segments.
fn theirs(corpus: &Path, file: &Path) -> Option<Said> {
    let (mut said, mut lengths) = (Said::new(), VecDeque::new());
    let (mut frame, mut word) = (0, 0u64);
    for row in rows(corpus, "redis", file)? {
        if row.frame != frame {
            (frame, word) = (row.frame, 0);
            lengths.clear();
        }
        match (row.from_port == PORT, row.field.as_str()) {
            (false, "resp.array.length") => {
                lengths.push_back(row.value.parse::<i64>().unwrap_or(0).max(0).cast_unsigned());
            }
            (false, "resp.bulk_string.value") => {
                if word == 0 {
                    let bytes = hex::decode(&row.value).unwrap_or_default();
                    count(&mut said, row.stream, names::DB_OPERATION, &String::from_utf8_lossy(&bytes));
                    word = lengths.pop_front().unwrap_or(1);
                }
                word = word.saturating_sub(1);
            }
            (true, "resp.error") => {
                let code = row.value.split(' ').next().unwrap_or_default();
                count(&mut said, row.stream, names::DB_RESPONSE_STATUS, code);
            }
            (true, "resp.string") => count(&mut said, row.stream, names::REDIS_REPLY, &row.value),
            _ => {}
        }
    }
    Some(said)
}

fn ours(records: &[Record]) -> Said {
    let mut said = Said::new();
    for record in records.iter().filter(|record| record.kind == Kind::Exchange) {
        let mut count = |name: &str| {
            if let Some(value) = text(record, name) {
                count(&mut said, stream_of(record), name, &value);
            }
        };
        if text(record, names::REDIS_MESSAGE).is_none() {
            count(names::DB_OPERATION);
        }
        count(names::DB_RESPONSE_STATUS);
        if text(record, names::REDIS_REPLY_TYPE).as_deref() == Some("string") {
            count(names::REDIS_REPLY);
        }
    }
    said
}

fn reason(alone: &Alone<'_>) -> Option<Reason> {
    // What each connection sends there is inline, or a reply where a command should be.
    let inline = ["inline", "malicious", "reply-off-on", "skip-while-off", "pipelin", "benchmark", "pubsub"];
    let (name, value) = alone.said.split_once('=')?;
    let why = match (name, alone.ours) {
        (names::DB_OPERATION, true) if inline.iter().any(|part| alone.file.contains(part)) => {
            "inline commands, which it does not read"
        }
        (names::REDIS_REPLY, false) if alone.file.contains("large-requests") && value != "OK" => {
            "flags within a reply, where they are values and no reply"
        }
        _ => return None,
    };
    Some((Class::TheirsWrong, why))
}

#[test]
fn redis_captures() {
    let unit = "values (commands, error codes, statuses), by connection";
    let table = Comparison { folder: "redis", unit, theirs, ours, reason }.run();
    assert!(table.is_none_or(|table| table.equal > 90), "nothing was decoded");
}

/// Zeek's logs: a command a row, with what it was answered.
#[test]
fn redis_commands_equal_the_log_of_the_better_reader() {
    let Some(corpus) = corpus() else { return };
    let mut exchanges = 0;
    for (capture, log) in [
        ("zeek__reply-off-on.pcap", "client-reply-off.redis.log"),
        ("zeek__client-skip-while-off.pcap", "client-skip-while-off.redis.log"),
        ("zeek__stream.pcap", "stream.redis.log"),
    ] {
        let log =
            std::fs::read_to_string(corpus.join(format!("upstream/redis/{capture}.{log}"))).expect("log");
        let rows = log.lines().filter(|row| !row.starts_with('#'));
        let theirs: Vec<(String, bool)> = rows
            .map(|row| row.split('\t').collect::<Vec<_>>())
            .map(|row| (row[6].to_owned(), row[9] == "T"))
            .collect();
        let (mut records, _) = decode(&corpus.join("redis").join(capture));
        records.sort_by_key(|record| (record.session, record.exchange));
        let ours: Vec<(String, bool)> = records
            .iter()
            .filter_map(|record| {
                Some((text(record, names::DB_OPERATION)?, text(record, names::REDIS_REPLY_TYPE).is_some()))
            })
            .collect();
        assert_eq!(ours, theirs, "{capture}");
        exchanges += theirs.len();
    }
    println!("redis: {exchanges} exchanges of 3 files equal, in their order, to the log of a third reader");
}
