//! The chain's part in the level ladder: looks how full the spool is, and makes an entry of each step.

use std::time::{Duration, Instant};

use anyhow::Result;
use custody_decoders::item::Field;
use custody_ledger::EntryType;
use custody_record::names;

use super::Recorder;
use crate::clock;
use crate::events;
use crate::ladder;
use crate::shared::lock;

/// Time between two looks at the disk, which cost calls.
const DISK_LOOK: Duration = Duration::from_secs(1);

impl Recorder {
    /// Steps down or up as the spool stands now. Where the configuration asks for less anyhow, a step changes nothing and
    /// is not told.
    pub(super) fn look_at_spool(&mut self) -> Result<()> {
        let fill = {
            let mut spool = lock(&self.shared.spool);
            if self.disk_looked.is_none_or(|looked| looked.elapsed() >= DISK_LOOK) {
                self.disk_looked = Some(Instant::now());
                spool.look_at_disk();
            }
            spool.fill()
        };
        loop {
            let allowed = self.shared.status().level.allowed;
            let Some(next) = ladder::step(allowed, fill) else { return Ok(()) };
            let stepped = self.shared.status().level.allow(next, clock::wall_ns());
            let Some((before, now)) = stepped else { continue };
            let cause = if now < before { "spool_fills" } else { "spool_drains" };
            events::level_stepped(before, now, fill);
            let facts = vec![
                Field::structure(names::LEVEL, now.as_str()),
                Field::structure(names::LEVEL_BEFORE, before.as_str()),
                Field::structure(names::LEVEL_CAUSE, cause),
                Field::structure(names::AGENT_SPOOL_BYTES, fill.bytes),
                Field::structure(names::AGENT_SPOOL_LIMIT, fill.limit),
            ];
            self.fact(EntryType::Level, facts)?;
        }
    }
}
