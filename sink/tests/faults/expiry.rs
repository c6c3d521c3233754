//! The same while bodies expire: whatever call goes wrong or is the last one, what was acknowledged is there or expired as
//! stated, and the next run finishes what was begun.

use std::path::Path;

use custody_ledger::Statement;
use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::statement::{Signed, Stated};
use custody_tests::disk::Call;

use crate::oracle::{self, Oracle};
use crate::recovers;
use crate::support::Sink;
use crate::table::{Table, run_command, said};
use crate::traffic::{self, Hosts};

/// So old are bodies when they go.
const AGE: &str = "[retention]\nbodies = \"1s\"";
/// Bodies of the state that all begin from.
const BODIES: u64 = 6;
/// Faults in the ordinary test, and losses of power.
const FAULTS: usize = 24;
const LOSSES: usize = 16;

/// Whatever the last run left: where bodies are gone, the statement of that is under the checkpoint that the folder shows.
fn gone_as_committed(state: &Path) -> Result<(), String> {
    let records: Vec<_> = (0..).zip(oracle::records(state)).collect();
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
    sink.expired(BODIES).await.map_err(|error| format!("after all: {error}: {}", said(sink)))?;
    sink.stop();
    match sink.verify() {
        (Some(0), words) if words.contains("expired by policy") => Ok(()),
        (code, words) => Err(format!("after all custody verify says {code:?}: {words}")),
    }
}

/// Whether they went in spite of the fault, or the sink ended by it: what follows is the same.
async fn try_one(sink: &mut Sink, started: bool, hosts: &Hosts) -> Result<usize, String> {
    if started {
        let _ = sink.expired(BODIES).await;
    }
    sink.end();
    finishes(sink, hosts, hosts.before.clone()).await?;
    Ok(hosts.before.receipts())
}

/// One run in which they expire and nothing goes wrong.
async fn clean_run(table: &Table) -> Vec<Call> {
    let calls = table.clean_run(async |sink| sink.expired(BODIES).await.unwrap()).await;
    assert!(calls.iter().any(|call| call.what == "rename" && call.path.ends_with(".tmp")), "nothing expired");
    calls
}

#[tokio::test]
async fn whatever_call_goes_wrong_bodies_go_as_stated_or_stay() {
    let table = Table::of(AGE);
    let hosts = traffic::make(&table.base()).await;
    let calls = clean_run(&table).await;
    table.whatever_goes_wrong(&calls, FAULTS, async |sink, started| try_one(sink, started, &hosts).await);
}

#[tokio::test]
async fn whenever_power_is_lost_bodies_go_as_stated_or_stay() {
    let table = Table::of(AGE);
    let hosts = traffic::make(&table.base()).await;
    let calls = clean_run(&table).await;
    table.whenever_power_is_lost(&calls, LOSSES, async |sink, _| {
        finishes(sink, &hosts, hosts.before.clone()).await
    });
}
