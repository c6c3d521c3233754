//! The real program over real sockets: a reader sees the hosts of the scope and no others, by no route and no question;
//! auditors see the whole store; what no role of ours stands in opens nothing.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use custody_ledger::{Draft, Echo, EntryType, Seq};
use custody_record::search::{Found, SearchPage, StatsPage, TimelinePage};
use custody_record::view::{HostView, Notice, SessionPage, SessionView, TailLine};
use custody_record::{Kind, Record, Times, Value, names};
use http_body_util::BodyExt;
use hyper::Method;
use support::{Credentials, Host, Sink};

fn record(kind: Kind, path: &str) -> Vec<u8> {
    let record = Record {
        kind,
        session: None,
        exchange: (kind == Kind::Exchange).then_some(1),
        times: Times { first_ns: 1, last_ns: 2 },
        fields: [(names::URL_PATH.into(), Value::from(path))].into(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    record.encode().unwrap()
}

/// A host with these labels, and one session with one exchange of it.
async fn host(sink: &Sink, label: &str) -> Host {
    let host = sink.enrol_with(&sink.token(&["--host", "--label", label])).await.unwrap();
    let mut chain = host.epoch(1, None);
    let records = [
        (EntryType::SessionOpen, None, record(Kind::SessionOpen, "/open")),
        (EntryType::Exchange, Some(Seq(0)), record(Kind::Exchange, "/prices")),
    ];
    for (entry_type, session, body) in &records {
        let draft = Draft {
            entry_type: entry_type.clone(),
            first_ns: 1,
            last_ns: 2,
            wall_ns: 3,
            session: *session,
            body,
            sealed: None,
        };
        chain.append(&draft).unwrap();
    }
    let batch = chain.close_batch(BTreeMap::new(), Echo::default()).unwrap();
    assert_eq!(sink.append(&host, &[&batch]).await.receipts.len(), 1);
    host
}

async fn person(sink: &Sink, arguments: &[&str]) -> Credentials {
    let token = sink.token(&[arguments, &["--name", "dana@corp"]].concat());
    sink.enrol_with(&token).await.unwrap().credentials
}

async fn get(sink: &Sink, who: &Credentials, path: &str) -> (u16, Vec<u8>) {
    sink.request(Some(who), Method::GET, path, Vec::new()).await.unwrap()
}

async fn read<T: serde::de::DeserializeOwned>(sink: &Sink, who: &Credentials, path: &str) -> T {
    let (status, body) = get(sink, who, path).await;
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn tail_hosts(bytes: &[u8]) -> BTreeSet<String> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
    lines
        .filter_map(|line| match line {
            TailLine::Entry(view) => Some(view.host),
            TailLine::Notice(Notice::Hosts { shown, known }) => {
                assert_eq!(shown, known, "how many hosts there are is told to who does not see them");
                None
            }
            TailLine::Notice(_) => None,
        })
        .collect()
}

/// Hosts of which each route shows something. A filter that asks for more must not get more.
async fn seen(sink: &Sink, who: &Credentials, filter: &str) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut seen = BTreeMap::new();
    let hosts: Vec<HostView> = read(sink, who, &format!("/v1/hosts?where={filter}")).await;
    seen.insert("hosts", hosts.into_iter().map(|host| host.id).collect());
    let sessions: Vec<SessionView> = read(sink, who, &format!("/v1/sessions?where={filter}")).await;
    seen.insert("sessions", sessions.into_iter().map(|row| row.host).collect());
    seen.insert("tail", tail_hosts(&get(sink, who, &format!("/v1/tail?where={filter}")).await.1));
    for (name, path) in [("search", "q=prices&n=100"), ("search without words", "n=100")] {
        let page: SearchPage = read(sink, who, &format!("/v1/search?{path}&where={filter}")).await;
        let hits = page.found.into_iter().map(|found| match found {
            Found::Hit(hit) => hit.entry.host,
            Found::Missing(missing) => panic!("{missing:?}"),
        });
        seen.insert(name, hits.collect());
    }
    let page: TimelinePage = read(sink, who, &format!("/v1/timeline?since=0&where={filter}")).await;
    seen.insert("timeline", page.entries.into_iter().map(|hit| hit.entry.host).collect());
    seen
}

/// Waits until the index of words has what was stored.
async fn indexed(sink: &Sink) {
    loop {
        let (_, metrics) = sink.request(None, Method::GET, "/metrics", Vec::new()).await.unwrap();
        if String::from_utf8(metrics).unwrap().contains("custody_sink_search_batches 2\n") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_reader_sees_the_hosts_of_the_scope_by_every_route_and_no_other() {
    let sink = Sink::start();
    let (prod, dev) = (host(&sink, "env=prod").await, host(&sink, "env=dev").await);
    indexed(&sink).await;
    let auditor = person(&sink, &["--role", "auditor"]).await;
    let scoped = person(&sink, &["--role", "reader", "--label", "env=prod"]).await;
    let everything = "type%20!%3D%20nothing%20or%20label.env%20%3D%20dev";
    let [prod_id, dev_id] = [&prod, &dev].map(|host| host.id.to_string());
    for (route, hosts) in seen(&sink, &auditor, everything).await {
        assert_eq!(hosts, [prod_id.clone(), dev_id.clone()].into(), "{route}: the question finds nothing");
    }
    for (route, hosts) in seen(&sink, &scoped, everything).await {
        assert_eq!(hosts, [prod_id.clone()].into(), "{route}");
    }
    let few: StatsPage = read(&sink, &scoped, "/v1/stats?by=host").await;
    let all: StatsPage = read(&sink, &auditor, "/v1/stats?by=host").await;
    assert_eq!((few.rows[0].count, all.rows[0].count), (1, 2));
    // By name: an entry, a session, a session's timeline.
    let sessions: Vec<SessionView> = read(&sink, &auditor, "/v1/sessions").await;
    for row in &sessions {
        let expected = if row.host == prod_id { 200 } else { 404 };
        let (id, host) = (row.session_id, &row.host);
        for path in
            [format!("/v1/entries/{host}/1/0"), format!("/v1/sessions/{id}"), format!("/v1/timeline?id={id}")]
        {
            assert_eq!(get(&sink, &scoped, &path).await.0, expected, "{path}");
            assert_eq!(get(&sink, &auditor, &path).await.0, 200, "{path}");
        }
    }
    let page: SessionPage = read(&sink, &auditor, &format!("/v1/sessions/{}", sessions[0].session_id)).await;
    assert_eq!(page.entries.len(), 2, "the sessions that were asked for hold something");
}

#[tokio::test]
async fn what_comes_later_is_in_the_scope_as_well() {
    let sink = Sink::start();
    let scoped = person(&sink, &["--role", "reader", "--label", "env=prod"]).await;
    let answer = sink.open(Some(&scoped), Method::GET, "/v1/tail?follow=true", Vec::new()).await.unwrap();
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    host(&sink, "env=dev").await;
    let prod = host(&sink, "env=prod").await;
    let mut bytes = Vec::new();
    while tail_hosts(&bytes).is_empty() {
        let frame = body.frame().await.unwrap().unwrap();
        bytes.extend_from_slice(frame.data_ref().unwrap());
    }
    assert_eq!(tail_hosts(&bytes), [prod.id.to_string()].into());
}

#[tokio::test]
async fn the_log_tells_a_reader_hashes_and_an_auditor_what_leaves_hold() {
    let sink = Sink::start();
    host(&sink, "env=prod").await;
    let reader = person(&sink, &["--role", "reader"]).await;
    for (role, expected) in [("auditor", 200), ("admin", 200), ("reader", 403)] {
        let who = person(&sink, &["--role", role]).await;
        // Full, partial or none: what is refused is refused before it is looked for.
        let status = get(&sink, &who, "/v1/log/tile/entries/000.p/1").await.0;
        assert_eq!(status, expected, "{role}");
        assert_eq!(get(&sink, &who, "/v1/log/checkpoint").await.0, 200, "{role}");
    }
    assert_eq!(get(&sink, &reader, "/v1/log/tile/0/000.p/1").await.0, 200);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_role_or_scope_opens_nothing() {
    let sink = Sink::start();
    host(&sink, "env=prod").await;
    let good = sink.forge("custody:person:reader:dana@corp;env=prod");
    assert_eq!(get(&sink, &good, "/v1/hosts").await.0, 200, "a forged one is like a real one");
    for uri in [
        "custody:person:root:dana@corp",
        "custody:person:reader:dana@corp;env",
        "custody:person:reader:dana@corp;",
        "custody:person:auditor:dana@corp;env=prod",
        "custody:reader:dana@corp",
    ] {
        let who = sink.forge(uri);
        for path in ["/v1/hosts", "/v1/tail", "/v1/log/checkpoint"] {
            assert_eq!(get(&sink, &who, path).await.0, 403, "{uri} {path}");
        }
    }
}

#[tokio::test]
async fn a_revocation_by_name_ends_the_certificates_of_every_scope() {
    let sink = Sink::start();
    let scoped = person(&sink, &["--role", "reader", "--label", "env=prod"]).await;
    let whole = person(&sink, &["--role", "reader"]).await;
    let revoked = sink.run_to_end(&["revoke", "--role", "reader", "--name", "dana@corp"]);
    assert!(revoked.status.success());
    for who in [&scoped, &whole] {
        assert_eq!(get(&sink, who, "/v1/hosts").await.0, 403);
    }
}

#[test]
fn a_scope_that_would_mean_something_else_than_it_says_is_refused_when_it_is_typed() {
    let sink = Sink::start();
    let refused = |arguments: &[&str]| {
        let output = sink.command().arg("enroll").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let auditor = ["--role", "auditor", "--name", "dana@corp", "--label", "env=prod"];
    assert!(refused(&auditor).contains("whole store"));
    let many = ["--role", "reader", "--name", "dana@corp", "--uses", "2"];
    assert!(refused(&many).contains("used once"));
    assert!(refused(&["--host", "--expires", "91d"]).contains("90 days"));
    let twice = ["--role", "reader", "--name", "dana@corp", "--label", "env=prod", "--label", "env=dev"];
    assert!(refused(&twice).contains("twice"));
}

#[tokio::test]
async fn those_who_enrol_at_the_same_time_are_not_all_the_last() {
    // The limit of uses, then that of hosts.
    for (settings, uses, enrolled) in [("", "2", 2), ("[limits]\nhosts_max = 1", "8", 1)] {
        let sink = Sink::start_with(settings);
        let token = sink.token(&["--host", "--uses", uses]);
        let all = futures_of((0..8).map(|_| sink.enrol_with(&token))).await;
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), enrolled, "{settings} {uses}");
    }
}

/// Runs them all at once.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in &mut running {
            if done.is_none()
                && let std::task::Poll::Ready(output) = one.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if running.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_use_that_was_taken_before_a_kill_stays_taken() {
    let mut sink = Sink::start();
    let token = sink.token(&["--host", "--uses", "2", "--label", "env=prod"]);
    assert!(sink.enrol_with(&token).await.is_ok());
    sink.kill();
    sink.spawn();
    assert!(sink.enrol_with(&token).await.is_ok());
    sink.kill();
    sink.spawn();
    assert!(sink.enrol_with(&token).await.is_err());
}
