//! The real program over real sockets: what it accepts, what it refuses, and what survives kill -9.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of a full disk, which use the rest")]
mod support;

use std::collections::BTreeMap;

use custody_ledger::segment::{Reader, RecordKind};
use custody_ledger::wire::RefusalCode;
use custody_ledger::{ReceiptLevel, Resume, SignedReceipt, codec};
use support::{Sink, batch};

fn code(answer: &custody_ledger::wire::AppendResponse) -> Option<RefusalCode> {
    answer.refusal.as_ref().map(|refusal| refusal.code)
}

/// Every batch of a stopped sink's segments, with its receipt.
fn stored(sink: &Sink) -> Vec<(SignedReceipt, Vec<u8>)> {
    let records = sink.records().into_iter();
    records
        .filter(|record| record.kind == RecordKind::Batch)
        .map(|record| (codec::decode("receipt", &record.meta).unwrap(), record.payload))
        .collect()
}

#[tokio::test]
async fn a_chain_is_accepted_and_each_batch_gets_one_receipt_for_ever() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    assert_eq!(host.identity, format!("custody:host:{}", host.id));
    let mut chain = host.epoch(1, None);
    let batches = [batch(&mut chain, "a"), batch(&mut chain, "b"), batch(&mut chain, "c")];
    let first = sink.append(&host, &[&batches[0], &batches[1]]).await;
    assert_eq!((first.receipts.len(), code(&first)), (2, None));
    let receipt = first.receipts[1].verify(&host.sink).unwrap();
    assert_eq!((receipt.batch, receipt.level), (batches[1].position, ReceiptLevel::Stored));
    // The answer was lost: everything comes again, with one more.
    let again = sink.append(&host, &[&batches[0], &batches[1], &batches[2]]).await;
    assert_eq!(again.refusal, None);
    assert_eq!(again.receipts[..2], first.receipts);
    sink.stop();
    sink.spawn();
    let head = sink.head(&host).await;
    assert_eq!((head.head, head.next_seq.0), (Some(batches[2].position), 3));
    assert_eq!(sink.append(&host, &[&batches[0]]).await.receipts, first.receipts[..1]);
    sink.stop();
    let stored = stored(&sink);
    assert_eq!(stored.len(), 3);
    assert!(stored.iter().zip(&batches).all(|((_, frame), batch)| *frame == batch.frame));
}

#[tokio::test]
async fn a_revoked_certificate_opens_nothing_and_others_go_on() {
    let sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let reader = ["--role", "reader", "--name", "dana@corp"];
    let person = sink.enrol_with(&sink.token(&reader)).await.unwrap();
    let ask =
        |path: &'static str| sink.request(Some(&person.credentials), hyper::Method::GET, path, Vec::new());
    assert_eq!(ask("/v1/hosts").await.unwrap().0, 200);
    let mut chain = host.epoch(1, None);
    assert_eq!(code(&sink.append(&host, &[&batch(&mut chain, "a")]).await), None);
    for who in [vec!["revoke", "--host", &host.id.to_string()], [&["revoke"], &reader[..]].concat()] {
        let output = sink.run_to_end(&who);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(ask("/v1/hosts").await.unwrap().0, 403);
    assert_eq!(ask("/v1/tail?follow=true").await.unwrap().0, 403);
    let refusal = sink.append(&host, &[&batch(&mut chain, "b")]).await.refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::Forbidden);
    assert!(refusal.detail.contains("revoked"), "{}", refusal.detail);
    assert_eq!(code(&sink.append(&other, &[&batch(&mut other.epoch(1, None), "c")]).await), None);
    assert_eq!(sink.run_to_end(&["revoke", "--role", "reader"]).status.code(), Some(2));
}

#[tokio::test]
async fn out_of_order_is_refused_with_the_head_and_costs_nothing() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches = [batch(&mut chain, "a"), batch(&mut chain, "b"), batch(&mut chain, "c")];
    sink.append(&host, &[&batches[0]]).await;
    let answer = sink.append(&host, &[&batches[2]]).await;
    assert_eq!((answer.receipts.len(), code(&answer)), (0, Some(RefusalCode::OutOfOrder)));
    assert_eq!(answer.refusal.unwrap().head.unwrap().head, Some(batches[0].position));
    assert_eq!(code(&sink.append(&host, &[&batches[1], &batches[2]]).await), None);
}

#[tokio::test]
async fn a_host_cannot_write_to_another_ones_chain() {
    let sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let foreign = batch(&mut other.epoch(1, None), "mine");
    let to_other = sink.try_append(&host, other.id, &[&foreign]).await.unwrap();
    assert_eq!(code(&to_other), Some(RefusalCode::Forbidden));
    assert_eq!(code(&sink.append(&host, &[&foreign]).await), Some(RefusalCode::Content));
    assert_eq!(sink.head(&other).await.head, None);
    // The certificate of another sink's authority does not even get through the handshake.
    let elsewhere = Sink::start();
    let stranger = elsewhere.enrol().await;
    assert!(sink.try_append(&stranger, stranger.id, &[&foreign]).await.is_err());
    // Nobody at all.
    let path = custody_ledger::wire::head_path(host.id);
    let (status, _) = sink.request(None, hyper::Method::GET, &path, Vec::new()).await.unwrap();
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_clone_that_signs_the_same_place_is_an_equivocation_and_is_kept() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let original = batch(&mut host.epoch(1, None), "original");
    let clone = batch(&mut host.epoch(1, None), "clone");
    assert_eq!(code(&sink.append(&host, &[&original]).await), None);
    let answer = sink.append(&host, &[&clone]).await;
    assert_eq!(code(&answer), Some(RefusalCode::Equivocation));
    let (_, metrics) = sink.request(None, hyper::Method::GET, "/metrics", Vec::new()).await.unwrap();
    assert!(String::from_utf8(metrics).unwrap().contains("custody_sink_equivocations_total 1"));
    sink.stop();
    let segment = sink.state().join("segments/00000000000000000001.seg");
    let records: Vec<_> =
        Reader::open(std::fs::File::open(segment).unwrap()).unwrap().map(Result::unwrap).collect();
    let statement = records.iter().find(|record| record.kind == RecordKind::Statement).unwrap();
    let (statement, _) =
        custody_ledger::statement::Signed::open::<custody_ledger::Statement>(&statement.payload).unwrap();
    match statement.what {
        custody_ledger::statement::Stated::Equivocation { signed, frame, .. } => {
            assert!(signed);
            assert_eq!(frame, clone.frame);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_epoch_goes_on_where_the_old_one_ended_and_closes_it() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    let mut old = host.epoch(1, None);
    let first = batch(&mut old, "a");
    sink.append(&host, &[&first]).await;
    let resume = Resume { local: Some(first.position), ..Resume::default() };
    let next = batch(&mut host.epoch(2, Some(resume)), "b");
    assert_eq!(code(&sink.append(&host, &[&next]).await), None);
    assert_eq!(code(&sink.append(&host, &[&batch(&mut old, "late")]).await), Some(RefusalCode::EpochClosed));
}

#[tokio::test]
async fn a_join_token_enrols_as_often_as_it_says() {
    let sink = Sink::start();
    let token = sink.token(&["--host", "--label", "env=prod", "--uses", "2"]);
    assert!(sink.enrol_with(&token).await.is_ok());
    assert!(sink.enrol_with(&token).await.is_ok());
    assert_eq!(sink.enrol_with(&token).await.err().unwrap().code, RefusalCode::Token);
    let person = sink.enrol_with(&sink.token(&["--role", "reader", "--name", "dana@corp"])).await.unwrap();
    assert_eq!(person.identity, "custody:person:reader:dana@corp");
    assert_eq!(code(&sink.append(&person, &[]).await), Some(RefusalCode::Forbidden));
}

/// Kills of one sink.
const ROUNDS: u32 = 50;

#[tokio::test]
async fn every_receipt_outlives_kill_minus_nine() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let mut oracle: BTreeMap<u64, (SignedReceipt, Vec<u8>)> = BTreeMap::new();
    let mut waiting = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..8 {
            waiting.push(batch(&mut chain, &format!("round {round} batch {number}")));
        }
        // The kill comes at another moment of each round's appends.
        let kill_after = std::time::Duration::from_micros(u64::from(round) * 700);
        let sending = async {
            for one in &waiting {
                match sink.try_append(&host, host.id, &[one]).await {
                    Ok(answer) if answer.refusal.is_none() => {
                        oracle.insert(one.position.number.0, (answer.receipts[0].clone(), one.frame.clone()));
                    }
                    Ok(answer) => panic!("{:?}", answer.refusal),
                    Err(_) => break,
                }
            }
        };
        let _ = tokio::time::timeout(kill_after, sending).await;
        sink.kill();
        sink.spawn();
        // What has a receipt leaves the host's spool; the rest is sent again.
        waiting.retain(|one| !oracle.contains_key(&one.position.number.0));
    }
    for one in &waiting {
        let answer = sink.append(&host, &[one]).await;
        assert_eq!(answer.refusal, None);
        oracle.insert(one.position.number.0, (answer.receipts[0].clone(), one.frame.clone()));
    }
    sink.stop();
    let stored = stored(&sink);
    assert_eq!(stored.len(), 8 * ROUNDS as usize);
    for ((receipt, frame), (expected_receipt, expected_frame)) in stored.iter().zip(oracle.values()) {
        assert_eq!(receipt, expected_receipt);
        assert_eq!(frame, expected_frame);
    }
}

#[tokio::test]
async fn a_torn_tail_is_kept_aside_and_damage_to_what_was_acknowledged_stops_the_sink() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    sink.append(&host, &[&batch(&mut chain, "a")]).await;
    sink.kill();
    let segment = sink.state().join("segments/00000000000000000001.seg");
    let whole = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, [whole.as_slice(), b"crec\x01 half a record"].concat()).unwrap();
    sink.spawn();
    assert_eq!(std::fs::read(&segment).unwrap(), whole);
    assert_eq!(std::fs::read_dir(sink.state().join("torn")).unwrap().count(), 1);
    assert_eq!(code(&sink.append(&host, &[&batch(&mut chain, "b")]).await), None);
    sink.kill();
    // The newest segment loses a byte that a receipt was given for.
    let newest = sink.state().join("segments/00000000000000000002.seg");
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    let output = sink.run_to_end(&["run", "--allow-root"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("the store is damaged") && said.contains("00000000000000000002.seg"), "{said}");
    assert_eq!(std::fs::read(&newest).unwrap(), bytes, "evidence was changed");
}

#[tokio::test]
async fn the_index_is_built_again_from_the_segments() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let first = batch(&mut chain, "a");
    let receipts = sink.append(&host, &[&first]).await.receipts;
    sink.stop();
    std::fs::remove_file(sink.state().join("index.redb")).unwrap();
    sink.spawn();
    assert_eq!(sink.append(&host, &[&first]).await.receipts, receipts);
    assert_eq!(code(&sink.append(&host, &[&batch(&mut chain, "b")]).await), None);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_strangers_are_not_read_at_all() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    let path = custody_ledger::wire::batches_path(host.id);
    let body = vec![0; custody_ledger::wire::APPEND_BYTES_MAX + 1];
    let credentials = Some(&host.credentials);
    let (status, answer) = sink.request(credentials, hyper::Method::POST, &path, body).await.unwrap();
    let answer = custody_ledger::wire::decode(&answer).unwrap();
    assert_eq!((status, code(&answer)), (413, Some(RefusalCode::TooLarge)));
    let (status, _) = sink.request(None, hyper::Method::POST, &path, vec![0; 1000]).await.unwrap();
    assert_eq!(status, 403);
}

#[test]
fn an_unknown_key_of_the_configuration_is_named() {
    let sink = Sink::start();
    let path = sink.folder.path().join("sink.toml");
    std::fs::write(&path, "listne = \"127.0.0.1:1\"\n").unwrap();
    let output = sink.run_to_end(&["doctor"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("listne"));
}
