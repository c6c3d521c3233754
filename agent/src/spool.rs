//! Batches on disk until the sink has them: the ledger's segment files, one cursor, no second truth. A batch
//! may leave only after [`Spool::sync`]; it is freed when it is committed, the cursor first, the
//! file then. Opening a spool is its recovery: the same walk over the same files, whatever happened before.
//!
//! Each start writes files of its own, so a torn tail can stand at the end of any start's last file: those
//! batches never left. Damage elsewhere is put aside whole, with all that hangs on it in its chain.

mod recovery;
mod room;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use custody_ledger::segment::{self, RecordKind};
use custody_ledger::{Position, SignedBatch};

use crate::config;
use crate::drain::Flow;
use crate::events;
use crate::files;
use crate::ladder::Fill;

pub use recovery::{Aside, Recovery};
use room::{Room, is_full};

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
    /// It was the reserve, and so many bytes surely fit.
    reserved: Option<u64>,
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
    room: Room,
    flow: Flow,
    /// The disk is full: what is written goes where the reserve was, and only control records are taken.
    disk_full: bool,
    /// After a failed write or sync nothing more is written by this start.
    failed: bool,
}

impl Spool {
    /// Opens the spool below a state directory and tells what was found.
    pub fn open(state_directory: &Path, limits: &config::Spool) -> Result<(Self, Recovery)> {
        let folder = state_directory.join("spool");
        files::make_private_folder(&folder)?;
        let (found, recovery) = recovery::walk(&folder).or_else(|error| {
            if !is_full(&error) {
                return Err(error);
            }
            recovery::make_room(&folder)?;
            recovery::walk(&folder)
        })?;
        let spool = Spool {
            limits: limits.clone(),
            synced: found.places.len(),
            sent: 0,
            places: found.places,
            next_file: found.files.back().map_or(0, |&(number, _)| number + 1).max(found.next_file),
            files: found.files,
            current: None,
            room: Room::hold(&folder, limits.reserve_bytes),
            folder,
            flow: Flow::default(),
            disk_full: false,
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

    /// Bytes of the batches that wait, as they lie on disk.
    pub fn waiting_bytes(&self) -> u64 {
        self.places.iter().map(|place| place.length).sum()
    }

    /// What came and went since the start.
    pub fn flow(&self) -> Flow {
        self.flow
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
        if control {
            return self.bytes().saturating_add(more) <= self.limits.bytes_max;
        }
        let fill = self.fill();
        fill.bytes.saturating_add(more) <= fill.limit
    }

    /// How much of what ordinary records may have is used: by the configuration, and by what the disk has left.
    pub fn fill(&self) -> Fill {
        let bytes = self.bytes();
        let free = if self.disk_full { 0 } else { self.room.free_bytes };
        let allowed = self.limits.bytes_max.saturating_sub(self.limits.reserve_bytes);
        Fill { bytes, limit: allowed.min(bytes.saturating_add(free)) }
    }

    /// Looks at what the disk has left, and takes back what a full one had cost.
    pub fn look_at_disk(&mut self) {
        let whole = self.room.restore();
        self.room.measure();
        if self.disk_full && whole {
            self.disk_full = false;
            events::disk_has_room();
        }
    }

    /// Whether the disk is full, and the bytes that control records still have then.
    pub fn disk(&self) -> (bool, u64) {
        let reserved =
            self.current.as_ref().and_then(|current| Some(current.reserved?.saturating_sub(current.bytes)));
        let left = if self.disk_full { reserved.unwrap_or(0) } else { self.room.reserve_bytes() };
        (self.disk_full, left)
    }

    /// Replaces a small file of the state directory; on a disk that is full, in room that was kept for that.
    pub fn with_slack<T>(&mut self, write: impl Fn() -> Result<T>) -> Result<T> {
        write().or_else(|error| if is_full(&error) && self.room.give_slack() { write() } else { Err(error) })
    }

    /// Writes a batch. It may not leave before [`Spool::sync`].
    pub fn append(&mut self, batch: &SignedBatch) -> Result<()> {
        anyhow::ensure!(!self.failed, "an earlier write to the spool failed");
        let result = self.write(batch).or_else(|error| {
            if !is_full(&error) {
                return Err(error);
            }
            self.begin_reserve()?;
            self.write(batch)
        });
        self.failed |= result.is_err();
        result.with_context(|| format!("cannot write to the spool {}", self.folder.display()))
    }

    /// The disk is full: the half of a record that was written is taken back, and what was the reserve is the next file.
    fn begin_reserve(&mut self) -> Result<()> {
        self.end_current()?;
        let number = self.next_file;
        let (mut file, bytes) = self.room.take_reserve(&self.folder.join(segment::file_name(number)))?;
        file.write_all(segment::MAGIC)?;
        self.disk_full = true;
        events::disk_full(bytes);
        self.begin(number, file, Some(bytes))
    }

    fn write(&mut self, batch: &SignedBatch) -> Result<()> {
        let mut record = Vec::with_capacity(batch.frame.len() / 2);
        segment::put_record(&mut record, RecordKind::Batch, b"", &batch.frame)?;
        let is_long = |current: &Current| current.bytes >= self.limits.segment_bytes;
        if !self.disk_full && self.current.as_ref().is_some_and(is_long) {
            self.end_current()?;
        }
        if self.current.is_none() {
            let number = self.next_file;
            let path = self.folder.join(segment::file_name(number));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            if let Err(error) = file.write_all(segment::MAGIC) {
                // Its number is free again.
                std::fs::remove_file(&path)?;
                return Err(error.into());
            }
            self.begin(number, file, None)?;
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
        self.flow.written += length;
        Ok(())
    }

    /// Goes on in a file that holds nothing but its magic.
    fn begin(&mut self, number: u64, file: File, reserved: Option<u64>) -> Result<()> {
        files::sync_folder(&self.folder)?;
        self.next_file = number + 1;
        let bytes = segment::MAGIC.len() as u64;
        self.files.push_back((number, bytes));
        self.current = Some(Current { number, file, bytes, reserved });
        Ok(())
    }

    /// The current file gets nothing more: it ends behind its last whole record, and holds no room beyond.
    fn end_current(&mut self) -> Result<()> {
        if let Some(current) = &self.current {
            current.file.set_len(current.bytes)?;
        }
        self.sync_current()?;
        self.current = None;
        Ok(())
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
        let folder = self.folder.clone();
        self.with_slack(|| recovery::write_cursor(&folder, position))?;
        self.flow.freed += self.places.drain(..=index).map(|place| place.length).sum::<u64>();
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
