//! Offline verification of all batches of a host, over epochs: which ranges hold, what is missing, what was
//! altered and where.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::findings::{Check, Fault, Finding};
use super::follow::{Hashed, Head, is_left_out, step};
use crate::batch::Batch;
use crate::ids::{BatchNumber, BootId, EpochId, Hash, HostId, Position, PublicKey, Seq};

/// Faults of one host that are kept with their place; more are counted.
const FAULTS_KEPT_MAX: usize = 64;
/// Findings of one host that are kept; more are counted.
const FINDINGS_KEPT_MAX: usize = 1024;

/// The worst that verification found, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step holds.
    Verified,
    /// Every step that is here holds, but batches are missing and the chain says which.
    Incomplete,
    /// A check does not hold.
    Altered,
}

/// How an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With `agent.stop`.
    Stopped,
    /// Without one; the next epoch names its last batch.
    Resumed,
    /// It is the newest one, and goes on.
    Open,
    /// At a fault, or the next epoch names another batch than the last one here: see faults and findings.
    Broken,
}

/// What was verified of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochReport {
    /// Which.
    pub epoch: EpochId,
    /// In which boot.
    pub boot: BootId,
    /// Batches that hold, from number 0 on.
    pub batches: u64,
    /// Entries that hold, from seq 0 on.
    pub entries: u64,
    /// The first faulty batch of the epoch and all after it: nothing can be said of them.
    pub unverifiable: u64,
    /// How it ends.
    pub end: End,
}

/// What was verified of one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// Which.
    pub host: HostId,
    /// Its epochs in order.
    pub epochs: Vec<EpochReport>,
    /// Checks that do not hold.
    pub faults: Vec<Fault>,
    /// Faults beyond those that are kept.
    pub faults_more: u64,
    /// What holds but has to be known.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub findings_more: u64,
    /// Entries whose body is withheld.
    pub withheld: u64,
    /// The newest batch that holds.
    pub head: Option<Position>,
}

impl HostReport {
    /// The worst of it.
    pub fn verdict(&self) -> Verdict {
        let is_loss = |finding: &Finding| {
            matches!(finding, Finding::Missing { .. } | Finding::Forked { .. } | Finding::RolledBack { .. })
        };
        if !self.faults.is_empty() {
            Verdict::Altered
        } else if self.findings_more > 0 || self.findings.iter().any(is_loss) {
            Verdict::Incomplete
        } else {
            Verdict::Verified
        }
    }

    /// Batches that hold.
    pub fn batches(&self) -> u64 {
        self.epochs.iter().map(|epoch| epoch.batches).sum()
    }

    /// Entries that hold.
    pub fn entries(&self) -> u64 {
        self.epochs.iter().map(|epoch| epoch.entries).sum()
    }
}

/// Verifies one host's batches, given in the order in which they were accepted.
pub struct Verifier {
    host_key: PublicKey,
    head: Option<Head>,
    /// The epoch of the first fault, until another one opens.
    broken: Option<EpochId>,
    seen: BTreeMap<(u64, BatchNumber), Hash>,
    promised: BTreeSet<(u64, BatchNumber, Hash)>,
    report: HostReport,
}

impl Verifier {
    /// `host_key` is the key that the host enrolled with: the one thing that has to be believed.
    pub fn new(host: HostId, host_key: PublicKey) -> Self {
        let report = HostReport {
            host,
            epochs: Vec::new(),
            faults: Vec::new(),
            faults_more: 0,
            findings: Vec::new(),
            findings_more: 0,
            withheld: 0,
            head: None,
        };
        Verifier {
            host_key,
            head: None,
            broken: None,
            seen: BTreeMap::new(),
            promised: BTreeSet::new(),
            report,
        }
    }

    /// Demands that this batch is there in the end: from a receipt, or from the head that the sink shows. It
    /// is what finds a dropped tail.
    pub fn promise(&mut self, batch: Position) {
        self.promised.insert((batch.epoch.counter, batch.number, batch.hash));
    }

    /// Takes the next frame.
    pub fn batch(&mut self, frame: &[u8]) {
        self.hashed(frame, Hashed::of(frame));
    }

    /// Takes the next frame, hashed already.
    pub fn hashed(&mut self, frame: &[u8], hashed: Result<Hashed<'_>, Box<Fault>>) {
        let step = hashed.and_then(|Hashed { batch, hashes }| {
            step(self.report.host, &self.host_key, self.head.as_ref(), batch, Some(hashes))
        });
        match step {
            Ok(step) if self.broken != Some(step.batch.header.epoch) => {
                self.accept(&step.batch, step.head, step.findings);
            }
            Ok(_) => self.count_unverifiable(),
            Err(fault) => self.refuse(frame, *fault),
        }
    }

    fn accept(&mut self, batch: &Batch<'_>, head: Head, findings: Vec<Finding>) {
        self.broken = None;
        let opens = batch.header.opening.is_some();
        if opens {
            let continues = !findings.iter().any(|finding| {
                matches!(
                    finding,
                    Finding::Missing { .. } | Finding::Forked { .. } | Finding::RolledBack { .. }
                )
            });
            if let Some(last) = self.report.epochs.last_mut().filter(|last| last.end == End::Open) {
                last.end = if continues { End::Resumed } else { End::Broken };
            }
            self.report.epochs.push(EpochReport {
                epoch: head.batch.epoch,
                boot: head.boot,
                batches: 0,
                entries: 0,
                unverifiable: 0,
                end: End::Open,
            });
        }
        if let Some(epoch) = self.report.epochs.last_mut() {
            epoch.batches += 1;
            epoch.entries += batch.entries.len() as u64;
            if head.stopped {
                epoch.end = End::Stopped;
            }
        }
        self.report.withheld += batch.entries.iter().filter(|entry| entry.body.is_none()).count() as u64;
        for finding in findings {
            if self.report.findings.len() < FINDINGS_KEPT_MAX {
                self.report.findings.push(finding);
            } else {
                self.report.findings_more += 1;
            }
        }
        self.seen.insert((head.batch.epoch.counter, head.batch.number), head.batch.hash);
        self.report.head = Some(head.batch);
        self.head = Some(head);
    }

    /// After a fault nothing in its epoch can be believed; the next epoch starts again from the host's key.
    fn refuse(&mut self, frame: &[u8], fault: Fault) {
        let header = Batch::decode_header(frame).ok().map(|(header, _)| header);
        let header = header.filter(|header| header.host == self.report.host);
        let epoch = header.as_ref().map(|header| header.epoch);
        let is_new = epoch.is_some() && self.report.epochs.last().map(|last| last.epoch) != epoch;
        if let Some(header) = header.filter(|_| is_new) {
            let (epoch, boot) = (header.epoch, header.boot);
            let report =
                EpochReport { epoch, boot, batches: 0, entries: 0, unverifiable: 0, end: End::Broken };
            self.report.epochs.push(report);
        }
        self.count_unverifiable();
        if epoch.is_none() || epoch != self.broken {
            self.broken = epoch.or_else(|| self.head.as_ref().map(|head| head.batch.epoch));
            self.keep(fault);
        }
    }

    fn count_unverifiable(&mut self) {
        if let Some(epoch) = self.report.epochs.last_mut() {
            epoch.unverifiable += 1;
            epoch.end = End::Broken;
        }
    }

    /// Writes a fault down that the caller found outside the chain, such as a damaged file.
    pub fn keep(&mut self, fault: Fault) {
        if self.report.faults.len() < FAULTS_KEPT_MAX {
            self.report.faults.push(fault);
        } else {
            self.report.faults_more += 1;
        }
    }

    /// Compares what was promised with what is there, and reports.
    pub fn finish(mut self) -> HostReport {
        let broken_promises: Vec<Fault> = self
            .promised
            .iter()
            .filter(|(epoch, number, hash)| self.seen.get(&(*epoch, *number)) != Some(hash))
            .map(|(epoch, number, _)| {
                let known = self.report.epochs.iter().find(|known| known.epoch.counter == *epoch);
                Fault {
                    check: Check::Promised,
                    epoch: known.map(|known| known.epoch),
                    batch: Some(*number),
                    seq: None,
                    detail: format!(
                        "a receipt was given for batch {number} of epoch {epoch}, and it is not here as it was"
                    ),
                }
            })
            .filter(|_| !is_left_out(Check::Promised))
            .collect();
        broken_promises.into_iter().for_each(|fault| self.keep(fault));
        self.report
    }

    /// Seq that the next entry of the newest epoch has.
    pub fn next_seq(&self) -> Seq {
        self.head.as_ref().map_or(Seq(0), |head| head.next_seq)
    }
}
