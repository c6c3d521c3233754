//! When the agent may say that it is ready, and what it tells systemd until then and after. Starts nothing.

use std::time::{Duration, Instant};

use anyhow::Result;
use sd_notify::NotifyState;

use super::{Agent, notify};
use crate::events;

/// Without its canary after this time the agent says so; it goes on trying.
const CANARY_PATIENCE: Duration = Duration::from_secs(10);

/// What still has to be seen before READY.
pub(super) struct Readiness {
    began: Instant,
    told: bool,
    complained: bool,
    pinged: Instant,
}

impl Readiness {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Readiness { began: now, told: false, complained: false, pinged: now }
    }

    pub(super) fn look(&mut self, agent: &Agent) -> Result<()> {
        let (canary_seen, complete, worker) = {
            let status = agent.evidence.shared.status();
            let complete = status.canary_seen && status.libraries_probed && !status.acknowledged.is_empty();
            (status.canary_seen, complete, status.worker.pid != 0)
        };
        if !canary_seen && worker {
            agent.canary.sing()?;
            if !self.complained && self.began.elapsed() > CANARY_PATIENCE {
                self.complained = true;
                events::canary_missing();
            }
        }
        if complete && !self.told {
            self.told = true;
            agent.evidence.shared.status().ready = true;
            notify(&[NotifyState::Ready]);
            events::ready(&agent.evidence.identity.facts.sink);
        }
        // The watchdog hears only while the recorder takes what it is given.
        let period = sd_notify::watchdog_enabled().map_or(Duration::MAX, |period| period / 3);
        if self.pinged.elapsed() >= period && !agent.evidence.has_ended() {
            self.pinged = Instant::now();
            notify(&[NotifyState::Watchdog]);
        }
        Ok(())
    }
}
