//! The index: heads of hosts and places of batches in redb. Disposable: everything in it is built from the
//! segments, by the same function that keeps it up to date.

use std::collections::BTreeMap;
use std::path::Path;

use custody_ledger::verify::Head;
use custody_ledger::{BatchNumber, Enrolment, HostId, Position, Seq, codec};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

mod expiries;

use super::StoreError;
use super::progress::Progress;
use crate::quota::day_of;

/// host → [`HostRow`]
const HOSTS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("hosts/1");
/// (host, epoch counter, batch number) → [`BatchRow`]
const BATCHES: TableDefinition<'_, ([u8; 16], u64, u64), &[u8]> = TableDefinition::new("batches/1");
/// (host, epoch counter, first seq) → batch number
const SEQS: TableDefinition<'_, ([u8; 16], u64, u64), u64> = TableDefinition::new("seqs/1");
/// (host, epoch counter, seq of a session.open)
const OPENS: TableDefinition<'_, ([u8; 16], u64, u64), ()> = TableDefinition::new("opens/1");
/// (segment, offset) of a statement → host, zeros where it is about none
const STATEMENTS: TableDefinition<'_, (u64, u64), [u8; 16]> = TableDefinition::new("statements/1");
/// (host, code of what has to be known of it) → how often, and when last, ns since 1970
const NOTED: TableDefinition<'_, ([u8; 16], &str), (u64, u64)> = TableDefinition::new("noted/1");
/// identity → up to when its certificates are revoked, seconds since 1970; of those whose revocation is stated and not taken
/// away.
const REVOKED: TableDefinition<'_, &str, u64> = TableDefinition::new("revoked/1");
/// segment → [`ExpiryRow`]
const EXPIRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("expiries/1");
/// One row: the (segment, offset) up to which the index knows the segments.
const COVERED: TableDefinition<'_, (), (u64, u64)> = TableDefinition::new("covered/1");

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Number of its segment.
    pub segment: u64,
    /// Byte in it.
    pub offset: u64,
}

/// A host as the sink knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRow {
    /// Its enrolment.
    pub enrolment: Enrolment,
    /// Where its chain stands; `None` before its first batch.
    pub head: Option<Head>,
    /// When its newest batch came, ns since 1970.
    pub received_ns: Option<u64>,
    /// Bytes of all its batches, as they came.
    #[serde(default)]
    pub stored_bytes: u64,
    /// The day on which the newest came, days since 1970.
    #[serde(default)]
    pub day: u64,
    /// Bytes of the batches of that day.
    #[serde(default)]
    pub day_bytes: u64,
}

impl HostRow {
    fn new(enrolment: Enrolment) -> Self {
        HostRow { enrolment, head: None, received_ns: None, stored_bytes: 0, day: 0, day_bytes: 0 }
    }

    fn count(&mut self, received_ns: u64, bytes: u64) {
        let day = day_of(received_ns);
        if day != self.day {
            (self.day, self.day_bytes) = (day, 0);
        }
        self.stored_bytes = self.stored_bytes.saturating_add(bytes);
        self.day_bytes = self.day_bytes.saturating_add(bytes);
    }
}

/// A stored batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchRow {
    /// Which.
    pub batch: Position,
    /// Seq of its first entry.
    pub first_seq: Seq,
    /// How many entries.
    pub count: u32,
    /// When it came, ns since 1970.
    pub received_ns: u64,
    /// Where its record is. It moves when its bodies expire.
    pub place: Place,
    /// Bytes of its frame as it is stored; zero in rows of before this was counted.
    #[serde(default)]
    pub bytes: u64,
}

/// What was stated to expire in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryRow {
    /// Bodies.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// They are gone, and the index knows where what is left lies.
    pub done: bool,
}

/// What has to be known of a host: of its batches, or stated by the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How often.
    pub count: u64,
    /// When last, ns since 1970.
    pub last_ns: u64,
}

/// What a record changes in the index.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Enrolment(Enrolment),
    Batch {
        host: HostId,
        row: BatchRow,
        /// Of its frame.
        bytes: u64,
        head: Box<Head>,
        opens: Vec<Seq>,
        noted: Vec<&'static str>,
    },
    Statement {
        host: Option<HostId>,
        place: Place,
        at_ns: u64,
        noted: Option<(&'static str, u64)>,
        /// Whose certificates are revoked, and up to when; `None` for a revocation that was taken away.
        revoked: Option<(String, Option<u64>)>,
        expires: Option<(u64, ExpiryRow)>,
    },
}

/// A record that lies elsewhere in its segment from now on.
pub(super) enum Moved {
    Batch { host: HostId, counter: u64, number: BatchNumber, offset: u64, bytes: u64 },
    Statement { offset: u64 },
}

/// Pages of the index that are kept in memory, bytes. Unbounded they would grow with the store.
const CACHE_BYTES: usize = 8 << 20;

pub(super) struct Index {
    database: Database,
    progress: Progress,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = crate::databases::open(path, CACHE_BYTES)?;
        let start = Place { segment: 0, offset: 0 };
        let index = Index { database, progress: Progress::at(start) };
        let transaction = index.database.begin_write()?;
        transaction.open_table(HOSTS)?;
        transaction.open_table(BATCHES)?;
        transaction.open_table(SEQS)?;
        transaction.open_table(OPENS)?;
        transaction.open_table(STATEMENTS)?;
        transaction.open_table(NOTED)?;
        transaction.open_table(REVOKED)?;
        transaction.open_table(EXPIRIES)?;
        transaction.open_table(COVERED)?;
        transaction.commit()?;
        index.progress.move_to(index.covered()?.unwrap_or(start));
        Ok(index)
    }

    /// Applies changes and moves the covered place, in one durable transaction.
    pub(super) fn apply(&self, changes: &[Change], covered: Place) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        for change in changes {
            apply_one(&transaction, change)?;
        }
        transaction.open_table(COVERED)?.insert((), (covered.segment, covered.offset))?;
        transaction.commit()?;
        self.progress.move_to(covered);
        Ok(())
    }

    /// How far it covers the segments, for those who wait for more.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Keeps every other write waiting while the answer lives.
    #[cfg(test)]
    pub(super) fn hold(&self) -> WriteTransaction {
        self.database.begin_write().unwrap()
    }

    pub(super) fn covered(&self) -> Result<Option<Place>, StoreError> {
        let table = self.database.begin_read()?.open_table(COVERED)?;
        let row = table.get(())?.map(|row| row.value());
        Ok(row.map(|(segment, offset)| Place { segment, offset }))
    }

    pub(super) fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(HOSTS)?;
        table.iter()?.map(|row| Ok(codec::decode("host row", row?.1.value())?)).collect()
    }

    pub(super) fn host(&self, host: HostId) -> Result<Option<HostRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(HOSTS)?;
        let row = table.get(*host.as_bytes())?;
        Ok(row.map(|row| codec::decode("host row", row.value())).transpose()?)
    }

    pub(super) fn batch(
        &self,
        host: HostId,
        counter: u64,
        number: BatchNumber,
    ) -> Result<Option<BatchRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(BATCHES)?;
        let row = table.get((*host.as_bytes(), counter, number.0))?;
        Ok(row.map(|row| codec::decode("batch row", row.value())).transpose()?)
    }

    /// Up to `limit` batches from this one on, in order of acceptance.
    pub(super) fn batches_from(
        &self,
        host: HostId,
        counter: u64,
        number: u64,
        limit: usize,
    ) -> Result<Vec<BatchRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(BATCHES)?;
        let host = *host.as_bytes();
        let rows = table.range((host, counter, number)..=(host, u64::MAX, u64::MAX))?;
        rows.take(limit).map(|row| Ok(codec::decode("batch row", row?.1.value())?)).collect()
    }

    /// The oldest batch that came at `received_ns` or later, walking back from the newest.
    pub(super) fn first_since(&self, host: HostId, received_ns: u64) -> Result<Option<BatchRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(BATCHES)?;
        let host = *host.as_bytes();
        let mut first = None;
        for row in table.range((host, 0, 0)..=(host, u64::MAX, u64::MAX))?.rev() {
            let row: BatchRow = codec::decode("batch row", row?.1.value())?;
            if row.received_ns < received_ns {
                break;
            }
            first = Some(row);
        }
        Ok(first)
    }

    /// The batch that holds this entry, if it is stored.
    pub(super) fn batch_of(
        &self,
        host: HostId,
        counter: u64,
        seq: Seq,
    ) -> Result<Option<BatchRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(SEQS)?;
        let key = *host.as_bytes();
        let number = match table.range((key, counter, 0)..=(key, counter, seq.0))?.next_back() {
            Some(row) => row?.1.value(),
            None => return Ok(None),
        };
        let row = self.batch(host, counter, BatchNumber(number))?;
        Ok(row.filter(|row| seq.0 - row.first_seq.0 < u64::from(row.count)))
    }

    pub(super) fn opens(&self, host: HostId) -> Result<Vec<(u64, Seq)>, StoreError> {
        let table = self.database.begin_read()?.open_table(OPENS)?;
        let host = *host.as_bytes();
        let rows = table.range((host, 0, 0)..=(host, u64::MAX, u64::MAX))?;
        rows.map(|row| {
            let (_, counter, seq) = row?.0.value();
            Ok((counter, Seq(seq)))
        })
        .collect()
    }

    pub(super) fn noted(&self, host: HostId) -> Result<BTreeMap<String, Noted>, StoreError> {
        let table = self.database.begin_read()?.open_table(NOTED)?;
        let rows = table.range((*host.as_bytes(), "")..)?;
        let rows =
            rows.take_while(|row| row.as_ref().map_or(true, |(key, _)| key.value().0 == *host.as_bytes()));
        rows.map(|row| {
            let (key, value) = row?;
            let (count, last_ns) = value.value();
            Ok((key.value().1.to_owned(), Noted { count, last_ns }))
        })
        .collect()
    }

    pub(super) fn revoked(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let table = self.database.begin_read()?.open_table(REVOKED)?;
        let rows = table.iter()?;
        rows.map(|row| {
            let (identity, until_s) = row?;
            Ok((identity.value().to_owned(), until_s.value()))
        })
        .collect()
    }

    pub(super) fn statements(&self) -> Result<Vec<Place>, StoreError> {
        let table = self.database.begin_read()?.open_table(STATEMENTS)?;
        table
            .iter()?
            .map(|row| {
                let (segment, offset) = row?.0.value();
                Ok(Place { segment, offset })
            })
            .collect()
    }
}

fn apply_one(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Enrolment(enrolment) => {
            let key = *enrolment.host.as_bytes();
            let row = HostRow::new(enrolment.clone());
            transaction.open_table(HOSTS)?.insert(key, codec::encode("host row", &row)?.as_slice())?;
        }
        Change::Batch { host, row, bytes, head, opens, noted } => {
            let key = *host.as_bytes();
            let mut hosts = transaction.open_table(HOSTS)?;
            let Some(mut host_row) =
                hosts.get(key)?.map(|row| codec::decode::<HostRow>("host row", row.value())).transpose()?
            else {
                return Err(StoreError::Damaged {
                    detail: format!("a batch of host {host} before its enrolment"),
                });
            };
            host_row.head = Some(Head::clone(head));
            host_row.received_ns = Some(row.received_ns);
            host_row.count(row.received_ns, *bytes);
            hosts.insert(key, codec::encode("host row", &host_row)?.as_slice())?;
            let counter = row.batch.epoch.counter;
            let encoded = codec::encode("batch row", row)?;
            let mut batches = transaction.open_table(BATCHES)?;
            batches.insert((key, counter, row.batch.number.0), encoded.as_slice())?;
            transaction.open_table(SEQS)?.insert((key, counter, row.first_seq.0), row.batch.number.0)?;
            let mut table = transaction.open_table(OPENS)?;
            for seq in opens {
                table.insert((key, counter, seq.0), ())?;
            }
            noted.iter().try_for_each(|code| note(transaction, host, code, 1, row.received_ns))?;
        }
        Change::Statement { host, place, at_ns, noted, revoked, expires } => {
            let about = host.map_or([0; 16], |host| *host.as_bytes());
            transaction.open_table(STATEMENTS)?.insert((place.segment, place.offset), about)?;
            if let Some((segment, row)) = expires {
                expiries::state(transaction, *segment, row)?;
            }
            if let (Some(host), Some((code, count))) = (host, noted) {
                note(transaction, host, code, *count, *at_ns)?;
            }
            if let Some((identity, until_s)) = revoked {
                let mut table = transaction.open_table(REVOKED)?;
                match until_s {
                    Some(until_s) => table.insert(identity.as_str(), until_s)?,
                    None => table.remove(identity.as_str())?,
                };
            }
        }
    }
    Ok(())
}

fn note(
    transaction: &WriteTransaction,
    host: &HostId,
    code: &str,
    count: u64,
    at_ns: u64,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(NOTED)?;
    let key = (*host.as_bytes(), code);
    let before = table.get(key)?.map_or(0, |row| row.value().0);
    table.insert(key, (before.saturating_add(count), at_ns))?;
    Ok(())
}
