//! kill -9 of agent, worker and sink at random, under load. An oracle outside the product keeps every receipt
//! and every request that the clients sent; after each kill both are compared with the store.

mod load;
mod oracle;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use custody_tests::observed;
use custody_tests::process::eventually;
use custody_tests::random::{self, Random};
use custody_tests::servers::Nginx;
use custody_tests::stand::Stand;
use load::Load;
use oracle::Oracle;
use rustix::process::{Pid, Signal, kill_process};

/// Kills of each of the three; `CUSTODY_KILLS` sets another number.
const KILLS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Agent,
    Worker,
    Sink,
}

#[test]
fn nothing_acknowledged_is_lost_and_every_hole_is_recorded() -> Result<()> {
    let (mut folders, stand, nginx) = observed::nginx(&[])?;
    let outcome = kill_and_compare(stand, &nginx);
    if outcome.is_err() {
        // What went wrong can be looked at.
        println!("sink and agent in {}", folders.stand.path().display());
        folders.stand.disable_cleanup(true);
    }
    outcome
}

fn kill_and_compare(mut stand: Stand, nginx: &Nginx) -> Result<()> {
    let kills = random::count("CUSTODY_KILLS", KILLS);
    let load = Load::default();
    let oracle = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| load.ask(nginx.http_port))).collect();
        let outcome = kill_at_random(&mut stand, nginx, kills);
        load.end();
        for client in clients {
            client.join().expect("a client panicked")?;
        }
        outcome
    })?;
    // A last request tells that everything before it has been worked off.
    load::request(nginx.http_port, "/echo?last=1")?;
    stand.wait_records("url.query = \"last=1\"", 1)?;
    stand.stop_agent()?;
    oracle.acknowledged_is_stored(&stand)?;
    let answered = load.answered();
    let records = stand.records("type != heartbeat")?;
    let (missing, causes) = oracle::requests_are_recorded_once(&records, nginx.http_port, &answered)?;
    println!(
        "{kills} kills each: {} batches acknowledged, {} requests, {missing} of them in holes; holes {causes:?}",
        oracle.receipts(),
        answered.len()
    );
    for cause in ["agent_restart", "worker_restart"] {
        let told = causes.get(cause).copied().unwrap_or(0);
        ensure!(told >= kills, "{kills} deaths, {told} times {cause}");
    }
    Ok(())
}

fn kill_at_random(stand: &mut Stand, nginx: &Nginx, kills: usize) -> Result<Oracle> {
    let mut oracle = Oracle::default();
    let mut random = Random::of(random::seed());
    let mut victims: Vec<Victim> =
        [Victim::Agent, Victim::Worker, Victim::Sink].into_iter().flat_map(|one| vec![one; kills]).collect();
    while !victims.is_empty() {
        let victim = victims.swap_remove(random.below(victims.len()));
        for _ in 0..=random.below(4) {
            std::thread::sleep(Duration::from_millis(20 + random.below(100) as u64));
            oracle.look(stand)?;
        }
        kill(stand, victim).with_context(|| format!("{victim:?}, {} kills to go", victims.len()))?;
        oracle.bytes_are_equal(stand)?;
        oracle.acknowledged_is_stored(stand)?;
        // Recording goes on: a request from after the kill comes to the sink.
        load::request(nginx.http_port, &format!("/echo?after={}", victims.len()))?;
        stand.wait_records(&format!("url.query = \"after={}\"", victims.len()), 1)?;
    }
    Ok(oracle)
}

fn kill(stand: &mut Stand, victim: Victim) -> Result<()> {
    match victim {
        Victim::Agent => {
            stand.agent.take().context("no agent")?.kill()?;
            stand.start_agent()
        }
        Victim::Sink => {
            stand.sink.take().context("no sink")?.kill()?;
            stand.start_sink()
        }
        Victim::Worker => {
            let before = stand.status()?;
            let pid = before["worker"]["pid"].as_i64().context("worker.pid")?;
            kill_process(Pid::from_raw(pid as i32).context("pid 0")?, Signal::KILL)?;
            eventually(PATIENCE, "the next worker", || {
                let worker = &stand.status()?["worker"];
                let replaced = worker["pid"] != before["worker"]["pid"] && worker["pid"] != 0;
                Ok(replaced.then_some(()))
            })
        }
    }
}
