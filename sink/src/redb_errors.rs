//! The many error types of redb as one: each database of the sink says what it means for it.

/// `From` of each of redb's errors, by way of [`redb::Error`], into a variant of an error of ours.
macro_rules! from_redb {
    ($error:ident::$variant:ident) => {
        $crate::redb_errors::from_redb!(
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
