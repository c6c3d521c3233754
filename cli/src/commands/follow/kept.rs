//! What who follows keeps between looks, in a file that a crash leaves old or new. Must not judge a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use custody_ledger::tlog::Witness;
use serde::{Deserialize, Serialize};

/// What is kept between looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) witness: Witness,
    /// Leaves that were compared with the tree, from the first on.
    pub(super) compared: u64,
    /// Checkpoints of hosts that are none of this log, in all looks.
    pub(super) contradictions: u64,
}

/// Reads it; `None` before the first look.
pub(super) fn load(path: &Path) -> anyhow::Result<Option<Kept>> {
    let shown = path.display();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let damaged = || {
        format!(
            "{shown} is damaged: restore it, or remove it; then the next checkpoint is believed, whatever was before"
        )
    };
    let kept: Kept = serde_json::from_slice(&bytes).with_context(damaged)?;
    ensure!(kept.witness.is_whole() && kept.compared <= kept.witness.checkpoint().size, damaged());
    Ok(Some(kept))
}

/// What was seen once is never taken back by a crash.
pub(super) fn save(path: &Path, kept: &Kept) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder_of(path)).with_context(|| format!("cannot write {}", path.display()))?;
    replace(path, &serde_json::to_vec(kept)?)
}

/// Durable when it returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".draft.{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let write = || -> std::io::Result<()> {
        std::fs::write(&draft, bytes)?;
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, path)?;
        std::fs::File::open(folder_of(path))?.sync_all()
    };
    let failed = || format!("cannot write {}", path.display());
    write().inspect_err(|_| drop(std::fs::remove_file(&draft))).with_context(failed)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
