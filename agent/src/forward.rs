//! Spooled batches → sink, oldest first, unchanged, for ever: there is no limit of attempts. A receipt that the sink's
//! enrolled key signed says that a batch is stored; it stays in the spool until it is committed ([`crate::witness`]).
//! Must not make, change or reorder a batch.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use custody_ledger::tlog::{Awaited, BatchLeaf};
use custody_ledger::wire::{self, AppendResponse, HeadResponse, Refusal, RefusalCode};
use custody_ledger::{HostId, Position, PublicKey};
use hyper::Method;

use crate::capture::Seen;
use crate::chain::Input;
use crate::events;
use crate::shared::{Shared, lock};
use crate::sink_client::{self, Address, Client};

/// First wait after a failed attempt; doubles up to the configured bound.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Longest wait that a sink may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// While nothing new comes, look again this often: a wake-up may have been taken by an earlier round.
const IDLE: Duration = Duration::from_secs(5);
/// Batches that may wait to be committed; then no more are sent until some are.
const AWAITED_MAX: usize = 65_536;

/// The way of batches to the sink.
pub struct Forwarder {
    /// Whose batches.
    pub host: HostId,
    /// Whose receipts count.
    pub sink: PublicKey,
    /// Its connection.
    pub client: Client,
    /// Where it is.
    pub address: Address,
    /// Must know the sink's addresses before a connection is made.
    pub capture: Sender<Seen>,
    /// Spool and figures.
    pub shared: Arc<Shared>,
    /// To ask for a new epoch.
    pub recorder: SyncSender<Input>,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// The newest epoch of this host that the sink told of.
    pub sink_epoch: u64,
    /// How many batches the next request carries at most.
    pub run: Run,
}

/// How many batches one request carries at most: half as many after one that failed, so that a line or a sink that is too
/// slow for a long request within its time gets ever shorter ones, and the spool drains.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    most: usize,
    asked: usize,
}

impl Default for Run {
    fn default() -> Self {
        Run { most: wire::APPEND_BATCHES_MAX, asked: 0 }
    }
}

impl Run {
    fn failed(&mut self) {
        // What was asked may have been bounded by its bytes, or there was no more. Nothing was asked: no request failed.
        if self.asked > 0 {
            self.most = (self.asked / 2).max(1);
        }
        self.asked = 0;
    }

    fn went_well(&mut self) {
        if self.asked > 0 {
            self.most = self.most.saturating_mul(2).min(wire::APPEND_BATCHES_MAX);
        }
        self.asked = 0;
    }
}

impl Forwarder {
    /// Forwards until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        let mut known_head = false;
        loop {
            let round =
                if known_head { self.append().await } else { self.synchronise().await.map(|()| true) };
            match round {
                Ok(sent) => {
                    known_head = true;
                    backoff = BACKOFF_FIRST;
                    self.run.went_well();
                    if !sent {
                        // Elapsed is no error: it is the idle look.
                        let _ = tokio::time::timeout(IDLE, self.shared.batch_ready.notified()).await;
                    }
                }
                Err(error) => {
                    known_head = false;
                    self.run.failed();
                    self.shared.status().sink_error = format!("{error:#}");
                    let wait = wait_after(&error, backoff);
                    events::sink_unreachable(&error, wait);
                    tokio::time::sleep(jitter(wait)).await;
                    backoff = (backoff * 2).min(self.backoff_max);
                }
            }
        }
    }

    /// Asks where the sink stands. That answer is not signed, so nothing is freed by it.
    async fn synchronise(&mut self) -> Result<()> {
        let address = self.address.clone();
        let addresses =
            tokio::task::spawn_blocking(move || address.resolve()).await.context("resolving")??;
        self.capture.send(Seen::Sink(addresses, self.address.port)).context("the probes' thread ended")?;
        let answer = self
            .client
            .send(Method::GET, &wire::head_path(self.host), wire::CONTENT_TYPE, Bytes::new())
            .await?;
        let head: HeadResponse = sink_client::read(&answer)?;
        events::sink_reached(head.head.as_ref());
        self.heard(head.head.as_ref());
        Ok(())
    }

    fn heard(&mut self, head: Option<&Position>) {
        self.sink_epoch = self.sink_epoch.max(head.map_or(0, |head| head.epoch.counter));
    }

    /// Sends one run of batches; false when there was none.
    async fn append(&mut self) -> Result<bool> {
        if lock(&self.shared.awaited).len() >= AWAITED_MAX {
            return Ok(false);
        }
        let (shared, most) = (Arc::clone(&self.shared), self.run.most);
        let oldest = tokio::task::spawn_blocking(move || {
            // Each frame has a length of four bytes before it.
            lock(&shared.spool).unsent(wire::APPEND_BYTES_MAX, most)
        });
        let batches = oldest.await.context("reading the spool")??;
        if batches.is_empty() {
            return Ok(false);
        }
        self.run.asked = batches.len();
        let mut body = Vec::new();
        for (_, frame) in &batches {
            wire::put_frame(&mut body, frame);
        }
        let path = wire::batches_path(self.host);
        let answer =
            self.client.send(Method::POST, &path, wire::FRAMES_CONTENT_TYPE, Bytes::from(body)).await?;
        // A refusal of a later batch comes with the receipts of those before it, under any status.
        let Ok(response) = wire::decode::<AppendResponse>(&answer.body) else {
            bail!(sink_client::refusal(&answer));
        };
        let stored = self.receipts(&batches, &response)?;
        match response.refusal {
            None if stored == 0 => bail!("the sink answered without receipts"),
            None => {}
            Some(refusal) => {
                self.refused(refusal, batches.get(stored).map(|(position, _)| position)).await?;
            }
        }
        Ok(true)
    }

    /// Checks receipts in order; how many batches they cover. Each is then awaited by the leaf that the host itself makes
    /// of it.
    fn receipts(&mut self, sent: &[(Position, Vec<u8>)], response: &AppendResponse) -> Result<usize> {
        let mut stored = Vec::new();
        let mut reference = None;
        for ((position, frame), signed) in sent.iter().zip(&response.receipts) {
            let receipt = signed.verify(&self.sink).context("a receipt of the sink does not hold")?;
            if receipt.host != self.host || receipt.batch != *position {
                bail!("the sink sent a receipt for another batch");
            }
            let leaf =
                BatchLeaf::of_frame(frame, receipt.received_ns).context("a batch of the spool")?.hash();
            stored.push(Awaited { batch: *position, leaf });
            reference = Some(signed.reference(*position));
        }
        let Some(last) = stored.last() else { return Ok(0) };
        *lock(&self.shared.last_receipt) = reference;
        lock(&self.shared.spool).mark_sent(&last.batch);
        let count = stored.len();
        self.shared.batches_stored(stored);
        Ok(count)
    }

    async fn refused(&mut self, refusal: Refusal, batch: Option<&Position>) -> Result<()> {
        let Some(batch) = batch else { bail!(refusal) };
        if refusal.code == RefusalCode::OutOfOrder {
            return self.out_of_order(refusal, batch).await;
        }
        if refusal.code.is_permanent() {
            return self.put_aside(&refusal, batch).await;
        }
        bail!(refusal)
    }

    /// The sink stands elsewhere. If what it misses is not here any more, waiting cannot help.
    async fn out_of_order(&mut self, refusal: Refusal, batch: &Position) -> Result<()> {
        let head = refusal.head.as_ref().and_then(|head| head.head);
        self.heard(head.as_ref());
        let behind = head.is_none_or(|head| {
            head.epoch < batch.epoch || (head.epoch == batch.epoch && head.number < batch.number)
        });
        if !behind {
            bail!(refusal);
        }
        // What it had stored it has no more, before it was committed: it is still here.
        let rewound = lock(&self.shared.spool).rewind(head.as_ref());
        if rewound {
            lock(&self.shared.awaited).clear();
            lock(&self.shared.unwitnessed).clear();
            return Ok(());
        }
        self.put_aside(&refusal, batch).await
    }

    /// One bad batch never blocks a host: it is kept aside with all of its epoch, which hangs on it. If that epoch
    /// is the current one, a new one names them; batches of an earlier start are told as a gap at once, and named
    /// by the next epoch.
    async fn put_aside(&mut self, refusal: &Refusal, batch: &Position) -> Result<()> {
        let current = self.shared.status().epoch;
        let before = self.shared.status().aside.batches;
        let (shared, epoch) = (Arc::clone(&self.shared), batch.epoch);
        let aside = tokio::task::spawn_blocking(move || shared.put_aside(epoch));
        aside.await.context("putting batches aside")??;
        let (recorder, sink_epoch) = (self.recorder.clone(), self.sink_epoch);
        let told = tokio::task::spawn_blocking(move || {
            if epoch.counter != current {
                return recorder.send(Input::Gap("batch_refused", None)).is_ok();
            }
            let (begun, has_begun) = sync_channel(1);
            recorder.send(Input::NewEpoch(epoch, sink_epoch, begun)).is_ok() && has_begun.recv().is_ok()
        });
        if !told.await.context("telling what was refused")? {
            bail!("the recorder ended");
        }
        let batches = self.shared.status().aside.batches - before;
        let sentence = events::batches_refused(batch, batches, self.sink_epoch, refusal);
        self.shared.status().aside.reason = sentence;
        Ok(())
    }
}

/// How long to wait after a failed attempt: as long as the sink says that coming back is of no use, within bounds, for a
/// person may raise a quota meanwhile.
fn wait_after(error: &anyhow::Error, backoff: Duration) -> Duration {
    let refusal = error.downcast_ref::<Refusal>();
    let asked =
        refusal.and_then(|refusal| refusal.retry_after_ms).map_or(Duration::ZERO, Duration::from_millis);
    backoff.max(asked.min(RETRY_AFTER_MAX))
}

/// Between half and the whole of it, so that hosts do not come all at once.
fn jitter(backoff: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the wait is merely not spread.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    backoff / 2 + backoff * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_shorter_while_they_fail_and_longer_when_they_go_well() {
        let mut run = Run { most: wire::APPEND_BATCHES_MAX, asked: 40 };
        run.failed();
        assert_eq!(run.most, 20);
        run.failed();
        assert_eq!(run.most, 20, "no request was made: the sink was not reached");
        for _ in 0..6 {
            run.asked = run.most;
            run.failed();
        }
        assert_eq!(run.most, 1);
        for _ in 0..20 {
            run.asked = 1;
            run.went_well();
        }
        assert_eq!(run.most, wire::APPEND_BATCHES_MAX);
    }

    #[test]
    fn a_host_over_its_quota_waits_as_long_as_it_is_told_and_looks_again_each_minute() {
        let over = |retry_after_ms| {
            let detail = "over its quota".to_owned();
            anyhow::Error::new(Refusal { code: RefusalCode::OverQuota, detail, head: None, retry_after_ms })
        };
        let backoff = Duration::from_millis(200);
        assert_eq!(wait_after(&over(Some(5_000)), backoff), Duration::from_secs(5));
        assert_eq!(wait_after(&over(Some(u64::MAX)), backoff), RETRY_AFTER_MAX);
        assert_eq!(wait_after(&over(Some(1)), backoff), backoff);
        assert_eq!(wait_after(&anyhow::anyhow!("no answer"), backoff), backoff);
        assert!(!RefusalCode::OverQuota.is_permanent(), "it would be put aside and lost to the record");
    }
}
