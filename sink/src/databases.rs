//! What the sink's databases have in common: how one is opened, and redb's many error types as one, of which each database
//! says what it means for it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

/// Opens a database, or makes it. It is made beside and renamed: redb writes a new file in several steps, and one that
/// was never finished can never be opened again.
pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<redb::Database, redb::Error> {
    if !path.try_exists()? {
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        drop(redb::Database::create(&beside)?);
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()?;
    }
    Ok(redb::Database::builder().set_cache_size(cache_bytes).create(path)?)
}

/// `From` of each of redb's errors, by way of [`redb::Error`], into a variant of an error of ours.
macro_rules! from_redb {
    ($error:ident::$variant:ident) => {
        $crate::databases::from_redb!(
            $error::$variant:
            redb::DatabaseError,
            redb::TransactionError,
            redb::TableError,
            redb::StorageError,
            redb::CommitError,
            redb::SetDurabilityError
        );
    };
    ($error:ident::$variant:ident: $($from:ty),+) => {
        $(impl From<$from> for $error {
            fn from(error: $from) -> Self {
                $error::$variant(error.into())
            }
        })+
    };
}
pub(crate) use from_redb;
