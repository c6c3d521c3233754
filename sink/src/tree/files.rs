//! The log's files: tiles are written once and never change, the checkpoint is replaced whole. Knows nothing of what
//! they hold.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use custody_ledger::tlog::{Checkpoint, NoteKey, Tile};

use super::TreeError;

/// Name of the checkpoint below the log's folder.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// Name of the newest checkpoint that enough witnesses cosigned.
pub(super) const WITNESSED: &str = "checkpoint.witnessed";

/// The folder of the log.
pub(super) struct Files {
    folder: PathBuf,
    /// What is not whole yet stands under this name; each thread that writes has its own.
    draft: &'static str,
}

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> TreeError + 'a {
    move |source| TreeError::File { action, path: path.display().to_string(), source }
}

/// The tests let the process "die" before any step that reaches the disk.
#[cfg(not(test))]
pub(super) const fn step() -> std::io::Result<()> {
    Ok(())
}
#[cfg(test)]
pub(super) use super::tests::step;

impl Files {
    pub(super) fn open(directory: &Path) -> Result<Self, TreeError> {
        Files::with_draft(directory, "draft.tmp")
    }

    /// For another thread than the log's.
    pub(super) fn with_draft(directory: &Path, draft: &'static str) -> Result<Self, TreeError> {
        let files = Files { folder: directory.join("log"), draft };
        make_folder(&files.folder)?;
        Ok(files)
    }

    /// A file's bytes; `None` when it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// The checkpoint that is published; `None` before the first.
    pub(super) fn checkpoint(&self, log: &NoteKey) -> Result<Option<Checkpoint>, TreeError> {
        let Some(bytes) = self.read(CHECKPOINT)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let opened = Checkpoint::open_text(text, log);
        let damaged = |error| TreeError::Damaged(format!("log/checkpoint: {error}; restore it from a copy"));
        opened.map(Some).map_err(damaged)
    }

    /// The bytes of a tile. Where a partial one is gone the full one begins with it.
    pub(super) fn tile(&self, tile: Tile) -> Result<Vec<u8>, TreeError> {
        if let Some(bytes) = self.read(&tile.path())? {
            return Ok(bytes);
        }
        let full = Tile { width: custody_ledger::tlog::tile::TILE_WIDTH, ..tile };
        let missing =
            || TreeError::Damaged(format!("{} is missing", self.folder.join(tile.path()).display()));
        let mut bytes = self.read(&full.path())?.ok_or_else(missing)?;
        bytes.truncate(usize::from(tile.width) * 32);
        Ok(bytes)
    }

    /// Creates a file with these bytes for ever. The same one again is fine, another one is damage.
    pub(super) fn write_once(&self, name: &str, bytes: &[u8]) -> Result<(), TreeError> {
        let path = self.folder.join(name);
        if self.read(name)?.is_none() {
            make_folder(path.parent().unwrap_or(&self.folder))?;
            let draft = self.draft(bytes, 0o444)?;
            step().and_then(|()| fs::hard_link(&draft, &path)).map_err(failed("create", &path))?;
            step().and_then(|()| fs::remove_file(&draft)).map_err(failed("remove", &draft))?;
        }
        // Also when it was there: the process may have died before its folder was synced.
        sync_folder(path.parent().unwrap_or(&self.folder))?;
        match self.read(name)? {
            Some(back) if back == bytes => Ok(()),
            _ => Err(TreeError::Damaged(format!(
                "{} holds other bytes than the segments give; restore it from a copy, or move it away to have it \
                 written again",
                path.display()
            ))),
        }
    }

    /// Replaces a file whole.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), TreeError> {
        let path = self.folder.join(name);
        let draft = self.draft(bytes, 0o644)?;
        step().and_then(|()| fs::rename(&draft, &path)).map_err(failed("replace", &path))?;
        sync_folder(&self.folder)
    }

    /// Removes the partial forms of a tile that is full now.
    pub(super) fn remove_partials(&self, tile: Tile) -> Result<(), TreeError> {
        let path = self.folder.join(tile.partials_path());
        match step().and_then(|()| fs::remove_dir_all(&path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn draft(&self, bytes: &[u8], mode: u32) -> Result<PathBuf, TreeError> {
        let path = self.folder.join(self.draft);
        // Left by a process that died; it may be read-only.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        step().map_err(failed("create", &path))?;
        let mut file =
            options.write(true).create_new(true).mode(mode).open(&path).map_err(failed("create", &path))?;
        step().and_then(|()| file.write_all(bytes)).map_err(failed("write", &path))?;
        step().and_then(|()| file.sync_all()).map_err(failed("sync", &path))?;
        Ok(path)
    }
}

fn make_folder(path: &Path) -> Result<(), TreeError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    make_folder(parent)?;
    step().and_then(|()| fs::create_dir(path)).map_err(failed("create", path))?;
    sync_folder(parent)
}

fn sync_folder(path: &Path) -> Result<(), TreeError> {
    step().and_then(|()| File::open(path)?.sync_all()).map_err(failed("sync", path))
}
