//! What an observed server pays, ours beside the peers: real servers under load, over loopback.
//! A row of ours is refused when anything was lost, or when fewer records were made than the load generator counts
//! operations.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use custody_tests::process::{Running, cpu_ticks, eventually, free_port, memory_mib, output};
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{self, Stand};
use rustix::process::Signal;

use super::results::{Better, Column, Results};
use super::{Common, peers};
use crate::{build_ebpf, load, setup, test};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of load in each run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only tcpdump as a peer, not the slow ones.
    #[arg(long)]
    quick: bool,
    /// Only loads whose name holds this.
    load: Option<String>,
}

/// A load with a rate in its name offers that many operations per second; the others as many as the server takes.
const LOADS: [&str; 9] = [
    "pgbench-simple",
    "pgbench-prepared",
    "pgbench-tls",
    "http-20000",
    "http-saturated",
    "https-2000",
    "https-saturated",
    "redis",
    "redis-pipelined",
];
/// Until a server answers.
const READY: Duration = Duration::from_secs(20);
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

const COLUMNS: [Column; 6] = [
    Column { name: "throughput", unit: "1/s", better: Better::None },
    Column { name: "throughput_ratio", unit: "to bare", better: Better::Higher },
    Column { name: "server_cpu", unit: "µs/op", better: Better::None },
    Column { name: "server_cpu_ratio", unit: "to bare", better: Better::Lower },
    Column { name: "observer_cpu", unit: "µs/op", better: Better::Lower },
    Column { name: "observer_memory", unit: "MiB", better: Better::Lower },
];

/// Servers that the loads go to.
struct Servers {
    nginx: Nginx,
    postgres: Postgres,
    redis: Running,
    redis_port: u16,
}

/// Runs all loads.
pub(super) fn run(root: &Path, options: &Options, common: &Common) -> Result<()> {
    setup::bpf_linker(common.yes)?;
    build_ebpf::run(root)?;
    test::build_release()?;
    setup::account(stand::SINK_USER, "the sink runs as it and owns its store", common.yes)?;
    let (folder, work) = (stand::folder()?, stand::folder()?);
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = Servers::start(work.path())?;
    let mut results = Results::new("live", &COLUMNS);
    for load in LOADS {
        if options.load.as_deref().is_some_and(|wanted| !load.contains(wanted)) {
            continue;
        }
        let row = |variant: &str| format!("{load} {variant}");
        for round in 0..common.rounds {
            for variant in variants(options.quick) {
                eprintln!("{load}: round {} of {}, {variant}", round + 1, common.rounds);
                let sample = measure(load, variant, options.seconds, &mut stand, &servers)?;
                let memory = sample.account.as_ref().map_or(f64::NAN, |account| account.memory_mib);
                let cpu = (sample.server_cpu_us, sample.observer_cpu_us);
                let figures = [sample.operations_per_second, f64::NAN, cpu.0, f64::NAN, cpu.1, memory];
                results.sample(&row(variant), &figures);
                if let Some(account) = sample.account {
                    account.tell();
                    if account.lost > 0.0 {
                        let lost = format!("{:.1} % of its events were lost", account.lost * 100.0);
                        results.refuse(&row(variant), lost);
                    }
                }
            }
        }
        for (of, ratio) in [(0, 1), (2, 3)] {
            results.ratio(ratio, of, &row("bare"), |name| name.split(' ').next() == Some(load));
        }
    }
    results.tell(root, common)
}

impl Servers {
    fn start(folder: &Path) -> Result<Self> {
        let nginx = Nginx::start(&subfolder(folder, "nginx")?, &[])?;
        let postgres = Postgres::start(&subfolder(folder, "postgres")?)?;
        output(postgres.program("pgbench", false).args(["-i", "-q", "-s", "1"]))?;
        let redis_port = free_port()?;
        let words = ["redis-server", "--port", &redis_port.to_string(), "--save", "", "--bind", "127.0.0.1"];
        let mut redis = Running::start("redis", &words, None, &folder.join("redis.log"), Signal::TERM)?;
        redis.wait_ready(READY, || TcpStream::connect(("127.0.0.1", redis_port)).is_ok())?;
        Ok(Servers { nginx, postgres, redis, redis_port })
    }
}

/// Who watches while the load runs.
fn variants(quick: bool) -> impl Iterator<Item = &'static str> {
    let peers = if quick { &peers::PEERS[..1] } else { peers::PEERS };
    ["bare", "custody"].into_iter().chain(peers.iter().map(|peer| peer.name))
}

fn measure(load: &str, variant: &str, seconds: u64, stand: &mut Stand, servers: &Servers) -> Result<Sample> {
    let Servers { nginx, postgres, redis, redis_port } = servers;
    let (port, server, program) = match load {
        load if load.starts_with("https") => (nginx.https_port, nginx.pid(), "nginx"),
        load if load.starts_with("http") => (nginx.http_port, nginx.pid(), "nginx"),
        load if load.starts_with("redis") => (*redis_port, redis.pid(), "redis-server"),
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
    let operations = generate(load, seconds, servers)?;
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
            memory_mib: pids.into_iter().map(|pid| memory_mib(pid, "VmHWM")).sum(),
            lost,
            status,
        }))
    })
}

/// Runs the load and tells how many operations were done.
fn generate(load: &str, seconds: u64, servers: &Servers) -> Result<f64> {
    let Servers { nginx, postgres, redis_port, .. } = servers;
    let done = if load.starts_with("redis") {
        let pipeline = if load == "redis-pipelined" { 16 } else { 1 };
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut done = 0;
        while Instant::now() < end {
            done += load::redis(*redis_port, pipeline, 50_000)?;
        }
        done
    } else if load.starts_with("http") {
        let url = if load.starts_with("https") { nginx.https("echo") } else { nginx.http("echo") };
        match load.split('-').nth(1).and_then(|rate| rate.parse().ok()) {
            Some(rate) => load::http(rate, seconds, &[url])?,
            None => load::http_saturated(seconds, &url)?,
        }
    } else {
        let mode = if load == "pgbench-prepared" { "prepared" } else { "simple" };
        load::pgbench(postgres, load == "pgbench-tls", mode, None, seconds)?
    };
    Ok(done as f64)
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
    // utime, stime, cutime, cstime.
    Ok(cpu_ticks(pid, 11..15)? as f64 / 100.0)
}

impl Account {
    /// What became of the bytes.
    fn tell(&self) {
        let get =
            |pointer: &str| self.status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let [produced, delivered, lost, skipped] =
            ["produced", "delivered", "lost", "skipped"].map(|name| get(&format!("/counters/{name}/bytes")));
        eprintln!(
            "  bytes: {produced} produced = {delivered} delivered + {lost} lost; {skipped} skipped by rule. \
             Exposure p50 {} ms, p99 {} ms, max {} ms",
            get("/exposure/p50_ms"),
            get("/exposure/p99_ms"),
            get("/exposure/max_ms")
        );
    }
}

fn subfolder(parent: &Path, name: &str) -> Result<std::path::PathBuf> {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
