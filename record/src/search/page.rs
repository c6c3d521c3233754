//! What a search answers: hits with what vouches for them, and what the index knows and the store lacks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::View;

/// Hits of one page when no number was asked for.
pub const HITS: usize = 20;
/// Most hits of one page.
pub const HITS_MAX: usize = 1_000;
/// Entries that one batch may have: the store's limit, which a place of an entry is made with.
pub const BATCH_ENTRIES_MAX: u64 = 1024;

/// Place of an entry in the order in which the sink stored: number of its batch among all, and its own in there. The
/// next page begins before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

impl Cursor {
    /// The entry of this index in the batch of this number.
    pub fn of(batch: u64, index: u64) -> Self {
        Cursor(batch.saturating_mul(BATCH_ENTRIES_MAX).saturating_add(index.min(BATCH_ENTRIES_MAX - 1)))
    }

    /// Number of the batch.
    pub fn batch(self) -> u64 {
        self.0 / BATCH_ENTRIES_MAX
    }

    /// Index of the entry in it.
    pub fn index(self) -> u64 {
        self.0 % BATCH_ENTRIES_MAX
    }
}

impl Cursor {
    /// The one before it.
    #[must_use]
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1).map(Cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.batch(), self.index())
    }
}
impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let digits =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let (batch, index) = text.split_once('.').ok_or(CursorError)?;
        let (batch, index): (u64, u64) = digits(batch).zip(digits(index)).ok_or(CursorError)?;
        if index >= BATCH_ENTRIES_MAX || batch > u64::MAX / BATCH_ENTRIES_MAX - 1 {
            return Err(CursorError);
        }
        Ok(Cursor::of(batch, index))
    }
}
impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: take the one that the page before ended with, such as 120.3")]
pub struct CursorError;

/// Whether an entry was checked against its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The body has the hash that its header names, the header is in its batch's tree, and the batch is signed by the
    /// key that the one before it handed over.
    pub verified: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// All holds that is left to be checked: the body is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub header_only: bool,
}

impl Evidence {
    /// All holds.
    pub fn verified() -> Self {
        Evidence { verified: true, reason: None, header_only: false }
    }

    /// Something does not, and this is what.
    pub fn unverified(reason: impl Into<String>) -> Self {
        Evidence { verified: false, reason: Some(reason.into()), header_only: false }
    }

    /// That of one entry in a batch that was checked: a body that is not there vouches for nothing.
    #[must_use]
    pub fn of_body(self, is_here: bool, expired: bool) -> Self {
        if is_here || !self.verified {
            return self;
        }
        let why = if expired { "has expired" } else { "is withheld" };
        let why = format!("its body {why}: only its header could be checked");
        Evidence { header_only: true, ..Evidence::unverified(why) }
    }
}

/// An entry that was found, read from its segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// How it is cited: host/epoch/sequence.
    pub id: String,
    /// What vouches for it.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// The entry.
    pub entry: View,
}

/// What the index knows and the store lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingHit {
    /// How the entry was cited: host/epoch/sequence.
    pub id: String,
    /// When the sink had received it, Unix ns.
    pub received: i64,
    /// What is wrong.
    pub reason: String,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// An entry.
    Hit(Box<Hit>),
    /// Missing evidence.
    Missing(MissingHit),
}

/// One page of an answer, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchPage {
    /// What was found.
    pub found: Vec<Found>,
    /// Where the next page begins; absent when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Entries stored after this time are not searched yet: the index is being built. Unix ns by the sink's clock;
    /// absent when all is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_to: Option<i64>,
    /// Entries that were read.
    pub looked: u64,
    /// Limits that were hit, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}
