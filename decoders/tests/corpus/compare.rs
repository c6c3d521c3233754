//! Two readers of one capture, connection by connection, and the table of what they agree on.
//!
//! The second reader errs too, so a difference needs a reason, and the reason says whose fault it is. One without a
//! reason is ours until somebody shows otherwise; there may be none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use custody_record::{Kind, Record, names};

use crate::capture::{Stream, captures, corpus, decode, file_name, number, stream_of};

/// Differences of one file that are printed.
const SHOWN_MAX: usize = 8;

/// What a reader says: of each connection what it holds, and how often.
pub(crate) type Said = BTreeMap<Stream, BTreeMap<String, u64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    OursWrong,
    TheirsWrong,
    NotComparable,
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Class::OursWrong => "ours wrong",
            Class::TheirsWrong => "theirs wrong",
            Class::NotComparable => "not comparable",
        })
    }
}

/// Why something stands with one reader alone.
pub(crate) type Reason = (Class, &'static str);

const UNEXPLAINED: Reason = (Class::OursWrong, "no reason known, so ours until shown otherwise");

/// Something that one reader alone says.
pub(crate) struct Alone<'a> {
    pub(crate) file: &'a str,
    pub(crate) said: &'a str,
    pub(crate) ours: bool,
    /// Our records of its connection.
    pub(crate) records: &'a [&'a Record],
}

/// How a folder of the corpus is compared.
pub(crate) struct Comparison {
    pub(crate) folder: &'static str,
    /// What is counted.
    pub(crate) unit: &'static str,
    pub(crate) theirs: fn(&Path, &Path) -> Option<Said>,
    pub(crate) ours: fn(&[Record]) -> Said,
    pub(crate) reason: fn(&Alone<'_>) -> Option<Reason>,
}

#[derive(Default)]
pub(crate) struct Table {
    files: u64,
    damaged: u64,
    /// Files that the second reader was asked about.
    compared: u64,
    same: u64,
    records: u64,
    exchanges: u64,
    ours: u64,
    theirs: u64,
    pub(crate) equal: u64,
    /// Files, ours alone, theirs alone.
    differing: BTreeMap<Reason, (BTreeSet<String>, u64, u64)>,
}

impl Comparison {
    /// Compares all files, prints the table, and asserts that nothing is our fault.
    pub(crate) fn run(&self) -> Option<Table> {
        let corpus = corpus()?;
        let mut table = Table::default();
        for path in captures(&corpus, self.folder) {
            let (records, damaged) = decode(&path);
            table.files += 1;
            table.damaged += u64::from(damaged);
            table.records += records.len() as u64;
            let is_exchange = |record: &&Record| matches!(record.kind, Kind::Exchange | Kind::ExchangeOpen);
            table.exchanges += records.iter().filter(is_exchange).count() as u64;
            if let Some(theirs) = (self.theirs)(&corpus, &path) {
                self.file(&file_name(&path), &records, theirs, &mut table);
            }
        }
        table.print(self);
        assert_eq!(table.equal_and_alone(), (table.ours, table.theirs), "the table adds up");
        let wrong: Vec<_> = table.differing.keys().filter(|(class, _)| *class == Class::OursWrong).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", self.folder);
        assert!(table.equal > 0, "{}: nothing was decoded", self.folder);
        Some(table)
    }

    fn file(&self, file: &str, records: &[Record], theirs: Said, table: &mut Table) {
        let ours = (self.ours)(records);
        let mut shown = 0;
        let streams: BTreeSet<Stream> = ours.keys().chain(theirs.keys()).copied().collect();
        for stream in streams {
            let ours = ours.get(&stream).cloned().unwrap_or_default();
            let theirs = masked_alike(theirs.get(&stream).cloned().unwrap_or_default(), &ours);
            let records: Vec<&Record> = records.iter().filter(|record| stream_of(record) == stream).collect();
            for said in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                let count = |side: &BTreeMap<String, u64>| side.get(said).copied().unwrap_or(0);
                let (we, they) = (count(&ours), count(&theirs));
                table.ours += we;
                table.theirs += they;
                table.equal += we.min(they);
                if we == they {
                    continue;
                }
                let alone = Alone { file, said, ours: we > they, records: &records };
                let reason = (self.reason)(&alone).unwrap_or(UNEXPLAINED);
                if shown < SHOWN_MAX || reason.0 == Class::OursWrong {
                    println!(
                        "    {file} {stream:?} {said:?}: ours {we}, theirs {they} ({}: {})",
                        reason.0, reason.1
                    );
                }
                shown += 1;
                let (files, we_alone, they_alone) = table.differing.entry(reason).or_default();
                files.insert(file.to_owned());
                *we_alone += we.saturating_sub(they);
                *they_alone += they.saturating_sub(we);
            }
        }
        table.compared += 1;
        table.same += u64::from(shown == 0);
    }
}

impl Table {
    fn equal_and_alone(&self) -> (u64, u64) {
        let alone = self.differing.values().fold((0, 0), |sum, (_, we, they)| (sum.0 + we, sum.1 + they));
        (self.equal + alone.0, self.equal + alone.1)
    }

    fn print(&self, comparison: &Comparison) {
        let Table { files, damaged, compared, same, records, exchanges, ours, theirs, equal, .. } = self;
        println!(
            "{}: {files} files ({damaged} damaged), {records} records, {exchanges} exchanges ours",
            comparison.folder
        );
        println!("  compared with a second reader: {compared} files, {same} of them equal whole");
        println!("  counted: {}", comparison.unit);
        println!("  {:>7} ours  {:>7} theirs  {:>7} equal", ours, theirs, equal);
        for ((class, reason), (files, we, they)) in &self.differing {
            println!(
                "  {we:>7} ours alone  {they:>7} theirs alone  {:>3} files  {class}: {reason}",
                files.len()
            );
        }
        let wrong: u64 = self
            .differing
            .iter()
            .filter(|(key, _)| key.0 == Class::OursWrong)
            .map(|(_, row)| row.1 + row.2)
            .sum();
        println!("  {wrong:>7} ours wrong");
    }
}

/// What records say of themselves that explains a difference: there is something of the connection that no two readers
/// need to read alike.
pub(crate) fn oddness(records: &[&Record]) -> Option<Reason> {
    let closes = || records.iter().filter(|record| record.kind == Kind::SessionClose);
    let any = |code: &str| records.iter().any(|record| record.anomalies.iter().any(|known| known == code));
    let one_sided =
        |record: &&Record| number(record, names::BYTES_UP) == 0 || number(record, names::BYTES_DOWN) == 0;
    let why = if closes().any(|record| number(record, names::BYTES_LOST) > 0) {
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
        return None;
    };
    Some((Class::NotComparable, why))
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

/// What they say as we say it, where ours is masked.
fn masked_alike(theirs: BTreeMap<String, u64>, ours: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut alike = BTreeMap::new();
    for (said, count) in theirs {
        let masked = ours.keys().find(|masked| is_masked(masked, &said));
        *alike.entry(masked.cloned().unwrap_or(said)).or_default() += count;
    }
    alike
}
