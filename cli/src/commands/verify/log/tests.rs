//! A store with its log as a sink leaves it, and what somebody with its disk, or with all its keys, can try.

use std::fs;
use std::path::PathBuf;

use custody_ledger::segment::{self, put_record};
use custody_ledger::statement::{Enrolment, Signed};
use custody_ledger::tlog::Edge;
use custody_ledger::tlog::checkpoint::{CertifiedLogKey, log_key};
use custody_ledger::{
    BootId, Chain, Draft, Echo, EntryType, HostId, HostKey, LogKey, ReceiptLevel, SignedReceipt, SinkKey,
};

use super::super::{Report, Word, check};
use super::*;
use crate::folder::Folder;

pub(in super::super) const HOST: HostId = HostId::from_bytes([7; 16]);

pub(in super::super) struct Store {
    pub(in super::super) folder: tempfile::TempDir,
    pub(in super::super) sink: SinkKey,
    pub(in super::super) sink_pkcs8: Vec<u8>,
    pub(in super::super) log: LogKey,
    pub(in super::super) log_pkcs8: Vec<u8>,
    pub(in super::super) chain: Chain,
    pub(in super::super) segment: Vec<u8>,
    pub(in super::super) edge: Edge,
    pub(in super::super) tree: MemoryTree,
}

impl Store {
    pub(in super::super) fn new() -> Self {
        let host = HostKey::generate().unwrap().0;
        let (log, log_pkcs8) = LogKey::generate().unwrap();
        let (sink, sink_pkcs8) = SinkKey::generate().unwrap();
        let mut store = Store {
            folder: tempfile::tempdir().unwrap(),
            sink,
            sink_pkcs8: sink_pkcs8.to_vec(),
            log,
            log_pkcs8: log_pkcs8.to_vec(),
            chain: Chain::start(&host, HOST, BootId([1; 16]), 1, None).unwrap(),
            segment: segment::MAGIC.to_vec(),
            edge: Edge::default(),
            tree: MemoryTree::default(),
        };
        let enrolment = Enrolment {
            host: HOST,
            key: host.public(),
            name: "web-1".to_owned(),
            labels: BTreeMap::new(),
            enrolled_ns: 1,
        };
        let payload = Signed::seal(&store.sink, &enrolment).unwrap();
        store.put(RecordKind::Enrolment, b"", &payload);
        store
    }

    pub(in super::super) fn put(&mut self, kind: RecordKind, meta: &[u8], payload: &[u8]) {
        let offset = self.segment.len() as u64;
        put_record(&mut self.segment, kind, meta, payload).unwrap();
        let record = segment::Reader::at(&self.segment[offset as usize..], offset).next().unwrap().unwrap();
        let leaf = leaf::of_record(&record).unwrap();
        self.edge.push(&leaf).unwrap();
        self.tree.push(tree::leaf(&leaf));
    }

    pub(in super::super) fn batch(&mut self, echo: Option<CheckpointReference>) {
        self.chain.append(&Draft::new(EntryType::Heartbeat, b"body")).unwrap();
        let echo = Echo { last_receipt: None, checkpoint: echo };
        let batch = self.chain.close_batch(BTreeMap::new(), echo).unwrap();
        let receipt =
            SignedReceipt::sign(&self.sink, ReceiptLevel::Stored, HOST, batch.position, 1_000).unwrap();
        self.put(RecordKind::Batch, &custody_ledger::wire::encode(&receipt).unwrap(), &batch.frame);
    }

    pub(in super::super) fn batches(&mut self, count: usize) {
        (0..count).for_each(|_| self.batch(None));
    }

    pub(in super::super) fn checkpoint(&self) -> Checkpoint {
        let origin = log_key(self.log.public()).name().to_owned();
        Checkpoint { origin, size: self.edge.size(), root: self.edge.root() }
    }

    pub(in super::super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes segment and log down as they are now.
    pub(in super::super) fn write(&mut self) -> &Self {
        let note = self.checkpoint().sign(&self.log).to_string();
        self.write_under(&note);
        self
    }

    pub(in super::super) fn write_under(&mut self, note: &str) {
        fs::create_dir_all(self.path("segments")).unwrap();
        fs::write(self.path("segments").join(segment::file_name(1)), &self.segment).unwrap();
        for (tile, bytes) in self.edge.take_tiles() {
            let path = self.path("log").join(tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let certified = CertifiedLogKey::certify(&self.sink, self.log.public());
        let key = format!("{}\n{}\n", log_key(self.log.public()), certified.certificate);
        fs::create_dir_all(self.path("log")).unwrap();
        fs::write(self.path("log/key.pub"), key).unwrap();
        fs::write(self.path("log/checkpoint"), note).unwrap();
    }

    pub(in super::super) fn verify(&self, kept: Option<&Path>) -> Report {
        let folder = Folder::open(self.folder.path()).unwrap();
        let log = LogCheck::open(self.folder.path(), kept).unwrap();
        check(&folder, log, None)
    }

    /// Changes a byte of a published file.
    pub(in super::super) fn flip(&self, name: &str, at: usize) {
        let path = self.path("log").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

/// The first sentence of that verdict.
#[track_caller]
fn assert_found(report: &Report, verdict: Word, sentence: &str) {
    let found = report.log.faults.iter().chain(&report.log.forks).next().cloned().unwrap_or_default();
    assert!(report.verdict == verdict && found.contains(sentence), "{:?}: {:?}", report.verdict, report.log);
}

#[test]
fn an_honest_store_is_verified_under_its_checkpoint_and_all_that_hosts_hold() {
    let mut store = Store::new();
    store.batches(300);
    let echoed = store.checkpoint().reference();
    store.batch(Some(echoed));
    let kept = store.path("kept");
    fs::write(&kept, store.checkpoint().sign(&store.log).to_string()).unwrap();
    store.batches(300);
    let report = store.write().verify(Some(&kept));
    assert_eq!(
        (report.verdict, report.log.size, report.log.echoes),
        (Word::Verified, 602, 1),
        "{:?}",
        report.log
    );
    // A running sink has more than its checkpoint says.
    let note = store.checkpoint().sign(&store.log).to_string();
    store.batches(2);
    store.write_under(&note);
    let report = store.verify(None);
    assert_eq!((report.verdict, report.log.uncommitted), (Word::Verified, 2));
}

#[test]
fn a_flipped_bit_of_any_published_file_is_found_by_name() {
    let mut store = Store::new();
    store.batches(300);
    store.write();
    for name in
        ["tile/0/000", "tile/0/001.p/45", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/45"]
    {
        store.flip(name, 30);
        assert_found(&store.verify(None), Word::Altered, &format!("log/{name} is not what the records give"));
        store.flip(name, 30);
    }
    assert_eq!(store.verify(None).verdict, Word::Verified);
    fs::remove_file(store.path("log/tile/0/000")).unwrap();
    assert_found(&store.verify(None), Word::Altered, "log/tile/0/000 cannot be read");
}

#[test]
fn a_leaf_that_was_swapped_is_found() {
    let (mut store, mut other) = (Store::new(), Store::new());
    store.batches(3);
    let honest = store.checkpoint().sign(&store.log).to_string();
    // Whoever has the disk exchanges the last record and all tiles, and has no key to sign the new tree.
    other.batches(3);
    (store.segment, store.edge) = (other.segment, other.edge);
    store.sink = other.sink;
    store.write_under(&honest);
    let report = store.verify(None);
    assert_found(&report, Word::Altered, "are not those that are here");
}

#[test]
fn a_store_that_was_cut_is_found_by_its_own_checkpoint() {
    let mut store = Store::new();
    store.batches(3);
    store.write();
    let mut end = 0;
    let mut records = segment::Reader::open(store.segment.as_slice()).unwrap();
    for _ in 0..3 {
        let record = records.next().unwrap().unwrap();
        end = (record.offset + record.length) as usize;
    }
    fs::write(store.path("segments").join(segment::file_name(1)), &store.segment[..end]).unwrap();
    assert_found(&store.verify(None), Word::Altered, "is over 4 records, and 3 are here");
}

#[test]
fn a_checkpoint_of_another_key_or_a_wrong_origin_is_found() {
    let mut store = Store::new();
    store.batches(3);
    let other = LogKey::generate().unwrap().0;
    let note = store.checkpoint().sign(&other).to_string();
    store.write_under(&note);
    assert_found(&store.verify(None), Word::Altered, "not signed by the log's key");
    let elsewhere = Checkpoint { origin: "custody-log/00".to_owned(), ..store.checkpoint() };
    store.write_under(&elsewhere.sign(&store.log).to_string());
    assert_found(&store.verify(None), Word::Altered, "the checkpoint is of another log");
    // A log of the forger's own, which the sink did not certify.
    let own = Checkpoint { origin: log_key(other.public()).name().to_owned(), ..store.checkpoint() };
    store.write_under(&own.sign(&other).to_string());
    let certificate = CertifiedLogKey::certify(&SinkKey::generate().unwrap().0, other.public()).certificate;
    fs::write(store.path("log/key.pub"), format!("{}\n{certificate}\n", log_key(other.public()))).unwrap();
    assert_found(&store.verify(None), Word::Altered, "not certified by the sink's key");
}

/// The sink's owner has all keys of the sink, and signs a shorter or another history. What hosts and people hold tells.
#[test]
fn a_rollback_or_fork_by_who_has_all_keys_is_found_by_what_others_hold() {
    let mut store = Store::new();
    store.batches(3);
    let kept = store.path("kept");
    let longer = {
        let held = store.checkpoint();
        Checkpoint { size: 9, ..held }
    };
    fs::write(&kept, longer.sign(&store.log).to_string()).unwrap();
    assert_found(&store.write().verify(Some(&kept)), Word::Forked, "ROLLED BACK: the checkpoint in");
    let other = Checkpoint { root: custody_ledger::Hash([1; 32]), ..store.checkpoint() };
    fs::write(&kept, other.sign(&store.log).to_string()).unwrap();
    assert_found(&store.verify(Some(&kept)), Word::Forked, "FORKED: the checkpoint in");
    fs::write(&kept, store.checkpoint().sign(&LogKey::generate().unwrap().0).to_string()).unwrap();
    assert_found(&store.verify(Some(&kept)), Word::Forked, "is none of this log");
    // A host signed what it was shown.
    store.batch(Some(longer.reference()));
    assert_found(&store.write().verify(None), Word::Forked, "ROLLED BACK: the checkpoint of host");
    let mut store = Store::new();
    store.batches(3);
    let forked = Checkpoint { root: custody_ledger::Hash([1; 32]), ..store.checkpoint() };
    store.batch(Some(forked.reference()));
    assert_found(&store.write().verify(None), Word::Forked, "FORKED: the checkpoint of host");
}

#[test]
fn a_store_without_a_log_is_incomplete() {
    let mut store = Store::new();
    store.batches(3);
    store.write();
    fs::remove_dir_all(store.path("log")).unwrap();
    let report = store.verify(None);
    assert_eq!((report.verdict, report.log.origin), (Word::Incomplete, None));
}
