//! Batches out of order: a host whose state directory, or a part of its spool, is older than what the sink has.
//! Nothing is lost without a word: the agent says it in one sentence and keeps what the sink does not take, the
//! sink goes on from where it stood, and `custody verify` tells what happened.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::process::{Running, eventually, output};
use custody_tests::servers::Nginx;
use custody_tests::stand::Stand;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

fn ask(nginx: &Nginx, query: &str) -> Result<()> {
    let url = format!("http://127.0.0.1:{}/echo?{query}", nginx.http_port);
    output(Command::new("curl").args(["-s", &url])).map(drop)
}

/// Puts a copy of a folder in the place of another.
fn copy(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("rm").arg("-rf").arg(to))?;
    output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// What `custody verify` says, which is not that everything is there.
fn incomplete(stand: &Stand) -> Result<String> {
    let verify =
        stand.program("custody").args(["verify", "--from"]).arg(stand.folder.join("sink")).output()?;
    let said = String::from_utf8(verify.stdout)?;
    assert_eq!(verify.status.code(), Some(4), "{said}");
    Ok(said)
}

/// The agent says once what the sink refuses, with these words; its status names as many batches as are kept.
fn told_once(stand: &Stand, words: &[&str]) -> Result<()> {
    let log = stand.agent.as_ref().map(Running::log).context("no agent")?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("the sink refuses")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let status = stand.status()?;
    let reason = status["aside"]["reason"].as_str().context("aside.reason")?;
    for word in words {
        assert!(
            lines[0].contains(word) && reason.contains(word),
            "{word} is not in: {} / {reason}",
            lines[0]
        );
    }
    let kept = files(&stand.folder.join("agent/spool/aside"), ".batch").len();
    assert!(kept > 0, "nothing was kept");
    assert_eq!(status["aside"]["batches"], kept, "{status:#}");
    let mut shown = stand.program("custody-agent");
    let shown = output(shown.args(["status", "--config"]).arg(stand.folder.join("agent.toml")))?;
    assert!(shown.contains("NOT AT SINK") && shown.contains(reason), "{shown}");
    Ok(())
}

#[test]
fn a_host_restored_from_an_old_snapshot_goes_on_and_says_so() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    let (state, snapshot) = (folder.path().join("agent"), folder.path().join("snapshot"));
    for start in 1..=4 {
        stand.start_agent()?;
        ask(&nginx, &format!("start={start}"))?;
        stand.wait_records(&format!("url.query = \"start={start}\""), 1)?;
        stand.stop_agent()?;
        if start == 1 {
            copy(&state, &snapshot)?;
        }
    }
    copy(&snapshot, &state)?;
    stand.start_agent()?;
    ask(&nginx, "restored=1")?;
    let restored = stand.wait_records("url.query = \"restored=1\"", 1)?;
    // One step past all epochs that the sink knows, not one refusal each.
    assert_eq!(restored[0]["epoch"], 5);
    told_once(&stand, &["epoch 2 batch 0", "older snapshot", "aside"])?;
    assert_eq!(stand.records("type = gap and custody.gap.cause = \"batch_refused\"")?.len(), 1);
    stand.stop_agent()?;
    for start in 1..=4 {
        assert_eq!(stand.records(&format!("url.query = \"start={start}\""))?.len(), 1, "start {start}");
    }
    let said = incomplete(&stand)?;
    assert!(said.contains("the host came back older than it was"), "{said}");
    assert!(said.contains("the host signed another epoch 2 batch 0"), "{said}");
    let kept = files(&state.join("spool/aside"), ".batch").len();
    assert_eq!(said.matches("the host keeps epoch 2 batch").count(), kept, "{said}");
    // The next start is an ordinary one.
    stand.start_agent()?;
    ask(&nginx, "later=1")?;
    let later = stand.wait_records("url.query = \"later=1\"", 1)?;
    assert_eq!(later[0]["epoch"], 6);
    assert!(!stand.agent_log().contains("the sink refuses"), "{}", stand.agent_log());
    stand.stop_agent()
}

#[test]
fn a_spool_put_back_with_what_the_sink_has_is_sent_again_and_stored_once() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    let (spool, old) = (folder.path().join("agent/spool"), folder.path().join("old"));
    stand.start_agent()?;
    stand.stop_sink()?;
    ask(&nginx, "spooled=1")?;
    stand.stop_agent()?;
    copy(&spool, &old)?;
    stand.start_sink()?;
    stand.start_agent()?;
    stand.wait_records("url.query = \"spooled=1\"", 1)?;
    stand.stop_agent()?;
    copy(&old, &spool)?;
    stand.start_agent()?;
    ask(&nginx, "after=1")?;
    stand.wait_records("url.query = \"after=1\"", 1)?;
    assert!(!stand.agent_log().contains("the sink refuses"), "{}", stand.agent_log());
    stand.stop_agent()?;
    assert_eq!(
        stand.records("url.query = \"spooled=1\"")?.len(),
        1,
        "the same batch again is not stored again"
    );
    // What the spool has forgotten of this host, the sink has not.
    let said = incomplete(&stand)?;
    assert!(said.contains("the host came back older than it was"), "{said}");
    Ok(())
}

/// Waits until what was said stands in the spool: its files have grown, and then no more.
fn spooled(stand: &Stand) -> Result<()> {
    let waiting = || stand.status()?["spool"]["batches"].as_u64().context("spool.batches");
    let before = waiting()?;
    eventually(PATIENCE, "a batch in the spool", || Ok((waiting()? > before).then_some(())))
}

#[test]
fn a_hole_in_the_spool_is_refused_in_one_sentence_and_the_rest_goes_on() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    stand.start_agent()?;
    stand.stop_sink()?;
    for number in 0..6 {
        ask(&nginx, &format!("away={number}"))?;
        spooled(&stand)?;
    }
    stand.agent.take().context("started above")?.kill()?;
    // One batch is taken out of the middle of those that the sink has not, as a file system that was put back in pieces
    // would. (What the sink has stored may still wait for its proof.)
    let file = files(&folder.path().join("agent/spool"), ".seg").pop().context("a spool file")?;
    let bytes = std::fs::read(&file)?;
    let starts: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"crec")).collect();
    let taken = starts.len() - 4;
    std::fs::write(&file, [&bytes[..starts[taken]], &bytes[starts[taken + 1]..]].concat())?;
    stand.start_sink()?;
    stand.start_agent()?;
    ask(&nginx, "after=1")?;
    stand.wait_records("url.query = \"after=1\"", 1)?;
    told_once(&stand, &["epoch 1", "neither here nor at the sink", "aside"])?;
    stand.stop_agent()?;
    assert_eq!(stand.records("type = gap and custody.gap.cause = \"batch_refused\"")?.len(), 1);
    let said = incomplete(&stand)?;
    assert!(said.contains("missing: batches after epoch 1 batch"), "{said}");
    // The next start names what is kept aside, the one after that needs not.
    for _ in 0..2 {
        stand.start_agent()?;
        stand.stop_agent()?;
    }
    let said = incomplete(&stand)?;
    let kept = files(&folder.path().join("agent/spool/aside"), ".batch").len();
    assert_eq!(said.matches("the host keeps epoch 1 batch").count(), kept, "{said}");
    Ok(())
}
