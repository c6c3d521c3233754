//! The folder of a sink's log, as it lies beside a store: its checkpoint and its certified key. Believes neither.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use custody_ledger::tlog::NoteKey;
use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};

/// See the module.
pub(crate) struct LogFolder {
    /// `None` where a store has no log.
    pub(crate) path: Option<PathBuf>,
    /// The checkpoint as it stood when the folder was found: a running sink goes on meanwhile.
    pub(crate) note: Option<String>,
    /// The newest checkpoint that witnesses cosigned, the same way.
    pub(crate) witnessed: Option<String>,
}

impl LogFolder {
    /// Looks for the log of the store in `directory`.
    pub(crate) fn find(directory: &Path) -> anyhow::Result<Self> {
        let beside = directory.parent().map(|parent| parent.join("log"));
        let candidates = [Some(directory.join("log")), Some(directory.to_owned()), beside];
        let path = candidates.into_iter().flatten().find(|folder| folder.join("checkpoint").is_file());
        let read = |name: &str| {
            let file = path.as_ref().map(|folder| folder.join(name)).filter(|file| file.is_file());
            file.map(fs::read_to_string).transpose().with_context(|| format!("cannot read the log's {name}"))
        };
        // In this order: what is witnessed was published before.
        let (witnessed, note) = (read("checkpoint.witnessed")?, read("checkpoint")?);
        Ok(LogFolder { path, note, witnessed })
    }

    /// The log's key with the certificate of its sink.
    pub(crate) fn key(&self) -> anyhow::Result<CertifiedLogKey> {
        let folder = self.path.as_ref().context("there is no log with a checkpoint here")?;
        certified(&fs::read_to_string(folder.join("key.pub")).context("the log's key cannot be read")?)
    }
}

/// Two lines: the verifier key, and the sink's certificate of it.
pub(crate) fn certified(text: &str) -> anyhow::Result<CertifiedLogKey> {
    let (key, certificate) = text.trim_end().split_once('\n').context("the log's key is damaged")?;
    let key: NoteKey = key.parse().context("the log's key is damaged")?;
    let certificate = certificate.parse().map_err(|_| anyhow!("the log's key is damaged"))?;
    let certified = CertifiedLogKey { key: key.key(), certificate };
    // One spelling: the name is what the key gives, digits are small.
    ensure!(text == format!("{}\n{certificate}\n", log_key(certified.key)), "the log's key is damaged");
    Ok(certified)
}
