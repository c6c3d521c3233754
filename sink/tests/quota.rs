//! The real program over real sockets: a host that fills its quota is told to come back, loses nothing, and holds nobody
//! else up; what its counters do not account for is counted and shown.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;

use custody_ledger::statement::{QuotaKind, Stated};
use custody_ledger::wire::{self, AppendResponse, RefusalCode};
use custody_ledger::{Counters, Draft, Echo, EntryType, SignedBatch};
use custody_record::view::HostView;
use hyper::Method;
use support::{Credentials, Host, Sink, batch, batch_of};

fn code(answer: &AppendResponse) -> Option<RefusalCode> {
    answer.refusal.as_ref().map(|refusal| refusal.code)
}

/// Quotas crossed by each host, as a stopped sink stated them.
fn crossings(sink: &Sink) -> Vec<(custody_ledger::HostId, QuotaKind)> {
    let statements = sink.statements().into_iter();
    statements
        .filter_map(|statement| match statement.what {
            Stated::OverQuota { quota, .. } => Some((statement.host.unwrap(), quota)),
            _ => None,
        })
        .collect()
}

async fn auditor(sink: &Sink) -> Credentials {
    let token = sink.token(&["--role", "auditor", "--name", "dana@corp"]);
    sink.enrol_with(&token).await.unwrap().credentials
}

async fn view(sink: &Sink, who: &Credentials, host: &Host) -> HostView {
    let (status, body) = sink.request(Some(who), Method::GET, "/v1/hosts", Vec::new()).await.unwrap();
    assert_eq!(status, 200);
    let hosts: Vec<HostView> = serde_json::from_slice(&body).unwrap();
    hosts.into_iter().find(|view| view.id == host.id.to_string()).unwrap()
}

#[tokio::test]
async fn a_host_that_fills_its_quota_keeps_the_rest_and_the_one_beside_it_goes_on() {
    const BODY: usize = 200_000;
    let settings = "[quota]\nhost_bytes_per_day = 2200000\nhost_bytes_stored = 100000000";
    let mut sink = Sink::start_with(settings);
    let (greedy, modest) = (sink.enrol().await, sink.enrol().await);
    let auditor = auditor(&sink).await;
    let (mut much, mut little) = (greedy.epoch(1, None), modest.epoch(1, None));
    let mut batches: Vec<SignedBatch> = Vec::new();
    let mut taken = 0;
    for round in 0..20 {
        batches.push(batch_of(&mut much, &vec![round; BODY]));
        let answer = sink.append(&greedy, &batches.iter().skip(taken).collect::<Vec<_>>()).await;
        taken += answer.receipts.len();
        // Whatever becomes of that one.
        let answer = sink.append(&modest, &[&batch(&mut little, "a")]).await;
        assert_eq!((answer.receipts.len(), code(&answer)), (1, None), "round {round}");
    }
    assert_eq!(taken, 10, "as many as the quota has room for");
    let answer = sink.append(&greedy, &[&batches[taken]]).await;
    let refusal = answer.refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::OverQuota);
    assert!(refusal.retry_after_ms.unwrap() > 0);
    // Its request is thrown away as it comes, and so takes nobody's room.
    let path = wire::batches_path(greedy.id);
    let (status, _) =
        sink.request(Some(&greedy.credentials), Method::POST, &path, vec![0; 1000]).await.unwrap();
    assert_eq!(status, 429);
    assert!(view(&sink, &auditor, &greedy).await.over_quota.unwrap().contains("today"));
    assert_eq!(view(&sink, &auditor, &greedy).await.noted["over_quota"].count, 1);
    assert_eq!(view(&sink, &auditor, &modest).await.over_quota, None);
    // The same again, after a restart: what was used is not forgotten.
    sink.kill();
    sink.spawn();
    let answer = sink.append(&greedy, &[&batches[taken]]).await;
    assert_eq!(code(&answer), Some(RefusalCode::OverQuota));
    let answer = sink.append(&greedy, &[&batches[0]]).await;
    assert_eq!(code(&answer), Some(RefusalCode::OverQuota), "for a while nothing of it is read");
    assert_eq!(sink.head(&greedy).await.head, Some(batches[taken - 1].position));
    sink.stop();
    let crossed = crossings(&sink);
    assert!(crossed.iter().all(|one| *one == (greedy.id, QuotaKind::BytesPerDay)), "{crossed:?}");
    assert_eq!(crossed.len(), 2, "once for each run");
    // Somebody raises it: all that was kept arrives.
    let path = sink.folder.path().join("sink.toml");
    let raised = std::fs::read_to_string(&path).unwrap().replace("2200000", "22000000");
    std::fs::write(&path, raised).unwrap();
    sink.spawn();
    let answer = sink.append(&greedy, &batches.iter().skip(taken).collect::<Vec<_>>()).await;
    assert_eq!((answer.receipts.len(), code(&answer)), (10, None));
    // The index counts again what it is built from.
    sink.stop();
    std::fs::remove_file(sink.state().join("index.redb")).unwrap();
    let lowered = std::fs::read_to_string(&path).unwrap().replace("22000000", "4100000");
    std::fs::write(&path, lowered).unwrap();
    sink.spawn();
    let answer = sink.append(&greedy, &[&batch_of(&mut much, &vec![7; BODY])]).await;
    assert_eq!(code(&answer), Some(RefusalCode::OverQuota), "built again it had forgotten");
}

#[tokio::test]
async fn a_host_that_floods_is_told_to_slow_down() {
    let mut sink = Sink::start_with("[quota]\nhost_batches_per_second = 1");
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches: Vec<_> = (0..100).map(|_| batch(&mut chain, "a")).collect();
    let answer = sink.append(&host, &batches.iter().collect::<Vec<_>>()).await;
    let refusal = answer.refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::OverQuota);
    assert!((61..70).contains(&answer.receipts.len()), "{}", answer.receipts.len());
    assert!(refusal.retry_after_ms.unwrap() <= 1000);
    sink.stop();
    assert_eq!(crossings(&sink), [(host.id, QuotaKind::BatchesPerSecond)]);
}

/// The next batch of a chain, with these counters.
fn counted(chain: &mut custody_ledger::Chain, delivered: u64) -> SignedBatch {
    let draft = Draft {
        entry_type: EntryType::Exchange,
        first_ns: 1,
        last_ns: 2,
        wall_ns: 3,
        session: None,
        body: b"a",
        sealed: None,
    };
    chain.append(&draft).unwrap();
    let counters = Counters { produced: 10, delivered, ..Counters::default() };
    chain.close_batch(BTreeMap::from([("ring".to_owned(), counters)]), Echo::default()).unwrap()
}

#[tokio::test]
async fn batches_whose_counters_do_not_add_up_are_stored_counted_and_shown() {
    // More than are stated: statements are bounded, the count is not.
    const WRONG: u64 = 40;
    let mut sink = Sink::start();
    let (host, auditor) = (sink.enrol().await, auditor(&sink).await);
    let mut chain = host.epoch(1, None);
    let batches: Vec<_> =
        [10].into_iter().chain((0..WRONG).map(|_| 9)).map(|d| counted(&mut chain, d)).collect();
    let answer = sink.append(&host, &batches.iter().collect::<Vec<_>>()).await;
    assert_eq!((answer.receipts.len() as u64, code(&answer)), (WRONG + 1, None), "stored, not refused");
    for _ in 0..2 {
        let noted = view(&sink, &auditor, &host).await.noted;
        assert_eq!(noted["not_conserved"].count, WRONG);
        assert_eq!(noted["counter_went_back"].count, 1, "delivered went from 10 to 9");
        // Built again from the segments it is the same.
        sink.stop();
        let _ = std::fs::remove_file(sink.state().join("index.redb"));
        sink.spawn();
    }
}
