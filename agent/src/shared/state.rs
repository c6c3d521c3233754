//! The figures that `custody-agent status` shows, as they travel. Must not know who writes them.

use serde::Serialize;

use crate::config::FreeAt;
use crate::coverage::UnreadProgram;
use crate::drain::Rates;
use crate::ladder::LevelState;
use crate::link::Figures;

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
