//! Redis: an exchange is a command and its reply. The second reader tells neither which reply answers which command, nor
//! in which order values of different kinds came in a segment: what is sure of it is joined here. A third one tells both,
//! for a few captures.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, corpus, decode, rows, stream_of, text};
use crate::compare::{Class, Comparison, Difference, Exchange, NONE, Reason, Said};

const PORT: u64 = 6379;
/// A reply of which the second reader does not tell enough.
const UNKNOWN: &str = "?";
/// What the server says unasked.
const PUSH: &str = "push";

/// Commands of a connection that wait, and the values that came since.
#[derive(Default)]
struct Talk {
    commands: Vec<String>,
    arrays: usize,
    pushes: usize,
    values: Vec<(&'static str, String)>,
    told: Vec<Exchange>,
}

impl Talk {
    /// The next command comes: what came before it answers those that wait.
    fn settle(&mut self) {
        let commands = std::mem::take(&mut self.commands);
        let (arrays, values) = (std::mem::take(&mut self.arrays), std::mem::take(&mut self.values));
        let how = |(kind, value): &(&str, String)| format!("{kind} {value}");
        let one_kind = values.iter().all(|(kind, _)| *kind == values[0].0);
        match (commands.len(), arrays) {
            (0, 0) => self.told.extend(values.iter().map(|value| Exchange::new(NONE, how(value)))),
            (0, arrays) => self.told.extend((0..arrays).map(|_| Exchange::new(NONE, "array"))),
            (1, 1..) => self.told.push(Exchange::new(&commands[0], "array")),
            (count, 0) if count == values.len() && one_kind => {
                let pairs = commands.iter().zip(&values);
                self.told.extend(pairs.map(|(command, value)| Exchange::new(command, how(value))));
            }
            _ => self.told.extend(commands.iter().map(|command| Exchange::new(command, UNKNOWN))),
        }
        let pushes = std::mem::take(&mut self.pushes);
        self.told.extend((0..pushes).map(|_| Exchange::new(NONE, PUSH)));
    }
}

/// It tells the lengths of all commands of a segment before their words, reads no inline commands, and drops what spans
/// segments.
fn theirs(corpus: &Path, file: &Path) -> Option<Said> {
    let mut talks: BTreeMap<Stream, Talk> = BTreeMap::new();
    for frame in rows(corpus, "redis", file)?.chunk_by(|one, other| one.frame == other.frame) {
        let talk = talks.entry(frame[0].stream).or_default();
        let of =
            |field: &'static str| frame.iter().filter(move |row| row.field == field).map(|row| &row.value);
        let bulk = |hex: &String| String::from_utf8_lossy(&hex::decode(hex).unwrap_or_default()).into_owned();
        if frame[0].from_port == PORT {
            let arrays = of("resp.array.length").count();
            let first = of("resp.bulk_string.value").next().map(bulk);
            if matches!(first.as_deref(), Some("message" | "pmessage" | "smessage")) {
                talk.pushes += arrays;
                continue;
            }
            talk.arrays += arrays;
            talk.values.extend(of("resp.string").map(|value| ("string", value.clone())));
            talk.values.extend(of("resp.integer").map(|value| ("integer", value.clone())));
            talk.values.extend(of("resp.bulk_string.value").map(|value| ("bulk", bulk(value))));
            let code = |value: &String| value.split(' ').next().unwrap_or_default().to_owned();
            talk.values.extend(of("resp.error").map(|value| ("error", code(value))));
            continue;
        }
        if talk.arrays + talk.pushes > 0 || !talk.values.is_empty() {
            talk.settle();
        }
        let mut words: VecDeque<String> = of("resp.bulk_string.value").map(bulk).collect();
        for length in of("resp.array.length") {
            let length = length.parse::<usize>().unwrap_or(0).min(words.len());
            talk.commands.extend(words.drain(..length).next());
        }
    }
    let mut said = Said::new();
    for (stream, mut talk) in talks {
        talk.settle();
        said.insert(stream, talk.told);
    }
    Some(said)
}

fn ours(records: &[Record]) -> Said {
    let mut said = Said::new();
    for record in records.iter().filter(|record| record.kind == Kind::Exchange) {
        let told = said.entry(stream_of(record)).or_default();
        let unasked = text(record, names::REDIS_MESSAGE);
        if unasked.is_some_and(|message| message != "malformed") {
            told.push(Exchange::new(NONE, PUSH));
            continue;
        }
        let command = text(record, names::DB_OPERATION);
        let reply = text(record, names::REDIS_REPLY).unwrap_or_default();
        let how = match text(record, names::REDIS_REPLY_TYPE).as_deref() {
            // Its own reply says so; that of the transaction says what came of it.
            _ if record.fields.contains_key(names::REDIS_QUEUED) => "string QUEUED".to_owned(),
            Some("error") => format!("error {}", text(record, names::DB_RESPONSE_STATUS).unwrap_or_default()),
            Some(kind @ ("string" | "integer" | "bulk")) => format!("{kind} {reply}"),
            Some(kind) => kind.to_owned(),
            None => NONE.to_owned(),
        };
        told.push(Exchange::new(command.as_deref().unwrap_or(NONE), how));
    }
    said
}

fn reason(difference: &Difference<'_>) -> Option<Reason> {
    let ours = difference.ours?;
    let theirs = difference.theirs;
    let asked = |theirs: &Exchange| theirs.what != NONE;
    if theirs.is_some_and(|theirs| asked(theirs) && theirs.how == UNKNOWN) {
        let why = "the command is equal; of its reply it tells nothing, or not in which order several came";
        return Some((Class::NotComparable, why));
    }
    if !theirs.is_some_and(asked) && is_inline(difference, &ours.what) {
        return Some((
            Class::TheirsWrong,
            "an inline command, whose line stands in the bytes: it reads none",
        ));
    }
    None
}

/// Whether a line of the connection begins with this word, and no length stands in the line before it.
fn is_inline(difference: &Difference<'_>, word: &str) -> bool {
    difference.bytes.iter().any(|bytes| {
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let length = |line: &[u8]| matches!(line, [b'$', b'0'..=b'9', ..]);
        lines
            .iter()
            .enumerate()
            .any(|(at, line)| line.starts_with(word.as_bytes()) && (at == 0 || !length(lines[at - 1])))
    })
}

#[test]
fn redis_captures() {
    let unit = "name and reply of each command; what the server says unasked";
    let table = Comparison { folder: "redis", unit, theirs, ours, reason }.run();
    assert!(table.is_none_or(|table| table.equal > 20), "nothing was decoded");
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
        let mut records = decode(&corpus.join("redis").join(capture)).records;
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
