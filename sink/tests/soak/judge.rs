//! What was promised and offered, compared with what the sink's folder and the hosts' folders hold in the end, and with
//! what `custody verify` says of it. It asks no part of the product but the readers of its formats, and that command.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use custody_agent::identity::Identity;
use custody_ledger::batch::EntryView;
use custody_ledger::segment::{Reader, RecordKind};
use custody_ledger::statement::{Signed, Stated};
use custody_ledger::{Batch, EntryType, Hash, HostId, Statement, tree};
use custody_record::{Record, names};
use custody_tests::stand::built;
use serde_json::{Value, json};

use crate::oracle;
use crate::seen::Seen;

/// Most sentences about what is wrong that are kept of one kind.
const WRONG_MAX: usize = 20;

/// The hosts that an older or a second state was given.
#[derive(Default)]
pub(crate) struct WentBack {
    pub(crate) hosts: BTreeSet<HostId>,
    /// Those of them of which the sink must have noticed.
    pub(crate) noticed: BTreeSet<HostId>,
    /// Folders of the other hosts.
    pub(crate) untouched: BTreeSet<PathBuf>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Judgement {
    /// Figures, by name.
    pub(crate) figures: BTreeMap<&'static str, u64>,
    /// What `custody verify` found, by kind.
    pub(crate) findings: BTreeMap<String, u64>,
    pub(crate) verdict: String,
    /// What is not as it must be.
    pub(crate) wrong: Vec<String>,
}

/// What a store holds, as far as it is compared.
#[derive(Default)]
struct Stored {
    /// Bodies that hosts offered, with how often they stand there.
    records: HashMap<Hash, u32>,
    /// By the index of its leaf: the hash of a batch.
    leaves: Vec<Option<Hash>>,
    equivocations: BTreeSet<(oracle::Place, Hash)>,
    /// Batches by their hashes.
    batches: HashSet<Hash>,
    /// Records that a host had no room for and counted, by host.
    dropped: HashMap<HostId, u64>,
    /// Entries by which hosts say that the log is not the one that they know.
    alarms: u64,
}

impl Stored {
    fn read(state: &Path) -> Result<Self> {
        let mut stored = Stored::default();
        for record in oracle::records(state) {
            let mut leaf = None;
            match record.kind {
                RecordKind::Batch => {
                    leaf = Some(Batch::decode_header(&record.payload)?.1.hash);
                    stored.batches.extend(leaf);
                    let batch = Batch::decode(&record.payload)?;
                    let alarms = of_type(&batch, EntryType::LogAlarm);
                    stored.alarms += alarms.count() as u64;
                    *stored.dropped.entry(batch.header.host).or_default() += no_room_for(&batch)?;
                    for body in bodies(&record.payload)? {
                        *stored.records.entry(body).or_default() += 1;
                    }
                }
                RecordKind::Statement => {
                    let statement: Statement = Signed::open(&record.payload)?.0;
                    if let (Some(host), Stated::Equivocation { other, .. }) = (statement.host, statement.what)
                    {
                        let place = (host, other.epoch.counter, other.number.0);
                        stored.equivocations.insert((place, other.hash));
                    }
                }
                _ => {}
            }
            stored.leaves.push(leaf);
        }
        Ok(stored)
    }
}

fn of_type<'b>(batch: &'b Batch<'b>, kind: EntryType) -> impl Iterator<Item = &'b EntryView<'b>> {
    batch.entries.iter().filter(move |entry| entry.header.entry_type == kind)
}

/// For how many records the gaps of a batch stand because the spool had no room for them.
fn no_room_for(batch: &Batch<'_>) -> Result<u64> {
    let mut all = 0;
    for gap in of_type(batch, EntryType::Gap).filter_map(|entry| entry.body) {
        let fields = Record::decode(gap.bytes)?.fields;
        let is_full = fields.get(names::GAP_CAUSE) == Some(&custody_record::Value::from("spool_full"));
        if let (true, Some(custody_record::Value::Unsigned(count))) = (is_full, fields.get(names::GAP_EVENTS))
        {
            all += count;
        }
    }
    Ok(all)
}

/// The bodies of a batch that are no agent's own.
fn bodies(frame: &[u8]) -> Result<Vec<Hash>> {
    let entries = Batch::decode(frame)?.entries.into_iter();
    let offered = entries.filter(|entry| entry.header.entry_type == EntryType::Exchange);
    offered.map(|entry| Ok(tree::hash_of(entry.body.context("a body is withheld")?.bytes))).collect()
}

/// What is in spools and was put aside, anywhere below a folder.
#[derive(Default)]
struct Kept {
    /// Bodies that hosts offered.
    records: HashSet<Hash>,
    /// Frames by the hashes of their batches: copies of a state hold the same ones.
    frames: HashMap<Hash, Vec<u8>>,
}

impl Kept {
    fn read(&mut self, folder: &Path) -> Result<()> {
        for item in std::fs::read_dir(folder)? {
            let path = item?.path();
            if path.is_dir() {
                self.read(&path)?;
                continue;
            }
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("seg") => {
                    let file = std::io::BufReader::new(std::fs::File::open(path)?);
                    for record in Reader::open(file).into_iter().flatten().map_while(Result::ok) {
                        self.take(record.payload)?;
                    }
                }
                Some("batch") => self.take(std::fs::read(path)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Vec<u8>) -> Result<()> {
        self.records.extend(bodies(&frame)?);
        self.frames.insert(Batch::decode_header(&frame)?.1.hash, frame);
        Ok(())
    }
}

/// Hashes of what one start offered, in order. What was not written whole was not offered.
fn offered(path: &Path) -> Result<Vec<Hash>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().ok().context("an offered hash")).collect()
}

/// The file that says that a start ended in order.
fn stopped_name(offered: &Path) -> String {
    let name = offered.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.replace("offered-", "stopped-")
}

/// The files of all starts below the folders of hosts and clones.
fn starts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for host in std::fs::read_dir(folder)? {
        let host = host?.path();
        if !host.is_dir() {
            continue;
        }
        for item in std::fs::read_dir(host)? {
            let path = item?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("offered-") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

impl Judgement {
    /// Of a stopped sink and stopped hosts, whose folders lie in this one.
    pub(crate) fn of(state: &Path, folder: &Path, seen: &Seen, went_back: &WentBack) -> Result<Self> {
        let mut judgement = Judgement::default();
        if let Err(difference) = seen.oracle.compare(state) {
            judgement.wrong.push(format!("receipts: {difference}"));
        }
        let stored = Stored::read(state)?;
        judgement.promises(&stored, seen);
        judgement.records(&stored, folder, went_back)?;
        judgement.verify(state, went_back)?;
        judgement.figures.insert("stored receipts", seen.oracle.receipts() as u64);
        judgement.figures.insert("committed receipts", seen.committed.len() as u64);
        Ok(judgement)
    }

    fn wrong(&mut self, kind: &'static str, sentences: impl Iterator<Item = String>) {
        let mut count = 0;
        for sentence in sentences {
            count += 1;
            if count <= WRONG_MAX {
                self.wrong.push(sentence);
            }
        }
        self.figures.insert(kind, count as u64);
    }

    /// What was said to be in the log is there at that index, and what was said to be kept beside another one is kept.
    fn promises(&mut self, stored: &Stored, seen: &Seen) {
        let is_there = |hash: &Hash, index: u64| {
            usize::try_from(index).ok().and_then(|index| stored.leaves.get(index)) == Some(&Some(*hash))
        };
        let elsewhere = seen.committed.iter().filter(|(_, (hash, index))| !is_there(hash, *index));
        self.wrong(
            "committed and not there",
            elsewhere.map(|(place, _)| format!("{place:?} is not in the log as it was said")),
        );
        let unstated = seen.equivocations.difference(&stored.equivocations);
        self.wrong(
            "equivocations not stated",
            unstated.map(|(place, _)| format!("{place:?}: another one was refused, and is not kept")),
        );
        if seen.moved > 0 {
            self.wrong.push(format!("{} batches were said to be at two places of the log", seen.moved));
        }
        if stored.alarms > 0 {
            self.wrong.push(format!("{} times a host was alarmed by a log that only grew", stored.alarms));
        }
        self.figures.insert("equivocations", seen.equivocations.len() as u64);
        self.figures.insert("leaves", stored.leaves.len() as u64);
    }

    /// Of each start what is recorded is all that it offered up to some record: it may have died before the rest was
    /// durable, unless it was stopped. What is in between and not at the sink is on the host, put aside, or in a state that
    /// was taken away; of hosts that never went back it is at the sink. For what its spool had no room a gap of the host
    /// stands with the count, at the sink or where its batch is kept.
    fn records(&mut self, stored: &Stored, folder: &Path, went_back: &WentBack) -> Result<()> {
        let mut kept = Kept::default();
        kept.read(folder)?;
        let (mut all, mut lost) = (HashSet::new(), Vec::new());
        let (mut aside, mut counted, mut tails, mut stopped) = (0, 0, 0, 0);
        let mut dropped = stored.dropped.clone();
        for (_, frame) in kept.frames.iter().filter(|(hash, _)| !stored.batches.contains(*hash)) {
            let batch = Batch::decode(frame)?;
            *dropped.entry(batch.header.host).or_default() += no_room_for(&batch)?;
        }
        let kept = kept.records;
        for start in starts(folder)? {
            let offered = offered(&start)?;
            let is_there = |hash: &Hash| stored.records.contains_key(hash);
            let known = offered.iter().rposition(|hash| is_there(hash) || kept.contains(hash));
            let has_stopped = start.with_file_name(stopped_name(&start)).exists();
            let end = if has_stopped { offered.len() } else { known.map_or(0, |last| last + 1) };
            let host = start.parent().context("a start has a host")?;
            let mut room_lacked = dropped.get_mut(&Identity::load(&host.join("state"))?.facts.host);
            for hash in offered[..end].iter().filter(|hash| !is_there(hash)) {
                if kept.contains(hash) && !went_back.untouched.contains(host) {
                    aside += 1;
                } else if let Some(left) = room_lacked.as_deref_mut().filter(|left| **left > 0) {
                    *left -= 1;
                    counted += 1;
                } else {
                    lost.push(format!("{}: {hash} is missing", start.display()));
                }
            }
            stopped += u64::from(has_stopped);
            tails += (offered.len() - end) as u64;
            all.extend(offered);
        }
        let invented = stored.records.keys().filter(|hash| !all.contains(*hash));
        let twice = stored.records.iter().filter(|(_, count)| **count > 1);
        let twice: Vec<_> = twice.map(|(hash, count)| format!("{hash} is there {count} times")).collect();
        let invented: Vec<_> = invented.map(|hash| format!("nobody offered {hash}")).collect();
        self.figures.insert("records offered", all.len() as u64);
        self.figures.insert("records recorded", stored.records.len() as u64);
        self.figures.insert("kept on hosts only", aside);
        self.figures.insert("counted as gaps", counted);
        self.figures.insert("never durable", tails);
        self.figures.insert("starts that ended in order", stopped);
        self.wrong("lost", lost.into_iter());
        self.wrong("invented", invented.into_iter());
        self.wrong("recorded twice", twice.into_iter());
        Ok(())
    }

    /// The command names what was done, and nothing else.
    fn verify(&mut self, state: &Path, went_back: &WentBack) -> Result<()> {
        let mut command = Command::new(built("custody"));
        command.args(["verify", "-o", "json", "--from"]).arg(state).env("CUSTODY_HOME", state.join("nobody"));
        let output = command.output().context("custody verify")?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("custody verify: {}", String::from_utf8_lossy(&output.stderr)))?;
        self.verdict = report["verdict"].as_str().unwrap_or_default().to_owned();
        let mut named = BTreeSet::new();
        for host in report["hosts"].as_array().into_iter().flatten() {
            let id: HostId = host["host"].as_str().and_then(|id| id.parse().ok()).context("a host's id")?;
            let findings = host["findings"].as_array().into_iter().flatten();
            let kinds = findings.filter_map(|finding| finding.as_object()?.keys().next().cloned());
            let statements = host["statements"].as_array().into_iter().flatten();
            let mut of_host = 0;
            for kind in kinds.chain(statements.map(|_| "statement".to_owned())) {
                of_host += 1;
                *self.findings.entry(kind).or_default() += 1;
            }
            if of_host > 0 {
                named.insert(id);
            }
            if of_host > 0 && !went_back.hosts.contains(&id) {
                let what = json!([host["findings"], host["statements"]]);
                self.wrong.push(format!("custody verify says of {id}, to which nothing was done: {what}"));
            }
            if host["faults"].as_array().is_none_or(|faults| !faults.is_empty()) {
                self.wrong.push(format!("custody verify says of {id}: {}", host["faults"]));
            }
        }
        for id in went_back.noticed.difference(&named) {
            self.wrong.push(format!("custody verify says nothing of {id}, which went back"));
        }
        let expected = if named.is_empty() { "verified" } else { "incomplete" };
        if self.verdict != expected {
            self.wrong.push(format!("custody verify says {}, not {expected}", self.verdict));
        }
        for part in
            [&report["store"], &report["log"]["faults"], &report["log"]["forks"], &report["statements"]]
        {
            if part.as_array().is_none_or(|sentences| !sentences.is_empty()) {
                self.wrong.push(format!("custody verify says of the store: {part}"));
            }
        }
        Ok(())
    }
}
