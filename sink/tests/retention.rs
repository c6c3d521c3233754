//! The real program with a short age of bodies: what is old goes, is stated before, and everything that is signed can still
//! be verified, found, exported and built again. Killed at any moment it finishes what it stated, and never more.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::process::Command;
use std::time::Duration;

use custody_ledger::retention::{BatchMeta, Retention};
use custody_ledger::segment::RecordKind;
use custody_ledger::statement::Stated;
use custody_ledger::{Batch, SignedBatch};
use custody_tests::stand::built;
use support::{Host, Sink, batch};

const AGE: &str = "[retention]\nbodies = \"1s\"";

/// Exit code of `custody verify`, and what it said.
fn verify(sink: &Sink) -> (Option<i32>, String) {
    let mut command = Command::new(built("custody"));
    command
        .args(["verify", "--from"])
        .arg(sink.state())
        .env("CUSTODY_HOME", sink.folder.path().join("nobody"));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[track_caller]
fn assert_verified(sink: &Sink, sentence: &str) {
    let (code, words) = verify(sink);
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

/// Waits until so many bodies have gone.
async fn until_expired(sink: &Sink, bodies: u64) {
    while sink.metric("bodies_expired").await.unwrap() < bodies {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
    until_expired(&sink, 5).await;
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
    until_expired(&sink, 5).await;
    let head = sink.head(&host).await;
    sink.stop();
    let before = sink.checkpoint();
    for gone in ["index.redb", "tree.redb"] {
        std::fs::remove_file(sink.state().join(gone)).unwrap();
    }
    std::fs::remove_dir_all(sink.state().join("search")).unwrap();
    sink.spawn();
    assert_eq!(sink.head(&host).await, head);
    until_expired(&sink, 5).await;
    append(&sink, &host, &[batch(&mut chain, "new")]).await;
    append(&sink, &host, &old).await;
    sink.stop();
    let after = sink.checkpoint();
    assert!(after.size > before.size && after.origin == before.origin, "{before:?} {after:?}");
    assert_verified(&sink, "expired by policy: the content of 5 entries in 5 batches");
    assert_eq!(stated(&sink).len(), bodies(&sink).1.min(1), "nothing is stated twice");
}
