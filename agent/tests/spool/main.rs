//! The spool when its disk fails: each call on its files goes wrong once, and power is lost between any two of them. A
//! driver of the same steps as the agent's runs as a process of its own and says what it was told; the test compares that
//! with what the next start finds. `CUSTODY_FAULTS=all` tries each call, `CUSTODY_POWER=N` sets the number of losses of power.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod driver;
mod full_disk;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use custody_agent::config;
use custody_agent::spool::Spool;
use custody_ledger::tree;
use custody_tests::disk::power::Volume;
use custody_tests::disk::{self, Call, Disk, Fault, How};
use custody_tests::random::{self, Random};

use driver::{DRIVER_FOLDER, Told, told};

/// Losses of power in the ordinary test.
const LOSSES: usize = 1_000;
/// Faults in the ordinary test.
const FAULTS: usize = 100;

/// Runs the driver below `folder`; what it said, and the calls that were written down.
fn drive(disk: &Disk, folder: &Path, fault: Option<&Fault>) -> (Vec<Told>, Vec<u8>) {
    std::fs::create_dir(folder.join("state")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "driver::drives_a_spool", "--nocapture"]).env(DRIVER_FOLDER, folder);
    let (root, log) = (folder.join("state"), folder.join("calls"));
    match fault {
        None => disk.under(&mut command, &root, &log),
        Some(fault) => disk.failing(&mut command, &root, &log, fault),
    }
    let output = command.output().unwrap();
    let killed = fault.is_some_and(|fault| fault.how == How::Kill);
    assert!(output.status.success() || killed, "{}", String::from_utf8_lossy(&output.stdout));
    (told(folder), std::fs::read(log).unwrap_or_default())
}

/// What a start finds, compared with what was told up to some moment: what may have left is there until it is freed,
/// what was put aside for ever, and nothing is there that was not written.
fn compare(state: &Path, told: &[Told]) -> Result<(), String> {
    let mut appended = BTreeMap::new();
    let mut due = BTreeMap::new();
    for one in told {
        match one {
            Told::Appended(place, hash) => drop(appended.insert(*place, *hash)),
            Told::Left(place) => drop(due.insert(*place, "may have left")),
            Told::Freeing(place) => due.retain(|other, why| other > place || *why == "is aside"),
            Told::Aside(place) => drop(due.insert(*place, "is aside")),
            Told::Ended => {}
        }
    }
    let (spool, recovery) =
        Spool::open(state, &config::Spool::default()).map_err(|error| format!("{error:#}"))?;
    let mut found = BTreeMap::new();
    for (position, frame) in spool.unsent(usize::MAX, usize::MAX).map_err(|error| format!("{error:#}"))? {
        let place = (position.epoch.counter, position.number.0);
        if appended.get(&place) != Some(&tree::hash_of(&frame)) {
            return Err(format!("{place:?} is there, and was never written so"));
        }
        if found.insert(place, ()).is_some() {
            return Err(format!("{place:?} is there twice"));
        }
    }
    for position in spool.aside().unnamed.iter().chain(&recovery.stranded) {
        found.insert((position.epoch.counter, position.number.0), ());
    }
    let lost: Vec<_> = due.iter().filter(|(place, _)| !found.contains_key(*place)).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("lost {lost:?}, recovery {recovery:?}")) }
}

#[test]
fn whatever_call_goes_wrong_what_may_have_left_is_found_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let clean = folder.path().join("clean");
    std::fs::create_dir(&clean).unwrap();
    let (told, log) = drive(&disk, &clean, None);
    assert_eq!(told.last(), Some(&Told::Ended));
    let counts = disk::counts(&disk::read(&log));
    println!("calls of a run: {counts:?}");
    let (mut injected, mut wrong) = (0, Vec::new());
    for fault in disk::faults(&counts, FAULTS) {
        let run = tempfile::tempdir_in(folder.path()).unwrap();
        let (told, hit) = drive(&disk, run.path(), Some(&fault));
        assert!(!hit.is_empty(), "{fault} was not reached");
        injected += 1;
        let compared = compare(&run.path().join("state"), &told);
        wrong.extend(compared.err().map(|error| format!("{fault}: {error}")));
    }
    println!("injected {injected}, wrong {}", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("injected {injected}, lost 0, invented 0");
}

/// What was told before the crash: the driver writes down how long the log of calls was.
fn told_before(told: &[(Told, usize)], calls: &[Call]) -> Vec<Told> {
    let end = calls.last().map_or(0, |call| call.end);
    // To be freed begins before its first call: whoever dies in it may have lost what is not due any more.
    told.iter().filter(|(_, at)| *at <= end).map(|(told, _)| told.clone()).collect()
}

#[test]
fn whenever_power_is_lost_what_may_have_left_is_found_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let clean = folder.path().join("clean");
    std::fs::create_dir(&clean).unwrap();
    let empty = Volume::of(tempfile::tempdir().unwrap().path()).unwrap();
    let (_, log) = drive(&disk, &clean, None);
    let (calls, told) = (disk::read(&log), driver::told_with_places(&clean));
    let (seed, losses) = (random::seed(), random::count("CUSTODY_POWER", LOSSES));
    let mut wrong = Vec::new();
    for loss in 0..losses {
        let mut random = Random::of(seed.wrapping_add(loss as u64));
        let crash = 1 + random.below(calls.len());
        let mut volume = empty.clone();
        calls[..crash].iter().for_each(|call| volume.take(call).unwrap());
        let state = tempfile::tempdir_in(folder.path()).unwrap();
        volume.lose_power(&mut random, state.path()).unwrap();
        let compared = compare(state.path(), &told_before(&told, &calls[..crash]));
        let call = &calls[crash - 1];
        wrong.extend(
            compared.err().map(|error| {
                format!("loss {loss} after call {crash} ({} {}): {error}", call.what, call.path)
            }),
        );
    }
    println!("{} calls, {losses} losses of power, wrong {}", calls.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
