//! A store that the real program made of really signed batches, changed at random: `custody verify` must see every
//! change of what is evidence, and call nothing else one. `CUSTODY_MUTATIONS=10000` is the long form.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod change;
mod evidence;
#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::statement::Stated;
use custody_ledger::tlog::CheckpointReference;
use custody_ledger::{Chain, Draft, Echo, EntryType, Resume, SignedBatch};
use custody_tests::random::{self, Random};
use custody_tests::stand::built;
use support::{Host, Sink, batch};

use change::CHANGES;
use evidence::{Evidence, Files};

/// Changes in the ordinary test; `CUSTODY_MUTATIONS` sets another number.
const MUTATIONS: usize = 150;
const WORKERS: usize = 2;
/// Batches of one epoch of one host. With three hosts and two epochs the log gets past its first full tile.
const BATCHES: usize = 45;
/// With the echo at its end.
const EPOCH: usize = BATCHES + 1;

/// A batch that echoes a checkpoint, as hosts do.
fn echoing(chain: &mut Chain, checkpoint: CheckpointReference) -> SignedBatch {
    chain.append(&Draft::new(EntryType::Heartbeat, b"")).unwrap();
    chain.close_batch(BTreeMap::new(), Echo { last_receipt: None, checkpoint: Some(checkpoint) }).unwrap()
}

/// One epoch; what it shows at its end is the last batch.
async fn epoch(sink: &Sink, host: &Host, counter: u64, last: Option<&SignedBatch>) -> SignedBatch {
    let resume = last.map(|last| Resume { local: Some(last.position), ..Resume::default() });
    let mut chain = host.epoch(counter, resume);
    let batches: Vec<_> = (0..BATCHES).map(|number| batch(&mut chain, &format!("batch {number}"))).collect();
    for run in batches.chunks(7) {
        let answer = sink.append(host, &run.iter().collect::<Vec<_>>()).await;
        assert_eq!(answer.refusal, None);
    }
    let echo = echoing(&mut chain, sink.checkpoint());
    assert_eq!(sink.append(host, &[&echo]).await.refusal, None);
    echo
}

/// A store with all that one holds: enrolments, epochs, echoes, statements, several segments and a full tile; the older half
/// without bodies, which expired, and with the statements about that.
async fn make() -> (Sink, Files) {
    let mut sink = Sink::start_with("[retention]\nbodies = \"forever\"");
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(sink.enrol().await);
    }
    let mut ends = Vec::new();
    for host in &hosts {
        ends.push(epoch(&sink, host, 1, None).await);
    }
    // Refused, and stated: a forged batch for a taken place, and one that nobody signed.
    let mut forged = host_batch(&hosts[0], 1);
    forged.frame[20] ^= 1;
    let mut next = hosts[1].epoch(2, None);
    let mut unsigned = batch(&mut next, "x");
    let at = unsigned.frame.len() - 1;
    unsigned.frame[at] ^= 1;
    assert!(sink.append(&hosts[0], &[&host_batch(&hosts[0], 1)]).await.refusal.is_some());
    assert!(sink.append(&hosts[1], &[&unsigned]).await.refusal.is_some());
    for (host, end) in hosts.iter().zip(&ends) {
        // Each start writes a segment of its own.
        sink.stop();
        sink.spawn();
        epoch(&sink, host, 2, Some(end)).await;
        if host.id == hosts[0].id {
            expire(&mut sink, 4 * EPOCH as u64).await;
        }
    }
    sink.stop();
    let mut files = Files::new();
    for folder in ["segments", "log"] {
        read(&sink.state(), folder, &mut files);
    }
    (sink, files)
}

/// Lets the bodies of all that is stored so far go.
async fn expire(sink: &mut Sink, bodies: u64) {
    sink.stop();
    sink.set_age("1s");
    sink.spawn();
    sink.expired(bodies).await.unwrap();
    sink.set_age("forever");
}

/// Another first batch than the one that is stored, without a certificate that holds.
fn host_batch(host: &Host, counter: u64) -> SignedBatch {
    let (key, _) = custody_ledger::HostKey::generate().unwrap();
    let mut chain = Chain::start(&key, host.id, custody_ledger::BootId([1; 16]), counter, None).unwrap();
    batch(&mut chain, "forged")
}

fn read(root: &Path, folder: &str, files: &mut Files) {
    for item in std::fs::read_dir(root.join(folder)).unwrap().map(Result::unwrap) {
        let path = format!("{folder}/{}", item.file_name().into_string().unwrap());
        if item.file_type().unwrap().is_dir() {
            read(root, &path, files);
        } else {
            files.insert(path, std::fs::read(item.path()).unwrap());
        }
    }
}

/// A copy of the store in which one change after the other is tried.
struct Copy<'a> {
    folder: tempfile::TempDir,
    original: &'a Files,
}

impl<'a> Copy<'a> {
    fn of(original: &'a Files) -> Self {
        let copy = Copy { folder: tempfile::tempdir().unwrap(), original };
        original.iter().for_each(|(path, bytes)| copy.write(path, bytes));
        copy
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Brings the folder from one content to another.
    fn turn(&self, from: &Files, to: &Files) {
        for path in from.keys().filter(|path| !to.contains_key(*path)) {
            std::fs::remove_file(self.folder.path().join(path)).unwrap();
        }
        let changed = to.iter().filter(|(path, bytes)| from.get(*path) != Some(*bytes));
        changed.for_each(|(path, bytes)| self.write(path, bytes));
    }

    /// The exit code of `custody verify`, and what it printed.
    fn verify(&self, files: &Files) -> (i32, String) {
        self.turn(self.original, files);
        let mut command = Command::new(built("custody"));
        command.args(["verify", "--from"]).arg(self.folder.path());
        let output = command.env("CUSTODY_HOME", self.folder.path().join("nobody")).output().unwrap();
        self.turn(files, self.original);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }
}

/// What came of all changes.
#[derive(Debug, Default)]
struct Tally {
    /// Seen, by exit code.
    seen: BTreeMap<i32, usize>,
    /// Changed nothing that is evidence, by kind of change.
    no_evidence: BTreeMap<&'static str, usize>,
    /// There was nothing that could be changed so.
    not_made: usize,
    wrong: Vec<String>,
}

fn try_one(copy: &Copy<'_>, whole: &Evidence, seed: u64, tally: &Mutex<Tally>) {
    let mut random = Random::of(seed);
    let (name, change) = *random.one(CHANGES);
    let mut files = copy.original.clone();
    let Some(what) = change(&mut files, &mut random) else {
        tally.lock().unwrap().not_made += 1;
        return;
    };
    let changed = Evidence::of(&files, copy.original) != *whole;
    let (code, said) = copy.verify(&files);
    let mut tally = tally.lock().unwrap();
    let wrong = match (changed, code) {
        (true, 0) => format!("NOT SEEN (seed {seed}): {name}: {what}"),
        (true, 1 | 2 | 4 | 5) => return *tally.seen.entry(code).or_default() += 1,
        (false, 0) => return *tally.no_evidence.entry(name).or_default() += 1,
        _ => format!("exit {code} (seed {seed}): {name}: {what}: {said}"),
    };
    // At once: the long form need not come to its end.
    println!("{wrong}");
    tally.wrong.push(wrong);
}

/// It holds what it is said to, and accuses nobody.
fn assert_holds_all(sink: &Sink, files: &Files) {
    assert!(files.contains_key("log/tile/0/000") && files.contains_key("segments/00000000000000000003.seg"));
    let stated: Vec<_> = sink.statements().into_iter().map(|statement| statement.what).collect();
    let accused = stated.iter().any(|what| matches!(what, Stated::Found { .. }));
    assert!(!accused, "a host that echoes what the folder shows is said to hold another log");
    let retentions = stated.iter().filter(|what| matches!(what, Stated::Retention(_))).count();
    assert_eq!(retentions, 2, "of two segments the bodies expired");
    let batches = sink.records().into_iter().filter(|record| record.kind == RecordKind::Batch);
    let is_thinned = |record: &Record| BatchMeta::of(record).unwrap().content.is_some();
    let (thinned, whole): (Vec<_>, Vec<_>) = batches.partition(is_thinned);
    assert_eq!((thinned.len(), whole.len()), (4 * EPOCH, 2 * EPOCH));
}

#[tokio::test]
async fn every_change_of_what_is_evidence_is_seen() {
    let (sink, files) = make().await;
    assert_holds_all(&sink, &files);
    let whole = Evidence::of(&files, &files);
    let (code, said) = Copy::of(&files).verify(&files);
    assert_eq!(code, 0, "{said}");
    let (seed, count) = (random::seed(), random::count("CUSTODY_MUTATIONS", MUTATIONS));
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let copy = Copy::of(&files);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    try_one(&copy, &whole, seed.wrapping_add(index as u64), &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "{count} changes, seen by exit code {:?}, of what is no evidence {:?}, not made {}",
        tally.seen, tally.no_evidence, tally.not_made
    );
    assert!(tally.wrong.is_empty(), "{} of {count}:\n{}", tally.wrong.len(), tally.wrong.join("\n"));
}
