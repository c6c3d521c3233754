//! Small files of the state directory: read by whoever runs, replaced whole, owned by the sink's user also when root
//! makes them. Segments are the store's own.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct FileError {
    /// What was tried.
    action: &'static str,
    /// On which file.
    path: String,
    /// Why not.
    source: std::io::Error,
}

pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> FileError + 'a {
    move |source| FileError { action, path: path.display().to_string(), source }
}

/// Writes beside, syncs and renames: whoever reads sees the old file or the new one, and it is durable when this
/// returns.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let beside = path.with_extension("tmp");
    let folder = path.parent().unwrap_or(path);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed("create", &beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &beside))?;
    give_to_owner_of(folder, &beside)?;
    fs::rename(&beside, path).map_err(failed("replace", path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

/// What root makes, the sink's own user must be able to use: it gets the owner of `model`.
pub(crate) fn give_to_owner_of(model: &Path, path: &Path) -> Result<(), FileError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(model).map_err(failed("look at", model))?;
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed("give away", path))
}
