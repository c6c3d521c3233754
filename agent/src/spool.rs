//! Batches on disk until the sink has them: the ledger's segment files, one cursor, no second truth. A batch
//! may leave only after [`Spool::sync`]; it is freed when it is committed, the cursor first, the
//! file then. Opening a spool is its recovery: the same walk over the same files, whatever happened before.
//!
//! Each start writes files of its own, so a torn tail can stand at the end of any start's last file: those
//! batches never left. Damage elsewhere is put aside whole, with all that hangs on it in its chain.

mod recovery;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use custody_ledger::segment::{self, RecordKind};
use custody_ledger::{Position, SignedBatch};

use crate::config;
use crate::files;

pub use recovery::{Aside, Recovery};

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    position: Position,
    file: u64,
    offset: u64,
    length: u64,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    number: u64,
    file: File,
    bytes: u64,
}

/// The spool of one host.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: config::Spool,
    /// All batches that are not freed, in the order of their chain; those from `synced` on may not leave.
    places: VecDeque<Place>,
    synced: usize,
    /// Those before have a `stored` receipt of this start and wait to be committed.
    sent: usize,
    /// Files with their sizes, oldest first; the last one may be the current one.
    files: VecDeque<(u64, u64)>,
    current: Option<Current>,
    next_file: u64,
    /// After a failed write or sync nothing more is written by this start.
    failed: bool,
}

impl Spool {
    /// Opens the spool below a state directory and tells what was found.
    pub fn open(state_directory: &Path, limits: &config::Spool) -> Result<(Self, Recovery)> {
        let folder = state_directory.join("spool");
        files::make_private_folder(&folder)?;
        let (found, recovery) = recovery::walk(&folder)?;
        let spool = Spool {
            folder,
            limits: limits.clone(),
            synced: found.places.len(),
            sent: 0,
            places: found.places,
            next_file: found.files.back().map_or(0, |&(number, _)| number + 1).max(found.next_file),
            files: found.files,
            current: None,
            failed: false,
        };
        Ok((spool, recovery))
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|&(_, bytes)| bytes).sum()
    }

    /// Batches that wait.
    pub fn waiting(&self) -> usize {
        self.places.len()
    }

    /// Batches that were put aside, now and before.
    pub fn aside(&self) -> Aside {
        recovery::aside(&self.folder)
    }

    /// The sink knows from the chain that these are kept aside.
    pub fn named(&self, positions: &[Position]) -> Result<()> {
        let results = positions.iter().map(|position| recovery::named(&self.folder, position));
        results.fold(Ok(()), Result::and)
    }

    /// The oldest batch that the sink has not.
    pub fn next_unsent(&self) -> Option<Position> {
        self.places.get(self.sent).map(|place| place.position)
    }

    /// The sink has stored everything up to and including this batch. It stays here until it is committed.
    pub fn mark_sent(&mut self, position: &Position) {
        let unsent = self.places.iter().take(self.synced).skip(self.sent);
        if let Some(index) = unsent.map(|place| place.position).position(|other| other == *position) {
            self.sent += index + 1;
        }
    }

    /// Where the sink stands before a batch of which it gave a `stored` receipt, it has lost that one: all that is here
    /// is sent again. Whether it was so.
    pub fn rewind(&mut self, head: Option<&Position>) -> bool {
        let Some(last) = self.sent.checked_sub(1).and_then(|index| self.places.get(index)) else {
            return false;
        };
        let place = |position: &Position| (position.epoch.counter, position.number);
        let lost = head.is_none_or(|head| place(head) < place(&last.position));
        if lost {
            self.sent = 0;
        }
        lost
    }

    /// Whether `more` bytes of ordinary records still fit; control records may use the reserve.
    pub fn has_room(&self, more: u64, control: bool) -> bool {
        let reserve = if control { 0 } else { self.limits.reserve_bytes };
        self.bytes().saturating_add(more) <= self.limits.bytes_max.saturating_sub(reserve)
    }

    /// Writes a batch. It may not leave before [`Spool::sync`].
    pub fn append(&mut self, batch: &SignedBatch) -> Result<()> {
        anyhow::ensure!(!self.failed, "an earlier write to the spool failed");
        let result = self.write(batch);
        self.failed |= result.is_err();
        result.with_context(|| format!("cannot write to the spool {}", self.folder.display()))
    }

    fn write(&mut self, batch: &SignedBatch) -> Result<()> {
        let mut record = Vec::with_capacity(batch.frame.len() / 2);
        segment::put_record(&mut record, RecordKind::Batch, b"", &batch.frame)?;
        if self.current.as_ref().is_some_and(|current| current.bytes >= self.limits.segment_bytes) {
            self.sync_current()?;
            self.current = None;
        }
        if self.current.is_none() {
            self.current = Some(self.new_file()?);
        }
        let Some(current) = &mut self.current else { unreachable!("it was just made") };
        current.file.write_all(&record)?;
        let length = record.len() as u64;
        let place = Place { position: batch.position, file: current.number, offset: current.bytes, length };
        current.bytes += length;
        if let Some((_, bytes)) = self.files.back_mut() {
            *bytes = current.bytes;
        }
        self.places.push_back(place);
        Ok(())
    }

    fn new_file(&mut self) -> Result<Current> {
        let number = self.next_file;
        let path = self.folder.join(segment::file_name(number));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(segment::MAGIC)?;
        files::sync_folder(&self.folder)?;
        self.next_file += 1;
        let bytes = segment::MAGIC.len() as u64;
        self.files.push_back((number, bytes));
        Ok(Current { number, file, bytes })
    }

    /// Makes everything that was appended durable: from now on it may leave.
    pub fn sync(&mut self) -> Result<()> {
        let result = self.sync_current();
        self.failed |= result.is_err();
        result.with_context(|| format!("cannot sync the spool {}", self.folder.display()))
    }

    fn sync_current(&mut self) -> Result<()> {
        if let Some(current) = &self.current {
            current.file.sync_data()?;
        }
        self.synced = self.places.len();
        Ok(())
    }

    /// The oldest durable batches that the sink has not, up to `bytes_max` of frames (at least one), in order.
    pub fn unsent(&self, bytes_max: usize, batches_max: usize) -> Result<Vec<(Position, Vec<u8>)>> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        for place in self.places.iter().take(self.synced).skip(self.sent).take(batches_max) {
            let frame = self.read(place)?;
            bytes += frame.len() + 4;
            if bytes > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((place.position, frame));
        }
        Ok(frames)
    }

    fn read(&self, place: &Place) -> Result<Vec<u8>> {
        let path = self.folder.join(segment::file_name(place.file));
        let context = || format!("cannot read the spool file {}", path.display());
        let mut file = File::open(&path).with_context(context)?;
        file.seek(SeekFrom::Start(place.offset)).with_context(context)?;
        let record = segment::Reader::at(file, place.offset).next();
        Ok(record.with_context(context)?.with_context(context)?.payload)
    }

    /// Frees everything up to and including this batch. Unknown positions free nothing.
    pub fn free(&mut self, position: &Position) -> Result<usize> {
        let Some(index) = self.places.iter().take(self.synced).position(|place| place.position == *position)
        else {
            return Ok(0);
        };
        recovery::write_cursor(&self.folder, position)?;
        self.places.drain(..=index);
        self.synced -= index + 1;
        self.sent = self.sent.saturating_sub(index + 1);
        self.remove_empty_files()?;
        Ok(index + 1)
    }

    /// Takes the oldest durable batch that the sink has not out of the way: the sink refused it for good. It stays on
    /// disk, aside; those before it wait on.
    pub fn put_aside(&mut self) -> Result<Option<Position>> {
        let Some(place) = self.places.iter().take(self.synced).nth(self.sent).copied() else {
            return Ok(None);
        };
        let frame = self.read(&place)?;
        recovery::put_aside(&self.folder, &place.position, &frame)?;
        if self.sent == 0 {
            self.free(&place.position)?;
        } else {
            // No cursor may pass those before it; the next start knows by the file aside.
            self.places.remove(self.sent);
            self.synced -= 1;
        }
        Ok(Some(place.position))
    }

    fn remove_empty_files(&mut self) -> Result<()> {
        let oldest_used = self.places.front().map(|place| place.file);
        let current = self.current.as_ref().map(|current| current.number);
        while let Some(&(number, _)) = self.files.front() {
            if Some(number) == current || oldest_used.is_some_and(|used| used <= number) {
                break;
            }
            let path = self.folder.join(segment::file_name(number));
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            self.files.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
