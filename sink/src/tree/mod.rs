//! The transparency log over the store: every record is a leaf, in the order of the segments
//! ([`custody_ledger::tlog`]). Builds on what is durable there and never changes it; decides nothing about batches.
//!
//! ```text
//! <state directory>/log/checkpoint, log/tile/…   a C2SP log as any file server can serve it; nothing secret
//!                  /log/key.pub                  the log's key, certified by the receipt key
//!                  /log/checkpoint.witnessed     the newest one that witnesses cosigned, if any are named
//!                  /log.key                      signs checkpoints and nothing else
//!                  /tree.redb                    the newest checkpoint, its staged tiles, where batches stand
//! ```
//!
//! Order: records durable in the store → leaves → tiles staged, and the checkpoint swapped against the one before, in
//! one durable transaction → tiles written from the stage, once and for ever → read back → checkpoint published →
//! whoever waits is told. After the swap all is only done again, never undone. A start does the same from the stage on,
//! and a store without a log gets one from its segments in the same rounds.

mod database;
mod files;
mod key;
mod sequencer;
mod witnessed;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};
use custody_ledger::tlog::proof;
use custody_ledger::tlog::tile::TileError;
use custody_ledger::tlog::{Checkpoint, CheckpointReference, Tile, TileNodes, Witnesses};
use custody_ledger::verify::{LogDifference, judge_checkpoint};
use custody_ledger::wire::{
    COMMITTED_BATCHES_MAX, CommittedBatch, CommittedQuery, CommittedResponse, WitnessedResponse,
};
use custody_ledger::{BatchNumber, Hash, HostId, Position, ReceiptLevel, SinkKey};
use tokio::sync::watch;

use crate::store::{Place, Pulse, Store, StoreError};

use database::Database;
use files::Files;
use sequencer::Sequencer;
pub use witnessed::{CosignatureError, Figures, Witnessing};

/// How long the log's thread waits at once for more in the store, so that it also hears that it shall stop.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Trouble of the log. All of it needs a restart or a person.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
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
    /// The database cannot be used.
    #[error(
        "the log's database does not work ({0}); stop the sink and move tree.redb away, it is built again from the segments"
    )]
    Database(#[from] redb::Error),
    /// What was published is not what it was, or does not fit to the segments.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// Somebody else moved the checkpoint on.
    #[error("another process writes this log; stop one of them")]
    Swapped,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of ours cannot be written or read.
    #[error(transparent)]
    Codec(#[from] custody_ledger::codec::CodecError),
    /// The log's key.
    #[error(transparent)]
    Key(#[from] custody_ledger::keys::KeyError),
    /// The configuration names a key of this sink.
    #[error("the configuration names this sink's own key as a witness: nobody is a witness of itself")]
    OwnWitness,
}

impl From<TileError<TreeError>> for TreeError {
    fn from(error: TileError<TreeError>) -> Self {
        match error {
            TileError::Read(error) => error,
            other => TreeError::Damaged(other.to_string()),
        }
    }
}

/// The newest published checkpoint.
#[derive(Clone, Debug)]
pub struct Published {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// As it is signed.
    pub note: String,
}

/// The log of one sink.
pub struct Tree {
    store: Arc<Store>,
    database: Arc<Database>,
    files: Arc<Files>,
    key: CertifiedLogKey,
    published: watch::Receiver<Arc<Published>>,
    covered: watch::Receiver<Place>,
    witnessing: Witnessing,
    failed: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<Result<(), TreeError>>>>,
}

impl Tree {
    /// Opens the log beside its store, brings it up to what is there, and goes on behind the store, with one checkpoint
    /// each `interval` at most. Cosignatures of `witnesses` are collected, if any must sign.
    pub fn open(
        directory: &Path,
        store: Arc<Store>,
        sink: &SinkKey,
        interval: Duration,
        witnesses: Witnesses,
    ) -> Result<Self, TreeError> {
        let files = Arc::new(Files::open(directory)?);
        let key = key::open(directory, &files)?;
        let certified = CertifiedLogKey::certify(sink, key.public());
        if witnesses.keys().any(|witness| [key.public(), sink.public()].contains(&witness.key())) {
            return Err(TreeError::OwnWitness);
        }
        files.replace("key.pub", &key::public_file(&certified))?;
        let database = Arc::new(Database::open(&directory.join("tree.redb"))?);
        let mut sequencer =
            Sequencer::open(Arc::clone(&store), Arc::clone(&database), Arc::clone(&files), key)?;
        sequencer.catch_up()?;
        let (sender, published) = watch::channel(Arc::new(sequencer.published()));
        let (covers, covered) = watch::channel(sequencer.covered());
        let size = published.borrow().checkpoint.size;
        let nodes = TileNodes::new(size, |tile| files.tile(tile));
        let root = |at| (at <= size).then(|| proof::root(&nodes, at)).transpose();
        let witnessing = Witnessing::open(
            Files::with_draft(directory, "witnessed.tmp")?,
            &log_key(certified.key),
            witnesses,
            published.clone(),
            |at| Ok(root(at)?),
        )?;
        let (failed, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let pulse = Arc::new(Pulse::default());
        let follow = Follow {
            sequencer,
            store: Arc::clone(&store),
            published: sender,
            covered: covers,
            interval,
            stop: Arc::clone(&stop),
            pulse: Arc::clone(&pulse),
        };
        let has_failed = Arc::clone(&failed);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let result = follow.run();
            has_failed.store(result.is_err(), Ordering::Release);
            result
        });
        let thread = thread.map_err(files::failed("start", Path::new("the log's thread")))?;
        let thread = Mutex::new(Some(thread));
        Ok(Tree {
            store,
            database,
            files,
            key: certified,
            published,
            covered,
            witnessing,
            failed,
            pulse,
            stop,
            thread,
        })
    }

    /// The newest checkpoint, and the next ones.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// Up to where the store's records are under the newest checkpoint.
    pub fn covered(&self) -> Place {
        *self.covered.borrow()
    }

    /// What witnesses say of it.
    pub fn witnessing(&self) -> &Witnessing {
        &self.witnessing
    }

    /// The key that signs its checkpoints, certified by the receipt key.
    pub fn key(&self) -> &CertifiedLogKey {
        &self.key
    }

    /// Proves that the record at this place is in the tree of that checkpoint. `None` when it is not. Blocks.
    pub fn inclusion(&self, index: u64, published: &Published) -> Result<Option<Vec<Hash>>, TreeError> {
        let size = published.checkpoint.size;
        Ok(proof::inclusion(&self.nodes(size), index, size)?)
    }

    /// Where a batch stands in the log, if it does.
    pub fn index_of(&self, host: HostId, batch: &Position) -> Result<Option<u64>, TreeError> {
        self.database.leaf(host, batch.epoch.counter, batch.number.0)
    }

    /// How far a stored batch is safe by now: its leaf is under the newest published checkpoint, or under the newest one
    /// that the witnesses cosigned. Asks by leaf, because places move when bodies expire.
    pub fn level_of(
        &self,
        host: HostId,
        counter: u64,
        number: BatchNumber,
    ) -> Result<ReceiptLevel, TreeError> {
        let Some(index) = self.database.leaf(host, counter, number.0)? else {
            return Ok(ReceiptLevel::Stored);
        };
        let witnessed = self.witnessing.newest();
        Ok(if witnessed.is_some_and(|witnessed| index < witnessed.checkpoint.size) {
            ReceiptLevel::Witnessed
        } else if index < self.published.borrow().checkpoint.size {
            ReceiptLevel::Committed
        } else {
            ReceiptLevel::Stored
        })
    }

    /// Whether the log's thread has failed: the process must restart through recovery.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// How long the present round takes already.
    pub fn busy_for(&self) -> Option<Duration> {
        self.pulse.busy_for()
    }

    /// The bytes of a published tile; `None` when there is none of that name.
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, TreeError> {
        self.files.read(&tile.path())
    }

    /// The log's key as it is published.
    pub fn key_file(&self) -> Vec<u8> {
        key::public_file(&self.key)
    }

    /// A host's batches under this checkpoint, from that number of that epoch on. Blocks.
    pub fn batches(
        &self,
        host: HostId,
        (epoch, number): (u64, u64),
        published: &Published,
    ) -> Result<Vec<CommittedBatch>, TreeError> {
        let size = published.checkpoint.size;
        let nodes = self.nodes(size);
        let mut batches = Vec::new();
        for row in self.store.batches_from(host, epoch, number, COMMITTED_BATCHES_MAX)? {
            let leaf = self.database.leaf(host, row.batch.epoch.counter, row.batch.number.0)?;
            let Some(index) = leaf.filter(|index| *index < size) else { break };
            let Some(proof) = proof::inclusion(&nodes, index, size)? else { break };
            batches.push(CommittedBatch { batch: row.batch, index, proof });
        }
        Ok(batches)
    }

    /// What is committed of a host's batches under this checkpoint, and under that one witnessed, if it asks. Blocks.
    pub fn committed(
        &self,
        host: HostId,
        query: &CommittedQuery,
        published: &Published,
        witnessed: Option<&Published>,
    ) -> Result<CommittedResponse, TreeError> {
        let size = published.checkpoint.size;
        let nodes = self.nodes(size);
        let consistency = proof::consistency(&nodes, query.size, size)?.unwrap_or_default();
        let mut answer = CommittedResponse {
            log: self.key,
            checkpoint: published.note.clone(),
            consistency,
            batches: self.batches(host, (query.epoch, query.number), published)?,
            witnessed: None,
        };
        if let (Some(epoch), Some(number), Some(witnessed)) =
            (query.witnessed_epoch, query.witnessed_number, witnessed)
            // A moment ago it may have been published to witnesses and not to those who wait.
            && let Some(consistency) = proof::consistency(&nodes, witnessed.checkpoint.size, size)?
        {
            let batches = self.batches(host, (epoch, number), witnessed)?;
            let checkpoint = witnessed.note.clone();
            answer.witnessed =
                (!batches.is_empty()).then_some(WitnessedResponse { checkpoint, consistency, batches });
        }
        Ok(answer)
    }

    /// How this log differs from a checkpoint that a host holds of it. Blocks.
    pub fn judge(&self, held: &CheckpointReference) -> Result<Option<LogDifference>, TreeError> {
        let published = Arc::clone(&self.published.borrow());
        let mut size = published.checkpoint.size;
        if held.size > size {
            // Who reads the folder may know a checkpoint that was written a moment ago.
            size = self.files.checkpoint(&log_key(self.key.key))?.map_or(size, |shown| shown.size);
        }
        let root = match held.size {
            wanted if wanted > size => None,
            wanted => Some(proof::root(&self.nodes(size), wanted)?),
        };
        Ok(judge_checkpoint(held, &published.checkpoint.origin, |_| root))
    }

    fn nodes(&self, size: u64) -> TileNodes<impl Fn(Tile) -> Result<Vec<u8>, TreeError> + '_> {
        TileNodes::new(size, |tile| self.files.tile(tile))
    }

    /// Ends the thread after a last checkpoint over all that the store has. The store is closed before.
    pub fn close(&self) -> Result<(), TreeError> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let panicked = || Err(TreeError::Damaged("its thread panicked".to_owned()));
        thread.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| panicked()))
    }
}

/// The log's thread.
struct Follow {
    sequencer: Sequencer,
    store: Arc<Store>,
    published: watch::Sender<Arc<Published>>,
    covered: watch::Sender<Place>,
    interval: Duration,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl Follow {
    fn run(mut self) -> Result<(), TreeError> {
        let mut next = Instant::now();
        loop {
            // Looked at first: what was stored before it was told to stop is still taken.
            let stopping = self.stop.load(Ordering::Acquire);
            let due = stopping || Instant::now() >= next;
            if !due {
                std::thread::sleep(WAIT_MAX.min(next.saturating_duration_since(Instant::now())));
                continue;
            }
            if !self.store.wait_beyond(self.sequencer.covered(), WAIT_MAX) {
                if stopping {
                    return Ok(());
                }
                continue;
            }
            next = Instant::now() + self.interval;
            self.pulse.begin();
            let result = self.sequencer.catch_up();
            self.pulse.end();
            result?;
            // Nobody waits is no error.
            let _ = self.published.send_replace(Arc::new(self.sequencer.published()));
            let _ = self.covered.send_replace(self.sequencer.covered());
        }
    }
}

#[cfg(test)]
mod tests;
