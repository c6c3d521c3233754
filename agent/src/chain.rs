//! Masked bodies → entries → signed batches → spool. One thread owns the chain, so order is the order of
//! arrival. Must not look into a body: what is hashed is what the worker made.
//!
//! A batch is closed at its size or after [`BATCH_WAIT`]; several are made durable by one sync. Heartbeats cover
//! idle time. Chain keys live in this thread's memory alone and are wiped by the ledger as it goes.

mod level;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use custody_decoders::item::Field;
use custody_decoders::mask::link::Body;
use custody_decoders::mask::{Draft as MaskDraft, Masked, Masker};
use custody_ledger::entry::BODY_BYTES_MAX;
use custody_ledger::{
    BootId, Chain, Draft, EntryType, EpochId, HandOver, HostId, HostKey, Position, Resume, Seq,
};
use custody_record::{Kind, Times, names};

use crate::clock;
use crate::files;
use crate::shared::{Shared, lock};

/// Longest time that an entry waits for its batch.
const BATCH_WAIT: Duration = Duration::from_millis(200);
/// Longest time that a closed batch waits for its sync while more is coming.
const SYNC_WAIT: Duration = Duration::from_millis(50);
/// Time between heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Rough cost of an entry beside its body, bytes.
const ENTRY_OVERHEAD: u64 = 512;
/// Starts that a host may have forgotten, at most.
const EPOCHS_AHEAD_MAX: u64 = 1 << 20;
/// Refused batches that one RESUME names.
const REFUSED_MAX: usize = custody_ledger::batch::QUARANTINED_MAX;

/// What the recorder takes.
pub enum Input {
    /// A masked record of the worker.
    Record(Masked<Body>),
    /// The agent's own fact.
    Fact(EntryType, Vec<Field>),
    /// Something is missing: why, and how many events where that is known.
    Gap(&'static str, Option<u64>),
    /// A new worker begins: sessions of the one before are over.
    NewWorker,
    /// The sink refused a batch of this epoch for good: a new one begins, which names it, unless it has begun
    /// already. Its counter is above the sink's, the second, if that is not absurd. Answers when it has begun.
    NewEpoch(EpochId, u64, SyncSender<()>),
    /// Ends the epoch in order; answers when everything is durable.
    Stop(SyncSender<()>),
}

/// Who signs, and where the epoch counter lies.
pub struct Signer {
    /// Host.
    pub host: HostId,
    /// Certifies epochs.
    pub key: HostKey,
    /// From the enrolled key to that one.
    pub line: Vec<HandOver>,
    /// This boot.
    pub boot: BootId,
    /// Where the epoch counter lies.
    pub state_directory: PathBuf,
}

/// The chain's thread.
pub struct Recorder {
    signer: Signer,
    shared: Arc<Shared>,
    masker: Masker,
    chain: Chain,
    /// The worker's session numbers → the entries that opened them.
    sessions: HashMap<u64, Seq>,
    oldest_pending_ns: u64,
    batch_deadline: Option<Instant>,
    unsynced_since: Option<Instant>,
    next_heartbeat: Instant,
    dropped: u64,
    disk_looked: Option<Instant>,
    last_local: Option<Position>,
}

impl Recorder {
    /// Opens the epoch of this start. `last_local` is the newest batch that the spool ever held.
    pub fn open(signer: Signer, shared: Arc<Shared>, last_local: Option<Position>) -> Result<Self> {
        let chain = open_epoch(&signer, &shared, last_local, 0)?;
        Ok(Recorder {
            signer,
            shared,
            masker: Masker::default(),
            chain,
            sessions: HashMap::new(),
            oldest_pending_ns: 0,
            batch_deadline: None,
            unsynced_since: None,
            next_heartbeat: Instant::now() + HEARTBEAT,
            dropped: 0,
            disk_looked: None,
            last_local,
        })
    }

    /// Takes inputs until it is stopped or all senders are gone. An error means: restart through recovery.
    pub fn run(mut self, inputs: &Receiver<Input>) -> Result<()> {
        loop {
            let next = match self.unsynced_since {
                Some(_) => inputs.try_recv().map_err(|_| RecvTimeoutError::Timeout),
                None => inputs.recv_timeout(self.until_due()),
            };
            match next {
                Ok(Input::Stop(done)) => {
                    self.stop()?;
                    // Who asked may be gone: then nobody needs to know.
                    let _ = done.send(());
                    return Ok(());
                }
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => {
                    self.sync()?;
                    self.look_at_spool()?;
                }
                Err(RecvTimeoutError::Disconnected) => return self.stop(),
            }
            self.work_due()?;
        }
    }

    fn until_due(&self) -> Duration {
        let due = self.batch_deadline.map_or(self.next_heartbeat, |batch| batch.min(self.next_heartbeat));
        due.saturating_duration_since(Instant::now())
    }

    fn work_due(&mut self) -> Result<()> {
        let now = Instant::now();
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT;
            // Where nothing else is recorded any more, what is missing is.
            self.tell_dropped()?;
            let restarts = self.shared.status().worker.restarts;
            self.fact(EntryType::Heartbeat, vec![Field::structure(names::AGENT_WORKER_RESTARTS, restarts)])?;
        }
        if self.batch_deadline.is_some_and(|deadline| now >= deadline) {
            self.close_batch()?;
        }
        if self.unsynced_since.is_some_and(|since| now.duration_since(since) >= SYNC_WAIT) {
            self.sync()?;
            self.look_at_spool()?;
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Record(body) => self.record(body.get()),
            Input::Fact(entry_type, fields) => self.fact(entry_type, fields),
            Input::Gap(cause, events) => self.gap(cause, events),
            Input::NewWorker => {
                self.sessions.clear();
                Ok(())
            }
            Input::NewEpoch(refused, above, begun) => {
                if refused == self.chain.epoch() {
                    self.new_epoch(above)?;
                }
                // Who asked may be gone: then nobody needs to know.
                let _ = begun.send(());
                Ok(())
            }
            Input::Stop(_) => Ok(()),
        }
    }

    fn record(&mut self, body: &Body) -> Result<()> {
        let control = body.kind == Kind::Gap;
        let bytes = body.bytes.len() as u64 + ENTRY_OVERHEAD;
        let waiting = self.chain.pending().bytes as u64;
        if !lock(&self.shared.spool).has_room(waiting + bytes, control) {
            self.dropped += 1;
            self.shared.status().counters.records_dropped += 1;
            return Ok(());
        }
        self.tell_dropped()?;
        if body.bytes.len() > BODY_BYTES_MAX {
            self.shared.status().counters.records_too_long += 1;
            return self.gap("record_too_long", Some(1));
        }
        let session = body.session.and_then(|number| self.sessions.get(&number).copied());
        let seq = self.append(entry_type(body.kind), body.times, session, &body.bytes)?;
        match (body.kind, body.session) {
            (Kind::SessionOpen, Some(number)) => {
                self.sessions.insert(number, seq);
            }
            (Kind::SessionClose, Some(number)) => {
                self.sessions.remove(&number);
            }
            _ => {}
        }
        Ok(())
    }

    fn tell_dropped(&mut self) -> Result<()> {
        match std::mem::take(&mut self.dropped) {
            0 => Ok(()),
            dropped => self.gap("spool_full", Some(dropped)),
        }
    }

    fn gap(&mut self, cause: &'static str, events: Option<u64>) -> Result<()> {
        let mut fields = vec![Field::structure(names::GAP_CAUSE, cause)];
        fields.extend(events.map(|events| Field::structure(names::GAP_EVENTS, events)));
        self.own(EntryType::Gap, Kind::Gap, fields)
    }

    fn fact(&mut self, entry_type: EntryType, fields: Vec<Field>) -> Result<()> {
        self.own(entry_type, Kind::Agent, fields)
    }

    /// The agent's own facts go through the same masks as everything else.
    fn own(&mut self, entry_type: EntryType, kind: Kind, fields: Vec<Field>) -> Result<()> {
        let now = clock::boottime_ns();
        let times = Times { first_ns: now, last_ns: now };
        let draft = MaskDraft {
            kind,
            session: None,
            exchange: None,
            times,
            fields,
            rows: None,
            anomalies: Vec::new(),
        };
        let record = self.masker.mask(draft);
        let body = rmp_serde::to_vec_named(record.get())?;
        self.append(entry_type, times, None, &body)?;
        Ok(())
    }

    fn append(
        &mut self,
        entry_type: EntryType,
        times: Times,
        session: Option<Seq>,
        body: &[u8],
    ) -> Result<Seq> {
        let pending = self.chain.pending();
        if pending.bytes + body.len() > custody_ledger::chain::PENDING_BYTES_MAX {
            self.close_batch()?;
        }
        let seq = self.chain.append(&Draft {
            entry_type,
            first_ns: times.first_ns,
            last_ns: times.last_ns,
            wall_ns: clock::wall_at(times.last_ns),
            session,
            body,
            sealed: None,
        })?;
        self.shared.status().counters.entries += 1;
        if self.batch_deadline.is_none() {
            self.batch_deadline = Some(Instant::now() + BATCH_WAIT);
            self.oldest_pending_ns = times.last_ns;
        }
        self.oldest_pending_ns = self.oldest_pending_ns.min(times.last_ns);
        if self.chain.pending().is_due() {
            self.close_batch()?;
        }
        Ok(seq)
    }

    fn close_batch(&mut self) -> Result<()> {
        self.batch_deadline = None;
        if self.chain.pending().entries == 0 {
            return Ok(());
        }
        let counters = lock(&self.shared.counters).clone();
        let batch = self.chain.close_batch(counters, self.shared.echo())?;
        lock(&self.shared.spool).append(&batch)?;
        self.shared.batch_closed(batch.position, self.oldest_pending_ns);
        self.last_local = Some(batch.position);
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if self.unsynced_since.take().is_some() {
            lock(&self.shared.spool).sync()?;
            self.shared.batch_ready.notify_one();
        }
        Ok(())
    }

    fn new_epoch(&mut self, above: u64) -> Result<()> {
        self.close_batch()?;
        self.sync()?;
        // Batches of the old epoch that follow the refused one have no way to the sink any more.
        self.shared.put_aside(self.chain.epoch())?;
        self.chain = open_epoch(&self.signer, &self.shared, self.last_local, above)?;
        self.sessions.clear();
        self.gap("batch_refused", None)
    }

    fn stop(&mut self) -> Result<()> {
        self.tell_dropped()?;
        self.fact(EntryType::AgentStop, Vec::new())?;
        self.close_batch()?;
        self.sync()
    }
}

fn open_epoch(signer: &Signer, shared: &Shared, local: Option<Position>, above: u64) -> Result<Chain> {
    let raised = lock(&shared.spool).with_slack(|| raise_epoch(&signer.state_directory, above));
    let counter = raised?;
    let quarantined = {
        let mut refused = lock(&shared.refused);
        // What an epoch named that was refused itself is named again.
        let mut named = std::mem::take(&mut refused.named);
        named.append(&mut refused.waiting);
        named.truncate(REFUSED_MAX);
        refused.named.clone_from(&named);
        named
    };
    let sink = lock(&shared.last_receipt).as_ref().map(|receipt| receipt.batch);
    let first = counter == 1 && local.is_none() && quarantined.is_empty();
    let resume = (!first).then_some(Resume { local, sink, quarantined });
    shared.status().epoch = counter;
    let chain = Chain::start(&signer.key, signer.host, signer.boot, counter, resume)?;
    Ok(chain.in_line(signer.line.clone()))
}

/// The counter of this start: durable before it is used, so no two starts share one. A host that was restored
/// from a snapshot has used up more than it knows: then the sink's counter, `above`, is the one to pass.
fn raise_epoch(state_directory: &Path, above: u64) -> Result<u64> {
    let path = state_directory.join("epoch");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().with_context(|| {
            format!(
                "the epoch counter {} is damaged: write a number into it that is above every epoch of this \
                 host that `custody hosts` shows",
                path.display()
            )
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // A sink that names an absurd counter must not use this host's up.
    let above = if above.saturating_sub(before) > EPOCHS_AHEAD_MAX { before } else { above };
    let counter = before.max(above).checked_add(1).context("the epoch counter is used up")?;
    files::replace(&path, format!("{counter}\n").as_bytes())?;
    Ok(counter)
}

fn entry_type(kind: Kind) -> EntryType {
    match kind {
        Kind::SessionOpen => EntryType::SessionOpen,
        Kind::SessionClose => EntryType::SessionClose,
        Kind::ExchangeOpen => EntryType::ExchangeOpen,
        Kind::ExchangePart => EntryType::ExchangePart,
        Kind::ExchangeClose => EntryType::ExchangeClose,
        Kind::Exchange => EntryType::Exchange,
        Kind::Exec => EntryType::Exec,
        Kind::Exit => EntryType::Exit,
        // A worker has nothing to say for the agent; a record of that kind is not believed.
        Kind::Gap | Kind::Agent => EntryType::Gap,
    }
}

#[cfg(test)]
mod tests;
