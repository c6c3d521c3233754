//! Searching and counting stored entries: what people ask ([`Query`]) and what they get ([`page`], [`Stats`],
//! [`timeline`]). Pure, and used by the sink and by who reads a copy of a store alike, so that both give the same
//! answers.

mod by;
mod durations;
pub mod page;
mod query;
mod shape;
mod stats;
#[cfg(test)]
mod tests;
pub mod timeline;
mod words;

pub use by::{By, ByError, KEYS_MAX};
pub use page::{Cursor, Evidence, Found, Hit, MissingHit, SearchPage};
pub use query::{Need, PREFIX_CHARACTERS_MIN, QUERY_BYTES_MAX, Query, QueryError, WORDS_MAX};
pub use shape::{sql, statement};
pub use stats::{GROUPS_MAX, Stats, StatsPage, StatsRow};
pub use timeline::{Subject, TimelinePage};
pub(crate) use words::is_count;
pub use words::{WORD_BYTES_MAX, texts, words};
