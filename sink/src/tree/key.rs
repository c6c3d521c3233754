//! The log's own key: made once, signs checkpoints and nothing else.

use std::fs;
use std::path::Path;

use custody_ledger::LogKey;
use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};

use super::TreeError;
use super::files::{CHECKPOINT, Files, failed};

/// Loads the key, or makes it for a log that has signed nothing yet.
pub(super) fn open(directory: &Path, files: &Files) -> Result<LogKey, TreeError> {
    let path = directory.join("log.key");
    match fs::read(&path) {
        Ok(pkcs8) => Ok(LogKey::from_pkcs8(&pkcs8)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if files.read(CHECKPOINT)?.is_some() {
                return Err(TreeError::Damaged(format!(
                    "{} is not there, and the log has checkpoints: restore it from a copy, a new one would be another log",
                    path.display()
                )));
            }
            let (key, pkcs8) = LogKey::generate()?;
            crate::files::replace(&path, &pkcs8, 0o600)
                .map_err(|error| TreeError::Damaged(error.to_string()))?;
            Ok(key)
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// What others read: the key as notes name it, and the sink's certificate of it.
pub(super) fn public_file(key: &CertifiedLogKey) -> Vec<u8> {
    format!("{}\n{}\n", log_key(key.key), key.certificate).into_bytes()
}
