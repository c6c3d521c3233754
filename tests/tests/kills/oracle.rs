//! What must hold whoever dies: it keeps the receipts and the stored bytes that it saw, knows what the clients
//! sent, and compares both with the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use custody_tests::stand::{Stand, field};
use serde_json::Value;

use crate::load::Answered;

/// Records of one moment do not come in the order of their times: what two threads do at once, and what waits
/// for its answer.
const DISORDER_NS: i64 = 1_500_000_000;

/// So far before and behind a request that is missing is told what the record says.
const AROUND_NS: i64 = 5_000_000_000;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Newest acknowledged batch by epoch, as the agent told it.
    acknowledged: BTreeMap<u64, u64>,
    /// The sink's segment files as they were at the last look.
    stored: BTreeMap<PathBuf, Vec<u8>>,
}

impl Oracle {
    /// Keeps the newest receipt that the agent shows, and what the sink has on disk. A dead or starting agent
    /// shows none.
    pub(crate) fn look(&mut self, stand: &Stand) -> Result<()> {
        if let Ok(status) = stand.status() {
            let text = status["acknowledged"].as_str().unwrap_or_default();
            if let Some((epoch, batch)) = text.split_once('/') {
                let newest = self.acknowledged.entry(epoch.parse()?).or_default();
                *newest = (*newest).max(batch.parse()?);
            }
        }
        self.stored = files(stand, "segments")?;
        Ok(())
    }

    /// How many receipts were seen, at least: each acknowledges all batches before.
    pub(crate) fn receipts(&self) -> u64 {
        self.acknowledged.values().map(|batch| batch + 1).sum()
    }

    /// Nothing that was stored has changed. Only a sink that died in the middle of writing may cut what it had not
    /// finished, and so not acknowledged, off the end; it keeps it aside.
    pub(crate) fn bytes_are_equal(&self, stand: &Stand) -> Result<()> {
        let now = files(stand, "segments")?;
        for (path, before) in &self.stored {
            let after = now.get(path).with_context(|| format!("{} is gone", path.display()))?;
            let same = before.iter().zip(after).take_while(|(one, other)| one == other).count();
            let cut = before.get(same..).unwrap_or_default();
            let aside = files(stand, "torn")?;
            ensure!(
                cut.is_empty() || aside.values().any(|torn| torn.windows(cut.len()).any(|part| part == cut)),
                "{}: changed from byte {same} of {}",
                path.display(),
                before.len()
            );
        }
        Ok(())
    }

    /// The whole store verifies, and holds each batch that was acknowledged.
    pub(crate) fn acknowledged_is_stored(&self, stand: &Stand) -> Result<()> {
        let store = stand.folder.join("sink");
        let output = Command::new(stand.binary("custody"))
            .args(["verify", "-o", "json", "--from"])
            .arg(&store)
            .output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        // An epoch whose agent died has no end: that is said, and is no alteration.
        ensure!(report["verdict"] != "altered", "{report:#}");
        let epochs: BTreeMap<u64, u64> = report["hosts"][0]["epochs"]
            .as_array()
            .context("no epochs")?
            .iter()
            .filter_map(|epoch| Some((epoch["epoch"]["counter"].as_u64()?, epoch["batches"].as_u64()?)))
            .collect();
        for (epoch, batch) in &self.acknowledged {
            let stored = epochs.get(epoch).copied().unwrap_or(0);
            ensure!(
                stored > *batch,
                "batch {epoch}/{batch} was acknowledged, {stored} of that epoch are there"
            );
        }
        Ok(())
    }
}

fn files(stand: &Stand, folder: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    std::fs::read_dir(stand.folder.join("sink").join(folder))?
        .map(|entry| {
            let path = entry?.path();
            let bytes = std::fs::read(&path)?;
            Ok((path, bytes))
        })
        .collect()
}

/// A time in which nothing was recorded, and which the record itself names.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: i64,
    to: i64,
}

impl Hole {
    fn covers(&self, request: &Answered) -> bool {
        request.sent <= self.to && request.answered >= self.from
    }
}

/// What the record names.
#[derive(Default)]
struct Holes {
    /// By the deaths of worker or agent.
    deaths: Vec<Hole>,
    /// When rings were full: while no worker ran, or one had no core.
    rings: Vec<Hole>,
    /// Events that the record counts as lost then.
    lost: u64,
    /// How many, by cause.
    causes: BTreeMap<String, usize>,
}

/// Each answered request stands in the record exactly once, or its time lies in a hole that the record names.
/// Returns how many are missing, and how many holes there are by cause.
pub(crate) fn requests_are_recorded_once(
    records: &[Value],
    port: u16,
    answered: &[Answered],
) -> Result<(usize, BTreeMap<String, usize>)> {
    let mut recorded: BTreeMap<String, usize> = BTreeMap::new();
    for line in records.iter().filter(|line| field(line, "server.port") == port) {
        // An open exchange is named again when it ends.
        if matches!(line["type"].as_str(), Some("exchange" | "exchange.open")) {
            let query = field(line, "url.query").as_str().unwrap_or_default();
            *recorded.entry(query.to_owned()).or_default() += 1;
        }
    }
    let holes = holes(records)?;
    let (mut missing, mut at_full_rings) = (0, 0);
    for request in answered {
        match recorded.get(&format!("n={}", request.number)) {
            Some(1) => {}
            Some(times) => bail!("{request:?} stands {times} times in the record"),
            None if holes.deaths.iter().any(|hole| hole.covers(request)) => missing += 1,
            None if holes.rings.iter().any(|hole| hole.covers(request)) => at_full_rings += 1,
            None => {
                let around = told_around(records, request);
                bail!("{request:?} is missing, and no hole covers it; the record says of that time: {around}")
            }
        }
    }
    // A request is several events.
    let lost = holes.lost;
    ensure!(
        at_full_rings <= lost,
        "{at_full_rings} requests are missing where {lost} events are counted as lost"
    );
    Ok((missing + at_full_rings as usize, holes.causes))
}

/// What else the record tells around a request than exchanges: gaps and counters, which say where to look.
fn told_around(records: &[Value], request: &Answered) -> String {
    let near = |line: &&Value| {
        let wall = line["wall"].as_i64().unwrap_or_default();
        let is_near = (request.sent - AROUND_NS..request.answered + AROUND_NS).contains(&wall);
        is_near && !matches!(line["type"].as_str(), Some("exchange" | "session.open" | "exec" | "exit"))
    };
    let closed_whole = |line: &&Value| {
        line["type"] != "session.close"
            || field(line, "custody.bytes.lost").as_u64().is_some_and(|lost| lost > 0)
    };
    records.iter().filter(near).filter(closed_whole).map(|line| format!("\n{line}")).collect()
}

/// A death of worker or agent leaves a hole from what was last seen before to what was first seen after; what a full ring
/// dropped is counted when the next event finds room.
fn holes(records: &[Value]) -> Result<Holes> {
    let mut holes = Holes::default();
    let mut last_seen = 0;
    let mut open: Vec<Hole> = Vec::new();
    for line in records {
        let wall = line["wall"].as_i64().context("wall")?;
        match line["type"].as_str().context("type")? {
            "gap" => {
                let cause = field(line, "custody.gap.cause").as_str().unwrap_or_default().to_owned();
                match cause.as_str() {
                    "agent_restart" | "worker_restart" => {
                        open.push(Hole { from: last_seen - DISORDER_NS, to: 0 });
                    }
                    "ring_full" => {
                        holes.lost += field(line, "custody.gap.events").as_u64().unwrap_or_default();
                        holes.rings.push(Hole { from: wall - DISORDER_NS, to: wall + DISORDER_NS });
                    }
                    _ => {}
                }
                *holes.causes.entry(cause).or_default() += 1;
            }
            "exec" | "exit" | "session.open" | "exchange" => {
                last_seen = last_seen.max(wall);
                holes.deaths.extend(open.drain(..).map(|hole| Hole { to: wall + DISORDER_NS, ..hole }));
            }
            _ => {}
        }
    }
    holes.deaths.append(&mut open);
    Ok(holes)
}
