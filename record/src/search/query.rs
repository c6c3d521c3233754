//! What people search for: words, "phrases" and prefix*, all of which an entry must have.
//!
//! ```text
//! query  = (term space*)*        term = "phrase" | text [ "*" ]
//! ```
//! A term of several words (`10.2.0.9`, `no_such_table`, `/v1/charge`) wants them one after the other in one value,
//! like a phrase. Queries come from the network: their length and the number of words are bounded.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::words::{texts, words};
use crate::View;

/// Longest query, bytes.
pub const QUERY_BYTES_MAX: usize = 1024;
/// Most words in one query.
pub const WORDS_MAX: usize = 64;
/// Fewest characters before a `*`: shorter beginnings are those of half of all words.
pub const PREFIX_CHARACTERS_MIN: usize = 2;

/// What must be there for an entry to be found, as far as words tell: an entry without it does not match, one with it
/// may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// This word.
    Word(String),
    /// A word that begins so.
    Prefix(String),
    /// All of these.
    All(Vec<Need>),
    /// One of these at least.
    Any(Vec<Need>),
}

impl Need {
    /// Whether an entry has it.
    pub fn is_met(&self, view: &View) -> bool {
        let mut found = HashSet::new();
        texts(view, |text| {
            words(text, |word| {
                if !found.contains(word) {
                    found.insert(word.to_owned());
                }
            });
        });
        self.is_among(&found)
    }

    fn is_among(&self, found: &HashSet<String>) -> bool {
        match self {
            Need::Word(word) => found.contains(word),
            Need::Prefix(prefix) => found.iter().any(|word| word.starts_with(prefix.as_str())),
            Need::All(all) => all.iter().all(|need| need.is_among(found)),
            Need::Any(any) => any.iter().any(|need| need.is_among(found)),
        }
    }
}

/// Words that follow each other in one value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    words: Vec<String>,
    /// The last word is only a beginning.
    prefix: bool,
}

/// A query that was understood. Without terms it finds every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term>,
}

/// A text that is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Too long.
    #[error("the query is longer than {QUERY_BYTES_MAX} bytes")]
    TooLong,
    /// Too many words.
    #[error("the query has more than {WORDS_MAX} words")]
    TooManyWords,
    /// An open quote.
    #[error("a quote (\") is never closed")]
    OpenQuote,
    /// Nothing to look for.
    #[error("`{0}` holds no word: words are letters and digits")]
    NoWord(String),
    /// A beginning that is too short.
    #[error("`{0}` is too short: at least {PREFIX_CHARACTERS_MIN} letters or digits must stand before *")]
    ShortPrefix(String),
    /// A star where it means nothing.
    #[error("`{0}`: a * stands at the end of a word, and not inside of quotes")]
    Star(String),
}

impl FromStr for Query {
    type Err = QueryError;
    fn from_str(source: &str) -> Result<Self, QueryError> {
        if source.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        let mut query = Query::default();
        let mut count = 0;
        let mut rest = source.trim_start();
        while !rest.is_empty() {
            let (text, quoted, after) = match rest.strip_prefix('"') {
                Some(inner) => {
                    let (text, after) = inner.split_once('"').ok_or(QueryError::OpenQuote)?;
                    (text, true, after)
                }
                None => {
                    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
                    (&rest[..end], false, &rest[end..])
                }
            };
            let term = term(text, quoted)?;
            count += term.words.len();
            if count > WORDS_MAX {
                return Err(QueryError::TooManyWords);
            }
            query.terms.push(term);
            rest = after.trim_start();
        }
        Ok(query)
    }
}

fn term(text: &str, quoted: bool) -> Result<Term, QueryError> {
    let shown = || crate::text::escape(text).into_owned();
    let bare = text.strip_suffix('*').filter(|_| !quoted);
    if bare.unwrap_or(text).contains('*') {
        return Err(QueryError::Star(shown()));
    }
    let mut found = Vec::new();
    words(bare.unwrap_or(text), |word| found.push(word.to_owned()));
    let Some(last) = found.last() else { return Err(QueryError::NoWord(shown())) };
    // `/v1/*` would be every word.
    let ends_in_a_word = bare.is_none_or(|bare| bare.ends_with(char::is_alphanumeric));
    if bare.is_some() && (last.chars().count() < PREFIX_CHARACTERS_MIN || !ends_in_a_word) {
        return Err(QueryError::ShortPrefix(shown()));
    }
    Ok(Term { words: found, prefix: bare.is_some() })
}

impl Query {
    /// Whether it finds every entry.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the entry has all terms.
    pub fn matches(&self, view: &View) -> bool {
        let mut open: Vec<(&Term, Progress)> =
            self.terms.iter().map(|term| (term, Progress::default())).collect();
        if open.is_empty() {
            return true;
        }
        texts(view, |text| {
            if open.is_empty() {
                return;
            }
            open.iter_mut().for_each(|(_, progress)| progress.0 = 0);
            words(text, |word| open.retain_mut(|(term, progress)| !progress.step(term, word)));
        });
        open.is_empty()
    }

    /// The words that an entry must have.
    pub fn need(&self) -> Need {
        let of = |term: &Term| {
            let last = term.words.len().saturating_sub(1);
            let one = |(index, word): (usize, &String)| {
                if term.prefix && index == last {
                    Need::Prefix(word.clone())
                } else {
                    Need::Word(word.clone())
                }
            };
            term.words.iter().enumerate().map(one).collect::<Vec<_>>()
        };
        Need::All(self.terms.iter().flat_map(of).collect())
    }
}

/// Which beginnings of a term end at the present word: bit N for N words. A term has at most 64.
#[derive(Clone, Copy, Default)]
struct Progress(u64);

impl Progress {
    /// Takes the next word; whether the whole term ended here.
    fn step(&mut self, term: &Term, word: &str) -> bool {
        let (candidates, last) = (self.0 << 1 | 1, term.words.len().saturating_sub(1));
        self.0 = 0;
        for (index, own) in term.words.iter().enumerate() {
            if candidates >> index & 1 == 0 {
                continue;
            }
            let fits =
                if term.prefix && index == last { word.starts_with(own.as_str()) } else { word == own };
            if fits && index == last {
                return true;
            }
            self.0 |= u64::from(fits) << index;
        }
        false
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            // A dot joins as well as any other character between words, and lets a * stand behind.
            let (joined, star) = (term.words.join("."), if term.prefix { "*" } else { "" });
            write!(f, "{space}{joined}{star}")?;
        }
        Ok(())
    }
}
