//! Verification of a bundle against a policy: which reason stops it, or what it shows. Believes nothing of the bundle
//! that the policy's keys do not lead to. docs/bundle.md tells the same steps in words.

use std::io::Read;

use super::expired::Expiries;
use super::report::{BundleCheck, KeyChain, Rejected, Report, SessionReport, VerifyError};
use super::{Opening, Part, Point, Proof, Range, Reader};
use crate::batch::{Batch, BatchHeader, EntryView};
use crate::entry::{EntryHeader, EntryType};
use crate::ids::{BatchNumber, Hash, Position, PublicKey, Seq};
use crate::keys::{self, Context};
use crate::line;
use crate::segment::RecordKind;
use crate::statement::{Enrolment, Signed};
use crate::tlog::checkpoint::CheckpointError;
use crate::tlog::policy::Cosigned;
use crate::tlog::{BatchLeaf, Checkpoint, Note, Policy, leaf, verify_inclusion};
use crate::tree;
use crate::verify::{Finding, Head, follow};

/// Findings that are kept; more are counted.
const FINDINGS_KEPT_MAX: usize = 256;

pub(super) fn demand(check: BundleCheck, holds: bool, detail: &str) -> Result<(), Rejected> {
    if holds || is_left_out(check) { Ok(()) } else { Err(reject(check, detail)) }
}

pub(super) fn reject(check: BundleCheck, detail: impl ToString) -> Rejected {
    Rejected { check, detail: detail.to_string(), fault: None }
}

/// The attack tests leave out one check at a time, to show that the attack passes without it.
#[cfg(not(test))]
pub(super) const fn is_left_out(_: BundleCheck) -> bool {
    false
}
/// Nobody else believes a checkpoint without its signature.
#[cfg(not(test))]
const fn unsigned(_: &str) -> Option<Checkpoint> {
    None
}
#[cfg(test)]
pub(super) use super::attacks::is_left_out;
#[cfg(test)]
use super::attacks::unsigned;

/// Checks all of a bundle, and hands over the entries of its range. They are shown only once it has all been checked:
/// what comes later may reject it.
pub fn verify(
    source: impl Read,
    policy: &Policy,
    each: &mut dyn FnMut(&EntryView<'_>),
) -> Result<Report, VerifyError> {
    let (mut reader, opening) = Reader::open(source)?;
    let mut verification = Verification::begin(&opening, policy)?;
    loop {
        match reader.part()? {
            Part::Way(head) => verification.way(&head)?,
            Part::Anchor(head, place) => verification.anchor(&head, &place)?,
            Part::Statement(payload, place) => verification.statement(&payload, &place)?,
            Part::Batch(frame, place) => verification.batch(&frame, &place, each)?,
            Part::End => return Ok(verification.finish()?),
        }
    }
}

struct Verification {
    range: Range,
    enrolment: Enrolment,
    checkpoint: Checkpoint,
    /// Where the chain stands.
    head: Option<Head>,
    /// The newest key of the host, where the way of keys says which.
    newest: Option<PublicKey>,
    /// The newest entry that was seen.
    seen: Option<Point>,
    expiries: Expiries,
    report: Report,
}

impl Verification {
    fn begin(opening: &Opening, policy: &Policy) -> Result<Self, Rejected> {
        let range = opening.range;
        let (checkpoint, cosigned) = open_checkpoint(&opening.checkpoint, policy)?;
        let enrolment = open_enrolment(opening, policy, &checkpoint)?;
        let ordered = range.first.order() <= range.last.order();
        demand(BundleCheck::Range, ordered, "the range ends before it begins")?;
        let of_session = range
            .session
            .is_none_or(|session| session == range.first.seq && range.first.epoch == range.last.epoch);
        demand(BundleCheck::Range, of_session, "the range is not that of a session")?;
        let report = Report {
            host: enrolment.host,
            name_claimed: enrolment.name.clone(),
            first: range.first,
            last: range.last,
            keys: KeyChain::Enrolled,
            verified: 0,
            redacted: 0,
            expired: 0,
            expiries: Vec::new(),
            expiries_more: 0,
            gaps: 0,
            around: 0,
            session: range.session.map(|seq| SessionReport {
                seq,
                entries: 0,
                redacted: 0,
                expired: 0,
                closed: false,
            }),
            batches: 0,
            epochs: 0,
            findings: Vec::new(),
            findings_more: 0,
            first_wall_claimed_ns: 0,
            last_wall_claimed_ns: 0,
            first_received_ns: 0,
            last_received_ns: 0,
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            cosigned,
        };
        let expiries = Expiries::new(range.host, policy.sink);
        Ok(Verification {
            range,
            enrolment,
            checkpoint,
            head: None,
            newest: None,
            seen: None,
            expiries,
            report,
        })
    }

    /// One step of the way of keys. No batch header holds the last entry's hash, so the head lacks it.
    fn way(&mut self, bytes: &[u8]) -> Result<(), Rejected> {
        let batch = Batch::decode(bytes).map_err(|error| reject(BundleCheck::Format, error))?;
        let header = &batch.header;
        self.placed(&batch)?;
        let (key, number, previous, seq) = match (&self.head, &header.opening) {
            (None, Some(opening)) => {
                let enrolled = &self.enrolment.key;
                let newest =
                    line::follow(header.host, enrolled, enrolled, &opening.line).or_else(|error| {
                        demand(BundleCheck::Way, false, &error.to_string()).map(|()| *enrolled)
                    })?;
                let certified = keys::is_certified(
                    &newest,
                    header.host,
                    header.boot,
                    header.epoch,
                    &opening.key,
                    &opening.certificate,
                );
                demand(BundleCheck::Way, certified, "the epoch's first key is not certified by the host's")?;
                self.newest = Some(newest);
                (opening.key, Some(BatchNumber(0)), Hash::ZERO, Seq(0))
            }
            (Some(head), None) => (head.next_key, head.batch.number.next(), head.batch.hash, head.next_seq),
            _ => {
                let detail = "the way of keys does not begin at the epoch's opening";
                return Err(reject(BundleCheck::Way, detail));
            }
        };
        let next = number == Some(header.number) && previous == header.previous && seq == header.first_seq;
        demand(BundleCheck::Way, next, "the way of keys has a hole")?;
        let signed = keys::verify(&key, Context::Batch, batch.header_bytes, &batch.signature);
        demand(BundleCheck::Way, signed, "a step of the way of keys is not signed by the key before it")?;
        self.head = Some(Head { host_key: self.newest, ..head_after(header, batch.position()) });
        Ok(())
    }

    /// The batch before the first one, for which the log vouches.
    fn anchor(&mut self, bytes: &[u8], place: &Proof) -> Result<(), Rejected> {
        let batch = Batch::decode(bytes).map_err(|error| reject(BundleCheck::Format, error))?;
        self.placed(&batch)?;
        self.included(&batch, place)?;
        self.report.keys = KeyChain::Anchored(batch.header.number);
        self.head = Some(head_after(&batch.header, batch.position()));
        Ok(())
    }

    /// Way and anchor are heads alone, of the range's host and first epoch.
    fn placed(&self, batch: &Batch<'_>) -> Result<(), Rejected> {
        let placed = batch.header.host == self.enrolment.host
            && batch.header.epoch == self.range.first.epoch
            && batch.entries.is_empty();
        demand(BundleCheck::Way, placed, "the way of keys is that of another host or epoch")
    }

    /// What says that bodies of the batches that follow expired.
    fn statement(&mut self, payload: &[u8], place: &Proof) -> Result<(), Rejected> {
        let next = self.expiries.open(payload, place.index)?;
        let what = "the statement that bodies expired";
        check_record(RecordKind::Statement, payload, place, &self.checkpoint, what)?;
        self.expiries.enter(next)
    }

    fn batch(
        &mut self,
        frame: &[u8],
        place: &Proof,
        each: &mut dyn FnMut(&EntryView<'_>),
    ) -> Result<(), Rejected> {
        let batch = Batch::decode(frame).map_err(|error| reject(BundleCheck::Format, error))?;
        self.included(&batch, place)?;
        let whole = batch.entries.iter().all(|entry| entry.body.is_some());
        let same = !whole || tree::hash_of(frame) == place.content;
        demand(
            BundleCheck::Content,
            same,
            "a batch with all its bodies is not the one that the sink received",
        )?;
        let expired = self.expiries.batch(&batch, frame, place)?;
        let is_first = self.report.batches == 0;
        if is_first {
            self.check_first(&batch)?;
        }
        let step =
            follow(self.enrolment.host, &self.enrolment.key, self.head.as_ref(), frame).map_err(|fault| {
                Rejected { check: BundleCheck::Chain, detail: fault.detail.clone(), fault: Some(fault) }
            })?;
        self.report.batches += 1;
        self.report.epochs += u64::from(is_first || step.batch.header.opening.is_some());
        if is_first {
            self.report.first_received_ns = place.received_ns;
        }
        self.report.last_received_ns = place.received_ns;
        for finding in step.findings {
            self.find(finding);
        }
        for entry in &step.batch.entries {
            self.entry(entry, expired, each);
        }
        self.head = Some(step.head);
        Ok(())
    }

    /// Enters the chain. The first entry's link to the one before it, which is not in the bundle, is covered by the first
    /// batch's signature.
    fn check_first(&mut self, batch: &Batch<'_>) -> Result<(), Rejected> {
        let header = &batch.header;
        let begins = header.epoch == self.range.first.epoch && holds(header, self.range.first.seq);
        demand(BundleCheck::Range, begins, "the first batch does not hold the first entry of the range")?;
        if let Some(head) = &mut self.head {
            head.last_entry = batch.entries.first().map_or(Hash::ZERO, |entry| entry.header.previous);
        }
        Ok(())
    }

    /// A batch is the one that the sink put into its log.
    fn included(&self, batch: &Batch<'_>, place: &Proof) -> Result<(), Rejected> {
        let leaf = BatchLeaf {
            host: batch.header.host,
            received_ns: place.received_ns,
            content: place.content,
            signature: batch.signature,
            header: batch.header_bytes,
        };
        check_inclusion(&leaf.hash(), place, &self.checkpoint, &format!("batch {}", batch.header.number))
    }

    fn find(&mut self, finding: Finding) {
        // What came before the range is not its matter.
        let before = match finding {
            Finding::Missing { from: None, .. } => self.report.batches == 1,
            // Nor is a key that was there where the chain was entered.
            Finding::KeyRotated { .. } => self.head.as_ref().is_none_or(|head| head.host_key.is_none()),
            _ => false,
        };
        if before {
            return;
        }
        if self.report.findings.len() < FINDINGS_KEPT_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.findings_more += 1;
        }
    }

    /// `expired`: bodies that its batch lacks have.
    fn entry(&mut self, entry: &EntryView<'_>, expired: bool, each: &mut dyn FnMut(&EntryView<'_>)) {
        let header = &entry.header;
        let at = Point { epoch: header.epoch, seq: header.seq };
        self.seen = Some(at);
        if at.order() < self.range.first.order() || at.order() > self.range.last.order() {
            self.report.around += 1;
            return;
        }
        let report = &mut self.report;
        if report.verified + report.redacted + report.expired == 0 {
            report.first_wall_claimed_ns = header.wall_ns;
        }
        report.last_wall_claimed_ns = header.wall_ns;
        report.gaps += u64::from(header.entry_type == EntryType::Gap);
        let absent = entry.body.is_none();
        let (expired, redacted) = (absent && expired, absent && !expired);
        report.verified += u64::from(!absent);
        report.redacted += u64::from(redacted);
        report.expired += u64::from(expired);
        if let Some(session) = &mut report.session
            && belongs(header, session.seq)
        {
            session.entries += 1;
            session.redacted += u64::from(redacted);
            session.expired += u64::from(expired);
            session.closed |= header.entry_type == EntryType::SessionClose;
        }
        if expired {
            self.expiries.count();
        }
        each(entry);
    }

    fn finish(mut self) -> Result<Report, Rejected> {
        let last = self.range.last;
        let ends = self.seen.is_some_and(|seen| seen.epoch == last.epoch && seen.seq >= last.seq);
        demand(BundleCheck::Range, ends, "the batches end before the last entry of the range")?;
        (self.report.expiries, self.report.expiries_more) = self.expiries.finish();
        Ok(self.report)
    }
}

/// Whether an entry is of the session that begins at `session` in its epoch.
fn belongs(header: &EntryHeader, session: Seq) -> bool {
    header.session == Some(session) || header.seq == session
}

fn holds(header: &BatchHeader, seq: Seq) -> bool {
    seq.0.checked_sub(header.first_seq.0).is_some_and(|index| index < u64::from(header.count))
}

fn head_after(header: &BatchHeader, batch: Position) -> Head {
    Head {
        batch,
        boot: header.boot,
        next_key: header.next_key,
        next_seq: Seq(header.first_seq.0.saturating_add(header.count.into())),
        last_entry: Hash::ZERO,
        counters: header.counters.clone(),
        stopped: false,
        host_key: None,
    }
}

/// The checkpoint, and who cosigned it.
fn open_checkpoint(text: &str, policy: &Policy) -> Result<(Checkpoint, Vec<Cosigned>), Rejected> {
    let note: Result<Note, CheckpointError> = text.parse().map_err(CheckpointError::from);
    let note = note.map_err(|error| reject(BundleCheck::Checkpoint, error))?;
    let checkpoint = Checkpoint::open(&note, &policy.log)
        .or_else(|error| unsigned(text).ok_or(error))
        .map_err(|error| reject(BundleCheck::Checkpoint, error))?;
    let witnessed = policy.witnesses.are_met(&note);
    demand(BundleCheck::Witnesses, witnessed, "too few of the policy's witnesses cosigned the checkpoint")?;
    Ok((checkpoint, policy.witnesses.cosigned(&note)))
}

fn open_enrolment(
    opening: &Opening,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<Enrolment, Rejected> {
    let (enrolment, key) = Signed::open::<Enrolment>(&opening.enrolment)
        .map_err(|error| reject(BundleCheck::Enrolment, error))?;
    let right = key == policy.sink;
    demand(BundleCheck::Enrolment, right, "the enrolment is signed by another key than the policy's")?;
    let same = enrolment.host == opening.range.host;
    demand(BundleCheck::Host, same, "the enrolment is that of another host")?;
    check_record(RecordKind::Enrolment, &opening.enrolment, &opening.place, checkpoint, "the enrolment")?;
    Ok(enrolment)
}

/// Something that the sink signed, and that is no batch, is the record that stands at that place.
fn check_record(
    kind: RecordKind,
    payload: &[u8],
    place: &Proof,
    checkpoint: &Checkpoint,
    what: &str,
) -> Result<(), Rejected> {
    // Nobody vouches for these two, so they say nothing.
    let unsaid = place.received_ns == 0 && place.content == Hash::ZERO;
    demand(BundleCheck::Format, unsaid, &format!("the place of {what} says more than its leaf does"))?;
    check_inclusion(&leaf::of_payload(kind, payload), place, checkpoint, what)
}

fn check_inclusion(leaf: &Hash, place: &Proof, checkpoint: &Checkpoint, what: &str) -> Result<(), Rejected> {
    let holds = verify_inclusion(leaf, place.index, checkpoint.size, &checkpoint.root, &place.hashes);
    demand(BundleCheck::Inclusion, holds, &format!("{what} is not under the checkpoint at that place"))
}
