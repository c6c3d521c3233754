//! `custody verify`: a copy of a sink's store, offline, with public keys alone. Never parses a body.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow};
use custody_ledger::segment::RecordKind;
use custody_ledger::statement::{self, Enrolment, Signed, Statement};
use custody_ledger::verify::{Fault, Finding, HostReport, Verdict, Verifier};
use custody_ledger::{Batch, Hash, HostId, PublicKey, SignedReceipt, codec, tree};
use custody_record::text::{self, Style as Paint, escape};
use serde::Serialize;

use crate::args::{Format, VerifyArgs};
use crate::folder::{Damage, Folder};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style};
use crate::profile::Profile;
use crate::progress::Progress;

#[cfg(test)]
mod attacks;
mod bundle;
pub(super) mod log;

use log::{LogCheck, LogPart};

pub(crate) fn run(arguments: &VerifyArgs) -> Outcome {
    let what =
        arguments.what.as_ref().or(arguments.from.as_ref()).context("neither a bundle nor a folder is named");
    let what = what.map_err(Failure::usage)?;
    if what.is_file() {
        return bundle::run(what, arguments);
    }
    if arguments.policy.is_some() {
        return Err(Failure::usage(anyhow!(
            "--policy is for a bundle; the key that a store is checked with is given by --sink-key"
        )));
    }
    let expected = expected_key(arguments.sink_key.as_deref())?;
    let folder = Folder::open(what).map_err(Failure::usage)?;
    let log = LogCheck::open(what, arguments.checkpoint.as_deref()).map_err(Failure::usage)?;
    let report = check(&folder, log, expected)?;
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        lines.json(&report)?;
    } else {
        let style = Style::of(&arguments.output);
        words(&report, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    Ok(match report.verdict {
        Word::Verified => Exit::Ok,
        Word::Altered => Exit::Negative,
        Word::Forked => Exit::Forked,
        Word::Incomplete => Exit::Incomplete,
    })
}

/// The key that is believed: the one given, else the one of the login.
pub(crate) fn expected_key(argument: Option<&str>) -> Result<Option<PublicKey>, Failure> {
    if let Some(text) = argument {
        let wrong = || "--sink-key wants 64 hexadecimal digits";
        return text.parse().with_context(wrong).map(Some).map_err(Failure::usage);
    }
    // Without a login there is nothing to compare with; the report says so.
    Ok(Profile::load().ok().and_then(|profile| profile.sink_key.parse().ok()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Verified,
    Incomplete,
    Forked,
    Altered,
}

/// The attack tests leave out one check at a time, by what it says, to show that the attack passes without it.
#[cfg(not(test))]
const fn is_left_out(_: &str) -> bool {
    false
}
#[cfg(test)]
use attacks::is_left_out;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    verdict: Word,
    /// Key that signed enrolments and receipts.
    sink_key: Option<PublicKey>,
    /// It is the one that was expected; `null` when nobody said which.
    sink_key_expected: Option<bool>,
    hosts: Vec<HostPart>,
    /// The log over all records.
    log: LogPart,
    /// What the sink stated that is about no host, in words.
    statements: Vec<String>,
    /// Over the limit.
    statements_more: u64,
    /// What is wrong with the store's own files and signatures.
    store: Vec<String>,
    /// The newest segment ends inside a record: a sink was writing it.
    torn_tail: bool,
}

#[derive(Debug, Serialize)]
struct HostPart {
    name: String,
    #[serde(flatten)]
    report: HostReport,
    /// What the sink stated of batches that it did not take, in words.
    statements: Vec<String>,
    /// Over the limit.
    statements_more: u64,
}

/// What the sink stated of one host.
#[derive(Default)]
struct Stated {
    words: Vec<String>,
    more: u64,
    /// Another batch for a place that is taken, with the host's own signature.
    forked: bool,
}

struct Check {
    expected: Option<PublicKey>,
    key: Option<PublicKey>,
    hosts: BTreeMap<HostId, (String, Verifier)>,
    stated: BTreeMap<Option<HostId>, Stated>,
    /// Hashes of all statements: each was made at a moment of its own.
    statements: BTreeSet<Hash>,
    faults: Vec<String>,
    batches: u64,
    log: LogCheck,
}

/// Most sentences about the store, and of statements about one host, that are kept.
const FAULTS_MAX: usize = 100;

fn check(folder: &Folder, log: LogCheck, expected: Option<PublicKey>) -> Result<Report, Failure> {
    let mut check = Check {
        expected,
        key: None,
        hosts: BTreeMap::new(),
        stated: BTreeMap::new(),
        statements: BTreeSet::new(),
        faults: Vec::new(),
        batches: 0,
        log,
    };
    let (mut progress, mut seen) = (Progress::new("verifying", Some(folder.bytes())), 0);
    let damages = folder.records(|record| -> Result<(), Failure> {
        seen += record.length;
        progress.at(seen);
        check.record(&record);
        Ok(())
    })?;
    drop(progress);
    Ok(check.finish(&damages))
}

impl Check {
    fn record(&mut self, record: &custody_ledger::segment::Record) {
        self.log.record(record);
        if record.kind != RecordKind::Batch && !record.meta.is_empty() {
            self.fault("a record that is no batch has what belongs to a batch".to_owned());
        }
        match record.kind {
            RecordKind::Enrolment => match Signed::open::<Enrolment>(&record.payload) {
                Ok((enrolment, key)) => {
                    self.signed_by(key, "an enrolment");
                    // A second one must not begin the chain anew.
                    if self.hosts.contains_key(&enrolment.host) {
                        self.fault(format!("host {} is enrolled twice", enrolment.host));
                    }
                    let verifier = Verifier::new(enrolment.host, enrolment.key);
                    self.hosts.entry(enrolment.host).or_insert((enrolment.name, verifier));
                }
                Err(error) => self.fault(format!("an enrolment does not hold: {error}")),
            },
            RecordKind::Batch => self.batch(record),
            RecordKind::Statement => match Signed::open::<Statement>(&record.payload) {
                Ok((statement, key)) => {
                    self.signed_by(key, "a statement");
                    if !self.statements.insert(tree::hash_of(&record.payload)) {
                        self.fault("a statement of the sink stands here twice".to_owned());
                    }
                    self.stated(&statement);
                }
                Err(error) => self.fault(format!("a statement of the sink does not hold: {error}")),
            },
            RecordKind::Other(_) => {}
        }
    }

    fn batch(&mut self, record: &custody_ledger::segment::Record) {
        self.batches += 1;
        let batch = match Batch::decode(&record.payload) {
            Ok(batch) => batch,
            Err(error) => return self.fault(format!("a batch cannot be read: {error}")),
        };
        let host = batch.header.host;
        let key = self.key.or(self.expected);
        match (codec::decode::<SignedReceipt>("receipt", &record.meta), key) {
            (Ok(receipt), Some(key)) => match receipt.verify(&key) {
                Ok(receipt) if receipt.host == host => {
                    if let Some((_, verifier)) = self.hosts.get_mut(&host) {
                        verifier.promise(receipt.batch);
                    }
                }
                Ok(_) => self.fault(format!("a receipt of another host stands at a batch of {host}")),
                Err(error) => self.fault(format!("the receipt of a batch of {host} does not hold: {error}")),
            },
            _ => self.fault(format!("a batch of {host} stands without a receipt")),
        }
        match self.hosts.get_mut(&host) {
            Some((_, verifier)) => verifier.batch(&record.payload),
            None => self.fault(format!("a batch of {host} stands here, and that host was never enrolled")),
        }
    }

    /// Keeps what nobody can see in the chain itself: batches that came and were not taken.
    fn stated(&mut self, statement: &Statement) {
        let stated = self.stated.entry(statement.host).or_default();
        let Some(words) = statement_words(&statement.what) else { return };
        stated.forked |= matches!(statement.what, statement::Stated::Equivocation { signed: true, .. });
        if stated.words.len() < FAULTS_MAX {
            stated.words.push(words);
        } else {
            stated.more += 1;
        }
    }

    fn signed_by(&mut self, key: PublicKey, what: &str) {
        let right = *self.key.get_or_insert(self.expected.unwrap_or(key));
        if right != key {
            self.fault(format!("{what} is signed by {key}, not by the sink's key {right}"));
        }
    }

    fn fault(&mut self, sentence: String) {
        if self.faults.len() < FAULTS_MAX && !is_left_out(&sentence) {
            self.faults.push(sentence);
        }
    }

    fn finish(mut self, damages: &[Damage]) -> Report {
        for damage in damages.iter().filter(|damage| !damage.tail) {
            self.fault(format!("{}: {}", damage.file.display(), damage.error));
        }
        let torn_tail = damages.iter().any(|damage| damage.tail);
        let mut forked = false;
        let mut hosts = Vec::new();
        for (id, (name, verifier)) in self.hosts {
            let stated = self.stated.remove(&Some(id)).unwrap_or_default();
            forked |= stated.forked;
            let report = verifier.finish();
            hosts.push(HostPart { name, report, statements: stated.words, statements_more: stated.more });
        }
        let log = self.log.finish(self.key.or(self.expected), self.expected.is_some());
        let verdicts = || hosts.iter().map(|host| host.report.verdict());
        let altered = !self.faults.is_empty() || !log.faults.is_empty();
        let verdict = if altered || verdicts().any(|verdict| verdict == Verdict::Altered) {
            Word::Altered
        } else if !log.forks.is_empty() {
            Word::Forked
        } else if log.origin.is_none()
            || torn_tail
            || forked
            || verdicts().any(|verdict| verdict == Verdict::Incomplete)
        {
            Word::Incomplete
        } else {
            Word::Verified
        };
        let sink_key_expected = self.expected.map(|expected| self.key.is_none_or(|key| key == expected));
        // Of no host, or of one that was never enrolled here.
        let statements_more = self.stated.values().map(|stated| stated.more).sum();
        let statements = self.stated.into_values().flat_map(|stated| stated.words).collect();
        Report {
            verdict,
            sink_key: self.key,
            sink_key_expected,
            hosts,
            log,
            statements,
            statements_more,
            store: self.faults,
            torn_tail,
        }
    }
}

fn words(report: &Report, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let mut lines = Vec::new();
    for host in &report.hosts {
        let (mark, paint) = match host.report.verdict() {
            Verdict::Verified => ("✔", Paint::Good),
            Verdict::Incomplete => ("…", Paint::Warn),
            Verdict::Altered => ("✘", Paint::Bad),
        };
        let epochs = host.report.epochs.len();
        lines.push(format!(
            "{} {}  {} entries in {} batches, {epochs} start{} of the agent",
            palette.paint(paint, mark),
            palette.paint(Paint::Strong, &escape(&host.name)),
            text::count(host.report.entries()),
            text::count(host.report.batches()),
            if epochs == 1 { "" } else { "s" },
        ));
        lines.extend(host.report.faults.iter().map(|fault| format!("    {}", fault_words(fault))));
        lines.extend(host.report.findings.iter().map(|finding| format!("    {}", finding_words(finding))));
        lines.extend(host.statements.iter().map(|words| format!("    {}", escape(words))));
        for (more, word) in [
            (host.report.faults_more, "faults"),
            (host.report.findings_more, "findings"),
            (host.statements_more, "statements of the sink"),
        ] {
            if more > 0 {
                lines.push(format!("    and {} more {word}", text::count(more)));
            }
        }
        if host.report.withheld > 0 {
            lines.push(format!(
                "    {} bodies are withheld; the chain holds without them",
                text::count(host.report.withheld)
            ));
        }
    }
    lines.extend(report.statements.iter().map(|words| format!("· {}", escape(words))));
    if report.statements_more > 0 {
        lines.push(format!("· and {} more statements of the sink", text::count(report.statements_more)));
    }
    lines.extend(log_words(&report.log, style));
    lines.extend(
        report.store.iter().map(|fault| format!("{} {}", palette.paint(Paint::Bad, "✘"), escape(fault))),
    );
    if report.torn_tail {
        lines.push(format!(
            "{} the newest segment ends inside a record: the sink was writing when the copy was made",
            palette.paint(Paint::Warn, "…")
        ));
    }
    lines.push(match (report.sink_key, report.sink_key_expected) {
        (Some(key), Some(true)) => format!("the sink's key is the one expected: {key}"),
        (Some(key), _) => format!("the sink's key, taken from the store itself: {key}; compare it with one that you hold (--sink-key)"),
        (None, _) => "no host was ever enrolled here".to_owned(),
    });
    let (word, paint) = match report.verdict {
        Word::Verified => {
            ("VERIFIED: nothing was changed, reordered or taken out since it was recorded.", Paint::Good)
        }
        Word::Incomplete => (
            "INCOMPLETE: what is here holds, but something is missing; the lines above say what.",
            Paint::Warn,
        ),
        Word::Forked => (
            "FORKED: what is here holds by itself, and somebody holds a signed checkpoint that contradicts it; the lines \
             above say who.",
            Paint::Bad,
        ),
        Word::Altered => {
            ("ALTERED: at least one check does not hold; the lines above say which.", Paint::Bad)
        }
    };
    lines.push(palette.paint(paint, word).into_owned());
    lines
}

fn log_words(log: &LogPart, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let bad = |sentence: &String| format!("{} {}", palette.paint(Paint::Bad, "✘"), escape(sentence));
    let mut lines: Vec<String> = log.faults.iter().chain(&log.forks).map(bad).collect();
    let Some(origin) = &log.origin else {
        let missing =
            "there is no log with a checkpoint here: nothing shows that the newest records are all here";
        lines.push(format!("{} {missing}", palette.paint(Paint::Warn, "…")));
        return lines;
    };
    let mark =
        if lines.is_empty() { palette.paint(Paint::Good, "✔") } else { palette.paint(Paint::Bad, "✘") };
    lines.push(format!(
        "{mark} {}  {} records under its signed checkpoint, {} checkpoints that hosts hold are of it",
        palette.paint(Paint::Strong, &escape(origin)),
        text::count(log.size),
        text::count(log.echoes as u64),
    ));
    if log.uncommitted > 0 {
        lines.push(format!("    stored and not under a checkpoint yet: {}", text::count(log.uncommitted)));
    }
    lines
}

fn fault_words(fault: &Fault) -> String {
    escape(&fault.to_string()).into_owned()
}

/// `None` for what the verifier finds itself.
fn statement_words(what: &statement::Stated) -> Option<String> {
    match what {
        // The verifier does not know the log as it was then: it may have been put right since.
        statement::Stated::Found { batch, finding: finding @ Finding::OtherLog { .. } } => {
            Some(format!("{} ({batch})", finding_words(finding)))
        }
        statement::Stated::Found { .. } => None,
        statement::Stated::Equivocation { accepted, signed: true, .. } => Some(format!(
            "the host signed another {accepted} than the one that is here (a restored snapshot or a clone); the sink \
             keeps both"
        )),
        statement::Stated::Equivocation { accepted, signed: false, .. } => Some(format!(
            "another {accepted} came than the one that is here, without a signature of the host that holds; the \
             sink keeps both"
        )),
        statement::Stated::Denied(denied) => Some(denied.to_string()),
        statement::Stated::OverQuota { quota, limit, used } => Some(format!(
            "the host came over its quota ({quota}): {} of {}",
            text::count(*used),
            text::count(*limit)
        )),
        statement::Stated::Admitted { identity } => Some(format!("{identity} was enrolled")),
        statement::Stated::Refused { fault } => Some(format!("the sink refused a batch: {fault}")),
    }
}

fn finding_words(finding: &Finding) -> String {
    match finding {
        Finding::Missing { from: Some(from), to } => format!("missing: batches after {from} up to {to}"),
        Finding::Missing { from: None, to } => format!("missing: all batches up to {to}"),
        Finding::RolledBack { claimed: Some(claimed), head } => {
            format!(
                "the host came back older than it was: it says {claimed}, it was at {head} (a restored snapshot or a clone)"
            )
        }
        Finding::RolledBack { claimed: None, head } => {
            format!("the host came back without a memory; it was at {head} (a restored snapshot or a clone)")
        }
        Finding::Forked { claimed, head } => {
            format!("the host held another {claimed} than the {head} that is here")
        }
        Finding::Quarantined { batch } => format!("the host keeps {batch} aside, which the sink had refused"),
        Finding::CounterWentBack { source } => format!("a counter of {} went back", escape(source)),
        Finding::OtherLog { echoed, .. } => format!(
            "the host holds a checkpoint over {} records of {} that is none of the sink's log",
            echoed.size,
            escape(&echoed.origin)
        ),
        Finding::NotConserved { source } => {
            format!("counters of {} do not add up: produced is not what became of it", escape(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_a_mistake_of_usage() {
        assert!(matches!(expected_key(Some("abc")), Err(Failure::Because(Exit::Usage, _))));
    }

    #[test]
    fn findings_are_whole_sentences() {
        let words = finding_words(&Finding::NotConserved { source: "ring\u{1b}".into() });
        assert_eq!(words, "counters of ring\\x1b do not add up: produced is not what became of it");
    }
}
