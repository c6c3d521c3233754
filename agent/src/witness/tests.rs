//! What frees the spool, and what does not.

use custody_ledger::tlog::checkpoint::{CertifiedLogKey, cosign, log_key};
use custody_ledger::tlog::{BatchLeaf, Checkpoint, MemoryTree, Note, Witnesses, proof};
use custody_ledger::wire::{CommittedBatch, WitnessedResponse};
use custody_ledger::{BootId, Chain, Draft, Echo, HostKey, LogKey, SinkKey};

use super::*;
use crate::config;
use crate::spool::Spool;

const HOST: HostId = HostId::from_bytes([7; 16]);
/// Of the witness.
const NAME: &str = "audit.example/w1";

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
            witnessed: None,
        }
    }

    /// The answer beside what these keys cosigned of the first leaves, in which those are that are said.
    fn answer_with(
        &self,
        (held, awaited): (u64, &[Awaited]),
        size: u64,
        by: &[&LogKey],
        (first, witnessed): (u64, &[Awaited]),
    ) -> CommittedResponse {
        let origin = log_key(self.log.public()).name().to_owned();
        let mut note = Checkpoint { origin, size, root: self.tree.root(size).unwrap() }.sign(&self.log);
        by.iter().for_each(|key| drop(cosign(&mut note, NAME, key, 1_800_000_000)));
        let batch = |(at, one): (usize, &Awaited)| {
            let index = first + at as u64;
            let proof = proof::inclusion(&self.tree, index, size).unwrap().unwrap();
            CommittedBatch { batch: one.batch, index, proof }
        };
        let witnessed = WitnessedResponse {
            checkpoint: note.to_string(),
            consistency: proof::consistency(&self.tree, size, self.tree.size()).unwrap().unwrap(),
            batches: witnessed.iter().enumerate().map(batch).collect(),
        };
        CommittedResponse { witnessed: Some(witnessed), ..self.answer(held, awaited) }
    }

    /// A policy that demands this witness.
    fn policy(&self, witness: &LogKey) -> Policy {
        let mut unread: Note = "x\n1\ny\n\n— x AAAAAAA=\n".parse().unwrap();
        let key = cosign(&mut unread, NAME, witness, 1).unwrap();
        let witnesses = Witnesses::some_of([key], 1).unwrap();
        Policy { sink: self.key.public(), log: log_key(self.log.public()), witnesses }
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
        policy: None,
    };
    (watcher, recorded)
}

impl Watcher {
    /// As a round goes on with this answer.
    async fn hears(&mut self, answer: &CommittedResponse, awaited: &[Awaited]) {
        let unwitnessed: Vec<_> = lock(&self.shared.unwitnessed).iter().copied().collect();
        self.heed(answer, awaited, &unwitnessed).await.unwrap();
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

#[tokio::test]
async fn where_witnesses_are_waited_for_nothing_is_freed_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::new();
    let (shared, awaited) = waiting(folder.path(), 4);
    let (mut watcher, recorded) = watcher(folder.path(), &shared, &sink);
    let (witness, stranger) = (LogKey::generate().unwrap().0, LogKey::generate().unwrap().0);
    watcher.policy = Some(sink.policy(&witness));
    let state = |shared: &Shared| {
        (lock(&shared.spool).waiting(), lock(&shared.awaited).len(), lock(&shared.unwitnessed).len())
    };
    awaited[..3].iter().for_each(|one| sink.tree.push(one.leaf));
    // Committed and no more; then with cosignatures of nobody, and of somebody else.
    watcher.hears(&sink.answer(0, &awaited[..3]), &awaited).await;
    assert_eq!(state(&shared), (4, 1, 3));
    let status = shared.snapshot();
    assert_eq!((status.acknowledged.as_str(), status.witnessed.as_str()), ("1/2", ""));
    let question = watcher.question().unwrap();
    assert_eq!((question.number, question.witnessed_number), (3, Some(0)));
    for by in [&[][..], &[&stranger]] {
        let answer = sink.answer_with((3, &[]), 2, by, (0, &awaited[..2]));
        watcher.hears(&answer, &awaited[3..]).await;
        assert_eq!(state(&shared), (4, 1, 3));
        assert!(shared.status().log.not_witnessed.contains("too few"));
        assert!(shared.status().log.alarm.is_empty() && recorded.try_recv().is_err(), "it is no alarm");
    }
    // Two of three are witnessed.
    let answer = sink.answer_with((3, &[]), 2, &[&witness], (0, &awaited[..2]));
    watcher.hears(&answer, &awaited[3..]).await;
    assert_eq!(state(&shared), (2, 1, 1));
    let status = shared.snapshot();
    assert_eq!((status.witnessed.as_str(), status.log.not_witnessed.as_str()), ("1/1", ""));
    // The last one is committed in the answer in which the third is witnessed.
    sink.tree.push(awaited[3].leaf);
    let answer = sink.answer_with((3, &awaited[3..]), 3, &[&witness], (2, &awaited[2..3]));
    watcher.hears(&answer, &awaited[3..]).await;
    assert_eq!(state(&shared), (1, 0, 1));
    // All is committed: the next batch is asked for, beside the one that is not witnessed.
    let question = watcher.question().unwrap();
    assert_eq!((question.number, question.witnessed_number), (4, Some(3)));
    let answer = sink.answer_with((4, &[]), 4, &[&witness], (3, &awaited[3..]));
    watcher.hears(&answer, &[]).await;
    assert_eq!(state(&shared), (0, 0, 0));
    assert_eq!(watcher.question(), None);
}

/// The witnesses saw one log, and the host another one, or no batch of its own in it.
#[tokio::test]
async fn a_sink_that_shows_a_fork_to_a_host_that_waits_for_witnesses_frees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::new();
    let (shared, awaited) = waiting(folder.path(), 2);
    let (mut watcher, recorded) = watcher(folder.path(), &shared, &sink);
    let witness = LogKey::generate().unwrap().0;
    watcher.policy = Some(sink.policy(&witness));
    // What the witnesses saw, with the host's batches in it.
    awaited.iter().for_each(|one| sink.tree.push(one.leaf));
    let elsewhere = sink.answer_with((0, &[]), 2, &[&witness], (0, &awaited));
    // What the host sees.
    let mut shown = MemoryTree::default();
    std::mem::swap(&mut shown, &mut sink.tree);
    [awaited[0].leaf, custody_ledger::Hash([9; 32]), awaited[1].leaf]
        .iter()
        .for_each(|leaf| sink.tree.push(*leaf));
    watcher.hears(&sink.answer(0, &awaited[..1]), &awaited).await;
    assert_eq!((lock(&shared.spool).waiting(), lock(&shared.unwitnessed).len()), (2, 1));
    let forked = CommittedResponse { witnessed: elsewhere.witnessed, ..sink.answer(3, &[]) };
    watcher.hears(&forked, &awaited[1..]).await;
    assert!(shared.status().log.alarm.contains("forked"), "{}", shared.status().log.alarm);
    assert!(matches!(recorded.try_recv(), Ok(Input::Fact(EntryType::LogAlarm, _))));
    // The checkpoint that was cosigned does hold, and the batch is said to stand where another one does.
    let mut answer = sink.answer_with((3, &[]), 3, &[&witness], (0, &awaited[..1]));
    answer.witnessed.as_mut().unwrap().batches[0].index = 2;
    watcher.hears(&answer, &awaited[1..]).await;
    assert!(shared.status().log.alarm.contains("not in the tree"), "{}", shared.status().log.alarm);
    assert_eq!((lock(&shared.spool).waiting(), lock(&shared.unwitnessed).len()), (2, 1));
    assert_eq!(shared.status().witnessed, "");
    // The right one at last.
    let answer = sink.answer_with((3, &[]), 3, &[&witness], (0, &awaited[..1]));
    watcher.hears(&answer, &awaited[1..]).await;
    assert_eq!((lock(&shared.spool).waiting(), shared.status().log.alarm.as_str()), (1, ""));
}
