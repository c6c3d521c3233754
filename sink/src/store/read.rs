//! Reading what is stored: entries in order, one entry by its citation, statements. Never blocks the writer.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::sync::PoisonError;
use std::time::Duration;

use custody_ledger::retention::{BatchMeta, Retention, content_of};
use custody_ledger::segment::{self, Reader, Record, RecordKind};
use custody_ledger::statement::{Signed, Stated, Statement};
use custody_ledger::{Batch, BatchNumber, EntryHeader, EpochId, Hash, HostId, Salt, Seq};

use super::files::failed;
use super::{BatchRow, Job, Noted, Pending, Place, Store, StoreError, StoredBatch};

/// Rows of the index that an iterator holds at once.
const ROWS_AT_ONCE: usize = 64;

/// An entry out of the store.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// Its header as read.
    pub header: EntryHeader,
    /// Its header as stored: what was signed.
    pub header_bytes: Vec<u8>,
    /// Salt and body, unless withheld or expired.
    pub body: Option<(Salt, Vec<u8>)>,
    /// Bodies of its batch have expired.
    pub expired: bool,
    /// When the sink received it, ns since 1970.
    pub received_ns: u64,
    /// Number of its batch.
    pub batch: BatchNumber,
}

impl Store {
    /// Entries of a host in order of acceptance, from this epoch counter and seq on (`(0, Seq(0))`: all).
    /// Ends at the newest that was stored when it got there; what comes later is told by
    /// [`Store::subscribe`].
    pub fn entries(&self, host: HostId, from: (u64, Seq)) -> Result<Entries<'_>, StoreError> {
        let start = self.index.batch_of(host, from.0, from.1)?;
        let next = match &start {
            Some(row) => (row.batch.epoch.counter, row.batch.number.0),
            // Not stored: begin at the next epoch, unless the epoch is still to come.
            None if from.1 == Seq(0) => (from.0, 0),
            None => (from.0.saturating_add(1), 0),
        };
        Ok(Entries {
            store: self,
            host,
            from,
            next,
            rows: VecDeque::new(),
            entries: VecDeque::new(),
            ended: false,
        })
    }

    /// Epoch counter and seq of the first entry that came at `received_ns` or later.
    pub fn first_since(&self, host: HostId, received_ns: u64) -> Result<Option<(u64, Seq)>, StoreError> {
        let row = self.index.first_since(host, received_ns)?;
        Ok(row.map(|row| (row.batch.epoch.counter, row.first_seq)))
    }

    /// One entry by its citation host/epoch/seq.
    pub fn entry(&self, host: HostId, counter: u64, seq: Seq) -> Result<Option<StoredEntry>, StoreError> {
        let Some(row) = self.index.batch_of(host, counter, seq)? else { return Ok(None) };
        Ok(self.entries_of(host, &row)?.into_iter().find(|entry| entry.header.seq == seq))
    }

    /// Epoch counter and seq of every `session.open` of a host, in order.
    pub fn session_opens(&self, host: HostId) -> Result<Vec<(u64, Seq)>, StoreError> {
        self.index.opens(host)
    }

    /// The stored batch of this number.
    pub fn batch(
        &self,
        host: HostId,
        epoch: EpochId,
        number: BatchNumber,
    ) -> Result<Option<BatchRow>, StoreError> {
        self.index.batch(host, epoch.counter, number)
    }

    /// Up to `limit` batches from this one on, in order of acceptance.
    pub fn batches_from(
        &self,
        host: HostId,
        counter: u64,
        number: u64,
        limit: usize,
    ) -> Result<Vec<BatchRow>, StoreError> {
        self.index.batches_from(host, counter, number, limit)
    }

    /// Hands over what is durable from a place on, record by record, until `take` has enough. Answers the place behind
    /// the last one.
    pub fn records(
        &self,
        from: Place,
        mut take: impl FnMut(&Record) -> Result<bool, StoreError>,
    ) -> Result<Place, StoreError> {
        let until = self.index.progress().covered();
        let mut at = from;
        let wanted = from.segment..=until.segment;
        for number in self.segments.numbers()?.into_iter().filter(|number| wanted.contains(number)) {
            let start = if number == from.segment { from.offset } else { 0 }.max(segment::MAGIC.len() as u64);
            let path = self.segments.path(number);
            let mut file = File::open(&path).map_err(failed("open", &path))?;
            file.seek(SeekFrom::Start(start)).map_err(failed("read", &path))?;
            let mut reader = Reader::at(BufReader::with_capacity(1 << 20, file), start);
            while (Place { segment: number, offset: reader.offset() }) < until {
                let Some(record) = reader.next() else { break };
                let record = record.map_err(|error| StoreError::Damaged {
                    detail: format!("{}: {error}", path.display()),
                })?;
                at = Place { segment: number, offset: reader.offset() };
                if !take(&record)? {
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }

    /// Whether something is durable behind this place, waiting for it at most so long. Blocks.
    pub fn wait_beyond(&self, place: Place, most: Duration) -> bool {
        self.index.progress().wait_beyond(place, most)
    }

    /// The frame of a stored batch: byte for byte as it came, or, once its bodies have expired, without them.
    pub fn frame(&self, host: HostId, row: &BatchRow) -> Result<Vec<u8>, StoreError> {
        Ok(self.record(host, row)?.payload)
    }

    /// A stored batch as a whole.
    pub fn stored(&self, host: HostId, row: &BatchRow) -> Result<StoredBatch, StoreError> {
        let record = self.record(host, row)?;
        let expired = BatchMeta::of(&record)?.content.is_some();
        let BatchRow { batch, received_ns, .. } = *row;
        Ok(StoredBatch { host, batch, received_ns, frame: record.payload, expired })
    }

    /// The frame of a stored batch, with the hash of it as it came.
    pub fn frame_and_content(&self, host: HostId, row: &BatchRow) -> Result<(Vec<u8>, Hash), StoreError> {
        let record = self.record(host, row)?;
        let content = content_of(&record)?;
        Ok((record.payload, content))
    }

    /// The record of a stored batch. A row that was read a while ago may say where it lay before its segment was replaced.
    pub(super) fn record(&self, host: HostId, row: &BatchRow) -> Result<Record, StoreError> {
        let is_it = |record: &Record| {
            record.kind == RecordKind::Batch
                && Batch::decode_header(&record.payload).is_ok_and(|(_, position)| position == row.batch)
        };
        let first = self.segments.read(row.place);
        if first.as_ref().is_ok_and(is_it) {
            return first;
        }
        let _still = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.index.batch(host, row.batch.epoch.counter, row.batch.number)?;
        let record = self.segments.read(now.map_or(row.place, |now| now.place))?;
        let other = || StoreError::Damaged { detail: format!("{} is not where it was stored", row.batch) };
        if is_it(&record) { Ok(record) } else { Err(other()) }
    }

    /// What the sink itself stated, in order.
    pub fn statements(&self) -> Result<Vec<Statement>, StoreError> {
        let _still = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let places = self.index.statements()?;
        places
            .into_iter()
            .map(|place| {
                let record = self.segments.read(place)?;
                let (statement, _) = Signed::open(&record.payload)
                    .map_err(|error| StoreError::Damaged { detail: error.to_string() })?;
                Ok(statement)
            })
            .collect()
    }

    /// Hands over each statement that bodies go by age, from this place on: where it lies, as it is stored, and what it says.
    pub fn retentions<E: From<StoreError>>(
        &self,
        from: Place,
        mut take: impl FnMut(Place, Vec<u8>, Retention) -> Result<(), E>,
    ) -> Result<(), E> {
        let _still = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.index.statements_of_no_host(from)? {
            let record = self.segments.read(place)?;
            let (statement, _) = Signed::open::<Statement>(&record.payload)
                .map_err(|error| StoreError::Damaged { detail: error.to_string() })?;
            if let Stated::Retention(retention) = statement.what {
                take(place, record.payload, retention)?;
            }
        }
        Ok(())
    }

    /// What has to be known of a host, by its code.
    pub fn noted(&self, host: HostId) -> Result<BTreeMap<String, Noted>, StoreError> {
        self.index.noted(host)
    }

    /// Waits until all that was submitted before is durable. Blocks.
    pub fn barrier(&self) -> Result<(), StoreError> {
        self.submit(Job::default()).and_then(Pending::wait)
    }

    /// Whether there is room for more on the disk.
    pub fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    /// Counter and random part of an epoch of which something is stored.
    pub fn epoch(&self, host: HostId, counter: u64) -> Result<Option<EpochId>, StoreError> {
        let rows = self.index.batches_from(host, counter, 0, 1)?;
        Ok(rows.first().map(|row| row.batch.epoch).filter(|epoch| epoch.counter == counter))
    }

    fn entries_of(&self, host: HostId, row: &BatchRow) -> Result<Vec<StoredEntry>, StoreError> {
        self.stored(host, row)?.entries()
    }
}

impl StoredBatch {
    /// Its entries in order.
    pub fn entries(&self) -> Result<Vec<StoredEntry>, StoreError> {
        entries(self)
    }
}

fn entries(stored: &StoredBatch) -> Result<Vec<StoredEntry>, StoreError> {
    let StoredBatch { batch, received_ns, expired, .. } = *stored;
    let decoded = Batch::decode(&stored.frame)
        .map_err(|error| StoreError::Damaged { detail: format!("{batch}: {error}") })?;
    let entry = |view: custody_ledger::batch::EntryView<'_>| StoredEntry {
        header_bytes: view.header_bytes.to_vec(),
        body: view.body.map(|body| (body.salt, body.bytes.to_vec())),
        header: view.header,
        expired,
        received_ns,
        batch: batch.number,
    };
    Ok(decoded.entries.into_iter().map(entry).collect())
}

/// Iterator of [`Store::entries`]; holds one batch at a time.
pub struct Entries<'s> {
    store: &'s Store,
    host: HostId,
    from: (u64, Seq),
    next: (u64, u64),
    rows: VecDeque<BatchRow>,
    entries: VecDeque<StoredEntry>,
    ended: bool,
}

impl Entries<'_> {
    fn load(&mut self) -> Result<bool, StoreError> {
        if self.rows.is_empty() {
            let rows = self.store.index.batches_from(self.host, self.next.0, self.next.1, ROWS_AT_ONCE)?;
            self.rows = rows.into();
        }
        let Some(row) = self.rows.pop_front() else { return Ok(false) };
        self.next = (row.batch.epoch.counter, row.batch.number.0.saturating_add(1));
        let from = self.from;
        let wanted = |entry: &StoredEntry| (entry.header.epoch.counter, entry.header.seq) >= from;
        self.entries = self.store.entries_of(self.host, &row)?.into_iter().filter(wanted).collect();
        Ok(true)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<StoredEntry, StoreError>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(Ok(entry));
            }
            if self.ended {
                return None;
            }
            match self.load() {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
