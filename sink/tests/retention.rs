//! The real program with a short age of bodies: what is old goes, is stated before, and everything that is signed can still
//! be verified, found, exported and built again. Killed at any moment it finishes what it stated, and never more.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use custody_ledger::retention::{BatchMeta, Retention};
use custody_ledger::segment::RecordKind;
use custody_ledger::statement::Stated;
use custody_ledger::wire::RefusalCode;
use custody_ledger::{Batch, Chain, Draft, Echo, EntryType, Seq, SignedBatch};
use custody_record::search::{Found, SearchPage};
use custody_record::{Kind, Record, Times, Value, names};
use redb::ReadableDatabase;
use support::{Credentials, Host, Sink, batch, batch_of};

const AGE: &str = "[retention]\nbodies = \"1s\"";

#[track_caller]
fn assert_verified(sink: &Sink, sentence: &str) {
    let (code, words) = sink.verify();
    assert!(code == Some(0) && words.contains(sentence), "{code:?}: {words}");
}

/// Batches of a stopped sink that have their bodies, and those that have not.
fn bodies(sink: &Sink) -> (usize, usize) {
    let records = sink.records().into_iter().filter(|record| record.kind == RecordKind::Batch);
    let (gone, here): (Vec<_>, Vec<_>) =
        records.partition(|record| BatchMeta::of(record).unwrap().content.is_some());
    let without =
        |frame: &[u8]| Batch::decode(frame).unwrap().entries.iter().all(|entry| entry.body.is_none());
    assert!(gone.iter().all(|record| without(&record.payload)), "a half-thinned batch");
    assert!(
        here.iter().all(|record| !without(&record.payload)),
        "a batch lost its bodies and does not say so"
    );
    (here.len(), gone.len())
}

fn stated(sink: &Sink) -> Vec<Retention> {
    let statements = sink.statements().into_iter();
    let retention = statements.filter_map(|statement| match statement.what {
        Stated::Retention(retention) => Some(retention),
        _ => None,
    });
    retention.collect()
}

async fn append(sink: &Sink, host: &Host, batches: &[SignedBatch]) {
    let answer = sink.append(host, &batches.iter().collect::<Vec<_>>()).await;
    assert_eq!((answer.receipts.len(), answer.refusal), (batches.len(), None));
}

#[tokio::test]
async fn what_is_old_goes_as_stated_and_what_is_signed_still_verifies() {
    let mut sink = Sink::start_with(AGE);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let old: Vec<_> = (0..5).map(|number| batch(&mut chain, &format!("old {number}"))).collect();
    append(&sink, &host, &old).await;
    sink.expired(5).await.unwrap();
    sink.stop();
    sink.set_age("90d");
    sink.spawn();
    append(&sink, &host, &[batch(&mut chain, "new")]).await;
    // The same again is answered by the same receipt, though its body is gone.
    append(&sink, &host, &old).await;
    sink.stop();
    let retention = stated(&sink);
    assert_eq!(retention.iter().map(Retention::bodies).sum::<u64>(), 5);
    assert_eq!(bodies(&sink), (1, 5));
    assert_verified(&sink, "expired by policy: the content of 5 entries in 5 batches");
}

#[tokio::test]
async fn index_log_and_words_are_built_again_from_what_is_left() {
    let mut sink = Sink::start_with(AGE);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let old: Vec<_> = (0..5).map(|number| batch(&mut chain, &format!("old {number}"))).collect();
    append(&sink, &host, &old).await;
    sink.expired(5).await.unwrap();
    let head = sink.head(&host).await;
    sink.stop();
    let before = sink.checkpoint();
    for gone in ["index.redb", "tree.redb"] {
        std::fs::remove_file(sink.state().join(gone)).unwrap();
    }
    std::fs::remove_dir_all(sink.state().join("search")).unwrap();
    sink.set_age("90d");
    sink.spawn();
    assert_eq!(sink.head(&host).await, head);
    sink.expired(5).await.unwrap();
    append(&sink, &host, &[batch(&mut chain, "new")]).await;
    append(&sink, &host, &old).await;
    sink.stop();
    let after = sink.checkpoint();
    assert!(after.size > before.size && after.origin == before.origin, "{before:?} {after:?}");
    assert_verified(&sink, "expired by policy: the content of 5 entries in 5 batches");
    assert_eq!(stated(&sink).len(), bodies(&sink).1.min(1), "nothing is stated twice");
}

/// A session that begins, goes on, and is still there when its beginning has expired.
fn put(chain: &mut Chain, entry_type: EntryType, session: Option<u64>, field: &'static str, words: &str) {
    let kind = if session.is_none() { Kind::SessionOpen } else { Kind::Exchange };
    let record = Record {
        kind,
        session: None,
        exchange: None,
        times: Times { first_ns: 1, last_ns: 2 },
        fields: [(field.into(), Value::from(words))].into(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    let (body, session) = (record.encode().unwrap(), session.map(Seq));
    let draft = Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns: 3, session, body: &body, sealed: None };
    chain.append(&draft).unwrap();
}

fn close(chain: &mut Chain) -> SignedBatch {
    chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
}

/// How many entries have these words, none of which is told as missing; and which of them say that they have expired.
async fn found(sink: &Sink, reader: &Credentials, query: &str) -> Vec<(String, bool)> {
    let path = format!("/v1/search?{query}&n=100");
    let (status, body) = sink.request(Some(reader), hyper::Method::GET, &path, Vec::new()).await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let page: SearchPage = serde_json::from_slice(&body).unwrap();
    let hit = |found| match found {
        Found::Hit(hit) => (hit.id, hit.entry.expired),
        Found::Missing(missing) => panic!("{query}: {missing:?}"),
    };
    page.found.into_iter().map(hit).collect()
}

/// Whether the index of words of a stopped sink has a list of this word.
fn is_indexed(sink: &Sink, word: &str) -> bool {
    let table = redb::TableDefinition::<(&[u8], u64), &[u8]>::new("words");
    let database = redb::Database::open(sink.state().join("search/index.redb")).unwrap();
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    table.range((word.as_bytes(), 0)..=(word.as_bytes(), u64::MAX)).unwrap().next().is_some()
}

#[tokio::test]
async fn words_of_what_expired_leave_the_index_and_a_new_one_gives_the_same_answers() {
    let mut sink = Sink::start_with("[retention]\nbodies = \"forever\"");
    let host = sink.enrol().await;
    let token = sink.token(&["--role", "reader", "--name", "dana@corp"]);
    let reader = sink.enrol_with(&token).await.unwrap().credentials;
    let mut chain = host.epoch(1, None);
    put(&mut chain, EntryType::SessionOpen, None, names::PROCESS_EXECUTABLE, "oldprogram");
    put(&mut chain, EntryType::Exchange, Some(0), names::DB_QUERY_TEXT, "SELECT oldsecret");
    append(&sink, &host, &[close(&mut chain)]).await;
    assert_eq!(found(&sink, &reader, "q=oldsecret").await.len(), 1);
    assert_eq!(
        found(&sink, &reader, "q=oldprogram").await.len(),
        2,
        "the session's program is found by each"
    );
    sink.stop();
    assert!(is_indexed(&sink, "oldsecret"), "the test would show nothing");
    sink.set_age("1s");
    sink.spawn();
    sink.expired(2).await.unwrap();
    while sink.metric("search_forgotten_segment").await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sink.stop();
    for word in ["oldsecret", "oldprogram"] {
        assert!(!is_indexed(&sink, word), "{word} is in the index still");
    }
    sink.set_age("90d");
    sink.spawn();
    put(&mut chain, EntryType::Exchange, Some(0), names::DB_QUERY_TEXT, "SELECT newsecret");
    append(&sink, &host, &[close(&mut chain)]).await;
    let queries =
        ["q=oldsecret", "q=oldprogram", "q=newsecret", "q=exchange", "where=type%20=%20exchange", "q=web"];
    let mut answers = Vec::new();
    for query in queries {
        answers.push(found(&sink, &reader, query).await);
    }
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 3]);
    assert_eq!(answers[3].iter().map(|(_, expired)| *expired).collect::<Vec<_>>(), [false, true]);
    sink.stop();
    std::fs::remove_dir_all(sink.state().join("search")).unwrap();
    sink.spawn();
    for (query, answer) in queries.iter().zip(&answers) {
        assert_eq!(&found(&sink, &reader, query).await, answer, "{query}");
    }
}

#[tokio::test]
async fn what_expired_counts_no_more_for_the_quota_of_a_host() {
    let quota = "[quota]\nhost_bytes_stored = 2200000\n[retention]\nbodies = \"forever\"";
    let mut sink = Sink::start_with(quota);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let mut taken = 0;
    let waiting = loop {
        let next = batch_of(&mut chain, &vec![taken as u8; 200_000]);
        let answer = sink.append(&host, &[&next]).await;
        match answer.refusal.map(|refusal| refusal.code) {
            None => taken += 1,
            Some(RefusalCode::OverQuota) => break next,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(taken, 10);
    sink.stop();
    sink.set_age("1s");
    sink.spawn();
    sink.expired(taken).await.unwrap();
    append(&sink, &host, &[waiting]).await;
    sink.stop();
    // An index that is built again counts the same.
    std::fs::remove_file(sink.state().join("index.redb")).unwrap();
    sink.spawn();
    let more: Vec<_> = (0..5).map(|number| batch_of(&mut chain, &vec![number; 200_000])).collect();
    append(&sink, &host, &more).await;
    sink.stop();
    assert_verified(&sink, "expired by policy");
}

/// Who stated may have been killed, and keeps all for ever from then on: what was stated goes all the same, and nothing else.
#[tokio::test]
async fn what_was_stated_is_finished_whatever_the_policy_is_then() {
    let mut sink = Sink::start_with(AGE);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    // A folder stands where the new segment would be written: what is stated cannot be done.
    let beside = sink.state().join("segments/00000000000000000001.tmp");
    std::fs::create_dir(&beside).unwrap();
    append(&sink, &host, &[batch(&mut chain, "old")]).await;
    // What is stated is one record more than the enrolment and the batch.
    while sink.checkpoint().size < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sink.kill();
    std::fs::remove_dir(&beside).unwrap();
    assert_eq!((stated(&sink).len(), bodies(&sink)), (1, (1, 0)), "nothing went without its new segment");
    let said = |age| String::from_utf8(sink.run_to_end(&["retention", "--bodies", age]).stdout).unwrap();
    assert!(said("1s").contains("1 bodies of 3 bytes would go now"), "{}", said("1s"));
    assert!(said("2d").contains("go in 1d 23h") && said("forever").contains("0 bodies"), "{}", said("2d"));
    assert_eq!(bodies(&sink), (1, 0), "asking removes nothing");
    assert_verified(&sink, "VERIFIED");
    sink.set_age("forever");
    sink.spawn();
    append(&sink, &host, &[batch(&mut chain, "kept")]).await;
    sink.expired(1).await.unwrap();
    sink.stop();
    assert_eq!((stated(&sink).len(), bodies(&sink)), (1, (1, 1)));
    assert_verified(&sink, "expired by policy: the content of 1 entries in 1 batches");
}
