//! A host on which nothing happens: two people follow it live, on the host itself, and what they are shown must
//! not become something to show.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::process::{Running, eventually};
use custody_tests::stand::{Stand, field};
use rustix::process::Signal;
use serde_json::Value;

/// Heartbeats come every ten seconds.
const HEARTBEATS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(120);

/// Follows everything, of all types, in a file.
fn follow(stand: &Stand, program: &Path, name: &str) -> Result<Running> {
    let home = format!("CUSTODY_HOME={}", stand.folder.join("reader").display());
    let program = program.display().to_string();
    let command = ["env", &home, &program, "tail", "--all", "-n", "0", "-o", "json"];
    Running::start(name, &command, None, &stand.folder.join(name), Signal::INT)
}

/// Numbers of the heartbeats that a tail has shown.
fn heartbeats(tail: &Running) -> Vec<u64> {
    let log = tail.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["type"] == "heartbeat").filter_map(|line| line["seq"].as_u64()).collect()
}

#[test]
fn two_tails_of_an_idle_host_make_nothing_but_heartbeats() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    // One tail is of a program that the agent does not know: of that one only the way to the sink tells.
    let copy = folder.path().join("tail-copy");
    std::fs::copy(stand.binary("custody"), &copy)?;
    let tails = [follow(&stand, &stand.binary("custody"), "tail-1")?, follow(&stand, &copy, "tail-2")?];
    let before = skipped(&stand)?;
    // Nothing of the test itself runs from here on: it looks at files. The time begins with the second heartbeat,
    // for what the test did before stands in front of it.
    let counts: Vec<usize> = tails.iter().map(|tail| heartbeats(tail).len() + 2 + HEARTBEATS).collect();
    eventually(PATIENCE, "heartbeats in both tails", || {
        let heard = tails.iter().zip(&counts).all(|(tail, count)| heartbeats(tail).len() >= *count);
        Ok(heard.then_some(()))
    })?;
    let shown = heartbeats(&tails[0]);
    let (first, last) = (shown[counts[0] - HEARTBEATS - 1], shown[counts[0] - 1]);
    let entries = stand.records(&format!("seq > {first} and seq <= {last}"))?;
    let after = skipped(&stand)?;
    assert!(after > before, "the tails said nothing, so leaving them out shows nothing");
    let (beats, others): (Vec<&Value>, Vec<&Value>) =
        entries.iter().partition(|entry| entry["type"] == "heartbeat");
    assert_eq!(beats.len(), HEARTBEATS);
    // Other programs of this machine may do what they like; ours and what passes between them is nobody's news.
    let ours = folder.path().display().to_string();
    for entry in others {
        let text = entry.to_string();
        assert!(!text.contains(&ours), "one of our programs is in the record of an idle host: {text}");
        let ports = [field(entry, "server.port"), field(entry, "client.port")];
        assert!(ports.iter().all(|port| **port != stand.sink_port()), "a way to the sink: {text}");
        let kind = entry["type"].as_str().context("type")?;
        let elsewhere = ["exec", "exit"].contains(&kind) || !ports.iter().all(|port| port.is_null());
        assert!(elsewhere || names_a_program(entry), "an entry of nobody: {text}");
    }
    // What a tail says lies inside TLS and makes no exchange, and its session would be told at its end: so the whole
    // record is looked at, after that end.
    for tail in tails {
        let exit = format!("type = exit and process.pid = {}", tail.pid());
        tail.stop(PATIENCE)?;
        stand.wait_records(&exit, 1)?;
    }
    for entry in stand.records("type =~ \"^session\" or type =~ \"^exchange\"")? {
        let ports = [field(&entry, "server.port"), field(&entry, "client.port")];
        assert!(ports.iter().all(|port| **port != stand.sink_port()), "a way to the sink: {entry}");
        let program = field(&entry, "process.executable.path").as_str().unwrap_or_default();
        assert!(!program.starts_with(&ours), "one of our programs was observed: {entry}");
    }
    Ok(())
}

fn names_a_program(entry: &Value) -> bool {
    ["process.executable.path", "custody.peer.executable.path"]
        .iter()
        .any(|name| field(entry, name).as_str().is_some_and(|path| !path.is_empty()))
}

/// Events that a rule left out so far.
fn skipped(stand: &Stand) -> Result<u64> {
    stand.status()?["counters"]["skipped"]["events"].as_u64().context("counters.skipped.events")
}
