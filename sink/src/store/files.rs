//! Segment files on disk: created once, appended to by one writer, read-only once sealed. Knows nothing of what
//! records mean.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use custody_ledger::segment::{self, Reader, Record};

use super::{Place, StoreError};

/// The folder of segments.
pub(super) struct Segments {
    folder: PathBuf,
    torn: PathBuf,
}

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::File { action, path: path.display().to_string(), source }
}

impl Segments {
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let (folder, torn) = (directory.join("segments"), directory.join("torn"));
        for path in [&folder, &torn] {
            fs::create_dir_all(path).map_err(failed("create", path))?;
        }
        sync_folder(directory)?;
        Ok(Segments { folder, torn })
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(segment::file_name(number))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Numbers of all segments, ascending. Names that are none of ours are left alone.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        for item in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let item = item.map_err(failed("list", &self.folder))?;
            numbers.extend(item.file_name().to_str().and_then(segment::file_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn is_sealed(&self, number: u64) -> Result<bool, StoreError> {
        let path = self.path(number);
        let mode = fs::metadata(&path).map_err(failed("look at", &path))?.permissions().mode();
        Ok(mode & 0o222 == 0)
    }

    pub(super) fn read(&self, place: Place) -> Result<Record, StoreError> {
        let path = self.path(place.segment);
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        file.seek(SeekFrom::Start(place.offset)).map_err(failed("read", &path))?;
        match Reader::at(BufReader::with_capacity(64 * 1024, file), place.offset).next() {
            Some(Ok(record)) => Ok(record),
            Some(Err(error)) => Err(StoreError::Damaged { detail: format!("{}: {error}", path.display()) }),
            None => Err(StoreError::Damaged { detail: format!("{} ends before its index", path.display()) }),
        }
    }

    /// Replaces an unsealed segment by a synced and sealed copy of its first `length` bytes. A copy, because
    /// after a failed fsync the kernel may show bytes that the disk never got. What follows is kept aside.
    pub(super) fn seal_prefix(&self, number: u64, length: u64) -> Result<u64, StoreError> {
        let path = self.path(number);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let (prefix, tail) = bytes.split_at(usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len()));
        if !tail.is_empty() {
            let name = format!("{number:020}-at-{length}.bytes");
            write_synced(&self.torn.join(name), tail)?;
            sync_folder(&self.torn)?;
        }
        let copy = path.with_extension("tmp");
        if prefix.is_empty() {
            write_synced(&copy, segment::MAGIC)?;
        } else {
            write_synced(&copy, prefix)?;
        }
        fs::set_permissions(&copy, Permissions::from_mode(0o400)).map_err(failed("seal", &copy))?;
        fs::rename(&copy, &path).map_err(failed("replace", &path))?;
        sync_folder(&self.folder)?;
        Ok(tail.len() as u64)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// The segment that is being written.
pub(super) struct OpenSegment {
    pub(super) number: u64,
    pub(super) length: u64,
    path: PathBuf,
    file: File,
    since: Instant,
}

impl OpenSegment {
    /// Creates the file; fails if it is there.
    pub(super) fn create(segments: &Segments, number: u64) -> Result<Self, StoreError> {
        let path = segments.path(number);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        let mut open = OpenSegment { number, length: 0, path, file, since: Instant::now() };
        open.append(segment::MAGIC)?;
        sync_folder(&segments.folder)?;
        Ok(open)
    }

    /// Appends, syncs, and reads back what the file now holds there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let offset = self.length;
        self.file.write_all_at(bytes, offset).map_err(failed("write", &self.path))?;
        self.file.sync_data().map_err(failed("sync", &self.path))?;
        let mut back = vec![0; bytes.len()];
        self.file.read_exact_at(&mut back, offset).map_err(failed("read back", &self.path))?;
        if back != bytes {
            return Err(StoreError::ReadBack { path: self.path.display().to_string(), offset });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Since it was created.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it holds no record.
    pub(super) fn is_empty(&self) -> bool {
        self.length <= segment::MAGIC.len() as u64
    }

    /// Makes it read-only for ever.
    pub(super) fn seal(self) -> Result<(), StoreError> {
        self.file.set_permissions(Permissions::from_mode(0o400)).map_err(failed("seal", &self.path))?;
        self.file.sync_all().map_err(failed("sync", &self.path))
    }
}
