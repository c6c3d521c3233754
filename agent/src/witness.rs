//! The host as witness of its sink's log: asks for proofs that its batches are committed, believes none of them
//! unchecked, keeps the newest checkpoint durably, and only then frees the spool. What does not hold is an alarm: nothing
//! is freed, it stands in log, status and chain, and it is asked again. Must not send or change a batch.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use custody_decoders::item::Field;
use custody_ledger::tlog::witness::Seen;
use custody_ledger::tlog::{Alarm, Awaited, Witness};
use custody_ledger::wire::{
    self, COMMITTED_BATCHES_MAX, COMMITTED_WAIT_MS_MAX, CommittedQuery, CommittedResponse,
};
use custody_ledger::{EntryType, HostId, PublicKey};
use custody_record::names;
use hyper::Method;

use crate::chain::Input;
use crate::shared::{Shared, lock};
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
}

impl Watcher {
    /// Watches until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let awaited: Vec<Awaited> =
                lock(&self.shared.awaited).iter().take(COMMITTED_BATCHES_MAX).copied().collect();
            let Some(oldest) = awaited.first() else {
                // Elapsed is no error: it is the idle look.
                let _ = tokio::time::timeout(IDLE, self.shared.batch_stored.notified()).await;
                continue;
            };
            match self.round(oldest, &awaited).await {
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

    /// One question and what follows from it; whether something was committed.
    async fn round(&mut self, oldest: &Awaited, awaited: &[Awaited]) -> Result<bool> {
        let answer = self.ask(oldest).await?;
        match Witness::see(self.kept.as_ref(), &self.sink, &answer, awaited) {
            Ok(seen) => {
                self.over();
                let committed = seen.committed > 0;
                self.keep(seen, awaited).await?;
                Ok(committed)
            }
            Err(alarm) => {
                self.raise(&alarm).await?;
                Ok(false)
            }
        }
    }

    async fn ask(&mut self, oldest: &Awaited) -> Result<CommittedResponse> {
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(COMMITTED_WAIT_MS_MAX);
        let query = CommittedQuery {
            epoch: oldest.batch.epoch.counter,
            number: oldest.batch.number.0,
            size: self.kept.as_ref().map_or(0, |kept| kept.checkpoint().size),
            wait_ms: wait_ms.min(COMMITTED_WAIT_MS_MAX),
        };
        let path = wire::committed_path(self.host, &query);
        let answer = self.client.send(Method::GET, &path, wire::CONTENT_TYPE, Bytes::new()).await?;
        sink_client::read(&answer)
    }

    /// Keeps the checkpoint first, then frees what is under it: a host that dies between the two asks again.
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
        let Some(last) = committed.last().copied() else { return Ok(()) };
        {
            let mut waiting = lock(&self.shared.awaited);
            // What was taken back meanwhile is asked for again.
            for one in committed {
                if waiting.front() == Some(one) {
                    waiting.pop_front();
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let free = tokio::task::spawn_blocking(move || lock(&shared.spool).free(&last.batch));
        free.await.context("freeing the spool")??;
        self.shared.batch_acknowledged(&last.batch);
        self.shared.batch_ready.notify_one();
        Ok(())
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

#[cfg(test)]
mod tests;
