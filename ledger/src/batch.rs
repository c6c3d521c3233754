//! The batch: consecutive entries of one host under one forward-secure signature, and its frame, the bytes that
//! travel and are stored.
//!
//! ```text
//! frame  = len32 ‖ batch header ‖ signature 64 ‖ entry*          lengths are big-endian
//! entry  = len32 ‖ entry header ‖ 0x01 ‖ salt 16 ‖ len32 ‖ body
//!        | len32 ‖ entry header ‖ 0x00                            the body is withheld
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Fields, put_prefixed};
use crate::entry::{BODY_BYTES_MAX, EntryHeader, HEADER_BYTES_MAX};
use crate::ids::{BatchNumber, BootId, EpochId, Hash, HostId, Position, PublicKey, Salt, Seq, Signature};
use crate::line::{HandOver, LINE_MAX};
use crate::tlog::CheckpointReference;
use crate::tree;

/// Version of the batch header that this code writes.
pub const BATCH_VERSION: u16 = 1;
/// Most entries that a reader accepts in one batch.
pub const BATCH_ENTRIES_MAX: usize = 1024;
/// Longest frame that a reader accepts, bytes.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest batch header that a reader accepts, bytes. With it a leaf of the sink's log stays within the 65,535 bytes
/// that an entry bundle can hold.
pub const BATCH_HEADER_BYTES_MAX: usize = 60 * 1024;
/// Most sources of counters in one batch header.
pub const SOURCES_MAX: usize = 64;
/// Most quarantined batches that one opening names.
pub const QUARANTINED_MAX: usize = 64;

/// Cumulative counters of one source since the agent's start, in bytes or events as the source's name says.
/// `produced = delivered + lost_ring + lost_user + skipped + cut + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Seen by the probes.
    pub produced: u64,
    /// Reached a decoder.
    pub delivered: u64,
    /// Found no room in the ring.
    pub lost_ring: u64,
    /// Gone after the ring.
    pub lost_user: u64,
    /// Left out by a rule.
    pub skipped: u64,
    /// Over a limit.
    pub cut: u64,
    /// In the rings at that moment; no sum.
    pub in_flight: u64,
}

impl Counters {
    /// Whether what was produced is accounted for.
    pub fn is_conserved(&self) -> bool {
        let parts = [self.delivered, self.lost_ring, self.lost_user, self.skipped, self.cut, self.in_flight];
        let sum = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part));
        sum == Some(self.produced)
    }

    /// Whether none of the sums went back since `before`.
    pub fn follows(&self, before: &Counters) -> bool {
        self.produced >= before.produced
            && self.delivered >= before.delivered
            && self.lost_ring >= before.lost_ring
            && self.lost_user >= before.lost_user
            && self.skipped >= before.skipped
            && self.cut >= before.cut
    }
}

/// What a new epoch knows of what came before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The last batch that this host holds or held durably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Position>,
    /// The sink's head as the host last heard it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Position>,
    /// Batches that the sink refused for good and that the host keeps aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Position>,
}

/// What stands in batch 0 of an epoch only: the certified first key and the link to what came before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Key 0: it signs this batch.
    pub key: PublicKey,
    /// The host key's signature over host, boot, epoch and key 0.
    pub certificate: Signature,
    /// From the enrolled key to the one that certified; empty while that is the enrolled one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<HandOver>,
    /// What came before; `None` at the first epoch after enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// A receipt that the host holds: by echoing it the host is a witness of its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptReference {
    /// The batch that it is for.
    pub batch: Position,
    /// SHA-256 of the receipt's signed bytes.
    pub receipt: Hash,
}

/// What is signed of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// [`BATCH_VERSION`].
    pub version: u16,
    /// Whose chain.
    pub host: HostId,
    /// Which boot of its kernel.
    pub boot: BootId,
    /// Which start of its agent.
    pub epoch: EpochId,
    /// Place in the epoch: one more each time.
    pub number: BatchNumber,
    /// Seq of its first entry.
    pub first_seq: Seq,
    /// How many entries.
    pub count: u32,
    /// [`tree::root`] over the leaves of its entries.
    pub root: Hash,
    /// [`tree::batch_hash`] of the batch header before it in the epoch; zero at number 0.
    pub previous: Hash,
    /// The key that signs the next batch. The key of this one is wiped before it leaves the host.
    pub next_key: PublicKey,
    /// Counters per source, cumulative since the epoch began.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, Counters>,
    /// The newest receipt that the host holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_receipt: Option<ReceiptReference>,
    /// The newest checkpoint of its sink's log that the host has checked: by echoing it the host is a witness of that
    /// log. It follows all that the host echoed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReference>,
    /// Only in number 0, and always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
}

impl BatchHeader {
    /// The bytes that are hashed, signed and stored.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode("batch header", self)
    }
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Ends in the middle of a field, or a field is longer than allowed.
    #[error("the frame ends inside {field}, or {field} is longer than allowed")]
    Short {
        /// Which field.
        field: &'static str,
    },
    /// A header that is no message of ours.
    #[error(transparent)]
    Header(#[from] CodecError),
    /// More than a limit allows.
    #[error("the batch has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// An entry's marker is neither present nor withheld.
    #[error("entry {index} has an unknown body marker")]
    Marker {
        /// Index in the batch.
        index: usize,
    },
}

const BODY_WITHHELD: u8 = 0;
const BODY_PRESENT: u8 = 1;

/// A body with what its hash needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Random bytes before the body.
    pub salt: Salt,
    /// The body; never parsed here.
    pub bytes: &'a [u8],
}

/// One entry inside a frame.
#[derive(Clone, Debug)]
pub struct EntryView<'a> {
    /// Its header as stored: what is hashed.
    pub header_bytes: &'a [u8],
    /// Its header as read.
    pub header: EntryHeader,
    /// Its body, unless withheld.
    pub body: Option<Body<'a>>,
}

/// A frame as read. Nothing is verified yet but its shape and limits.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Its header as stored: what is hashed and signed.
    pub header_bytes: &'a [u8],
    /// Its header as read.
    pub header: BatchHeader,
    /// Signature over the header.
    pub signature: Signature,
    /// Its entries in order.
    pub entries: Vec<EntryView<'a>>,
}

impl<'a> Batch<'a> {
    /// Reads a frame. Bounded: no length is believed beyond the bytes at hand.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        if frame.len() > BATCH_BYTES_MAX {
            return Err(FrameError::TooMany { what: "bytes", limit: BATCH_BYTES_MAX });
        }
        let mut fields = Fields::new(frame);
        let (header_bytes, header, signature) = read_head(&mut fields)?;
        let mut entries = Vec::with_capacity((header.count as usize).min(BATCH_ENTRIES_MAX));
        while !fields.rest().is_empty() {
            if entries.len() == BATCH_ENTRIES_MAX {
                return Err(FrameError::TooMany { what: "entries", limit: BATCH_ENTRIES_MAX });
            }
            entries.push(read_entry(&mut fields, entries.len())?);
        }
        Ok(Batch { header_bytes, header, signature, entries })
    }

    /// Reads only the header of a frame: enough to know whose it is and where it belongs.
    pub fn decode_header(frame: &'a [u8]) -> Result<(BatchHeader, Position), FrameError> {
        let (bytes, header, _) = read_head(&mut Fields::new(frame))?;
        let position = Position { epoch: header.epoch, number: header.number, hash: tree::batch_hash(bytes) };
        Ok((header, position))
    }

    /// Reads only the head of a frame: the header as stored and as read, and its signature.
    pub(crate) fn decode_head(frame: &'a [u8]) -> Result<(&'a [u8], BatchHeader, Signature), FrameError> {
        read_head(&mut Fields::new(frame))
    }

    /// Its name.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.header.epoch,
            number: self.header.number,
            hash: tree::batch_hash(self.header_bytes),
        }
    }

    /// The frame again with the bodies of which `withhold` says so left out; everything signed stays.
    pub fn redacted(&self, mut withhold: impl FnMut(&EntryHeader) -> bool) -> Vec<u8> {
        let mut frame = frame_head(self.header_bytes, &self.signature);
        for entry in &self.entries {
            let body = entry.body.filter(|_| !withhold(&entry.header));
            put_entry(&mut frame, entry.header_bytes, body);
        }
        frame
    }
}

fn read_head<'a>(fields: &mut Fields<'a>) -> Result<(&'a [u8], BatchHeader, Signature), FrameError> {
    let short = |field| FrameError::Short { field };
    let bytes = fields
        .prefixed()
        .filter(|bytes| bytes.len() <= BATCH_HEADER_BYTES_MAX)
        .ok_or(short("the batch header"))?;
    let header: BatchHeader = codec::decode("batch header", bytes)?;
    if header.counters.len() > SOURCES_MAX {
        return Err(FrameError::TooMany { what: "sources of counters", limit: SOURCES_MAX });
    }
    if header.opening.iter().any(|opening| opening.line.len() > LINE_MAX) {
        return Err(FrameError::TooMany { what: "keys in the host's line", limit: LINE_MAX });
    }
    let quarantined = header.opening.iter().flat_map(|opening| &opening.resume).map(|r| r.quarantined.len());
    if quarantined.sum::<usize>() > QUARANTINED_MAX {
        return Err(FrameError::TooMany { what: "quarantined batches", limit: QUARANTINED_MAX });
    }
    let signature = Signature(fields.array().ok_or(short("the signature"))?);
    Ok((bytes, header, signature))
}

fn read_entry<'a>(fields: &mut Fields<'a>, index: usize) -> Result<EntryView<'a>, FrameError> {
    let short = |field| FrameError::Short { field };
    let header_bytes =
        fields.prefixed().filter(|bytes| bytes.len() <= HEADER_BYTES_MAX).ok_or(short("an entry header"))?;
    let header = EntryHeader::decode(header_bytes)?;
    let body = match fields.u8().ok_or(short("a body marker"))? {
        BODY_WITHHELD => None,
        BODY_PRESENT => {
            let salt = Salt(fields.array().ok_or(short("a salt"))?);
            let bytes =
                fields.prefixed().filter(|bytes| bytes.len() <= BODY_BYTES_MAX).ok_or(short("a body"))?;
            Some(Body { salt, bytes })
        }
        _ => return Err(FrameError::Marker { index }),
    };
    Ok(EntryView { header_bytes, header, body })
}

/// The frame up to its first entry.
pub(crate) fn frame_head(header: &[u8], signature: &Signature) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + header.len() + 64);
    put_prefixed(&mut frame, header);
    frame.extend_from_slice(&signature.0);
    frame
}

/// Appends one entry to a frame.
pub(crate) fn put_entry(frame: &mut Vec<u8>, header: &[u8], body: Option<Body<'_>>) {
    put_prefixed(frame, header);
    match body {
        None => frame.push(BODY_WITHHELD),
        Some(body) => {
            frame.push(BODY_PRESENT);
            frame.extend_from_slice(&body.salt.0);
            put_prefixed(frame, body.bytes);
        }
    }
}
