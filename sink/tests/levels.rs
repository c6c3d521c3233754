//! How far an entry is safe, as people are told: the same by every command, at the sink and from its folder, and never more
//! than the checkpoints that are there.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use custody_ledger::LogKey;
use custody_ledger::tlog::Note;
use custody_ledger::tlog::checkpoint::cosign;
use custody_ledger::wire::{CANDIDATE_PATH, COSIGNATURES_PATH};
use custody_record::{Kind, Record, Times, Value, names};
use hyper::Method;
use support::person::{Person, text};
use support::{Credentials, Host, Sink, batch_of};

const WITNESS: &str = "audit.example/w1";

/// A sink that one witness has to cosign, whose key the test holds.
fn sink_with(witness: &LogKey) -> Sink {
    let mut unread: Note = "x\n1\ny\n\n— x AAAAAAA=\n".parse().unwrap();
    let key = cosign(&mut unread, WITNESS, witness, 1).unwrap();
    let mut sink = Sink::prepare(&format!("[witnesses]\nkeys = [\"{key}\"]\nquorum = 1"));
    sink.spawn();
    sink
}

fn exchange(number: u64) -> Vec<u8> {
    let record = Record {
        kind: Kind::Exchange,
        session: None,
        exchange: Some(number),
        times: Times { first_ns: 1, last_ns: 2 },
        fields: [(names::URL_PATH.into(), Value::from("/paid"))].into(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    record.encode().unwrap()
}

/// Has what is committed now cosigned.
async fn witnessed(sink: &Sink, auditor: &Credentials, witness: &LogKey) {
    let (status, offered) =
        sink.request(Some(auditor), Method::GET, CANDIDATE_PATH, Vec::new()).await.unwrap();
    assert_eq!(status, 200);
    let mut note: Note = text(&offered).parse().unwrap();
    cosign(&mut note, WITNESS, witness, 1_800_000_000).unwrap();
    let note = note.to_string().into_bytes();
    let (status, _) = sink.request(Some(auditor), Method::POST, COSIGNATURES_PATH, note).await.unwrap();
    assert_eq!(status, 200);
}

/// What `tail`, `search` and `show` say of the host's first entries, which must be the same.
#[track_caller]
fn told(person: &Person, host: &Host, from: Option<&Path>, entries: usize) -> Vec<String> {
    let ask = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let mut arguments = [arguments, &["-o", "json"]].concat();
        arguments.extend(from.iter().flat_map(|folder| ["--from", folder.to_str().unwrap()]));
        let output = person.custody(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let level = |view: &serde_json::Value| view["status"].as_str().map(str::to_owned);
    let mut tail = vec!["tail", "--since", "1h"];
    if from.is_none() {
        tail.push("--no-follow");
    }
    let tail: Vec<String> = ask(&tail).iter().filter_map(level).collect();
    let mut found: Vec<String> =
        ask(&["search", "paid"]).iter().filter_map(|line| level(&line["hit"]["entry"])).collect();
    found.reverse();
    let shown: Vec<String> =
        (0..entries).filter_map(|seq| level(&ask(&["show", &format!("{}/1/{seq}", host.id)])[0])).collect();
    assert_eq!((&tail, &found), (&shown, &shown), "from {from:?}");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_called_what_the_checkpoints_say_and_not_stored_for_ever() {
    let (witness, _) = LogKey::generate().unwrap();
    let mut sink = sink_with(&witness);
    let person = Person::log_in(&sink, "ada@corp");
    let token = sink.token(&["--role", "auditor", "--name", "bob@corp"]);
    let auditor = sink.enrol_with(&token).await.unwrap().credentials;
    // Nothing is there, and that is an answer.
    person.says(1, &["tail", "--no-follow"]);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    sink.store(&host, &[&batch_of(&mut chain, &exchange(1))]).await;
    // A sink that stops puts all that it has under a checkpoint.
    sink.stop();
    sink.spawn();
    let (state, copy) = (sink.state(), sink.folder.path().join("copy"));
    for from in [None, Some(state.as_path())] {
        assert_eq!(told(&person, &host, from, 1), ["committed"]);
    }
    let older = std::fs::read(state.join("log/checkpoint")).unwrap();

    witnessed(&sink, &auditor, &witness).await;
    sink.store(&host, &[&batch_of(&mut chain, &exchange(2))]).await;
    sink.stop();
    sink.spawn();
    for from in [None, Some(state.as_path())] {
        assert_eq!(told(&person, &host, from, 2), ["witnessed", "committed"]);
    }

    // A folder is believed as far as its own checkpoints go.
    let copied = std::process::Command::new("cp").arg("-a").args([&state, &copy]).status().unwrap();
    assert!(copied.success());
    std::fs::remove_file(copy.join("log/checkpoint.witnessed")).unwrap();
    assert_eq!(told(&person, &host, Some(&copy), 2), ["committed", "committed"]);
    std::fs::write(copy.join("log/checkpoint"), older).unwrap();
    assert_eq!(told(&person, &host, Some(&copy), 2), ["committed", "stored"]);
    std::fs::remove_file(copy.join("log/checkpoint")).unwrap();
    assert_eq!(told(&person, &host, Some(&copy), 2), ["stored", "stored"]);
    // Behind a segment that is not here nobody knows which leaf a record is.
    std::fs::remove_dir_all(&copy).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&state, &copy]).status().unwrap();
    assert!(copied.success());
    let mut segments: Vec<_> =
        std::fs::read_dir(copy.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    std::fs::remove_file(&segments[0]).unwrap();
    let output = person.custody(&["tail", "--since", "1h", "-o", "json", "--from", copy.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(said.contains("\"stored\"") && !said.contains("\"committed\""), "{said}");
}
