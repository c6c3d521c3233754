//! What verification says of a chain or a log: a fault, which is a reason to refuse, or a finding, which holds and has to be
//! known. Names and words; what is checked stands in [`super::follow`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{BatchNumber, EpochId, Hash, Position, PublicKey, Seq};
use crate::tlog::CheckpointReference;

/// The checks, each a reason for refusal of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The bytes are a frame of a version that is known.
    Format,
    /// Batch and entries belong to the host that is being verified.
    Host,
    /// Key 0 of the epoch is certified by the host's enrolled key.
    Certificate,
    /// A new epoch is newer than the one before.
    Epoch,
    /// The batch has the next number.
    Number,
    /// It names the hash of the batch before.
    Link,
    /// It is signed by the key that the batch before handed over.
    Signature,
    /// Its root and count are those of its entries.
    Tree,
    /// Its entries have the next seqs, its epoch and its boot.
    Sequence,
    /// Each entry names the one before.
    EntryLink,
    /// Each body is the one that its header names.
    Body,
    /// Nothing follows an `agent.stop` in its epoch.
    Stop,
    /// A batch that was promised is there, and is the same.
    Promised,
    /// Each key of the host's line is signed by the key before it.
    HandOver,
    /// The host's line of keys leads over the newest key that was known of it.
    KeyLine,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Format => "format",
            Check::Host => "host",
            Check::Certificate => "certificate",
            Check::Epoch => "epoch",
            Check::Number => "number",
            Check::Link => "link",
            Check::Signature => "signature",
            Check::Tree => "tree",
            Check::Sequence => "sequence",
            Check::EntryLink => "entry link",
            Check::Body => "body",
            Check::Stop => "stop",
            Check::Promised => "promised",
            Check::HandOver => "hand over",
            Check::KeyLine => "key line",
        })
    }
}

/// A check that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Fault {
    /// Which check.
    pub check: Check,
    /// In which epoch, as far as known.
    pub epoch: Option<EpochId>,
    /// In which batch.
    pub batch: Option<BatchNumber>,
    /// At which entry.
    pub seq: Option<Seq>,
    /// What is wrong: one sentence, no payload.
    pub detail: String,
}
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} check failed", self.check)?;
        if let Some(epoch) = self.epoch {
            write!(f, ", epoch {}", epoch.counter)?;
        }
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, ", entry {seq}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// What holds, but has to be known: stored and flagged, never refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The host held batches up to `to` that are not here: lost before they arrived, or taken away since.
    Missing {
        /// The newest batch of before that is here.
        from: Option<Position>,
        /// The newest one that the host held.
        to: Position,
    },
    /// The host came back with an older state than it had: a restored snapshot or a clone.
    RolledBack {
        /// Where it says that it was.
        claimed: Option<Position>,
        /// Where it was.
        head: Position,
    },
    /// The host held another batch of the same number than the one that is here.
    Forked {
        /// What it held.
        claimed: Position,
        /// What is here.
        head: Position,
    },
    /// The host keeps a batch aside that the sink had refused.
    Quarantined {
        /// Which.
        batch: Position,
    },
    /// A counter went back inside an epoch.
    CounterWentBack {
        /// Of which source.
        source: String,
    },
    /// What was produced is not what became of it.
    NotConserved {
        /// Of which source.
        source: String,
    },
    /// The host holds a checkpoint that is none of this log: the log was rolled back or forked.
    OtherLog {
        /// What the host holds.
        echoed: CheckpointReference,
        /// How this log differs.
        difference: LogDifference,
    },
    /// The host certifies its epochs with another key from here on.
    KeyRotated {
        /// The newest key until then.
        from: PublicKey,
        /// The newest one now.
        to: PublicKey,
    },
}

impl Finding {
    /// Its stable name, as stored.
    pub const fn code(&self) -> &'static str {
        match self {
            Finding::Missing { .. } => "missing",
            Finding::RolledBack { .. } => "rolled_back",
            Finding::Forked { .. } => "forked",
            Finding::Quarantined { .. } => "quarantined",
            Finding::CounterWentBack { .. } => "counter_went_back",
            Finding::NotConserved { .. } => "not_conserved",
            Finding::OtherLog { .. } => "other_log",
            Finding::KeyRotated { .. } => "key_rotated",
        }
    }
}

/// How a log differs from a checkpoint that somebody holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDifference {
    /// It is smaller.
    Smaller,
    /// Its tree of that size has another root.
    OtherRoot,
    /// It has another name, so another key.
    OtherOrigin,
}

/// Compares a checkpoint that somebody holds with a log. `root_at` gives the root over that many leaves, `None` when
/// there are fewer.
pub fn judge_checkpoint(
    held: &CheckpointReference,
    origin: &str,
    root_at: impl FnOnce(u64) -> Option<Hash>,
) -> Option<LogDifference> {
    if held.origin != origin {
        return Some(LogDifference::OtherOrigin);
    }
    match root_at(held.size) {
        None => Some(LogDifference::Smaller),
        Some(root) => (root != held.root).then_some(LogDifference::OtherRoot),
    }
}
