//! `cargo xtask bench`: what an observed server pays, ours beside the peers, in paired and alternating runs.
//! It prints no ratio of ours when anything was lost or fewer records were made than the load generator counts
//! operations: it says how much was lost instead.
//! `--sizes` tells how large the product is instead.

mod peers;
mod sizes;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use custody_tests::process::{Running, eventually, output};
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{self, Stand};
use serde_json::json;

use crate::{build_ebpf, setup, test};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Rounds of each variant; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Tell the sizes instead: files, functions, binaries, dependencies.
    #[arg(long)]
    sizes: bool,
    /// Only tcpdump as a peer, not the slow ones.
    #[arg(long)]
    quick: bool,
    /// Only loads whose name holds this.
    load: Option<String>,
}

/// Where the results of the last run lie, to compare with.
const RESULTS: &str = "target/bench/live.json";

/// A load with a rate in its name offers that many operations per second; the others as many as the server takes.
const LOADS: [&str; 7] = [
    "pgbench-simple",
    "pgbench-prepared",
    "pgbench-tls",
    "http-20000",
    "http-saturated",
    "https-2000",
    "https-saturated",
];
/// What the observer still works off belongs to its price; this long at most.
const WORKED_OFF: Duration = Duration::from_secs(30);

/// One run of a load under one variant.
struct Sample {
    operations_per_second: f64,
    server_cpu_us: f64,
    observer_cpu_us: f64,
    /// What our agent says of itself.
    account: Option<Account>,
}

/// What became of the bytes, and what the agent held.
struct Account {
    /// `custody-agent status`.
    status: serde_json::Value,
    /// Peak of resident memory of agent and worker, MiB.
    memory_mib: f64,
    /// Share of the events offered that was lost.
    lost: f64,
}

/// Runs all loads.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    setup::packages(&[setup::KERNEL_BUILD, setup::SERVERS, setup::TESTS, setup::BENCH], options.yes)?;
    setup::bpf_linker(options.yes)?;
    build_ebpf::run(root)?;
    test::build_release()?;
    if options.sizes {
        return sizes::run(root);
    }
    setup::account(stand::SINK_USER, "the sink runs as it and owns its store", options.yes)?;
    let folder = stand::folder()?;
    let servers = stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let nginx = Nginx::start(&subfolder(servers.path(), "nginx")?, &[])?;
    let postgres = Postgres::start(&subfolder(servers.path(), "postgres")?)?;
    output(postgres.program("pgbench", false).args(["-i", "-q", "-s", "1"]))?;
    let mut results = BTreeMap::new();
    for load in LOADS {
        if options.load.as_deref().is_some_and(|wanted| !load.contains(wanted)) {
            continue;
        }
        let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
        for round in 0..options.rounds {
            for variant in variants(options.quick) {
                eprintln!("{load}: round {} of {}, {variant}", round + 1, options.rounds);
                let sample = measure(load, variant, options.seconds, &mut stand, (&nginx, &postgres))?;
                samples.entry(variant).or_default().push(sample);
            }
        }
        results.insert(load, table(load, &samples)?);
    }
    let file = root.join(RESULTS);
    let before = std::fs::read_to_string(&file).ok();
    std::fs::create_dir_all(root.join("target/bench"))?;
    std::fs::write(&file, serde_json::to_string_pretty(&results)?)?;
    println!("\nwritten to {RESULTS}{}", if before.is_some() { " (replaces the run before)" } else { "" });
    if let Some(before) = before {
        compare(&serde_json::from_str(&before)?, &serde_json::to_value(&results)?);
    }
    Ok(())
}

/// Who watches while the load runs.
fn variants(quick: bool) -> impl Iterator<Item = &'static str> {
    let peers = if quick { &peers::PEERS[..1] } else { peers::PEERS };
    ["bare", "custody"].into_iter().chain(peers.iter().map(|peer| peer.name))
}

fn measure(
    load: &str,
    variant: &str,
    seconds: u64,
    stand: &mut Stand,
    (nginx, postgres): (&Nginx, &Postgres),
) -> Result<Sample> {
    let (port, server, program) = match load {
        load if load.starts_with("https") => (nginx.https_port, nginx.pid(), "nginx"),
        load if load.starts_with("http") => (nginx.http_port, nginx.pid(), "nginx"),
        _ => (postgres.port, postgres.pid(), "postgres"),
    };
    let peer = peers::PEERS.iter().find(|peer| peer.name == variant);
    let peer = peer.map(|peer| peer.start(&stand.folder, port, program, &tree(server))).transpose()?;
    if variant == "custody" {
        stand.start_agent()?;
    }
    let observers: Vec<u32> =
        stand.agent.iter().map(Running::pid).chain(peer.iter().map(Running::pid)).collect();
    let (server_before, observers_before) = (cpu_tree(server)?, cpu_all(&observers)?);
    let operations = generate(load, seconds, nginx, postgres)?;
    let server_cpu = cpu_tree(server)? - server_before;
    let account = if variant == "custody" { Some(work_off(stand, operations)?) } else { None };
    let observer_cpu = cpu_all(&observers)? - observers_before;
    if variant == "custody" {
        stand.stop_agent()?;
    }
    if let Some(peer) = peer {
        peer.stop(Duration::from_secs(20))?;
    }
    Ok(Sample {
        operations_per_second: operations / seconds as f64,
        server_cpu_us: server_cpu * 1e6 / operations,
        observer_cpu_us: observer_cpu * 1e6 / operations,
        account,
    })
}

/// Waits for a record of each operation, whose making belongs to the price; or tells what share of the events was
/// lost.
fn work_off(stand: &Stand, operations: f64) -> Result<Account> {
    eventually(WORKED_OFF, "a record of each operation", || {
        let status = stand.status()?;
        let count = |pointer: &str| {
            let number = status.pointer(pointer).and_then(serde_json::Value::as_f64);
            number.with_context(|| format!("status without {pointer}"))
        };
        let lost = count("/counters/lost/events")? / count("/counters/produced/events")?;
        let complete = count("/counters/records")? >= operations;
        let pids = [count("/worker/pid")? as u32, stand.agent.as_ref().map_or(0, Running::pid)];
        Ok((lost > 0.0 || complete).then(|| Account {
            memory_mib: pids.into_iter().map(peak_mib).sum(),
            lost,
            status,
        }))
    })
}

/// `VmHWM` of a process, MiB.
fn peak_mib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Runs the load and tells how many operations were done.
fn generate(load: &str, seconds: u64, nginx: &Nginx, postgres: &Postgres) -> Result<f64> {
    if load.starts_with("http") {
        let (scheme, port) =
            if load.starts_with("https") { ("https", nginx.https_port) } else { ("http", nginx.http_port) };
        let url = format!("{scheme}://localhost:{port}/echo");
        if let Some(rate) = load.split('-').nth(1).and_then(|rate| rate.parse::<u64>().ok()) {
            return offer(rate, seconds, &url);
        }
        let text = output(Command::new("wrk").args(["-t1", "-c50", &format!("-d{seconds}s"), &url]))?;
        let line = text.lines().find(|line| line.contains(" requests in ")).context("wrk said nothing")?;
        return Ok(line.split_whitespace().next().context("wrk said nothing")?.parse()?);
    }
    let mode = if load == "pgbench-prepared" { "prepared" } else { "simple" };
    let mut pgbench = postgres.program("pgbench", load == "pgbench-tls");
    let text = output(pgbench.args(["-n", "-S", "-c", "10", "-T", &seconds.to_string(), "-M", mode]))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("number of transactions actually processed"))
        .context("pgbench said nothing")?;
    let number =
        line.rsplit(": ").next().and_then(|rest| rest.split('/').next()).context("pgbench said nothing")?;
    Ok(number.trim().parse()?)
}

/// So many requests per second over fifty connections.
fn offer(rate: u64, seconds: u64, url: &str) -> Result<f64> {
    const CONNECTIONS: u64 = 50;
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-t1"]);
    h2load.args(["-c", &CONNECTIONS.to_string(), "--rps", &(rate / CONNECTIONS).to_string()]);
    h2load.args(["-n", &(rate * seconds).to_string(), url]);
    let text = output(&mut h2load)?;
    // requests: 60000 total, 60000 started, 60000 done, 60000 succeeded, …
    let line = text.lines().find(|line| line.starts_with("requests: ")).context("h2load said nothing")?;
    let done = line.split(", ").find_map(|part| part.strip_suffix(" succeeded"));
    Ok(done.context("h2load said nothing")?.parse()?)
}

/// A process and its children.
fn tree(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
}

/// CPU seconds of a process, its living children and those it has waited for.
fn cpu_tree(pid: u32) -> Result<f64> {
    // A backend may end between the two looks; its time then stands with its parent.
    Ok(cpu(pid)? + tree(pid).into_iter().skip(1).filter_map(|child| cpu(child).ok()).sum::<f64>())
}

fn cpu_all(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| cpu_tree(*pid)).sum()
}

fn cpu(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        text.rsplit(") ").next().context("stat without a name")?.split_whitespace().collect();
    // utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5), in ticks of 10 ms.
    let ticks: u64 =
        fields.get(11..15).context("short stat")?.iter().filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn table(load: &str, samples: &BTreeMap<&str, Vec<Sample>>) -> Result<serde_json::Value> {
    let bare = samples.get("bare").context("no bare run")?;
    let base = (median(bare, |s| s.operations_per_second).0, median(bare, |s| s.server_cpu_us).0);
    println!("\n{load:18} throughput (min–max)     ratio   server CPU µs/op  ratio   observer CPU µs/op");
    let mut rows = BTreeMap::new();
    for variant in variants(false) {
        let Some(runs) = samples.get(variant) else { continue };
        let (rate, least, most) = median(runs, |s| s.operations_per_second);
        let (server, ..) = median(runs, |s| s.server_cpu_us);
        let (observer, ..) = median(runs, |s| s.observer_cpu_us);
        let accounts = || runs.iter().filter_map(|run| run.account.as_ref());
        let lost = accounts().map(|account| account.lost).fold(0.0, f64::max);
        if lost > 0.0 {
            println!(
                "  {variant:16} {rate:8.0} ({least:.0}–{most:.0})   up to {:.1} % of its events lost, so no ratio",
                lost * 100.0
            );
            rows.insert(variant, json!({"throughput": rate, "lost": lost}));
            continue;
        }
        println!(
            "  {variant:16} {rate:8.0} ({least:.0}–{most:.0})   {:6.2}   {server:10.1}      {:6.2}   {observer:8.2}",
            rate / base.0,
            server / base.1
        );
        if let Some(last) = runs.last().and_then(|run| run.account.as_ref()) {
            account(last);
        }
        rows.insert(
            variant,
            json!({"throughput": rate, "throughput_ratio": rate / base.0, "server_cpu_us": server,
                   "server_cpu_ratio": server / base.1, "observer_cpu_us": observer}),
        );
    }
    Ok(json!(rows))
}

/// What became of the bytes of the last run.
fn account(account: &Account) {
    let get =
        |pointer: &str| account.status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let [produced, delivered, lost, skipped] =
        ["produced", "delivered", "lost", "skipped"].map(|name| get(&format!("/counters/{name}/bytes")));
    println!(
        "    bytes: {produced} produced = {delivered} delivered + {lost} lost; {skipped} skipped by rule. \
         Peak memory {:.0} MiB. Exposure p50 {} ms, p99 {} ms, max {} ms",
        account.memory_mib,
        get("/exposure/p50_ms"),
        get("/exposure/p99_ms"),
        get("/exposure/max_ms")
    );
}

/// Median, least and most.
fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn compare(before: &serde_json::Value, now: &serde_json::Value) {
    for (load, variants) in now.as_object().into_iter().flatten() {
        let (old, new) =
            (&before[load]["custody"]["server_cpu_ratio"], &variants["custody"]["server_cpu_ratio"]);
        if let (Some(old), Some(new)) = (old.as_f64(), new.as_f64()) {
            println!("{load}: server CPU ratio under custody {old:.2} before, {new:.2} now");
        }
    }
}

fn subfolder(parent: &Path, name: &str) -> Result<std::path::PathBuf> {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
