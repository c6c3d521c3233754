//! What the agent tells its operator: one function per event, so that wording and level stand in one place.
//! No payload, no path of an observed program, in any of them.

use std::time::Duration;

use custody_decoders::level::Level;
use custody_ledger::tlog::Alarm;
use custody_ledger::wire::{Refusal, RefusalCode};
use custody_ledger::{Position, PublicKey};

use crate::ladder::Fill;
use crate::spool::Recovery;

/// The agent is up: probes, canary and sink.
pub fn ready(sink: &PublicKey) {
    tracing::info!(%sink, "ready: probes are attached, the canary was seen, the sink committed a batch");
}

/// The agent's own exchange does not come out of the rings.
pub fn canary_missing() {
    tracing::error!("the canary was not seen: nothing is captured on this host; see `custody-agent doctor`");
}

/// What the spool's walk found.
pub fn spool_opened(recovery: &Recovery, waiting: usize) {
    if recovery.torn_bytes > 0 {
        tracing::warn!(bytes = recovery.torn_bytes, "spool: a batch was being written when the agent died");
    }
    for path in &recovery.damaged {
        tracing::error!(
            kept = %path.display(),
            stranded = recovery.stranded.len(),
            "spool: a file is damaged; it was put aside, and the batches in it do not reach the sink"
        );
    }
    tracing::info!(waiting, "spool opened");
}

/// The sink answered.
pub fn sink_reached(head: Option<&Position>) {
    match head {
        Some(head) => tracing::info!(%head, "sink reached"),
        None => tracing::info!("sink reached; it has nothing of this host yet"),
    }
}

/// An attempt failed; another follows.
pub fn sink_unreachable(error: &anyhow::Error, wait: Duration) {
    tracing::warn!(
        error = format!("{error:#}"),
        wait_ms = wait.as_millis(),
        "sink not reached; trying again"
    );
}

/// Batches will never be taken. Returns the sentence, for the status.
pub fn batches_refused(first: &Position, batches: u64, sink_epoch: u64, refusal: &Refusal) -> String {
    let cause = match refusal.code {
        RefusalCode::Equivocation | RefusalCode::EpochClosed if sink_epoch >= first.epoch.counter => {
            "the sink has newer batches of this host, so its state directory is an older snapshot, or a copy of \
             this host runs elsewhere"
        }
        RefusalCode::OutOfOrder => "batches before it are neither here nor at the sink",
        _ => "it does not hold",
    };
    let sentence = format!(
        "the sink refuses {first}: {cause} ({detail}); {batches} batches of that epoch are kept in the spool's folder \
         `aside`, recording goes on, and the record names what is missing",
        detail = refusal.detail
    );
    tracing::error!(code = ?refusal.code, "{sentence}");
    sentence
}

/// What the sink shows of its log does not hold, or not with what it showed before.
pub fn log_alarm(alarm: &Alarm) {
    tracing::error!(
        "{alarm}: nothing leaves the spool; the sink was restored from an old copy, or somebody changes what it holds"
    );
}

/// What the sink shows goes on from what this host keeps.
pub fn log_alarm_over() {
    tracing::warn!("the sink's log goes on again from the checkpoint that this host keeps");
}

/// The spool fills or drains, and less or more is recorded.
pub fn level_stepped(before: Level, now: Level, fill: Fill) {
    let Fill { bytes, limit } = fill;
    if now < before {
        tracing::warn!(%before, %now, bytes, limit, "the spool fills: less is recorded; see `custody-agent status`");
    } else {
        tracing::info!(%before, %now, bytes, limit, "the spool drains: more is recorded again");
    }
}

/// The file system has no block left; recording goes on in the reserve, for facts of the agent and gaps.
pub fn disk_full(reserve: u64) {
    tracing::error!(
        reserve,
        "the disk of the spool is full: records are dropped and counted, heartbeats and gaps go where room was kept; \
         make room on that disk, or let the sink take what waits"
    );
}

/// It has again.
pub fn disk_has_room() {
    tracing::warn!("the disk of the spool has room again");
}

/// A worker runs.
pub fn worker_started(pid: u32) {
    tracing::info!(pid, "worker started");
}

/// It ended.
pub fn worker_ended(status: &str, wait: Duration) {
    tracing::error!(
        status,
        wait_ms = wait.as_millis(),
        "worker ended; a new one follows, the gap is recorded"
    );
}

/// The worker does not keep to the link's rules.
pub fn link_broken(error: &anyhow::Error) {
    tracing::error!(error = format!("{error:#}"), "the worker's link broke");
}

/// The agent runs, and sees less than it could.
pub fn capability_missing(name: &str, cost: &str) {
    tracing::error!("missing {name}: {cost}; run as root, or by the packaged unit");
}

/// A probe is not there.
pub fn probe_missing(name: &str, reason: &str) {
    tracing::warn!(probe = name, reason, "probe not attached");
}

/// The configuration was read again.
pub fn configuration(state: &str) {
    tracing::info!(state, "configuration");
}

/// The sink is shown another certificate from now on.
pub fn certificate_renewed(hash: &str) {
    tracing::info!(hash, "another certificate is shown to the sink");
}

/// The certificate is due, and there is no other.
pub fn certificate_not_renewed(error: &anyhow::Error) {
    tracing::error!(
        error = format!("{error:#}"),
        "the certificate of this host is not renewed: it is tried again each hour; when its time is over, this host is not \
         let in any more and has to be enrolled anew"
    );
}
