//! Attacks on a sink's folder that must be rejected (`docs/attacks.md`), each first shown to pass when the one check that
//! stops it is left out: when nobody says the sentence that its row names.

use std::collections::BTreeMap;
use std::fs;

use custody_ledger::retention::{ExpiredOf, Retention, Thinned};
use custody_ledger::segment::{self, Reader, Record, RecordKind, put_record};
use custody_ledger::statement::{Enrolment, Signed, Stated, Statement};
use custody_ledger::tlog::Checkpoint;
use custody_ledger::verify::Finding;
use custody_ledger::{
    Batch, BootId, Chain, Draft, Echo, EntryType, Hash, HostId, HostKey, LogKey, ReceiptLevel, SignedBatch,
    SignedReceipt, SinkKey,
};

use super::log::tests::{HOST, Store};
use super::{Report, Word};

thread_local! {
    static LEFT_OUT: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

pub(super) fn is_left_out(sentence: &str) -> bool {
    let left_out = LEFT_OUT.get();
    !left_out.is_empty() && sentence.contains(left_out)
}

fn sentences(report: &Report) -> Vec<String> {
    let hosts = report.hosts.iter().flat_map(|host| &host.report.faults).map(ToString::to_string);
    let own = [&report.store, &report.log.faults, &report.log.forks].into_iter().flatten().cloned();
    own.chain(hosts).collect()
}

/// The attack is verified when its row's sentence is not said, and it is the only thing that is said.
#[track_caller]
fn assert_seen(name: &str, attack: impl Fn() -> Report) {
    let row = custody_tests::attacks::named(name);
    LEFT_OUT.set(row.reads);
    let unguarded = attack();
    LEFT_OUT.set("");
    let told = sentences(&unguarded);
    assert!(unguarded.verdict == Word::Verified, "the attack fails for another reason: {told:?}");
    let report = attack();
    let told = sentences(&report);
    assert!(matches!(report.verdict, Word::Altered | Word::Forked), "{:?}: {told:?}", report.verdict);
    assert!(!told.is_empty() && told.iter().all(|sentence| sentence.contains(row.reads)), "{told:?}");
}

/// Four records under a checkpoint: an enrolment and three batches.
fn honest() -> Store {
    let mut store = Store::new();
    store.batches(1);
    store.write();
    store.batches(2);
    store.write();
    store
}

fn next(chain: &mut Chain) -> SignedBatch {
    chain.append(&Draft::new(EntryType::Heartbeat, b"body")).unwrap();
    chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
}

fn receipt(key: &SinkKey, host: HostId, batch: &SignedBatch) -> Vec<u8> {
    let receipt = SignedReceipt::sign(key, ReceiptLevel::Stored, host, batch.position, 1_000).unwrap();
    custody_ledger::wire::encode(&receipt).unwrap()
}

/// Writes records behind the checkpoint, which stays as it is: nothing vouches for them yet.
fn behind(store: &mut Store, kind: RecordKind, meta: &[u8], payload: &[u8]) {
    put_record(&mut store.segment, kind, meta, payload).unwrap();
    fs::write(store.path("segments").join(segment::file_name(1)), &store.segment).unwrap();
}

fn enrolment(host: HostId) -> Enrolment {
    let key = HostKey::generate().unwrap().0.public();
    Enrolment { host, key, name: "web-2".to_owned(), labels: BTreeMap::new(), enrolled_ns: 2 }
}

fn statement() -> Statement {
    let what = Stated::Found {
        batch: custody_ledger::Position {
            epoch: custody_ledger::EpochId { counter: 1, nonce: custody_ledger::ids::EpochNonce([1; 16]) },
            number: custody_ledger::BatchNumber(0),
            hash: Hash([1; 32]),
        },
        finding: Finding::CounterWentBack { source: "ring".to_owned() },
    };
    Statement { host: Some(HOST), at_ns: 5, what }
}

#[test]
fn a_tile_that_was_changed_is_found() {
    assert_seen("a_tile_that_was_changed_is_found", || {
        let store = honest();
        store.flip("tile/0/000.p/4", 30);
        store.verify(None)
    });
}

#[test]
fn a_leaf_of_a_bundle_that_was_changed_is_found() {
    assert_seen("a_leaf_of_a_bundle_that_was_changed_is_found", || {
        let store = honest();
        store.flip("tile/entries/000.p/4", 30);
        store.verify(None)
    });
}

#[test]
fn a_tile_of_an_older_size_that_was_changed_is_found() {
    assert_seen("a_tile_of_an_older_size_that_was_changed_is_found", || {
        let store = honest();
        store.flip("tile/0/000.p/2", 30);
        store.verify(None)
    });
}

#[test]
fn a_tile_that_was_taken_away_is_found() {
    assert_seen("a_tile_that_was_taken_away_is_found", || {
        let store = honest();
        fs::remove_file(store.path("log/tile/0/000.p/4")).unwrap();
        store.verify(None)
    });
}

/// A store of `records` whose tiles are all right, under another checkpoint than its own.
fn under(store: &mut Store, note: &str) {
    let _ = fs::remove_dir_all(store.path("log"));
    store.write_under(note);
}

#[test]
fn records_that_were_exchanged_are_found() {
    assert_seen("records_that_were_exchanged_are_found", || {
        let store = honest();
        let note = fs::read_to_string(store.path("log/checkpoint")).unwrap();
        // Another store of the same length by the same keys.
        let mut other = Store { sink: store.sink, log: store.log, ..Store::new() };
        other.segment = segment::MAGIC.to_vec();
        (other.edge, other.tree) = Default::default();
        let host = HostKey::generate().unwrap().0;
        let enrolled = Enrolment { key: host.public(), ..enrolment(HOST) };
        let payload = Signed::seal(&other.sink, &enrolled).unwrap();
        other.put(RecordKind::Enrolment, b"", &payload);
        other.chain = Chain::start(&host, HOST, BootId([1; 16]), 1, None).unwrap();
        other.batches(3);
        under(&mut other, &note);
        other.verify(None)
    });
}

#[test]
fn records_that_were_taken_out_are_found() {
    assert_seen("records_that_were_taken_out_are_found", || {
        let mut store = Store::new();
        store.batches(2);
        let longer = Checkpoint { size: 4, ..store.checkpoint() };
        let note = longer.sign(&store.log).to_string();
        store.write_under(&note);
        store.verify(None)
    });
}

fn echoed(change: impl Fn(Checkpoint) -> Checkpoint) -> Report {
    let mut store = Store::new();
    store.batches(3);
    let held = change(store.checkpoint()).reference();
    store.batch(Some(held));
    store.write();
    store.verify(None)
}

#[test]
fn a_log_that_is_signed_anew_is_found_by_what_a_host_echoes() {
    assert_seen("a_log_that_is_signed_anew_is_found_by_what_a_host_echoes", || {
        echoed(|held| Checkpoint { size: 9, ..held })
    });
}

#[test]
fn another_past_that_is_signed_anew_is_found_by_what_a_host_echoes() {
    assert_seen("another_past_that_is_signed_anew_is_found_by_what_a_host_echoes", || {
        echoed(|held| Checkpoint { root: Hash([1; 32]), ..held })
    });
}

fn kept(change: impl Fn(Checkpoint) -> Checkpoint, key: impl Fn(&Store) -> LogKey) -> Report {
    let store = honest();
    let path = store.path("kept");
    let signer = key(&store);
    fs::write(&path, change(store.checkpoint()).sign(&signer).to_string()).unwrap();
    store.verify(Some(&path))
}

/// The sink's owner has the key that signed both.
fn same_key(store: &Store) -> LogKey {
    LogKey::from_pkcs8(&store.log_pkcs8).unwrap()
}

#[test]
fn a_shorter_log_is_found_by_a_checkpoint_that_was_kept() {
    assert_seen("a_shorter_log_is_found_by_a_checkpoint_that_was_kept", || {
        kept(|held| Checkpoint { size: 9, ..held }, same_key)
    });
}

#[test]
fn another_past_is_found_by_a_checkpoint_that_was_kept() {
    assert_seen("another_past_is_found_by_a_checkpoint_that_was_kept", || {
        kept(|held| Checkpoint { root: Hash([1; 32]), ..held }, same_key)
    });
}

#[test]
fn a_new_log_is_found_by_a_checkpoint_that_was_kept() {
    assert_seen("a_new_log_is_found_by_a_checkpoint_that_was_kept", || {
        kept(|held| held, |_| LogKey::generate().unwrap().0)
    });
}

#[test]
fn a_receipt_that_the_sink_did_not_sign_is_found() {
    assert_seen("a_receipt_that_the_sink_did_not_sign_is_found", || {
        let mut store = honest();
        let batch = next(&mut store.chain);
        let meta = receipt(&SinkKey::generate().unwrap().0, HOST, &batch);
        behind(&mut store, RecordKind::Batch, &meta, &batch.frame);
        store.verify(None)
    });
}

#[test]
fn a_receipt_of_another_host_is_found() {
    assert_seen("a_receipt_of_another_host_is_found", || {
        let mut store = honest();
        let batch = next(&mut store.chain);
        let meta = receipt(&store.sink, HostId::from_bytes([8; 16]), &batch);
        behind(&mut store, RecordKind::Batch, &meta, &batch.frame);
        store.verify(None)
    });
}

#[test]
fn a_host_that_the_sink_did_not_enrol_is_found() {
    assert_seen("a_host_that_the_sink_did_not_enrol_is_found", || {
        let mut store = honest();
        let forger = SinkKey::generate().unwrap().0;
        let payload = Signed::seal(&forger, &enrolment(HostId::from_bytes([8; 16]))).unwrap();
        behind(&mut store, RecordKind::Enrolment, b"", &payload);
        store.verify(None)
    });
}

#[test]
fn a_host_that_is_enrolled_twice_is_found() {
    assert_seen("a_host_that_is_enrolled_twice_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&store.sink, &enrolment(HOST)).unwrap();
        behind(&mut store, RecordKind::Enrolment, b"", &payload);
        store.verify(None)
    });
}

#[test]
fn a_batch_of_a_host_that_was_never_enrolled_is_found() {
    assert_seen("a_batch_of_a_host_that_was_never_enrolled_is_found", || {
        let mut store = honest();
        let (host, id) = (HostKey::generate().unwrap().0, HostId::from_bytes([8; 16]));
        let batch = next(&mut Chain::start(&host, id, BootId([1; 16]), 1, None).unwrap());
        let meta = receipt(&store.sink, id, &batch);
        behind(&mut store, RecordKind::Batch, &meta, &batch.frame);
        store.verify(None)
    });
}

#[test]
fn a_statement_that_the_sink_did_not_make_is_found() {
    assert_seen("a_statement_that_the_sink_did_not_make_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&SinkKey::generate().unwrap().0, &statement()).unwrap();
        behind(&mut store, RecordKind::Statement, b"", &payload);
        store.verify(None)
    });
}

#[test]
fn a_statement_that_stands_there_twice_is_found() {
    assert_seen("a_statement_that_stands_there_twice_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&store.sink, &statement()).unwrap();
        behind(&mut store, RecordKind::Statement, b"", &payload);
        behind(&mut store, RecordKind::Statement, b"", &payload);
        store.verify(None)
    });
}

fn revocation(at_ns: u64, what: fn(String) -> Stated) -> Statement {
    Statement { host: Some(HOST), at_ns, what: what(format!("custody:host:{HOST}")) }
}

fn revoked(identity: String) -> Stated {
    Stated::Revoked { identity, until_s: 1, reason: Some("stolen".to_owned()) }
}

/// A batch of the host that the sink gave a receipt for, behind what is there.
fn batch_behind(store: &mut Store) {
    let batch = next(&mut store.chain);
    let meta = receipt(&store.sink, HOST, &batch);
    behind(store, RecordKind::Batch, &meta, &batch.frame);
}

#[test]
fn a_batch_of_a_host_that_was_revoked_before_is_found() {
    assert_seen("a_batch_of_a_host_that_was_revoked_before_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&store.sink, &revocation(6, revoked)).unwrap();
        behind(&mut store, RecordKind::Statement, b"", &payload);
        batch_behind(&mut store);
        store.verify(None)
    });
}

#[test]
fn a_revocation_and_that_it_was_taken_away_are_shown_and_what_came_before_and_after_holds() {
    let mut store = honest();
    for statement in [revocation(6, revoked), revocation(7, |identity| Stated::Reinstated { identity })] {
        let payload = Signed::seal(&store.sink, &statement).unwrap();
        behind(&mut store, RecordKind::Statement, b"", &payload);
    }
    batch_behind(&mut store);
    let report = store.verify(None);
    assert_eq!(report.verdict, Word::Verified, "{:?}", sentences(&report));
    let identity = format!("custody:host:{HOST}");
    let taken_away = format!("the revocation of {identity} was taken away");
    assert_eq!(report.hosts[0].statements, [format!("{identity} was revoked: stolen"), taken_away]);
}

#[test]
fn something_that_is_hidden_beside_a_record_is_found() {
    assert_seen("something_that_is_hidden_beside_a_record_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&store.sink, &statement()).unwrap();
        behind(&mut store, RecordKind::Statement, b"hidden", &payload);
        store.verify(None)
    });
}

#[test]
fn a_record_that_was_damaged_in_an_older_segment_is_found() {
    assert_seen("a_record_that_was_damaged_in_an_older_segment_is_found", || {
        let mut store = honest();
        let payload = Signed::seal(&store.sink, &statement()).unwrap();
        behind(&mut store, RecordKind::Statement, b"", &payload);
        let last = store.segment.len() - 1;
        store.segment[last] ^= 1;
        fs::write(store.path("segments").join(segment::file_name(1)), &store.segment).unwrap();
        fs::write(store.path("segments").join(segment::file_name(2)), segment::MAGIC).unwrap();
        store.verify(None)
    });
}

/// The records of a store's segment again, those of these indices changed: `(meta, payload)`.
fn changed(store: &Store, these: &[u64], change: impl Fn(&Record) -> (Vec<u8>, Vec<u8>)) -> Vec<Record> {
    let records = Reader::open(store.segment.as_slice()).unwrap();
    let change = |(index, record): (u64, Result<Record, _>)| {
        let record: Record = record.unwrap();
        let (meta, payload) = if these.contains(&index) {
            change(&record)
        } else {
            (record.meta.clone(), record.payload.clone())
        };
        Record { meta, payload, ..record }
    };
    (0..).zip(records).map(change).collect()
}

fn thinned(record: &Record) -> (Vec<u8>, Vec<u8>) {
    let thinned = Thinned::of(record).unwrap().unwrap();
    (thinned.meta, thinned.frame)
}

/// A store in which the bodies of these records are gone, as a sink lets them expire.
fn without_bodies(store: &mut Store, these: &[u64]) -> Report {
    store.write();
    let mut bytes = segment::MAGIC.to_vec();
    for record in changed(store, these, thinned) {
        put_record(&mut bytes, record.kind, &record.meta, &record.payload).unwrap();
    }
    fs::write(store.path("segments").join(segment::file_name(1)), bytes).unwrap();
    store.verify(None)
}

/// When the batches of [`Store::batch`] are ten seconds old.
const DUE_NS: u64 = 10_000_001_000;

/// About the first batch of [`honest`].
fn retention() -> Retention {
    let hosts = vec![ExpiredOf { host: HOST, batches: 1, bodies: 1, bytes: 4 }];
    Retention { age_s: 10, segment: 1, first: 1, end: 2, hosts }
}

fn state(store: &mut Store, key: &SinkKey, at_ns: u64, retention: Retention) {
    let statement = Statement { host: None, at_ns, what: Stated::Retention(retention) };
    store.put(RecordKind::Statement, b"", &Signed::seal(key, &statement).unwrap());
}

/// The sink's key, where the store is borrowed.
fn sink_key(store: &Store) -> SinkKey {
    SinkKey::from_pkcs8(&store.sink_pkcs8).unwrap()
}

/// [`honest`], then a statement by the sink, then these bodies go.
fn stated(at_ns: u64, retention: Retention, gone: &[u64]) -> Report {
    let mut store = honest();
    let key = sink_key(&store);
    state(&mut store, &key, at_ns, retention);
    without_bodies(&mut store, gone)
}

#[test]
fn what_expired_as_stated_is_no_alteration() {
    for gone in [&[1][..], &[]] {
        let report = stated(DUE_NS, retention(), gone);
        assert_eq!(report.verdict, Word::Verified, "{:?}", sentences(&report));
        assert_eq!(report.hosts[0].expired.bodies, gone.len() as u64);
    }
}

#[test]
fn a_body_that_was_removed_without_a_statement_is_found() {
    assert_seen("a_body_that_was_removed_without_a_statement_is_found", || {
        without_bodies(&mut honest(), &[1])
    });
}

#[test]
fn a_body_beside_those_that_were_stated_is_found() {
    assert_seen("a_body_beside_those_that_were_stated_is_found", || stated(DUE_NS, retention(), &[1, 2]));
}

#[test]
fn a_body_that_was_removed_in_silence_is_found() {
    assert_seen("a_body_that_was_removed_in_silence_is_found", || {
        let mut store = honest();
        let note = fs::read_to_string(store.path("log/checkpoint")).unwrap();
        let silent = |record: &Record| {
            let frame = Batch::decode(&record.payload).unwrap().redacted(|_| true);
            (record.meta.clone(), frame)
        };
        let records = changed(&store, &[1], silent);
        store.segment = segment::MAGIC.to_vec();
        (store.edge, store.tree) = Default::default();
        for record in records {
            store.put(record.kind, &record.meta, &record.payload);
        }
        under(&mut store, &note);
        store.verify(None)
    });
}

#[test]
fn a_retention_that_the_sink_did_not_state_is_found() {
    assert_seen("a_retention_that_the_sink_did_not_state_is_found", || {
        let mut store = honest();
        state(&mut store, &SinkKey::generate().unwrap().0, DUE_NS, retention());
        without_bodies(&mut store, &[1])
    });
}

#[test]
fn a_body_that_was_removed_before_its_time_is_found() {
    assert_seen("a_body_that_was_removed_before_its_time_is_found", || stated(DUE_NS - 1, retention(), &[1]));
}

#[test]
fn a_retention_of_what_is_still_to_come_is_found() {
    assert_seen("a_retention_of_what_is_still_to_come_is_found", || {
        let mut store = honest();
        let key = sink_key(&store);
        state(&mut store, &key, DUE_NS, Retention { first: 5, end: 6, ..retention() });
        store.batches(1);
        without_bodies(&mut store, &[5])
    });
}

#[test]
fn a_retention_that_names_another_host_is_found() {
    assert_seen("a_retention_that_names_another_host_is_found", || {
        let other = ExpiredOf { host: HostId::from_bytes([8; 16]), batches: 1, bodies: 1, bytes: 4 };
        stated(DUE_NS, Retention { hosts: vec![other], ..retention() }, &[1])
    });
}

#[test]
fn more_bodies_of_a_host_than_were_stated_are_found() {
    assert_seen("more_bodies_of_a_host_than_were_stated_are_found", || {
        stated(DUE_NS, Retention { end: 3, ..retention() }, &[1, 2])
    });
}
