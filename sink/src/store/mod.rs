//! The store: what was accepted, write-once, in the ledger's segment files; beside it an index that can be
//! built again from them. Never decides what is accepted, or what expires, and never reads a body.
//!
//! ```text
//! <state directory>/segments/00000000000000000001.seg   evidence; read-only once sealed, replaced when bodies expire
//!                  /torn/…                               tails that no receipt was given for
//!                  /index.redb                           heads and places; disposable
//! ```
//!
//! Order of a commit: append to the open segment → fsync → read back and compare → index, durable → receipts.
//! Every start recovers, and recovery is the only way to open.

mod expire;
mod files;
mod index;
mod progress;
mod pulse;
mod read;
mod recover;
mod walk;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::RecordTooLong;
use custody_ledger::{Enrolment, HostId, Position, SignedReceipt, SinkKey, Statement};
use tokio::sync::broadcast;

pub use expire::Survey;
pub use index::{BatchRow, ExpiryRow, HostRow, Noted, Place};
pub use pulse::Pulse;
pub use read::{Entries, StoredEntry};
pub use recover::Recovered;
pub use walk::Walk;
pub use writer::{Job, Limits};

use files::Segments;
use index::Index;
use writer::Writer;

/// Trouble of the store. All but [`StoreError::Full`], [`StoreError::Hangs`] and [`StoreError::Closed`] need a restart or a person.
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
    /// A commit does not end.
    #[error("the disk of the state directory does not answer; hosts keep their spools meanwhile")]
    Hangs,
    /// The writer has ended.
    #[error("the store has stopped")]
    Closed,
}

crate::databases::from_redb!(StoreError::Index);

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
    /// Its bodies have expired.
    pub expired: bool,
}

/// The store of one sink.
pub struct Store {
    index: Arc<Index>,
    segments: Arc<Segments>,
    writer: Writer,
    stored: broadcast::Sender<Arc<StoredBatch>>,
    failed: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    commit_max: std::time::Duration,
    /// The newest segment whose bodies have expired; held while a segment is replaced and the places in it move.
    moving: Mutex<u64>,
}

impl Store {
    /// Opens or creates the store under `directory`, recovering what the last run left.
    pub fn open(directory: &Path, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        let segments = Arc::new(Segments::open(directory)?);
        let index = Arc::new(Index::open(&directory.join("index.redb"))?);
        let recovered = recover::recover(&segments, &index)?;
        expire::settle(&segments, &index)?;
        let (stored, _) = broadcast::channel(limits.subscriber_batches_max);
        let failed = Arc::new(AtomicBool::new(false));
        let pulse = Arc::new(Pulse::default());
        let writer = Writer::start(
            Arc::clone(&segments),
            Arc::clone(&index),
            recovered.next_segment,
            limits,
            stored.clone(),
            Arc::clone(&failed),
            Arc::clone(&pulse),
        )?;
        let commit_max = limits.commit_max;
        let expired = index.expiries()?.into_iter().filter(|(_, row)| row.done);
        let moving = Mutex::new(expired.map(|(number, _)| number).max().unwrap_or(0));
        Ok((Store { index, segments, writer, stored, failed, pulse, commit_max, moving }, recovered))
    }

    /// Every enrolled host with its head.
    pub fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.index.hosts()
    }

    /// One host.
    pub fn host(&self, host: HostId) -> Result<Option<HostRow>, StoreError> {
        self.index.host(host)
    }

    /// Whose revocation is stated, and up to when their certificates are believed no more, seconds since 1970.
    pub fn revoked(&self) -> Result<std::collections::BTreeMap<String, u64>, StoreError> {
        self.index.revoked()
    }

    /// Newly stored batches from now on. A slow subscriber never blocks: it receives `Lagged(n)` with the
    /// number of batches that it missed, and reads them with [`Store::entries`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredBatch>> {
        self.stored.subscribe()
    }

    /// Whether the store would take something new: its disk has room and answers.
    pub fn check_ready(&self) -> Result<(), StoreError> {
        match () {
            () if self.has_failed() => Err(StoreError::Closed),
            () if self.hangs() => Err(StoreError::Hangs),
            () if !self.has_room() => Err(StoreError::Full),
            () => Ok(()),
        }
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

    /// Signs statements and stores them durably. Blocks.
    pub fn state(&self, key: &SinkKey, statements: &[Statement]) -> Result<(), StoreError> {
        let mut job = Job::default();
        statements.iter().try_for_each(|statement| job.statement(key, statement))?;
        self.submit(job)?.wait()
    }

    /// The receipt of a batch that is stored.
    pub fn receipt(&self, host: HostId, row: &BatchRow) -> Result<SignedReceipt, StoreError> {
        Ok(BatchMeta::of(&self.record(host, row)?)?.receipt())
    }

    /// Whether the writer has failed: the process must restart through recovery.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether one commit takes so long that the disk must be taken for hung: nothing new is accepted until it
    /// ends, and systemd's watchdog is not fed.
    pub fn hangs(&self) -> bool {
        self.pulse.busy_for().is_some_and(|busy| busy > self.commit_max)
    }

    /// A commit that takes longer hangs.
    pub const fn commit_max(&self) -> std::time::Duration {
        self.commit_max
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        group_commit: Duration::ZERO,
        group_bytes_max: 1,
        segment_bytes_max: 1 << 20,
        segment_age_max: None,
        queue_jobs_max: 4,
        subscriber_batches_max: 4,
        disk_reserve_bytes: 0,
        commit_max: Duration::from_millis(20),
    };

    fn enrolment() -> Enrolment {
        Enrolment {
            host: HostId::from_bytes([7; 16]),
            key: custody_ledger::HostKey::generate().unwrap().0.public(),
            name: "web-1".to_owned(),
            labels: std::collections::BTreeMap::new(),
            enrolled_ns: 1,
        }
    }

    #[test]
    fn a_commit_that_does_not_end_is_seen_by_those_who_do_not_wait_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), LIMITS).unwrap();
        assert!(store.check_ready().is_ok());
        // The index lets one write at a time: the writer waits for this one, as it would for a dead disk.
        let held = store.index.hold();
        let mut job = Job::default();
        job.enrol(enrolment(), b"signed").unwrap();
        let pending = store.submit(job).unwrap();
        while !store.hangs() {
            std::thread::yield_now();
        }
        assert!(matches!(store.check_ready(), Err(StoreError::Hangs)));
        assert!(!store.has_failed(), "it may still come back");
        assert!(store.hosts().unwrap().is_empty(), "who reads is not held up");
        drop(held);
        pending.wait().unwrap();
        assert!(store.check_ready().is_ok());
        assert_eq!(store.hosts().unwrap().len(), 1);
        store.close().unwrap();
    }
}
