//! Hosts and a sink under faults for a while: whatever is killed, cut, full, restored or cloned, nothing that was promised
//! is missing, and nothing is there that was not offered. The hosts are the agent's own half that keeps and sends, each in
//! a process of its own; the sink is the real program; what went over the lines between them is the test's own knowledge.
//! `CUSTODY_SOAK_SECONDS` and `CUSTODY_SOAK_HOSTS` make it longer (`cargo xtask soak evidence`), `CUSTODY_SEED` repeats what
//! is done, `CUSTODY_SOAK_RESULT` names a file for the result.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod host;
mod host_files;
mod judge;
mod line;
#[expect(dead_code, reason = "shared with the tests of faults, which use the rest")]
#[path = "../faults/oracle.rs"]
mod oracle;
mod schedule;
mod seen;
#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use custody_tests::process::memory_mib;
use custody_tests::random;
use serde_json::{Value, json};

use judge::{Judgement, WentBack};
use schedule::Schedule;
use world::World;

/// The ordinary test.
const SECONDS: usize = 25;
const HOSTS: usize = 3;
/// Between two looks.
const TICK: Duration = Duration::from_millis(50);
/// Lines of progress of a run.
const TOLD: u32 = 30;
/// How long everything may take to come to the sink when nothing is done any more.
const SETTLE: Duration = Duration::from_secs(300);

#[test]
fn nothing_promised_is_missing_and_nothing_is_invented() {
    let seconds = random::count("CUSTODY_SOAK_SECONDS", SECONDS);
    let hosts = random::count("CUSTODY_SOAK_HOSTS", HOSTS);
    let seed = random::seed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let result = soak(Duration::from_secs(seconds as u64), hosts, seed).unwrap();
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
    if let Some(path) = std::env::var_os("CUSTODY_SOAK_RESULT") {
        std::fs::write(path, serde_json::to_string_pretty(&result).unwrap()).unwrap();
    }
    assert_eq!(result["wrong"], json!([]));
}

fn soak(whole: Duration, hosts: usize, seed: u64) -> Result<Value> {
    let mut folder = tempfile::tempdir()?;
    let mut world = World::new(folder.path(), hosts, seed)?;
    // What went wrong can be looked at.
    println!("hosts in {}, sink in {}", folder.path().display(), world.sink.folder.path().display());
    folder.disable_cleanup(true);
    world.sink.folder.disable_cleanup(true);
    let began = Instant::now();
    while world.hosts.iter().any(|host| host.id.is_none() || host::status(&host.body.folder).is_none()) {
        ensure!(began.elapsed() < SETTLE && world.ended.is_empty(), "hosts do not start: {:?}", world.ended);
        world.look_after()?;
        std::thread::sleep(TICK);
    }
    world.is_hostile = true;
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut schedule = Schedule::new(seed, whole);
    while began.elapsed() < whole {
        schedule.turn(&mut world)?;
        world.look_after()?;
        if told.elapsed() > whole / TOLD {
            told = Instant::now();
            tell(&mut world, began);
        }
        std::thread::sleep(TICK);
    }
    schedule.end(&world);
    let old = world.sink.folder.path().join("old");
    settle(&mut world, &old)?;
    let went_back = went_back(&world);
    let state = world.sink.state();
    let judgement = Judgement::of(&state, folder.path(), &world.seen.lock().unwrap(), &went_back)?;
    let alarms = rolled_back(&mut world, &old)?;
    let result = result(&world, &judgement, alarms, began.elapsed(), seed);
    let is_wrong = result["wrong"] != json!([]);
    folder.disable_cleanup(is_wrong);
    world.sink.folder.disable_cleanup(is_wrong);
    Ok(result)
}

fn tell(world: &mut World, began: Instant) {
    let waiting: u64 = world
        .hosts
        .iter()
        .filter_map(|host| host::status(&host.body.folder)?.pointer("/spool/batches")?.as_u64())
        .sum();
    let memory = if world.sink.is_alive() { memory_mib(world.sink.pid(), "VmRSS") } else { 0.0 };
    let seen = world.seen.lock().unwrap();
    println!(
        "{:5} s   {} done to them, {} starts   {} receipts stored, {} committed   {waiting} batches wait   \
         sink {memory:.0} MiB   {} ended unasked",
        began.elapsed().as_secs(),
        world.injected.values().sum::<usize>(),
        world.starts,
        seen.oracle.receipts(),
        seen.committed.len(),
        world.ended.len(),
    );
}

/// All start anew with nothing that goes wrong, and what they hold comes to the sink. Keeps a copy of the sink's state of
/// before, at `old`.
fn settle(world: &mut World, old: &Path) -> Result<()> {
    world.is_hostile = false;
    for number in 0..world.hosts.len() {
        world.kill_host(number);
        world.end_clone(number);
        let folder = &world.hosts[number].body.folder;
        let _ = std::fs::remove_file(folder.join("status.json"));
    }
    world.sink.end();
    world.kill_sink(Instant::now());
    world::copy(&world.sink.state(), old)?;
    let began = Instant::now();
    let mut is_quiet = false;
    loop {
        world.look_after()?;
        let states: Vec<_> = world.hosts.iter().filter_map(|host| host::status(&host.body.folder)).collect();
        // Each says something of its own in this start, and then nothing more.
        if !is_quiet && states.len() == world.hosts.len() && began.elapsed() > Duration::from_secs(2) {
            is_quiet = true;
            for host in &world.hosts {
                std::fs::write(host.body.folder.join("quiet"), "")?;
            }
        }
        let is_empty = |state: &Value| state.pointer("/spool/batches") == Some(&json!(0));
        if is_quiet && states.len() == world.hosts.len() && states.iter().all(is_empty) {
            break;
        }
        ensure!(began.elapsed() < SETTLE, "not everything comes to the sink: {states:#?}");
        std::thread::sleep(TICK);
    }
    for number in 0..world.hosts.len() {
        world.stop_host(number)?;
    }
    world.sink.stop();
    Ok(())
}

fn went_back(world: &World) -> WentBack {
    let mut went = WentBack::default();
    for host in &world.hosts {
        if host.went_back == 0 {
            went.untouched.insert(host.body.folder.clone());
        } else {
            went.hosts.extend(host.id);
            went.noticed.extend(host.id.filter(|_| host.must_be_named));
        }
    }
    went
}

/// The sink's owner puts back an older copy: each host must see that the log is not the one that it knows.
fn rolled_back(world: &mut World, old: &Path) -> Result<usize> {
    std::fs::remove_dir_all(world.sink.state())?;
    std::fs::rename(old, world.sink.state())?;
    for host in &world.hosts {
        std::fs::remove_file(host.body.folder.join("quiet"))?;
        std::fs::remove_file(host.body.folder.join("status.json"))?;
    }
    let began = Instant::now();
    let mut alarms = 0;
    world.sink_away_until = Some(began);
    while alarms < world.hosts.len() && began.elapsed() < SETTLE {
        world.look_after()?;
        let states = world.hosts.iter().filter_map(|host| host::status(&host.body.folder));
        let is_alarm = |state: &Value| state["log"]["alarm"].as_str().is_some_and(|alarm| !alarm.is_empty());
        alarms = states.filter(is_alarm).count();
        std::thread::sleep(TICK);
    }
    Ok(alarms)
}

fn result(world: &World, judgement: &Judgement, alarms: usize, took: Duration, seed: u64) -> Value {
    let mut wrong = judgement.wrong.clone();
    wrong.extend(world.ended.iter().cloned());
    if alarms < world.hosts.len() {
        wrong.push(format!("{alarms} of {} hosts saw that the sink was restored", world.hosts.len()));
    }
    let seen = world.seen.lock().unwrap();
    json!({
        "seed": seed,
        "seconds": took.as_secs(),
        "hosts": world.hosts.len(),
        "starts": world.starts,
        "injected": world.injected,
        "injected in all": world.injected.values().sum::<usize>(),
        "figures": judgement.figures,
        "receipts in all answers": seen.answers,
        "refusals": seen.refusals,
        "custody verify": judgement.verdict,
        "findings": judgement.findings,
        "hosts that saw the restored sink": alarms,
        "wrong": wrong,
    })
}
