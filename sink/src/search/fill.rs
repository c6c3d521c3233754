//! Fills the index from the stored batches, in the order of the store, and builds it anew when it is of no use. Never
//! decides what is evidence, and never makes the store wait.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use custody_ledger::HostId;
use custody_record::View;
use custody_record::search::{Cursor, texts, words};

use super::index::{Index, IndexedBatch, OVER, Pending, Reach};
use super::{SearchError, Shared};
use crate::query::Viewer;
use crate::store::{HostRow, Place, StoredBatch, Walk};

/// How often what came is put into the index, unless somebody waits for it.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);
/// What is gathered before it is put into the index, bytes: bounds memory.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Different words of one entry that are indexed; one with more is read at every search.
const WORDS_MAX: usize = 4096;
/// How often the index is synced: what is not is read again after a crash.
const SYNC_INTERVAL: Duration = Duration::from_secs(10);
/// How often progress is told while the index is being built.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Of the thread: what it does can wait, receipts cannot.
const NICE: i32 = 10;

/// Runs until the search is stopped.
pub(super) fn run(shared: &Shared) {
    if rustix::process::setpriority_process(None, NICE).is_err() {
        tracing::debug!("the thread that fills the index of words runs at full priority");
    }
    while !shared.lock().stopping {
        // redb may panic on pages that are not its own.
        let filled = catch_unwind(AssertUnwindSafe(|| fill(shared)));
        let error = match filled {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => SearchError::Damaged("reading it failed"),
        };
        let mut state = shared.lock();
        state.index = None;
        state.covered = None;
        shared.metrics.search_ready(false);
        match error {
            SearchError::Index(_) | SearchError::Damaged(_) | SearchError::Codec(_) => {
                state.damaged = false;
                drop(state);
                tracing::warn!(%error, "the index of words is thrown away and built again");
                shared.metrics.search_rebuilt();
                if let Err(error) = discard(shared) {
                    tracing::error!(%error, "the old index of words cannot be deleted");
                    pause(shared, TROUBLE_PAUSE);
                }
            }
            error => {
                drop(state);
                tracing::error!(%error, "the index of words is not filled; searching will be tried again");
                pause(shared, TROUBLE_PAUSE);
            }
        }
    }
}

fn discard(shared: &Shared) -> Result<(), SearchError> {
    match std::fs::remove_file(shared.folder.join("index.redb")) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SearchError::File { action: "empty", source })
        }
        _ => Ok(()),
    }
}

/// Waits for a moment, or until somebody asks or it is to stop.
fn pause(shared: &Shared, length: Duration) {
    let state = shared.lock();
    let quiet = |state: &mut super::State| !state.asked && !state.stopping && !state.damaged;
    let waited = shared.changed.wait_timeout_while(state, length, quiet);
    waited.unwrap_or_else(PoisonError::into_inner).0.asked = false;
}

fn fill(shared: &Shared) -> Result<(), SearchError> {
    std::fs::create_dir_all(&shared.folder)
        .map_err(|source| SearchError::File { action: "create", source })?;
    let index = Arc::new(Index::open(&shared.folder.join("index.redb"))?);
    let reach = index.snapshot()?.reach;
    if reach.covered > shared.store.durable()? {
        // The index remembers what the store has lost: worth keeping for whoever asks why.
        let aside = shared.folder.join(format!("ahead-{}.redb", crate::clock::now_ns()));
        drop(index);
        std::fs::rename(shared.folder.join("index.redb"), &aside)
            .map_err(|source| SearchError::File { action: "move a file in", source })?;
        tracing::error!(aside = %aside.display(), "the index of words knows batches that the store has lost");
        return fill(shared);
    }
    publish(shared, Some(Arc::clone(&index)), &reach);
    let mut filler = Filler {
        shared,
        index,
        reach,
        pending: Pending::default(),
        hosts: HashMap::new(),
        viewer: Viewer::without_levels(),
        synced: Instant::now(),
        told: Instant::now(),
        building: false,
    };
    filler.follow()
}

fn publish(shared: &Shared, index: Option<Arc<Index>>, reach: &Reach) {
    let mut state = shared.lock();
    if index.is_some() {
        state.index = index;
    }
    state.covered = reach.covered;
    let segment = reach.covered.map_or(0, |place| place.segment);
    shared.metrics.search_reached(reach.batches, segment, reach.forgotten);
    shared.changed.notify_all();
}

struct Filler<'s> {
    shared: &'s Shared,
    index: Arc<Index>,
    reach: Reach,
    pending: Pending,
    hosts: HashMap<HostId, Option<HostRow>>,
    viewer: Viewer,
    synced: Instant,
    told: Instant,
    /// More than a moment's batches are still to be read.
    building: bool,
}

impl Filler<'_> {
    /// Ends when it is to stop.
    fn follow(&mut self) -> Result<(), SearchError> {
        loop {
            let stopping = self.shared.lock().stopping;
            if stopping {
                return self.put(true);
            }
            if self.shared.lock().damaged {
                return Err(SearchError::Damaged("a search found it so"));
            }
            if self.shared.store.has_room() {
                self.forget()?;
            }
            let durable = self.shared.store.durable()?;
            if self.reach.covered >= durable {
                self.shared.metrics.search_ready(true);
                if std::mem::take(&mut self.building) {
                    tracing::info!(batches = self.reach.batches, "the index of words is built");
                }
                pause(self.shared, PAUSE);
            } else if self.shared.store.has_room() {
                let before = self.reach;
                let mut walk = self.shared.store.walk(self.reach.covered)?;
                self.gather(&mut walk)?;
                let from = before.covered.map_or(0, |place| place.segment);
                let expired = self.shared.store.expired_to();
                if expired > before.forgotten && expired >= from {
                    // A segment was replaced meanwhile: what was read of it may be of before.
                    (self.reach, self.pending) = (before, Pending::default());
                    continue;
                }
                self.put(self.synced.elapsed() >= SYNC_INTERVAL)?;
                self.tell(durable);
            } else {
                // The disk's reserve is for evidence.
                pause(self.shared, TROUBLE_PAUSE);
            }
        }
    }

    /// Reads batches until enough is pending.
    fn gather(&mut self, walk: &mut Walk) -> Result<(), SearchError> {
        loop {
            match walk.next() {
                None => {
                    self.reach.covered = Some(walk.place());
                    return Ok(());
                }
                Some(Ok(batch)) => {
                    self.reach.covered = Some(walk.place());
                    self.batch(&batch, walk.place().segment)?;
                }
                Some(Err(error)) => {
                    // `custody verify` names it; a search must go on with the rest.
                    tracing::error!(%error, "a part of the store cannot be indexed");
                    self.shared.metrics.search_unreadable();
                }
            }
            if self.pending.bytes() >= PENDING_BYTES_MAX {
                return Ok(());
            }
        }
    }

    /// Takes words of bodies that have expired out of the index, and puts in what is left of their entries.
    fn forget(&mut self) -> Result<(), SearchError> {
        let (from, to) = (self.reach.forgotten.saturating_add(1), self.shared.store.expired_to());
        if to < from {
            return Ok(());
        }
        let snapshot = self.index.snapshot()?;
        let (start, mut end) = (snapshot.first_in(from)?, snapshot.first_in(to.saturating_add(1))?);
        let mut next = Reach { forgotten: to, ..self.reach };
        self.index.forget(&(Cursor::of(start, 0).0..Cursor::of(end, 0).0))?;
        // Where the index ends inside of a segment that was replaced, it goes on from that one's beginning.
        if let Some(covered) = next.covered.filter(|covered| (from..=to).contains(&covered.segment)) {
            end = snapshot.first_in(covered.segment)?;
            next.covered = Some(Place { offset: 0, ..covered });
            next.batches = end;
        }
        let before = start.checked_sub(1).map(|last| snapshot.batch(last)).transpose()?.flatten();
        self.reach.batches = start;
        self.reach.received_ns = before.map_or(0, |batch| batch.latest_ns);
        // What it remembers of sessions is of before.
        self.viewer = Viewer::without_levels();
        let mut walk = self.shared.store.walk(Some(Place { segment: from, offset: 0 }))?;
        let unforgotten = Reach { forgotten: from - 1, ..next };
        while self.reach.batches < end {
            let Some(batch) = walk.next() else { break };
            self.batch(&batch?, walk.place().segment)?;
            if self.pending.bytes() >= PENDING_BYTES_MAX {
                self.index.apply(&std::mem::take(&mut self.pending), unforgotten, false)?;
            }
        }
        if next.batches == end {
            next.received_ns = self.reach.received_ns;
        }
        self.reach = next;
        tracing::info!(segment = to, "words of bodies that have expired have left the index");
        self.put(true)
    }

    fn batch(&mut self, batch: &StoredBatch, segment: u64) -> Result<(), SearchError> {
        let number = self.reach.batches;
        self.reach.batches += 1;
        self.reach.received_ns = self.reach.received_ns.max(batch.received_ns);
        let entries = batch.entries().unwrap_or_else(|error| {
            tracing::error!(%error, "a stored batch cannot be indexed");
            self.shared.metrics.search_unreadable();
            Vec::new()
        });
        self.pending.batch(
            number,
            IndexedBatch {
                host: batch.host,
                segment,
                epoch: batch.batch.epoch.counter,
                number: batch.batch.number,
                hash: batch.batch.hash,
                first_seq: entries.first().map_or(custody_ledger::Seq(0), |entry| entry.header.seq),
                count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                received_ns: batch.received_ns,
                latest_ns: self.reach.received_ns,
            },
        );
        if !self.hosts.contains_key(&batch.host) {
            self.hosts.insert(batch.host, self.shared.store.host(batch.host)?);
        }
        let Some(Some(host)) = self.hosts.get(&batch.host) else { return Ok(()) };
        for (index, entry) in (0..).zip(&entries) {
            let view = self.viewer.view_or_alone(&self.shared.store, host, entry);
            put_words(&mut self.pending, &view, Cursor::of(number, index));
        }
        Ok(())
    }

    fn put(&mut self, durable: bool) -> Result<(), SearchError> {
        self.index.apply(&self.pending, self.reach, durable)?;
        self.pending = Pending::default();
        if durable {
            self.synced = Instant::now();
        }
        publish(self.shared, None, &self.reach);
        Ok(())
    }

    /// Progress, while there is more to read than comes.
    fn tell(&mut self, durable: Option<Place>) {
        let (at, of) = (self.reach.covered.map_or(0, |at| at.segment), durable.map_or(0, |to| to.segment));
        if self.reach.covered >= durable {
            return;
        }
        self.shared.metrics.search_ready(false);
        if !self.building || self.told.elapsed() >= PROGRESS_INTERVAL {
            self.building = true;
            self.told = Instant::now();
            tracing::info!(
                batches = self.reach.batches,
                segment = at,
                segments = of,
                "the index of words is being built"
            );
        }
    }
}

fn put_words(pending: &mut Pending, view: &View, place: Cursor) {
    let (mut found, mut over) = (0, false);
    texts(view, |text| {
        words(text, |word| {
            if found == WORDS_MAX {
                over |= !pending.has(word, place);
            } else {
                found += usize::from(pending.word(word, place));
            }
        });
    });
    if over {
        pending.word(OVER, place);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use custody_record::{Status, Value, names};

    use super::*;

    /// An entry of so many different words, each twice.
    fn view(words: usize) -> View {
        // Type, host's name and host are words too.
        let text: Vec<String> = (3..words).map(|word| format!("word{word}")).collect();
        let text = [text.join(" "), text.join(" ")].join(" ");
        View {
            host: "host".to_owned(),
            host_name: "name".to_owned(),
            epoch: 1,
            seq: 0,
            entry_type: "exchange".to_owned(),
            session_id: None,
            exchange: None,
            received: 1,
            wall: 1,
            status: Status::Stored,
            record: None,
            session: [(names::URL_PATH.into(), Value::from(text.as_str()))].into_iter().collect(),
            labels: BTreeMap::new(),
            unreadable: false,
            expired: false,
        }
    }

    #[test]
    fn an_entry_of_more_words_than_are_indexed_is_told_apart() {
        for (words, is_over) in [(WORDS_MAX - 1, false), (WORDS_MAX, false), (WORDS_MAX + 1, true)] {
            let (mut pending, place) = (Pending::default(), Cursor::of(7, 1));
            // Words of an entry before are none of this one.
            put_words(&mut pending, &view(10), Cursor::of(7, 0));
            put_words(&mut pending, &view(words), place);
            assert_eq!(pending.has(OVER, place), is_over, "{words} words");
            assert!(pending.has(&format!("word{}", words.min(WORDS_MAX) - 1), place));
        }
    }
}
