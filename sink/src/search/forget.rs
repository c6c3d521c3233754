//! Words of bodies that have expired leave the index: all words of the batches of those segments go, and what is left of
//! these batches is read and put in again, as it would be if the index were built anew.

use std::ops::Range;

use redb::{Durability, ReadableDatabase};

use super::SearchError;
use super::index::{Index, Snapshot, WORDS};
use super::postings;

/// Lists that are changed in one transaction: bounds memory.
const LISTS_MAX: usize = 16_384;

/// A word and the first place of a piece of its list.
type Key = (Vec<u8>, u64);

impl Snapshot {
    /// The number of the first batch that lies in this segment or in a later one.
    pub(super) fn first_in(&self, segment: u64) -> Result<u64, SearchError> {
        let (mut low, mut high) = (0, self.reach.batches);
        while low < high {
            let middle = low + (high - low) / 2;
            let batch = self.batch(middle)?.ok_or(SearchError::Damaged("a batch has no row"))?;
            if batch.segment < segment { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

impl Index {
    /// Takes these places out of all lists. Not durable by itself: whoever dies before the next durable change does it
    /// again.
    pub(super) fn forget(&self, places: &Range<u64>) -> Result<(), SearchError> {
        let mut from: Option<Key> = None;
        loop {
            let lists = self.lists_with(places, from.as_ref())?;
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            {
                let mut table = transaction.open_table(WORDS)?;
                for ((word, first), list) in &lists {
                    table.remove((word.as_slice(), *first))?;
                    let (before, rest) = list.split_at(list.partition_point(|place| *place < places.start));
                    let (_, behind) = rest.split_at(rest.partition_point(|place| *place < places.end));
                    for piece in [before, behind] {
                        let Some(first) = piece.first() else { continue };
                        table.insert((word.as_slice(), *first), postings::encode(piece).as_slice())?;
                    }
                }
            }
            transaction.commit()?;
            if lists.len() < LISTS_MAX {
                return Ok(());
            }
            from = lists.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// Lists that hold one of these places, behind `from`.
    fn lists_with(
        &self,
        places: &Range<u64>,
        from: Option<&Key>,
    ) -> Result<Vec<(Key, Vec<u64>)>, SearchError> {
        let table = self.database.begin_read()?.open_table(WORDS)?;
        let start = from.map_or((&[][..], 0), |(word, first)| (word.as_slice(), first.saturating_add(1)));
        let mut found = Vec::new();
        for row in table.range(start..)? {
            let (key, list) = row?;
            let (word, first) = key.value();
            if first >= places.end {
                continue;
            }
            let list = postings::decode(first, list.value());
            let list = list.ok_or(SearchError::Damaged("a list of entries is none"))?;
            if list.iter().any(|place| places.contains(place)) {
                found.push(((word.to_vec(), first), list));
            }
            if found.len() == LISTS_MAX {
                break;
            }
        }
        Ok(found)
    }
}
