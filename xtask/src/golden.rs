//! `cargo xtask golden`: compares what decoders and ledger say with their golden files; with `--bless` writes
//! them anew. Shows the difference either way, for a person to read.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Crates whose tests named `golden` compare with files, and what makes them write.
const GOLDENS: &[(&str, &str)] = &[("custody-decoders", "CUSTODY_BLESS"), ("custody-ledger", "BLESS")];
/// Those files, as git names them.
const FILES: &[&str] = &[":(glob)decoders/src/**/*.golden", "ledger/tests/golden", "ledger/tests/vectors"];

/// Whether to write.
#[derive(Args)]
pub(crate) struct Options {
    /// Write the files anew instead of comparing.
    #[arg(long)]
    bless: bool,
}

/// Compares or writes, then shows what differs from the last commit.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut wrong = Vec::new();
    for (package, bless) in GOLDENS {
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["test", "--quiet", "--package", package, "--lib", "golden"]);
        if options.bless {
            command.env(bless, "1");
        }
        if !command.status().context("cargo test")?.success() {
            wrong.push(*package);
        }
    }
    if !wrong.is_empty() {
        bail!("golden files of {} differ; `cargo xtask golden --bless` writes them", wrong.join(", "));
    }
    show_difference(root)
}

fn show_difference(root: &Path) -> Result<()> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(root).args(["--no-pager"]).args(arguments).arg("--").args(FILES);
        command
    };
    let new = git(&["ls-files", "--others", "--exclude-standard"]).output().context("git ls-files")?;
    let new = String::from_utf8_lossy(&new.stdout).into_owned();
    let same = git(&["diff", "--quiet"]).status().context("git diff")?.success();
    if same && new.is_empty() {
        println!("golden: as committed");
        return Ok(());
    }
    new.lines().for_each(|file| println!("golden: new file {file}"));
    git(&["diff"]).status().context("git diff")?;
    println!("golden: read the difference before you commit it");
    Ok(())
}
