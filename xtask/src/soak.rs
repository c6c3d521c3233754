//! `cargo xtask soak`: hours of mixed load on real servers under watch. What the load generators and servers counted
//! must stand in the sink's store, each once; nothing may be lost; memory must not grow with time. `evidence` is another
//! one: many hosts without load, and everything goes wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use custody_tests::process::{Running, memory_mib, output};
use custody_tests::redis::Redis;
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{self, Stand, field};
use serde_json::{Value, json};

use crate::{build_ebpf, load, setup, test};

mod evidence;

/// For how long.
#[derive(Args)]
#[command(
    after_help = "Examples:
  cargo xtask soak                  two hours
  cargo xtask soak --seconds 300    a trial
  cargo xtask soak evidence         one hour of 20 simulated hosts and a sink under faults

Samples go to target/bench/soak.json.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Seconds of load.
    #[arg(long, default_value_t = 7200)]
    seconds: u64,
}

/// Another soak.
#[derive(Subcommand)]
enum What {
    /// Simulated hosts and a real sink under faults: nothing promised is missing, nothing is invented.
    Evidence(evidence::Options),
}

/// One turn of all loads side by side; each turn makes its connections anew.
const TURN_SECONDS: u64 = 10;
/// What each load offers per second.
const HTTP_RATE: u64 = 200;
const HTTPS_RATE: u64 = 100;
const POSTGRES_RATE: u64 = 60;
/// Commands of each kind of load on Redis in a turn.
const REDIS_COUNT: u64 = 1_000;
/// Of the page that half of the requests over HTTP ask for.
const PAGE_BYTES: usize = 20_000;
/// Memory may end so much above that of the second quarter, as a share of it and in MiB, the greater of both. The first
/// quarter fills what is bounded.
const GROWTH: f64 = 0.10;
const GROWTH_MIB: f64 = 8.0;
/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Operations by what is watched: of the generators and servers, or of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    http: u64,
    postgres: u64,
    redis: u64,
}

/// The servers under load.
struct Servers {
    nginx: Nginx,
    postgres: Postgres,
    redis: Redis,
}

/// Loads, waits, compares.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if let Some(What::Evidence(options)) = &options.what {
        return evidence::run(root, options);
    }
    setup::packages(&[setup::KERNEL_BUILD, setup::SERVERS, setup::TESTS, setup::BENCH], options.yes)?;
    setup::bpf_linker(options.yes)?;
    build_ebpf::run(root)?;
    test::build_release()?;
    setup::account(stand::SINK_USER, "the sink runs as it and owns its store", options.yes)?;
    let (folder, work) = (stand::folder()?, stand::folder()?);
    let servers = Servers::start(work.path())?;
    let Servers { nginx, postgres, redis } = &servers;
    // Only these: a developer's machine says other things in two hours, of which nobody knows the count.
    let programs =
        [nginx.pid(), postgres.pid(), redis.pid()].map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")));
    let programs: Vec<_> = programs.into_iter().collect::<std::io::Result<_>>()?;
    let mut stand = Stand::new(folder.path(), &format!("[capture.include]\nexecutables = {programs:?}"))?;
    stand.start_agent()?;

    let mut offered = Counts::default();
    let mut samples = Vec::new();
    let (start, mut told) = (Instant::now(), Instant::now());
    while start.elapsed().as_secs() < options.seconds {
        let turn = servers.turn()?;
        offered.http += turn.http;
        offered.postgres += turn.postgres;
        samples.push(Sample::take(&stand, start)?);
        if let (Some(sample), true) = (samples.last(), told.elapsed() > TOLD_EVERY || samples.len() == 1) {
            told = Instant::now();
            eprintln!("{}", sample.line(&offered));
        }
    }
    offered.redis = redis.calls("get")?;
    let status = stand.status()?;
    stand.stop_agent()?;
    stand.stop_sink()?;
    let verdict = stand.verify()?;
    let recorded = recorded(&stand, &servers)?;
    keep(root, &samples, &offered, &recorded, &status)?;

    println!("            offered   recorded");
    for (name, offered, recorded) in [
        ("http", offered.http, recorded.http),
        ("postgresql", offered.postgres, recorded.postgres),
        ("redis", offered.redis, recorded.redis),
    ] {
        println!("{name:10} {offered:8}   {recorded:8}");
    }
    let faults = faults(&offered, &recorded, &status, &samples);
    println!("{}", verdict.lines().last().unwrap_or_default());
    ensure!(faults.is_empty(), "the soak failed:\n  {}", faults.join("\n  "));
    println!("{} s: nothing lost, nothing told twice, memory flat", start.elapsed().as_secs());
    Ok(())
}

impl Servers {
    fn start(folder: &Path) -> Result<Self> {
        let place = |name: &str| -> Result<std::path::PathBuf> {
            let place = folder.join(name);
            std::fs::create_dir(&place)?;
            Ok(place)
        };
        let page = "0123456789abcdef".repeat(PAGE_BYTES / 16);
        let nginx = Nginx::start(&place("nginx")?, &[("page", &page)])?;
        let postgres = Postgres::start(&place("postgres")?)?;
        output(postgres.program("pgbench", false).args(["-i", "-q", "-s", "1"]))?;
        let redis = Redis::start(&place("redis")?)?;
        Ok(Servers { nginx, postgres, redis })
    }

    /// All loads once, side by side; Redis counts its commands itself.
    fn turn(&self) -> Result<Counts> {
        let Servers { nginx, postgres, redis } = self;
        let (plain, tls) =
            ([nginx.http("echo"), nginx.http("page")], [nginx.https("echo"), nginx.https("page")]);
        thread::scope(|scope| {
            let loads = [
                scope.spawn(|| load::http(HTTP_RATE, TURN_SECONDS, &plain)),
                scope.spawn(|| load::http(HTTPS_RATE, TURN_SECONDS, &tls)),
                scope.spawn(|| load::pgbench(postgres, false, "simple", Some(POSTGRES_RATE), TURN_SECONDS)),
                scope.spawn(|| load::pgbench(postgres, true, "extended", Some(POSTGRES_RATE), TURN_SECONDS)),
                scope.spawn(|| load::redis(redis.port, 1, REDIS_COUNT)),
                scope.spawn(|| load::redis(redis.port, 16, REDIS_COUNT)),
            ];
            let done = loads.map(|load| load.join().map_err(|_| anyhow!("a load panicked"))?);
            let [http, https, simple, extended, single, pipelined] = done;
            single?;
            pipelined?;
            Ok(Counts { http: http? + https?, postgres: simple? + extended?, redis: 0 })
        })
    }
}

/// What the programs hold at one moment.
struct Sample {
    second: u64,
    /// Resident memory of agent, worker and sink, MiB.
    memory: [f64; 3],
    lost_events: u64,
    exposure_p99_ms: u64,
}

const PROGRAMS: [&str; 3] = ["agent", "worker", "sink"];

impl Sample {
    fn take(stand: &Stand, start: Instant) -> Result<Self> {
        let status = stand.status()?;
        let count = |pointer: &str| {
            status
                .pointer(pointer)
                .and_then(Value::as_u64)
                .with_context(|| format!("status without {pointer}"))
        };
        let pid = |running: &Option<Running>| running.as_ref().map_or(0, Running::pid);
        let worker = u32::try_from(count("/worker/pid")?)?;
        Ok(Sample {
            second: start.elapsed().as_secs(),
            memory: [pid(&stand.agent), worker, pid(&stand.sink)].map(|pid| memory_mib(pid, "VmRSS")),
            lost_events: count("/counters/lost/events")?,
            exposure_p99_ms: count("/exposure/p99_ms")?,
        })
    }

    fn line(&self, offered: &Counts) -> String {
        let Sample { second, memory: [agent, worker, sink], lost_events, exposure_p99_ms } = self;
        format!(
            "{second:6} s   {} http   {} postgresql   lost {lost_events}   exposure p99 {exposure_p99_ms} ms   \
             memory: agent {agent:.0} MiB, worker {worker:.0}, sink {sink:.0}",
            offered.http, offered.postgres
        )
    }
}

/// Operations in the sink's store, by their beginnings: each is told whole, or opened, once.
fn recorded(stand: &Stand, servers: &Servers) -> Result<Counts> {
    let Servers { nginx, postgres, redis } = servers;
    let store = stand.folder.join("sink");
    let mut tail = stand.program("custody");
    tail.args(["tail", "-o", "json", "--from"]).arg(&store).stdout(Stdio::piped());
    tail.args(["--where", "type = \"exchange\" or type = \"exchange.open\""]);
    let mut tail = tail.spawn().context("custody tail")?;
    let mut counts = Counts::default();
    for line in BufReader::new(tail.stdout.take().context("no output")?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        // The servers' programs may serve others meanwhile: the port says whose it is.
        let port = field(&line, "server.port").as_u64().and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        if [nginx.http_port, nginx.https_port].contains(&port) {
            counts.http += u64::from(field(&line, "http.request.method") == "GET");
        } else if port == redis.port {
            counts.redis += u64::from(field(&line, "db.operation.name") == "GET");
        } else if port == postgres.port {
            let text = field(&line, "db.query.text").as_str();
            counts.postgres += u64::from(text.is_some_and(|text| text.starts_with("SELECT abalance")));
        }
    }
    let status = tail.wait()?;
    ensure!(status.success(), "custody tail ended with {status}");
    Ok(counts)
}

/// What is not as it must be.
fn faults(offered: &Counts, recorded: &Counts, status: &Value, samples: &[Sample]) -> Vec<String> {
    let mut faults = Vec::new();
    if offered != recorded {
        faults.push(format!("offered {offered:?}, recorded {recorded:?}"));
    }
    for pointer in
        ["/counters/lost/events", "/counters/lost/bytes", "/counters/records_dropped", "/worker/restarts"]
    {
        match status.pointer(pointer).and_then(Value::as_u64) {
            Some(0) => {}
            found => faults.push(format!("{pointer} of status is {found:?}")),
        }
    }
    for (index, program) in PROGRAMS.iter().enumerate() {
        let memory: Vec<f64> = samples.iter().map(|sample| sample.memory[index]).collect();
        let (before, after) = (median(quarter(&memory, 1)), median(quarter(&memory, 3)));
        println!("{program:10} {before:8.1} MiB in the second quarter, {after:.1} in the last");
        if after > before + (before * GROWTH).max(GROWTH_MIB) {
            faults.push(format!("memory of the {program} grew from {before:.1} to {after:.1} MiB"));
        }
    }
    faults
}

fn quarter(samples: &[f64], number: usize) -> &[f64] {
    let end = samples.len() * (number + 1) / 4;
    samples.get(samples.len() * number / 4..end).unwrap_or_default()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn keep(root: &Path, samples: &[Sample], offered: &Counts, recorded: &Counts, status: &Value) -> Result<()> {
    let samples: Vec<Value> = samples
        .iter()
        .map(|sample| json!([sample.second, sample.memory, sample.lost_events, sample.exposure_p99_ms]))
        .collect();
    let counts =
        |counts: &Counts| json!({"http": counts.http, "postgresql": counts.postgres, "redis": counts.redis});
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root))?;
    let kept = json!({
        "commit": commit.trim(),
        "offered": counts(offered),
        "recorded": counts(recorded),
        "samples_are": ["second", PROGRAMS.map(|name| format!("{name} MiB")), "lost events", "exposure p99 ms"],
        "samples": samples,
        "status": status,
    });
    std::fs::create_dir_all(root.join("target/bench"))?;
    Ok(std::fs::write(root.join("target/bench/soak.json"), serde_json::to_string_pretty(&kept)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(memory: f64) -> Sample {
        Sample { second: 0, memory: [memory, 10.0, 10.0], lost_events: 0, exposure_p99_ms: 0 }
    }

    fn status() -> Value {
        json!({"counters": {"lost": {"events": 0, "bytes": 0}, "records_dropped": 0}, "worker": {"restarts": 0}})
    }

    #[test]
    fn memory_that_grows_is_a_fault_and_memory_that_fills_up_first_is_none() {
        let counts = Counts::default();
        let fills: Vec<Sample> = (0..40).map(|turn| sample(50.0 + f64::from(turn).min(9.0) * 10.0)).collect();
        assert!(faults(&counts, &counts, &status(), &fills).is_empty());
        let grows: Vec<Sample> = (0..40).map(|turn| sample(50.0 + f64::from(turn))).collect();
        assert_eq!(faults(&counts, &counts, &status(), &grows).len(), 1);
    }

    #[test]
    fn what_is_missing_or_told_twice_or_counted_as_lost_is_a_fault() {
        let steady: Vec<Sample> = (0..4).map(|_| sample(50.0)).collect();
        let (five, six) = (Counts { http: 5, ..Counts::default() }, Counts { http: 6, ..Counts::default() });
        assert_eq!(faults(&six, &five, &status(), &steady).len(), 1);
        assert_eq!(faults(&five, &six, &status(), &steady).len(), 1);
        let mut lost = status();
        lost["counters"]["lost"]["events"] = json!(1);
        assert_eq!(faults(&five, &five, &lost, &steady).len(), 1);
        assert_eq!(
            faults(&five, &five, &json!({}), &steady).len(),
            4,
            "a status that does not say is no proof"
        );
    }
}
