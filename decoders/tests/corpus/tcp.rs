//! Odd TCP: how many bytes of a connection a capture holds, each counted once, however often and in whichever order it
//! was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, number, rows, stream_of};
use crate::compare::{Alone, Class, Comparison, Reason, Said};

type Sent = BTreeMap<Stream, u64>;

fn said(sent: Sent) -> Said {
    let carries = sent.into_iter().filter(|(_, bytes)| *bytes > 0);
    carries.map(|(stream, bytes)| (stream, BTreeMap::from([(format!("{bytes} bytes"), 1)]))).collect()
}

fn theirs(corpus: &Path, file: &Path) -> Option<Said> {
    let rows = rows(corpus, "tcp", file)?;
    let repeats = rows.iter().filter(|row| row.field == "tcp.analysis.retransmission");
    let repeats: BTreeSet<u64> = repeats.map(|row| row.frame).collect();
    let mut sent = Sent::new();
    for row in rows.iter().filter(|row| row.field == "tcp.len" && !repeats.contains(&row.frame)) {
        *sent.entry(row.stream).or_default() += row.value.parse::<u64>().expect("a length");
    }
    Some(said(sent))
}

/// What is missing is a part of what each end sent; ciphertext stands apart.
fn ours(records: &[Record]) -> Said {
    let mut sent = Sent::new();
    for record in records.iter().filter(|record| record.kind == Kind::SessionClose) {
        let bytes =
            [names::BYTES_UP, names::BYTES_DOWN, names::BYTES_SKIPPED].map(|name| number(record, name));
        *sent.entry(stream_of(record)).or_default() +=
            bytes.iter().sum::<u64>() - number(record, names::BYTES_LOST);
    }
    said(sent)
}

fn reason(alone: &Alone<'_>) -> Option<Reason> {
    let overlaps = |record: &&Record| record.anomalies.iter().any(|code| code == "tcp_overlap");
    if alone.records.iter().any(overlaps) {
        Some((Class::NotComparable, "segments that overlap: it counts the bytes of each"))
    } else if alone.file.starts_with("tcpdump__tcp_rst_") {
        Some((Class::NotComparable, "bytes within a reset, which we take for no part of the stream"))
    } else if alone.file == "pcapplusplus__one_tcp_stream.pcap" {
        Some((Class::TheirsWrong, "the byte of a keep-alive, which had been sent before"))
    } else {
        None
    }
}

#[test]
fn bytes_of_odd_tcp() {
    let unit = "connections, by the bytes of both directions";
    Comparison { folder: "tcp", unit, theirs, ours, reason }.run();
}
