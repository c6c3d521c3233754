//! Writes a bundle piece by piece, in the one order that a reader takes. Whoever calls has the pieces and says what is
//! left out; nothing is checked here but limits.

use std::io::{self, Write};

use super::{BATCHES_MAX, BUNDLE_BYTES_MAX, MAGIC, Point, Proof, Range, WAY_MAX};
use crate::batch::{Batch, FrameError};
use crate::codec::Fields;
use crate::entry::{EntryHeader, EntryType};

/// Longest way of keys that is worth its bytes; those who make bundles write an anchor where it would be longer.
pub const WAY_WRITTEN_MAX: u64 = 4_096;

/// A bundle that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Where it goes takes no more.
    #[error("cannot write the bundle: {0}")]
    Io(#[from] io::Error),
    /// Over a limit.
    #[error("the bundle would hold more than {limit} {what}: choose a smaller range")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
}

/// See the module.
pub struct Writer<W> {
    out: W,
    bytes: u64,
    way: u64,
    batches: u64,
}

impl<W: Write> Writer<W> {
    /// Begins: what it is about, the checkpoint, and the host's enrolment with its place.
    pub fn begin(
        out: W,
        range: &Range,
        checkpoint: &str,
        enrolment: &[u8],
        place: &Proof,
    ) -> Result<Self, WriteError> {
        let mut writer = Writer { out, bytes: MAGIC.len() as u64, way: 0, batches: 0 };
        writer.out.write_all(MAGIC)?;
        writer.field(*b"rang", &range.encode())?;
        writer.field(*b"note", checkpoint.as_bytes())?;
        writer.field(*b"enro", enrolment)?;
        writer.field(*b"prov", &place.encode())?;
        Ok(writer)
    }

    /// The next step of the way of keys ([`head_of`] a frame).
    pub fn way(&mut self, head: &[u8]) -> Result<(), WriteError> {
        self.way = count(self.way, WAY_MAX, "steps of keys")?;
        self.field(*b"head", head)
    }

    /// The batch before the first one, instead of a way of keys.
    pub fn anchor(&mut self, head: &[u8], place: &Proof) -> Result<(), WriteError> {
        self.field(*b"anch", head)?;
        self.field(*b"prov", &place.encode())
    }

    /// The next batch of the range.
    pub fn batch(&mut self, frame: &[u8], place: &Proof) -> Result<(), WriteError> {
        self.batches = count(self.batches, BATCHES_MAX, "batches")?;
        self.field(*b"btch", frame)?;
        self.field(*b"prov", &place.encode())
    }

    /// Ends it. Without this it is no bundle.
    pub fn end(mut self) -> Result<W, WriteError> {
        self.field(*b"last", &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn field(&mut self, tag: [u8; 4], content: &[u8]) -> Result<(), WriteError> {
        let too_large = WriteError::TooLarge { what: "bytes", limit: BUNDLE_BYTES_MAX };
        let Ok(length) = u32::try_from(content.len()) else { return Err(too_large) };
        self.bytes += 8 + u64::from(length);
        if self.bytes > BUNDLE_BYTES_MAX {
            return Err(too_large);
        }
        self.out.write_all(&tag)?;
        self.out.write_all(&length.to_be_bytes())?;
        Ok(self.out.write_all(content)?)
    }
}

fn count(before: u64, limit: u64, what: &'static str) -> Result<u64, WriteError> {
    if before == limit { Err(WriteError::TooLarge { what, limit }) } else { Ok(before + 1) }
}

/// The head of a frame, as the way of keys holds it: its header and signature as signed.
pub fn head_of(frame: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(Fields::new(frame).u32()?).ok()?;
    frame.get(..length.checked_add(68)?)
}

impl Range {
    /// Whether the body of this entry is what the bundle is for: any of the range, or those of its session. Gaps of no
    /// session stay too: they say what is missing, and nothing of what was said.
    pub fn wants(&self, header: &EntryHeader) -> bool {
        let at = Point { epoch: header.epoch, seq: header.seq }.order();
        let of_session = |session| {
            header.session == Some(session)
                || header.seq == session
                || (header.entry_type == EntryType::Gap && header.session.is_none())
        };
        (self.first.order()..=self.last.order()).contains(&at) && self.session.is_none_or(of_session)
    }

    /// A frame as the bundle holds it: bodies that it is not for are left out, unless all are wanted.
    pub fn redacted(&self, frame: &[u8], whole: bool) -> Result<Vec<u8>, FrameError> {
        let batch = Batch::decode(frame)?;
        Ok(batch.redacted(|header| !whole && !self.wants(header)))
    }
}
