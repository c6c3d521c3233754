//! Opening the store, which is recovering it: whatever the last run left, the segments are the truth, and the
//! index is brought up to them by the same checks that accepted their batches.

use std::fs::File;
use std::io::BufReader;

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Reader, Record, RecordKind, SegmentError};
use custody_ledger::statement::{Signed, Statement};
use custody_ledger::verify::follow;
use custody_ledger::{Batch, Enrolment, Receipt, codec};

use super::StoreError;
use super::files::{Segments, failed};
use super::index::{Change, Index, Place};
use super::writer::{batch_change, statement_change};

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the segment to write next.
    pub next_segment: u64,
    /// Records that the index did not know.
    pub records: u64,
    /// Bytes of a torn tail; no receipt was given for them.
    pub torn_bytes: u64,
}

pub(super) fn recover(segments: &Segments, index: &Index) -> Result<Recovered, StoreError> {
    let numbers = segments.numbers()?;
    let covered = index.covered()?;
    if let Some(covered) = covered.filter(|covered| numbers.last().is_none_or(|last| covered.segment > *last))
    {
        return Err(damaged(format!("{} is missing", segments.path(covered.segment).display())));
    }
    let mut recovered = Recovered { next_segment: 1, ..Recovered::default() };
    for (place, number) in numbers.iter().enumerate() {
        recovered.next_segment = number + 1;
        let is_last = place + 1 == numbers.len();
        let sealed = segments.is_sealed(*number)?;
        if sealed && covered.is_some_and(|covered| covered.segment > *number) {
            continue;
        }
        let (good, torn) = replay(segments, index, *number, covered, &mut recovered)?;
        // Only the newest can be torn: a new segment is created after the last commit to the one before it.
        if let Some(detail) = torn.filter(|_| sealed || !is_last) {
            return Err(damaged(detail));
        }
        if !sealed {
            recovered.torn_bytes += segments.seal_prefix(*number, good)?;
        }
    }
    Ok(recovered)
}

/// Brings the index up to one segment. Answers how far it is good, and what stands there.
fn replay(
    segments: &Segments,
    index: &Index,
    number: u64,
    covered: Option<Place>,
    recovered: &mut Recovered,
) -> Result<(u64, Option<String>), StoreError> {
    let path = segments.path(number);
    let file = File::open(&path).map_err(failed("open", &path))?;
    let known = |offset| covered.is_some_and(|covered| Place { segment: number, offset } < covered);
    let mut reader = match Reader::open(BufReader::with_capacity(1 << 20, file)) {
        Ok(reader) => reader,
        Err(SegmentError::Broken { .. }) if !known(0) => {
            return Ok((0, Some(format!("{} is cut", path.display()))));
        }
        Err(error) => return Err(damaged(format!("{}: {error}", path.display()))),
    };
    while let Some(record) = reader.next() {
        match record {
            Ok(record) if known(record.offset) => {}
            Ok(record) => {
                let place = Place { segment: number, offset: record.offset };
                let end = Place { segment: number, offset: record.offset + record.length };
                let changes: Vec<Change> = change_of(index, &record, place)?.into_iter().collect();
                index.apply(&changes, end)?;
                recovered.records += 1;
            }
            Err(SegmentError::Io(source)) => return Err(failed("read", &path)(source)),
            Err(error) => {
                let good = reader.offset();
                let detail = format!("{}: {error}", path.display());
                // The index only covers what was synced and read back: this was acknowledged.
                return if known(good) { Err(damaged(detail)) } else { Ok((good, Some(detail))) };
            }
        }
    }
    let good = reader.offset();
    if known(good) {
        return Err(damaged(format!("{} ends at byte {good}, before what was acknowledged", path.display())));
    }
    Ok((good, None))
}

fn change_of(index: &Index, record: &Record, place: Place) -> Result<Option<Change>, StoreError> {
    let at = |what: &dyn std::fmt::Display| {
        damaged(format!("segment {} byte {}: {what}", place.segment, place.offset))
    };
    match record.kind {
        RecordKind::Enrolment => {
            let (enrolment, _) = Signed::open::<Enrolment>(&record.payload).map_err(|error| at(&error))?;
            Ok(Some(Change::Enrolment(enrolment)))
        }
        RecordKind::Statement => {
            let (statement, _) = Signed::open::<Statement>(&record.payload).map_err(|error| at(&error))?;
            Ok(Some(statement_change(&statement, place)))
        }
        RecordKind::Batch => {
            let (header, _) = Batch::decode_header(&record.payload).map_err(|error| at(&error))?;
            let receipt: Receipt = codec::decode("receipt", &BatchMeta::of(record)?.receipt)?;
            let host =
                index.host(header.host)?.ok_or_else(|| at(&"a batch of a host that is not enrolled"))?;
            let step = follow(header.host, &host.enrolment.key, host.head.as_ref(), &record.payload)
                .map_err(|fault| at(&fault))?;
            Ok(Some(batch_change(header.host, step, &record.payload, receipt.received_ns, place)))
        }
        RecordKind::Other(_) => Ok(None),
    }
}

fn damaged(detail: String) -> StoreError {
    StoreError::Damaged { detail }
}
