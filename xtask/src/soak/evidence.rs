//! `cargo xtask soak evidence`: simulated hosts and a real sink under faults (`sink/tests/soak`), and where its result lies.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use custody_tests::process::output;
use serde_json::Value;

use crate::{setup, test};

/// For how long, and of how many.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask soak evidence                               20 hosts, one hour
  cargo xtask soak evidence --seconds 60 --hosts 5        a trial
  cargo xtask soak evidence --seed 7                      the faults of another run again

The result goes to target/bench/soak-evidence.json.")]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Seconds of faults.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Hosts, each a process.
    #[arg(long, default_value_t = 20)]
    hosts: u64,
    /// What is done follows from it; the time without it.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the test in its long form; it fails where anything is not as it must be.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    setup::packages(&[setup::TESTS], options.yes)?;
    test::build_release()?;
    let result = root.join("target/bench/soak-evidence.json");
    std::fs::create_dir_all(root.join("target/bench"))?;
    let mut cargo = setup::cargo();
    cargo.args(["test", "-p", "custody-sink", "--test", "soak", "nothing_promised", "--", "--nocapture"]);
    cargo.current_dir(root).env("CUSTODY_SOAK_RESULT", &result);
    cargo.env("CUSTODY_SOAK_SECONDS", options.seconds.to_string());
    cargo.env("CUSTODY_SOAK_HOSTS", options.hosts.to_string());
    if let Some(seed) = options.seed {
        cargo.env("CUSTODY_SEED", seed.to_string());
    }
    // One that is there of before is no result of this run.
    if result.exists() {
        std::fs::remove_file(&result)?;
    }
    let ran = setup::run(&mut cargo);
    if let Ok(text) = std::fs::read_to_string(&result) {
        let mut kept: Value = serde_json::from_str(&text).context("the result")?;
        let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root))?;
        kept["commit"] = commit.trim().into();
        std::fs::write(&result, serde_json::to_string_pretty(&kept)?)?;
        println!("the result lies in {}", result.display());
    }
    ran
}
