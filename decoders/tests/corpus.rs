//! Captures that nobody here wrote, through the pipeline: no panic, bounded memory, and what differs from the
//! second reader counted by cause. Equality is not required: the second reader errs too.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use custody_decoders::event::Event;
use custody_decoders::pcap::{Capture, CaptureOptions};
use custody_decoders::pipeline::{Pipeline, PipelineOptions};
use custody_record::{Kind, Record, Value, names};

/// What any capture of the corpus may hold at once.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The corpus: `CUSTODY_CORPUS`, else beside the repository. `None`, said loudly, where there is none.
fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let path = std::env::var_os("CUSTODY_CORPUS").map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus of captures is missing: set CUSTODY_CORPUS");
    eprintln!("SKIPPED: no corpus of captures; set CUSTODY_CORPUS to compare with the second reader");
    None
}

fn captures(corpus: &Path, folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join(folder))
        .unwrap_or_else(|error| panic!("folder {folder} of the corpus: {error}"))
        .map(|entry| entry.expect("folder entry").path())
        .collect();
    files.sort();
    files
}

/// Records of a capture, and the most that was held.
fn decode(path: &Path) -> Option<(Vec<Record>, usize)> {
    let mut file = std::fs::read(path).expect("capture");
    if file.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(file.as_slice()).read_to_end(&mut plain).expect("gzip");
        file = plain;
    }
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let (mut records, mut held_bytes) = (Vec::new(), 0);
    let mut capture = Capture::new(CaptureOptions::default());
    let mut hear = |event: Event<'_>| {
        pipeline.feed(event, &mut |masked| records.push(masked.get().clone()));
        held_bytes = held_bytes.max(pipeline.held_bytes());
    };
    let read = capture.push(&file, &mut hear).and(capture.finish(&mut hear));
    if let Err(damage) = read {
        println!("  {}: {damage}", path.display());
    }
    pipeline.finish(&mut |masked| records.push(masked.get().clone()));
    assert_eq!((pipeline.sessions_open(), pipeline.held_bytes()), (0, 0), "{}", path.display());
    Some((records, held_bytes))
}

type Counts = BTreeMap<(String, String), i64>;

fn text(record: &Record, name: &str) -> Option<String> {
    match record.fields.get(name)? {
        Value::Text(text) => Some(text.clone()),
        Value::Unsigned(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(record: &Record, name: &str) -> u64 {
    match record.fields.get(name) {
        Some(Value::Unsigned(number)) => *number,
        _ => 0,
    }
}

/// Values of the compared fields as the second reader saw them.
fn oracle(corpus: &Path, folder: &str, file: &Path, fields: &[(&str, &str)]) -> Option<Counts> {
    let name = format!("oracle/{folder}__{}.tsv", file.file_name()?.to_string_lossy());
    let table = std::fs::read_to_string(corpus.join(name)).ok()?;
    let mut counts = Counts::new();
    for row in table.lines().skip(1) {
        let mut columns = row.split('\t').skip(5);
        let (Some(field), Some(value)) = (columns.next(), columns.next()) else { continue };
        // A row is counted; its cells the second reader does not tell as text.
        let row = (field, value) == ("pgsql.type", "Data row");
        let (field, value) = if row { (value, "") } else { (field, value) };
        let Some((_, ours)) = fields.iter().find(|(theirs, _)| *theirs == field) else { continue };
        if value.is_empty() && !row {
            // What has no name: the second reader tells an empty one.
            continue;
        }
        let count = counts.entry(((*ours).to_owned(), unescaped(value))).or_default();
        *count = if ONCE.contains(ours) { 1 } else { *count + 1 };
    }
    Some(counts)
}

fn ours(records: &[Record], fields: &[(&str, &str)]) -> Counts {
    let mut counts = Counts::new();
    for record in records {
        for (_, name) in fields {
            if matches!(record.kind, Kind::SessionOpen | Kind::SessionClose) {
                continue;
            }
            for value in values(record, name) {
                let count = counts.entry(((*name).to_owned(), value)).or_default();
                *count = if ONCE.contains(name) { 1 } else { *count + 1 };
            }
        }
    }
    counts
}

/// Fields that the second reader tells where a thing is named first, and we where it is used: each is counted once.
const ONCE: [&str; 2] = [names::DB_QUERY_TEXT, names::DB_STATEMENT_NAME];

/// What a record says in a field that is compared: rows are counted, names in a list are told one by one.
fn values(record: &Record, name: &str) -> Vec<String> {
    match record.fields.get(name) {
        Some(Value::List(rows)) if name == names::DB_ROWS => vec![String::new(); rows.len()],
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| match item {
                Some(Value::Text(text)) => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => text(record, name).into_iter().collect(),
    }
}

/// The second reader's table has tab, newline and return escaped.
fn unescaped(value: &str) -> String {
    value.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r")
}

/// What masking left of a text, if this is that text: masks stand for anything.
fn is_masked(masked: &str, text: &str) -> bool {
    let mut pieces = masked.split('‹').map(|piece| piece.split_once('›').map_or(piece, |(_, after)| after));
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for piece in pieces {
        let Some(found) = rest.find(piece).filter(|_| !piece.is_empty()) else {
            rest = "";
            continue;
        };
        rest = &rest[found + piece.len()..];
    }
    masked.contains('‹') && rest.is_empty()
}

/// Their values as ours, where ours are masked.
fn masked_alike(theirs: Counts, ours: &Counts) -> Counts {
    let mut counts = Counts::new();
    for ((field, value), count) in theirs {
        let masked = ours.keys().find(|(name, masked)| *name == field && is_masked(masked, &value));
        *counts.entry(masked.cloned().unwrap_or((field, value))).or_default() += count;
    }
    counts
}

/// Why a file's records may differ, by what they say of themselves. The second reader tells no answer that is
/// incomplete or malformed, and guesses where we say that something is odd.
fn cause(records: &[Record]) -> &'static str {
    let closes = || records.iter().filter(|record| record.kind == Kind::SessionClose);
    let any = |code: &str| records.iter().any(|record| record.anomalies.iter().any(|known| known == code));
    let one_sided =
        |record: &Record| number(record, names::BYTES_UP) == 0 || number(record, names::BYTES_DOWN) == 0;
    if closes().any(|record| number(record, names::BYTES_LOST) > 0) {
        "bytes missing in the capture"
    } else if closes().any(one_sided) {
        "one direction is missing in the capture"
    } else if any("http1_truncated") {
        "an answer that ends before its length"
    } else if any("http1_bad_status") || any("http1_blank_before_status") {
        "a status line that is none, or empty lines before it"
    } else if any("http1_bad_length") || any("http1_bad_transfer_coding") || any("http1_obs_fold") {
        "lengths that two parsers may read differently"
    } else if closes().any(|record| number(record, names::BYTES_UNPARSED) > 0) {
        "bytes that are no message"
    } else {
        UNKNOWN_CAUSE
    }
}

/// Values of one file that differ and are shown.
const SHOWN_MAX: i64 = 8;
/// No difference may have it.
const UNKNOWN_CAUSE: &str = "no cause known";

fn compare(folder: &str, fields: &[(&str, &str)]) {
    let Some(corpus) = corpus() else { return };
    let mut causes: BTreeMap<&str, (usize, i64, i64)> = BTreeMap::new();
    let (mut files, mut unread, mut same, mut agreed) = (0, 0, 0, 0);
    for path in captures(&corpus, folder) {
        files += 1;
        let Some((records, held_bytes)) = decode(&path) else {
            unread += 1;
            continue;
        };
        assert!(held_bytes < HELD_BYTES_MAX, "{}: held {held_bytes} bytes", path.display());
        let panicked = records.iter().any(|record| record.anomalies.contains(&"decoder_panicked".into()));
        assert!(!panicked, "{}: a decoder panicked", path.display());
        let Some(theirs) = oracle(&corpus, folder, &path, fields) else { continue };
        let ours = ours(&records, fields);
        let theirs = masked_alike(theirs, &ours);
        let (mut missing, mut surplus) = (0, 0);
        let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            let (we, they) = (ours.get(key).copied().unwrap_or(0), theirs.get(key).copied().unwrap_or(0));
            missing += (they - we).max(0);
            surplus += (we - they).max(0);
            if we != they && missing + surplus <= SHOWN_MAX {
                println!("    {key:?}: ours {we}, theirs {they}");
            }
            agreed += we.min(they);
        }
        if missing + surplus == 0 {
            same += 1;
            continue;
        }
        let cause = cause(&records);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("  {name}: {missing} only theirs, {surplus} only ours ({cause})");
        let entry = causes.entry(cause).or_default();
        *entry = (entry.0 + 1, entry.1 + missing, entry.2 + surplus);
    }
    println!("{folder}: {files} captures, {unread} not read, {same} agree whole, {agreed} values agree");
    let unexplained = causes.contains_key(UNKNOWN_CAUSE);
    for (cause, (files, missing, surplus)) in causes {
        println!("  {cause}: {files} captures, {missing} values only theirs, {surplus} only ours");
    }
    assert!(agreed > 0, "nothing was decoded");
    assert!(!unexplained, "a difference to the second reader has no cause");
}

#[test]
fn http1_captures() {
    compare(
        "http1",
        &[("http.request.method", names::HTTP_METHOD), ("http.response.code", names::HTTP_STATUS)],
    );
}

#[test]
fn postgresql_captures() {
    compare(
        "postgresql",
        &[
            ("pgsql.query", names::DB_QUERY_TEXT),
            ("pgsql.statement", names::DB_STATEMENT_NAME),
            ("pgsql.portal", names::DB_PORTAL_NAME),
            ("pgsql.tag", names::DB_COMMAND_TAG),
            ("pgsql.code", names::DB_RESPONSE_STATUS),
            ("pgsql.severity", names::DB_SEVERITY),
            ("pgsql.message", names::ERROR_MESSAGE),
            ("pgsql.col.name", names::DB_COLUMNS),
            ("Data row", names::DB_ROWS),
        ],
    );
}

#[test]
fn captures_of_odd_tcp_do_no_harm() {
    let Some(corpus) = corpus() else { return };
    let (mut files, mut records_told) = (0, 0);
    for path in captures(&corpus, "tcp") {
        let Some((records, held_bytes)) = decode(&path) else { continue };
        assert!(held_bytes < HELD_BYTES_MAX, "{}: held {held_bytes} bytes", path.display());
        files += 1;
        records_told += records.len();
    }
    println!("tcp: {files} captures, {records_told} records");
    assert!(files > 0);
}

#[test]
fn made_captures_have_known_counts() {
    let Some(corpus) = corpus() else { return };
    let (records, _) = decode(&corpus.join("made/pg_tpcb_ext_small.pcap")).expect("capture");
    let executes = records.iter().filter(|record| {
        record.kind == Kind::Exchange && text(record, names::DB_MESSAGE).as_deref() == Some("Execute")
    });
    assert_eq!(executes.count(), 8400, "pg_tpcb_ext_small");
    let (records, _) = decode(&corpus.join("made/http_small.pcap")).expect("capture");
    let exchanges: Vec<_> = records.iter().filter(|record| record.kind == Kind::Exchange).collect();
    let answered = exchanges.iter().filter(|exchange| number(exchange, names::HTTP_STATUS) == 200).count();
    let opened = records.iter().filter(|record| record.kind == Kind::ExchangeOpen).count();
    assert_eq!(
        (exchanges.len() + opened, answered),
        (7986, 7983),
        "http_small: requests, and those answered"
    );
    for exchange in exchanges {
        let answered = number(exchange, names::HTTP_STATUS) == 200;
        let cut_off = text(exchange, names::OUTCOME).as_deref() == Some("no_response");
        assert!(answered || cut_off, "{exchange:?}");
        assert!(cut_off || number(exchange, names::HTTP_RESPONSE_SIZE) == 149, "{exchange:?}");
    }
}
