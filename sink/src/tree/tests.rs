//! The process dies before each step that reaches the disk, one after the other; the next start ends right.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custody_ledger::tlog::checkpoint::{cosign, log_key};
use custody_ledger::tlog::{Checkpoint, Note, Tile, Witnesses};
use custody_ledger::{Enrolment, HostId, HostKey, LogKey};

use super::database::Database;
use super::files::{CHECKPOINT, Files};
use super::sequencer::Sequencer;
use super::witnessed::{CosignatureError, Witnessing};
use super::*;
use crate::store::{Limits, Store};

thread_local! {
    static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Fails once the steps that a test allows are used up, and from then on: the process is dead.
pub(super) fn step() -> std::io::Result<()> {
    match STEPS_LEFT.get() {
        None => Ok(()),
        Some(0) => Err(std::io::Error::other("the process died")),
        Some(left) => {
            STEPS_LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}

const LIMITS: Limits = Limits {
    group_commit: Duration::ZERO,
    group_bytes_max: 1,
    segment_bytes_max: 1 << 20,
    segment_age_max: None,
    queue_jobs_max: 4,
    subscriber_batches_max: 4,
    disk_reserve_bytes: 0,
    commit_max: Duration::from_secs(10),
};

/// A store that grows by enrolments, each of which is one leaf.
struct Stand {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    key: Vec<u8>,
    enrolled: u64,
}

impl Stand {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), LIMITS).unwrap();
        let key = LogKey::generate().unwrap().1.to_vec();
        Stand { folder, store: Arc::new(store), key, enrolled: 0 }
    }

    fn enrol(&mut self, count: u64) {
        for number in self.enrolled..self.enrolled + count {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let enrolment = Enrolment {
                host: HostId::from_bytes(id),
                key: HostKey::generate().unwrap().0.public(),
                name: "web-1".to_owned(),
                labels: BTreeMap::new(),
                enrolled_ns: number,
            };
            self.store.enrol(&enrolment, &number.to_be_bytes()).unwrap();
        }
        self.enrolled += count;
    }

    fn key(&self) -> LogKey {
        LogKey::from_pkcs8(&self.key).unwrap()
    }

    /// A start of the process, up to the end of what is there to do.
    fn start(&self) -> Result<Checkpoint, TreeError> {
        let files = Arc::new(Files::open(self.folder.path())?);
        let database = Arc::new(Database::open(&self.folder.path().join("tree.redb"))?);
        let mut sequencer = Sequencer::open(Arc::clone(&self.store), database, files, self.key())?;
        sequencer.catch_up()?;
        Ok(sequencer.published().checkpoint)
    }

    /// What a file server shows now.
    fn shown(&self) -> Option<Checkpoint> {
        let note = std::fs::read_to_string(self.folder.path().join("log").join(CHECKPOINT)).ok()?;
        Some(Checkpoint::open_text(&note, &log_key(self.key().public())).unwrap())
    }
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Every tile of a checkpoint that is shown can be read, and gives its root.
fn is_whole(stand: &Stand, shown: &Checkpoint) {
    let files = Files::open(stand.folder.path()).unwrap();
    let nodes = TileNodes::new(shown.size, |tile| files.tile(tile));
    assert_eq!(proof::root(&nodes, shown.size).unwrap(), shown.root);
    for tile in Tile::all_in_tree(shown.size) {
        assert!(files.tile(tile).is_ok(), "{}", tile.path());
    }
}

/// Tries a start with 0, 1, 2 … steps before its death until one comes through. After each death what is shown holds
/// and goes on from what was shown before, and the next start, without a death, ends at the one right tree.
fn die_at_every_step(stand: &Stand, expected: &Checkpoint) -> u32 {
    let (state, kept) = (stand.folder.path(), tempfile::tempdir().unwrap());
    for name in ["log", "tree.redb"].into_iter().filter(|name| state.join(name).exists()) {
        copy(&state.join(name), &kept.path().join(name));
    }
    let before = stand.shown();
    for steps in 0.. {
        STEPS_LEFT.set(Some(steps));
        let ended = stand.start();
        STEPS_LEFT.set(None);
        if let Some(shown) = stand.shown() {
            is_whole(stand, &shown);
            assert!([before.as_ref(), Some(expected)].contains(&Some(&shown)) || shown.size < expected.size);
        }
        if let Ok(ended) = ended {
            assert_eq!(ended, *expected);
            return steps;
        }
        let again = stand.start().unwrap();
        assert_eq!(again, *expected, "after a death at step {steps}");
        is_whole(stand, &again);
        assert_eq!(stand.shown().as_ref(), Some(expected));
        // Back to where it began, for a death one step later.
        for name in ["log", "tree.redb"] {
            let path = state.join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap()
            } else {
                std::fs::remove_file(&path).unwrap()
            }
            if kept.path().join(name).exists() {
                copy(&kept.path().join(name), &path);
            }
        }
    }
    unreachable!("there are more steps than numbers")
}

#[test]
fn a_death_at_any_step_ends_in_the_same_tree() {
    let mut stand = Stand::new();
    // The first start; the next leaves; a tile that becomes full, so that its partial forms go.
    let mut deaths = 0;
    for (more, size) in [(0, 0), (3, 3), (252, 255), (2, 257)] {
        stand.enrol(more);
        let reference =
            Stand { folder: tempfile::tempdir().unwrap(), store: Arc::clone(&stand.store), ..Stand::new() };
        let reference = Stand { key: stand.key.clone(), ..reference };
        let expected = reference.start().unwrap();
        assert_eq!(expected.size, size);
        let died = die_at_every_step(&stand, &expected);
        assert!(died > 5, "the steps are not counted");
        deaths += died;
    }
    println!("{deaths} deaths");
}

/// The database is gone, or is an older copy, while the log was published: it comes to the same checkpoint, and shows
/// nothing smaller meanwhile.
#[test]
fn an_older_or_lost_database_never_moves_the_published_checkpoint_back() {
    let mut stand = Stand::new();
    stand.enrol(300);
    stand.start().unwrap();
    let database = stand.folder.path().join("tree.redb");
    let old = tempfile::tempdir().unwrap();
    copy(&database, &old.path().join("tree.redb"));
    stand.enrol(300);
    let expected = stand.start().unwrap();
    for lost in [true, false] {
        std::fs::remove_file(&database).unwrap();
        if !lost {
            copy(&old.path().join("tree.redb"), &database);
        }
        let ended = die_at_every_step_showing(&stand, &expected);
        assert_eq!(ended, expected);
    }
}

fn die_at_every_step_showing(stand: &Stand, expected: &Checkpoint) -> Checkpoint {
    // Deaths in a row, without going back: each start goes on where the last one died.
    for steps in (0..).step_by(3) {
        STEPS_LEFT.set(Some(steps));
        let ended = stand.start();
        STEPS_LEFT.set(None);
        assert_eq!(stand.shown().as_ref(), Some(expected), "the checkpoint was moved back");
        if let Ok(ended) = ended {
            return ended;
        }
    }
    unreachable!("there are more steps than numbers")
}

#[test]
fn a_swap_that_somebody_else_made_stops_this_process() {
    let mut stand = Stand::new();
    stand.enrol(1);
    let files = Arc::new(Files::open(stand.folder.path()).unwrap());
    let database = Arc::new(Database::open(&stand.folder.path().join("tree.redb")).unwrap());
    let open = || {
        Sequencer::open(Arc::clone(&stand.store), Arc::clone(&database), Arc::clone(&files), stand.key())
            .unwrap()
    };
    let (mut one, mut other) = (open(), open());
    one.catch_up().unwrap();
    assert!(matches!(other.catch_up(), Err(TreeError::Swapped)));
    assert_eq!(stand.shown().unwrap().size, 1);
}

#[test]
fn segments_that_were_changed_do_not_pass_under_the_old_checkpoint() {
    let mut stand = Stand::new();
    stand.enrol(3);
    let honest = stand.start().unwrap();
    // Another store, as long, with the log of the first.
    let mut forged = Stand::new();
    forged.key = stand.key.clone();
    forged.enrolled = 7;
    forged.enrol(3);
    copy(&stand.folder.path().join("log"), &forged.folder.path().join("log"));
    let error = forged.start().unwrap_err().to_string();
    assert!(error.contains("another root") || error.contains("other bytes"), "{error}");
    assert_eq!(stand.shown(), Some(honest));
}

/// What is witnessed is on disk before anybody hears of it, and no death between the two brings an older one back.
#[test]
fn a_death_while_a_cosignature_is_taken_never_moves_the_witnessed_checkpoint_back() {
    let witness = LogKey::generate().unwrap().0;
    let name = "audit.example/w1";
    let mut stand = Stand::new();
    stand.enrol(3);
    stand.start().unwrap();
    let open = |stand: &Stand| {
        let note = std::fs::read_to_string(stand.folder.path().join("log").join(CHECKPOINT)).unwrap();
        let log = log_key(stand.key().public());
        let checkpoint = Checkpoint::open_text(&note, &log).unwrap();
        let key = cosign(&mut note.parse().unwrap(), name, &witness, 1).unwrap();
        let files = Files::with_draft(stand.folder.path(), "witnessed.tmp").unwrap();
        let nodes = Files::open(stand.folder.path()).unwrap();
        let size = checkpoint.size;
        let root = |at: u64| {
            let nodes = TileNodes::new(size, |tile| nodes.tile(tile));
            Ok((at <= size).then(|| proof::root(&nodes, at)).transpose()?)
        };
        let published = watch::channel(Arc::new(Published { checkpoint, note })).1;
        Witnessing::open(files, &log, Witnesses::some_of([key], 1).unwrap(), published, root).unwrap()
    };
    let size = |witnessing: &Witnessing| witnessing.newest().map_or(0, |newest| newest.checkpoint.size);
    let mut before = 0;
    for more in [0, 2] {
        stand.enrol(more);
        let shown = stand.start().unwrap().size;
        for steps in 0.. {
            let witnessing = open(&stand);
            let was = size(&witnessing);
            assert!([before, shown].contains(&was));
            let mut note: Note = witnessing.offered().unwrap().parse().unwrap();
            cosign(&mut note, name, &witness, 2);
            STEPS_LEFT.set(Some(steps));
            let taken = witnessing.take(&note.to_string());
            STEPS_LEFT.set(None);
            // Nobody heard of what may not be durable; the next start finds one of the two.
            let found = size(&open(&stand));
            match taken {
                Ok(leaves) => {
                    assert_eq!((leaves, found), (shown, shown));
                    break;
                }
                Err(CosignatureError::Kept(_)) => assert_eq!(size(&witnessing), was),
                Err(error) => panic!("{error}"),
            }
            assert!(found == before || found == shown, "{found}");
        }
        before = shown;
    }
    assert_eq!(before, 5);
}
