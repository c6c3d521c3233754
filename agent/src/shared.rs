//! What the agent's parts have in common: the spool, the newest receipt, and the figures that `status` shows.
//! Locks are held for the length of one step, never across a wait for the network.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use custody_ledger::batch::ReceiptReference;
use custody_ledger::tlog::{Awaited, CheckpointReference};
use custody_ledger::{Counters, Echo, EpochId, Position};
use serde::Serialize;
use tokio::sync::Notify;

use crate::clock;
use crate::config::FreeAt;
use crate::coverage::UnreadProgram;
use crate::drain::{Drain, Rates};
use crate::ladder::LevelState;
use crate::link::Figures;
use crate::spool::Spool;

/// Exposure times that figures are made of.
const EXPOSURES_MAX: usize = 1024;
/// Batches whose first kernel time is remembered until they are committed.
const BATCH_TIMES_MAX: usize = 65_536;

/// The parts' common ground.
pub struct Shared {
    /// Batches that wait.
    pub spool: Mutex<Spool>,
    /// A batch is durable.
    pub batch_ready: Notify,
    /// Loss counters, cumulative, by source.
    pub counters: Mutex<BTreeMap<String, Counters>>,
    /// The newest receipt.
    pub last_receipt: Mutex<Option<ReceiptReference>>,
    /// The newest checkpoint of the sink's log that was checked and is kept durably.
    pub checkpoint: Mutex<Option<CheckpointReference>>,
    /// Batches that are stored and not committed yet, oldest first.
    pub awaited: Mutex<VecDeque<Awaited>>,
    /// Batches that are committed and not witnessed yet, oldest first; always empty where the spool does not wait for
    /// witnesses. All of them stand in the spool.
    pub unwitnessed: Mutex<VecDeque<Awaited>>,
    /// Something is stored.
    pub batch_stored: Notify,
    /// Batches that were moved aside because the sink does not take them.
    pub refused: Mutex<Refused>,
    /// The figures.
    pub status: Mutex<Status>,
    times: Mutex<Times>,
    drain: Mutex<Drain>,
}

/// Batches that the chain has to name, for they do not come to the sink.
#[derive(Debug, Default)]
pub struct Refused {
    /// The next epoch names these.
    pub waiting: Vec<Position>,
    /// The current epoch names these, and the sink has not acknowledged a batch of it yet.
    pub named: Vec<Position>,
}

#[derive(Default)]
struct Times {
    /// Kernel time of the oldest entry of each batch that is not committed.
    batches: VecDeque<(Position, u64)>,
    exposures: VecDeque<u64>,
}

/// What `custody-agent status` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Probes are attached, a canary was seen, the sink committed a batch.
    pub ready: bool,
    /// Whether the TLS libraries that were there at the start have been looked at.
    pub libraries_probed: bool,
    /// The canary exchange came out of the decoders.
    pub canary_seen: bool,
    /// Host id at the sink.
    pub host: String,
    /// Counter of this start.
    pub epoch: u64,
    /// The probes by name, with what became of each.
    pub probes: Vec<ProbeState>,
    /// TLS handshakes of processes that map no library that is read: their plaintext is not captured.
    pub tls_uncovered: u64,
    /// Programs whose TLS was not read, those with most bytes first.
    pub tls_unread: Vec<UnreadProgram>,
    /// How much is recorded.
    pub level: LevelState,
    /// The worker.
    pub worker: WorkerState,
    /// Sums since this start.
    pub counters: Sums,
    /// The spool.
    pub spool: SpoolState,
    /// The newest batch of this host: epoch/number.
    pub head: String,
    /// The newest batch that the sink has stored.
    pub stored: String,
    /// The newest batch that is committed: it is in the sink's log, and this host has seen the proof.
    pub acknowledged: String,
    /// When that was, wall clock ns.
    pub acknowledged_wall_ns: u64,
    /// The newest batch that is witnessed, where the spool waits for that.
    pub witnessed: String,
    /// The sink's log.
    pub log: LogState,
    /// Why the last attempt to reach the sink failed; empty when it did not.
    pub sink_error: String,
    /// What the sink does not take.
    pub aside: AsideState,
    /// From kernel time to commitment.
    pub exposure: Exposure,
    /// What happened to the configuration last.
    pub configuration: String,
}

/// One probe.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProbeState {
    /// Its name.
    pub name: String,
    /// `attached`, or why not.
    pub state: String,
}

/// The worker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WorkerState {
    /// Its process id, 0 while there is none.
    pub pid: u32,
    /// How often it was replaced.
    pub restarts: u64,
    /// Sessions that it holds.
    pub sessions: u64,
    /// Bytes of payload that it holds.
    pub held_bytes: u64,
    /// Its own sums.
    pub figures: Figures,
    /// Plaintext that the workers before it left out, bytes.
    pub left_out_before: u64,
    /// Records that the level left out of what the workers before it had.
    pub records_left_out_before: u64,
}

impl WorkerState {
    /// Plaintext that all workers left out, because rules by address need a connection and it has none; bytes.
    pub fn left_out_bytes(&self) -> u64 {
        self.left_out_before.saturating_add(self.figures.tls_left_out_bytes)
    }

    /// Records that the level left out, since the agent's start.
    pub fn records_left_out(&self) -> u64 {
        self.records_left_out_before.saturating_add(self.figures.records_left_out)
    }

    /// The worker is gone; what it left out stays counted.
    pub fn ended(&mut self) {
        *self = WorkerState {
            restarts: self.restarts,
            left_out_before: self.left_out_bytes(),
            records_left_out_before: self.records_left_out(),
            ..WorkerState::default()
        };
    }
}

/// Events and bytes since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    /// Offered by the kernel side.
    pub produced: Amount,
    /// Read by the worker.
    pub delivered: Amount,
    /// Gone.
    pub lost: Amount,
    /// Left out by rules, ours included.
    pub skipped: Amount,
    /// Records that the worker handed over.
    pub records: u64,
    /// Records that found no room in the spool.
    pub records_dropped: u64,
    /// Records too long for an entry.
    pub records_too_long: u64,
    /// Entries in the chain.
    pub entries: u64,
    /// Batches in the chain.
    pub batches: u64,
}

/// Events and their bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Amount {
    /// How many.
    pub events: u64,
    /// Of payload.
    pub bytes: u64,
}

/// The spool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SpoolState {
    /// On disk.
    pub bytes: u64,
    /// At most.
    pub bytes_max: u64,
    /// What ordinary records may have of it: less the reserve, or what the disk has left.
    pub limit: u64,
    /// Batches that wait.
    pub batches: usize,
    /// Bytes of them.
    pub waiting_bytes: u64,
    /// How they become less.
    pub drain: Rates,
    /// The file system has no room: control records go to what was reserved.
    pub disk_full: bool,
    /// What is left of the reserve, bytes.
    pub reserve_bytes: u64,
    /// What frees a batch.
    pub free_at: FreeAt,
    /// Batches that are committed and wait for witnesses.
    pub unwitnessed: usize,
}

/// Batches that the sink does not take: they are kept on this host.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AsideState {
    /// How many, of earlier starts too.
    pub batches: u64,
    /// Why, the last time that it happened in this start.
    pub reason: String,
}

/// The sink's log as this host watches it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogState {
    /// Its name.
    pub origin: String,
    /// Leaves under the newest checkpoint that was checked.
    pub size: u64,
    /// What does not hold of what the sink shows; empty when all does. Meanwhile nothing leaves the spool.
    pub alarm: String,
    /// Why what the sink calls witnessed is not, by this host's policy; empty when it is.
    pub not_witnessed: String,
}

/// From kernel time to commitment, ms, over the last 1,024 batches.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exposure {
    /// Half of them were faster.
    pub p50_ms: u64,
    /// 99 of 100 were faster.
    pub p99_ms: u64,
    /// The slowest.
    pub max_ms: u64,
}

/// A lock whose holder panicked is used on: every step leaves its data whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Around a spool that was just opened.
    pub fn new(spool: Spool) -> Self {
        Shared {
            spool: Mutex::new(spool),
            batch_ready: Notify::new(),
            counters: Mutex::default(),
            last_receipt: Mutex::default(),
            checkpoint: Mutex::default(),
            awaited: Mutex::default(),
            unwitnessed: Mutex::default(),
            batch_stored: Notify::new(),
            refused: Mutex::default(),
            status: Mutex::default(),
            times: Mutex::default(),
            drain: Mutex::default(),
        }
    }

    /// The figures, to be changed.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    /// The figures as they are now.
    pub fn snapshot(&self) -> Status {
        let spool = self.spool_state();
        let mut status = self.status().clone();
        let SpoolState { bytes_max, free_at, .. } = status.spool;
        status.spool = SpoolState { bytes_max, free_at, ..spool };
        status.exposure = lock(&self.times).exposure();
        status
    }

    fn spool_state(&self) -> SpoolState {
        let spool = lock(&self.spool);
        let (disk_full, reserve_bytes) = spool.disk();
        let waiting_bytes = spool.waiting_bytes();
        SpoolState {
            bytes: spool.bytes(),
            bytes_max: 0,
            limit: spool.fill().limit,
            batches: spool.waiting(),
            waiting_bytes,
            drain: lock(&self.drain).rates(waiting_bytes),
            disk_full,
            reserve_bytes,
            free_at: FreeAt::default(),
            unwitnessed: lock(&self.unwitnessed).len(),
        }
    }

    /// Once a second or more often, for the rates.
    pub fn sample_spool(&self) {
        let flow = lock(&self.spool).flow();
        lock(&self.drain).sample(clock::boottime_ns(), flow);
    }

    /// A batch was closed whose oldest entry has this kernel time.
    pub fn batch_closed(&self, position: Position, oldest_ns: u64) {
        let mut times = lock(&self.times);
        if times.batches.len() < BATCH_TIMES_MAX {
            times.batches.push_back((position, oldest_ns));
        }
        let mut status = self.status();
        status.counters.batches += 1;
        status.head = name(&position);
    }

    /// Takes all durable batches of this epoch out of the way: none of them has a way to the sink. Each stays on
    /// disk and waits to be named. Returns how many.
    pub fn put_aside(&self, epoch: EpochId) -> Result<u64> {
        let mut count = 0;
        loop {
            let aside = {
                let mut spool = lock(&self.spool);
                match spool.next_unsent() {
                    Some(position) if position.epoch == epoch => spool.put_aside()?,
                    _ => None,
                }
            };
            let Some(aside) = aside else { break };
            lock(&self.refused).waiting.push(aside);
            count += 1;
        }
        self.status().aside.batches += count;
        Ok(count)
    }

    /// What the next batch says of the sink.
    pub fn echo(&self) -> Echo {
        Echo { last_receipt: *lock(&self.last_receipt), checkpoint: lock(&self.checkpoint).clone() }
    }

    /// A checkpoint was checked and is kept.
    pub fn checkpoint_kept(&self, checkpoint: &CheckpointReference) {
        *lock(&self.checkpoint) = Some(checkpoint.clone());
        let mut status = self.status();
        status.log.origin.clone_from(&checkpoint.origin);
        status.log.size = checkpoint.size;
    }

    /// The sink has stored everything up to the last of these.
    pub fn batches_stored(&self, stored: Vec<Awaited>) {
        let Some(last) = stored.last() else { return };
        let mut status = self.status();
        status.stored = name(&last.batch);
        status.sink_error.clear();
        drop(status);
        lock(&self.awaited).extend(stored);
        self.batch_stored.notify_one();
    }

    /// The sink has committed everything up to this batch.
    pub fn batch_acknowledged(&self, position: &Position) {
        let now = clock::boottime_ns();
        if position.epoch.counter == self.status().epoch {
            let named = std::mem::take(&mut lock(&self.refused).named);
            // What keeps its old name, or has no file of its own, is at worst named again.
            let _ = lock(&self.spool).named(&named);
        }
        let mut times = lock(&self.times);
        let Some(index) = times.batches.iter().position(|(other, _)| other == position) else { return };
        for (_, oldest) in times.batches.drain(..=index).collect::<Vec<_>>() {
            times.exposures.push_back(now.saturating_sub(oldest));
        }
        while times.exposures.len() > EXPOSURES_MAX {
            times.exposures.pop_front();
        }
        let mut status = self.status();
        status.acknowledged = name(position);
        status.acknowledged_wall_ns = clock::wall_ns();
        status.sink_error.clear();
    }
}

impl Times {
    fn exposure(&self) -> Exposure {
        let mut sorted: Vec<u64> = self.exposures.iter().map(|ns| ns / 1_000_000).collect();
        sorted.sort_unstable();
        let at = |hundredths: usize| sorted.get(sorted.len().saturating_sub(1) * hundredths / 100).copied();
        Exposure { p50_ms: at(50).unwrap_or(0), p99_ms: at(99).unwrap_or(0), max_ms: at(100).unwrap_or(0) }
    }
}

/// `epoch/number`, as people read it.
pub fn name(position: &Position) -> String {
    format!("{}/{}", position.epoch.counter, position.number)
}

#[cfg(test)]
mod tests;
