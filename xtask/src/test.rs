//! `cargo xtask test`: set-up, kernel object, rules, unit and end-to-end tests, fuzz targets, other
//! kernels.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::{build_ebpf, check, fuzz, setup, vm};

/// How to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only tests whose name holds this.
    filter: Option<String>,
}

/// For each fuzz target.
const FUZZ_SECONDS: u64 = 10;

/// Tests everything that this machine can.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    setup::packages(&[setup::KERNEL_BUILD, setup::SERVERS, setup::TESTS], options.yes)?;
    setup::bpf_linker(options.yes)?;
    build_ebpf::run(root)?;
    if options.filter.is_none() {
        check::run()?;
    }
    build_release()?;
    let mut tests = if setup::which("cargo-nextest").is_some() {
        let mut command = setup::cargo();
        command.args(["nextest", "run", "--workspace", "--exclude", "custody-fuzz", "--no-fail-fast"]);
        command
    } else {
        let mut command = setup::cargo();
        command.args(["test", "--workspace", "--exclude", "custody-fuzz", "--no-fail-fast"]);
        command.args(["--lib", "--bins", "--tests"]);
        // Tests that load probes see the whole host, so one at a time; nextest knows which those are.
        command.env("RUST_TEST_THREADS", "1");
        command
    };
    setup::run(tests.args(options.filter.as_deref()))?;
    if options.filter.is_none() {
        setup::run(setup::cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
        fuzz::run(root, &fuzz::Options::all(FUZZ_SECONDS))?;
        vm::run(root, &vm::Options::all(options.yes))?;
    }
    Ok(())
}

/// Builds the three programs as users run them.
pub(crate) fn build_release() -> Result<()> {
    setup::run(setup::cargo().args([
        "build",
        "--release",
        "-p",
        "custody-agent",
        "-p",
        "custody-sink",
        "-p",
        "custody",
    ]))
}
