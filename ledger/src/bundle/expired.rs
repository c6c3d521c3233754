//! Which absent bodies of a bundle have expired: those of batches that a statement of the sink is about, as `custody verify`
//! of a whole store decides it. All others are left out by who made the bundle. Knows one statement at a time.

use super::Proof;
use super::report::{BundleCheck, Expiry, Rejected, RetentionCheck};
use super::verify::{demand, is_left_out, reject};
use crate::batch::Batch;
use crate::ids::{HostId, PublicKey};
use crate::retention::Retention;
use crate::statement::{Signed, Stated, Statement, StatementError};
use crate::tree;

/// Statements that a report keeps; more are counted.
const EXPIRIES_KEPT_MAX: usize = 64;

/// A statement, and what was found gone by it.
pub(super) struct InForce {
    index: u64,
    at_ns: u64,
    retention: Retention,
    /// Batches of the bundle's host that it names.
    named: u64,
    /// Batches of the bundle that are gone by it.
    used: u64,
    /// The batch behind it was seen.
    begun: bool,
    /// Bodies of the range.
    bodies: u64,
}

/// See the module.
pub(super) struct Expiries {
    host: HostId,
    sink: PublicKey,
    in_force: Option<InForce>,
    told: Vec<Expiry>,
    more: u64,
}

fn check(step: RetentionCheck, holds: bool, detail: &str) -> Result<(), Rejected> {
    demand(BundleCheck::Retention(step), holds, detail)
}

impl Expiries {
    pub(super) fn new(host: HostId, sink: PublicKey) -> Self {
        Expiries { host, sink, in_force: None, told: Vec::new(), more: 0 }
    }

    /// Reads a statement. That it stands at this index of the log is the caller's to check.
    pub(super) fn open(&self, payload: &[u8], index: u64) -> Result<InForce, Rejected> {
        let (statement, key) = Signed::open::<Statement>(payload).map_err(|error| {
            let step = match error {
                StatementError::Codec(_) => RetentionCheck::Statement,
                StatementError::Signature => RetentionCheck::Signature,
            };
            reject(BundleCheck::Retention(step), error)
        })?;
        let other = "a statement about something else stands where one about retention should";
        let Stated::Retention(retention) = statement.what else {
            return Err(reject(BundleCheck::Retention(RetentionCheck::Statement), other));
        };
        let by_another = "the statement that bodies expired is signed by another key than the policy's";
        check(RetentionCheck::Signature, key == self.sink, by_another)?;
        let named = retention.batches_of(self.host);
        let of_others = "the statement that bodies expired does not name this host";
        check(RetentionCheck::Host, named.is_some(), of_others)?;
        let (at_ns, named) = (statement.at_ns, named.unwrap_or(0));
        Ok(InForce { index, at_ns, retention, named, used: 0, begun: false, bodies: 0 })
    }

    /// From here on it is the one that counts.
    pub(super) fn enter(&mut self, next: InForce) -> Result<(), Rejected> {
        let behind = next.retention.stands_behind(next.index);
        check(RetentionCheck::Place, behind, "the statement that bodies expired was made before they came")?;
        let rising = self.in_force.as_ref().is_none_or(|before| next.retention.first >= before.retention.end);
        check(RetentionCheck::Order, rising, "a statement that bodies expired goes back behind another")?;
        self.put_away();
        self.in_force = Some(next);
        Ok(())
    }

    /// Whether the bodies that this batch lacks have expired.
    pub(super) fn batch(&mut self, batch: &Batch<'_>, frame: &[u8], place: &Proof) -> Result<bool, Rejected> {
        let unstated = Ok(is_left_out(BundleCheck::Retention(RetentionCheck::Stated)));
        let Some(stated) = &mut self.in_force else { return unstated };
        let covered = stated.retention.covers(place.index);
        if !stated.begun {
            let detail = "the statement that bodies expired is not about the batch that it stands before";
            check(RetentionCheck::About, covered, detail)?;
            stated.begun = true;
        }
        if !covered {
            return unstated;
        }
        let gone = batch.entries.iter().all(|entry| entry.body.is_none());
        check(RetentionCheck::Body, gone, "a body is here that, as stated, had expired")?;
        // Nothing was taken out of it since it came: what it lacks its host never sent.
        let came = tree::hash_of(frame) != place.content;
        if !came && !is_left_out(BundleCheck::Retention(RetentionCheck::Came)) {
            return Ok(false);
        }
        let due = stated.retention.is_due(place.received_ns, stated.at_ns);
        let detail = "bodies were younger than the age at which, as stated, they expire";
        check(RetentionCheck::Age, due, detail)?;
        stated.used += 1;
        let detail = "the statement that bodies expired names fewer batches of this host";
        check(RetentionCheck::Batches, stated.used <= stated.named, detail)?;
        Ok(true)
    }

    /// Counts an entry of the range whose body expired.
    pub(super) fn count(&mut self) {
        if let Some(stated) = &mut self.in_force {
            stated.bodies += 1;
        }
    }

    fn put_away(&mut self) {
        let Some(InForce { at_ns, retention, bodies: bodies @ 1.., .. }) = self.in_force.take() else {
            return;
        };
        if self.told.len() < EXPIRIES_KEPT_MAX {
            self.told.push(Expiry { stated_ns: at_ns, age_s: retention.age_s, bodies });
        } else {
            self.more += 1;
        }
    }

    /// By which statements bodies of the range expired, and how many such statements are not kept.
    pub(super) fn finish(mut self) -> (Vec<Expiry>, u64) {
        self.put_away();
        (self.told, self.more)
    }
}
