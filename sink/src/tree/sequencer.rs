//! Rounds: records that are durable in the store become leaves, leaves tiles, tiles a checkpoint. Each start goes
//! through the same rounds; after any failure the process must start again.

use std::sync::Arc;

use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::tlog::checkpoint::log_key;
use custody_ledger::tlog::{Checkpoint, Edge, NoteKey, TileNodes, leaf, proof};
use custody_ledger::{Batch, LogKey};

use super::database::{Database, Head, LeafRow};
use super::files::{CHECKPOINT, Files};
use super::{Published, TreeError};
use crate::store::{Place, Store, StoreError};

/// Leaves of one round; few in tests, so that a log of some hundred takes several.
const LEAVES_MAX: u64 = if cfg!(test) { 128 } else { 4096 };
/// Bytes of leaves of one round.
const LEAF_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Sequencer {
    store: Arc<Store>,
    database: Arc<Database>,
    files: Arc<Files>,
    key: LogKey,
    log: NoteKey,
    /// As the database has it.
    head: Option<Head>,
    edge: Edge,
    /// The checkpoint that stood there at the start. A tree that is built again must come to it before anything is
    /// signed.
    before: Option<Checkpoint>,
}

impl Sequencer {
    /// Takes up where the database stands: what was staged is written again, the edge of the tree read and compared.
    pub(super) fn open(
        store: Arc<Store>,
        database: Arc<Database>,
        files: Arc<Files>,
        key: LogKey,
    ) -> Result<Self, TreeError> {
        let log = log_key(key.public());
        let before = files.checkpoint(&log)?;
        let head = database.head()?;
        for (tile, bytes) in database.stage()? {
            files.write_once(&tile.path(), &bytes)?;
            if tile.is_full() {
                files.remove_partials(tile)?;
            }
        }
        let (size, root) = head.as_ref().map_or((0, Edge::default().root()), |head| (head.size, head.root));
        let edge = Edge::load(size, |tile| files.tile(tile)).map_err(|error| match error {
            custody_ledger::tlog::edge::EdgeError::Read(error) => error,
            other => TreeError::Damaged(other.to_string()),
        })?;
        if edge.root() != root {
            return Err(TreeError::Damaged(format!(
                "the tiles at the edge of the tree of {size} leaves do not give its root; restore the folder `log` from a \
                 copy, or move tree.redb away and the damaged tile too, to have them written again"
            )));
        }
        if let Some(before) = before.as_ref().filter(|before| before.size <= size) {
            let nodes = TileNodes::new(size, |tile| files.tile(tile));
            demand_same(proof::root(&nodes, before.size)? == before.root, before.size)?;
        }
        let sequencer = Sequencer { store, database, files, key, log, head, edge, before };
        // What stands there may be newer than the database, if that was restored from a copy: nothing goes back.
        if sequencer.before.as_ref().is_none_or(|before| before.size < size) {
            sequencer.publish()?;
        }
        Ok(sequencer)
    }

    /// Up to where the store's records are leaves.
    pub(super) fn covered(&self) -> Place {
        self.head.as_ref().map_or(Place { segment: 0, offset: 0 }, |head| head.covered)
    }

    /// Rounds until all of the store is in the tree.
    pub(super) fn catch_up(&mut self) -> Result<(), TreeError> {
        while self.round()? {}
        let before = self.before.as_ref().map_or(0, |before| before.size);
        if self.edge.size() < before {
            return Err(TreeError::Damaged(format!(
                "its checkpoint names {before} records, and the segments hold {}: segments are missing, restore them from \
                 a copy",
                self.edge.size()
            )));
        }
        Ok(())
    }

    /// The newest checkpoint. After [`Sequencer::catch_up`] there is one.
    pub(super) fn published(&self) -> Published {
        let checkpoint = self.checkpoint();
        let note = self.head.as_ref().and_then(|head| head.checkpoint.clone()).unwrap_or_default();
        Published { checkpoint, note }
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.log.name().to_owned(), size: self.edge.size(), root: self.edge.root() }
    }

    /// One round; whether there may be more.
    fn round(&mut self) -> Result<bool, TreeError> {
        let before = self.before.as_ref().map_or(0, |before| before.size);
        let size = self.edge.size();
        // A tree that is built again stops at the size of its old checkpoint, to be compared.
        let most = if size < before { LEAVES_MAX.min(before - size) } else { LEAVES_MAX };
        let (covered, leaves) = self.take_leaves(most)?;
        let is_signed = self.head.as_ref().is_some_and(|head| head.checkpoint.is_some());
        if self.edge.size() == size && (is_signed || size < before) {
            return Ok(false);
        }
        let checkpoint = self.checkpoint();
        if checkpoint.size == before {
            demand_same(self.before.as_ref().is_none_or(|b| b.root == checkpoint.root), before)?;
        }
        let signed = (checkpoint.size >= before).then(|| checkpoint.sign(&self.key).to_string());
        let next = Head { size: checkpoint.size, root: checkpoint.root, covered, checkpoint: signed };
        let tiles = self.edge.take_tiles();
        self.database.swap(self.head.as_ref(), &next, &tiles, &leaves)?;
        self.head = Some(next);
        for (tile, bytes) in &tiles {
            self.files.write_once(&tile.path(), bytes)?;
        }
        self.publish()?;
        for (tile, _) in tiles.iter().filter(|(tile, _)| tile.is_full()) {
            self.files.remove_partials(*tile)?;
        }
        Ok(true)
    }

    fn take_leaves(&mut self, most: u64) -> Result<(Place, Vec<LeafRow>), TreeError> {
        let mut leaves = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let edge = &mut self.edge;
        let from = self.head.as_ref().map_or(Place { segment: 0, offset: 0 }, |head| head.covered);
        let covered = self.store.records(from, |record| {
            let damaged = |detail: String| StoreError::Damaged { detail };
            let leaf =
                leaf::of_record(record).map_err(|error| damaged(format!("a record has no leaf: {error}")))?;
            leaves.extend(leaf_row(record, edge.size()).map_err(damaged)?);
            edge.push(&leaf).ok_or_else(|| damaged("a record's leaf is too long".to_owned()))?;
            count += 1;
            bytes += leaf.len();
            Ok(count < most && bytes < LEAF_BYTES_MAX)
        })?;
        Ok((covered, leaves))
    }

    fn publish(&self) -> Result<(), TreeError> {
        let Some(note) = self.head.as_ref().and_then(|head| head.checkpoint.as_ref()) else { return Ok(()) };
        self.files.replace(CHECKPOINT, note.as_bytes())
    }
}

fn leaf_row(record: &Record, index: u64) -> Result<Option<LeafRow>, String> {
    if record.kind != RecordKind::Batch {
        return Ok(None);
    }
    let (header, position) = Batch::decode_header(&record.payload).map_err(|error| error.to_string())?;
    let (counter, number) = (position.epoch.counter, position.number.0);
    Ok(Some(LeafRow { host: header.host, counter, number, index }))
}

fn demand_same(same: bool, size: u64) -> Result<(), TreeError> {
    if same {
        return Ok(());
    }
    Err(TreeError::Damaged(format!(
        "its published checkpoint of {size} records has another root than these segments give: records were changed or \
         taken out; restore the segments from a copy"
    )))
}
