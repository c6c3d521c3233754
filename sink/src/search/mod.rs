//! Words of stored entries, so that a search need not read the whole store. The index says where to look and nothing
//! else: what people see is read from the segments and checked there.
//!
//! ```text
//! <state directory>/search/index.redb    disposable: delete it, and it is built again from the segments
//! ```
//!
//! A thread of its own fills it behind the store. It never holds what the store's writer waits for.

mod fill;
mod forget;
mod index;
mod plan;
mod postings;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::store::{Place, Store, StoreError};

pub(crate) use index::{IndexedBatch, Snapshot};
pub(crate) use plan::Plan;

use index::Index;

/// How long a search waits for what is stored to be in the index.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// Trouble of the index.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The database does not work.
    #[error("the index of words does not work: {0}")]
    Index(#[from] redb::Error),
    /// What is in it is not what was put there.
    #[error("the index of words is of no use: {0}")]
    Damaged(&'static str),
    /// A row of ours cannot be read.
    #[error("the index of words is of no use: {0}")]
    Codec(#[from] custody_ledger::codec::CodecError),
    /// A file operation failed.
    #[error("cannot {action} the folder of the index of words: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The search went through too many lists.
    #[error("the words are too common for one search")]
    TooManySteps,
    /// There is no index now.
    #[error("the index of words is not open yet")]
    Closed,
}

crate::databases::from_redb!(SearchError::Index);

/// The index and the thread that fills it.
pub struct Search {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    store: Arc<Store>,
    folder: PathBuf,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    index: Option<Arc<Index>>,
    /// Up to here the index answers.
    covered: Option<Place>,
    /// Somebody waits for all that is stored.
    asked: bool,
    /// The index must be thrown away.
    damaged: bool,
    stopping: bool,
}

impl Search {
    /// Starts to fill the index below `folder`. Trouble with it is told in the log and by its metrics: the sink
    /// receives all the same.
    pub fn start(store: Arc<Store>, folder: PathBuf, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { store, folder, metrics, state, changed: Condvar::new() });
        let filler = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("search".to_owned()).spawn(move || fill::run(&filler))?;
        Ok(Search { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The index as it is, after it had a moment to catch up with the store; with it up to when it answers (ns since
    /// 1970) if that is not all. Blocks.
    pub(crate) fn snapshot(&self) -> Result<(Snapshot, Option<u64>), SearchError> {
        let wanted = self.shared.store.durable()?;
        let until = Instant::now() + CATCH_UP_MAX;
        let mut state = self.shared.lock();
        while state.covered < wanted || state.index.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stopping {
                break;
            }
            state.asked = true;
            self.shared.changed.notify_all();
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let index = state.index.clone().ok_or(SearchError::Closed)?;
        drop(state);
        let snapshot = index.snapshot()?;
        let behind = (snapshot.reach.covered < wanted).then_some(snapshot.reach.received_ns);
        Ok((snapshot, behind))
    }

    /// The index gave what cannot be right: it is built again.
    pub(crate) fn distrust(&self, error: &SearchError) {
        if matches!(error, SearchError::Index(_) | SearchError::Damaged(_) | SearchError::Codec(_)) {
            self.shared.lock().damaged = true;
            self.shared.changed.notify_all();
        }
    }

    /// Ends the thread. What is not durable in the index is read again at the next start.
    pub fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that fills the index of words has ended early");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
