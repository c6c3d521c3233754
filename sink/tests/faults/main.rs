//! Every call of the sink on its files goes wrong once: it fails with EIO, it fails with ENOSPC, and the process is
//! killed at it, while hosts append. Then the sink starts again, recovers, and goes on; an oracle compares what is stored
//! with every receipt that was given. `CUSTODY_FAULTS=all` tries each call, a number that many of them.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod oracle;
#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use custody_tests::disk::{self, Disk, Fault};
use custody_tests::stand::built;
use support::Sink;

use oracle::{Difference, Oracle};
use traffic::{Hosts, append, went_on};

/// Faults in the ordinary test, of some thousands.
const FAULTS: usize = 48;
const WORKERS: usize = 2;

/// A sink on a copy of the state that all begin from.
fn sink_from(base: &Path) -> Sink {
    let sink = Sink::prepare("");
    let status = Command::new("cp").arg("-a").arg(base).arg(sink.state()).status().unwrap();
    assert!(status.success());
    sink
}

fn run_command(sink: &Sink) -> Command {
    let said =
        std::fs::File::options().create(true).append(true).open(sink.folder.path().join("said")).unwrap();
    let mut command = sink.command();
    command.args(["run", "--allow-root"]).stderr(Stdio::from(said));
    command
}

/// Exit code of `custody verify`, and what it said.
fn verify(sink: &Sink) -> (Option<i32>, String) {
    let mut command = Command::new(built("custody"));
    command
        .args(["verify", "--from"])
        .arg(sink.state())
        .env("CUSTODY_HOME", sink.folder.path().join("nobody"));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What came of one fault.
struct Outcome {
    /// Whether the run came to that call at all.
    was_hit: bool,
    receipts: usize,
}

/// One fault, then recovery. An error is a sentence.
async fn try_one(disk: &Disk, base: &Path, hosts: &Hosts, fault: &Fault) -> Result<Outcome, String> {
    let mut sink = sink_from(base);
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.failing(&mut command, &sink.state(), &log, fault);
    let (mut oracle, mut witness) = (Oracle::default(), hosts.witness.clone());
    hosts.before.iter().for_each(|frame| {
        oracle.sends(frame);
        oracle.promised(frame);
    });
    // A start that fails is one way to be hit.
    if sink.try_spawn_as(command).is_ok() {
        append(&mut sink, hosts, &mut oracle, &mut witness)
            .await
            .map_err(|alarm| format!("before: {alarm}"))?;
    }
    sink.end();
    let was_hit = std::fs::read(&log).is_ok_and(|log| !log.is_empty());
    // What stands there between death and recovery is never called altered.
    let (code, words) = verify(&sink);
    if !matches!(code, Some(0 | 4)) {
        return Err(format!("before recovery custody verify says {code:?}: {words}"));
    }
    let again = run_command(&sink);
    sink.try_spawn_as(again).map_err(|error| format!("recovery: {error}"))?;
    let receipts = oracle.receipts();
    went_on(&sink, hosts, &mut oracle, &mut witness).await?;
    sink.stop();
    let (code, words) = verify(&sink);
    if code != Some(0) {
        return Err(format!("after recovery custody verify says {code:?}: {words}"));
    }
    match oracle.compare(&sink.state()) {
        Difference { lost: 0, invented: 0 } => Ok(Outcome { was_hit, receipts }),
        difference => Err(format!("{difference:?}")),
    }
}

/// One run in which nothing goes wrong: how many calls of each kind there are.
async fn count_calls(disk: &Disk, base: &Path, hosts: &Hosts) -> BTreeMap<&'static str, usize> {
    let mut sink = sink_from(base);
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.under(&mut command, &sink.state(), &log);
    sink.spawn_as(command);
    let (mut oracle, mut witness) = (Oracle::default(), hosts.witness.clone());
    append(&mut sink, hosts, &mut oracle, &mut witness).await.unwrap();
    assert!(oracle.receipts() > 10, "{}", oracle.receipts());
    sink.stop();
    disk::counts(&disk::read(&std::fs::read(log).unwrap()))
}

#[tokio::test]
async fn whatever_call_goes_wrong_nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let base = folder.path().join("base");
    let hosts = traffic::make(&base).await;
    let counts = count_calls(&disk, &base, &hosts).await;
    println!("calls of a run: {counts:?}");
    let faults = disk::faults(&counts, FAULTS);
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = runtime.block_on(try_one(&disk, &base, &hosts, fault));
                    if let Err(error) = &outcome {
                        println!("{fault}: {error}");
                    }
                    outcomes.lock().unwrap().push((*fault, outcome));
                }
            });
        }
    });
    report(outcomes.into_inner().unwrap());
}

fn report(outcomes: Vec<(Fault, Result<Outcome, String>)>) {
    let (mut injected, mut not_reached, mut receipts) = (BTreeMap::<_, usize>::new(), 0, 0);
    let mut wrong = Vec::new();
    for (fault, outcome) in outcomes {
        match outcome {
            Ok(outcome) if outcome.was_hit => {
                *injected.entry((fault.how, fault.kind)).or_default() += 1;
                receipts += outcome.receipts;
            }
            Ok(_) => not_reached += 1,
            Err(error) => wrong.push(format!("{fault}: {error}")),
        }
    }
    let total: usize = injected.values().sum();
    println!(
        "injected {total} ({injected:?}), not reached {not_reached}, receipts given {receipts}, wrong {}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(total > 0, "no fault was reached");
    println!("injected {total}, lost 0, invented 0");
}
