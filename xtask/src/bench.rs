//! `cargo xtask bench`: what Custody costs, beside others where others do the same, in paired and alternating rounds.
//! No ratio is told of a run that lost something or told another number of exchanges than the load: it says so
//! instead. Figures are kept, and compared with those of the run before.

mod decode;
mod live;
mod peers;
mod printed;
mod results;
mod ring;
mod sink;
mod sizes;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{setup, test};

/// What to measure.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask bench decode                 capture files: custody decode, tshark, tcpdump
  cargo xtask bench live pgbench --quick   PostgreSQL under watch, with tcpdump as the only peer
  cargo xtask bench chain --rounds 9 --compare target/bench/chain.json

Figures go to target/bench/NAME.json: machine, kernel, commit, time, and for each row and figure its median, least,
most, unit and which direction is better. A figure that is more than 10 % worse than before is marked with '!'.")]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    all: Common,
}

/// What all of them take.
#[derive(Args)]
pub(crate) struct Common {
    /// Install what is missing without asking.
    #[arg(long, short, global = true)]
    yes: bool,
    /// Rounds of each variant; medians are told, with least and most.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Figures to compare with, instead of those of the run before.
    #[arg(long, global = true, value_name = "FILE")]
    compare: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Capture files into lines: user CPU, speed and memory, beside tshark and tcpdump
    Decode,
    /// What an observed server pays, beside tcpdump, bpftrace and strace
    Live(live::Options),
    /// What a captured call costs, and how many events a second the kernel's ring carries
    Ring,
    /// What masking costs, by kind of value
    Mask,
    /// Entries hashed, chained, signed and spooled, beside plain SHA-256 of the same bytes
    Chain,
    /// What a sink carries from simulated hosts, when its receipts come, and how fast its store is verified
    Sink,
    /// How large the product is: files, functions, binaries, dependencies
    Sizes,
}

/// Measures one of them.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    setup::packages(&[setup::KERNEL_BUILD, setup::SERVERS, setup::TESTS, setup::BENCH], options.all.yes)?;
    match &options.what {
        What::Decode => decode::run(root, &options.all),
        What::Live(live) => live::run(root, live, &options.all),
        What::Ring => ring::run(root, &options.all),
        What::Mask => printed::run(root, &options.all, "custody-decoders", "mask"),
        What::Chain => printed::run(root, &options.all, "custody-agent", "chain"),
        What::Sink => sink::run(root, &options.all),
        What::Sizes => {
            test::build_release()?;
            sizes::run(root)
        }
    }
}
