//! Every call of the sink on its files goes wrong once: it fails with EIO, it fails with ENOSPC, and the process is
//! killed at it, while hosts append. Then the sink starts again, recovers, and goes on; an oracle compares what is stored
//! with every receipt that was given. The same where power is lost, and at a first start. `CUSTODY_FAULTS=all` tries each
//! call, a number that many of them.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod expiry;
mod oracle;
#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod table;
mod traffic;

use custody_tests::disk::Call;
use support::{Sink, batch};

use oracle::Oracle;
use table::{Table, log, run_command, said};
use traffic::{Hosts, append, went_on};

/// Faults in the ordinary test, of some thousands.
const FAULTS: usize = 36;
/// Losses of power in the ordinary test; `CUSTODY_POWER` sets another number.
const LOSSES: usize = 24;
/// Faults of a first start in the ordinary test.
const FIRST_FAULTS: usize = 12;

/// Hosts append to a sink of which a call goes wrong, then it recovers. An error is a sentence.
async fn try_one(sink: &mut Sink, started: bool, hosts: &Hosts) -> Result<usize, String> {
    let mut oracle = hosts.before.clone();
    if started {
        append(sink, hosts, &mut oracle).await.map_err(|alarm| format!("before: {alarm}"))?;
    }
    sink.end();
    let receipts = oracle.receipts();
    recovers(sink, hosts, oracle).await?;
    Ok(receipts)
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
async fn clean_run(table: &Table, hosts: &Hosts) -> (Vec<Call>, Oracle) {
    let mut oracle = hosts.before.clone();
    let calls = table.clean_run(async |sink| {
        oracle.calls = Some(log(sink));
        append(sink, hosts, &mut oracle).await.unwrap();
    });
    let calls = calls.await;
    assert!(oracle.receipts() > 16, "{}", oracle.receipts());
    (calls, oracle)
}

#[tokio::test]
async fn whatever_call_goes_wrong_nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let table = Table::of("");
    let hosts = traffic::make(&table.base()).await;
    let (calls, _) = clean_run(&table, &hosts).await;
    table.whatever_goes_wrong(&calls, FAULTS, async |sink, started| try_one(sink, started, &hosts).await);
}

#[tokio::test]
async fn whenever_power_is_lost_nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let table = Table::of("");
    let hosts = traffic::make(&table.base()).await;
    let (calls, oracle) = clean_run(&table, &hosts).await;
    table.whenever_power_is_lost(&calls, LOSSES, async |sink, last| {
        recovers(sink, &hosts, oracle.until(last.end)).await
    });
}

/// Keys, certificates, store and log are made; whatever is half made, the next start makes a sink of it.
async fn starts_at_last(sink: &mut Sink) -> Result<usize, String> {
    sink.end();
    let again = run_command(sink);
    sink.try_spawn_as(again).map_err(|error| format!("the next start: {error}: {}", said(sink)))?;
    let asked = sink.try_enrol_with(&sink.token(&["--host"])).await;
    let host = asked.map_err(|error| error.to_string())?.map_err(|refusal| format!("{refusal:?}"))?;
    let answer = sink.try_append(&host, host.id, &[&batch(&mut host.epoch(1, None), "a")]).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.refusal.is_some() {
        return Err(format!("{:?}", answer.refusal));
    }
    sink.stop();
    match sink.verify() {
        (Some(0), _) => Ok(answer.receipts.len()),
        (code, words) => Err(format!("custody verify says {code:?}: {words}")),
    }
}

#[tokio::test]
async fn whatever_call_goes_wrong_at_the_first_start_the_next_one_makes_a_sink() {
    let table = Table::of("");
    let calls = table.clean_run(async |_| {}).await;
    table.whatever_goes_wrong(&calls, FIRST_FAULTS, async |sink, _| starts_at_last(sink).await);
}
