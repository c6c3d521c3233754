//! The store: what was accepted, write-once, in the ledger's segment files; beside it an index that can be
//! built again from them. Never decides what is accepted, and never reads a body.
//!
//! ```text
//! <state directory>/segments/00000000000000000001.seg   evidence; read-only once sealed
//!                  /torn/…                               tails that no receipt was given for
//!                  /index.redb                           heads and places; disposable
//! ```
//!
//! Order of a commit: append to the open segment → fsync → read back and compare → index, durable → receipts.
//! Every start recovers, and recovery is the only way to open.

mod files;
mod index;
mod read;
mod recover;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use custody_ledger::segment::RecordTooLong;
use custody_ledger::{Enrolment, HostId, Position, SignedReceipt};
use tokio::sync::broadcast;

pub use index::{BatchRow, HostRow, Place};
pub use read::{Entries, StoredEntry};
pub use recover::Recovered;
pub use writer::{Job, Limits};

use files::Segments;
use index::Index;
use writer::Writer;

/// Trouble of the store. All but [`StoreError::Full`] and [`StoreError::Closed`] need a restart or a person.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The index cannot be used.
    #[error(
        "the index does not work ({0}); stop the sink and move index.redb away, it is built again from the segments"
    )]
    Index(#[from] redb::Error),
    /// Evidence that was acknowledged is not what it was.
    #[error("the store is damaged: {detail}; do not write to it, restore this file from a copy")]
    Damaged {
        /// What and where.
        detail: String,
    },
    /// What was written is not what is read back.
    #[error("the disk gave back other bytes than were written to {path} at byte {offset}; check the disk")]
    ReadBack {
        /// Which file.
        path: String,
        /// From where.
        offset: u64,
    },
    /// A record of ours cannot be written or read.
    #[error(transparent)]
    Codec(#[from] custody_ledger::codec::CodecError),
    /// A record is over the format's limit.
    #[error(transparent)]
    TooLong(#[from] RecordTooLong),
    /// Less than the reserve is free on the disk.
    #[error(
        "the disk of the state directory is full; free space or raise it, hosts keep their spools meanwhile"
    )]
    Full,
    /// The writer has ended.
    #[error("the store has stopped")]
    Closed,
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                StoreError::Index(error.into())
            }
        })+
    };
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// A batch that was just stored, for those who follow.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Whose.
    pub host: HostId,
    /// Which.
    pub batch: Position,
    /// When it came, ns since 1970.
    pub received_ns: u64,
    /// Its frame ([`custody_ledger::Batch::decode`]).
    pub frame: Vec<u8>,
}

/// The store of one sink.
pub struct Store {
    index: Arc<Index>,
    segments: Arc<Segments>,
    writer: Writer,
    stored: broadcast::Sender<Arc<StoredBatch>>,
    failed: Arc<AtomicBool>,
}

impl Store {
    /// Opens or creates the store under `directory`, recovering what the last run left.
    pub fn open(directory: &Path, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        let segments = Arc::new(Segments::open(directory)?);
        let index = Arc::new(Index::open(&directory.join("index.redb"))?);
        let recovered = recover::recover(&segments, &index)?;
        let (stored, _) = broadcast::channel(limits.subscriber_batches_max);
        let failed = Arc::new(AtomicBool::new(false));
        let writer = Writer::start(
            Arc::clone(&segments),
            Arc::clone(&index),
            recovered.next_segment,
            limits,
            stored.clone(),
            Arc::clone(&failed),
        )?;
        Ok((Store { index, segments, writer, stored, failed }, recovered))
    }

    /// Every enrolled host with its head.
    pub fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.index.hosts()
    }

    /// One host.
    pub fn host(&self, host: HostId) -> Result<Option<HostRow>, StoreError> {
        self.index.host(host)
    }

    /// Newly stored batches from now on. A slow subscriber never blocks: it receives `Lagged(n)` with the
    /// number of batches that it missed, and reads them with [`Store::entries`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredBatch>> {
        self.stored.subscribe()
    }

    /// Hands a job to the writer, which keeps the order in which jobs came. Blocks while its queue is full.
    pub fn submit(&self, job: Job) -> Result<Pending, StoreError> {
        self.writer.submit(job)
    }

    /// Enrols a host durably. Blocks.
    pub fn enrol(&self, enrolment: &Enrolment, payload: &[u8]) -> Result<(), StoreError> {
        let mut job = Job::default();
        job.enrol(enrolment.clone(), payload)?;
        self.submit(job)?.wait()
    }

    /// The receipt of a batch that is stored.
    pub fn receipt(&self, row: &BatchRow) -> Result<SignedReceipt, StoreError> {
        let record = self.segments.read(row.place)?;
        Ok(custody_ledger::codec::decode("receipt", &record.meta)?)
    }

    /// Whether the writer has failed: the process must restart through recovery.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends the writer after all that was submitted, and seals the open segment.
    pub fn close(&self) -> Result<(), StoreError> {
        self.writer.close()
    }
}

/// What waits for a commit.
pub struct Pending(std::sync::mpsc::Receiver<Result<(), StoreError>>);

impl Pending {
    /// Blocks until the job is durable.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.recv().unwrap_or(Err(StoreError::Closed))
    }
}
