//! Searching stored entries: what people ask ([`Query`]) and what they get ([`page`]). Pure, and used by the sink and by who reads a copy of a store alike, so that both give the same
//! answers.

pub mod page;
mod query;
#[cfg(test)]
mod tests;
mod words;

pub use page::{Cursor, Evidence, Found, Hit, MissingHit, SearchPage};
pub use query::{Need, PREFIX_CHARACTERS_MIN, QUERY_BYTES_MAX, Query, QueryError, WORDS_MAX};
pub use words::{WORD_BYTES_MAX, texts, words};
