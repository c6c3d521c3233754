//! The rows of what expires by age, and the one transaction that moves the records of a segment to where they lie without
//! their bodies.

use std::collections::BTreeMap;

use custody_ledger::{HostId, codec};
use redb::{Durability, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{
    BATCHES, BatchRow, EXPIRIES, ExpiryRow, HOSTS, HostRow, Index, Moved, Place, STATEMENTS, StoreError,
};

impl Index {
    /// What was stated to expire, by segment.
    pub(in crate::store) fn expiries(&self) -> Result<BTreeMap<u64, ExpiryRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(EXPIRIES)?;
        let row = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (segment, row) = row?;
            Ok((segment.value(), codec::decode("expiry row", row.value())?))
        };
        table.iter()?.map(row).collect()
    }

    /// Where statements lie, from this place on, that are about no host: those of retention, and some others.
    pub(in crate::store) fn statements_of_no_host(&self, from: Place) -> Result<Vec<Place>, StoreError> {
        let table = self.database.begin_read()?.open_table(STATEMENTS)?;
        let mut places = Vec::new();
        for row in table.range((from.segment, from.offset)..)? {
            let (place, about) = row?;
            if about.value() == [0; 16] {
                let (segment, offset) = place.value();
                places.push(Place { segment, offset });
            }
        }
        Ok(places)
    }

    /// Moves the records of a segment to where they lie now, and marks it as done. Answers how many bytes fewer are stored
    /// of each host.
    pub(in crate::store) fn moved(
        &self,
        segment: u64,
        records: &[Moved],
    ) -> Result<BTreeMap<HostId, u64>, StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let freed = move_batches(&transaction, segment, records)?;
        move_statements(&transaction, segment, records)?;
        let mut hosts = transaction.open_table(HOSTS)?;
        for (host, bytes) in &freed {
            let key = *host.as_bytes();
            let row = hosts.get(key)?.map(|row| codec::decode("host row", row.value())).transpose()?;
            let Some(mut row): Option<HostRow> = row else { continue };
            row.stored_bytes = row.stored_bytes.saturating_sub(*bytes);
            hosts.insert(key, codec::encode("host row", &row)?.as_slice())?;
        }
        drop(hosts);
        let row = row_of(&transaction, segment)?;
        put(&transaction, segment, &ExpiryRow { done: true, ..row })?;
        transaction.commit()?;
        Ok(freed)
    }
}

fn move_batches(
    transaction: &WriteTransaction,
    segment: u64,
    records: &[Moved],
) -> Result<BTreeMap<HostId, u64>, StoreError> {
    let mut freed = BTreeMap::new();
    let mut batches = transaction.open_table(BATCHES)?;
    for record in records {
        let Moved::Batch { host, counter, number, offset, bytes } = record else { continue };
        let key = (*host.as_bytes(), *counter, number.0);
        let row = batches.get(key)?.map(|row| codec::decode("batch row", row.value())).transpose()?;
        let row: Option<BatchRow> = row;
        let mut row = row.filter(|row| row.place.segment == segment).ok_or_else(|| differs(segment))?;
        *freed.entry(*host).or_insert(0) += row.bytes.saturating_sub(*bytes);
        (row.place.offset, row.bytes) = (*offset, *bytes);
        batches.insert(key, codec::encode("batch row", &row)?.as_slice())?;
    }
    Ok(freed)
}

/// Statements are known by their places alone; their order says which is which.
fn move_statements(
    transaction: &WriteTransaction,
    segment: u64,
    records: &[Moved],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(STATEMENTS)?;
    let rows = table.range((segment, 0)..=(segment, u64::MAX))?;
    let known: Vec<(u64, [u8; 16])> =
        rows.map(|row| row.map(|(key, about)| (key.value().1, about.value()))).collect::<Result<_, _>>()?;
    let to = records.iter().filter_map(|record| match record {
        Moved::Statement { offset } => Some(*offset),
        Moved::Batch { .. } => None,
    });
    let to: Vec<u64> = to.collect();
    if known.len() != to.len() {
        return Err(differs(segment));
    }
    for (from, _) in &known {
        table.remove((segment, *from))?;
    }
    for ((_, about), to) in known.iter().zip(to) {
        table.insert((segment, to), about)?;
    }
    Ok(())
}

fn differs(segment: u64) -> StoreError {
    StoreError::Damaged { detail: format!("segment {segment} holds other records than the index knows") }
}

/// Takes up a statement of what expires. A segment may have several.
pub(super) fn state(transaction: &WriteTransaction, segment: u64, new: &ExpiryRow) -> Result<(), StoreError> {
    let before = row_of(transaction, segment)?;
    let (bodies, bytes) = (before.bodies.saturating_add(new.bodies), before.bytes.saturating_add(new.bytes));
    put(transaction, segment, &ExpiryRow { bodies, bytes, done: false })
}

fn row_of(transaction: &WriteTransaction, segment: u64) -> Result<ExpiryRow, StoreError> {
    let table = transaction.open_table(EXPIRIES)?;
    let row = table.get(segment)?;
    Ok(row.map(|row| codec::decode("expiry row", row.value())).transpose()?.unwrap_or_default())
}

fn put(transaction: &WriteTransaction, segment: u64, row: &ExpiryRow) -> Result<(), StoreError> {
    let row = codec::encode("expiry row", row)?;
    transaction.open_table(EXPIRIES)?.insert(segment, row.as_slice())?;
    Ok(())
}
