//! The host as witness of its sink's log: asks for proofs that its batches are committed, believes none of them
//! unchecked, keeps the newest checkpoint durably, and only then frees the spool; with a policy only what witnesses cosigned
//! under a checkpoint that this one goes on from. What does not hold is an alarm: nothing is freed, it stands in log, status and chain, and it is asked again. Must not send or change a batch.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use custody_decoders::item::Field;
use custody_ledger::tlog::witness::Seen;
use custody_ledger::tlog::{Alarm, Awaited, Policy, Witness};
use custody_ledger::wire::{
    self, COMMITTED_BATCHES_MAX, COMMITTED_WAIT_MS_MAX, CommittedQuery, CommittedResponse,
};
use custody_ledger::{EntryType, HostId, PublicKey};
use custody_record::names;
use hyper::Method;

use crate::chain::Input;
use crate::shared::{self, Shared, lock};
use crate::sink_client::{self, Client};
use crate::{events, files};

/// First wait after a failed attempt; doubles up to the configured bound.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// While nothing is stored, look again this often: a wake-up may have been taken by an earlier round.
const IDLE: Duration = Duration::from_secs(5);

const FILE: &str = "witness.json";

/// Reads what this host keeps of its sink's log; `None` before the first checkpoint.
pub fn load(state_directory: &Path) -> Result<Option<Witness>> {
    let path = state_directory.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let damaged = || {
        format!(
            "{} is damaged: restore it, or remove it; then this host believes the next checkpoint that its sink shows, \
             and a log that was rolled back until then is not found by this host",
            path.display()
        )
    };
    let kept: Witness = serde_json::from_slice(&bytes).with_context(damaged)?;
    ensure!(kept.is_whole(), damaged());
    Ok(Some(kept))
}

/// The way of proofs from the sink.
pub struct Watcher {
    /// Whose batches.
    pub host: HostId,
    /// Who certifies the log's key.
    pub sink: PublicKey,
    /// A connection of its own: an answer may wait for the next checkpoint.
    pub client: Client,
    /// How long the sink may let an answer wait.
    pub wait: Duration,
    /// Spool and figures.
    pub shared: Arc<Shared>,
    /// What is seen is recorded.
    pub recorder: SyncSender<Input>,
    /// Where the checkpoint is kept.
    pub state_directory: PathBuf,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// What was kept until now.
    pub kept: Option<Witness>,
    /// Who must have witnessed a batch before it is freed; `None`: it is freed when it is committed.
    pub policy: Option<Policy>,
}

impl Watcher {
    /// Watches until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let Some(query) = self.question() else {
                // Elapsed is no error: it is the idle look.
                let _ = tokio::time::timeout(IDLE, self.shared.batch_stored.notified()).await;
                continue;
            };
            match self.round(&query).await {
                Ok(true) => backoff = BACKOFF_FIRST,
                // The forwarder tells of a sink that is not reached; an alarm stands until it is over; a sink that commits
                // nothing is not asked again at once.
                Ok(false) | Err(_) => {
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(self.backoff_max);
                }
            }
        }
    }

    /// What to ask next; `None` when nothing is waited for.
    fn question(&self) -> Option<CommittedQuery> {
        let oldest = lock(&self.shared.awaited).front().copied();
        let (unwitnessed, newest) = {
            let unwitnessed = lock(&self.shared.unwitnessed);
            (unwitnessed.front().copied(), unwitnessed.back().copied())
        };
        // Where all is committed, the next batch of this host that will be.
        let next = newest.map(|one| (one.batch.epoch.counter, one.batch.number.0.saturating_add(1)));
        let (epoch, number) = oldest.map(|one| (one.batch.epoch.counter, one.batch.number.0)).or(next)?;
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(COMMITTED_WAIT_MS_MAX);
        Some(CommittedQuery {
            epoch,
            number,
            size: self.kept.as_ref().map_or(0, |kept| kept.checkpoint().size),
            wait_ms: wait_ms.min(COMMITTED_WAIT_MS_MAX),
            witnessed_epoch: unwitnessed.map(|one| one.batch.epoch.counter),
            witnessed_number: unwitnessed.map(|one| one.batch.number.0),
        })
    }

    /// One question and what follows from it; whether something was committed or witnessed.
    async fn round(&mut self, query: &CommittedQuery) -> Result<bool> {
        let path = wire::committed_path(self.host, query);
        let answer = self.client.send(Method::GET, &path, wire::CONTENT_TYPE, Bytes::new()).await?;
        let answer: CommittedResponse = sink_client::read(&answer)?;
        let waiting = |queue: &Mutex<VecDeque<Awaited>>| -> Vec<Awaited> {
            lock(queue).iter().take(COMMITTED_BATCHES_MAX).copied().collect()
        };
        let (awaited, unwitnessed) = (waiting(&self.shared.awaited), waiting(&self.shared.unwitnessed));
        self.heed(&answer, &awaited, &unwitnessed).await
    }

    async fn heed(
        &mut self,
        answer: &CommittedResponse,
        awaited: &[Awaited],
        unwitnessed: &[Awaited],
    ) -> Result<bool> {
        let checked = Witness::see(self.kept.as_ref(), &self.sink, answer, awaited)
            .and_then(|seen| Ok((self.witnessed(&seen.witness, answer, unwitnessed)?, seen)));
        match checked {
            Ok((witnessed, seen)) => {
                self.over();
                let heard = seen.committed > 0 || witnessed > 0;
                self.keep(seen, awaited).await?;
                self.free_witnessed(&unwitnessed[..witnessed]).await?;
                Ok(heard)
            }
            Err(alarm) => {
                self.raise(&alarm).await?;
                Ok(false)
            }
        }
    }

    /// How many of these are witnessed, by this host's own policy. That the sink thinks otherwise is no alarm: its owner may
    /// ask for fewer witnesses.
    fn witnessed(
        &self,
        seen: &Witness,
        answer: &CommittedResponse,
        unwitnessed: &[Awaited],
    ) -> Result<usize, Alarm> {
        let (Some(policy), Some(shown)) = (&self.policy, &answer.witnessed) else { return Ok(0) };
        let witnessed = seen.see_witnessed(policy, shown, unwitnessed);
        let why = match &witnessed {
            Err(alarm @ Alarm::NotWitnessed) => alarm.to_string(),
            _ => String::new(),
        };
        self.shared.status().log.not_witnessed = why;
        witnessed.or_else(|alarm| if alarm == Alarm::NotWitnessed { Ok(0) } else { Err(alarm) })
    }

    /// Keeps the checkpoint first, then frees what is under it, unless witnesses are waited for: a host that dies between the
    /// two asks again.
    async fn keep(&mut self, seen: Seen, awaited: &[Awaited]) -> Result<()> {
        if self.kept.as_ref() != Some(&seen.witness) {
            let bytes = serde_json::to_vec(&seen.witness)?;
            let path = self.state_directory.join(FILE);
            let shared = Arc::clone(&self.shared);
            let write = tokio::task::spawn_blocking(move || {
                lock(&shared.spool).with_slack(|| files::replace(&path, &bytes))
            });
            write.await.context("keeping the checkpoint")??;
            self.shared.checkpoint_kept(seen.witness.checkpoint());
            self.kept = Some(seen.witness);
        }
        let committed = &awaited[..seen.committed];
        let Some(last) = committed.last() else { return Ok(()) };
        let taken = take(&self.shared.awaited, committed);
        if self.policy.is_some() {
            lock(&self.shared.unwitnessed).extend(taken);
        } else {
            self.free(last).await?;
        }
        self.shared.batch_acknowledged(&last.batch);
        self.shared.batch_ready.notify_one();
        Ok(())
    }

    async fn free_witnessed(&self, witnessed: &[Awaited]) -> Result<()> {
        let Some(last) = witnessed.last() else { return Ok(()) };
        take(&self.shared.unwitnessed, witnessed);
        self.free(last).await?;
        self.shared.status().witnessed = shared::name(&last.batch);
        self.shared.batch_ready.notify_one();
        Ok(())
    }

    async fn free(&self, last: &Awaited) -> Result<()> {
        let (shared, batch) = (Arc::clone(&self.shared), last.batch);
        let free = tokio::task::spawn_blocking(move || lock(&shared.spool).free(&batch));
        free.await.context("freeing the spool")?.map(drop)
    }

    /// Told once, however often it is seen.
    async fn raise(&mut self, alarm: &Alarm) -> Result<()> {
        let text = alarm.to_string();
        if std::mem::replace(&mut self.shared.status().log.alarm, text.clone()) == text {
            return Ok(());
        }
        events::log_alarm(alarm);
        let recorder = self.recorder.clone();
        let fact = Input::Fact(EntryType::LogAlarm, vec![Field::structure(names::AGENT_LOG_ALARM, text)]);
        let told = tokio::task::spawn_blocking(move || recorder.send(fact).is_ok());
        ensure!(told.await.context("recording an alarm")?, "the recorder ended");
        Ok(())
    }

    fn over(&self) {
        if !std::mem::take(&mut self.shared.status().log.alarm).is_empty() {
            events::log_alarm_over();
        }
    }
}

/// Takes these off the head of a queue, as far as they stand there: what was taken back meanwhile is asked for again.
fn take(queue: &Mutex<VecDeque<Awaited>>, these: &[Awaited]) -> Vec<Awaited> {
    let mut queue = lock(queue);
    these.iter().filter(|one| queue.pop_front_if(|front| front == *one).is_some()).copied().collect()
}

#[cfg(test)]
mod tests;
