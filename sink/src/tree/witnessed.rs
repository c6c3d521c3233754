//! What witnesses say of the log: one checkpoint at a time is offered to be cosigned, what they hand in is verified, and
//! once enough of them signed, it is the newest witnessed checkpoint: durable beside the log's own before anybody is told,
//! and never followed by a smaller one. Cosigns nothing, and changes nothing that the log itself publishes.
//!
//! The one that is offered stays until it is witnessed, so that witnesses that look at different times sign the same one.
//! It stands in memory: after a restart the newest checkpoint is offered, and witnesses sign that one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use custody_ledger::tlog::note::{NoteError, NoteKey};
use custody_ledger::tlog::{Checkpoint, Note, Witnesses};
use tokio::sync::watch;

use super::files::{Files, WITNESSED};
use super::{Published, TreeError};
use crate::clock::now_ns;

/// A cosignature that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CosignatureError {
    /// The configuration names no witnesses.
    #[error("this sink collects no cosignatures: name witnesses in its configuration")]
    NotCollected,
    /// No signed note.
    #[error(transparent)]
    Malformed(#[from] NoteError),
    /// No line below it is that of a witness of this sink over it.
    #[error("no witness of this sink cosigned this checkpoint")]
    Forged,
    /// Another checkpoint than the one that is offered and the one that is witnessed.
    #[error("this checkpoint is not, or no longer, to be cosigned")]
    NotOffered,
    /// It cannot be kept.
    #[error(transparent)]
    Kept(#[from] TreeError),
}

/// See the module.
pub struct Witnessing {
    witnesses: Witnesses,
    files: Files,
    published: watch::Receiver<Arc<Published>>,
    newest: watch::Sender<Option<Arc<Published>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    offered: Option<(Checkpoint, Note)>,
    /// When a cosignature of each was last taken, seconds since 1970, by name.
    seen: BTreeMap<String, u64>,
}

/// How witnesses stand.
pub struct Figures {
    /// Leaves that are committed and not witnessed.
    pub leaves_waiting: u64,
    /// Leaves that are witnessed.
    pub leaves: u64,
    /// Since the newest cosignature of the newest witnessed checkpoint, seconds; `None` before the first one.
    pub age_s: Option<u64>,
    /// When a cosignature of each was last taken in this run, seconds since 1970, by name; 0 for never.
    pub seen: Vec<(String, u64)>,
}

impl Witnessing {
    /// Takes up the witnessed checkpoint that was published. `root` gives the root of the tree at a size, `None` beyond
    /// its end.
    pub(super) fn open(
        files: Files,
        log: &NoteKey,
        witnesses: Witnesses,
        published: watch::Receiver<Arc<Published>>,
        root: impl Fn(u64) -> Result<Option<custody_ledger::Hash>, TreeError>,
    ) -> Result<Self, TreeError> {
        let kept = files.read(WITNESSED)?.map(|bytes| -> Result<_, TreeError> {
            let damaged = |detail: &dyn std::fmt::Display| {
                TreeError::Damaged(format!("log/{WITNESSED}: {detail}; restore it from a copy, or move it away"))
            };
            let text = String::from_utf8(bytes).map_err(|error| damaged(&error))?;
            let checkpoint = Checkpoint::open_text(&text, log).map_err(|error| damaged(&error))?;
            if root(checkpoint.size)? != Some(checkpoint.root) {
                return Err(TreeError::Damaged(format!(
                    "witnesses cosigned a checkpoint of {} records that these segments do not give: records were changed \
                     or taken out; restore the segments from a copy",
                    checkpoint.size
                )));
            }
            Ok(Published { checkpoint, note: text })
        });
        // Others may be named since: then it counts again when they have signed one.
        let counts = |kept: &Published| {
            witnesses.demand_any() && kept.note.parse().is_ok_and(|note| witnesses.are_met(&note))
        };
        let newest = kept.transpose()?.filter(counts).map(Arc::new);
        let (newest, state) = (watch::channel(newest).0, Mutex::default());
        Ok(Witnessing { witnesses, files, published, newest, state })
    }

    /// The newest witnessed checkpoint, and the next ones.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }

    /// The newest witnessed checkpoint.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// The checkpoint that is to be cosigned, as its log signed it; `None` where no witnesses are named. Blocks.
    pub fn offered(&self) -> Option<String> {
        if !self.witnesses.demand_any() {
            return None;
        }
        let mut state = self.state();
        let published = Arc::clone(&self.published.borrow());
        if let Some(newest) =
            self.newest().filter(|newest| newest.checkpoint.size >= published.checkpoint.size)
        {
            return Some(newest.note.clone());
        }
        if state.offered.is_none() {
            // It was signed by this process, and is a note.
            let note = published.note.parse().ok();
            state.offered = note.map(|note| (published.checkpoint.clone(), note));
        }
        state.offered.as_ref().map(|(_, note)| note.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cosignatures below a checkpoint; how many leaves are witnessed then. Blocks.
    pub fn take(&self, text: &str) -> Result<u64, CosignatureError> {
        if !self.witnesses.demand_any() {
            return Err(CosignatureError::NotCollected);
        }
        let handed: Note = text.parse()?;
        let by: Vec<NoteKey> =
            self.witnesses.keys().filter(|key| key.verify(&handed).is_some()).cloned().collect();
        if by.is_empty() {
            return Err(CosignatureError::Forged);
        }
        let mut state = self.state();
        let newest = self.newest();
        let late = newest.as_ref().and_then(|newest| {
            let note: Note = newest.note.parse().ok()?;
            (note.text() == handed.text()).then(|| (newest.checkpoint.clone(), note))
        });
        let now_s = now_ns() / 1_000_000_000;
        let is_offered = state.offered.as_ref().is_some_and(|(_, note)| note.text() == handed.text());
        let (checkpoint, mut note) = match (is_offered, late) {
            (true, _) => state.offered.clone().ok_or(CosignatureError::NotOffered)?,
            (false, Some(late)) => late,
            (false, None) => return Err(CosignatureError::NotOffered),
        };
        for key in &by {
            note.adopt(&handed, key);
            state.seen.insert(key.name().to_owned(), now_s);
        }
        let text = note.to_string();
        if is_offered {
            state.offered = Some((checkpoint.clone(), note.clone()));
        }
        if self.witnesses.are_met(&note) && newest.as_ref().is_none_or(|newest| newest.note != text) {
            self.files.replace(WITNESSED, text.as_bytes())?;
            self.newest.send_replace(Some(Arc::new(Published { checkpoint, note: text })));
            if is_offered {
                state.offered = None;
            }
        }
        Ok(self.newest().map_or(0, |newest| newest.checkpoint.size))
    }

    /// How witnesses stand; `None` where none are named.
    pub fn figures(&self) -> Option<Figures> {
        if !self.witnesses.demand_any() {
            return None;
        }
        let newest = self.newest();
        let leaves = newest.as_ref().map_or(0, |newest| newest.checkpoint.size);
        let signed = newest.and_then(|newest| {
            let note = newest.note.parse().ok()?;
            self.witnesses.cosigned(&note).iter().map(|one| one.at_s).max()
        });
        let state = self.state();
        let seen = |key: &NoteKey| (key.name().to_owned(), state.seen.get(key.name()).copied().unwrap_or(0));
        Some(Figures {
            leaves_waiting: self.published.borrow().checkpoint.size.saturating_sub(leaves),
            leaves,
            age_s: signed.map(|at_s| (now_ns() / 1_000_000_000).saturating_sub(at_s)),
            seen: self.witnesses.keys().map(seen).collect(),
        })
    }
}
