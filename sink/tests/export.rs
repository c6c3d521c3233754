//! The real sink and the command that people type: what is exported over real sockets is verified offline by who has
//! nothing but the policy, and a copy of the store gives the same bytes.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use custody_ledger::{Chain, Draft, Echo, EntryType, Resume, SignedBatch};
use custody_record::{Kind, Record, SessionId, Times, Value, names};
use hyper::Method;
use support::person::{Person, in_folder, program, second_verifier};
use support::{Host, Sink, batch};

/// The words of the session, which no other entry has.
const SAID: &str = "what-the-session-said";
/// The words of others in between.
const OTHERS: &str = "what-others-said";

fn record(kind: Kind, words: &str) -> Vec<u8> {
    let fields = [(names::URL_PATH, Value::from(words))].map(|(name, value)| (name.into(), value));
    let record = Record {
        kind,
        session: None,
        exchange: None,
        times: Times { first_ns: 1, last_ns: 2 },
        fields: fields.into(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    record.encode().unwrap()
}

fn append(chain: &mut Chain, entry_type: EntryType, kind: Kind, session: Option<u64>, words: &str) {
    let body = record(kind, words);
    let session = session.map(custody_ledger::Seq);
    let wall_ns = 1_769_860_800_000_000_000;
    let draft = Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns, session, body: &body, sealed: None };
    chain.append(&draft).unwrap();
}

fn close(chain: &mut Chain) -> SignedBatch {
    chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
}

/// Eight entries in four batches: a session of four (2, 3, 5, 6) and what others said between them.
fn conversation(chain: &mut Chain) -> Vec<SignedBatch> {
    let mut batches = Vec::new();
    append(chain, EntryType::Exec, Kind::Exec, None, OTHERS);
    append(chain, EntryType::Exec, Kind::Exec, None, OTHERS);
    batches.push(close(chain));
    append(chain, EntryType::SessionOpen, Kind::SessionOpen, None, SAID);
    append(chain, EntryType::Exchange, Kind::Exchange, Some(2), SAID);
    append(chain, EntryType::Exec, Kind::Exec, None, OTHERS);
    batches.push(close(chain));
    append(chain, EntryType::Exchange, Kind::Exchange, Some(2), SAID);
    batches.push(close(chain));
    append(chain, EntryType::SessionClose, Kind::SessionClose, Some(2), SAID);
    append(chain, EntryType::Exec, Kind::Exec, None, OTHERS);
    batches.push(close(chain));
    batches
}

async fn store(sink: &Sink, host: &Host, batches: &[SignedBatch]) {
    let answer = sink.append(host, &batches.iter().collect::<Vec<_>>()).await;
    assert_eq!(answer.refusal, None);
}

fn session_id(host: &Host, chain: &Chain) -> String {
    let epoch = chain.epoch();
    SessionId::of(host.id.as_bytes(), epoch.counter, epoch.nonce.as_bytes(), 2).as_str().to_owned()
}

/// Waits until all that the sink has written is under its checkpoint: two makers give the same bytes only under the same one.
async fn until_committed(sink: &Sink) {
    while sink.checkpoint().size < sink.records().len() as u64 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn holds(file: &str, words: &str) -> bool {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_exported_and_an_outsider_verifies_it_with_the_policy_alone() {
    let mut sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let mut chain = host.epoch(1, None);
    let batches = conversation(&mut chain);
    store(&sink, &host, &batches[..2]).await;
    store(&sink, &other, &[batch(&mut other.epoch(1, None), "of another host")]).await;
    store(&sink, &host, &batches[2..]).await;
    let (auditor, id) = (Person::log_in(&sink, "dana@corp"), session_id(&host, &chain));
    until_committed(&sink).await;
    let file = in_folder(&sink);
    let (bundle, policy) = (file("s.bundle"), file("policy.txt"));

    let said = auditor.says(0, &["export", &id[..6], "-o", &bundle, "--policy-out", &policy]);
    assert!(said.contains("4 entries of a session of web-1") && said.contains("1 in between"), "{said}");
    assert!(holds(&bundle, SAID) && !holds(&bundle, OTHERS), "others' content left the sink");
    let said = auditor.says(2, &["export", &id, "-o", &bundle]);
    assert!(said.contains("is there already"), "{said}");
    // All content of the range, and around it.
    let whole = file("whole.bundle");
    auditor.says(0, &["export", &id, "-o", &whole, "--whole"]);
    assert!(holds(&whole, OTHERS));

    // Somebody else, who never heard of this sink: no login, and it is down.
    sink.stop();
    let outsider = Person { program: program(), home: sink.folder.path().join("nobody") };
    let said = outsider.says(0, &["verify", &bundle, "--policy", &policy]);
    for words in
        [&id[..6], "VERIFIED", "redacted", "its end is here", "claims", "if it came from the same hand"]
    {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let json = outsider.says(0, &["verify", &bundle, "--policy", &policy, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["verdict"], &json["report"]["redacted"]), (&"verified".into(), &1.into()));
    second_verifier("verified verified=4 redacted=1", &bundle, &policy);
    outsider.says(2, &["verify", &bundle]);
    outsider.says(2, &["verify", &policy, "--policy", &policy]);

    // A folder is told from a bundle, and gives the same bytes.
    let state = sink.state();
    assert!(outsider.says(0, &["verify", state.to_str().unwrap()]).contains("VERIFIED"));
    let again = file("again.bundle");
    auditor.says(0, &["export", &id, "-o", &again, "--from", state.to_str().unwrap()]);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&bundle).unwrap(), "two makers, two bundles");

    // One changed byte; and the keys of another sink.
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.len() - 700;
    bytes[at] ^= 1;
    std::fs::write(file("changed.bundle"), bytes).unwrap();
    let said = outsider.says(1, &["verify", &file("changed.bundle"), "--policy", &policy]);
    assert!(said.contains("ALTERED"), "{said}");
    let stranger = Sink::start();
    let elsewhere = file("elsewhere.txt");
    Person::log_in(&stranger, "eve@corp").says(0, &["export", "--policy-out", &elsewhere]);
    let said = outsider.says(1, &["verify", &bundle, "--policy", &elsewhere]);
    assert!(said.contains("checkpoint check failed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_go_over_restarts_and_lost_batches_are_told() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches = conversation(&mut chain);
    let lost = batch(&mut chain, "never arrived");
    store(&sink, &host, &batches).await;
    let mut next = host.epoch(2, Some(Resume { local: Some(lost.position), ..Default::default() }));
    store(&sink, &host, &[batch(&mut next, "a"), batch(&mut next, "b")]).await;
    let auditor = Person::log_in(&sink, "dana@corp");
    let file = in_folder(&sink);
    let policy = file("policy.txt");
    auditor.says(0, &["export", "--policy-out", &policy]);

    let (range, hour) = (file("range.bundle"), file("hour.bundle"));
    let id = host.id.to_string();
    auditor.says(0, &["export", &format!("{id}/1/3-5"), "-o", &range]);
    let said = auditor.says(0, &["verify", &range, "--policy", &policy]);
    assert!(said.contains("entries 1/3 to 1/5") && said.contains("3 entries with content"), "{said}");
    assert!(holds(&range, OTHERS), "what lies in a range is wanted");

    let said = auditor.says(0, &["export", "--host", &id, "--since", "1h", "-o", &hour]);
    assert!(said.contains("something is missing"), "{said}");
    let said = auditor.says(4, &["verify", &hour, "--policy", &policy]);
    assert!(said.contains("INCOMPLETE") && said.contains("missing: batches after"), "{said}");
    assert!(said.contains("2 starts of its agent"), "{said}");
    second_verifier("incomplete verified=10", &hour, &policy);

    for (code, wrong) in [
        (1, vec!["export", "zzzzzzz", "-o"]),
        (1, vec!["export", "nohost/1/3-5", "-o"]),
        (2, vec!["export", "web/1/5-3", "-o"]),
    ] {
        let target = file("wrong.bundle");
        auditor.says(code, &[&wrong[..], &[target.as_str()]].concat());
        assert!(!Path::new(&target).exists());
    }
    let missing = format!("{id}/1/3-99");
    auditor.says(1, &["export", &missing, "-o", &file("wrong.bundle")]);
    auditor.says(2, &["export", &missing]);
    auditor.says(2, &["export", "-o", &file("wrong.bundle")]);
}

/// The way of keys would be longer than it is worth.
#[tokio::test(flavor = "multi_thread")]
async fn late_in_a_long_epoch_an_anchor_stands_for_the_way_of_keys() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches: Vec<SignedBatch> = (0..4_200).map(|_| batch(&mut chain, "x")).collect();
    for some in batches.chunks(600) {
        store(&sink, &host, some).await;
    }
    let auditor = Person::log_in(&sink, "dana@corp");
    until_committed(&sink).await;
    let file = in_folder(&sink);
    let (bundle, policy) = (file("late.bundle"), file("policy.txt"));
    let range = format!("{}/1/4150-4160", host.id);
    auditor.says(0, &["export", &range, "-o", &bundle, "--policy-out", &policy]);
    assert!(std::fs::metadata(&bundle).unwrap().len() < 64 << 10);
    let said = auditor.says(0, &["verify", &bundle, "--policy", &policy]);
    assert!(said.contains("each signature since batch 4149 of its start"), "{said}");
    second_verifier("verified verified=11", &bundle, &policy);
    sink.stop();
    let again = file("again.bundle");
    auditor.says(0, &["export", &range, "-o", &again, "--from", sink.state().to_str().unwrap()]);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&bundle).unwrap(), "two makers, two bundles");
}

#[tokio::test]
async fn who_may_not_read_exports_nothing_and_a_request_for_nothing_is_refused() {
    let sink = Sink::start();
    let host = sink.enrol().await;
    store(&sink, &host, &[batch(&mut host.epoch(1, None), "a")]).await;
    let get = async |who: Option<&Host>, path: &str| {
        let who = who.map(|who| &who.credentials);
        sink.request(who, Method::GET, path, Vec::new()).await.unwrap().0
    };
    let wanted = format!("/v1/export?host={}&epoch=1&first=0&last=0", host.id);
    for path in [wanted.as_str(), "/v1/log/key"] {
        assert_eq!((get(None, path).await, get(Some(&host), path).await), (403, 403), "{path}");
    }
    let person = sink.enrol_with(&sink.token(&["--role", "auditor", "--name", "dana@corp"])).await.unwrap();
    assert_eq!(get(Some(&person), &wanted).await, 200);
    for (status, query) in [
        (422, ""),
        (422, "epoch=1"),
        (422, "epoch=1&first=2&last=1"),
        (422, "epoch=1&session=0&since=1"),
        (422, "epoch=x"),
        (404, "epoch=1&first=0&last=9"),
        (404, "epoch=1&session=0"),
        (404, "since=9000000000000000000"),
    ] {
        let path = format!("/v1/export?host={}&{query}", host.id);
        assert_eq!(get(Some(&person), &path).await, status, "{query}");
    }
}

/// Waits until so many bodies have gone.
async fn until_expired(sink: &Sink, bodies: u64) {
    while sink.metric("bodies_expired").await.unwrap() < bodies {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_shown_and_exported_without_its_content() {
    let mut sink = Sink::start_with("[retention]\nbodies = \"1s\"");
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches = conversation(&mut chain);
    store(&sink, &host, &batches).await;
    let (auditor, id) = (Person::log_in(&sink, "dana@corp"), session_id(&host, &chain));
    until_expired(&sink, 8).await;
    until_committed(&sink).await;
    let file = in_folder(&sink);
    let (bundle, policy) = (file("s.bundle"), file("policy.txt"));
    let said = auditor.says(0, &["export", &id, "-o", &bundle, "--policy-out", &policy]);
    assert!(said.contains("5 whose content has expired by policy"), "{said}");
    let citation = format!("{}/1/3", host.id);
    assert!(auditor.says(0, &["show", &citation]).contains("expired: the sink let it go by age"));
    assert!(auditor.says(0, &["show", &id]).contains("SESSION"));
    sink.stop();
    let state = sink.state();
    let state = state.to_str().unwrap();
    // Who has nothing but the policy sees that the sink let it go, and that nobody left it out.
    let outsider = Person { program: program(), home: sink.folder.path().join("nobody") };
    let said = outsider.says(0, &["verify", &bundle, "--policy", &policy]);
    for words in ["expired   by policy: 5 bodies", "bodies older than 1 s", "VERIFIED", "the sink's word"] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    assert!(!said.contains("redacted"), "{said}");
    let json = outsider.says(0, &["verify", &bundle, "--policy", &policy, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let report = &json["report"];
    assert_eq!((&report["expired"], &report["redacted"]), (&5.into(), &0.into()), "{json}");
    assert_eq!((&report["expiries"][0]["age_s"], &report["session"]["expired"]), (&1.into(), &4.into()));
    second_verifier("verified verified=0 redacted=0", &bundle, &policy);
    assert!(
        auditor.says(0, &["show", &citation, "--from", state]).contains("expired: the sink let it go by age")
    );
    let said = auditor.says(4, &["search", "exchange", "--from", state]);
    assert!(said.contains("HEADER ONLY") && said.contains("its body has expired"), "{said}");
    let again = file("again.bundle");
    auditor.says(0, &["export", &id, "-o", &again, "--from", state]);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&bundle).unwrap(), "two makers, two bundles");
}

/// A session whose beginning is older than the age, and whose end is not.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_range_whose_beginning_expired_both_makers_tell_what_is_left() {
    let mut sink = Sink::start_with("[retention]\nbodies = \"1s\"");
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let mut chain = host.epoch(1, None);
    let batches = conversation(&mut chain);
    store(&sink, &host, &batches[..1]).await;
    store(&sink, &other, &[batch(&mut other.epoch(1, None), "of another host")]).await;
    // In a segment of its own.
    until_expired(&sink, 3).await;
    store(&sink, &host, &batches[1..3]).await;
    until_expired(&sink, 7).await;
    let (auditor, id) = (Person::log_in(&sink, "dana@corp"), session_id(&host, &chain));
    sink.stop();
    let configuration = sink.folder.path().join("sink.toml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, text.replace("\"1s\"", "\"90d\"")).unwrap();
    sink.spawn();
    store(&sink, &host, &batches[3..]).await;
    let mut next = host.epoch(2, None);
    store(&sink, &host, &[batch(&mut next, "later")]).await;
    until_committed(&sink).await;
    let file = in_folder(&sink);
    let (bundle, whole, policy) = (file("s.bundle"), file("whole.bundle"), file("policy.txt"));
    let (early, late) = (file("early.bundle"), file("late.bundle"));
    auditor.says(0, &["export", &id, "-o", &bundle, "--policy-out", &policy]);
    auditor.says(0, &["export", &format!("{}/1/0-7", host.id), "-o", &whole, "--whole"]);
    auditor.says(0, &["export", &format!("{}/1/0-1", host.id), "-o", &early]);
    auditor.says(0, &["export", &format!("{}/1/6-7", host.id), "-o", &late]);
    let magic = |file: &str| std::fs::read(file).unwrap()[..8].to_vec();
    assert_eq!((magic(&late), magic(&early)), (b"CUSTBDL1".to_vec(), b"CUSTBDL2".to_vec()));
    second_verifier("verified verified=1 redacted=0", &bundle, &policy);
    second_verifier("verified verified=2 redacted=0", &whole, &policy);
    second_verifier("verified verified=2 redacted=0", &late, &policy);
    let said = auditor.says(0, &["verify", &whole, "--policy", &policy]);
    assert!(said.contains("by policy: 2 bodies") && said.contains("by policy: 4 bodies"), "{said}");
    sink.stop();
    let state = sink.state();
    for (what, made, flag) in [
        (id.clone(), &bundle, None),
        (format!("{}/1/0-7", host.id), &whole, Some("--whole")),
        (format!("{}/1/0-1", host.id), &early, None),
        (format!("{}/1/6-7", host.id), &late, None),
    ] {
        let again = file("again.bundle");
        let arguments = ["export", &what, "-o", &again, "--from", state.to_str().unwrap()];
        auditor.says(0, &[&arguments[..], flag.as_slice()].concat());
        assert!(std::fs::read(&again).unwrap() == std::fs::read(made).unwrap(), "two makers, two bundles");
        std::fs::remove_file(&again).unwrap();
    }
}
