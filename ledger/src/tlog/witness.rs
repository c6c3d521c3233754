//! A host as witness of its sink's log: it keeps the newest checkpoint that it has checked, takes the next one only
//! with the proof that it goes on from it, and a batch as committed only with the proof that it is in the tree.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError, CheckpointReference, log_key};
use super::note::Note;
use super::policy::Policy;
use super::proof::{verify_consistency, verify_inclusion};
use super::rules::{Rule, is_left_out};
use crate::ids::{Hash, Position, PublicKey};
use crate::tree;
use crate::wire::{CommittedBatch, CommittedResponse, WitnessedResponse};

/// What a host keeps durably of the log that it watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The log's key. Another one is another log.
    log: PublicKey,
    /// The newest checkpoint, as a signed note: with it anybody can be shown what the sink once said.
    note: String,
    checkpoint: CheckpointReference,
}

/// What a sink shows that does not hold, or not with what it showed before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// A signature or a name.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Another log than before.
    #[error("the sink shows the log of another key than before")]
    OtherLog,
    /// A smaller tree than it showed before.
    #[error("the log was rolled back: it had {held} leaves, and now {shown}")]
    RolledBack {
        /// Leaves of the checkpoint that is kept.
        held: u64,
        /// Leaves that are shown now.
        shown: u64,
    },
    /// A tree that does not begin with the one that it showed before.
    #[error("the log is forked: its tree of {shown} leaves does not go on from that of {held}")]
    Forked {
        /// Leaves of the checkpoint that is kept.
        held: u64,
        /// Leaves that are shown now.
        shown: u64,
    },
    /// A receipt for a batch that is not in the tree, or another batch is in its place.
    #[error("the sink says that {batch} is committed, and it is not in the tree")]
    NotInTree {
        /// Which.
        batch: Position,
    },
    /// A checkpoint without the cosignatures that make it one.
    #[error("the sink calls a checkpoint witnessed that too few of the policy's witnesses cosigned")]
    NotWitnessed,
}

/// A batch with a `stored` receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Which.
    pub batch: Position,
    /// Hash of its leaf, as the host itself makes it.
    pub leaf: Hash,
}

/// What an answer of the sink comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// To be kept before anything follows from it.
    pub witness: Witness,
    /// How many of those that were awaited are committed, from the first on.
    pub committed: usize,
}

impl Witness {
    /// The newest checkpoint that was checked.
    pub fn checkpoint(&self) -> &CheckpointReference {
        &self.checkpoint
    }

    /// It, as its log signed it.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Checks an answer against what is kept (`None` at first) and what is awaited, oldest first.
    pub fn see(
        kept: Option<&Witness>,
        sink: &PublicKey,
        answer: &CommittedResponse,
        awaited: &[Awaited],
    ) -> Result<Seen, Alarm> {
        let log = answer.log.verify(sink)?;
        if kept.is_some_and(|kept| kept.log != log.key()) && !is_left_out(Rule::OtherLog) {
            return Err(Alarm::OtherLog);
        }
        let checkpoint = Checkpoint::open_text(&answer.checkpoint, &log)?;
        let nothing = (0, tree::root(&[]));
        let (held, held_root) = kept.map_or(nothing, |kept| (kept.checkpoint.size, kept.checkpoint.root));
        if checkpoint.size < held && !is_left_out(Rule::Rollback) {
            return Err(Alarm::RolledBack { held, shown: checkpoint.size });
        }
        let (size, root) = (checkpoint.size, checkpoint.root);
        let goes_on = verify_consistency(held, &held_root, size, &root, &answer.consistency);
        if !goes_on && !is_left_out(Rule::Fork) {
            return Err(Alarm::Forked { held, shown: size });
        }
        let committed = included(&checkpoint, &answer.batches, awaited)?;
        let witness =
            Witness { log: log.key(), note: answer.checkpoint.clone(), checkpoint: checkpoint.reference() };
        Ok(Seen { witness, committed })
    }

    /// Checks what an answer calls witnessed, behind [`Witness::see`] of the same answer: the policy's log and witnesses
    /// signed it, the checkpoint that is kept goes on from it, and what is said to be in its tree is. How many of those
    /// that are awaited are witnessed, from the first on.
    pub fn see_witnessed(
        &self,
        policy: &Policy,
        answer: &WitnessedResponse,
        awaited: &[Awaited],
    ) -> Result<usize, Alarm> {
        if policy.log.key() != self.log {
            return Err(Alarm::OtherLog);
        }
        let note: Note = answer.checkpoint.parse().map_err(CheckpointError::from)?;
        let witnessed = Checkpoint::open(&note, &policy.log)?;
        if !policy.witnesses.are_met(&note) {
            return Err(Alarm::NotWitnessed);
        }
        let (size, root) = (self.checkpoint.size, self.checkpoint.root);
        let goes_on = verify_consistency(witnessed.size, &witnessed.root, size, &root, &answer.consistency);
        if !goes_on && !is_left_out(Rule::WitnessedFork) {
            return Err(Alarm::Forked { held: witnessed.size, shown: size });
        }
        included(&witnessed, &answer.batches, awaited)
    }

    /// Whether what was kept is a checkpoint that its log signed: a file may be damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let opened = Checkpoint::open_text(&self.note, &log_key(self.log));
        opened.is_ok_and(|checkpoint| checkpoint.reference() == self.checkpoint)
    }
}

/// How many of those that are awaited are in this tree, from the first on.
fn included(checkpoint: &Checkpoint, shown: &[CommittedBatch], awaited: &[Awaited]) -> Result<usize, Alarm> {
    let mut count = 0;
    for (shown, own) in shown.iter().zip(awaited) {
        let place = |batch: &Position| (batch.epoch.counter, batch.number);
        if place(&shown.batch) != place(&own.batch) {
            // The sink has more of this host than the host waits for, if that came back from an old copy.
            break;
        }
        let holds = shown.batch == own.batch
            && verify_inclusion(&own.leaf, shown.index, checkpoint.size, &checkpoint.root, &shown.proof);
        if !holds && !is_left_out(Rule::Inclusion) {
            return Err(Alarm::NotInTree { batch: own.batch });
        }
        count += 1;
    }
    Ok(count)
}
