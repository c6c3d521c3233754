//! `cargo xtask demo`: the whole product on this host, set up by the path that a user would take, with traffic
//! from real programs. It ends clean, whenever it is told to; nothing that it started outlives it.

mod traffic;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use custody_tests::process;
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::Stand;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{build_ebpf, setup, test};

/// Between two rounds of traffic, so that a person can read along.
const ROUND_PAUSE: Duration = Duration::from_millis(900);
/// How long the last lines may take from the sink to the terminal.
const TAIL_MOMENT: Duration = Duration::from_millis(500);
/// How long the tail may take to end.
const TAIL_PATIENCE: Duration = Duration::from_secs(10);

/// How to show it.
#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// End after this many rounds of traffic; without it, on Ctrl-C.
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Folder for programs, state and logs; emptied at the start. Other users must be able to enter it.
    #[arg(long, default_value = "/var/tmp/custody-demo", value_name = "DIR")]
    folder: PathBuf,
}

/// Shows it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("kernel probes need root: run `sudo -E env \"PATH=$PATH\" cargo xtask demo`");
    }
    setup::packages(&[setup::KERNEL_BUILD, setup::SERVERS], options.yes)?;
    setup::bpf_linker(options.yes)?;
    setup::account(custody_tests::stand::SINK_USER, "the sink runs as it and owns its store", options.yes)?;
    build_ebpf::run(root)?;
    test::build_release()?;
    let _only_one = empty(&options.folder)?;
    listen_for_the_end()?;
    let outcome = show(options);
    if process::interrupted() && outcome.is_err() {
        println!("\ninterrupted before it was complete: everything that was started has been ended");
        return Ok(());
    }
    outcome
}

fn show(options: &Options) -> Result<()> {
    step("custody-sink starts as its own user on loopback; this host is enrolled by a join token");
    let mut stand = Stand::new(&options.folder, "")?;
    step("custody-agent starts as root: probes, canary, first receipt");
    stand.start_agent()?;
    step("nginx (plain and TLS) and PostgreSQL start, each with a folder of its own");
    let nginx = Nginx::start(&subfolder(&options.folder, "nginx")?, &traffic::PAGES)?;
    let postgres = Postgres::start(&subfolder(&options.folder, "postgres")?)?;
    println!("\nWhat the programs of this host say to each other, decoded and masked (Ctrl-C ends it):\n");
    let tail = Tail::start(&stand)?;
    let made = make_traffic(&nginx, &postgres, options.rounds);
    if made.is_ok() && !process::interrupted() {
        stand.wait_records(&traffic::last_of(&nginx, options.rounds), 1)?;
    }
    // The tail has what the sink has a moment later.
    std::thread::sleep(TAIL_MOMENT);
    tail.stop()?;
    println!();
    step("servers and agent stop; the agent sends what it still holds");
    nginx.stop()?;
    postgres.stop()?;
    let figures = stand.status()?;
    stand.stop_agent()?;
    stand.stop_sink()?;
    let counters = &figures["counters"];
    step(&format!(
        "the kernel side offered {} events, {} of them were lost",
        counters["produced"]["events"], counters["lost"]["events"]
    ));
    step("custody verify: each signature, hash and link of the chain, from the sink's folder alone\n");
    print!("{}", stand.verify()?);
    println!("\nStore and logs stay in {} until the next demo.", options.folder.display());
    made
}

/// Rounds of traffic until the count is reached or somebody pressed Ctrl-C.
fn make_traffic(nginx: &Nginx, postgres: &Postgres, rounds: Option<u64>) -> Result<()> {
    let mut round = 0;
    while !process::interrupted() && rounds.is_none_or(|rounds| round < rounds) {
        round += 1;
        match traffic::round(nginx, postgres, round) {
            Err(error) if !process::interrupted() => return Err(error),
            _ => std::thread::sleep(ROUND_PAUSE),
        }
    }
    Ok(())
}

/// `custody tail` on this terminal.
struct Tail {
    child: Child,
}

impl Tail {
    fn start(stand: &Stand) -> Result<Tail> {
        let mut tail = Command::new("setpriv");
        tail.args(["--pdeathsig", "INT", "--"]).arg(stand.binary("custody")).args(["tail", "-n", "0"]);
        // A group of its own: Ctrl-C is for the demo, which ends the tail when the last lines have come.
        let child = stand.as_reader(&mut tail).process_group(0).stdin(Stdio::null()).spawn()?;
        Ok(Tail { child })
    }

    fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("custody tail ended by itself with {status}");
        }
        kill_process(Pid::from_raw(self.child.id() as i32).context("pid 0")?, Signal::INT)?;
        let end = Instant::now() + TAIL_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // On the way out of a failure; after `stop` there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first Ctrl-C ends every wait; a second one ends the demo on the spot, and the kernel its programs.
fn listen_for_the_end() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for _signal in signals.forever() {
            if process::interrupted() {
                std::process::exit(130);
            }
            process::interrupt();
        }
    });
    Ok(())
}

/// Empties the folder of an earlier demo, and holds it for as long as the returned file is open.
fn empty(folder: &Path) -> Result<std::fs::File> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = std::fs::File::open(folder)?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another demo runs in {}; give --folder for a second one", folder.display());
    }
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // Only what an earlier demo left: never somebody's data.
    if !entries.is_empty() && !folder.join("bin/custody-sink").exists() {
        bail!("{} holds something that is not a demo; give another --folder", folder.display());
    }
    for entry in entries {
        let removed =
            if entry.is_dir() { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) };
        removed.with_context(|| format!("cannot remove {}", entry.display()))?;
    }
    Ok(lock)
}

fn subfolder(parent: &Path, name: &str) -> Result<PathBuf> {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn step(text: &str) {
    println!("• {text}");
}
