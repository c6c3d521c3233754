//! Views to text. Every text of a record goes through `custody_record::text` before it stands here.

pub(crate) mod found;
pub(crate) mod line;
pub(crate) mod page;
pub(crate) mod stats;
pub(crate) mod table;
