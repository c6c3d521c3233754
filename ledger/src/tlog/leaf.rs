//! What one leaf of the sink's log holds: for a batch all that was signed of it, for any other record its hash.
//!
//! ```text
//! batch  = "custody/1 leaf batch\n"  ‖ host 16 ‖ received 8 ‖ content 32 ‖ signature 64 ‖ batch header
//! record = "custody/1 leaf record\n" ‖ kind 1 ‖ SHA-256 of the payload 32
//! ```
//!
//! Plain bytes of fixed places, so that a leaf is the same for ever and for everybody who has the record; `received` is
//! ns since 1970, big-endian, as in the batch's receipt, `content` the SHA-256 of its frame as it came.
//! Each record of the store is one leaf, in the order of the segments. Where bodies have expired, what their frame hashed to
//! stands beside the record ([`crate::retention`]), so that its leaf stays as it is.

use crate::batch::{Batch, FrameError};
use crate::codec::{self, CodecError, Fields};
use crate::ids::{Hash, HostId, Signature};
use crate::receipt::Receipt;
use crate::retention::BatchMeta;
use crate::segment::{Record, RecordKind};
use crate::tree;

const BATCH_LINE: &[u8] = b"custody/1 leaf batch\n";
const RECORD_LINE: &[u8] = b"custody/1 leaf record\n";

/// A record that has no leaf, because it is not what its kind says.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Its batch cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its receipt cannot be read.
    #[error(transparent)]
    Receipt(#[from] CodecError),
}

/// The leaf of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLeaf<'a> {
    /// Whose batch.
    pub host: HostId,
    /// When the sink received it, ns since 1970.
    pub received_ns: u64,
    /// SHA-256 of its frame as it came, with all bodies.
    pub content: Hash,
    /// The signature over its header.
    pub signature: Signature,
    /// Its header as stored.
    pub header: &'a [u8],
}

impl<'a> BatchLeaf<'a> {
    /// The leaf of this frame.
    pub fn of_frame(frame: &'a [u8], received_ns: u64) -> Result<Self, FrameError> {
        let (header, view, signature) = Batch::decode_head(frame)?;
        Ok(BatchLeaf { host: view.host, received_ns, content: tree::hash_of(frame), signature, header })
    }

    /// The bytes of the leaf. A batch header is short enough for all of it to fit into an entry bundle
    /// ([`crate::batch::BATCH_HEADER_BYTES_MAX`]).
    pub fn encode(&self) -> Vec<u8> {
        let parts: [&[u8]; 6] = [
            BATCH_LINE,
            self.host.as_bytes(),
            &self.received_ns.to_be_bytes(),
            &self.content.0,
            &self.signature.0,
            self.header,
        ];
        parts.concat()
    }

    /// Reads a leaf; `None` for one of another kind.
    pub fn decode(leaf: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::new(leaf.strip_prefix(BATCH_LINE)?);
        Some(BatchLeaf {
            host: HostId::from_bytes(fields.array()?),
            received_ns: u64::from_be_bytes(fields.array()?),
            content: Hash(fields.array()?),
            signature: Signature(fields.array()?),
            header: fields.rest(),
        })
    }

    /// Its hash in the tree.
    pub fn hash(&self) -> Hash {
        tree::leaf(&self.encode())
    }
}

/// The leaf of a record as it stands in a segment of the sink.
pub fn of_record(record: &Record) -> Result<Vec<u8>, LeafError> {
    if record.kind != RecordKind::Batch {
        return Ok(of_other(record.kind, &record.payload));
    }
    let meta = BatchMeta::of(record)?;
    let receipt: Receipt = codec::decode("receipt", &meta.receipt)?;
    let mut leaf = BatchLeaf::of_frame(&record.payload, receipt.received_ns)?;
    leaf.content = meta.content.unwrap_or(leaf.content);
    Ok(leaf.encode())
}

/// The leaf of what is no batch.
fn of_other(kind: RecordKind, payload: &[u8]) -> Vec<u8> {
    [RECORD_LINE, &[kind.to_byte()], &tree::hash_of(payload).0].concat()
}

/// Its hash in the tree, for who has the payload and not the store.
pub(crate) fn of_payload(kind: RecordKind, payload: &[u8]) -> Hash {
    tree::leaf(&of_other(kind, payload))
}
