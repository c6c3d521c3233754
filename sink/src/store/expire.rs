//! Takes the bodies out of a sealed segment: a new file without them in the place of the old one, then the index. Asks
//! neither whether nor why: [`crate::retention`] has stated it before, and had that committed.
//!
//! Order: write beside → fsync → every record compared with the old one by its leaf → rename → fsync of the folder → index.
//! Whoever dies in between leaves the old file or the new one; the next start does the rest again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use custody_ledger::retention::{BatchMeta, Bodies, Thinned};
use custody_ledger::segment::{self, Reader, Record, RecordKind, put_record};
use custody_ledger::tlog::leaf;
use custody_ledger::{Batch, HostId, Position, Receipt, codec};

use super::files::{Segments, failed, sync_folder};
use super::index::{ExpiryRow, Index, Moved};
use super::{Store, StoreError};

/// A segment, as far as the age of its bodies is concerned.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// When the first of its batches that have bodies came, ns since 1970; `None` without any.
    pub oldest_ns: Option<u64>,
    /// When the newest of all its batches came.
    pub newest_ns: u64,
    /// All bodies.
    pub bodies: Bodies,
    /// How many records it has.
    pub records: u64,
    /// Its batches: which record of the segment each is, whose, which, and what is in it.
    pub batches: Vec<(u64, HostId, Position, Bodies)>,
}

impl Survey {
    /// Reads a segment.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let mut survey = Survey::default();
        each(path, |record| {
            if record.kind == RecordKind::Batch {
                let (header, position) =
                    Batch::decode_header(&record.payload).map_err(|e| damaged(path, &e))?;
                let bodies = Bodies::in_frame(&record.payload).map_err(|error| damaged(path, &error))?;
                let receipt: Receipt = codec::decode("receipt", &BatchMeta::of(record)?.receipt)?;
                if bodies.count > 0 {
                    survey.oldest_ns.get_or_insert(receipt.received_ns);
                }
                survey.newest_ns = survey.newest_ns.max(receipt.received_ns);
                survey.bodies.count += bodies.count;
                survey.bodies.bytes += bodies.bytes;
                survey.batches.push((survey.records, header.host, position, bodies));
            }
            survey.records += 1;
            Ok(())
        })?;
        Ok(survey)
    }
}

impl Store {
    /// Segments that nothing is added to any more, oldest first.
    pub fn sealed(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers = self.segments.numbers()?;
        numbers.pop();
        Ok(numbers)
    }

    /// What lies in a sealed segment.
    pub fn survey(&self, number: u64) -> Result<Survey, StoreError> {
        Survey::of(&self.segments.path(number))
    }

    /// What was stated to expire, by segment.
    pub fn expiries(&self) -> Result<BTreeMap<u64, ExpiryRow>, StoreError> {
        self.index.expiries()
    }

    /// The newest segment whose bodies have expired; zero without any. Waits while one is being replaced.
    pub fn expired_to(&self) -> u64 {
        *self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bodies out of a sealed segment; one that has none only gets its places right. Answers how many bytes
    /// fewer are stored of each host. Blocks; who reads waits for its end only.
    pub fn expire(&self, number: u64) -> Result<BTreeMap<HostId, u64>, StoreError> {
        let path = self.segments.path(number);
        let beside = path.with_extension("tmp");
        let thinned = self.survey(number)?.bodies.count > 0;
        if thinned {
            write_thinned(&path, &beside)?;
            compare(&path, &beside)?;
        }
        // From here on places and file may differ: whoever comes by a place that does not fit waits for this.
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = (|| {
            if thinned {
                fs::rename(&beside, &path).map_err(failed("replace", &path))?;
                sync_folder(self.segments.folder())?;
            }
            self.index.moved(number, &layout(&path)?)
        })();
        *moving = number.max(*moving);
        // What is on the disk is then only known through recovery.
        self.failed.fetch_or(moved.is_err(), Ordering::AcqRel);
        moved
    }
}

/// Brings the index up to segments that were replaced when the last run ended, or before an index was built again. Those
/// that are stated and still have their bodies are left to whoever lets them expire.
pub(super) fn settle(segments: &Segments, index: &Index) -> Result<(), StoreError> {
    for (number, _) in index.expiries()?.into_iter().filter(|(_, row)| !row.done) {
        let path = segments.path(number);
        if Survey::of(&path)?.bodies.count == 0 {
            index.moved(number, &layout(&path)?)?;
        }
    }
    Ok(())
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { detail: format!("{}: {error}", path.display()) }
}

fn reader(path: &Path) -> Result<Reader<BufReader<File>>, StoreError> {
    let file = File::open(path).map_err(failed("open", path))?;
    Reader::open(BufReader::with_capacity(1 << 20, file)).map_err(|error| damaged(path, &error))
}

fn each(path: &Path, mut take: impl FnMut(&Record) -> Result<(), StoreError>) -> Result<(), StoreError> {
    reader(path)?.try_for_each(|record| take(&record.map_err(|error| damaged(path, &error))?))
}

/// Where the records of a segment are.
fn layout(path: &Path) -> Result<Vec<Moved>, StoreError> {
    let mut records = Vec::new();
    each(path, |record| {
        let offset = record.offset;
        match record.kind {
            RecordKind::Batch => {
                let (header, at) = Batch::decode_header(&record.payload).map_err(|e| damaged(path, &e))?;
                let (counter, number) = (at.epoch.counter, at.number);
                let bytes = record.payload.len() as u64;
                records.push(Moved::Batch { host: header.host, counter, number, offset, bytes });
            }
            RecordKind::Statement => records.push(Moved::Statement { offset }),
            RecordKind::Enrolment | RecordKind::Other(_) => {}
        }
        Ok(())
    })?;
    Ok(records)
}

fn write_thinned(path: &Path, beside: &Path) -> Result<(), StoreError> {
    // A new file, not an old one written again: a sync that failed may have left anything of that.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", beside)(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create_new(true).mode(0o600).open(beside).map_err(failed("create", beside))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(segment::MAGIC).map_err(failed("write", beside))?;
    let mut bytes = Vec::new();
    each(path, |record| {
        let thinned = match record.kind {
            RecordKind::Batch => Thinned::of(record).map_err(|error| damaged(path, &error))?,
            _ => None,
        };
        let (meta, payload) = match &thinned {
            Some(thinned) => (&thinned.meta, &thinned.frame),
            None => (&record.meta, &record.payload),
        };
        bytes.clear();
        put_record(&mut bytes, record.kind, meta, payload)?;
        out.write_all(&bytes).map_err(failed("write", beside))
    })?;
    let file = out.into_inner().map_err(|error| failed("write", beside)(error.into_error()))?;
    file.set_permissions(Permissions::from_mode(0o400)).map_err(failed("seal", beside))?;
    file.sync_all().map_err(failed("sync", beside))
}

/// Every record must give the leaf that it gave: only then may the old file go.
fn compare(old: &Path, new: &Path) -> Result<(), StoreError> {
    let (mut before, mut after) = (reader(old)?, reader(new)?);
    let next = |reader: &mut Reader<BufReader<File>>, path| {
        let record = reader.next().transpose().map_err(|error| damaged(path, &error))?;
        record.map(|record| leaf::of_record(&record).map_err(|error| damaged(path, &error))).transpose()
    };
    loop {
        let (before, after) = (next(&mut before, old)?, next(&mut after, new)?);
        if before != after {
            return Err(damaged(new, &"it would not give the log's leaves"));
        }
        if before.is_none() {
            return Ok(());
        }
    }
}
