//! Writes a bundle piece by piece, in the one order that a reader takes. Whoever calls has the pieces; what is left out of
//! them, and why, is said here. Nothing is checked but limits.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::{BATCHES_MAX, BUNDLE_BYTES_MAX, MAGIC, MAGIC_EXPIRED, Point, Proof, Range, WAY_MAX};
use crate::batch::{Batch, FrameError};
use crate::codec::Fields;
use crate::entry::{EntryHeader, EntryType};
use crate::ids::BatchNumber;
use crate::retention::Retention;
use crate::tree;

/// Longest way of keys that is worth its bytes; those who make bundles write an anchor where it would be longer.
pub const WAY_WRITTEN_MAX: u64 = 4_096;

/// Bytes of statements that who makes a bundle holds at most: each names all hosts of a segment of the store.
pub const STATEMENTS_BYTES_MAX: u64 = 16 << 20;

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
    /// A batch cannot be read.
    #[error("a batch that is stored cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// Bodies are gone, and who makes the bundle has no statement about them.
    #[error(
        "content of batch {0} is gone, and no statement that it expired is at hand: where it expired just now, export again; \
         `custody verify` of the store says what is wrong with it"
    )]
    Unstated(BatchNumber),
}

/// The statements of retention that a bundle needs, in the order of the log.
#[derive(Debug, Default)]
pub struct Statements {
    waiting: VecDeque<Statement>,
    bytes: u64,
}

#[derive(Debug)]
struct Statement {
    first: u64,
    end: u64,
    payload: Vec<u8>,
    place: Proof,
    written: bool,
}

impl Statements {
    /// Takes the next one: as it is stored, with its place. It must be about a batch of the bundle.
    pub fn push(&mut self, retention: &Retention, payload: Vec<u8>, place: Proof) -> Result<(), WriteError> {
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
        if self.bytes > STATEMENTS_BYTES_MAX {
            let what = "bytes of statements about what expired";
            return Err(WriteError::TooLarge { what, limit: STATEMENTS_BYTES_MAX });
        }
        let Retention { first, end, .. } = *retention;
        self.waiting.push_back(Statement { first, end, payload, place, written: false });
        Ok(())
    }

    /// Whether nothing of the bundle expired.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The one that is about the record of this index. Those about records before it are dropped.
    fn about(&mut self, index: u64) -> Option<&mut Statement> {
        while self.waiting.pop_front_if(|statement| statement.end <= index).is_some() {}
        self.waiting.front_mut().filter(|statement| statement.first <= index)
    }
}

/// See the module.
pub struct Writer<W> {
    out: W,
    range: Range,
    bytes: u64,
    way: u64,
    batches: u64,
}

impl<W: Write> Writer<W> {
    /// Begins: what it is about, the checkpoint, and the host's enrolment with its place. `expired`: some statement that
    /// bodies expired will be written.
    pub fn begin(
        out: W,
        range: &Range,
        checkpoint: &str,
        enrolment: &[u8],
        place: &Proof,
        expired: bool,
    ) -> Result<Self, WriteError> {
        let magic = if expired { MAGIC_EXPIRED } else { MAGIC };
        let mut writer = Writer { out, range: *range, bytes: magic.len() as u64, way: 0, batches: 0 };
        writer.out.write_all(magic)?;
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

    /// A statement that bodies go by age. What follows is the first batch that it is about.
    pub fn statement(&mut self, payload: &[u8], place: &Proof) -> Result<(), WriteError> {
        self.field(*b"stmt", payload)?;
        self.field(*b"prov", &place.encode())
    }

    /// The next batch of the range as a store holds it. Bodies that the bundle is not for are left out of it, unless `whole`
    /// is wanted; of a batch that a statement is about all are, also where they are on the disk still.
    pub fn stored(
        &mut self,
        frame: &[u8],
        place: &Proof,
        whole: bool,
        statements: &mut Statements,
    ) -> Result<(), WriteError> {
        let Some(statement) = statements.about(place.index) else {
            if tree::hash_of(frame) != place.content {
                let (header, _) = Batch::decode_header(frame)?;
                return Err(WriteError::Unstated(header.number));
            }
            return self.batch(&self.range.redacted(frame, whole)?, place);
        };
        if !std::mem::replace(&mut statement.written, true) {
            self.statement(&statement.payload, &statement.place)?;
        }
        self.batch(&Batch::decode(frame)?.redacted(|_| true), place)
    }

    /// The next batch of the range, as it stands in the bundle.
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
