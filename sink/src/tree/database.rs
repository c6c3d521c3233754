//! The one place where the newest checkpoint is decided: a swap against the one before, together with its staged tiles
//! and with where each batch stands, in one durable transaction.

use std::path::Path;

use custody_ledger::codec;
use custody_ledger::tlog::Tile;
use custody_ledger::{Hash, HostId};
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::TreeError;
use super::files::{failed, step};
use crate::store::Place;

/// One row: [`Head`]
const HEAD: TableDefinition<'_, (), &[u8]> = TableDefinition::new("head/1");
/// path of a tile → its bytes, as the newest swap made them
const STAGE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("stage/1");
/// (host, epoch counter, batch number) → index of its leaf
const LEAVES: TableDefinition<'_, ([u8; 16], u64, u64), u64> = TableDefinition::new("leaves/1");

/// Where the tree stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) root: Hash,
    /// Up to where the store's records are leaves.
    pub(super) covered: Place,
    /// The signed checkpoint; `None` while a log that was published before is built again.
    pub(super) checkpoint: Option<String>,
}

/// Where a batch stands.
pub(super) struct LeafRow {
    pub(super) host: HostId,
    pub(super) counter: u64,
    pub(super) number: u64,
    pub(super) index: u64,
}

pub(super) struct Database(redb::Database);

crate::databases::from_redb!(TreeError::Database);

/// Pages of the database that are kept in memory, bytes.
const CACHE_BYTES: usize = 4 << 20;

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, TreeError> {
        let database = Database(crate::databases::open(path, CACHE_BYTES)?);
        let transaction = database.0.begin_write()?;
        transaction.open_table(HEAD)?;
        transaction.open_table(STAGE)?;
        transaction.open_table(LEAVES)?;
        transaction.commit()?;
        Ok(database)
    }

    pub(super) fn head(&self) -> Result<Option<Head>, TreeError> {
        let table = self.0.begin_read()?.open_table(HEAD)?;
        let row = table.get(())?;
        Ok(row.map(|row| codec::decode("log head", row.value())).transpose()?)
    }

    /// What the newest swap staged.
    pub(super) fn stage(&self) -> Result<Vec<(Tile, Vec<u8>)>, TreeError> {
        let table = self.0.begin_read()?.open_table(STAGE)?;
        let row =
            |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), redb::StorageError>| {
                let (path, bytes) = row?;
                let tile = Tile::parse(path.value())
                    .ok_or_else(|| TreeError::Damaged(format!("the stage names {}", path.value())))?;
                Ok((tile, bytes.value().to_vec()))
            };
        table.iter()?.map(row).collect()
    }

    pub(super) fn leaf(&self, host: HostId, counter: u64, number: u64) -> Result<Option<u64>, TreeError> {
        let table = self.0.begin_read()?.open_table(LEAVES)?;
        Ok(table.get((*host.as_bytes(), counter, number))?.map(|row| row.value()))
    }

    /// Puts `next` in the place of `before`, if that is still there.
    pub(super) fn swap(
        &self,
        before: Option<&Head>,
        next: &Head,
        stage: &[(Tile, Vec<u8>)],
        leaves: &[LeafRow],
    ) -> Result<(), TreeError> {
        let path = Path::new("tree.redb");
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(HEAD)?;
            let found: Option<Head> =
                table.get(())?.map(|row| codec::decode("log head", row.value())).transpose()?;
            if found.as_ref() != before {
                return Err(TreeError::Swapped);
            }
            table.insert((), codec::encode("log head", next)?.as_slice())?;
        }
        {
            let mut table = transaction.open_table(STAGE)?;
            table.retain(|_, _| false)?;
            for (tile, bytes) in stage {
                table.insert(tile.path().as_str(), bytes.as_slice())?;
            }
        }
        {
            let mut table = transaction.open_table(LEAVES)?;
            for row in leaves {
                table.insert((*row.host.as_bytes(), row.counter, row.number), row.index)?;
            }
        }
        step().map_err(failed("write", path))?;
        transaction.commit()?;
        // Whoever dies here does not know what became of the swap; the next start does.
        step().map_err(failed("write", path))
    }
}
