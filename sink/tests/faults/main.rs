//! Every call of the sink on its files goes wrong once: it fails with EIO, it fails with ENOSPC, and the process is
//! killed at it, while hosts append. Then the sink starts again, recovers, and goes on; an oracle compares what is stored
//! with every receipt that was given. The same where power is lost. `CUSTODY_FAULTS=all` tries each call, a number that many
//! of them.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod expiry;
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

use custody_tests::disk::power::Volume;
use custody_tests::disk::{self, Call, Disk, Fault};
use custody_tests::random::{self, Random};
use support::{Sink, batch};

use oracle::Oracle;
use traffic::{Hosts, append, went_on};

/// Faults in the ordinary test, of some thousands.
const FAULTS: usize = 36;
/// Losses of power in the ordinary test; `CUSTODY_POWER` sets another number.
const LOSSES: usize = 24;
const WORKERS: usize = 2;

/// A sink on a copy of the state that all begin from.
fn sink_from(base: &Path) -> Sink {
    sink_with(base, "")
}

/// The same with more settings.
fn sink_with(base: &Path, settings: &str) -> Sink {
    let sink = Sink::prepare(settings);
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

/// What its runs logged.
fn said(sink: &Sink) -> String {
    std::fs::read_to_string(sink.folder.path().join("said")).unwrap_or_default()
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
    let mut oracle = hosts.before.clone();
    // A start that fails is one way to be hit.
    if sink.try_spawn_as(command).is_ok() {
        append(&mut sink, hosts, &mut oracle).await.map_err(|alarm| format!("before: {alarm}"))?;
    }
    sink.end();
    let was_hit = std::fs::read(&log).is_ok_and(|log| !log.is_empty());
    let receipts = oracle.receipts();
    recovers(&mut sink, hosts, oracle).await?;
    Ok(Outcome { was_hit, receipts })
}

/// Whatever the last run left: the sink starts, goes on, and has kept what it promised.
async fn recovers(sink: &mut Sink, hosts: &Hosts, mut oracle: Oracle) -> Result<(), String> {
    // What stands there between death and recovery is never called altered.
    let (code, words) = sink.verify();
    if !matches!(code, Some(0 | 4)) {
        return Err(format!("before recovery custody verify says {code:?}: {words}"));
    }
    let again = run_command(sink);
    sink.try_spawn_as(again).map_err(|error| format!("recovery: {error}: {}", said(sink)))?;
    // Before anything is sent again, which would hide what was lost.
    oracle.compare(&sink.state()).map_err(|difference| format!("after recovery: {difference}"))?;
    went_on(sink, hosts, &mut oracle).await.map_err(|error| format!("{error}: {}", said(sink)))?;
    sink.stop();
    let (code, words) = sink.verify();
    if code != Some(0) {
        return Err(format!("after recovery custody verify says {code:?}: {words}"));
    }
    oracle.compare(&sink.state()).map_err(|difference| format!("in the end: {difference}"))
}

/// One run in which nothing goes wrong: its calls, and what was promised meanwhile.
async fn clean_run(disk: &Disk, base: &Path, hosts: &Hosts) -> (Vec<Call>, Oracle) {
    let mut sink = sink_from(base);
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.under(&mut command, &sink.state(), &log);
    sink.spawn_as(command);
    let mut oracle = hosts.before.clone();
    oracle.calls = Some(log.clone());
    append(&mut sink, hosts, &mut oracle).await.unwrap();
    assert!(oracle.receipts() > 16, "{}", oracle.receipts());
    sink.stop();
    (disk::read(&std::fs::read(log).unwrap()), oracle)
}

#[tokio::test]
async fn whatever_call_goes_wrong_nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let base = folder.path().join("base");
    let hosts = traffic::make(&base).await;
    let counts = disk::counts(&clean_run(&disk, &base, &hosts).await.0);
    println!("calls of a run: {counts:?}");
    let faults = disk::faults(&counts, FAULTS);
    let outcomes = Mutex::new(Vec::new());
    at_once(faults.len(), async |index| {
        let fault = faults[index];
        let outcome = try_one(&disk, &base, &hosts, &fault).await;
        if let Err(error) = &outcome {
            println!("{fault}: {error}");
        }
        let mut outcomes = outcomes.lock().unwrap();
        outcomes.push((fault, outcome));
        if outcomes.len().is_multiple_of(250) {
            println!("{} of {} tried", outcomes.len(), faults.len());
        }
    });
    report(outcomes.into_inner().unwrap());
}

/// Faults of a first start in the ordinary test.
const FIRST_FAULTS: usize = 12;

/// Keys, certificates, store and log are made; whatever is half made, the next start makes a sink of it.
async fn first_start(disk: &Disk, fault: &Fault) -> Result<bool, String> {
    let mut sink = Sink::prepare("");
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.failing(&mut command, &sink.state(), &log, fault);
    let _ = sink.try_spawn_as(command);
    sink.end();
    let again = run_command(&sink);
    sink.try_spawn_as(again).map_err(|error| format!("the next start: {error}: {}", said(&sink)))?;
    let host = sink.enrol().await;
    let answer = sink.append(&host, &[&batch(&mut host.epoch(1, None), "a")]).await;
    if answer.refusal.is_some() {
        return Err(format!("{:?}", answer.refusal));
    }
    sink.stop();
    match sink.verify() {
        (Some(0), _) => Ok(std::fs::read(log).is_ok_and(|log| !log.is_empty())),
        (code, words) => Err(format!("custody verify says {code:?}: {words}")),
    }
}

#[tokio::test]
async fn whatever_call_goes_wrong_at_the_first_start_the_next_one_makes_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let mut sink = Sink::prepare("");
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.under(&mut command, &sink.state(), &log);
    sink.spawn_as(command);
    sink.stop();
    let counts = disk::counts(&disk::read(&std::fs::read(log).unwrap()));
    println!("calls of a first start: {counts:?}");
    let faults = disk::faults(&counts, FIRST_FAULTS);
    let outcomes = Mutex::new(Vec::new());
    at_once(faults.len(), async |index| {
        let outcome = first_start(&disk, &faults[index]).await;
        if let Err(error) = &outcome {
            println!("{}: {error}", faults[index]);
        }
        outcomes.lock().unwrap().push(outcome.map_err(|error| format!("{}: {error}", faults[index])));
    });
    let (done, wrong): (Vec<_>, Vec<_>) = outcomes.into_inner().unwrap().into_iter().partition(Result::is_ok);
    let hit = done.iter().filter(|outcome| matches!(outcome, Ok(true))).count();
    println!("injected {hit}, not reached {}, wrong {}", done.len() - hit, wrong.len());
    assert!(wrong.is_empty() && hit > 0, "{wrong:#?}");
}

/// Does this for each number below `count`, some at once.
fn at_once(count: usize, work: impl AsyncFn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        work(index).await;
                    }
                });
            });
        }
    });
}

/// Power is lost between two calls of a run: what was not synced is gone, torn, or there in another order.
#[tokio::test]
async fn whenever_power_is_lost_nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let base = folder.path().join("base");
    let hosts = traffic::make(&base).await;
    let (calls, oracle) = clean_run(&disk, &base, &hosts).await;
    let whole = Volume::of(&base).unwrap();
    let (seed, losses) = (random::seed(), random::count("CUSTODY_POWER", LOSSES));
    let wrong = Mutex::new(Vec::new());
    at_once(losses, async |loss| {
        let mut random = Random::of(seed.wrapping_add(loss as u64));
        let crash = 1 + random.below(calls.len());
        let mut volume = whole.clone();
        calls[..crash].iter().for_each(|call| volume.take(call).unwrap());
        let mut sink = Sink::prepare("");
        volume.lose_power(&mut random, &sink.state()).unwrap();
        let call = &calls[crash - 1];
        if let Err(error) = recovers(&mut sink, &hosts, oracle.until(call.end)).await {
            let told = format!("loss {loss} after call {crash} ({} {}): {error}", call.what, call.path);
            println!("{told}");
            wrong.lock().unwrap().push(told);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{} calls, {losses} losses of power, wrong {}", calls.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
