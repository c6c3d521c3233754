//! Evidence bundles: one file by which an outsider checks, offline and with public keys alone, what one host recorded
//! in a range of one epoch, and that nothing in between was left out. docs/bundle.md is the format for other readers.
//!
//! ```text
//! bundle = "CUSTBDL1" ‖ field*                 numbers are big-endian
//! field  = tag 4 ‖ len32 ‖ content             in this order:
//! rang     host 16 ‖ epoch counter 8 ‖ epoch nonce 16 ‖ first seq 8 ‖ last seq 8
//! note     the signed checkpoint, as text
//! enro     the enrolment as its sink signed it ‖ then `prov`, its proof
//! head*    the way of keys: len32 ‖ batch header ‖ signature 64, from batch 0 to the one before the first
//! btch     a batch's frame, bodies left out as wanted ‖ then `prov`; one pair for each batch of the range
//! prov     leaf index 8 ‖ received 8 ‖ SHA-256 of the whole frame 32 ‖ hash 32 *    (for `enro` both are zero)
//! last     empty: the end
//! ```
//!
//! All headers and signatures are the bytes that were signed. Never parses a body, and never reads a file.

mod policy;
mod verify;

#[cfg(test)]
mod attacks;

pub use policy::{Policy, PolicyError};
pub use verify::{BundleCheck, Rejected, Report, verify};

use crate::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES_MAX};
use crate::codec::{Fields, put_prefixed};
use crate::ids::{EpochId, EpochNonce, Hash, HostId, Seq};
use crate::tlog::note::NOTE_BYTES_MAX;
use crate::tlog::proof::PROOF_HASHES_MAX;

/// First bytes of each bundle.
pub const MAGIC: &[u8; 8] = b"CUSTBDL1";
/// Longest bundle that a reader accepts, bytes.
pub const BUNDLE_BYTES_MAX: usize = 1 << 30;
/// Most batches of one bundle.
pub const BATCHES_MAX: usize = 65_536;
/// Most batch headers of the way of keys.
pub const WAY_MAX: usize = 65_536;
/// Longest enrolment, bytes.
const ENROLMENT_BYTES_MAX: usize = 64 * 1024;

/// What a bundle says that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose entries.
    pub host: HostId,
    /// Of which epoch.
    pub epoch: EpochId,
    /// The first entry.
    pub first: Seq,
    /// The last entry.
    pub last: Seq,
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

/// The parts of a bundle. Nothing of it is verified yet but its shape and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// What it says that it is about.
    pub range: Range,
    /// The signed checkpoint.
    pub checkpoint: &'a str,
    /// The enrolment as signed, and its place.
    pub enrolment: (&'a [u8], Proof),
    /// Heads of frames from batch 0 to the one before the first; empty when the first is batch 0.
    pub way: Vec<&'a [u8]>,
    /// Frames with their places.
    pub batches: Vec<(&'a [u8], Proof)>,
}

/// Bytes that are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bundle ends inside {0}, or {0} is missing, repeated, too long or out of its place")]
pub struct Malformed(pub &'static str);

impl<'a> Bundle<'a> {
    /// Takes it apart. Bounded: no length is believed beyond the bytes at hand.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(Malformed("the file"));
        }
        let fields = Fields::new(bytes.strip_prefix(MAGIC).ok_or(Malformed("the first line"))?);
        let mut reader = Reader { fields };
        let range = reader.wanted(b"rang", 56, "the range")?;
        let range = read_range(range).ok_or(Malformed("the range"))?;
        let checkpoint = reader.wanted(b"note", NOTE_BYTES_MAX, "the checkpoint")?;
        let checkpoint = std::str::from_utf8(checkpoint).map_err(|_| Malformed("the checkpoint"))?;
        let enrolment = reader.wanted(b"enro", ENROLMENT_BYTES_MAX, "the enrolment")?;
        let enrolment = (enrolment, reader.proof()?);
        let mut way = Vec::new();
        while let Some(head) = reader.optional(b"head", BATCH_HEADER_BYTES_MAX + 68, "the way of keys")? {
            if way.len() == WAY_MAX {
                return Err(Malformed("the way of keys"));
            }
            way.push(head);
        }
        let mut batches = Vec::new();
        while let Some(frame) = reader.optional(b"btch", BATCH_BYTES_MAX, "a batch")? {
            if batches.len() == BATCHES_MAX {
                return Err(Malformed("the list of batches"));
            }
            batches.push((frame, reader.proof()?));
        }
        reader.wanted(b"last", 0, "the end")?;
        if !reader.fields.rest().is_empty() {
            return Err(Malformed("the end"));
        }
        Ok(Bundle { range, checkpoint, enrolment, way, batches })
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, b"rang", &range_bytes(&self.range));
        put(&mut out, b"note", self.checkpoint.as_bytes());
        put(&mut out, b"enro", self.enrolment.0);
        put(&mut out, b"prov", &proof_bytes(&self.enrolment.1));
        self.way.iter().for_each(|head| put(&mut out, b"head", head));
        for (frame, proof) in &self.batches {
            put(&mut out, b"btch", frame);
            put(&mut out, b"prov", &proof_bytes(proof));
        }
        put(&mut out, b"last", &[]);
        out
    }
}

/// The head of a frame, as the way of keys holds it: its header and signature as signed.
pub fn head_of(frame: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(Fields::new(frame).u32()?).ok()?;
    frame.get(..length.checked_add(68)?)
}

struct Reader<'a> {
    fields: Fields<'a>,
}

impl<'a> Reader<'a> {
    fn optional(
        &mut self,
        tag: &[u8; 4],
        longest: usize,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        if !self.fields.rest().starts_with(tag) {
            return Ok(None);
        }
        self.fields.take(tag.len());
        let content = self.fields.prefixed().filter(|content| content.len() <= longest);
        content.map(Some).ok_or(Malformed(what))
    }

    fn wanted(&mut self, tag: &[u8; 4], longest: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        self.optional(tag, longest, what)?.ok_or(Malformed(what))
    }

    fn proof(&mut self) -> Result<Proof, Malformed> {
        let wrong = Malformed("a proof");
        let content = self.wanted(b"prov", 48 + 32 * PROOF_HASHES_MAX, "a proof")?;
        let mut fields = Fields::new(content);
        let index = fields.array().map(u64::from_be_bytes).ok_or(wrong)?;
        let received_ns = fields.array().map(u64::from_be_bytes).ok_or(wrong)?;
        let content = Hash(fields.array().ok_or(wrong)?);
        let (hashes, rest) = fields.rest().as_chunks::<32>();
        if !rest.is_empty() {
            return Err(wrong);
        }
        Ok(Proof { index, received_ns, content, hashes: hashes.iter().copied().map(Hash).collect() })
    }
}

fn put(out: &mut Vec<u8>, tag: &[u8; 4], content: &[u8]) {
    out.extend_from_slice(tag);
    put_prefixed(out, content);
}

fn read_range(bytes: &[u8]) -> Option<Range> {
    let mut fields = Fields::new(bytes);
    let host = HostId::from_bytes(fields.array()?);
    let counter = u64::from_be_bytes(fields.array()?);
    let epoch = EpochId { counter, nonce: EpochNonce(fields.array()?) };
    let first = Seq(u64::from_be_bytes(fields.array()?));
    let last = Seq(u64::from_be_bytes(fields.array()?));
    fields.rest().is_empty().then_some(Range { host, epoch, first, last })
}

fn range_bytes(range: &Range) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        range.host.as_bytes(),
        &range.epoch.counter.to_be_bytes(),
        &range.epoch.nonce.0,
        &range.first.0.to_be_bytes(),
        &range.last.0.to_be_bytes(),
    ];
    parts.concat()
}

fn proof_bytes(proof: &Proof) -> Vec<u8> {
    let mut out =
        [&proof.index.to_be_bytes()[..], &proof.received_ns.to_be_bytes(), &proof.content.0].concat();
    proof.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
    out
}
