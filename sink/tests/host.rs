//! Root on a host, played honestly against the real program over TLS: with all that the agent has on its disk and in its
//! memory from some moment on, and what comes of it (`docs/attacks.md`). Beside each refusal stands the same request of
//! who has the right.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use custody_ledger::segment::{Reader, RecordKind};
use custody_ledger::statement::{Signed, Stated};
use custody_ledger::verify::{Check, Finding};
use custody_ledger::wire::{self, AppendResponse, RefusalCode};
use custody_ledger::{Batch, Chain, SignedBatch, Statement};
use hyper::Method;
use support::{Host, Sink, batch};

fn code(answer: &AppendResponse) -> Option<RefusalCode> {
    answer.refusal.as_ref().map(|refusal| refusal.code)
}

/// Frames of a host as they are stored, and what the sink stated.
fn stored(sink: &Sink) -> (Vec<Vec<u8>>, Vec<Stated>) {
    let (mut frames, mut stated) = (Vec::new(), Vec::new());
    let mut names: Vec<_> =
        std::fs::read_dir(sink.state().join("segments")).unwrap().map(|item| item.unwrap().path()).collect();
    names.sort();
    for path in names {
        let bytes = std::fs::read(path).unwrap();
        for record in Reader::open(bytes.as_slice()).unwrap().map_while(Result::ok) {
            match record.kind {
                RecordKind::Batch => frames.push(record.payload),
                RecordKind::Statement => {
                    stated.push(Signed::open::<Statement>(&record.payload).unwrap().0.what);
                }
                _ => {}
            }
        }
    }
    (frames, stated)
}

/// What `custody verify` says of the stopped sink.
fn verify(sink: &mut Sink) -> (Option<i32>, String) {
    sink.stop();
    sink.verify()
}

/// Two acknowledged batches of an epoch, and the chain with the key that root finds: that of the batch after them.
async fn acknowledged(sink: &Sink, host: &Host) -> (Vec<SignedBatch>, Chain) {
    let mut chain = host.epoch(1, None);
    let batches = vec![batch(&mut chain, "before the break-in"), batch(&mut chain, "the break-in")];
    let answer = sink.append(host, &batches.iter().collect::<Vec<_>>()).await;
    assert_eq!((answer.receipts.len(), answer.refusal), (2, None));
    (batches, chain)
}

/// With another body in the place of an entry's, and nothing signed again: there is no key to do it with.
fn changed(frame: &[u8]) -> SignedBatch {
    let mut other = frame.to_vec();
    let at = frame.windows(8).position(|window| window == b"break-in").unwrap();
    other[at..at + 8].copy_from_slice(b"greeting");
    let (_, position) = Batch::decode_header(&other).unwrap();
    SignedBatch { position, first_seq: custody_ledger::Seq(0), count: 1, frame: other }
}

#[tokio::test]
async fn an_acknowledged_batch_that_is_sent_again_changed_is_refused() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, _) = acknowledged(&sink, &host).await;
    // The same header, so the same batch: it is answered with the receipt of what is stored, and nothing else is kept.
    let answer = sink.append(&host, &[&changed(&batches[1].frame)]).await;
    assert_eq!(answer.receipts[0].verify(&host.sink).unwrap().batch, batches[1].position);
    // Another header in its place, with the host's own key for a new epoch of the same number.
    let mut other = host.epoch(1, None);
    let forged = [batch(&mut other, "nothing happened"), batch(&mut other, "nothing at all")];
    assert_eq!(code(&sink.append(&host, &[&forged[0]]).await), Some(RefusalCode::Equivocation));
    assert_eq!(code(&sink.append(&host, &[&forged[1]]).await), Some(RefusalCode::Equivocation));
    let (code, said) = verify(&mut sink);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("the host signed another epoch 1 batch 0 than the one that is here"), "{said}");
    let frames: Vec<_> = batches.iter().map(|batch| batch.frame.clone()).collect();
    assert_eq!(stored(&sink).0, frames);
}

#[tokio::test]
async fn that_a_host_signed_twice_is_kept_however_much_else_there_is_to_say_of_it() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, _) = acknowledged(&sink, &host).await;
    // As a clone does: its epoch names many batches that were refused, and each is a finding.
    let aside = |number| custody_ledger::Position {
        number: custody_ledger::BatchNumber(number),
        ..batches[1].position
    };
    let local = Some(batches[1].position);
    let resume = custody_ledger::Resume { local, quarantined: (100..140).map(aside).collect(), sink: None };
    let mut next = host.epoch(2, Some(resume));
    assert_eq!(sink.append(&host, &[&batch(&mut next, "after the clone")]).await.refusal, None);
    let forged = batch(&mut host.epoch(1, None), "nothing happened");
    assert_eq!(code(&sink.append(&host, &[&forged]).await), Some(RefusalCode::Equivocation));
    assert_eq!(verify(&mut sink).0, Some(4));
    let is_kept =
        |stated: &Stated| matches!(stated, Stated::Equivocation { other, .. } if *other == forged.position);
    assert!(stored(&sink).1.iter().any(is_kept));
}

#[tokio::test]
async fn an_earlier_batch_cannot_be_signed_again() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, mut chain) = acknowledged(&sink, &host).await;
    // The key that root finds signs the next batch. Its signature, put below an earlier one, holds for nobody.
    let next = batch(&mut chain, "all is well");
    let signature = Batch::decode(&next.frame).unwrap().signature;
    let mut resigned = batches[1].clone();
    let header = Batch::decode(&resigned.frame).unwrap().header_bytes.len();
    resigned.frame[4 + header..4 + header + 64].copy_from_slice(&signature.0);
    // Another header: its next key would be one that root knows.
    let key = resigned.frame.windows(8).position(|window| window == b"next_key").unwrap();
    resigned.frame[key + 12] ^= 1;
    let refused = code(&sink.append(&host, &[&resigned]).await);
    assert_eq!(refused, Some(RefusalCode::Equivocation));
    assert_eq!(sink.append(&host, &[&next]).await.refusal, None, "the key is good for the next one");
    let (code, said) = verify(&mut sink);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("without a signature of the host that holds"), "{said}");
    assert!(
        stored(&sink).1.iter().any(|stated| matches!(stated, Stated::Equivocation { signed: false, .. }))
    );
}

#[tokio::test]
async fn acknowledged_batches_cannot_be_reordered_or_left_out() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, mut chain) = acknowledged(&sink, &host).await;
    let more = [batch(&mut chain, "one"), batch(&mut chain, "two")];
    let answer = sink.append(&host, &[&more[1], &more[0]]).await;
    assert_eq!((answer.receipts.len(), code(&answer)), (0, Some(RefusalCode::OutOfOrder)));
    // Again in another order: each is answered with its own receipt, and none comes to stand elsewhere.
    let answer = sink.append(&host, &[&batches[1], &batches[0]]).await;
    let places: Vec<_> = answer.receipts.iter().map(|one| one.verify(&host.sink).unwrap().batch).collect();
    assert_eq!(places, [batches[1].position, batches[0].position]);
    assert_eq!(sink.append(&host, &[&more[0], &more[1]]).await.refusal, None);
    let (code, said) = verify(&mut sink);
    assert_eq!(code, Some(0), "{said}");
    let frames: Vec<_> = batches.iter().chain(&more).map(|batch| batch.frame.clone()).collect();
    assert_eq!(stored(&sink).0, frames);
}

#[tokio::test]
async fn nothing_that_is_stored_can_be_deleted_or_replaced_over_the_network() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, _) = acknowledged(&sink, &host).await;
    let paths = [wire::batches_path(host.id), wire::head_path(host.id), "/v1/log/checkpoint".to_owned()];
    for path in paths {
        for method in [Method::DELETE, Method::PUT, Method::PATCH] {
            let asked = sink.request(Some(&host.credentials), method.clone(), &path, vec![0; 8]).await;
            let (status, _) = asked.unwrap();
            assert!(matches!(status, 403..=405), "{method} {path}: {status}");
        }
    }
    assert_eq!(sink.head(&host).await.head, Some(batches[1].position));
    assert_eq!(verify(&mut sink).0, Some(0));
}

#[tokio::test]
async fn an_emptied_spool_hides_nothing() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (batches, _) = acknowledged(&sink, &host).await;
    // Spool and state are gone, the host's key is not: the next epoch says that there was nothing before.
    let mut chain = host.epoch(2, None);
    assert_eq!(sink.append(&host, &[&batch(&mut chain, "hello")]).await.refusal, None);
    let (_, stated) = stored(&sink);
    let head = batches[1].position;
    let found = stated.iter().any(|stated| {
        matches!(stated, Stated::Found { finding: Finding::RolledBack { claimed: None, head: was }, .. } if *was == head)
    });
    assert!(found, "{stated:?}");
    let (code, said) = verify(&mut sink);
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(stored(&sink).0[..2], [batches[0].frame.clone(), batches[1].frame.clone()]);
}

#[tokio::test]
async fn a_host_reads_nothing_of_the_sink() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    acknowledged(&sink, &host).await;
    let person = sink.enrol_with(&sink.token(&["--role", "auditor", "--name", "dana@corp"])).await.unwrap();
    let entry = format!("/v1/entries/{}/1/0", host.id);
    let paths = [
        "/v1/hosts",
        "/v1/sessions",
        "/v1/tail",
        "/v1/search?where=a",
        "/v1/stats",
        "/v1/log/checkpoint",
        &entry,
    ];
    for path in paths {
        let get = async |who: &Host| {
            let asked = sink.open(Some(&who.credentials), Method::GET, path, Vec::new()).await;
            asked.unwrap().status().as_u16()
        };
        assert_eq!(get(&host).await, 403, "{path}");
        assert!(!matches!(get(&person).await, 403 | 404), "{path} is for people");
    }
}

#[tokio::test]
async fn a_host_cannot_write_or_ask_as_another() {
    let mut sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let (_, mut chain) = acknowledged(&sink, &host).await;
    let next = batch(&mut chain, "as another");
    // Under its own certificate to the path of the other, and the other's batch under its own path.
    let answer = sink.try_append(&other, host.id, &[&next]).await.unwrap_or_else(|error| {
        // A refusal of who asks has no receipts in it at all.
        assert!(!error.to_string().is_empty());
        AppendResponse { receipts: Vec::new(), refusal: None }
    });
    assert_eq!(answer.receipts.len(), 0);
    let answer = sink.append(&other, &[&next]).await;
    assert_eq!(answer.receipts.len(), 0);
    assert!(answer.refusal.is_some());
    for path in [wire::head_path(host.id), wire::batches_path(host.id)] {
        let method = if path == wire::head_path(host.id) { Method::GET } else { Method::POST };
        let asked = sink.request(Some(&other.credentials), method, &path, Vec::new()).await;
        assert_eq!(asked.unwrap().0, 403, "{path}");
    }
    assert_eq!(sink.append(&host, &[&next]).await.refusal, None, "and its own host may");
    let (_, stated) = stored(&sink);
    let told = |stated: &Stated| matches!(stated, Stated::Refused { fault } if fault.check == Check::Host);
    assert!(stated.iter().any(told), "{stated:?}");
    assert_eq!(verify(&mut sink).0, Some(0));
}
