//! Evidence bundles: one file by which an outsider checks, offline and with public keys alone, what one host recorded
//! in a range, and that nothing in between was left out. docs/bundle.md is the format for other readers.
//!
//! ```text
//! bundle = "CUSTBDL1" ‖ field*                 numbers are big-endian; "CUSTBDL2" where a `stmt` is in it
//! field  = tag 4 ‖ len32 ‖ content             in this order:
//! rang     host 16 ‖ first: epoch counter 8, nonce 16, seq 8 ‖ last: the same ‖ session's seq 8 (all ones: none)
//! note     the signed checkpoint, as text
//! enro     the enrolment as its sink signed it ‖ then `prov`, its place
//! head*    the way of keys: len32 ‖ batch header ‖ signature 64, from batch 0 to the one before the first;
//! anch     or instead of it that last one alone ‖ then `prov`
//! stmt     before the first batch that it is about: a statement that bodies go by age, as its sink signed it ‖ then `prov`
//! btch     a batch's frame, bodies left out as wanted ‖ then `prov`; one pair for each batch of the range
//! prov     leaf index 8 ‖ received 8 ‖ SHA-256 of the whole frame 32 ‖ hash 32 *    (zeros for `enro` and `stmt`)
//! last     empty: the end
//! ```
//!
//! All headers and signatures are the bytes that were signed. Read and written piece by piece: a bundle may be larger
//! than memory. Never parses a body, and opens no file.

mod expired;
mod read;
mod report;
mod verify;
mod write;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod stand;
#[cfg(test)]
mod vectors;

pub use read::{Opening, Part, ReadError, Reader};
pub use report::{
    BundleCheck, Expiry, KeyChain, Rejected, Report, RetentionCheck, SessionReport, VerifyError,
};
pub use verify::verify;
pub use write::{STATEMENTS_BYTES_MAX, Statements, WAY_WRITTEN_MAX, WriteError, Writer, head_of};

use crate::codec::Fields;
use crate::ids::{EpochId, EpochNonce, Hash, HostId, Seq};

/// First bytes of a bundle in which no statement says that bodies expired.
pub const MAGIC: &[u8; 8] = b"CUSTBDL1";
/// First bytes of one in which some do. Who knows only the first version takes it for no bundle at all: read without the
/// statements, it would tell as left out what has expired.
pub const MAGIC_EXPIRED: &[u8; 8] = b"CUSTBDL2";
/// Longest bundle that is written or read, bytes.
pub const BUNDLE_BYTES_MAX: u64 = 1 << 30;
/// Most batches of one bundle.
pub const BATCHES_MAX: u64 = 65_536;
/// Most batch headers of the way of keys; where it is longer, an anchor stands for it.
pub const WAY_MAX: u64 = 65_536;
/// Longest enrolment, bytes.
pub(crate) const ENROLMENT_BYTES_MAX: usize = 64 * 1024;
/// Longest statement, bytes: it names [`crate::retention::RETENTION_HOSTS_MAX`] hosts at most, in less than 80 bytes each.
pub(crate) const STATEMENT_BYTES_MAX: usize = 512 * 1024;
/// Length of the range.
const RANGE_BYTES: usize = 88;
/// What stands for "no session".
const NO_SESSION: u64 = u64::MAX;

/// The place of an entry in the chain of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Point {
    /// Which start of the agent.
    pub epoch: EpochId,
    /// Which entry.
    pub seq: Seq,
}

impl Point {
    /// What points are ordered by.
    pub fn order(&self) -> (u64, Seq) {
        (self.epoch.counter, self.seq)
    }
}

/// What a bundle says that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose entries.
    pub host: HostId,
    /// The first one.
    pub first: Point,
    /// The last one; it may be in a later epoch.
    pub last: Point,
    /// The session that it was made for; the first entry opens it, and the last one is of its epoch.
    pub session: Option<Seq>,
}

impl Range {
    /// Its content as it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let point = |point: &Point| {
            [&point.epoch.counter.to_be_bytes()[..], &point.epoch.nonce.0, &point.seq.0.to_be_bytes()]
                .concat()
        };
        let session = self.session.map_or(NO_SESSION, |seq| seq.0);
        [&self.host.as_bytes()[..], &point(&self.first), &point(&self.last), &session.to_be_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let host = HostId::from_bytes(fields.array()?);
        let mut point = || {
            let counter = u64::from_be_bytes(fields.array()?);
            let epoch = EpochId { counter, nonce: EpochNonce(fields.array()?) };
            Some(Point { epoch, seq: Seq(u64::from_be_bytes(fields.array()?)) })
        };
        let (first, last) = (point()?, point()?);
        let session = u64::from_be_bytes(fields.array()?);
        let session = (session != NO_SESSION).then_some(Seq(session));
        fields.rest().is_empty().then_some(Range { host, first, last, session })
    }
}

/// The place of one leaf in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The leaf's index.
    pub index: u64,
    /// Of a batch: when the sink received it, ns since 1970.
    pub received_ns: u64,
    /// Of a batch: SHA-256 of its frame with all bodies.
    pub content: Hash,
    /// From the leaf's sibling up.
    pub hashes: Vec<Hash>,
}

impl Proof {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out =
            [&self.index.to_be_bytes()[..], &self.received_ns.to_be_bytes(), &self.content.0].concat();
        self.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let index = u64::from_be_bytes(fields.array()?);
        let received_ns = u64::from_be_bytes(fields.array()?);
        let content = Hash(fields.array()?);
        let (hashes, rest) = fields.rest().as_chunks::<32>();
        let hashes = hashes.iter().copied().map(Hash).collect();
        rest.is_empty().then_some(Proof { index, received_ns, content, hashes })
    }
}
