//! Segment files: the one format of the agent's spool and of the sink's store. Append-only records, each behind
//! its own hash, so that a torn tail is told from damage in the middle.
//!
//! ```text
//! file    = "CUSTSEG1" ‖ record*                                     numbers are big-endian
//! record  = "crec" ‖ kind 1 ‖ codec 1 ‖ len16(meta) ‖ len32(stored) ‖ len32(payload)
//!           ‖ meta ‖ stored ‖ SHA-256 over all before it in the record
//! stored  = payload, or its zstd form, whichever is shorter
//! ```

use std::cell::RefCell;
use std::io::{self, Read};

use crate::tree;

/// First bytes of each file.
pub const MAGIC: &[u8; 8] = b"CUSTSEG1";
/// Longest payload of a record, bytes.
pub const PAYLOAD_BYTES_MAX: usize = crate::batch::BATCH_BYTES_MAX;
/// How names of segment files end.
pub const FILE_SUFFIX: &str = ".seg";

const RECORD_MAGIC: &[u8; 4] = b"crec";
const HEAD_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const CODEC_NONE: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// Level 1: the sink is bound by its disk, and the agent by its quarter of a core.
const ZSTD_LEVEL: i32 = 1;

/// What a record holds. The byte is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Payload: a batch's frame. Meta: in a store the [`crate::SignedReceipt`], in a spool nothing.
    Batch,
    /// Payload: a host's enrolment, as its sink wrote it down.
    Enrolment,
    /// Payload: what a sink has to say itself, such as an equivocation.
    Statement,
    /// Written by a newer version.
    Other(u8),
}

impl RecordKind {
    /// The byte that is stored.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            RecordKind::Batch => 1,
            RecordKind::Enrolment => 2,
            RecordKind::Statement => 3,
            RecordKind::Other(byte) => byte,
        }
    }
    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => RecordKind::Batch,
            2 => RecordKind::Enrolment,
            3 => RecordKind::Statement,
            other => RecordKind::Other(other),
        }
    }
}

/// One record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// Short facts about the payload.
    pub meta: Vec<u8>,
    /// The payload, uncompressed.
    pub payload: Vec<u8>,
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it takes in the file.
    pub length: u64,
}

/// A file that ends or breaks.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file does not begin as a segment.
    #[error("this is no segment file: it does not begin with CUSTSEG1")]
    NotASegment,
    /// From here on there is no whole record. At the end of the newest file it is a torn tail.
    #[error("no whole record at byte {offset}: {detail}")]
    Broken {
        /// Where.
        offset: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// Reading failed.
    #[error("cannot read the segment: {0}")]
    Io(#[from] io::Error),
}

/// A payload or meta that no record can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit into one record")]
pub struct RecordTooLong {
    /// How many.
    pub bytes: usize,
}

/// Name of the file with this number; names sort as numbers do.
pub fn file_name(number: u64) -> String {
    format!("{number:020}{FILE_SUFFIX}")
}

/// The number of a segment's file name, if it is one.
pub fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(FILE_SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Appends one record to `out`, the bytes that go to the file.
pub fn put_record(
    out: &mut Vec<u8>,
    kind: RecordKind,
    meta: &[u8],
    payload: &[u8],
) -> Result<(), RecordTooLong> {
    let meta_length = u16::try_from(meta.len()).map_err(|_| RecordTooLong { bytes: meta.len() })?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(RecordTooLong { bytes: payload.len() });
    }
    let compressed = compress(payload).filter(|compressed| compressed.len() < payload.len());
    let (codec, stored) = match &compressed {
        Some(compressed) => (CODEC_ZSTD, compressed.as_slice()),
        None => (CODEC_NONE, payload),
    };
    let start = out.len();
    out.extend_from_slice(RECORD_MAGIC);
    out.extend_from_slice(&[kind.to_byte(), codec]);
    out.extend_from_slice(&meta_length.to_be_bytes());
    out.extend_from_slice(&(stored.len() as u32).to_be_bytes()); // At most PAYLOAD_BYTES_MAX.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(meta);
    out.extend_from_slice(stored);
    let hash = tree::hash_of(&out[start..]);
    out.extend_from_slice(&hash.0);
    Ok(())
}

thread_local! {
    /// Kept for the next record: making one takes longer than compressing a small payload.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// `None` only means "store it as it is".
fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
        };
        compressor.compress(payload).ok()
    })
}

/// A record as it lies in the file, cut out by its lengths and not looked into.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    bytes: Vec<u8>,
    offset: u64,
    meta_length: usize,
    payload_length: usize,
}

impl StoredRecord {
    /// How long it says that its payload is, bytes; at most [`PAYLOAD_BYTES_MAX`].
    pub fn payload_length(&self) -> usize {
        self.payload_length
    }
}

/// Checks records and takes them out of their stored form. Holds what the decompression needs, for the next one too.
#[derive(Default)]
pub struct Opener {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Opener {
    /// The record, if its hash is right.
    pub fn open(&mut self, stored: &StoredRecord) -> Result<Record, SegmentError> {
        let StoredRecord { bytes, offset, meta_length, payload_length } = stored;
        let broken = |detail| SegmentError::Broken { offset: *offset, detail };
        let (hashed, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
        if tree::hash_of(hashed).0 != hash {
            return Err(broken("a record's hash does not match"));
        }
        let (kind, codec) = (hashed[4], hashed[5]);
        let (meta, stored) = hashed[HEAD_BYTES..].split_at(*meta_length);
        let payload = match codec {
            CODEC_NONE => stored.to_vec(),
            CODEC_ZSTD => self
                .decompress(stored, *payload_length)
                .map_err(|_| broken("a record cannot be decompressed"))?,
            _ => return Err(broken("a record's compression is unknown here")),
        };
        if payload.len() != *payload_length {
            return Err(broken("a record's payload has another length than it says"));
        }
        let (kind, length) = (RecordKind::from_byte(kind), bytes.len() as u64);
        Ok(Record { kind, meta: meta.to_vec(), payload, offset: *offset, length })
    }

    fn decompress(&mut self, stored: &[u8], length: usize) -> io::Result<Vec<u8>> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        zstd.decompress(stored, length)
    }
}

/// Reads records one after the other. The first error ends it: [`Reader::offset`] then says how far the file
/// is good, for the normal open as for recovery.
pub struct Reader<R> {
    source: R,
    offset: u64,
    ended: bool,
    opener: Opener,
}

impl<R: Read> Reader<R> {
    /// Begins at the start of a file.
    pub fn open(mut source: R) -> Result<Self, SegmentError> {
        let mut magic = [0; MAGIC.len()];
        let read = read_up_to(&mut source, &mut magic)?;
        if magic != *MAGIC {
            let torn = read < magic.len() && magic[..read] == MAGIC[..read];
            let detail = "the file ends inside its first bytes";
            return Err(if torn {
                SegmentError::Broken { offset: 0, detail }
            } else {
                SegmentError::NotASegment
            });
        }
        Ok(Reader::at(source, MAGIC.len() as u64))
    }

    /// Begins at a record whose offset is known from before; `source` stands there.
    pub fn at(source: R, offset: u64) -> Self {
        Reader { source, offset, ended: false, opener: Opener::default() }
    }

    /// End of the last whole record.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record unopened, for those who open many at once with an [`Opener`] each. Where one cannot be opened
    /// the file ends, though this goes on.
    pub fn next_stored(&mut self) -> Option<Result<StoredRecord, SegmentError>> {
        let next = if self.ended { None } else { self.cut().transpose() };
        match &next {
            Some(Ok(stored)) => self.offset += stored.bytes.len() as u64,
            _ => self.ended = true,
        }
        next
    }

    fn cut(&mut self) -> Result<Option<StoredRecord>, SegmentError> {
        let offset = self.offset;
        let broken = |detail| SegmentError::Broken { offset, detail };
        let mut bytes = vec![0; HEAD_BYTES];
        match read_up_to(&mut self.source, &mut bytes)? {
            0 => return Ok(None),
            HEAD_BYTES => {}
            _ => return Err(broken("the file ends inside a record's head")),
        }
        if bytes[..4] != *RECORD_MAGIC {
            return Err(broken("a record's head is damaged"));
        }
        let meta_length = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
        let stored_length = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        let payload_length = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        if payload_length > PAYLOAD_BYTES_MAX || stored_length > payload_length {
            return Err(broken("a record's length is damaged"));
        }
        let rest = meta_length + stored_length + HASH_BYTES;
        bytes.resize(HEAD_BYTES + rest, 0);
        if read_up_to(&mut self.source, &mut bytes[HEAD_BYTES..])? < rest {
            return Err(broken("the file ends inside a record"));
        }
        Ok(Some(StoredRecord { bytes, offset, meta_length, payload_length }))
    }

    fn next_record(&mut self) -> Result<Option<Record>, SegmentError> {
        let Some(stored) = self.cut()? else { return Ok(None) };
        let record = self.opener.open(&stored)?;
        self.offset += record.length;
        Ok(Some(record))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, SegmentError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_record().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
