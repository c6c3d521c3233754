//! What frees the spool, and what does not.

use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};
use custody_ledger::tlog::{BatchLeaf, Checkpoint, MemoryTree, proof};
use custody_ledger::wire::CommittedBatch;
use custody_ledger::{BootId, Chain, Draft, Echo, HostKey, LogKey, SinkKey};

use super::*;
use crate::config;
use crate::spool::Spool;

const HOST: HostId = HostId::from_bytes([7; 16]);

/// A sink of one host, honest unless a test makes it otherwise.
struct Sink {
    key: SinkKey,
    log: LogKey,
    tree: MemoryTree,
}

impl Sink {
    fn new() -> Self {
        let (key, log) = (SinkKey::generate().unwrap().0, LogKey::generate().unwrap().0);
        Sink { key, log, tree: MemoryTree::default() }
    }

    fn answer(&self, held: u64, awaited: &[Awaited]) -> CommittedResponse {
        let size = self.tree.size();
        let origin = log_key(self.log.public()).name().to_owned();
        let checkpoint = Checkpoint { origin, size, root: self.tree.root(size).unwrap() };
        let committed = |(index, one): (usize, &Awaited)| CommittedBatch {
            batch: one.batch,
            index: held + index as u64,
            proof: proof::inclusion(&self.tree, held + index as u64, size).unwrap().unwrap(),
        };
        CommittedResponse {
            log: CertifiedLogKey::certify(&self.key, self.log.public()),
            checkpoint: checkpoint.sign(&self.log).to_string(),
            consistency: proof::consistency(&self.tree, held, size).unwrap().unwrap_or_default(),
            batches: awaited.iter().enumerate().map(committed).collect(),
        }
    }
}

/// A host whose batches are stored and wait.
fn waiting(folder: &Path, count: usize) -> (Arc<Shared>, Vec<Awaited>) {
    let (spool, _) = Spool::open(folder, &config::Spool::default()).unwrap();
    let shared = Arc::new(Shared::new(spool));
    let mut chain = Chain::start(&HostKey::generate().unwrap().0, HOST, BootId([1; 16]), 1, None).unwrap();
    let mut awaited = Vec::new();
    for _ in 0..count {
        chain.append(&Draft::new(EntryType::Heartbeat, b"")).unwrap();
        let batch = chain.close_batch(Default::default(), Echo::default()).unwrap();
        lock(&shared.spool).append(&batch).unwrap();
        shared.batch_closed(batch.position, 0);
        let leaf = BatchLeaf::of_frame(&batch.frame, 9).unwrap().hash();
        awaited.push(Awaited { batch: batch.position, leaf });
    }
    lock(&shared.spool).sync().unwrap();
    lock(&shared.spool).mark_sent(&awaited.last().unwrap().batch);
    shared.batches_stored(awaited.clone());
    (shared, awaited)
}

fn watcher(folder: &Path, shared: &Arc<Shared>, sink: &Sink) -> (Watcher, std::sync::mpsc::Receiver<Input>) {
    let (recorder, recorded) = std::sync::mpsc::sync_channel(8);
    let watcher = Watcher {
        host: HOST,
        sink: sink.key.public(),
        client: Client::joining("https://localhost:1", custody_ledger::Hash([0; 32]), IDLE).unwrap(),
        wait: IDLE,
        shared: Arc::clone(shared),
        recorder,
        state_directory: folder.to_owned(),
        backoff_max: IDLE,
        kept: None,
    };
    (watcher, recorded)
}

impl Watcher {
    /// As a round goes on with this answer.
    async fn hears(&mut self, answer: &CommittedResponse, awaited: &[Awaited]) {
        match Witness::see(self.kept.as_ref(), &self.sink, answer, awaited) {
            Ok(seen) => {
                self.over();
                self.keep(seen, awaited).await.unwrap();
            }
            Err(alarm) => self.raise(&alarm).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_stored_batch_stays_until_it_is_committed_and_the_checkpoint_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::new();
    let (shared, awaited) = waiting(folder.path(), 3);
    let (mut watcher, _recorded) = watcher(folder.path(), &shared, &sink);
    assert_eq!(lock(&shared.spool).waiting(), 3);
    assert!(lock(&shared.spool).unsent(usize::MAX, usize::MAX).unwrap().is_empty(), "nothing is sent twice");
    sink.tree.push(awaited[0].leaf);
    sink.tree.push(awaited[1].leaf);
    watcher.hears(&sink.answer(0, &awaited[..2]), &awaited).await;
    assert_eq!((lock(&shared.spool).waiting(), lock(&shared.awaited).len()), (1, 1));
    assert_eq!(shared.status().acknowledged, "1/1");
    let kept = load(folder.path()).unwrap().unwrap();
    assert_eq!(kept.checkpoint().size, 2);
    assert_eq!(shared.echo().checkpoint.as_ref(), Some(kept.checkpoint()));
    sink.tree.push(awaited[2].leaf);
    watcher.hears(&sink.answer(2, &awaited[2..]), &awaited[2..]).await;
    assert_eq!(lock(&shared.spool).waiting(), 0);
    // What the sink has lost before it was committed is sent again.
    let (shared, again) = waiting(&folder.path().join("other"), 2);
    assert!(!lock(&shared.spool).rewind(Some(&again[1].batch)), "the sink has lost nothing");
    assert!(lock(&shared.spool).rewind(Some(&again[0].batch)));
    assert_eq!(lock(&shared.spool).unsent(usize::MAX, usize::MAX).unwrap().len(), 2);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_or_forked_frees_nothing_and_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::new();
    let (shared, awaited) = waiting(folder.path(), 3);
    let (mut watcher, recorded) = watcher(folder.path(), &shared, &sink);
    sink.tree.push(awaited[0].leaf);
    watcher.hears(&sink.answer(0, &awaited[..1]), &awaited).await;
    let honest = std::mem::take(&mut sink.tree);
    let echoed = shared.echo().checkpoint;
    for alarm in ["rolled back", "forked"] {
        for _ in 0..2 {
            watcher.hears(&sink.answer(1, &[]), &awaited[1..]).await;
        }
        assert!(shared.status().log.alarm.contains(alarm), "{}", shared.status().log.alarm);
        let Input::Fact(EntryType::LogAlarm, _) = recorded.try_recv().unwrap() else {
            panic!("it is not recorded")
        };
        assert!(recorded.try_recv().is_err(), "it is recorded twice");
        sink.tree.push(awaited[2].leaf);
    }
    assert_eq!((lock(&shared.spool).waiting(), shared.echo().checkpoint), (2, echoed));
    // The right log comes back.
    sink.tree = honest;
    sink.tree.push(awaited[1].leaf);
    watcher.hears(&sink.answer(1, &awaited[1..2]), &awaited[1..]).await;
    assert_eq!((lock(&shared.spool).waiting(), shared.status().log.alarm.as_str()), (1, ""));
}

#[test]
fn a_damaged_memory_of_the_log_is_no_memory_of_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(folder.path()).unwrap().is_none());
    std::fs::write(folder.path().join(FILE), b"{").unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().contains("is damaged"));
}
