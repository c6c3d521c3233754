//! Whether a stored batch is what its host signed: the same check that accepted it, made again before what is in it
//! is shown as found. How far back the chain itself holds is `custody verify`'s question.

use custody_ledger::verify::{Head, follow};
use custody_ledger::{Batch, BatchNumber};
use custody_record::search::Evidence;

use crate::store::{BatchRow, HostRow, Store};

/// Checks the batch of this row, whose frame is at hand, against the batch before it.
pub(super) fn of(store: &Store, host: &HostRow, row: &BatchRow, frame: &[u8]) -> Evidence {
    let before = match head_before(store, host, row) {
        Ok(head) => head,
        Err(reason) => return Evidence::unverified(reason),
    };
    match follow(host.enrolment.host, &host.enrolment.key, before.as_ref(), frame) {
        Ok(step) if step.head.batch == row.batch => Evidence::verified(),
        Ok(_) => Evidence::unverified("another batch was accepted at this place"),
        Err(fault) => Evidence::unverified(fault.to_string()),
    }
}

/// Where the chain stood before this batch; nothing before the first of an epoch.
fn head_before(store: &Store, host: &HostRow, row: &BatchRow) -> Result<Option<Head>, String> {
    let Some(number) = row.batch.number.0.checked_sub(1) else { return Ok(None) };
    let unreadable = || format!("batch {number} before it cannot be read");
    let before = store
        .batch(host.enrolment.host, row.batch.epoch, BatchNumber(number))
        .ok()
        .flatten()
        .ok_or_else(unreadable)?;
    let frame = store.frame(host.enrolment.host, &before).map_err(|_| unreadable())?;
    let batch = Batch::decode(&frame).map_err(|_| unreadable())?;
    if batch.position() != before.batch {
        return Err(format!("batch {number} before it is another one than was accepted"));
    }
    Head::after(&batch).map(Some).ok_or_else(unreadable)
}
