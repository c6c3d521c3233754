//! One step of a host's chain: is this frame the very next batch after that head?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::{BATCH_VERSION, Batch, BatchHeader, Counters, EntryView, Resume};
use crate::entry::{ENTRY_VERSION, EntryType};
use crate::ids::{BatchNumber, BootId, Hash, HostId, Position, PublicKey, Seq};
use crate::keys::{self, Context};
use crate::line::{self, HandOver, LineError};
use crate::tree;

use super::findings::{Check, Fault, Finding};

/// Where a host's chain stands: all that is needed to say what must come next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest batch.
    pub batch: Position,
    /// The boot that its epoch runs in.
    pub boot: BootId,
    /// The key that must sign the next one.
    pub next_key: PublicKey,
    /// The seq that its first entry must have.
    pub next_seq: Seq,
    /// Leaf of the newest entry.
    pub last_entry: Hash,
    /// Counters of the newest batch.
    pub counters: BTreeMap<String, Counters>,
    /// Whether the epoch ended in order.
    pub stopped: bool,
    /// The newest key of the host's line; `None` where the chain was entered behind the opening of an epoch, or by a
    /// version that knew no lines: then it is taken for the enrolled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<PublicKey>,
}

impl Head {
    /// Where a chain stands after this batch, whether it holds or not; `None` of a batch without entries. The host's line
    /// of keys is not followed for it.
    pub fn after(batch: &Batch<'_>) -> Option<Self> {
        let (header, last) = (&batch.header, batch.entries.last()?);
        Some(Head {
            batch: batch.position(),
            boot: header.boot,
            next_key: header.next_key,
            next_seq: Seq(header.first_seq.0.saturating_add(batch.entries.len() as u64)),
            last_entry: tree::leaf(last.header_bytes),
            counters: header.counters.clone(),
            stopped: last.header.entry_type == EntryType::AgentStop,
            host_key: None,
        })
    }
}

/// A step that holds.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The batch.
    pub batch: Batch<'a>,
    /// Where the chain stands now.
    pub head: Head,
    /// What has to be known of it.
    pub findings: Vec<Finding>,
}

/// A frame as read with the hashes of all its parts: most of the work of [`follow`], and the part of it that needs no
/// head, so that many may be made at once.
#[derive(Clone, Debug)]
pub struct Hashed<'a> {
    pub(super) batch: Batch<'a>,
    pub(super) hashes: Hashes,
}

#[derive(Clone, Debug)]
pub(super) struct Hashes {
    /// [`tree::leaf`] of each entry.
    leaves: Vec<Hash>,
    /// Over the leaves.
    root: Hash,
    /// Index of the first entry whose body is not the one that its header names.
    other_body: Option<usize>,
}

impl<'a> Hashed<'a> {
    /// Reads a frame and hashes it. The fault is one of format.
    pub fn of(frame: &'a [u8]) -> Result<Self, Box<Fault>> {
        let batch = decode(frame)?;
        let hashes = Hashes::of(&batch);
        Ok(Hashed { batch, hashes })
    }

    /// The batch as read.
    pub fn batch(&self) -> &Batch<'a> {
        &self.batch
    }
}

impl Hashes {
    fn of(batch: &Batch<'_>) -> Self {
        let leaves: Vec<Hash> = batch.entries.iter().map(|entry| tree::leaf(entry.header_bytes)).collect();
        let is_own = |entry: &EntryView<'_>| {
            entry.body.is_none_or(|body| {
                body.bytes.len() == entry.header.body_bytes as usize
                    && tree::body_hash(&body.salt, body.bytes) == entry.header.body
            })
        };
        let other_body = batch.entries.iter().position(|entry| !is_own(entry));
        Hashes { root: tree::root(&leaves), leaves, other_body }
    }
}

fn decode(frame: &[u8]) -> Result<Batch<'_>, Box<Fault>> {
    Batch::decode(frame).map_err(|error| {
        Box::new(Fault {
            check: Check::Format,
            epoch: None,
            batch: None,
            seq: None,
            detail: error.to_string(),
        })
    })
}

/// Checks that `frame` is the next batch of `host` after `head` (`None` before the first), with all its entries.
pub fn follow<'a>(
    host: HostId,
    host_key: &PublicKey,
    head: Option<&Head>,
    frame: &'a [u8],
) -> Result<Step<'a>, Box<Fault>> {
    step(host, host_key, head, decode(frame)?, None)
}

/// [`follow`] of a frame as read. What was not hashed before is hashed once its place and signature are right.
pub(super) fn step<'a>(
    host: HostId,
    host_key: &PublicKey,
    head: Option<&Head>,
    batch: Batch<'a>,
    hashes: Option<Hashes>,
) -> Result<Step<'a>, Box<Fault>> {
    let header = &batch.header;
    let at = At { header };
    at.demand(Check::Format, header.version == BATCH_VERSION, || {
        format!("batch version {} is unknown here", header.version)
    })?;
    at.demand(Check::Host, header.host == host, || format!("the batch belongs to host {}", header.host))?;
    let mut findings = Vec::new();
    let start = match &header.opening {
        Some(_) => check_opening(&at, host_key, head, &batch, &mut findings)?,
        None => check_continuation(&at, head, &batch)?,
    };
    let last_entry = check_entries(&at, &start, &batch, hashes.unwrap_or_else(|| Hashes::of(&batch)))?;
    check_counters(&start, header, &mut findings);
    let next_seq = Seq(start.next_seq.0.saturating_add(batch.entries.len() as u64));
    let stopped = batch.entries.last().is_some_and(|entry| entry.header.entry_type == EntryType::AgentStop);
    let head = Head {
        batch: batch.position(),
        boot: header.boot,
        next_key: header.next_key,
        next_seq,
        last_entry,
        counters: header.counters.clone(),
        stopped,
        host_key: start.host_key,
    };
    Ok(Step { batch, head, findings })
}

/// What the entries of a batch must continue.
struct Start<'h> {
    next_seq: Seq,
    last_entry: Hash,
    counters: Option<&'h BTreeMap<String, Counters>>,
    host_key: Option<PublicKey>,
}

struct At<'a> {
    header: &'a BatchHeader,
}

impl At<'_> {
    fn demand(&self, check: Check, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Box<Fault>> {
        self.demand_at(check, None, holds, detail)
    }

    fn demand_at(
        &self,
        check: Check,
        seq: Option<Seq>,
        holds: bool,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Box<Fault>> {
        if holds || is_left_out(check) {
            return Ok(());
        }
        Err(self.fault(check, seq, detail()))
    }

    fn fault(&self, check: Check, seq: Option<Seq>, detail: String) -> Box<Fault> {
        let (epoch, batch) = (Some(self.header.epoch), Some(self.header.number));
        Box::new(Fault { check, epoch, batch, seq, detail })
    }
}

/// The attack tests leave out one check at a time, to show that the attack passes without it.
#[cfg(not(test))]
pub(super) const fn is_left_out(_: Check) -> bool {
    false
}
#[cfg(test)]
pub(super) use super::attacks::is_left_out;

fn check_opening<'h>(
    at: &At<'_>,
    host_key: &PublicKey,
    head: Option<&'h Head>,
    batch: &Batch<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Start<'h>, Box<Fault>> {
    let header = &batch.header;
    let opening = header.opening.as_ref().expect("only called with an opening");
    if let Some(head) = head {
        at.demand(Check::Epoch, header.epoch.counter > head.batch.epoch.counter, || {
            format!("the epoch is not newer than epoch {}", head.batch.epoch.counter)
        })?;
    }
    at.demand(Check::Number, header.number == BatchNumber(0), || {
        "an opening stands in a later batch than number 0".to_owned()
    })?;
    at.demand(Check::Link, header.previous == Hash::ZERO, || {
        "the first batch of an epoch names one before it".to_owned()
    })?;
    let held = head.and_then(|head| head.host_key).unwrap_or(*host_key);
    let newest = check_line(at, host_key, &held, &opening.line)?;
    let certified = keys::is_certified(
        &newest,
        header.host,
        header.boot,
        header.epoch,
        &opening.key,
        &opening.certificate,
    );
    at.demand(Check::Certificate, certified, || {
        "the epoch's first key is not certified by the key that the host enrolled with, or the newest of its line"
            .to_owned()
    })?;
    let signed = keys::verify(&opening.key, Context::Batch, batch.header_bytes, &batch.signature);
    at.demand(Check::Signature, signed, || "not signed by the epoch's first key".to_owned())?;
    if newest != held {
        findings.push(Finding::KeyRotated { from: held, to: newest });
    }
    judge_resume(head.map(|head| head.batch), opening.resume.as_ref(), findings);
    Ok(Start { next_seq: Seq(0), last_entry: Hash::ZERO, counters: None, host_key: Some(newest) })
}

/// The last key of a line that leads from the enrolled key over the one that the host is known to have.
fn check_line(
    at: &At<'_>,
    enrolled: &PublicKey,
    held: &PublicKey,
    line: &[HandOver],
) -> Result<PublicKey, Box<Fault>> {
    let check = |error| match error {
        LineError::HandOver => Check::HandOver,
        LineError::Leaves => Check::KeyLine,
    };
    let followed = line::follow_but(at.header.host, enrolled, held, line, |error| is_left_out(check(error)));
    followed.map_err(|error| at.fault(check(error), None, error.to_string()))
}

/// Compares what the host says of its past with what is here.
fn judge_resume(head: Option<Position>, resume: Option<&Resume>, findings: &mut Vec<Finding>) {
    let claimed = resume.and_then(|resume| resume.local);
    match (claimed, head) {
        (None, None) => {}
        (Some(to), None) => findings.push(Finding::Missing { from: None, to }),
        (None, Some(head)) => findings.push(Finding::RolledBack { claimed: None, head }),
        (Some(claimed), Some(head)) if claimed == head => {}
        (Some(claimed), Some(head)) => {
            let same_place = (claimed.epoch.counter, claimed.number) == (head.epoch.counter, head.number);
            findings.push(if same_place {
                Finding::Forked { claimed, head }
            } else if (claimed.epoch.counter, claimed.number) > (head.epoch.counter, head.number) {
                Finding::Missing { from: Some(head), to: claimed }
            } else {
                Finding::RolledBack { claimed: Some(claimed), head }
            });
        }
    }
    let quarantined = resume.into_iter().flat_map(|resume| &resume.quarantined);
    findings.extend(quarantined.map(|batch| Finding::Quarantined { batch: *batch }));
}

fn check_continuation<'h>(
    at: &At<'_>,
    head: Option<&'h Head>,
    batch: &Batch<'_>,
) -> Result<Start<'h>, Box<Fault>> {
    let header = &batch.header;
    let Some(head) = head.filter(|head| head.batch.epoch == header.epoch) else {
        let detail = match head {
            Some(head) => {
                format!("the chain stands in epoch {}, and this batch opens none", head.batch.epoch.counter)
            }
            None => "the chain is empty, and this batch opens no epoch".to_owned(),
        };
        return Err(at.fault(Check::Epoch, None, detail));
    };
    at.demand(Check::Number, Some(header.number) == head.batch.number.next(), || {
        format!("the batch before it is {}", head.batch.number)
    })?;
    at.demand(Check::Link, header.previous == head.batch.hash, || {
        "it names another batch than the one before it".to_owned()
    })?;
    let signed = keys::verify(&head.next_key, Context::Batch, batch.header_bytes, &batch.signature);
    at.demand(Check::Signature, signed, || {
        "not signed by the key that the batch before it handed over".to_owned()
    })?;
    at.demand(Check::Stop, !head.stopped, || "the epoch had ended with agent.stop".to_owned())?;
    at.demand(Check::Sequence, header.boot == head.boot, || "it names another boot".to_owned())?;
    Ok(Start {
        next_seq: head.next_seq,
        last_entry: head.last_entry,
        counters: Some(&head.counters),
        host_key: head.host_key,
    })
}

fn check_entries(
    at: &At<'_>,
    start: &Start<'_>,
    batch: &Batch<'_>,
    hashes: Hashes,
) -> Result<Hash, Box<Fault>> {
    let header = &batch.header;
    let Hashes { leaves, root, other_body } = hashes;
    let whole = header.count as usize == leaves.len() && !leaves.is_empty() && header.root == root;
    at.demand(Check::Tree, whole, || "its entries are not those that were signed".to_owned())?;
    at.demand(Check::Sequence, header.first_seq == start.next_seq, || {
        format!("its entries begin at {} where {} must come", header.first_seq, start.next_seq)
    })?;
    let mut previous = start.last_entry;
    let mut seq = start.next_seq;
    let last = batch.entries.len().saturating_sub(1);
    for (index, (entry, leaf)) in batch.entries.iter().zip(&leaves).enumerate() {
        check_entry(at, entry, seq, previous, other_body != Some(index))?;
        let stops_early = entry.header.entry_type == EntryType::AgentStop && index != last;
        at.demand_at(Check::Stop, Some(seq), !stops_early, || "entries follow agent.stop".to_owned())?;
        previous = *leaf;
        seq = Seq(seq.0.saturating_add(1));
    }
    Ok(previous)
}

fn check_entry(
    at: &At<'_>,
    entry: &EntryView<'_>,
    seq: Seq,
    previous: Hash,
    own_body: bool,
) -> Result<(), Box<Fault>> {
    let (batch, header) = (at.header, &entry.header);
    let demand = |check, holds, detail: &str| at.demand_at(check, Some(seq), holds, || detail.to_owned());
    demand(Check::Format, header.version == ENTRY_VERSION, "the entry's version is unknown here")?;
    demand(Check::Host, header.host == batch.host, "the entry belongs to another host")?;
    let placed = header.seq == seq && header.epoch == batch.epoch && header.boot == batch.boot;
    demand(Check::Sequence, placed, "the entry has another place than this one")?;
    let session_before = header.session.is_none_or(|session| session <= seq);
    demand(Check::Sequence, session_before, "the entry names a session that is not open yet")?;
    demand(Check::EntryLink, header.previous == previous, "the entry names another one before it")?;
    demand(Check::Body, own_body, "the body is not the one that was signed")
}

fn check_counters(start: &Start<'_>, header: &BatchHeader, findings: &mut Vec<Finding>) {
    for (source, counters) in &header.counters {
        if !counters.is_conserved() {
            findings.push(Finding::NotConserved { source: source.clone() });
        }
    }
    let before = start.counters.into_iter().flatten();
    for (source, before) in before {
        if !header.counters.get(source).is_some_and(|now| now.follows(before)) {
            findings.push(Finding::CounterWentBack { source: source.clone() });
        }
    }
}
