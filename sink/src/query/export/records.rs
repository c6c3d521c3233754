//! Where in the log those records stand that no index knows: a host's enrolment, and statements that bodies expired. Counts
//! from a batch near them, since each record is one leaf. Proves nothing: a wrong place has no proof.

use std::collections::BTreeSet;

use custody_ledger::bundle::{BATCHES_MAX, STATEMENTS_BYTES_MAX, WriteError};
use custody_ledger::retention::Retention;
use custody_ledger::segment::RecordKind;
use custody_ledger::statement::{Enrolment, Signed};
use custody_ledger::{Batch, HostId, Position};

use super::{Chosen, ExportError, ROWS_AT_ONCE, placed};
use crate::http::Services;
use crate::store::{BatchRow, Place};
use crate::tree::Published;

/// Looks from the beginning of a segment on, then from further and further before it, until something is found.
fn looking_back<T>(
    segment: u64,
    mut look: impl FnMut(Place) -> Result<Option<T>, ExportError>,
) -> Result<Option<T>, ExportError> {
    let (mut from, mut step) = (segment, 1);
    loop {
        let found = look(Place { segment: from, offset: 0 })?;
        if found.is_some() || from == 0 {
            return Ok(found);
        }
        (from, step) = (from.saturating_sub(step), step * 2);
    }
}

/// The signed enrolment of a host and its leaf: it lies before the host's first batch, most often not far.
pub(super) fn enrolment(
    services: &Services,
    host: HostId,
    published: &Published,
) -> Result<(Vec<u8>, u64), ExportError> {
    let missing = || ExportError::Missing("the host's enrolment".to_owned());
    let first = placed(services, host, (0, 0), published)?.into_iter().next();
    let (first, place) = first.ok_or_else(missing)?;
    let found = looking_back(first.place.segment, |from| {
        // The enrolment, and how many records lie behind it up to the batch.
        let mut found: Option<(Vec<u8>, u64)> = None;
        services.store.records(from, |record| {
            let is_first = record.kind == RecordKind::Batch
                && Batch::decode_header(&record.payload).is_ok_and(|(_, position)| position == first.batch);
            if is_first {
                return Ok(false);
            }
            if let Some((_, behind)) = &mut found {
                *behind += 1;
            }
            let enrolled =
                || Signed::open::<Enrolment>(&record.payload).is_ok_and(|(one, _)| one.host == host);
            if record.kind == RecordKind::Enrolment && enrolled() {
                found = Some((record.payload.clone(), 0));
            }
            Ok(true)
        })?;
        Ok(found)
    })?;
    let (payload, behind) = found.ok_or_else(missing)?;
    let index = place.index.checked_sub(behind.saturating_add(1)).ok_or_else(missing)?;
    Ok((payload, index))
}

/// A statement by which bodies of the range expired.
pub(super) struct Stated {
    /// Its place in the log.
    pub(super) index: u64,
    /// What it says.
    pub(super) retention: Retention,
    /// As it is stored.
    pub(super) payload: Vec<u8>,
}

/// The statements about batches of the range, in the order of the log.
pub(super) fn stated(services: &Services, chosen: &Chosen) -> Result<Vec<Stated>, ExportError> {
    let (host, first) = (chosen.range.host, chosen.first.place.segment);
    let indexes = expired(services, chosen)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    if indexes.is_empty() {
        return Ok(Vec::new());
    }
    services.store.retentions(Place { segment: first, offset: 0 }, |place, payload, retention| {
        let about = indexes.range(retention.first..).next().is_some_and(|index| retention.covers(*index));
        if about && retention.batches_of(host).is_some() {
            bytes += payload.len() as u64;
            if bytes > STATEMENTS_BYTES_MAX {
                let what = "bytes of statements about what expired";
                return Err(WriteError::TooLarge { what, limit: STATEMENTS_BYTES_MAX }.into());
            }
            found.push((place, payload, retention));
        }
        Ok::<(), ExportError>(())
    })?;
    let mut stated = Vec::new();
    for (place, payload, retention) in found {
        // One that is not in the log yet: nothing has gone by it.
        if let Some(index) = index_of(services, place, &payload)? {
            stated.push(Stated { index, retention, payload });
        }
    }
    Ok(stated)
}

/// Where batches of the range stand in the log that lie in segments whose bodies expire.
fn expired(services: &Services, chosen: &Chosen) -> Result<BTreeSet<u64>, ExportError> {
    let (host, expiries) = (chosen.range.host, services.store.expiries()?);
    let of = |batch: &Position| (batch.epoch.counter, batch.number.0);
    let (mut next, end) = (of(&chosen.first.batch), of(&chosen.last.batch));
    let (mut indexes, mut seen) = (BTreeSet::new(), 0);
    while !expiries.is_empty() && next <= end {
        let rows = services.store.batches_from(host, next.0, next.1, ROWS_AT_ONCE)?;
        let Some(last) = rows.last() else { break };
        let (counter, number) = of(&last.batch);
        next = (counter, number.saturating_add(1));
        seen += rows.len() as u64;
        if seen > BATCHES_MAX + ROWS_AT_ONCE as u64 {
            return Err(WriteError::TooLarge { what: "batches", limit: BATCHES_MAX }.into());
        }
        let concerned = |row: &&BatchRow| of(&row.batch) <= end && expiries.contains_key(&row.place.segment);
        for row in rows.iter().filter(concerned) {
            let index = services.tree.index_of(host, &row.batch)?;
            indexes.insert(index.ok_or_else(|| ExportError::Missing(row.batch.to_string()))?);
        }
    }
    Ok(indexes)
}

/// Where a statement that lies there stands in the log; `None` before it is in it.
fn index_of(services: &Services, place: Place, payload: &[u8]) -> Result<Option<u64>, ExportError> {
    let missing = || ExportError::Missing("a statement about what expired".to_owned());
    let found = looking_back(place.segment, |from| {
        // The newest batch before it, and how many records on it is.
        let mut newest: Option<(HostId, Position, u64)> = None;
        services.store.records(from, |record| {
            if record.kind == RecordKind::Batch {
                let header = Batch::decode_header(&record.payload).ok();
                newest = header.map(|(header, position)| (header.host, position, 0));
            } else if let Some((.., on)) = &mut newest {
                *on += 1;
            }
            Ok(record.kind != RecordKind::Statement || record.payload != payload)
        })?;
        Ok(newest)
    })?;
    let (host, batch, on) = found.ok_or_else(missing)?;
    Ok(services.tree.index_of(host, &batch)?.map(|index| index.saturating_add(on)))
}
