//! The index of words in redb: which entries have which words, and which batches they lie in. Disposable: it holds
//! nothing that is not in the segments, and no text that could be shown.

use std::collections::HashMap;
use std::path::Path;

use custody_ledger::{BatchNumber, Hash, HostId, Seq, codec};
use custody_record::search::Cursor;
use custody_record::search::page::BATCH_ENTRIES_MAX;
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use super::SearchError;
use super::postings::{self, PIECE_MAX};
use crate::store::Place;

/// Of the format and of what words are: another one is thrown away and built again.
const VERSION: u32 = 2;
/// Memory that redb may keep, bytes.
const CACHE_BYTES: usize = 8 << 20;
/// The list of entries with more words than are indexed. No word begins so.
pub(super) const OVER: &str = "\0over";

/// One row.
const META: TableDefinition<'_, (), &[u8]> = TableDefinition::new("meta");
/// number in the order of the store → [`IndexedBatch`]
const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");
/// (word, first place) → distances of further places
pub(super) const WORDS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("words");

/// How far the index goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reach {
    pub(super) version: u32,
    /// Up to here the segments are read.
    pub(super) covered: Option<Place>,
    /// Batches so far.
    pub(super) batches: u64,
    /// The latest time at which one of them was received, ns since 1970.
    pub(super) received_ns: u64,
    /// Up to this segment words of bodies that have expired are forgotten.
    #[serde(default)]
    pub(super) forgotten: u64,
}

/// A batch as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexedBatch {
    pub(crate) host: HostId,
    /// The segment that it lies in.
    pub(crate) segment: u64,
    pub(crate) epoch: u64,
    pub(crate) number: BatchNumber,
    pub(crate) hash: Hash,
    pub(crate) first_seq: Seq,
    pub(crate) count: u32,
    pub(crate) received_ns: u64,
    /// The latest time at which it or one before it was received: clocks may go back.
    pub(crate) latest_ns: u64,
}

/// What is not in the database yet.
#[derive(Default)]
pub(super) struct Pending {
    words: HashMap<String, Vec<u64>>,
    batches: Vec<(u64, IndexedBatch)>,
    bytes: usize,
}

/// Memory of a word beyond its text, roughly, bytes.
const WORD_OVERHEAD: usize = 96;

impl Pending {
    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn batch(&mut self, number: u64, batch: IndexedBatch) {
        self.bytes += size_of::<(u64, IndexedBatch)>();
        self.batches.push((number, batch));
    }

    /// The entry at this place has this word. Places come in order. Whether that is new.
    pub(super) fn word(&mut self, word: &str, place: Cursor) -> bool {
        let places = match self.words.get_mut(word) {
            Some(places) => places,
            None => {
                self.bytes += word.len() + WORD_OVERHEAD;
                self.words.entry(word.to_owned()).or_default()
            }
        };
        let is_new = places.last() != Some(&place.0);
        if is_new {
            self.bytes += size_of::<u64>();
            places.push(place.0);
        }
        is_new
    }

    /// Whether this word of the entry at the newest place is known already.
    pub(super) fn has(&self, word: &str, place: Cursor) -> bool {
        self.words.get(word).and_then(|places| places.last()) == Some(&place.0)
    }
}

pub(super) struct Index {
    pub(super) database: Database,
}

impl Index {
    /// Opens or creates. An error means that what is there is of no use.
    pub(super) fn open(path: &Path) -> Result<Self, SearchError> {
        let exists = path.exists();
        let mut database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
        if exists && !database.check_integrity()? {
            return Err(SearchError::Damaged("its checksums do not hold"));
        }
        let transaction = database.begin_write()?;
        transaction.open_table(META)?;
        transaction.open_table(BATCHES)?;
        transaction.open_table(WORDS)?;
        transaction.commit()?;
        let index = Index { database };
        let reach = index.snapshot()?.reach;
        if reach.version != VERSION && reach != Reach::default() {
            return Err(SearchError::Damaged("it is of another version"));
        }
        Ok(index)
    }

    /// Adds what is pending and moves the reach, in one step. Without `durable` it may be gone after a crash, and is
    /// then read from the segments again.
    pub(super) fn apply(&self, pending: &Pending, reach: Reach, durable: bool) -> Result<(), SearchError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        {
            let mut batches = transaction.open_table(BATCHES)?;
            for (number, batch) in &pending.batches {
                batches.insert(number, codec::encode("indexed batch", batch)?.as_slice())?;
            }
            let mut table = transaction.open_table(WORDS)?;
            let mut words: Vec<(&String, &Vec<u64>)> = pending.words.iter().collect();
            words.sort_unstable();
            for (word, places) in words {
                for piece in places.chunks(PIECE_MAX) {
                    let Some(first) = piece.first() else { continue };
                    table.insert((word.as_bytes(), *first), postings::encode(piece).as_slice())?;
                }
            }
            let reach = Reach { version: VERSION, ..reach };
            transaction.open_table(META)?.insert((), codec::encode("reach", &reach)?.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The index as it is now, whatever is added later.
    pub(super) fn snapshot(&self) -> Result<Snapshot, SearchError> {
        let transaction = self.database.begin_read()?;
        let reach = match transaction.open_table(META)?.get(())? {
            Some(row) => codec::decode("reach", row.value())?,
            None => Reach::default(),
        };
        Ok(Snapshot {
            reach,
            batches: transaction.open_table(BATCHES)?,
            words: transaction.open_table(WORDS)?,
        })
    }
}

/// The index at one moment.
pub(crate) struct Snapshot {
    pub(super) reach: Reach,
    batches: ReadOnlyTable<u64, &'static [u8]>,
    words: ReadOnlyTable<(&'static [u8], u64), &'static [u8]>,
}

impl Snapshot {
    /// The batch of this number.
    pub(crate) fn batch(&self, number: u64) -> Result<Option<IndexedBatch>, SearchError> {
        let row = self.batches.get(number)?;
        Ok(row.map(|row| codec::decode("indexed batch", row.value())).transpose()?)
    }

    /// The place of the newest entry that can be asked for.
    pub(crate) fn newest(&self) -> Option<Cursor> {
        self.reach.batches.checked_sub(1).map(|last| Cursor::of(last, BATCH_ENTRIES_MAX - 1))
    }

    /// The piece of this word's list that holds the last place up to `at`.
    pub(super) fn piece(&self, word: &str, at: u64) -> Result<Option<Vec<u64>>, SearchError> {
        let mut range = self.words.range((word.as_bytes(), 0)..=(word.as_bytes(), at))?;
        let Some(row) = range.next_back() else { return Ok(None) };
        let (key, value) = row?;
        let places = postings::decode(key.value().1, value.value());
        places.map(Some).ok_or(SearchError::Damaged("a list of entries is none"))
    }

    /// Words that begin so, at most `limit`; `None` if there are more.
    pub(super) fn words_with(&self, prefix: &str, limit: usize) -> Result<Option<Vec<String>>, SearchError> {
        let mut found: Vec<String> = Vec::new();
        let mut from = (prefix.as_bytes().to_vec(), 0);
        loop {
            let mut range = self.words.range((from.0.as_slice(), from.1)..)?;
            let Some(row) = range.next() else { return Ok(Some(found)) };
            let row = row?;
            let (word, _) = row.0.value();
            if !word.starts_with(prefix.as_bytes()) {
                return Ok(Some(found));
            }
            if found.len() == limit {
                return Ok(None);
            }
            let word = std::str::from_utf8(word).map_err(|_| SearchError::Damaged("a word is no text"))?;
            found.push(word.to_owned());
            from = (word.as_bytes().to_vec(), u64::MAX);
            // No entry has the last place of all, so this passes over the word's own pieces only.
        }
    }
}
