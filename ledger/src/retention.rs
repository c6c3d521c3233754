//! What becomes of a batch whose bodies go by age, and what the sink signs before they do. Everything that is signed or
//! hashed into the log stays: headers, signatures, receipt, and the hash of the frame as it came.
//!
//! A sink first states what goes ([`Retention`]), has the statement committed, and then puts [`Thinned`] records in the
//! places of the old ones. Who verifies compares the two ([`crate::verify::Expiries`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::{Batch, FrameError};
use crate::codec::{self, CodecError};
use crate::ids::{Hash, HostId, Signature};
use crate::receipt::SignedReceipt;
use crate::segment::Record;
use crate::tree;

/// Most hosts that one statement names; where more are concerned, the records are stated in several.
pub const RETENTION_HOSTS_MAX: usize = 4_096;

/// A sink's statement that bodies may go from now on: those of the batches among the records `first..end` of its log, all
/// of them received at least `age_s` before the statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The age at which its policy lets bodies go, seconds since the sink received them.
    pub age_s: u64,
    /// The segment that they lie in: where the sink looks when it has to finish this. Proves nothing.
    pub segment: u64,
    /// Index in the log of the first record that it is about.
    pub first: u64,
    /// The index behind the last one; below the statement's own.
    pub end: u64,
    /// What goes of which host.
    pub hosts: Vec<ExpiredOf>,
}

/// What goes of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredOf {
    /// Whose.
    pub host: HostId,
    /// Batches that have bodies.
    pub batches: u64,
    /// Their bodies.
    pub bodies: u64,
    /// Bytes of these bodies.
    pub bytes: u64,
}

impl Retention {
    /// Whether the record of this index in the log is among those that it is about.
    pub fn covers(&self, index: u64) -> bool {
        (self.first..self.end).contains(&index)
    }

    /// Whether it stands behind all that it is about, where this is its own index.
    pub fn stands_behind(&self, index: u64) -> bool {
        self.end <= index
    }

    /// Whether what came at `received_ns` was old enough when this was stated, both ns since 1970.
    pub fn is_due(&self, received_ns: u64, at_ns: u64) -> bool {
        u128::from(received_ns) + u128::from(self.age_s) * 1_000_000_000 <= u128::from(at_ns)
    }

    /// Of how many batches of this host it lets bodies go; `None` where it does not name the host.
    pub fn batches_of(&self, host: HostId) -> Option<u64> {
        let of_host = self.hosts.iter().filter(|of| of.host == host).map(|of| of.batches);
        of_host.reduce(u64::saturating_add)
    }

    /// Bodies of all hosts.
    pub fn bodies(&self) -> u64 {
        self.hosts.iter().map(|of| of.bodies).fold(0, u64::saturating_add)
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.hosts.iter().map(|of| of.bytes).fold(0, u64::saturating_add)
    }
}

/// What stands beside a batch in a store: the fields of its [`SignedReceipt`], and what is needed of bodies that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMeta {
    /// The receipt's signed bytes.
    #[serde(with = "serde_bytes")]
    pub receipt: Vec<u8>,
    /// Signature over them.
    pub signature: Signature,
    /// SHA-256 of the frame as it came, where bodies have been taken out of it since. The batch's leaf holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Hash>,
}

impl BatchMeta {
    /// Reads what stands beside a batch.
    pub fn of(record: &Record) -> Result<Self, CodecError> {
        codec::decode("receipt", &record.meta)
    }

    /// The receipt as it was given.
    pub fn receipt(self) -> SignedReceipt {
        SignedReceipt { receipt: self.receipt, signature: self.signature }
    }
}

/// SHA-256 of a stored batch's frame as it came, whatever has expired of it since.
pub fn content_of(record: &Record) -> Result<Hash, CodecError> {
    Ok(BatchMeta::of(record)?.content.unwrap_or_else(|| tree::hash_of(&record.payload)))
}

/// Bodies of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bodies {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Bodies {
    /// Those that are in this frame.
    pub fn in_frame(frame: &[u8]) -> Result<Self, FrameError> {
        let batch = Batch::decode(frame)?;
        let mut here = Bodies::default();
        for body in batch.entries.iter().filter_map(|entry| entry.body) {
            here.count += 1;
            here.bytes += body.bytes.len() as u64;
        }
        Ok(here)
    }
}

/// A record that cannot be thinned.
#[derive(Debug, thiserror::Error)]
pub enum ThinError {
    /// Its batch cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What stands beside it cannot be read or written.
    #[error(transparent)]
    Meta(#[from] CodecError),
}

/// A batch's record without bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinned {
    /// What stands beside it.
    pub meta: Vec<u8>,
    /// Its frame: all that is signed.
    pub frame: Vec<u8>,
}

impl Thinned {
    /// A stored batch without its bodies; `None` of one that has none. Its leaf stays the same.
    pub fn of(record: &Record) -> Result<Option<Self>, ThinError> {
        let batch = Batch::decode(&record.payload)?;
        if batch.entries.iter().all(|entry| entry.body.is_none()) {
            return Ok(None);
        }
        let mut meta = BatchMeta::of(record)?;
        meta.content.get_or_insert_with(|| tree::hash_of(&record.payload));
        Ok(Some(Thinned { meta: codec::encode("receipt", &meta)?, frame: batch.redacted(|_| true) }))
    }
}

/// Adds up what goes, record by record, into statements of at most [`RETENTION_HOSTS_MAX`] hosts each.
#[derive(Debug)]
pub struct Plan {
    age_s: u64,
    segment: u64,
    first: u64,
    next: u64,
    hosts: BTreeMap<HostId, ExpiredOf>,
    done: Vec<Retention>,
}

impl Plan {
    /// Of a segment whose first record has this index in the log.
    pub fn new(age_s: u64, segment: u64, first: u64) -> Self {
        Plan { age_s, segment, first, next: first, hosts: BTreeMap::new(), done: Vec::new() }
    }

    /// Takes the next record; `batch` where bodies of it go.
    pub fn record(&mut self, batch: Option<(HostId, Bodies)>) {
        if let Some((host, bodies)) = batch {
            if self.hosts.len() == RETENTION_HOSTS_MAX && !self.hosts.contains_key(&host) {
                self.close();
            }
            let of = ExpiredOf { host, batches: 0, bodies: 0, bytes: 0 };
            let of = self.hosts.entry(host).or_insert(of);
            of.batches += 1;
            of.bodies += bodies.count;
            of.bytes += bodies.bytes;
        }
        self.next += 1;
    }

    fn close(&mut self) {
        let hosts = std::mem::take(&mut self.hosts).into_values().collect::<Vec<_>>();
        if !hosts.is_empty() {
            let Plan { age_s, segment, first, next: end, .. } = *self;
            self.done.push(Retention { age_s, segment, first, end, hosts });
        }
        self.first = self.next;
    }

    /// The statements; none where nothing goes.
    pub fn statements(mut self) -> Vec<Retention> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_hosts_than_one_statement_names_are_stated_in_several_without_a_gap() {
        let mut plan = Plan::new(60, 3, 100);
        let hosts = RETENTION_HOSTS_MAX as u64 + 10;
        let host = |number: u64| HostId::from_bytes(u128::from(number).to_be_bytes());
        for number in 0..2 * hosts {
            plan.record(None);
            plan.record(Some((host(number % hosts), Bodies { count: 2, bytes: 5 })));
        }
        let stated = plan.statements();
        assert!(stated.iter().all(|one| one.hosts.len() <= RETENTION_HOSTS_MAX), "a statement without bound");
        assert!(stated.windows(2).all(|pair| pair[0].end == pair[1].first), "records that nobody states");
        assert_eq!((stated[0].first, stated.last().map(|last| last.end)), (100, Some(100 + 4 * hosts)));
        let sum = |count: fn(&Retention) -> u64| stated.iter().map(count).sum::<u64>();
        assert_eq!((sum(Retention::bodies), sum(Retention::bytes)), (4 * hosts, 10 * hosts));
    }

    #[test]
    fn where_nothing_goes_nothing_is_stated() {
        let mut plan = Plan::new(60, 3, 100);
        plan.record(None);
        assert_eq!(plan.statements(), []);
    }
}
