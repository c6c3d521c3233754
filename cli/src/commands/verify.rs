//! `custody verify`: a copy of a sink's store, offline, with public keys alone. Never parses a body.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow};
use custody_ledger::receipt::{Receipt, ReceiptError};
use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::statement::{self, Enrolment, Signed, Statement};
use custody_ledger::verify::{ExpiredBodies, Expiries, Fault, Hashed, HostReport, Verdict, Verifier};
use custody_ledger::{Hash, HostId, PublicKey, tree};
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
use words::{statement_words, unexplained_words, words};

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
    /// Bodies that the sink let go by age, as it had stated before.
    expired: ExpiredBodies,
    /// Bodies that are gone and have not expired; the store's faults say why not.
    unexplained: u64,
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
    /// How many records have passed: each is one leaf of the log.
    records: u64,
    expiries: Expiries,
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
        records: 0,
        expiries: Expiries::default(),
        log,
    };
    let verifying = (check, Progress::new("verifying", Some(folder.bytes())), 0);
    let ((check, progress, _), damages) = folder.in_turns(verifying, |records, turn| {
        let prepared: Vec<Prepared<'_>> = records.iter().map(Prepared::of).collect();
        turn.take(|(check, progress, seen)| {
            for (record, prepared) in records.iter().zip(prepared) {
                check.record(record, prepared);
                check.records += 1;
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
    /// Bodies were taken out of it since it came.
    thinned: bool,
}

impl<'r> Prepared<'r> {
    fn of(record: &'r Record) -> Self {
        let batch = || {
            let meta = BatchMeta::of(record).ok();
            PreparedBatch {
                frame: Hashed::of(&record.payload),
                thinned: meta.as_ref().is_some_and(|meta| meta.content.is_some()),
                receipt: meta.map(|meta| meta.receipt().open()),
            }
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

    fn batch(&mut self, frame: &[u8], PreparedBatch { frame: hashed, receipt, thinned }: PreparedBatch<'_>) {
        let host = match &hashed {
            Ok(hashed) => hashed.batch().header.host,
            Err(fault) => return self.fault(format!("a batch cannot be read: {}", fault.detail)),
        };
        match (receipt, self.key.or(self.expected)) {
            (Some(receipt), Some(key)) => match receipt.and_then(|receipt| receipt.of(&key)) {
                Ok(receipt) if receipt.host == host => {
                    if let (true, Ok(hashed)) = (thinned, &hashed) {
                        self.expiries.batch(self.records, hashed.batch(), receipt.received_ns);
                    }
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
            (_, statement::Stated::Retention(retention)) => {
                self.expiries.stated(self.records, statement.at_ns, retention.clone());
            }
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
        let mut expired = std::mem::take(&mut self.expiries).finish();
        let mut unexplained: BTreeMap<HostId, u64> = BTreeMap::new();
        for gone in &expired.unexplained {
            *unexplained.entry(gone.host).or_default() += gone.bodies;
            let name = self.hosts.get(&gone.host).map(|(name, _)| name.as_str());
            self.fault(unexplained_words(gone, name));
        }
        let torn_tail = damages.iter().any(|damage| damage.tail);
        let mut forked = false;
        let mut hosts = Vec::new();
        for (id, (name, verifier)) in self.hosts {
            let stated = self.stated.remove(&Some(id)).unwrap_or_default();
            forked |= stated.forked;
            let report = verifier.finish();
            let (statements, statements_more) = (stated.words, stated.more);
            let expired = expired.hosts.remove(&id).unwrap_or_default();
            let unexplained = unexplained.get(&id).copied().unwrap_or(0);
            hosts.push(HostPart { name, report, expired, unexplained, statements, statements_more });
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
