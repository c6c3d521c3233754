//! What the agent's parts have in common: the spool, the newest receipt, and the figures that `status` shows.
//! Locks are held for the length of one step, never across a wait for the network.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use custody_ledger::batch::ReceiptReference;
use custody_ledger::tlog::{Awaited, CheckpointReference};
use custody_ledger::{Counters, Echo, EpochId, Position};
use tokio::sync::Notify;

use crate::clock;
use crate::config::FreeAt;
use crate::drain::Drain;
use crate::spool::Spool;

mod state;

pub use state::{Amount, AsideState, Exposure, LogState, ProbeState, SpoolState, Status, Sums, WorkerState};

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
