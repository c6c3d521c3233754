//! `cargo xtask`: what a developer types. One module per verb; this file only dispatches.

mod bench;
mod build_ebpf;
mod check;
mod demo;
mod fuzz;
mod golden;
mod load;
mod new_decoder;
mod setup;
mod soak;
mod test;
mod vm;

use anyhow::{Context, Result};
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures Custody")]
enum Verb {
    /// Shows the whole product on this host: sink, agent, real traffic, tail, verify
    Demo(demo::Options),
    /// Measures what an observed server pays, beside the peers; or the sizes
    Bench(bench::Options),
    /// Builds the kernel side into target/bpf/custody.o
    BuildEbpf,
    /// Tests everything that can be tested on this machine, set-up included
    Test(test::Options),
    /// Runs the fuzz targets, and the canary that must fail
    Fuzz(fuzz::Options),
    /// Hours of mixed load: nothing may be lost or told twice, and memory must stay flat
    Soak(soak::Options),
    /// Tests the probes on other kernels, in virtual machines
    Vm(vm::Options),
    /// Compares golden files with what decoders and ledger say now, or writes them anew
    Golden(golden::Options),
    /// Makes the folder of a protocol that compiles, is registered and runs the harness
    NewDecoder(new_decoder::Options),
    /// Checks the rules of the house: who imports whom, file headers, formatting, lints
    Check,
}

fn main() -> Result<()> {
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    match Verb::parse() {
        Verb::Demo(options) => demo::run(root, &options),
        Verb::Bench(options) => bench::run(root, &options),
        Verb::BuildEbpf => build_ebpf::run(root).map(drop),
        Verb::Test(options) => test::run(root, &options),
        Verb::Fuzz(options) => fuzz::run(root, &options),
        Verb::Soak(options) => soak::run(root, &options),
        Verb::Vm(options) => vm::run(root, &options),
        Verb::Golden(options) => golden::run(root, &options),
        Verb::NewDecoder(options) => new_decoder::run(root, &options),
        Verb::Check => check::run(),
    }
}
