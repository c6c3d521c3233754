//! The same while bodies expire: whatever call goes wrong or is the last one, what was acknowledged is there or expired as
//! stated, and the next run finishes what was begun.

use custody_ledger::Statement;
use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Reader, Record, RecordKind};
use custody_ledger::statement::{Signed, Stated};

use super::*;

/// So old are bodies when they go.
const AGE: &str = "[retention]\nbodies = \"1s\"";
/// Bodies of the state that all begin from.
const BODIES: u64 = 6;
/// Faults in the ordinary test, and losses of power.
const FAULTS: usize = 24;
const LOSSES: usize = 16;
/// How often is asked whether they are gone.
const LOOKS: usize = 400;

/// Waits until they are gone; an error where the sink ended before, or they stay.
async fn expired(sink: &mut Sink) -> Result<(), String> {
    for _ in 0..LOOKS {
        if sink.metric("bodies_expired").await.is_some_and(|gone| gone >= BODIES) {
            return Ok(());
        }
        if !sink.is_alive() {
            return Err("the sink has ended".to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err("bodies do not expire".to_owned())
}

/// Whatever the last run left: where bodies are gone, the statement of that is under the checkpoint that the folder shows.
fn gone_as_committed(state: &Path) -> Result<(), String> {
    let mut names: Vec<_> =
        std::fs::read_dir(state.join("segments")).unwrap().map(|item| item.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    let bytes: Vec<_> = names.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let records = bytes.iter().flat_map(|bytes| Reader::open(bytes.as_slice()).into_iter().flatten());
    let records: Vec<_> = (0..).zip(records.map_while(Result::ok)).collect();
    let is_thinned = |record: &Record| {
        record.kind == RecordKind::Batch && BatchMeta::of(record).unwrap().content.is_some()
    };
    if !records.iter().any(|(_, record)| is_thinned(record)) {
        return Ok(());
    }
    let is_retention = |record: &Record| {
        let statement = || Signed::open::<Statement>(&record.payload).unwrap().0.what;
        record.kind == RecordKind::Statement && matches!(statement(), Stated::Retention(_))
    };
    let stated = records.iter().find(|(_, record)| is_retention(record)).map(|(index, _)| *index);
    let note = std::fs::read_to_string(state.join("log/checkpoint")).unwrap();
    let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
    let committed = stated.is_some_and(|index| index < size);
    if committed { Ok(()) } else { Err(format!("gone, and stated at {stated:?} of {size}")) }
}

/// Recovery as ever; then everything of the beginning is gone.
async fn finishes(sink: &mut Sink, hosts: &Hosts, oracle: Oracle) -> Result<(), String> {
    gone_as_committed(&sink.state())?;
    recovers(sink, hosts, oracle).await?;
    let again = run_command(sink);
    sink.try_spawn_as(again).map_err(|error| format!("after all: {error}: {}", said(sink)))?;
    expired(sink).await.map_err(|error| format!("after all: {error}: {}", said(sink)))?;
    sink.stop();
    match sink.verify() {
        (Some(0), words) if words.contains("expired by policy") => Ok(()),
        (code, words) => Err(format!("after all custody verify says {code:?}: {words}")),
    }
}

async fn try_one(disk: &Disk, base: &Path, hosts: &Hosts, fault: &Fault) -> Result<Outcome, String> {
    let mut sink = sink_with(base, AGE);
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.failing(&mut command, &sink.state(), &log, fault);
    if sink.try_spawn_as(command).is_ok() {
        // Whether they went in spite of the fault, or the sink ended by it: what follows is the same.
        let _ = expired(&mut sink).await;
    }
    sink.end();
    let was_hit = std::fs::read(&log).is_ok_and(|log| !log.is_empty());
    finishes(&mut sink, hosts, hosts.before.clone()).await?;
    Ok(Outcome { was_hit, receipts: hosts.before.receipts() })
}

/// One run in which they expire and nothing goes wrong.
async fn clean_run(disk: &Disk, base: &Path) -> Vec<Call> {
    let mut sink = sink_with(base, AGE);
    let log = sink.folder.path().join("calls");
    let mut command = run_command(&sink);
    disk.under(&mut command, &sink.state(), &log);
    sink.spawn_as(command);
    expired(&mut sink).await.unwrap();
    sink.stop();
    let calls = disk::read(&std::fs::read(log).unwrap());
    assert!(calls.iter().any(|call| call.what == "rename" && call.path.ends_with(".tmp")), "nothing expired");
    calls
}

#[tokio::test]
async fn whatever_call_goes_wrong_bodies_go_as_stated_or_stay() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let base = folder.path().join("base");
    let hosts = traffic::make(&base).await;
    let counts = disk::counts(&clean_run(&disk, &base).await);
    println!("calls of a run in which bodies expire: {counts:?}");
    let faults = disk::faults(&counts, FAULTS);
    let outcomes = Mutex::new(Vec::new());
    at_once(faults.len(), async |index| {
        let fault = faults[index];
        let outcome = try_one(&disk, &base, &hosts, &fault).await;
        if let Err(error) = &outcome {
            println!("{fault}: {error}");
        }
        outcomes.lock().unwrap().push((fault, outcome));
    });
    report(outcomes.into_inner().unwrap());
}

#[tokio::test]
async fn whenever_power_is_lost_bodies_go_as_stated_or_stay() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::build(folder.path()).unwrap();
    let base = folder.path().join("base");
    let hosts = traffic::make(&base).await;
    let calls = clean_run(&disk, &base).await;
    let whole = Volume::of(&base).unwrap();
    let (seed, losses) = (random::seed(), random::count("CUSTODY_POWER", LOSSES));
    let wrong = Mutex::new(Vec::new());
    at_once(losses, async |loss| {
        let mut random = Random::of(seed.wrapping_add(loss as u64));
        let crash = 1 + random.below(calls.len());
        let mut volume = whole.clone();
        calls[..crash].iter().for_each(|call| volume.take(call).unwrap());
        let mut sink = Sink::prepare(AGE);
        volume.lose_power(&mut random, &sink.state()).unwrap();
        if let Err(error) = finishes(&mut sink, &hosts, hosts.before.clone()).await {
            let call = &calls[crash - 1];
            let told = format!("loss {loss} after call {crash} ({} {}): {error}", call.what, call.path);
            println!("{told}");
            wrong.lock().unwrap().push(told);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{} calls, {losses} losses of power, wrong {}", calls.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
