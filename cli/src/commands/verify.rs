//! `custody verify`: a copy of a sink's store, offline, with public keys alone. Never parses a body.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow};
use custody_ledger::receipt::{Receipt, ReceiptError};
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::statement::{self, Enrolment, Signed, Statement};
use custody_ledger::verify::{Fault, Hashed, HostReport, Verdict, Verifier};
use custody_ledger::{Hash, HostId, PublicKey, SignedReceipt, codec, tree};
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
mod words;

use log::{Leaf, LogCheck, LogPart};
use words::{statement_words, words};

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
    let report = check(&folder, log, expected);
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
    /// Hosts that were revoked before the place that the check has come to.
    revoked: BTreeSet<HostId>,
    /// Hashes of all statements: each was made at a moment of its own.
    statements: BTreeSet<Hash>,
    faults: Vec<String>,
    batches: u64,
    log: LogCheck,
}

/// Most sentences about the store, and of statements about one host, that are kept.
const FAULTS_MAX: usize = 100;

fn check(folder: &Folder, log: LogCheck, expected: Option<PublicKey>) -> Report {
    let check = Check {
        expected,
        key: None,
        hosts: BTreeMap::new(),
        stated: BTreeMap::new(),
        revoked: BTreeSet::new(),
        statements: BTreeSet::new(),
        faults: Vec::new(),
        batches: 0,
        log,
    };
    let verifying = (check, Progress::new("verifying", Some(folder.bytes())), 0);
    let ((check, progress, _), damages) = folder.in_turns(verifying, |records, turn| {
        let prepared: Vec<Prepared<'_>> = records.iter().map(Prepared::of).collect();
        turn.take(|(check, progress, seen)| {
            for (record, prepared) in records.iter().zip(prepared) {
                check.record(record, prepared);
                *seen += record.length;
                progress.at(*seen);
            }
        });
    });
    drop(progress);
    check.finish(&damages)
}

/// A record with what can be said of it before those before it are known: nearly all the work.
struct Prepared<'r> {
    leaf: Leaf,
    /// Of a batch.
    batch: Option<PreparedBatch<'r>>,
}

struct PreparedBatch<'r> {
    frame: Result<Hashed<'r>, Box<Fault>>,
    /// Signed by the key that it names; `None` where no receipt stands.
    receipt: Option<Result<Receipt, ReceiptError>>,
}

impl<'r> Prepared<'r> {
    fn of(record: &'r Record) -> Self {
        let batch = || PreparedBatch {
            frame: Hashed::of(&record.payload),
            receipt: codec::decode("receipt", &record.meta).ok().map(|signed: SignedReceipt| signed.open()),
        };
        Prepared { leaf: Leaf::of(record), batch: (record.kind == RecordKind::Batch).then(batch) }
    }
}

impl Check {
    fn record(&mut self, record: &Record, Prepared { leaf, batch }: Prepared<'_>) {
        self.log.leaf(leaf);
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
            RecordKind::Batch => batch.into_iter().for_each(|batch| self.batch(&record.payload, batch)),
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

    fn batch(&mut self, frame: &[u8], PreparedBatch { frame: hashed, receipt }: PreparedBatch<'_>) {
        self.batches += 1;
        let host = match &hashed {
            Ok(hashed) => hashed.batch().header.host,
            Err(fault) => return self.fault(format!("a batch cannot be read: {}", fault.detail)),
        };
        match (receipt, self.key.or(self.expected)) {
            (Some(receipt), Some(key)) => match receipt.and_then(|receipt| receipt.of(&key)) {
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
        if self.revoked.contains(&host) {
            self.fault(format!("a batch of {host} stands behind the statement that it was revoked"));
        }
        match self.hosts.get_mut(&host) {
            Some((_, verifier)) => verifier.hashed(frame, hashed),
            None => self.fault(format!("a batch of {host} stands here, and that host was never enrolled")),
        }
    }

    /// Keeps what nobody can see in the chain itself: batches that came and were not taken.
    fn stated(&mut self, statement: &Statement) {
        match (statement.host, &statement.what) {
            (Some(host), statement::Stated::Revoked { .. }) => drop(self.revoked.insert(host)),
            (Some(host), statement::Stated::Reinstated { .. }) => drop(self.revoked.remove(&host)),
            _ => {}
        }
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
        // What other threads said, which do not know what is left out here.
        self.faults.retain(|sentence| !is_left_out(sentence));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_a_mistake_of_usage() {
        assert!(matches!(expected_key(Some("abc")), Err(Failure::Because(Exit::Usage, _))));
    }
}
