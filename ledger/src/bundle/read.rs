//! Takes a bundle apart, piece by piece: shape, order and limits. Verifies nothing, and holds one piece at a time.

use std::io::{self, Read};

use super::report::BundleCheck;
use super::verify::is_left_out;
use super::{
    BATCHES_MAX, BUNDLE_BYTES_MAX, ENROLMENT_BYTES_MAX, MAGIC, MAGIC_EXPIRED, Proof, RANGE_BYTES, Range,
    STATEMENT_BYTES_MAX, WAY_MAX,
};
use crate::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES_MAX};
use crate::tlog::note::NOTE_BYTES_MAX;
use crate::tlog::proof::PROOF_HASHES_MAX;

/// A bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Where it comes from gives no more.
    #[error("cannot read the bundle: {0}")]
    Io(#[from] io::Error),
    /// Bytes that are no bundle.
    #[error("the bundle ends inside {0}, or {0} is missing, repeated, too long or out of its place")]
    Malformed(&'static str),
}

/// How a bundle begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether it is of the version in which statements say that bodies expired.
    pub expired: bool,
    /// What it says that it is about.
    pub range: Range,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// The enrolment as signed.
    pub enrolment: Vec<u8>,
    /// Its place.
    pub place: Proof,
}

/// A piece of what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A step of the way of keys: the head of a frame.
    Way(Vec<u8>),
    /// The head of the batch before the first one, with its place, instead of a way.
    Anchor(Vec<u8>, Proof),
    /// A statement that bodies go by age, with its place; the next piece is the first batch that it is about.
    Statement(Vec<u8>, Proof),
    /// A frame with its place.
    Batch(Vec<u8>, Proof),
    /// The end, with nothing behind it.
    End,
}

/// See the module.
pub struct Reader<R> {
    source: R,
    bytes: u64,
    way: u64,
    anchored: bool,
    batches: u64,
    /// It is of the version that has statements.
    expired: bool,
    statements: u64,
    /// A statement was read, and the batch that it stands before was not.
    stated: bool,
}

impl<R: Read> Reader<R> {
    /// Reads how it begins.
    pub fn open(source: R) -> Result<(Self, Opening), ReadError> {
        let mut reader = Reader {
            source,
            bytes: 0,
            way: 0,
            anchored: false,
            batches: 0,
            expired: false,
            statements: 0,
            stated: false,
        };
        let magic = reader.take(MAGIC.len(), "the first line")?;
        reader.expired = magic == MAGIC_EXPIRED;
        if magic != MAGIC && !reader.expired {
            return Err(ReadError::Malformed("the first line"));
        }
        let range = reader.wanted(*b"rang", RANGE_BYTES, "the range")?;
        let range = Range::decode(&range).ok_or(ReadError::Malformed("the range"))?;
        let checkpoint = reader.wanted(*b"note", NOTE_BYTES_MAX, "the checkpoint")?;
        let checkpoint = String::from_utf8(checkpoint).map_err(|_| ReadError::Malformed("the checkpoint"))?;
        let enrolment = reader.wanted(*b"enro", ENROLMENT_BYTES_MAX, "the enrolment")?;
        let place = reader.place()?;
        let expired = reader.expired;
        Ok((reader, Opening { expired, range, checkpoint, enrolment, place }))
    }

    /// The next piece. Not to be called after the end.
    pub fn part(&mut self) -> Result<Part, ReadError> {
        let tag = self.take(4, "the end")?;
        let head_max = BATCH_HEADER_BYTES_MAX + 68;
        match tag.as_slice() {
            b"head" if !self.anchored && self.leads() && self.way < WAY_MAX => {
                self.way += 1;
                Ok(Part::Way(self.content(head_max, "the way of keys")?))
            }
            b"anch" if !self.anchored && self.leads() && self.way == 0 => {
                self.anchored = true;
                Ok(Part::Anchor(self.content(head_max, "the anchor")?, self.place()?))
            }
            b"stmt" if self.expired && !self.stated => {
                (self.stated, self.statements) = (true, self.statements + 1);
                Ok(Part::Statement(self.content(STATEMENT_BYTES_MAX, "a statement")?, self.place()?))
            }
            b"btch" if self.batches < BATCHES_MAX => {
                (self.stated, self.batches) = (false, self.batches + 1);
                Ok(Part::Batch(self.content(BATCH_BYTES_MAX, "a batch")?, self.place()?))
            }
            b"last" if self.batches > 0 && !self.stated && self.expired == (self.statements > 0) => {
                self.content(0, "the end")?;
                let more = self.source.by_ref().take(1).read_to_end(&mut Vec::new())?;
                if more == 0 || is_left_out(BundleCheck::Format) {
                    Ok(Part::End)
                } else {
                    Err(ReadError::Malformed("the end"))
                }
            }
            _ => Err(ReadError::Malformed("a field")),
        }
    }

    /// Whether what leads to the first batch may still go on.
    fn leads(&self) -> bool {
        self.batches == 0 && !self.stated
    }

    fn place(&mut self) -> Result<Proof, ReadError> {
        let content = self.wanted(*b"prov", 48 + 32 * PROOF_HASHES_MAX, "a proof")?;
        Proof::decode(&content).ok_or(ReadError::Malformed("a proof"))
    }

    fn wanted(&mut self, tag: [u8; 4], longest: usize, what: &'static str) -> Result<Vec<u8>, ReadError> {
        if self.take(4, what)? != tag {
            return Err(ReadError::Malformed(what));
        }
        self.content(longest, what)
    }

    fn content(&mut self, longest: usize, what: &'static str) -> Result<Vec<u8>, ReadError> {
        let length = self.take(4, what)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if length > longest {
            return Err(ReadError::Malformed(what));
        }
        self.take(length, what)
    }

    /// Exactly so many bytes; memory grows with what is there, not with what a length says.
    fn take(&mut self, length: usize, what: &'static str) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        if bytes.len() < length {
            return Err(ReadError::Malformed(what));
        }
        if self.bytes > BUNDLE_BYTES_MAX {
            return Err(ReadError::Malformed("the file"));
        }
        Ok(bytes)
    }
}
