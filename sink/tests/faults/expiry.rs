//! The same while bodies expire: whatever call goes wrong or is the last one, what was acknowledged is there or expired as
//! stated, and the next run finishes what was begun.

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

/// Recovery as ever; then everything of the beginning is gone.
async fn finishes(sink: &mut Sink, hosts: &Hosts, oracle: Oracle) -> Result<(), String> {
    recovers(sink, hosts, oracle).await?;
    let again = run_command(sink);
    sink.try_spawn_as(again).map_err(|error| format!("after all: {error}: {}", said(sink)))?;
    expired(sink).await.map_err(|error| format!("after all: {error}: {}", said(sink)))?;
    sink.stop();
    match verify(sink) {
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
