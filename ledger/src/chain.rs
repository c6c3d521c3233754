//! The host's side: drafts become entries, entries become signed batches. Lives in memory only; each start of
//! the agent opens a new epoch, so no private key of the chain is ever written down.

use std::collections::BTreeMap;

use crate::batch::{
    BATCH_ENTRIES_MAX, BATCH_VERSION, BatchHeader, Body, Counters, Opening, ReceiptReference, Resume,
    frame_head, put_entry,
};
use crate::codec::CodecError;
use crate::entry::{BODY_BYTES_MAX, ENTRY_VERSION, EntryHeader, EntryType, SealedReference};
use crate::ids::{BatchNumber, BootId, EpochId, EpochNonce, Hash, HostId, Position, Salt, Seq};
use crate::keys::{self, BatchKey, HostKey, KeyError};
use crate::line::HandOver;
use crate::tlog::CheckpointReference;
use crate::tree;

/// A batch is due at this many entries.
pub const BATCH_ENTRIES_DUE: usize = 256;
/// A batch is due at this many bytes.
pub const BATCH_BYTES_DUE: usize = 256 * 1024;
/// No entry is taken that would bring the waiting ones over this many bytes: it keeps a frame within what
/// readers accept.
pub const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// Why the chain took no entry or made no batch.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The body has to be written in numbered parts.
    #[error("a body of {bytes} bytes is over the limit of {BODY_BYTES_MAX}")]
    BodyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The batch has to be closed first.
    #[error("the batch is full: close it before the next entry")]
    BatchFull,
    /// There is nothing to sign.
    #[error("no entry is waiting")]
    Empty,
    /// An agent.stop was appended: this epoch is over.
    #[error("the epoch was stopped: nothing may follow")]
    Stopped,
    /// Numbers ran out; a new epoch starts again at zero.
    #[error("the numbers of this epoch are used up")]
    NumbersUsedUp,
    /// The key machinery failed; the chain cannot go on and a new epoch is needed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A header could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// What becomes an entry.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// What it says.
    pub entry_type: EntryType,
    /// Kernel time of the first byte, boottime ns.
    pub first_ns: u64,
    /// Kernel time of the last byte, boottime ns.
    pub last_ns: u64,
    /// The host's wall clock, ns since 1970.
    pub wall_ns: u64,
    /// Seq of the `session.open` that it belongs to, in this epoch.
    pub session: Option<Seq>,
    /// The body, masked already.
    pub body: &'a [u8],
    /// The sealed original, where there is one.
    pub sealed: Option<SealedReference>,
}

impl<'a> Draft<'a> {
    /// Without times, of no session, and nothing of it sealed.
    pub const fn new(entry_type: EntryType, body: &'a [u8]) -> Self {
        Draft { entry_type, first_ns: 0, last_ns: 0, wall_ns: 0, session: None, body, sealed: None }
    }
}

/// What a host has heard of its sink and signs with its next batch, so that both stand to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// The newest receipt.
    pub last_receipt: Option<ReceiptReference>,
    /// The newest checkpoint that was checked.
    pub checkpoint: Option<CheckpointReference>,
}

/// How much waits to be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Entries.
    pub entries: usize,
    /// Their bytes in the frame.
    pub bytes: usize,
}

impl Pending {
    /// Whether the batch should be closed now, whatever the clock says.
    pub fn is_due(&self) -> bool {
        self.entries >= BATCH_ENTRIES_DUE || self.bytes >= BATCH_BYTES_DUE
    }
}

/// A batch that is ready for the spool.
#[derive(Clone, Debug)]
pub struct SignedBatch {
    /// Its name.
    pub position: Position,
    /// Seq of its first entry.
    pub first_seq: Seq,
    /// How many entries.
    pub count: u32,
    /// The frame: what is stored and sent, byte for byte.
    pub frame: Vec<u8>,
}

/// The chain of one epoch.
pub struct Chain {
    host: HostId,
    boot: BootId,
    epoch: EpochId,
    /// The key of the batch that is being filled.
    key: Option<BatchKey>,
    /// Goes into batch 0.
    opening: Option<Opening>,
    number: BatchNumber,
    previous_batch: Hash,
    next_seq: Seq,
    previous_entry: Hash,
    stopped: bool,
    leaves: Vec<Hash>,
    entries: Vec<u8>,
}

impl Chain {
    /// Opens an epoch. `counter` must be above that of every start before; `resume` is `None` only right after
    /// enrolment.
    pub fn start(
        host_key: &HostKey,
        host: HostId,
        boot: BootId,
        counter: u64,
        resume: Option<Resume>,
    ) -> Result<Self, ChainError> {
        let epoch = EpochId { counter, nonce: EpochNonce(keys::random()?) };
        let key = BatchKey::generate()?;
        let certificate = host_key.certify(host, boot, epoch, &key.public());
        Ok(Chain {
            host,
            boot,
            epoch,
            opening: Some(Opening { key: key.public(), certificate, line: Vec::new(), resume }),
            key: Some(key),
            number: BatchNumber(0),
            previous_batch: Hash::ZERO,
            next_seq: Seq(0),
            previous_entry: Hash::ZERO,
            stopped: false,
            leaves: Vec::new(),
            entries: Vec::new(),
        })
    }

    /// Names the line of keys that leads from the enrolled key to the one that certified this epoch. It stands in the first
    /// batch, so this comes before that is closed.
    #[must_use]
    pub fn in_line(mut self, line: Vec<HandOver>) -> Self {
        if let Some(opening) = &mut self.opening {
            opening.line = line;
        }
        self
    }

    /// The epoch that was opened.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// The seq that the next entry gets.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// How much waits to be signed.
    pub fn pending(&self) -> Pending {
        Pending { entries: self.leaves.len(), bytes: self.entries.len() }
    }

    /// Takes one entry. It is evidence only once its batch is closed and spooled. Nothing changes on an error.
    pub fn append(&mut self, draft: &Draft<'_>) -> Result<Seq, ChainError> {
        if draft.body.len() > BODY_BYTES_MAX {
            return Err(ChainError::BodyTooLong { bytes: draft.body.len() });
        }
        if self.stopped {
            return Err(ChainError::Stopped);
        }
        let pending = self.pending();
        if pending.entries >= BATCH_ENTRIES_MAX || pending.bytes + draft.body.len() > PENDING_BYTES_MAX {
            return Err(ChainError::BatchFull);
        }
        let seq = self.next_seq;
        let next_seq = seq.next().ok_or(ChainError::NumbersUsedUp)?;
        let salt = Salt(keys::random()?);
        let header = EntryHeader {
            version: ENTRY_VERSION,
            entry_type: draft.entry_type.clone(),
            host: self.host,
            boot: self.boot,
            epoch: self.epoch,
            seq,
            first_ns: draft.first_ns,
            last_ns: draft.last_ns,
            wall_ns: draft.wall_ns,
            session: draft.session,
            body_bytes: draft.body.len() as u32, // At most BODY_BYTES_MAX.
            body: tree::body_hash(&salt, draft.body),
            sealed: draft.sealed.clone(),
            previous: self.previous_entry,
        }
        .encode()?;
        self.previous_entry = tree::leaf(&header);
        self.leaves.push(self.previous_entry);
        put_entry(&mut self.entries, &header, Some(Body { salt, bytes: draft.body }));
        self.next_seq = next_seq;
        self.stopped = draft.entry_type == EntryType::AgentStop;
        Ok(seq)
    }

    /// Signs what waits with this batch's key, names the next key, and wipes this one before it returns.
    pub fn close_batch(
        &mut self,
        counters: BTreeMap<String, Counters>,
        echo: Echo,
    ) -> Result<SignedBatch, ChainError> {
        if self.leaves.is_empty() {
            return Err(ChainError::Empty);
        }
        let next_number = self.number.next().ok_or(ChainError::NumbersUsedUp)?;
        let next_key = BatchKey::generate()?;
        let count = self.leaves.len() as u32; // At most BATCH_ENTRIES_MAX.
        let first_seq = Seq(self.next_seq.0 - u64::from(count));
        let header = BatchHeader {
            version: BATCH_VERSION,
            host: self.host,
            boot: self.boot,
            epoch: self.epoch,
            number: self.number,
            first_seq,
            count,
            root: tree::root(&self.leaves),
            previous: self.previous_batch,
            next_key: next_key.public(),
            counters,
            last_receipt: echo.last_receipt,
            checkpoint: echo.checkpoint,
            opening: self.opening.clone(),
        }
        .encode()?;
        // A key that signs twice would be an equivocation, so it is gone even if signing fails.
        let key = self.key.take().ok_or(KeyError::Malformed)?;
        let signature = key.sign_last(&header)?;
        self.key = Some(next_key);
        let hash = tree::batch_hash(&header);
        let position = Position { epoch: self.epoch, number: self.number, hash };
        let mut frame = frame_head(&header, &signature);
        frame.append(&mut self.entries);
        self.leaves.clear();
        self.opening = None;
        self.number = next_number;
        self.previous_batch = hash;
        Ok(SignedBatch { position, first_seq, count, frame })
    }
}

#[cfg(test)]
impl Chain {
    /// What an intruder finds in memory.
    pub(crate) fn steal_key(self) -> BatchKey {
        self.key.expect("a chain has a key")
    }

    /// What a lying agent does.
    pub(crate) fn undo_stop(&mut self) {
        self.stopped = false;
    }
}
