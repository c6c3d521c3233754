//! A store read by several threads: each takes the next piece of it, does what needs no order at once with the others,
//! and then changes the state in its turn, in the order of the store. Bounded: one piece a thread. What comes out does
//! not depend on the number of threads.

use std::fs::File;
use std::io::BufReader;
use std::iter::Enumerate;
use std::path::PathBuf;
use std::slice::Iter;
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
        let source = Mutex::new(Source { files: self.files.iter().enumerate(), open: None, next: 0 });
        let state = Ordered { next: 0, abandoned: false, broken: None, damages: Vec::new(), state };
        let turns = Turns { ordered: Mutex::new(state), passed: Condvar::new() };
        let take_pieces = || {
            let _abandon = Abandon(&turns);
            let mut opener = Opener::default();
            while let Some(piece) = { lock(&source).piece() } {
                let (number, file) = (piece.number, piece.file);
                let (records, ended) = piece.open(&mut opener);
                work(&records, Turn { turns: &turns, number, file, ended });
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Without it the others do its work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, take_pieces);
            }
            take_pieces();
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
struct Source<'f> {
    files: Enumerate<Iter<'f, PathBuf>>,
    open: Option<(usize, Reader<BufReader<File>>)>,
    next: u64,
}

impl Source<'_> {
    fn piece(&mut self) -> Option<Piece> {
        let (file, mut reader) = match self.open.take() {
            Some(open) => open,
            None => {
                let (file, path) = self.files.next()?;
                let opened = File::open(path)
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use custody_ledger::segment::{RecordKind, file_name, put_record};

    use super::*;

    /// Three files of ten pieces each; payloads that no compression shortens.
    fn folder() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let mut noise = 1_u64;
        for number in 0..3 {
            let mut bytes = custody_ledger::segment::MAGIC.to_vec();
            for record in 0..40 {
                let payload: Vec<u8> = (0..PIECE_BYTES / 4)
                    .map(|_| {
                        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (noise >> 56) as u8
                    })
                    .collect();
                put_record(&mut bytes, RecordKind::Batch, &[record], &payload).unwrap();
            }
            fs::write(directory.path().join(file_name(number)), bytes).unwrap();
        }
        let folder = Folder::open(directory.path()).unwrap();
        (directory, folder)
    }

    fn told(damages: &[Damage]) -> Vec<String> {
        damages.iter().map(|damage| format!("{damage:?}")).collect()
    }

    /// What one thread reads one record after the other.
    fn one_by_one(folder: &Folder) -> (Vec<Record>, Vec<String>) {
        let mut records = Vec::new();
        let damages = folder.records(|record| -> Result<(), Infallible> {
            records.push(record);
            Ok(())
        });
        (records, told(&damages.unwrap()))
    }

    fn by_turns(folder: &Folder) -> (Vec<Record>, Vec<String>) {
        let (records, damages) = folder.in_turns(Vec::new(), |records, turn| {
            turn.take(|all: &mut Vec<Record>| all.extend_from_slice(records));
        });
        (records, told(&damages))
    }

    #[test]
    fn threads_hand_over_what_one_reads_and_end_where_it_ends() {
        let (directory, folder) = folder();
        let whole = by_turns(&folder);
        assert_eq!((whole.0.len(), whole.1.len()), (120, 0));
        assert!(whole == one_by_one(&folder));
        // A record in the middle that does not hold, a file that is none, and a torn tail.
        let path = |number| directory.path().join(file_name(number));
        let mut middle = fs::read(path(1)).unwrap();
        let at = middle.len() / 2;
        middle[at] ^= 1;
        fs::write(path(1), &middle).unwrap();
        let last = fs::read(path(2)).unwrap();
        fs::write(path(2), &last[..last.len() - 1]).unwrap();
        let broken = by_turns(&folder);
        assert_eq!(broken.1.len(), 2, "{:?}", broken.1);
        assert!(broken.0.len() > 80 && broken.0.len() < 110, "{}", broken.0.len());
        assert!(broken == one_by_one(&folder));
        fs::write(path(0), b"none").unwrap();
        let none = by_turns(&folder);
        assert_eq!((none.0.len(), none.1.len()), (broken.0.len() - 40, 3));
        assert!(none == one_by_one(&folder));
    }

    #[test]
    fn a_thread_that_panics_ends_the_others() {
        let (_directory, folder) = folder();
        for in_its_turn in [false, true] {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                folder.in_turns(0_u32, |records, turn| {
                    let panics = records.iter().any(|record| record.meta == [5]);
                    assert!(in_its_turn || !panics, "before its turn");
                    turn.take(|_| assert!(!panics, "in its turn"));
                })
            }));
            assert!(ended.is_err());
        }
    }
}
