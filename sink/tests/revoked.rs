//! The real program over real sockets: who is revoked stands in the store, and so does that a revocation was taken away;
//! no batch of a revoked host stands behind the statement.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::time::Duration;

use custody_ledger::segment::RecordKind;
use custody_ledger::statement::{Stated, Statement};
use custody_ledger::tree::hash_of;
use custody_ledger::wire::{self, RefusalCode};
use hyper::Method;
use support::{Sink, batch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The revocations that a stopped sink stated: whose, and the reason, or that it was taken away.
fn revocations(sink: &Sink) -> Vec<(Statement, &'static str)> {
    let of = |statement: Statement| match statement.what {
        Stated::Revoked { .. } => Some((statement, "revoked")),
        Stated::Reinstated { .. } => Some((statement, "reinstated")),
        _ => None,
    };
    sink.statements().into_iter().filter_map(of).collect()
}

/// Waits until the running sink counts so many records in its log.
async fn logged(sink: &Sink, records: u64) {
    while sink.checkpoint().size < records {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_is_revoked_stands_in_the_store_and_a_removed_file_does_too() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let id = host.id.to_string();
    let mut chain = host.epoch(1, None);
    let first = batch(&mut chain, "before");
    assert_eq!(sink.append(&host, &[&first]).await.receipts.len(), 1);
    let revoke = ["revoke", "--host", id.as_str(), "--reason", "its disk was sold"];
    assert!(sink.run_to_end(&revoke).status.success());
    let second = batch(&mut chain, "after");
    let refusal = sink.append(&host, &[&second]).await.refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::Forbidden);
    // Enrolment, batch, the revocation and the denied attempt.
    logged(&sink, 4).await;
    sink.stop();
    let stated = revocations(&sink);
    assert_eq!(stated.len(), 1, "{stated:?}");
    assert_eq!(stated[0].0.host, Some(host.id));
    let Stated::Revoked { identity, reason, .. } = &stated[0].0.what else { panic!("{stated:?}") };
    assert_eq!((identity, reason.as_deref()), (&host.identity, Some("its disk was sold")));
    // The file is removed while no sink runs, and so is what the sink knows beside its segments.
    std::fs::remove_dir_all(sink.state().join("revoked")).unwrap();
    std::fs::remove_file(sink.state().join("index.redb")).unwrap();
    sink.spawn();
    assert_eq!(sink.append(&host, &[&second]).await.receipts.len(), 1);
    sink.stop();
    let stated = revocations(&sink);
    assert_eq!(stated.iter().map(|(_, what)| *what).collect::<Vec<_>>(), ["revoked", "reinstated"]);
    // A start with nothing new states nothing.
    sink.spawn();
    sink.stop();
    assert_eq!(revocations(&sink).len(), 2);
}

#[tokio::test]
async fn a_disk_that_does_not_say_who_is_revoked_refuses_for_now_and_states_nothing() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let first = batch(&mut host.epoch(1, None), "a");
    // A folder in the place of its file: reading it fails.
    let file = sink.state().join("revoked").join(hash_of(host.identity.as_bytes()).to_string());
    std::fs::create_dir(&file).unwrap();
    let refusal = sink.append(&host, &[&first]).await.refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::Unavailable, "{}", refusal.detail);
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(sink.append(&host, &[&first]).await.receipts.len(), 1);
    sink.stop();
    assert_eq!(sink.statements().len(), 0, "nobody was denied");
}

#[tokio::test]
async fn a_person_who_was_revoked_while_no_sink_ran_is_stated_at_its_start_and_again_when_it_is_done_again() {
    let mut sink = Sink::start();
    let dana = ["--role", "reader", "--name", "dana@corp"];
    let reader = sink.enrol_with(&sink.token(&dana)).await.unwrap();
    sink.stop();
    assert!(sink.run_to_end(&[&["revoke"], &dana[..]].concat()).status.success());
    sink.spawn();
    let answer = sink.request(Some(&reader.credentials), Method::GET, "/v1/hosts", Vec::new()).await.unwrap();
    assert_eq!(answer.0, 403);
    sink.stop();
    assert_eq!(revocations(&sink).len(), 1);
    let file = std::fs::read_dir(sink.state().join("revoked")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "4102444800 custody:person:reader:dana@corp\nfor good\n").unwrap();
    sink.spawn();
    sink.stop();
    let stated = revocations(&sink);
    assert_eq!((stated.len(), stated[1].0.host), (2, None));
    let Stated::Revoked { until_s, reason, .. } = &stated[1].0.what else { panic!("{stated:?}") };
    assert_eq!((*until_s, reason.as_deref()), (4_102_444_800, Some("for good")));
}

/// A request may be read while its host is revoked: its batches stand before the statement, or nowhere.
#[tokio::test]
async fn a_request_that_was_let_in_before_its_host_was_revoked_puts_no_batch_behind_the_statement() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (id, path) = (host.id.to_string(), wire::batches_path(host.id));
    let mut body = Vec::new();
    wire::put_frame(&mut body, &batch(&mut host.epoch(1, None), "late").frame);
    let mut stream = sink.stream(Some(&host.credentials)).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n", "it is let in, and its body is waited for");
    assert!(sink.run_to_end(&["revoke", "--host", &id]).status.success());
    logged(&sink, 2).await;
    stream.write_all(&body).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 403");
    sink.stop();
    let kinds: Vec<_> = sink.records().into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordKind::Enrolment, RecordKind::Statement]);
    assert_eq!(revocations(&sink).len(), 1);
}
