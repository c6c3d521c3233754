//! The real program, searched by people over real sockets: what is stored is found, newest first and checked; the
//! index can be deleted or broken at any time; what the store lacks is told.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use custody_ledger::wire::{self, ErrorResponse};
use custody_ledger::{Chain, Draft, EntryType, Seq, SignedBatch};
use custody_record::search::{Found, Hit, SearchPage};
use custody_record::{Kind, Record, Times, Value, names};
use hyper::Method;
use support::{Credentials, Host, Sink};

fn record(kind: Kind, fields: &[(&'static str, Value)]) -> Vec<u8> {
    let record = Record {
        kind,
        session: None,
        exchange: matches!(kind, Kind::Exchange).then_some(1),
        times: Times { first_ns: 1, last_ns: 2 },
        fields: fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    record.encode().unwrap()
}

/// Entries of one batch.
struct Batch<'c> {
    chain: &'c mut Chain,
    next: u64,
}

impl Batch<'_> {
    fn put(&mut self, entry_type: EntryType, session: Option<u64>, body: &[u8]) -> u64 {
        let session = session.map(Seq);
        let draft = Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns: 3, session, body, sealed: None };
        self.chain.append(&draft).unwrap();
        self.next += 1;
        self.next - 1
    }

    fn exchange(&mut self, session: Option<u64>, statement: &str) -> u64 {
        let fields =
            [(names::DB_QUERY_TEXT, Value::from(statement)), (names::DURATION, Value::from(1_500u64))];
        self.put(EntryType::Exchange, session, &record(Kind::Exchange, &fields))
    }
}

fn close(chain: &mut Chain) -> SignedBatch {
    chain.close_batch(BTreeMap::new(), custody_ledger::chain::Echo::default()).unwrap()
}

async fn reader(sink: &Sink) -> Credentials {
    let token = sink.token(&["--role", "reader", "--name", "dana@corp"]);
    sink.enrol_with(&token).await.unwrap().credentials
}

async fn search(sink: &Sink, reader: &Credentials, query: &str) -> SearchPage {
    let path = format!("/v1/search?{query}");
    let (status, body) = sink.request(Some(reader), Method::GET, &path, Vec::new()).await.unwrap();
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn hits(page: &SearchPage) -> Vec<&Hit> {
    page.found
        .iter()
        .map(|found| match found {
            Found::Hit(hit) => &**hit,
            Found::Missing(missing) => panic!("{missing:?}"),
        })
        .collect()
}

fn statements(page: &SearchPage) -> Vec<String> {
    hits(page).iter().filter_map(|hit| hit.entry.text(names::DB_QUERY_TEXT).map(Into::into)).collect()
}

/// Three hosts, each with a session and some batches, stored in turns; each round in a segment of its own. All of it is
/// committed, so that what is said of it stays.
async fn several_hosts(sink: &mut Sink) -> Vec<Host> {
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let host = sink.enrol().await;
        let chain = host.epoch(1, None);
        hosts.push((host, chain));
    }
    for round in 0..4 {
        sink.stop();
        sink.spawn();
        for (number, (host, chain)) in hosts.iter_mut().enumerate() {
            let mut batch = Batch { chain, next: round * 3 };
            let program = [(names::PROCESS_EXECUTABLE, Value::from(format!("/usr/bin/prog{number}")))];
            if round == 0 {
                batch.put(EntryType::SessionOpen, None, &record(Kind::SessionOpen, &program));
                batch.exchange(Some(0), "SELECT balance FROM accounts");
                batch.exchange(None, "nothing of the kind");
            } else {
                for index in 0..3 {
                    batch.exchange(Some(0), &format!("UPDATE accounts SET balance = {round}{number}{index}"));
                }
            }
            let batch = close(chain);
            assert_eq!(sink.append(host, &[&batch]).await.receipts.len(), 1);
        }
    }
    all_committed(sink);
    hosts.into_iter().map(|(host, _)| host).collect()
}

/// A sink that stops puts all that it has under a checkpoint.
fn all_committed(sink: &mut Sink) {
    sink.stop();
    sink.spawn();
}

const QUERIES: &[&str] = &[
    "q=accounts&n=100",
    "q=update%20accounts&n=5",
    "q=%22set%20balance%22&n=100",
    "q=bal*&n=7",
    "q=prog1&n=100",
    "where=process%20%3D%20prog2&n=100",
    "q=select&where=process%20%3D%20prog0%20or%20process%20%3D%20prog1",
    "n=100",
    "q=nowhere",
    "where=type%20!%3D%20exchange&n=100",
];

async fn answers(sink: &Sink, reader: &Credentials) -> Vec<SearchPage> {
    let mut pages = Vec::new();
    for query in QUERIES {
        pages.push(search(sink, reader, query).await);
    }
    pages
}

fn index(sink: &Sink) -> PathBuf {
    sink.state().join("search/index.redb")
}

#[tokio::test]
async fn a_word_is_found_newest_first_and_checked() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    let page = search(&sink, &reader, "q=accounts&n=4").await;
    assert_eq!(
        statements(&page),
        ["322", "321", "320", "312"].map(|value| format!("UPDATE accounts SET balance = {value}"))
    );
    assert!(hits(&page).iter().all(|hit| hit.evidence.verified), "{page:?}");
    assert_eq!((page.answers_to, &page.limits[..]), (None, &[][..]));
    let second = format!("q=accounts&n=4&cursor={}", page.next.unwrap());
    let second = search(&sink, &reader, &second).await;
    assert_eq!(
        statements(&second),
        ["311", "310", "302", "301"].map(|value| format!("UPDATE accounts SET balance = {value}"))
    );
    // Words of the session's beginning are words of its entries, as they are for a filter.
    assert_eq!(hits(&search(&sink, &reader, "q=prog1&n=100").await).len(), 11);
    assert_eq!(hits(&search(&sink, &reader, "q=prog1%20select").await).len(), 1);
    assert_eq!(hits(&search(&sink, &reader, "q=%22nothing%20kind%22").await).len(), 0);
    assert_eq!(hits(&search(&sink, &reader, "n=100").await).len(), 36);
}

#[tokio::test]
async fn a_page_ends_where_the_next_begins_and_none_is_told_twice() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    for query in ["q=accounts", "q=", "where=process%20%3D%20prog1"] {
        let whole = search(&sink, &reader, &format!("{query}&n=100")).await;
        let (mut pieces, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = search(&sink, &reader, &format!("{query}&n=4{cursor}")).await;
            pieces.extend(page.found);
            let Some(next) = page.next else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(pieces, whole.found, "{query}");
    }
}

#[tokio::test]
async fn a_deleted_or_broken_index_is_built_again_and_says_the_same() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    let before = answers(&sink, &reader).await;
    assert!(before.iter().all(|page| page.answers_to.is_none()));
    let whole = {
        sink.stop();
        std::fs::read(index(&sink)).unwrap()
    };
    std::fs::remove_file(index(&sink)).unwrap();
    sink.spawn();
    assert_eq!(answers(&sink, &reader).await, before, "deleted");
    for (name, bytes) in [
        ("garbage", vec![7; 9_000]),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("zeroes", {
            let mut bytes = whole.clone();
            let middle = bytes.len() / 4;
            bytes[middle..].fill(0);
            bytes
        }),
    ] {
        sink.stop();
        std::fs::write(index(&sink), bytes).unwrap();
        sink.spawn();
        assert_eq!(answers(&sink, &reader).await, before, "{name}");
    }
}

#[tokio::test]
async fn a_search_before_the_index_is_built_says_up_to_when_it_answers() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    let before = answers(&sink, &reader).await;
    sink.stop();
    std::fs::remove_file(index(&sink)).unwrap();
    // Without room beyond its reserve the sink writes no index: the disk is for evidence.
    let path = sink.folder.path().join("sink.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let full = config.replace("disk_reserve_bytes = 0", "disk_reserve_bytes = 1000000000000000");
    assert_ne!(full, config);
    std::fs::write(&path, full).unwrap();
    sink.spawn();
    let page = search(&sink, &reader, "q=accounts").await;
    assert_eq!((page.answers_to, page.found.len()), (Some(0), 0), "{page:?}");
    sink.stop();
    std::fs::write(&path, config).unwrap();
    sink.spawn();
    assert_eq!(answers(&sink, &reader).await, before);
}

#[tokio::test]
async fn a_killed_sink_goes_on_with_its_index() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    let before = answers(&sink, &reader).await;
    sink.kill();
    sink.spawn();
    assert_eq!(answers(&sink, &reader).await, before);
}

#[tokio::test]
async fn evidence_that_the_index_knows_and_the_store_lacks_is_told() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    let all = hits(&search(&sink, &reader, "q=accounts&n=100").await).len();
    sink.stop();
    // Not the newest: that one is missed at the start.
    let mut segments: Vec<_> = std::fs::read_dir(sink.state().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    assert!(segments.len() > 4, "one segment holds all: the test shows nothing");
    std::fs::remove_file(&segments[2]).unwrap();
    sink.spawn();
    let page = search(&sink, &reader, "q=accounts&n=100").await;
    let missing = page.found.iter().filter(|found| matches!(found, Found::Missing(_))).count();
    assert_eq!(page.found.len(), all, "{page:?}");
    assert!(missing > 0 && missing < all, "{missing}");
    // What stands is shown; where the batch before it is gone, that it could not be checked against it.
    let reasons: Vec<&String> = page
        .found
        .iter()
        .filter_map(|found| match found {
            Found::Hit(hit) => hit.evidence.reason.as_ref(),
            Found::Missing(_) => None,
        })
        .collect();
    assert!(!reasons.is_empty());
    assert!(reasons.iter().all(|reason| reason.contains("before it cannot be read")), "{reasons:?}");
}

#[tokio::test]
async fn bad_searches_get_a_sentence() {
    let sink = Sink::start();
    let reader = reader(&sink).await;
    for (query, sentence) in [
        ("q=%22open", "never closed"),
        ("q=--", "no word"),
        ("n=0", "at least 1"),
        ("n=1001", "at most"),
        ("cursor=x", "no cursor"),
        ("where=no_such_field%20%3D%201", "no_such_field"),
        ("no_such_key=1", "no_such_key"),
    ] {
        let path = format!("/v1/search?{query}");
        let (status, body) = sink.request(Some(&reader), Method::GET, &path, Vec::new()).await.unwrap();
        let refusal = wire::decode::<ErrorResponse>(&body).unwrap().refusal;
        assert_eq!(status, 422, "{path}");
        assert!(refusal.detail.contains(sentence), "{path}: {}", refusal.detail);
    }
    let page = search(&sink, &reader, "q=anything").await;
    assert_eq!((page.found.len(), page.next, page.answers_to), (0, None, None));
}

#[tokio::test]
async fn an_altered_body_is_found_and_told_from_a_whole_one() {
    let mut sink = Sink::start();
    let hosts = several_hosts(&mut sink).await;
    let reader = reader(&sink).await;
    search(&sink, &reader, "n=1").await;
    sink.stop();
    // Whoever holds the disk can make the record's own hash right again; the host's signature it cannot.
    let mut altered = 0;
    for segment in std::fs::read_dir(sink.state().join("segments")).unwrap() {
        let path = segment.unwrap().path();
        let mut out = custody_ledger::segment::MAGIC.to_vec();
        for record in custody_ledger::segment::Reader::open(std::fs::File::open(&path).unwrap()).unwrap() {
            let record = record.unwrap();
            // The last record of its segment: places of others stay.
            let text = b"balance = 12";
            let at = record.payload.windows(text.len()).position(|window| window == text);
            let mut payload = record.payload;
            if let Some(at) = at {
                payload[at + text.len() - 1] = b'7';
                altered += 1;
            }
            custody_ledger::segment::put_record(&mut out, record.kind, &record.meta, &payload).unwrap();
        }
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, out).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    }
    assert_eq!(altered, 1);
    sink.spawn();
    let page = search(&sink, &reader, "q=update&n=100").await;
    let doubted: Vec<&Hit> = hits(&page).into_iter().filter(|hit| !hit.evidence.verified).collect();
    // The batch has three entries; none of them can be told to be whole when one is not.
    assert_eq!(doubted.len(), 3, "{page:?}");
    assert!(doubted.iter().all(|hit| hit.entry.host == hosts[2].id.to_string()
        && hit.evidence.reason.as_ref().unwrap().contains("body")));
    // The index knows what the altered entry said.
    let page = search(&sink, &reader, "q=120").await;
    assert!(
        matches!(&page.found[..], [Found::Missing(missing)] if missing.reason.contains("no more")),
        "{page:?}"
    );
}

/// What `custody` prints, and its exit code, as a person with this profile.
fn custody(home: &std::path::Path, arguments: &[&str]) -> (String, i32) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_custody-sink")).with_file_name("custody");
    assert!(program.exists(), "{} is not built: cargo build -p custody", program.display());
    let output =
        std::process::Command::new(program).args(arguments).env("CUSTODY_HOME", home).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.code() < Some(2) || output.status.code() == Some(4),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (text, output.status.code().unwrap())
}

/// A host whose program is started, says something on a connection, and ends.
async fn a_program_speaks(sink: &Sink) {
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let program = |start: u64| {
        vec![
            (names::PROCESS_EXECUTABLE, Value::from("/usr/bin/psql")),
            (names::PROCESS_PID, Value::from(31_337u64)),
            (names::PROCESS_START, Value::from(start)),
            (names::SERVICE_NAME, Value::from("payments.service")),
        ]
    };
    let mut batch = Batch { chain: &mut chain, next: 0 };
    batch.put(EntryType::AgentStart, None, &record(Kind::Agent, &[]));
    batch.put(EntryType::Exec, None, &record(Kind::Exec, &program(5)));
    batch.put(EntryType::Exec, None, &record(Kind::Exec, &program(900_000)));
    let session = batch.put(EntryType::SessionOpen, None, &record(Kind::SessionOpen, &program(900_000)));
    let lost = [(names::BYTES_LOST, Value::from(14u64)), (names::GAP_CAUSE, Value::from("ring_full"))];
    batch.put(EntryType::Gap, None, &record(Kind::Gap, &lost));
    batch.exchange(Some(session), "SELECT 1 FROM accounts");
    batch.exchange(None, "of nobody");
    batch.exchange(Some(session), "SELECT 2 FROM accounts");
    batch.put(EntryType::Heartbeat, None, &record(Kind::Agent, &[]));
    batch.put(EntryType::SessionClose, Some(session), &record(Kind::SessionClose, &program(900_000)));
    batch.put(EntryType::Exit, None, &record(Kind::Exit, &program(900_000)));
    batch.put(EntryType::Exit, None, &record(Kind::Exit, &program(5)));
    let batch = close(&mut chain);
    assert_eq!(sink.append(&host, &[&batch]).await.receipts.len(), 1);
}

#[tokio::test]
async fn a_copy_of_the_store_gives_the_answers_of_the_sink() {
    let mut sink = Sink::start();
    several_hosts(&mut sink).await;
    a_program_speaks(&sink).await;
    all_committed(&mut sink);
    let home = sink.folder.path().join("home");
    let token = sink.command().args(["enroll", "--role", "reader", "--name", "dana@corp"]).output().unwrap();
    custody(&home, &["login", String::from_utf8(token.stdout).unwrap().trim()]);
    let store = sink.state();
    let store = store.to_str().unwrap();
    let (session, _) = custody(&home, &["search", "payments", "session.open", "-o", "json"]);
    let session: serde_json::Value = serde_json::from_str(session.lines().next().unwrap()).unwrap();
    let session = session["hit"]["entry"]["session_id"].as_str().unwrap().to_owned();
    let exchange = format!("{session}.1");
    let questions: &[&[&str]] = &[
        &["search", "accounts", "-n", "7"],
        &["search", "set balance", "-n", "1000"],
        &["search", "acc*", "--process", "prog1"],
        &["search", "accounts", "-n", "3", "--cursor", "9.1"],
        &["search", "--where", "type = gap or user = nobody"],
        &["search", "nowhere"],
        &["timeline", &session],
        &["timeline", &exchange],
        &["timeline", "--since", "1h", "--process", "psql"],
        &["timeline", "--since", "1h", "--all"],
        &["stats", "--by", "statement", "--since", "1h"],
        &["stats", "--by", "service,process,statement", "--since", "1h", "-n", "3"],
        &["stats", "--by", "host", "--since", "1h", "--where", "db.query.text =~ \"balance = 1\""],
    ];
    for question in questions {
        for format in ["json", "text"] {
            let asked = [question, &["-o", format, "--utc"][..]].concat();
            let copied = [&asked[..], &["--from", store]].concat();
            let (live, code) = custody(&home, &asked);
            let (copy, copied_code) = custody(&home, &copied);
            // Of how many entries were read each speaks for itself.
            let alike = |text: &str| {
                let value = |line: &str| serde_json::from_str::<serde_json::Value>(line);
                let lines = text.lines().map(|line| match value(line) {
                    Ok(mut value) => {
                        for part in ["/page", ""] {
                            let part = value.pointer_mut(part).and_then(|part| part.as_object_mut());
                            drop(part.and_then(|part| part.remove("looked")));
                        }
                        value.to_string()
                    }
                    Err(_) => line.to_owned(),
                });
                lines.collect::<Vec<_>>().join("\n")
            };
            assert_eq!((alike(&live), code), (alike(&copy), copied_code), "{asked:?}");
        }
    }
    let (told, _) = custody(&home, &["timeline", &session, "-o", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let types: Vec<&str> = told["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["entry"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        ["agent.start", "exec", "session.open", "gap", "exchange", "exchange", "session.close", "exit"]
    );
    let (counted, _) = custody(&home, &["stats", "--by", "statement,process", "-o", "json"]);
    let counted: serde_json::Value = serde_json::from_str(&counted).unwrap();
    assert_eq!(counted["rows"][0]["key"], serde_json::json!(["UPDATE accounts SET balance = ?", "prog0"]));
    assert_eq!((&counted["rows"][0]["count"], &counted["rows"][0]["p99"]), (&9.into(), &1500.into()));
}
