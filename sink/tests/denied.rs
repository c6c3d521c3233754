//! The real program over real sockets: who is not let in stands in the store, each attempt counted, and none of them can
//! fill it.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;

use custody_ledger::statement::{DenialReason, Denied, Stated};
use custody_ledger::{Statement, wire};
use hyper::Method;
use support::{Credentials, Sink, batch};

fn denied(sink: &Sink) -> Vec<(Option<custody_ledger::HostId>, Denied)> {
    let denied = |statement: Statement| match statement.what {
        Stated::Denied(denied) => Some((statement.host, denied)),
        _ => None,
    };
    sink.statements().into_iter().filter_map(denied).collect()
}

async fn get(sink: &Sink, who: Option<&Credentials>, path: &str) -> u16 {
    sink.request(who, Method::GET, path, Vec::new()).await.unwrap().0
}

#[tokio::test]
async fn whoever_is_not_let_in_stands_in_the_store_with_the_reason() {
    let (mut sink, elsewhere) = (Sink::start(), Sink::start());
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let reader = sink.enrol_with(&sink.token(&["--role", "reader", "--name", "dana@corp"])).await.unwrap();
    let revoked = ["--role", "auditor", "--name", "eve@corp"];
    let eve = sink.enrol_with(&sink.token(&revoked)).await.unwrap();
    assert!(sink.run_to_end(&[&["revoke"], &revoked[..]].concat()).status.success());
    let forged = sink.forge("custody:person:root:mallory");
    let ghost = sink.forge("custody:host:0190a0b0-0000-7000-8000-000000000001");
    let stranger = elsewhere.enrol().await;
    let head = wire::head_path(host.id);
    assert_eq!(get(&sink, None, "/v1/hosts?where=secret").await, 403);
    assert_eq!(get(&sink, Some(&forged), "/v1/hosts").await, 403);
    assert_eq!(get(&sink, Some(&eve.credentials), "/v1/hosts").await, 403);
    assert_eq!(get(&sink, Some(&other.credentials), &head).await, 403);
    assert_eq!(get(&sink, Some(&reader.credentials), "/v1/log/tile/entries/000.p/1").await, 403);
    let foreign = batch(&mut host.epoch(1, None), "a");
    assert!(sink.try_append(&stranger, stranger.id, &[&foreign]).await.is_err());
    let unknown = "0190a0b0-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(get(&sink, Some(&ghost), &wire::head_path(unknown)).await, 403);
    let mut body = Vec::new();
    wire::put_frame(&mut body, &foreign.frame);
    let append = sink.request(Some(&ghost), Method::POST, &wire::batches_path(unknown), body).await.unwrap();
    assert_eq!(append.0, 403);
    let mut token = sink.token(&["--host"]);
    token.secret[0] ^= 1;
    assert!(sink.enrol_with(&token).await.is_err());
    // What is let in, and what merely fails, is no denied attempt.
    assert_eq!(get(&sink, Some(&reader.credentials), "/v1/entries/nobody/1/1").await, 404);
    assert_eq!(get(&sink, Some(&reader.credentials), "/v1/hosts").await, 200);
    sink.stop();
    let denied = denied(&sink);
    let expected = [
        (DenialReason::NoCertificate, None, "GET /v1/hosts", 1),
        (DenialReason::Certificate, None, "", 1),
        (DenialReason::Identity, Some("custody:person:root:mallory".to_owned()), "GET /v1/hosts", 1),
        (DenialReason::Revoked, Some(eve.identity), "GET /v1/hosts", 1),
        (DenialReason::OtherHost, Some(other.identity.clone()), head.as_str(), 1),
        (DenialReason::Role, Some(reader.identity), "/v1/log/tile/entries/000.p/1", 1),
        (DenialReason::NotEnrolled, Some(format!("custody:host:{unknown}")), "GET /v1/hosts/", 2),
        (DenialReason::Token, None, "POST /v1/enroll", 1),
    ];
    let mut counts = BTreeMap::new();
    for (_, one) in &denied {
        assert_eq!(one.address, "127.0.0.1");
        assert!(!one.request.contains("secret"), "{}", one.request);
        *counts.entry(one.reason).or_insert(0) += one.count;
    }
    for (reason, who, request, count) in expected {
        let (host, one) = denied.iter().find(|(_, one)| one.reason == reason).unwrap();
        assert_eq!(one.who, who, "{reason:?}");
        assert!(one.request.contains(request), "{reason:?}: {}", one.request);
        assert_eq!(counts.remove(&reason), Some(count), "{reason:?}");
        assert_eq!(host.is_some(), who.is_some_and(|who| who.starts_with("custody:host:")), "{reason:?}");
    }
    assert!(counts.is_empty(), "{counts:?}");
}

#[tokio::test]
async fn who_hammers_is_counted_and_fills_nothing() {
    const ATTEMPTS: u64 = 300;
    let mut sink = Sink::start();
    for _ in 0..ATTEMPTS {
        assert_eq!(get(&sink, None, "/v1/hosts").await, 403);
    }
    sink.stop();
    let denied = denied(&sink);
    assert_eq!(denied.iter().map(|(_, one)| one.count).sum::<u64>(), ATTEMPTS);
    // One at once, one for each minute that the test takes, one when the sink stops.
    assert!(denied.len() <= 5, "{} statements", denied.len());
}

#[tokio::test]
async fn a_person_who_is_let_in_stands_in_the_store_with_role_and_scope() {
    let mut sink = Sink::start();
    let token = sink.token(&["--role", "reader", "--name", "dana@corp", "--label", "env=prod"]);
    let dana = sink.enrol_with(&token).await.unwrap();
    sink.stop();
    let identity = "custody:person:reader:dana@corp;env=prod".to_owned();
    assert_eq!(dana.identity, identity);
    let statement = &sink.statements()[0];
    assert_eq!((statement.host, &statement.what), (None, &Stated::Admitted { identity }));
}
