//! Two readers of one capture, connection by connection, exchange by exchange, and the table of what they agree on.
//!
//! The second reader errs too, so a difference needs a reason: a fact that the capture proves, for this exchange, and
//! that says whose fault it is. A difference without one is ours; there may be none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use custody_record::{Kind, Record};

use crate::capture::{Decoded, Stream, captures, corpus, decode, file_name};

/// Differences of one file that are printed.
const SHOWN_MAX: usize = 8;
/// Stands for a request or an answer that a reader does not tell.
pub(crate) const NONE: &str = "none";

/// An exchange as one reader tells it: `what` was asked, `how` it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) what: String,
    pub(crate) how: String,
    /// Of ours, the codes of its anomalies.
    pub(crate) codes: BTreeSet<String>,
}

impl Exchange {
    pub(crate) fn new(what: impl Into<String>, how: impl Into<String>) -> Exchange {
        Exchange { what: what.into(), how: how.into(), codes: BTreeSet::new() }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.codes.contains(code)
    }
}

/// What a reader says: the exchanges of each connection, in their order.
pub(crate) type Said = BTreeMap<Stream, Vec<Exchange>>;

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

/// Why an exchange is told differently.
pub(crate) type Reason = (Class, &'static str);

const UNEXPLAINED: Reason = (Class::OursWrong, "no reason known, so ours until shown otherwise");

/// An exchange that the two readers tell differently, or that one of them alone tells.
pub(crate) struct Difference<'a> {
    pub(crate) file: &'a str,
    pub(crate) ours: Option<&'a Exchange>,
    pub(crate) theirs: Option<&'a Exchange>,
    /// The bytes of its connection as the capture holds them, of either direction, without holes.
    pub(crate) bytes: &'a [Vec<u8>; 2],
    /// Bytes of the connection that are missing.
    pub(crate) lost: u64,
}

impl Difference<'_> {
    /// Whether a line of the connection begins with these bytes.
    pub(crate) fn has_line(&self, begins: &[u8]) -> bool {
        self.bytes.iter().any(|bytes| bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(begins)))
    }
}

/// How a folder of the corpus is compared.
pub(crate) struct Comparison {
    pub(crate) folder: &'static str,
    /// What is counted.
    pub(crate) unit: &'static str,
    pub(crate) theirs: fn(&Path, &Path) -> Option<Said>,
    pub(crate) ours: fn(&[Record]) -> Said,
    /// The fact that explains a difference, where the capture proves one.
    pub(crate) reason: fn(&Difference<'_>) -> Option<Reason>,
}

#[derive(Default)]
pub(crate) struct Table {
    files: u64,
    damaged: u64,
    /// Files that the second reader was asked about.
    compared: u64,
    same: u64,
    /// Exchanges of ours in all files.
    told: u64,
    /// Exchanges that either reader tells, in the files that are compared.
    exchanges: u64,
    pub(crate) equal: u64,
    /// Files and exchanges.
    differing: BTreeMap<Reason, (BTreeSet<String>, u64)>,
}

impl Comparison {
    /// Compares all files, prints the table, and asserts that nothing is our fault.
    pub(crate) fn run(&self) -> Option<Table> {
        let corpus = corpus()?;
        let mut table = Table::default();
        for path in captures(&corpus, self.folder) {
            let decoded = decode(&path);
            table.files += 1;
            table.damaged += u64::from(decoded.damaged);
            let is_exchange = |record: &&Record| matches!(record.kind, Kind::Exchange | Kind::ExchangeOpen);
            table.told += decoded.records.iter().filter(is_exchange).count() as u64;
            if let Some(theirs) = (self.theirs)(&corpus, &path) {
                self.file(&file_name(&path), &decoded, &theirs, &mut table);
            }
        }
        table.print(self);
        let wrong: Vec<_> = table.differing.keys().filter(|(class, _)| *class == Class::OursWrong).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", self.folder);
        assert!(table.equal > 0, "{}: nothing was decoded", self.folder);
        Some(table)
    }

    fn file(&self, file: &str, decoded: &Decoded, theirs: &Said, table: &mut Table) {
        let ours = (self.ours)(&decoded.records);
        let mut shown = 0;
        for stream in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let side = |said: &'_ Said| said.get(stream).cloned().unwrap_or_default();
            let (equal, pairs) = compared(side(&ours), side(theirs));
            table.equal += equal;
            table.exchanges += equal + pairs.len() as u64;
            let (bytes, lost) = decoded.bytes.get(stream).cloned().unwrap_or_default();
            for (ours, theirs) in &pairs {
                let (ours, theirs) = (ours.as_ref(), theirs.as_ref());
                let reason = (self.reason)(&Difference { file, ours, theirs, bytes: &bytes, lost });
                let reason = reason.unwrap_or(UNEXPLAINED);
                if shown < SHOWN_MAX || reason.0 == Class::OursWrong {
                    let tell = |one: Option<&Exchange>| {
                        one.map_or(NONE.to_owned(), |one| format!("{:.200} → {:.200}", one.what, one.how))
                    };
                    let (ours, theirs) = (tell(ours), tell(theirs));
                    println!(
                        "    {file} {stream:?} ours {ours:?}, theirs {theirs:?} ({}: {})",
                        reason.0, reason.1
                    );
                }
                shown += 1;
                let (files, count) = table.differing.entry(reason).or_default();
                files.insert(file.to_owned());
                *count += 1;
            }
        }
        table.compared += 1;
        table.same += u64::from(shown == 0);
    }
}

/// A difference: ours, theirs, or how each tells it.
type Pair = (Option<Exchange>, Option<Exchange>);

/// Whether ours and theirs belong side by side.
type Alike<'a> = &'a dyn Fn(&Exchange, &Exchange) -> bool;

/// How many exchanges of a connection both tell, and what remains: those that name the same, or the same answer to a
/// request that one of them does not tell, stand side by side.
fn compared(ours: Vec<Exchange>, theirs: Vec<Exchange>) -> (u64, Vec<Pair>) {
    let mut known: HashMap<(String, String), Vec<Exchange>> = HashMap::new();
    for one in ours.into_iter().rev() {
        known.entry((one.what.clone(), one.how.clone())).or_default().push(one);
    }
    let mut equal = 0;
    let mut rest = Vec::new();
    for one in theirs {
        match known.get_mut(&(one.what.clone(), one.how.clone())).and_then(Vec::pop) {
            Some(_) => equal += 1,
            None => rest.push(one),
        }
    }
    let mut ours: Vec<Exchange> = known.into_values().flatten().collect();
    let mut pairs = Vec::new();
    let alike: [Alike<'_>; 3] = [
        &|ours, theirs| alike(&ours.what, &theirs.what) && alike(&ours.how, &theirs.how),
        &|ours, theirs| alike(&ours.what, &theirs.what),
        &|ours, theirs| ours.how == theirs.how && (ours.what == NONE || theirs.what == NONE),
    ];
    for (round, alike) in alike.iter().enumerate() {
        for theirs in std::mem::take(&mut rest) {
            match ours.iter().position(|ours| alike(ours, &theirs)) {
                Some(at) if round == 0 => {
                    equal += 1;
                    ours.swap_remove(at);
                }
                Some(at) => pairs.push((Some(ours.swap_remove(at)), Some(theirs))),
                None => rest.push(theirs),
            }
        }
    }
    pairs.extend(ours.into_iter().map(|ours| (Some(ours), None)));
    pairs.extend(rest.into_iter().map(|theirs| (None, Some(theirs))));
    (equal, pairs)
}

impl Table {
    fn print(&self, comparison: &Comparison) {
        let Table { files, damaged, compared, same, told, exchanges, equal, .. } = self;
        println!("{}: {files} files ({damaged} damaged), {told} exchanges told by us", comparison.folder);
        println!("  compared with a second reader: {compared} files, {same} of them equal whole");
        println!("  counted: {}", comparison.unit);
        println!("  {exchanges:>7} exchanges  {equal:>7} equal");
        for ((class, reason), (files, count)) in &self.differing {
            println!("  {count:>7} differ  {:>3} files  {class}: {reason}", files.len());
        }
        let wrong = self.differing.iter().filter(|(key, _)| key.0 == Class::OursWrong);
        println!("  {:>7} ours wrong", wrong.map(|(_, (_, count))| count).sum::<u64>());
    }
}

/// Whether masking left this of that text: masks stand for anything.
fn alike(masked: &str, text: &str) -> bool {
    if masked == text {
        return true;
    }
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
