//! `cargo xtask`: what a developer types. One module per verb; this file only dispatches.

mod build_ebpf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::Path;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures Custody")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds the kernel side into target/bpf/custody.o
    BuildEbpf,
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    match Arguments::parse().verb {
        Verb::BuildEbpf => build_ebpf::run(root).map(drop),
    }
}
