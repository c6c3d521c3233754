//! `cargo xtask fuzz`: each fuzz target for some seconds, from the seeds, and the canary, which must fail. What an
//! input breaks is kept, and printed with the command that repeats it.
//!
//! The targets are those of `fuzz/Cargo.toml`. They are built by the stable compiler with the dependencies of the
//! release build as they are: our own packages alone are instrumented (`fuzz/instrument`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::setup;

/// What to fuzz.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                          all targets, ten seconds each
  cargo xtask fuzz postgres --seconds 3600  one of them for an hour
  cargo xtask fuzz --list                   their names")]
pub(crate) struct Options {
    /// Targets; none stands for all.
    targets: Vec<String>,
    /// For so long each.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Only tell the names of the targets.
    #[arg(long)]
    list: bool,
}

impl Options {
    /// As CI does it.
    pub(crate) fn all(seconds: u64) -> Self {
        Options { targets: Vec::new(), seconds, list: false }
    }
}

/// The target with a bug in it.
const CANARY: &str = "canary";
/// Ten seconds are plenty for it, however short the others run.
const CANARY_SECONDS: u64 = 20;
/// What one input may take, seconds and MiB: beyond it is a finding.
const LIMITS: [&str; 2] = ["-timeout=5", "-rss_limit_mb=2048"];

/// Builds and runs.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let known = targets(&std::fs::read_to_string(root.join("fuzz/Cargo.toml"))?);
    if options.list {
        known.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("no target is called {unknown}; there are {}", known.join(", "));
    }
    let wanted = |target: &&String| options.targets.is_empty() || options.targets.contains(target);
    let wanted: Vec<&String> = known.iter().filter(wanted).collect();
    let folder = root.join("target/fuzz");
    eprintln!("fuzz: seeds from the decoders' fixtures, the ledger's goldens and its vectors");
    seeds(root, &folder.join("seeds"))?;
    eprintln!("fuzz: builds {} targets", wanted.len());
    build(root, &wanted)?;
    let mut failed = Vec::new();
    for target in wanted {
        let outcome = fuzz(root, &folder, target, options.seconds)?;
        println!("{target:10} {}", outcome.told());
        match (target.as_str(), outcome.finding) {
            (CANARY, Some(_)) => println!("{:10} as it must: the lane can fail", ""),
            (CANARY, None) => failed.push("the canary was not found: nothing here could be".to_owned()),
            (_, None) => {}
            (target, Some(input)) => failed.push(format!(
                "{target}: {}\n    repeat it: target/release/{target} {}",
                outcome.why,
                input.display()
            )),
        }
    }
    ensure!(failed.is_empty(), "{} targets failed:\n  {}", failed.len(), failed.join("\n  "));
    Ok(())
}

/// The names of the binaries of a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let binaries = manifest.split("[[bin]]").skip(1);
    let name = |binary: &str| Some(binary.split_once("name = \"")?.1.split_once('"')?.0.to_owned());
    binaries.filter_map(name).collect()
}

/// A folder of seeds for each target: those that are kept, those of the decoders' cases, and the ledger's goldens and vectors.
fn seeds(root: &Path, folder: &Path) -> Result<()> {
    let mut tests = setup::cargo();
    tests.args(["test", "--quiet", "-p", "custody-decoders", "--lib", "fuzz_seeds"]);
    setup::run(tests.env("CUSTODY_FUZZ_SEEDS", folder).env("CUSTODY_FUZZ_COUNT", "0").stdout(Stdio::null()))?;
    for target in ["bundle", "chain", "messages"] {
        std::fs::create_dir_all(folder.join(target))?;
    }
    for vector in std::fs::read_dir(root.join("ledger/tests/vectors/bundle"))? {
        let vector = vector?;
        std::fs::copy(vector.path(), folder.join("bundle").join(vector.file_name()))?;
    }
    for golden in std::fs::read_dir(root.join("ledger/tests/golden"))? {
        let path = golden?.path();
        let bytes = unhex(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        let name = path.file_stem().context("a golden has a name")?;
        std::fs::write(folder.join("messages").join(name), &bytes)?;
        // Of the chain, a byte says what follows: frames to sign (with their lengths), or a segment file.
        let length = u32::try_from(bytes.len())?.to_be_bytes();
        let chain = match name.to_str() {
            Some("segment") => [&[2], bytes.as_slice()].concat(),
            Some("frame") => [&[1], &length[..], bytes.as_slice()].concat(),
            // No signature stands behind a golden header: any will do, it is signed anew.
            Some("batch-header-opening") => {
                let framed = u32::try_from(bytes.len() + 4 + 64)?.to_be_bytes();
                [&[1], &framed[..], &length[..], bytes.as_slice(), &[0; 64][..]].concat()
            }
            _ => continue,
        };
        std::fs::write(folder.join("chain").join(name), chain)?;
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.chunks(2).map(byte).collect()
}

fn build(root: &Path, targets: &[&String]) -> Result<()> {
    let mut cargo = setup::cargo();
    cargo.args(["build", "--release", "--quiet", "-p", "custody-fuzz"]);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    setup::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", root.join("fuzz/instrument")))
}

/// What came of a run.
struct Outcome {
    /// Inputs tried, and how many a second.
    tried: u64,
    per_second: u64,
    /// Branches that some input took.
    covered: u64,
    /// The input that broke it.
    finding: Option<PathBuf>,
    /// What it said.
    why: String,
}

impl Outcome {
    fn told(&self) -> String {
        let found = if self.finding.is_some() { &self.why } else { "nothing found" };
        format!("{:>9} inputs, {:>6}/s, {:>6} branches: {found}", self.tried, self.per_second, self.covered)
    }
}

fn fuzz(root: &Path, folder: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let (corpus, findings) = (folder.join("corpus").join(target), folder.join("findings").join(target));
    let kept = root.join("fuzz/seeds").join(target);
    let made = folder.join("seeds").join(target);
    for folder in [&corpus, &findings, &made] {
        std::fs::create_dir_all(folder)?;
    }
    let seconds = if target == CANARY { CANARY_SECONDS } else { seconds };
    let mut fuzzer = Command::new(root.join("target/release").join(target));
    fuzzer.args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", findings.display())]);
    fuzzer.args(LIMITS).args(["-print_final_stats=1", "-max_len=16384", "-use_value_profile=1"]);
    fuzzer.arg(&corpus).args([kept, made].iter().filter(|folder| folder.is_dir()));
    let output = fuzzer.stdin(Stdio::null()).output().with_context(|| format!("cannot start {target}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let finding =
        text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    if finding.is_none() && !output.status.success() {
        bail!("{target} ended with {}:\n{text}", output.status);
    }
    let number = |name: &str| {
        let line = text.lines().rev().find_map(|line| line.split_once(name));
        line.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(Outcome {
        tried: number("number_of_executed_units:"),
        per_second: number("average_exec_per_sec:"),
        covered: number(" cov: "),
        finding: finding.map(|path| PathBuf::from(path.trim())),
        why: why(&text),
    })
}

/// The line that says what went wrong: that of a panic, or the fuzzer's own.
fn why(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let said = panic.and_then(|at| lines.get(at + 1)).copied();
    let own = || lines.iter().find_map(|line| line.split_once("ERROR: libFuzzer: ")).map(|(_, why)| why);
    said.or_else(own).unwrap_or("it ended without a word").trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_are_the_binaries_of_the_manifest() {
        let manifest =
            "[package]\nname = \"x\"\n\n[[bin]]\nname = \"one\"\npath = \"a\"\n[[bin]]\nname = \"two\"\n";
        assert_eq!(super::targets(manifest), ["one", "two"]);
    }

    #[test]
    fn a_finding_is_told_by_what_the_panic_said() {
        let panic = "INFO\nthread '<unnamed>' panicked at x.rs:1:2:\nthe planted bug\nnote: y\n";
        assert_eq!(super::why(panic), "the planted bug");
        assert_eq!(
            super::why("==1== ERROR: libFuzzer: timeout after 5 seconds\n"),
            "timeout after 5 seconds"
        );
    }
}
