//! `cargo xtask bench`: what an observed server pays, ours beside the peers, in paired and alternating runs.
//! It prints no ratio when anything was lost or fewer records were made than the load generator counts operations.
//! `--sizes` tells how large the product is instead.

mod sizes;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use custody_tests::process::{Running, eventually, output};
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{self, Stand};
use rustix::process::Signal;
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
    /// Only loads whose name holds this.
    load: Option<String>,
}

/// Who watches while the load runs.
const VARIANTS: &[&str] = &["bare", "custody", "tcpdump"];

/// Where the results of the last run lie, to compare with.
const RESULTS: &str = "target/bench/live.json";

const LOADS: [&str; 5] = ["pgbench-simple", "pgbench-prepared", "pgbench-tls", "wrk-plain", "wrk-tls"];
/// What the observer still works off belongs to its price; this long at most.
const WORKED_OFF: Duration = Duration::from_secs(30);

/// One run of a load under one variant.
struct Sample {
    operations_per_second: f64,
    server_cpu_us: f64,
    observer_cpu_us: f64,
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
            for variant in VARIANTS {
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

fn measure(
    load: &str,
    variant: &str,
    seconds: u64,
    stand: &mut Stand,
    (nginx, postgres): (&Nginx, &Postgres),
) -> Result<Sample> {
    let port = match load {
        "wrk-plain" => nginx.http_port,
        "wrk-tls" => nginx.https_port,
        _ => postgres.port,
    };
    let mut dump = None;
    match variant {
        "custody" => stand.start_agent()?,
        "tcpdump" => {
            let log = stand.folder.join("tcpdump.log");
            let filter = format!("port {port}");
            let command = ["tcpdump", "-i", "lo", "-B", "16384", "-w", "/dev/null", &filter];
            let mut running = Running::start("tcpdump", &command, None, &log, Signal::TERM)?;
            running.wait_ready(Duration::from_secs(10), || {
                std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
            })?;
            dump = Some(running);
        }
        _ => {}
    }
    let observers: Vec<u32> =
        stand.agent.iter().map(Running::pid).chain(dump.iter().map(Running::pid)).collect();
    let server = if load.starts_with("wrk") { nginx.pid() } else { postgres.pid() };
    let (server_before, observers_before) = (cpu_tree(server)?, cpu_all(&observers)?);
    let operations = generate(load, seconds, nginx, postgres)?;
    let server_cpu = cpu_tree(server)? - server_before;
    if variant == "custody" {
        eventually(WORKED_OFF, "a record of each operation", || {
            let counters = &stand.status()?["counters"];
            let count = |pointer: &str| counters.pointer(pointer).and_then(serde_json::Value::as_u64);
            let lost = count("/lost/events").context("status without counters.lost.events")?;
            if lost > 0 {
                bail!("{load}: {lost} events were lost at this load, so its ratio would be worth nothing");
            }
            Ok((count("/records").unwrap_or(0) as f64 >= operations).then_some(()))
        })?;
    }
    let observer_cpu = cpu_all(&observers)? - observers_before;
    if variant == "custody" {
        stand.stop_agent()?;
    }
    if let Some(dump) = dump {
        dump.stop(Duration::from_secs(10))?;
    }
    Ok(Sample {
        operations_per_second: operations / seconds as f64,
        server_cpu_us: server_cpu * 1e6 / operations,
        observer_cpu_us: observer_cpu * 1e6 / operations,
    })
}

/// Runs the load and tells how many operations were done.
fn generate(load: &str, seconds: u64, nginx: &Nginx, postgres: &Postgres) -> Result<f64> {
    if load.starts_with("wrk") {
        let (scheme, port) =
            if load == "wrk-tls" { ("https", nginx.https_port) } else { ("http", nginx.http_port) };
        let url = format!("{scheme}://localhost:{port}/echo");
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

/// CPU seconds of a process, its living children and those it has waited for.
fn cpu_tree(pid: u32) -> Result<f64> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut total = cpu(pid)?;
    for child in children.split_whitespace() {
        // A backend may end between the two looks; its time then stands with its parent.
        total += cpu(child.parse()?).unwrap_or(0.0);
    }
    Ok(total)
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
    for variant in VARIANTS {
        let Some(runs) = samples.get(variant) else { continue };
        let (rate, least, most) = median(runs, |s| s.operations_per_second);
        let (server, ..) = median(runs, |s| s.server_cpu_us);
        let (observer, ..) = median(runs, |s| s.observer_cpu_us);
        println!(
            "  {variant:16} {rate:8.0} ({least:.0}–{most:.0})   {:6.2}   {server:10.1}      {:6.2}   {observer:8.2}",
            rate / base.0,
            server / base.1
        );
        rows.insert(
            *variant,
            json!({"throughput": rate, "throughput_ratio": rate / base.0, "server_cpu_us": server,
                   "server_cpu_ratio": server / base.1, "observer_cpu_us": observer}),
        );
    }
    Ok(json!(rows))
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
