//! Verification of a bundle against a policy: which reason stops it, or what it shows. Believes nothing of the bundle
//! that the policy's keys do not lead to.

use std::fmt;

use serde::Serialize;

use super::{Bundle, Policy, Proof};
use crate::batch::Batch;
use crate::entry::EntryType;
use crate::ids::{BatchNumber, EpochId, Hash, HostId, Seq};
use crate::keys::{self, Context};
use crate::segment::{Record, RecordKind};
use crate::statement::{Enrolment, Signed};
use crate::tlog::{BatchLeaf, Checkpoint, leaf, verify_inclusion};
use crate::tree;
use crate::verify::{Fault, Head, follow};

/// The reasons for which a bundle is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleCheck {
    /// The bytes are a bundle.
    Format,
    /// The checkpoint is signed by the policy's log.
    Checkpoint,
    /// The enrolment is signed by the policy's sink.
    Enrolment,
    /// The enrolment is that of the bundle's host.
    Host,
    /// Enrolment and batches are under the checkpoint.
    Inclusion,
    /// The way of keys leads from a certified key to the first batch.
    Way,
    /// All batches are of the epoch that the range names.
    Epoch,
    /// Batches and entries follow each other without a hole and are those that were signed.
    Chain,
    /// A frame with all its bodies is the one that the sink received.
    Content,
    /// The batches hold the whole range.
    Range,
}

impl fmt::Display for BundleCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        f.write_str(&name.to_lowercase())
    }
}

/// Why a bundle shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{check} check failed: {detail}")]
pub struct Rejected {
    /// Which check.
    pub check: BundleCheck,
    /// What is wrong: one sentence, no payload.
    pub detail: String,
    /// The step of the chain, where that is the reason.
    pub fault: Option<Box<Fault>>,
}

/// What a bundle shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose entries.
    pub host: HostId,
    /// What the host calls itself: a claim.
    pub name_claimed: String,
    /// Of which epoch.
    pub epoch: EpochId,
    /// First entry of the range.
    pub first: Seq,
    /// Last entry of the range.
    pub last: Seq,
    /// Entries of the range whose body is here and holds.
    pub verified: u64,
    /// Entries of the range whose body is not here: withheld, or expired. The header's hash stands for it.
    pub withheld: u64,
    /// Entries of the range that say that something was lost.
    pub gaps: u64,
    /// Entries around the range, in its first and last batch.
    pub around: u64,
    /// Batches.
    pub batches: u64,
    /// The last batch ends the epoch in order.
    pub stopped: bool,
    /// The host's wall clock at the first entry, ns since 1970: a claim.
    pub first_wall_claimed_ns: u64,
    /// The same at the last entry.
    pub last_wall_claimed_ns: u64,
    /// When the sink says that it received the first batch, ns since 1970.
    pub first_received_ns: u64,
    /// The same of the last one.
    pub last_received_ns: u64,
    /// The log.
    pub origin: String,
    /// Records under the checkpoint.
    pub size: u64,
}

fn demand(check: BundleCheck, holds: bool, detail: &str) -> Result<(), Rejected> {
    if holds || is_left_out(check) { Ok(()) } else { Err(reject(check, detail)) }
}

fn reject(check: BundleCheck, detail: impl ToString) -> Rejected {
    Rejected { check, detail: detail.to_string(), fault: None }
}

/// The attack tests leave out one check at a time, to show that the attack passes without it.
#[cfg(not(test))]
const fn is_left_out(_: BundleCheck) -> bool {
    false
}
#[cfg(test)]
use super::attacks::is_left_out;

/// Checks all of a bundle.
pub fn verify(bytes: &[u8], policy: &Policy) -> Result<Report, Rejected> {
    let bundle = Bundle::decode(bytes).map_err(|error| reject(BundleCheck::Format, error))?;
    let checkpoint = open_checkpoint(bundle.checkpoint, policy)?;
    let enrolment = open_enrolment(&bundle, policy, &checkpoint)?;
    let mut head = follow_way(&bundle, &enrolment)?;
    let mut report = begin(&bundle, &enrolment, &checkpoint);
    for (index, (frame, proof)) in bundle.batches.iter().enumerate() {
        let batch = Batch::decode(frame).map_err(|error| reject(BundleCheck::Format, error))?;
        demand(BundleCheck::Epoch, batch.header.epoch == bundle.range.epoch, "a batch is of another epoch")?;
        check_leaf(&batch, frame, proof, &checkpoint)?;
        if index == 0 {
            head = adopt(head, &batch);
            check_first(&bundle, &batch)?;
        }
        let known = head.take();
        let step = follow(enrolment.host, &enrolment.key, known.as_ref(), frame).map_err(|fault| {
            Rejected { check: BundleCheck::Chain, detail: fault.to_string(), fault: Some(fault) }
        })?;
        count(&mut report, &bundle, &step.batch, proof);
        head = Some(step.head);
    }
    let head = head.ok_or_else(|| reject(BundleCheck::Range, "the bundle holds no batch"))?;
    report.stopped = head.stopped;
    let entries = bundle.range.last.0.checked_sub(bundle.range.first.0).and_then(|n| n.checked_add(1));
    let whole = entries == Some(report.verified + report.withheld);
    demand(
        BundleCheck::Range,
        whole,
        "the batches do not hold all entries of the range that the bundle names",
    )?;
    Ok(report)
}

fn open_checkpoint(text: &str, policy: &Policy) -> Result<Checkpoint, Rejected> {
    Checkpoint::open_text(text, &policy.log).map_err(|error| reject(BundleCheck::Checkpoint, error))
}

fn open_enrolment(
    bundle: &Bundle<'_>,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<Enrolment, Rejected> {
    let (payload, proof) = &bundle.enrolment;
    let (enrolment, key) =
        Signed::open::<Enrolment>(payload).map_err(|error| reject(BundleCheck::Enrolment, error))?;
    demand(
        BundleCheck::Enrolment,
        key == policy.sink,
        "the enrolment is signed by another key than the policy's",
    )?;
    demand(BundleCheck::Host, enrolment.host == bundle.range.host, "the enrolment is that of another host")?;
    let record = Record {
        kind: RecordKind::Enrolment,
        meta: Vec::new(),
        payload: payload.to_vec(),
        offset: 0,
        length: 0,
    };
    // Nobody vouches for these two, so they say nothing.
    let unsaid = proof.received_ns == 0 && proof.content == Hash::ZERO;
    demand(BundleCheck::Format, unsaid, "the enrolment's proof says more than an enrolment's leaf does")?;
    let leaf = leaf::of_record(&record).map_err(|error| reject(BundleCheck::Enrolment, error))?;
    check_inclusion(&tree::leaf(&leaf), proof, checkpoint, "the enrolment")?;
    Ok(enrolment)
}

fn check_inclusion(leaf: &Hash, proof: &Proof, checkpoint: &Checkpoint, what: &str) -> Result<(), Rejected> {
    let holds = verify_inclusion(leaf, proof.index, checkpoint.size, &checkpoint.root, &proof.hashes);
    demand(BundleCheck::Inclusion, holds, &format!("{what} is not under the checkpoint at that place"))
}

/// A batch is the one that the sink put into its log.
fn check_leaf(
    batch: &Batch<'_>,
    frame: &[u8],
    proof: &Proof,
    checkpoint: &Checkpoint,
) -> Result<(), Rejected> {
    let leaf = BatchLeaf {
        host: batch.header.host,
        received_ns: proof.received_ns,
        content: proof.content,
        signature: batch.signature,
        header: batch.header_bytes,
    };
    check_inclusion(&leaf.hash(), proof, checkpoint, &format!("batch {}", batch.header.number))?;
    let whole = batch.entries.iter().all(|entry| entry.body.is_some());
    let same = !whole || tree::hash_of(frame) == proof.content;
    demand(BundleCheck::Content, same, "a batch with all its bodies is not the one that the sink received")
}

/// Follows the keys from the epoch's opening. The head that it gives lacks the last entry's hash, which no batch header
/// holds. `None` when there is no way, or none is needed.
fn follow_way(bundle: &Bundle<'_>, enrolment: &Enrolment) -> Result<Option<Head>, Rejected> {
    let mut head: Option<Head> = None;
    for bytes in &bundle.way {
        let batch = Batch::decode(bytes).map_err(|error| reject(BundleCheck::Format, error))?;
        let header = &batch.header;
        let placed =
            header.host == enrolment.host && header.epoch == bundle.range.epoch && batch.entries.is_empty();
        demand(BundleCheck::Way, placed, "the way of keys is that of another host or epoch")?;
        let (key, number, previous, seq) = match (&head, &header.opening) {
            (None, Some(opening)) => {
                let certified = keys::is_certified(
                    &enrolment.key,
                    header.host,
                    header.boot,
                    header.epoch,
                    &opening.key,
                    &opening.certificate,
                );
                demand(BundleCheck::Way, certified, "the epoch's first key is not certified by the host's")?;
                (opening.key, Some(BatchNumber(0)), Hash::ZERO, Seq(0))
            }
            (Some(head), None) => (head.next_key, head.batch.number.next(), head.batch.hash, head.next_seq),
            _ => {
                return Err(reject(
                    BundleCheck::Way,
                    "the way of keys does not begin at the epoch's opening",
                ));
            }
        };
        let next = number == Some(header.number) && previous == header.previous && seq == header.first_seq;
        demand(BundleCheck::Way, next, "the way of keys has a hole")?;
        let signed = keys::verify(&key, Context::Batch, batch.header_bytes, &batch.signature);
        demand(BundleCheck::Way, signed, "a step of the way of keys is not signed by the key before it")?;
        head = Some(Head {
            batch: batch.position(),
            boot: header.boot,
            next_key: header.next_key,
            next_seq: Seq(header.first_seq.0.saturating_add(header.count.into())),
            last_entry: Hash::ZERO,
            counters: header.counters.clone(),
            stopped: false,
        });
    }
    Ok(head)
}

/// Without a way of keys only an epoch's opening can come first.
fn check_first(bundle: &Bundle<'_>, batch: &Batch<'_>) -> Result<(), Rejected> {
    let led = !bundle.way.is_empty() || batch.header.number == BatchNumber(0);
    demand(BundleCheck::Way, led, "the way of keys to the first batch is not in the bundle")
}

/// The first entry's link to the one before it, which is not in the bundle, is covered by the first batch's signature.
fn adopt(head: Option<Head>, batch: &Batch<'_>) -> Option<Head> {
    let previous = batch.entries.first().map_or(Hash::ZERO, |entry| entry.header.previous);
    head.map(|head| Head { last_entry: previous, ..head })
}

fn begin(bundle: &Bundle<'_>, enrolment: &Enrolment, checkpoint: &Checkpoint) -> Report {
    Report {
        host: enrolment.host,
        name_claimed: enrolment.name.clone(),
        epoch: bundle.range.epoch,
        first: bundle.range.first,
        last: bundle.range.last,
        verified: 0,
        withheld: 0,
        gaps: 0,
        around: 0,
        batches: 0,
        stopped: false,
        first_wall_claimed_ns: 0,
        last_wall_claimed_ns: 0,
        first_received_ns: 0,
        last_received_ns: 0,
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
    }
}

fn count(report: &mut Report, bundle: &Bundle<'_>, batch: &Batch<'_>, proof: &Proof) {
    report.batches += 1;
    if report.batches == 1 {
        report.first_received_ns = proof.received_ns;
    }
    report.last_received_ns = proof.received_ns;
    for entry in &batch.entries {
        let header = &entry.header;
        if header.seq < bundle.range.first || header.seq > bundle.range.last {
            report.around += 1;
            continue;
        }
        if header.seq == bundle.range.first {
            report.first_wall_claimed_ns = header.wall_ns;
        }
        report.last_wall_claimed_ns = header.wall_ns;
        report.gaps += u64::from(header.entry_type == EntryType::Gap);
        if entry.body.is_some() {
            report.verified += 1;
        } else {
            report.withheld += 1;
        }
    }
}
