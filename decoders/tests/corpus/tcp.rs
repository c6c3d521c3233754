//! Odd TCP: how many bytes of a connection a capture holds, each counted once, however often and in whichever order it
//! was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, number, rows, stream_of};
use crate::compare::{Class, Comparison, Difference, Exchange, Reason, Said};

/// Of segments that overlap.
const OVERLAP: &str = "tcp_overlap";

type Sent = BTreeMap<Stream, u64>;

fn said(sent: Sent) -> Said {
    let carries = sent.into_iter().filter(|(_, bytes)| *bytes > 0);
    carries.map(|(stream, bytes)| (stream, vec![Exchange::new("bytes", bytes.to_string())])).collect()
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
    let mut overlapped = BTreeSet::new();
    for record in records.iter().filter(|record| record.kind == Kind::SessionClose) {
        let bytes =
            [names::BYTES_UP, names::BYTES_DOWN, names::BYTES_SKIPPED].map(|name| number(record, name));
        *sent.entry(stream_of(record)).or_default() +=
            bytes.iter().sum::<u64>() - number(record, names::BYTES_LOST);
        if record.anomalies.iter().any(|code| code == OVERLAP) {
            overlapped.insert(stream_of(record));
        }
    }
    let mut said = said(sent);
    for (_, exchanges) in said.iter_mut().filter(|(stream, _)| overlapped.contains(stream)) {
        exchanges.iter_mut().for_each(|one| one.codes.extend([OVERLAP.to_owned()]));
    }
    said
}

fn reason(difference: &Difference<'_>) -> Option<Reason> {
    if difference.ours.is_some_and(|ours| ours.is(OVERLAP)) {
        Some((Class::NotComparable, "segments that overlap: it counts the bytes of each"))
    } else if difference.file.starts_with("tcpdump__tcp_rst_") {
        Some((Class::NotComparable, "bytes within a reset, which we take for no part of the stream"))
    } else if difference.file == "pcapplusplus__one_tcp_stream.pcap" {
        Some((Class::TheirsWrong, "the byte of a keep-alive, which had been sent before"))
    } else {
        None
    }
}

#[test]
fn bytes_of_odd_tcp() {
    let unit = "the bytes of both directions of each connection";
    Comparison { folder: "tcp", unit, theirs, ours, reason }.run();
}
