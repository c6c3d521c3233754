//! The log beside a store: its tree built again from the records and compared with every tile, with the signed
//! checkpoint, with what hosts echo of it, and with checkpoints that were kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::tlog::leaf::LeafError;
use custody_ledger::tlog::tile::{self, TILE_WIDTH, TileKind};
use custody_ledger::tlog::{Checkpoint, CheckpointReference, MemoryTree, Note, NoteKey, Tile, leaf};
use custody_ledger::verify::{LogDifference, judge_checkpoint};
use custody_ledger::{Batch, Hash, HostId, Position, PublicKey, tree};
use serde::Serialize;

use super::is_left_out;
use crate::log_folder::LogFolder;
use crate::profile;

/// Sentences that are kept.
const FAULTS_MAX: usize = 100;
/// Folders of a tile's path: its level, up to six groups of three digits of its index, the partial ones.
const TILE_FOLDERS_MAX: usize = 8;
/// Different checkpoints of hosts that are compared; the count of others is told.
const ECHOES_MAX: usize = 1 << 20;

/// What was found of the log.
#[derive(Debug, Default, Serialize)]
pub(super) struct LogPart {
    /// Its name; `null` when there is no log that can be read.
    pub(super) origin: Option<String>,
    /// Records under its checkpoint.
    pub(super) size: u64,
    /// Root over them.
    pub(super) root: Option<Hash>,
    /// Records behind the checkpoint: stored, and not committed yet.
    pub(super) uncommitted: u64,
    /// Different checkpoints that hosts echo and that are of this tree.
    pub(super) echoes: usize,
    /// What does not hold of its files.
    pub(super) faults: Vec<String>,
    /// Checkpoints held elsewhere that are none of this tree: it was rolled back or forked.
    pub(super) forks: Vec<String>,
}

/// What one record is in the log: most of the work of checking it, and none that needs the records before it.
pub(super) struct Leaf {
    /// Its bytes and their hash.
    leaf: Result<(Vec<u8>, Hash), LeafError>,
    /// The checkpoint that its batch echoes, and whose batch that is.
    echo: Option<(CheckpointReference, HostId, Position)>,
}

impl Leaf {
    pub(super) fn of(record: &Record) -> Self {
        let leaf = leaf::of_record(record).map(|leaf| {
            let hash = tree::leaf(&leaf);
            (leaf, hash)
        });
        let is_batch = record.kind == RecordKind::Batch;
        let head = is_batch.then(|| Batch::decode_header(&record.payload).ok()).flatten();
        let echo = head.and_then(|(header, position)| Some((header.checkpoint?, header.host, position)));
        Leaf { leaf, echo }
    }
}

/// The log while the records are read.
pub(super) struct LogCheck {
    log: LogFolder,
    size: u64,
    tree: MemoryTree,
    bundle: Vec<u8>,
    /// The tiles that lie there. Partial ones of older sizes may be gone; one that is there must hold what it should.
    tiles: BTreeSet<Tile>,
    /// Who holds which checkpoint.
    echoes: BTreeMap<CheckpointReference, String>,
    echoes_more: u64,
    held: Vec<(String, Note)>,
    part: LogPart,
}

impl LogCheck {
    /// Looks for the log of the store in `directory`; `kept` is a file with a checkpoint from before.
    pub(super) fn open(directory: &Path, kept: Option<&Path>) -> anyhow::Result<Self> {
        let log = LogFolder::find(directory)?;
        // Not believed yet: it only says up to where tiles are expected.
        let size = log.note.as_ref().and_then(|note| note.lines().nth(1)?.parse().ok()).unwrap_or(0);
        let (mut held, mut part) = (Vec::new(), LogPart::default());
        if let Some(path) = kept {
            let shown = path.display().to_string();
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
            let note = text.parse().with_context(|| format!("{shown} holds no checkpoint"))?;
            held.push((format!("the checkpoint in {shown}"), note));
        }
        if let Some(text) = &log.witnessed {
            match text.parse() {
                Ok(note) => held.push(("the checkpoint that witnesses cosigned".to_owned(), note)),
                Err(_) => part.faults.push("log/checkpoint.witnessed holds no checkpoint".to_owned()),
            }
        }
        let tiles = log.path.as_deref().map(tiles_in).transpose()?.unwrap_or_default();
        Ok(LogCheck {
            log,
            size,
            tree: MemoryTree::default(),
            bundle: Vec::new(),
            tiles,
            echoes: BTreeMap::new(),
            echoes_more: 0,
            held,
            part,
        })
    }

    fn fault(&mut self, sentence: String) {
        if self.part.faults.len() < FAULTS_MAX && !is_left_out(&sentence) {
            self.part.faults.push(sentence);
        }
    }

    /// Takes the leaf of the store's next record.
    pub(super) fn leaf(&mut self, Leaf { leaf, echo }: Leaf) {
        let (leaf, hash) = match leaf {
            Ok(leaf) => leaf,
            // The store's own checks tell more of it; without its leaf the tree has another root.
            Err(error) => return self.fault(format!("a record has no leaf in the log: {error}")),
        };
        self.tree.push(hash);
        if tile::put_entry(&mut self.bundle, &leaf).is_none() {
            self.fault("a record is too long for the log".to_owned());
        }
        let (size, width) = (self.tree.size(), u64::from(TILE_WIDTH));
        let must_be_there = size == self.size || (size.is_multiple_of(width) && size < self.size);
        if let Some(tile) = Tile::in_tree(TileKind::Entries, (size - 1) / width, size)
            && (must_be_there || self.tiles.contains(&tile))
        {
            let bundle = std::mem::take(&mut self.bundle);
            self.compare(tile, &bundle);
            self.bundle = bundle;
        }
        if size.is_multiple_of(width) {
            self.bundle.clear();
        }
        if let Some((echoed, host, batch)) = echo {
            self.echo(echoed, || format!("host {host} in {batch}"));
        }
    }

    fn echo(&mut self, echoed: CheckpointReference, who: impl FnOnce() -> String) {
        if self.echoes.len() >= ECHOES_MAX && !self.echoes.contains_key(&echoed) {
            self.echoes_more += 1;
            return;
        }
        self.echoes.entry(echoed).or_insert_with(who);
    }

    /// Compares a published tile with what the records give. A partial one that is gone stands at the beginning of the
    /// full one.
    fn compare(&mut self, tile: Tile, expected: &[u8]) {
        let Some(folder) = &self.log.path else { return };
        let read = |tile: Tile| fs::read(folder.join(tile.path()));
        let holds = match read(tile) {
            Ok(bytes) => Ok(bytes == expected),
            Err(_) => read(Tile { width: TILE_WIDTH, ..tile }).map(|bytes| bytes.starts_with(expected)),
        };
        match holds {
            Ok(true) => {}
            Ok(false) => self.fault(format!("log/{} is not what the records give", tile.path())),
            Err(error) => self.fault(format!("log/{} cannot be read: {error}", tile.path())),
        }
    }

    /// Compares all with what was signed and held. `sink` is the key that the records are signed with.
    pub(super) fn finish(mut self, sink: Option<PublicKey>, remember: bool) -> LogPart {
        // What other threads said, which do not know what is left out here.
        self.part.faults.retain(|sentence| !is_left_out(sentence));
        // Where records are missing the edge of what is here was never published.
        let here = self.tree.size();
        let tiles = Tile::all_in_tree(self.size.min(here)).filter(|tile| tile.is_full() || here >= self.size);
        let mut tiles: BTreeSet<Tile> = tiles.collect();
        tiles.extend(&self.tiles);
        for tile in tiles {
            if let TileKind::Hashes(level) = tile.kind
                && let Some(hashes) = self.tree.tile(level, tile.index, tile.width)
            {
                let bytes = tile::hashes_bytes(hashes);
                self.compare(tile, &bytes);
            }
        }
        match self.checkpoint(sink) {
            Ok(Some((log, checkpoint))) => self.compare_checkpoint(&log, &checkpoint, remember),
            Ok(None) => {}
            Err(error) => self.fault(format!("{error:#}")),
        }
        self.part
    }

    /// The log's key and its checkpoint, both verified.
    fn checkpoint(&self, sink: Option<PublicKey>) -> anyhow::Result<Option<(NoteKey, Checkpoint)>> {
        let (Some(note), Some(sink)) = (&self.log.note, sink) else { return Ok(None) };
        let log = self.log.key()?.verify(&sink)?;
        let checkpoint = Checkpoint::open_text(note, &log).context("the log's checkpoint does not hold")?;
        Ok(Some((log, checkpoint)))
    }

    fn compare_checkpoint(&mut self, log: &NoteKey, checkpoint: &Checkpoint, remember: bool) {
        let here = self.tree.size();
        self.part.origin = Some(checkpoint.origin.clone());
        (self.part.size, self.part.root) = (checkpoint.size, Some(checkpoint.root));
        self.part.uncommitted = here.saturating_sub(checkpoint.size);
        match self.tree.root(checkpoint.size) {
            None => self.fault(format!(
                "the log's checkpoint is over {} records, and {here} are here: records were taken out",
                checkpoint.size
            )),
            Some(root) if root != checkpoint.root => self.fault(format!(
                "the {} records under the log's checkpoint are not those that are here: they were changed, reordered or \
                 exchanged",
                checkpoint.size
            )),
            Some(_) => {}
        }
        for (echoed, who) in std::mem::take(&mut self.echoes) {
            let holds = self.judge(&echoed, &format!("the checkpoint of {who}"), &checkpoint.origin);
            self.part.echoes += usize::from(holds);
        }
        if self.echoes_more > 0 {
            self.fault(format!("{} checkpoints that hosts hold were too many to compare", self.echoes_more));
        }
        let remembered = if remember { profile::checkpoint(&checkpoint.origin) } else { None };
        let remembered = remembered.and_then(|text| text.parse().ok());
        self.held.extend(remembered.map(|note| ("the checkpoint that you saw last".to_owned(), note)));
        for (who, note) in std::mem::take(&mut self.held) {
            match Checkpoint::open(&note, log) {
                Ok(held) => {
                    self.judge(&held.reference(), &who, &checkpoint.origin);
                }
                Err(error) => self.fork(format!("{who} is none of this log: {error}")),
            }
        }
        if remember && self.part.forks.is_empty() && self.part.faults.is_empty() {
            // Without it the next look compares with an older one, which is weaker and not wrong.
            let _ =
                profile::keep_checkpoint(&checkpoint.origin, self.log.note.as_deref().unwrap_or_default());
        }
    }

    fn judge(&mut self, held: &CheckpointReference, who: &str, origin: &str) -> bool {
        let Some(difference) = judge_checkpoint(held, origin, |size| self.tree.root(size)) else {
            return true;
        };
        self.fork(difference_words(difference, held, who, self.tree.size()));
        false
    }

    fn fork(&mut self, sentence: String) {
        if self.part.forks.len() < FAULTS_MAX && !is_left_out(&sentence) {
            self.part.forks.push(sentence);
        }
    }
}

/// The tiles below a log's folder. Names that are none are left alone.
fn tiles_in(folder: &Path) -> anyhow::Result<BTreeSet<Tile>> {
    let mut tiles = BTreeSet::new();
    let mut folders = vec![(PathBuf::from("tile"), 0)];
    while let Some((below, depth)) = folders.pop() {
        let path = folder.join(&below);
        // A log without a tile is told by the tiles that must be there.
        if !path.is_dir() {
            continue;
        }
        for item in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
            let item = item.with_context(|| format!("cannot list {}", path.display()))?;
            let name = below.join(item.file_name());
            if item.file_type().is_ok_and(|kind| kind.is_dir()) && depth < TILE_FOLDERS_MAX {
                folders.push((name, depth + 1));
            } else {
                tiles.extend(name.to_str().and_then(Tile::parse));
            }
        }
    }
    Ok(tiles)
}

pub(in crate::commands) fn difference_words(
    difference: LogDifference,
    held: &CheckpointReference,
    who: &str,
    here: u64,
) -> String {
    match difference {
        LogDifference::Smaller => {
            format!("ROLLED BACK: {who} is over {} records, and {here} are here", held.size)
        }
        LogDifference::OtherRoot => {
            format!("FORKED: {who} is over other {} records than those that are here", held.size)
        }
        LogDifference::OtherOrigin => format!("{who} is of another log, {}", held.origin),
    }
}

#[cfg(test)]
pub(super) mod tests;
