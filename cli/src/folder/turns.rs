//! A store read by several threads: each takes the next piece of it, does what needs no order at once with the others,
//! and then changes the state in its turn, in the order of the store. Bounded: one piece a thread. What comes out does
//! not depend on the number of threads.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use custody_ledger::segment::{Opener, Reader, Record, SegmentError, StoredRecord};

use super::{Damage, Folder};

/// A piece ends with the record that brings its payloads to so many bytes.
const PIECE_BYTES: usize = 512 * 1024;
/// Read at once, bytes.
const READ_BYTES: usize = 1 << 20;
/// More threads would only wait for their turns.
const THREADS_MAX: usize = 16;

impl Folder {
    /// Hands every record over to `work`, piece by piece, on several threads. What `work` does to `state` it does within
    /// [`Turn::take`]. Damage ends its file, not the walk.
    pub(crate) fn in_turns<S: Send>(
        &self,
        state: S,
        work: impl Fn(&[Record], Turn<'_, S>) + Sync,
    ) -> (S, Vec<Damage>) {
        let source = Mutex::new(Source::new(self.files.clone()));
        let state = Ordered { next: 0, abandoned: false, broken: None, damages: Vec::new(), state };
        let turns = Turns { ordered: Mutex::new(state), passed: Condvar::new() };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let _abandon = Abandon(&turns);
                    let mut opener = Opener::default();
                    while let Some(piece) = { lock(&source).piece() } {
                        let (number, file) = (piece.number, piece.file);
                        let (records, ended) = piece.open(&mut opener);
                        work(&records, Turn { turns: &turns, number, file, ended });
                    }
                });
            }
        });
        let ordered = turns.ordered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let damage = |(index, error): (usize, SegmentError)| {
            let (file, tail) = (self.files[index].clone(), index + 1 == self.files.len());
            Damage { file, error, tail }
        };
        (ordered.state, ordered.damages.into_iter().map(damage).collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Consecutive records of one file.
struct Piece {
    number: u64,
    /// Its index in the folder.
    file: usize,
    stored: Vec<StoredRecord>,
    /// What ends the file behind them.
    ended: Option<SegmentError>,
}

impl Piece {
    /// Its records up to the first that does not hold.
    fn open(self, opener: &mut Opener) -> (Vec<Record>, Option<SegmentError>) {
        let mut records = Vec::with_capacity(self.stored.len());
        for stored in &self.stored {
            match opener.open(stored) {
                Ok(record) => records.push(record),
                Err(error) => return (records, Some(error)),
            }
        }
        (records, self.ended)
    }
}

/// Cuts the files into pieces.
struct Source {
    files: VecDeque<(usize, PathBuf)>,
    open: Option<(usize, Reader<BufReader<File>>)>,
    next: u64,
}

impl Source {
    fn new(files: Vec<PathBuf>) -> Self {
        Source { files: files.into_iter().enumerate().collect(), open: None, next: 0 }
    }

    fn piece(&mut self) -> Option<Piece> {
        let (file, mut reader) = match self.open.take() {
            Some(open) => open,
            None => {
                let (file, path) = self.files.pop_front()?;
                let opened = File::open(&path)
                    .map_err(SegmentError::Io)
                    .and_then(|open| Reader::open(BufReader::with_capacity(READ_BYTES, open)));
                match opened {
                    Ok(reader) => (file, reader),
                    Err(error) => return Some(self.number(file, Vec::new(), Some(error))),
                }
            }
        };
        let (mut stored, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES {
            match reader.next_stored() {
                Some(Ok(record)) => {
                    bytes += record.payload_length();
                    stored.push(record);
                }
                end => return Some(self.number(file, stored, end.and_then(Result::err))),
            }
        }
        self.open = Some((file, reader));
        Some(self.number(file, stored, None))
    }

    fn number(&mut self, file: usize, stored: Vec<StoredRecord>, ended: Option<SegmentError>) -> Piece {
        let number = self.next;
        self.next += 1;
        Piece { number, file, stored, ended }
    }
}

struct Turns<S> {
    ordered: Mutex<Ordered<S>>,
    passed: Condvar,
}

struct Ordered<S> {
    /// The piece whose turn it is.
    next: u64,
    /// A thread ended early: no turn will come any more.
    abandoned: bool,
    /// The newest file that broke off: what lies behind in it is not looked at.
    broken: Option<usize>,
    damages: Vec<(usize, SegmentError)>,
    state: S,
}

/// The place of one piece in the order.
pub(crate) struct Turn<'t, S> {
    turns: &'t Turns<S>,
    number: u64,
    file: usize,
    ended: Option<SegmentError>,
}

impl<S> Turn<'_, S> {
    /// Waits for the turn of this piece and changes the state, unless its file broke off before.
    pub(crate) fn take(self, change: impl FnOnce(&mut S)) {
        let waits = |ordered: &mut Ordered<S>| ordered.next != self.number && !ordered.abandoned;
        let waited = self.turns.passed.wait_while(lock(&self.turns.ordered), waits);
        let mut ordered = waited.unwrap_or_else(PoisonError::into_inner);
        if ordered.abandoned {
            return;
        }
        if ordered.broken != Some(self.file) {
            change(&mut ordered.state);
            if let Some(error) = self.ended {
                ordered.broken = Some(self.file);
                ordered.damages.push((self.file, error));
            }
        }
        ordered.next += 1;
        self.turns.passed.notify_all();
    }
}

/// Lets the others end when a thread panics: its turn would never come.
struct Abandon<'t, S>(&'t Turns<S>);

impl<S> Drop for Abandon<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.ordered).abandoned = true;
            self.0.passed.notify_all();
        }
    }
}
