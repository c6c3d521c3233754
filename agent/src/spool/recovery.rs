//! The walk over the spool's files at each start, the cursor, and what is put aside.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use custody_ledger::segment::{self, RecordKind, SegmentError};
use custody_ledger::{Batch, EpochId, Position};

use super::Place;
use super::room::Room;
use crate::files;

const CURSOR: &str = "cursor";
const ASIDE: &str = "aside";
/// How the names of refused frames begin there, until the chain has named them to the sink, and then.
const REFUSED: &str = "refused-";
const NAMED: &str = "named-";

/// What was found when the spool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The newest batch that this host holds or held durably.
    pub last: Option<Position>,
    /// Bytes after the last whole record of a start: never sent, since nothing leaves before its sync.
    pub torn_bytes: u64,
    /// Files that were damaged and moved aside.
    pub damaged: Vec<PathBuf>,
    /// Batches that can be read and never be sent, because one before them is damaged.
    pub stranded: Vec<Position>,
}

/// The files as they are after the walk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) places: VecDeque<Place>,
    pub(super) files: VecDeque<(u64, u64)>,
    pub(super) next_file: u64,
}

pub(super) fn walk(folder: &Path) -> Result<(Found, Recovery)> {
    let mut walk = Walk {
        folder,
        found: Found::default(),
        recovery: Recovery { last: read_cursor(folder)?, ..Recovery::default() },
        broken: None,
    };
    let numbers = file_numbers(folder)?;
    for number in &numbers {
        walk.file(*number)?;
    }
    if let Some(last) = walk.found.files.back().filter(|(number, _)| numbers.last() == Some(number)) {
        make_durable(folder, *last)?;
    }
    walk.drop_freed();
    Ok((walk.found, walk.recovery))
}

/// On a full disk the walk has no room to write anything again: what was held for that moment is given up.
pub(super) fn make_room(folder: &Path) -> Result<()> {
    Room::give_up(folder).with_context(|| format!("cannot make room in {}", folder.display()))?;
    for number in file_numbers(folder)? {
        let path = folder.join(segment::file_name(number));
        // A file that was the reserve holds more than it has in it.
        let end = std::fs::metadata(&path).map(|facts| facts.len());
        end.and_then(|end| truncate(&path, end))
            .with_context(|| format!("cannot make room in {}", path.display()))?;
    }
    Ok(())
}

struct Walk<'a> {
    folder: &'a Path,
    found: Found,
    recovery: Recovery,
    /// The epoch whose chain is broken by damage: its later batches have no way to the sink.
    broken: Option<EpochId>,
}

impl Walk<'_> {
    fn file(&mut self, number: u64) -> Result<()> {
        let path = self.folder.join(segment::file_name(number));
        let context = || format!("cannot read the spool file {}", path.display());
        self.found.next_file = number + 1;
        let bytes = std::fs::metadata(&path).with_context(context)?.len();
        let file = File::open(&path).with_context(context)?;
        let mut reader = match segment::Reader::open(BufReader::new(file)) {
            Ok(reader) => reader,
            // The start died while it made the file.
            Err(SegmentError::Broken { .. }) if bytes < segment::MAGIC.len() as u64 => {
                self.recovery.torn_bytes += bytes;
                return std::fs::remove_file(&path).with_context(context);
            }
            Err(SegmentError::Io(error)) => return Err(error).with_context(context),
            Err(_) => return self.move_aside(number),
        };
        let mut places = Vec::new();
        let mut damaged = false;
        for record in reader.by_ref() {
            match record {
                Ok(record) if record.kind == RecordKind::Batch => {
                    let Ok((_, position)) = Batch::decode_header(&record.payload) else {
                        damaged = true;
                        break;
                    };
                    let (offset, length) = (record.offset, record.length);
                    places.push(Place { position, file: number, offset, length });
                }
                Ok(_) => {}
                Err(SegmentError::Io(error)) => return Err(error).with_context(context),
                Err(_) => break,
            }
        }
        let end = reader.offset();
        let rest = bytes.saturating_sub(end);
        // A tail is torn when nothing that can be read follows it; with a record behind it, it is damage.
        damaged |= rest > 0 && has_record_after(&path, end + 1).with_context(context)?;
        if !damaged && places.iter().any(|place| self.broken == Some(place.position.epoch)) {
            // Whole, and yet nobody will take it: kept aside, so that no later start sends it.
            self.recovery.stranded.extend(places.iter().map(|place| place.position));
            copy_aside(self.folder, number)?;
            return std::fs::remove_file(&path).with_context(context);
        }
        self.take(&places);
        if damaged {
            self.broken = places.last().map(|place| place.position.epoch).or(self.broken);
            self.recovery.damaged.push(copy_aside(self.folder, number)?);
            let stranded = positions_after(&path, end + 1).with_context(context)?;
            self.broken = self.broken.or(stranded.first().map(|position| position.epoch));
            self.recovery.stranded.extend(stranded);
        } else {
            self.recovery.torn_bytes += rest;
        }
        if rest > 0 {
            truncate(&path, end).with_context(context)?;
        }
        self.found.files.push_back((number, end));
        Ok(())
    }

    fn take(&mut self, places: &[Place]) {
        for place in places {
            self.recovery.last = Some(place.position);
            self.found.places.push_back(*place);
        }
    }

    fn move_aside(&mut self, number: u64) -> Result<()> {
        let target = copy_aside(self.folder, number)?;
        let path = self.folder.join(segment::file_name(number));
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        // What came after it in its epoch hangs on batches that are gone. Its epoch is that of the last batch
        // before it; if that start had ended, the next one opens an epoch of its own.
        self.broken = self.found.places.back().map(|place| place.position.epoch);
        self.recovery.damaged.push(target);
        Ok(())
    }

    /// What stands aside already, and what the cursor says was freed, when a start died between cursor and deletion.
    fn drop_freed(&mut self) {
        let folder = self.folder;
        self.found.places.retain(|place| !is_aside(folder, &place.position));
        let Ok(Some(cursor)) = read_cursor(self.folder) else { return };
        if let Some(index) = self.found.places.iter().position(|place| place.position == cursor) {
            self.found.places.drain(..=index);
        }
    }
}

fn file_numbers(folder: &Path) -> Result<Vec<u64>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list the spool {}", folder.display()))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list the spool {}", folder.display()))?.file_name();
        numbers.extend(name.to_str().and_then(segment::file_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Positions of the whole records anywhere behind `from`.
fn positions_after(path: &Path, from: u64) -> std::io::Result<Vec<Position>> {
    let bytes = std::fs::read(path)?;
    let mut positions = Vec::new();
    let mut at = usize::try_from(from).unwrap_or(usize::MAX);
    while let Some(tail) = bytes.get(at..).filter(|tail| !tail.is_empty()) {
        match segment::Reader::at(tail, 0).next() {
            Some(Ok(record)) => {
                positions.extend(Batch::decode_header(&record.payload).ok().map(|(_, position)| position));
                at += usize::try_from(record.length).unwrap_or(usize::MAX).max(1);
            }
            _ => at = next_head(&bytes, at + 1),
        }
    }
    Ok(positions)
}

/// Where the next record might begin; reading is tried only there, so a long damage stays cheap.
fn next_head(bytes: &[u8], from: usize) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    tail.windows(4).position(|window| window == b"crec").map_or(bytes.len(), |at| from + at)
}

fn has_record_after(path: &Path, from: u64) -> std::io::Result<bool> {
    Ok(!positions_after(path, from)?.is_empty())
}

/// What the last start wrote may not have been synced, or its sync have failed: then the kernel may show bytes that the
/// disk never got, and a sync now would not say so. So it is written again before anything of it leaves. All files before
/// it were synced when it was begun.
fn make_durable(folder: &Path, (number, end): (u64, u64)) -> Result<()> {
    let path = folder.join(segment::file_name(number));
    let mut bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    files::replace(&path, &bytes)
}

fn truncate(path: &Path, end: u64) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}

fn copy_aside(folder: &Path, number: u64) -> Result<PathBuf> {
    let aside = folder.join(ASIDE);
    files::make_private_folder(&aside)?;
    let name = segment::file_name(number);
    let target = aside.join(&name);
    std::fs::copy(folder.join(&name), &target)
        .and_then(|_| File::open(&target)?.sync_all())
        .with_context(|| format!("cannot put the damaged spool file aside as {}", target.display()))?;
    files::sync_folder(&aside)?;
    Ok(target)
}

/// Keeps one frame that the sink refused for good.
pub(super) fn put_aside(folder: &Path, position: &Position, frame: &[u8]) -> Result<()> {
    let aside = folder.join(ASIDE);
    files::make_private_folder(&aside)?;
    files::replace(&aside.join(file_of(REFUSED, position)), frame)
}

/// The chain has named this one to the sink: later starts need not.
pub(super) fn named(folder: &Path, position: &Position) -> Result<()> {
    let aside = folder.join(ASIDE);
    let (from, to) = (aside.join(file_of(REFUSED, position)), aside.join(file_of(NAMED, position)));
    std::fs::rename(&from, to).with_context(|| format!("cannot rename {}", from.display()))
}

fn is_aside(folder: &Path, position: &Position) -> bool {
    let aside = folder.join(ASIDE);
    [REFUSED, NAMED].iter().any(|state| aside.join(file_of(state, position)).exists())
}

fn file_of(state: &str, position: &Position) -> String {
    format!("{state}{}-{}.batch", position.epoch, position.number)
}

/// What is kept aside of refused frames.
#[derive(Debug, Default)]
pub struct Aside {
    /// How many.
    pub batches: u64,
    /// Those that the chain has not named to the sink yet, in order.
    pub unnamed: Vec<Position>,
}

/// Looks. A frame that cannot be read is counted, and nobody can say which it is.
pub(super) fn aside(folder: &Path) -> Aside {
    let mut aside = Aside::default();
    for entry in std::fs::read_dir(folder.join(ASIDE)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(REFUSED) || name.starts_with(NAMED))
        else {
            continue;
        };
        aside.batches += 1;
        if name.starts_with(REFUSED) {
            let frame = std::fs::read(entry.path()).unwrap_or_default();
            aside.unnamed.extend(Batch::decode_header(&frame).ok().map(|(_, position)| position));
        }
    }
    aside.unnamed.sort_by_key(|position| (position.epoch.counter, position.number));
    aside
}

pub(super) fn write_cursor(folder: &Path, position: &Position) -> Result<()> {
    let text = serde_json::to_vec(position)?;
    files::replace(&folder.join(CURSOR), &text)
}

/// The last batch that was freed. A cursor that cannot be read frees nothing: batches are sent twice, which
/// the sink answers with the same receipts.
fn read_cursor(folder: &Path) -> Result<Option<Position>> {
    let path = folder.join(CURSOR);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
