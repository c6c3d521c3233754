//! A log as a sink shows it, and what a sink, or a host that lies, can try on somebody who follows it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use custody_ledger::tlog::Edge;
use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};
use custody_ledger::{BootId, Chain, Draft, Echo, EntryType, Hash, HostId, HostKey, LogKey, SinkKey};

use super::*;

const HOST: HostId = HostId::from_bytes([7; 16]);

/// What a sink shows; its tiles are kept as they were written.
pub(super) struct Log {
    pub(super) sink: SinkKey,
    /// What whoever follows got at login.
    pub(super) expected: PublicKey,
    pub(super) key: LogKey,
    chain: Chain,
    pub(super) edge: Edge,
    pub(super) files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Log {
    pub(super) fn new() -> Self {
        let host = HostKey::generate().unwrap().0;
        let sink = SinkKey::generate().unwrap().0;
        Log {
            expected: sink.public(),
            sink,
            key: LogKey::generate().unwrap().0,
            chain: Chain::start(&host, HOST, BootId([1; 16]), 1, None).unwrap(),
            edge: Edge::default(),
            files: RefCell::default(),
        }
    }

    pub(super) fn batch(&mut self, checkpoint: Option<CheckpointReference>) {
        self.chain.append(&Draft::new(EntryType::Heartbeat, b"body")).unwrap();
        let batch = self.chain.close_batch(BTreeMap::new(), Echo { last_receipt: None, checkpoint }).unwrap();
        self.edge.push(&BatchLeaf::of_frame(&batch.frame, 1_000).unwrap().encode()).unwrap();
    }

    pub(super) fn grow(&mut self, batches: u64) -> &mut Self {
        (0..batches).for_each(|_| self.batch(None));
        self.publish()
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let origin = log_key(self.key.public()).name().to_owned();
        Checkpoint { origin, size: self.edge.size(), root: self.edge.root() }
    }

    pub(super) fn publish(&mut self) -> &mut Self {
        let certified = CertifiedLogKey::certify(&self.sink, self.key.public());
        let key = format!("{}\n{}\n", log_key(self.key.public()), certified.certificate);
        let note = self.checkpoint().sign(&self.key).to_string();
        let mut files = self.files.borrow_mut();
        files.insert("/v1/log/key".to_owned(), key.into_bytes());
        files.insert("/v1/log/checkpoint".to_owned(), note.into_bytes());
        for (tile, bytes) in self.edge.take_tiles() {
            files.insert(format!("/v1/log/{}", tile.path()), bytes);
        }
        drop(files);
        self
    }

    /// The same sink and key with nothing in the log yet.
    pub(super) fn emptied(self) -> Self {
        Log { sink: self.sink, expected: self.expected, key: self.key, ..Log::new() }
    }

    /// One look of an auditor.
    async fn look(&self, kept: Option<&Kept>) -> Result<Look, Failure> {
        let get = async |path: &str| Ok(self.files.borrow().get(path).cloned());
        look(kept, &self.expected, true, &mut Files { get, read: HashMap::new() }).await
    }

    pub(super) async fn holds(&self, kept: Option<&Kept>) -> (Kept, Told) {
        match self.look(kept).await {
            Ok(Look::Holds(kept, told)) => (*kept, told),
            Ok(Look::Alarm(_, words)) => panic!("{words}"),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    #[track_caller]
    fn alarm(look: Result<Look, Failure>, exit: Exit, words: &str) {
        match look {
            Ok(Look::Alarm(code, said)) => assert!(code == exit && said.contains(words), "{code:?} {said}"),
            Ok(Look::Holds(_, told)) => panic!("{told:?}"),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    fn flip(&self, path: &str, at: usize) {
        self.files.borrow_mut().get_mut(path).unwrap()[at] ^= 1;
    }
}

#[tokio::test]
async fn a_log_that_grows_holds_and_each_leaf_is_compared_once() {
    let mut log = Log::new();
    let mut kept = None;
    for (round, growth) in [1, 254, 1, 1, 300, 700].into_iter().enumerate() {
        let (next, told) = log.grow(growth).holds(kept.as_ref()).await;
        assert_eq!(told.compared, log.edge.size(), "round {round}");
        assert_eq!(told.before, log.edge.size() - growth);
        kept = Some(next);
    }
    // What hosts echo of any checkpoint of this log is of it.
    let echo = log.checkpoint().reference();
    log.batch(Some(echo.clone()));
    log.batch(Some(echo));
    let (_, told) = log.publish().holds(kept.as_ref()).await;
    assert_eq!((told.echoes, told.contradictions.len()), (1, 0));
}

#[tokio::test]
async fn what_a_host_echoes_of_another_log_is_told_with_the_host() {
    let mut log = Log::new();
    let (kept, _) = log.grow(10).holds(None).await;
    let echo = log.checkpoint().reference();
    let other = Hash([9; 32]);
    log.batch(Some(CheckpointReference { root: other, ..echo.clone() }));
    log.batch(Some(CheckpointReference { size: 99, ..echo.clone() }));
    log.batch(Some(CheckpointReference { origin: "custody-log/00".to_owned(), ..echo }));
    let (next, told) = log.publish().holds(Some(&kept)).await;
    for (words, sentence) in ["FORKED", "ROLLED BACK", "another log"].iter().zip(&told.contradictions) {
        assert!(sentence.contains(words) && sentence.contains(&HOST.to_string()), "{sentence}");
    }
    assert_eq!((told.contradictions.len(), told.echoes, next.contradictions), (3, 0, 3));
    let (next, told) = log.holds(Some(&next)).await;
    assert_eq!((told.contradictions.len(), next.contradictions), (0, 3), "told once, kept for ever");
}

#[tokio::test]
async fn a_log_that_does_not_go_on_is_an_alarm() {
    let mut log = Log::new();
    let (early, _) = log.grow(300).holds(None).await;
    let (late, _) = log.grow(300).holds(Some(&early)).await;
    // Smaller, then larger and other.
    let mut other = log.emptied();
    Log::alarm(other.grow(200).look(Some(&late)).await, Exit::Forked, "rolled back");
    Log::alarm(other.grow(600).look(Some(&late)).await, Exit::Forked, "forked");
    Log::alarm(other.look(Some(&early)).await, Exit::Forked, "forked");
    // Another key that the same sink certifies.
    other.key = LogKey::generate().unwrap().0;
    Log::alarm(other.publish().look(Some(&late)).await, Exit::Forked, "another key");
    // And one that nobody certifies.
    let expected = std::mem::replace(&mut other.expected, SinkKey::generate().unwrap().0.public());
    assert_ne!(expected, other.expected);
    Log::alarm(other.look(Some(&late)).await, Exit::Negative, "certified");
}

#[tokio::test]
async fn leaves_that_are_not_those_of_the_tree_are_an_alarm() {
    for (path, at) in [
        ("/v1/log/tile/entries/000", 100),
        ("/v1/log/tile/0/000", 40),
        ("/v1/log/tile/entries/001.p/44", 100),
    ] {
        let mut log = Log::new();
        log.grow(300);
        log.flip(path, at);
        Log::alarm(log.look(None).await, Exit::Negative, "ALTERED");
    }
    // What is not shown is not proved, and no alarm: the disk may be at fault.
    let mut log = Log::new();
    let (kept, _) = log.grow(300).holds(None).await;
    log.grow(300).files.borrow_mut().retain(|path, _| !path.contains("tile/0/"));
    match log.look(Some(&kept)).await {
        Err(Failure::Because(Exit::Unreachable, error)) => {
            assert!(error.to_string().contains("nothing is proved"))
        }
        _ => panic!("it held"),
    }
}
