//! One request of a host, frame by frame: what is taken, what is refused, and what is stated of it.

use std::sync::{Mutex, PoisonError};

use custody_ledger::keys::{self, Context};
use custody_ledger::line;
use custody_ledger::statement::Stated;
use custody_ledger::verify::{Check, Fault, Finding, Head, follow};
use custody_ledger::wire::{self, APPEND_BATCHES_MAX, AppendResponse, Refusal, RefusalCode};
use custody_ledger::{
    Batch, BatchHeader, BatchNumber, HostId, Position, ReceiptLevel, SignedReceipt, SinkKey, Statement,
};

use super::{Clock, HostChain, head_response, over_quota};
use crate::clock::now_ns;
use crate::http::Refused;
use crate::metrics::Metrics;
use crate::quota::Over;
use crate::store::{BatchRow, Job, Store, StoreError};
use crate::tree::Tree;

/// One request.
pub(super) struct Append<'a> {
    pub(super) store: &'a Store,
    pub(super) tree: &'a Tree,
    pub(super) key: &'a SinkKey,
    pub(super) metrics: &'a Metrics,
    pub(super) host: HostId,
    pub(super) clock: Clock,
    pub(super) job: Job,
}

impl Append<'_> {
    pub(super) fn run(mut self, chain: &Mutex<HostChain>, body: &[u8]) -> AppendResponse {
        let mut receipts = Vec::new();
        if let Err(error) = self.store.check_ready() {
            let refusal = Refused::new(RefusalCode::Unavailable, error.to_string());
            return AppendResponse { receipts, refusal: Some(*refusal.refusal) };
        }
        let (pending, refusal) = {
            // Held until the job is in the queue, so that the store keeps the order of the chain.
            let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
            if chain.revoked {
                // It was not when the request began; the next one is refused at once, and that is stated.
                let refusal = Refused::new(RefusalCode::Forbidden, "this host was revoked meanwhile");
                return AppendResponse { receipts, refusal: Some(*refusal.refusal) };
            }
            let refusal = self.take_frames(&mut chain, body, &mut receipts);
            let job = std::mem::take(&mut self.job);
            let pending = if job.is_empty() { None } else { Some(self.store.submit(job)) };
            (pending, refusal)
        };
        match pending.map_or(Ok(()), |pending| pending.and_then(crate::store::Pending::wait)) {
            Ok(()) => AppendResponse { receipts, refusal },
            Err(error) => {
                // Receipts that were signed for this job are dropped with it: nothing was promised.
                AppendResponse { receipts: Vec::new(), refusal: Some(*Refused::internal(&error).refusal) }
            }
        }
    }

    fn take_frames(
        &mut self,
        chain: &mut HostChain,
        body: &[u8],
        receipts: &mut Vec<SignedReceipt>,
    ) -> Option<Refusal> {
        for (index, frame) in wire::frames(body).enumerate() {
            let taken = match frame {
                Some(_) if index >= APPEND_BATCHES_MAX => Err(Refused::new(
                    RefusalCode::TooLarge,
                    format!("one request carries at most {APPEND_BATCHES_MAX} batches"),
                )),
                Some(frame) => self.take_frame(chain, frame),
                None => Err(Refused::new(RefusalCode::Malformed, "the request ends inside a batch")),
            };
            match taken {
                Ok(receipt) => receipts.push(receipt),
                Err(refused) => return Some(*refused.refusal),
            }
        }
        None
    }

    fn take_frame(&mut self, chain: &mut HostChain, frame: &[u8]) -> Result<SignedReceipt, Refused> {
        let (header, position) = Batch::decode_header(frame)
            .map_err(|error| Refused::new(RefusalCode::Malformed, error.to_string()))?;
        let is_past = chain.head.as_ref().is_some_and(|head| {
            (header.epoch.counter, header.number) <= (head.batch.epoch.counter, head.batch.number)
        });
        if header.host == self.host && is_past {
            return self.take_again(chain, &header, position, frame);
        }
        let bytes = frame.len() as u64;
        if let Err(over) = chain.meter.admit(&self.clock.quota, bytes, now_ns(), self.clock.steady_ns()) {
            return self.refuse_over_quota(chain, over, bytes);
        }
        match follow(self.host, &chain.key, chain.head.as_ref(), frame) {
            Ok(step) => {
                let received_ns = now_ns();
                let mut findings = step.findings.clone();
                findings.extend(self.judge_echo(chain, &header));
                let head = step.head.clone();
                let entries = step.batch.entries.len() as u64;
                let receipt =
                    SignedReceipt::sign(self.key, ReceiptLevel::Stored, self.host, position, received_ns)
                        .map_err(|error| Refused::internal(&error))?;
                self.job
                    .batch(self.host, step, frame, &receipt, received_ns)
                    .map_err(|error| Refused::internal(&error))?;
                chain.head = Some(head);
                chain.meter.took(&self.clock.quota, bytes, received_ns, self.clock.steady_ns());
                self.state_findings(chain, position, findings)?;
                self.metrics.accepted(entries, frame.len() as u64);
                Ok(receipt)
            }
            Err(fault) => self.refuse(chain, &header, *fault),
        }
    }

    /// Compares the checkpoint that a host echoes with the log: one that is not of this log means that the log was rolled
    /// back or forked, or that the host lies; either has to be known.
    fn judge_echo(&self, chain: &mut HostChain, header: &BatchHeader) -> Option<Finding> {
        let echoed = header.checkpoint.as_ref().filter(|echoed| chain.echoed.as_ref() != Some(*echoed))?;
        chain.echoed = Some(echoed.clone());
        let judged = self.tree.judge(echoed).unwrap_or_else(|error| {
            tracing::error!(%error, "a checkpoint that a host holds could not be compared with the log");
            None
        });
        judged.map(|difference| Finding::OtherLog { echoed: echoed.clone(), difference })
    }

    /// A batch for a place that the chain has passed: the same one again, or another one.
    fn take_again(
        &mut self,
        chain: &mut HostChain,
        header: &BatchHeader,
        position: Position,
        frame: &[u8],
    ) -> Result<SignedReceipt, Refused> {
        let internal = |error: StoreError| Refused::internal(&error);
        // What is accepted may wait for its commit, in this job or in one before it.
        let job = std::mem::take(&mut self.job);
        if !job.is_empty() {
            self.store.submit(job).and_then(crate::store::Pending::wait).map_err(internal)?;
        }
        let mut row = self.store.batch(self.host, header.epoch, header.number).map_err(internal)?;
        if row.is_none() {
            self.store.barrier().map_err(internal)?;
            row = self.store.batch(self.host, header.epoch, header.number).map_err(internal)?;
        }
        match row {
            Some(row) if row.batch == position => {
                self.metrics.repeated();
                self.store.receipt(self.host, &row).map_err(internal)
            }
            Some(row) => {
                let signed = self.is_signed_for(chain, &row, frame).map_err(internal)?;
                self.metrics.equivocation();
                tracing::error!(host = %self.host, batch = %position, signed, "equivocation: another batch of this number is stored");
                let stated = Stated::Equivocation {
                    accepted: row.batch,
                    other: position,
                    signed,
                    frame: frame.to_vec(),
                };
                let kept =
                    if self.state(chain, stated)? { "both are kept" } else { "too many others are kept" };
                Err(Refused::new(
                    RefusalCode::Equivocation,
                    format!("the sink holds another batch {} of this epoch; {kept}", header.number),
                ))
            }
            None => {
                self.metrics.faulty(Check::Epoch);
                Err(Refused::new(
                    RefusalCode::EpochClosed,
                    format!("epoch {} is over: a newer one has begun", header.epoch.counter),
                ))
            }
        }
    }

    /// Whether the other frame is signed by the key that was due at the place of `row`.
    fn is_signed_for(&self, chain: &HostChain, row: &BatchRow, frame: &[u8]) -> Result<bool, StoreError> {
        let Ok(other) = Batch::decode(frame) else { return Ok(false) };
        let key = match row.batch.number.0.checked_sub(1) {
            None => {
                let header = &other.header;
                let Some(opening) = &header.opening else { return Ok(false) };
                let (host, boot, epoch) = (header.host, header.boot, header.epoch);
                // Whoever had the key of that time; what the host has now need not be on the line of then.
                let Ok(key) = line::follow(host, &chain.key, &chain.key, &opening.line) else {
                    return Ok(false);
                };
                if !keys::is_certified(&key, host, boot, epoch, &opening.key, &opening.certificate) {
                    return Ok(false);
                }
                opening.key
            }
            Some(before) => {
                let before = self.store.batch(self.host, row.batch.epoch, BatchNumber(before))?;
                let Some(before) = before else { return Ok(false) };
                let frame = self.store.frame(self.host, &before)?;
                let damaged = |error| StoreError::Damaged { detail: format!("{}: {error}", before.batch) };
                Batch::decode_header(&frame).map_err(damaged)?.0.next_key
            }
        };
        Ok(keys::verify(&key, Context::Batch, other.header_bytes, &other.signature))
    }

    fn state_findings(
        &mut self,
        chain: &mut HostChain,
        batch: Position,
        findings: Vec<Finding>,
    ) -> Result<(), Refused> {
        for finding in findings {
            self.metrics.found(&finding);
            tracing::warn!(host = %self.host, %batch, ?finding, "a batch holds, and this has to be known of it");
            self.state(chain, Stated::Found { batch, finding })?;
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        chain: &mut HostChain,
        header: &BatchHeader,
        fault: Fault,
    ) -> Result<SignedReceipt, Refused> {
        let code = refusal_code(&fault, chain.head.as_ref(), header);
        let detail = fault.to_string();
        self.metrics.faulty(fault.check);
        // Out of order is everyday life after a lost answer, and no news.
        if code != RefusalCode::OutOfOrder {
            tracing::warn!(host = %self.host, %fault, "a batch was refused");
            self.state(chain, Stated::Refused { fault })?;
        }
        let head = (code == RefusalCode::OutOfOrder).then(|| head_response(self.host, chain.head.as_ref()));
        Err(Refused { refusal: Box::new(Refusal { code, detail, head, retry_after_ms: None }), denied: None })
    }

    /// Nothing is wrong with the batch: it stays at its host. Crossings are few by themselves, so each is stated.
    fn refuse_over_quota(
        &mut self,
        chain: &mut HostChain,
        over: Over,
        bytes: u64,
    ) -> Result<SignedReceipt, Refused> {
        let at_ns = now_ns();
        if chain.meter.refuse(over, bytes, at_ns, self.clock.steady_ns()) {
            self.metrics.quota_crossed();
            tracing::warn!(host = %self.host, quota = %over.quota, over.limit, "a host is over its quota");
            let statement = Statement { host: Some(self.host), at_ns, what: over.stated() };
            self.job.statement(self.key, &statement).map_err(|error| Refused::internal(&error))?;
        }
        Err(over_quota(&over))
    }

    /// Whether there was room for it.
    fn state(&mut self, chain: &mut HostChain, what: Stated) -> Result<bool, Refused> {
        let is_twice_signed = matches!(what, Stated::Equivocation { signed: true, .. });
        let allowance =
            if is_twice_signed { &mut chain.equivocations_left } else { &mut chain.statements_left };
        let Some(left) = allowance.checked_sub(1) else {
            self.metrics.statement_dropped();
            return Ok(false);
        };
        *allowance = left;
        let statement = Statement { host: Some(self.host), at_ns: now_ns(), what };
        self.job.statement(self.key, &statement).map_err(|error| Refused::internal(&error))?;
        Ok(true)
    }
}

fn refusal_code(fault: &Fault, head: Option<&Head>, header: &BatchHeader) -> RefusalCode {
    match fault.check {
        Check::Format => RefusalCode::Malformed,
        Check::Certificate | Check::Signature | Check::HandOver | Check::KeyLine => RefusalCode::Signature,
        Check::Number => RefusalCode::OutOfOrder,
        Check::Epoch => {
            let is_old = head.is_some_and(|head| header.epoch.counter <= head.batch.epoch.counter);
            if is_old { RefusalCode::EpochClosed } else { RefusalCode::OutOfOrder }
        }
        Check::Stop => RefusalCode::EpochClosed,
        Check::Host
        | Check::Link
        | Check::Tree
        | Check::Sequence
        | Check::EntryLink
        | Check::Body
        | Check::Promised => RefusalCode::Content,
    }
}
