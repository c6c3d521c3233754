//! The rules of the house that a compiler does not know: who imports whom, headers, sizes of `main.rs`, what the
//! READMEs of decoders promise, no second crypto library, no `unsafe` where it is forbidden.

mod messages;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, run as run_command};

/// Our packages and which of ours each may depend on.
const IMPORTS: &[(&str, &[&str])] = &[
    ("custody-abi", &[]),
    ("custody-record", &[]),
    ("custody-ledger", &[]),
    ("custody-decoders", &["custody-record"]),
    ("custody-agent", &["custody-abi", "custody-record", "custody-decoders", "custody-ledger"]),
    ("custody-sink", &["custody-record", "custody-ledger"]),
    ("custody", &["custody-record", "custody-decoders", "custody-ledger"]),
    ("custody-tests", &[]),
    (
        "custody-fuzz",
        &["custody-record", "custody-decoders", "custody-ledger", "custody-agent", "custody-sink"],
    ),
    ("xtask", &["custody-tests"]),
];

/// Crates that would bring a second crypto library or a C build.
const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl-sys", "openssl", "native-tls"];

/// Folders whose code holds no `unsafe`, and says so itself.
const SAFE: &[&str] = &["record", "decoders", "ledger", "sink", "cli"];

/// What makes a masked record out of bytes, and the files that may: the reader of the worker's socket, and tests.
const MASKED_FROM_BYTES: (&str, &[&str]) = (
    "WorkerReader::at_the_socket",
    &[
        "agent/src/workers.rs",
        "agent/src/link.rs", // its tests
        "agent/src/chain/tests.rs",
        "decoders/src/mask/link.rs",
        "decoders/tests/canary.rs",
        "sink/tests/soak/host.rs",
        "xtask/src/check.rs",
    ],
);

/// Checks all rules and names every breach.
pub(crate) fn run() -> Result<()> {
    let mut breaches = Vec::new();
    imports(&mut breaches)?;
    sources(&mut breaches)?;
    messages::check(Path::new("."), &mut breaches)?;
    for folder in SAFE {
        let root = if Path::new(folder).join("src/lib.rs").exists() { "src/lib.rs" } else { "src/main.rs" };
        let text = std::fs::read_to_string(Path::new(folder).join(root))?;
        if !text.contains("#![forbid(unsafe_code)]") {
            breaches.push(format!("{folder}/{root}: must say #![forbid(unsafe_code)]"));
        }
    }
    if !breaches.is_empty() {
        bail!("{} rules broken:\n  {}", breaches.len(), breaches.join("\n  "));
    }
    run_command(setup::cargo().args(["fmt", "--all", "--check"]))?;
    run_command(setup::cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    println!("check: imports, headers, formatting and lints hold");
    Ok(())
}

fn imports(breaches: &mut Vec<String>) -> Result<()> {
    let output = setup::cargo().args(["metadata", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let allowed: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    for package in metadata["packages"].as_array().context("metadata without packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        if BANNED.contains(&name) {
            breaches.push(format!("{name} is in the graph; ring is the one crypto library"));
        }
        if !package["source"].is_null() {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            breaches.push(format!("{name}: not listed in xtask/src/check.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            if allowed.contains_key(other) && dependency["kind"].is_null() && !may.contains(&other) {
                breaches.push(format!("{name} may not import {other}"));
            }
        }
    }
    Ok(())
}

fn sources(breaches: &mut Vec<String>) -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).output()?;
    for file in String::from_utf8_lossy(&listed.stdout).lines() {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        if !text.starts_with("//!") {
            breaches.push(format!("{file}: begins without a //! header that says its duty"));
        }
        let (right, may) = MASKED_FROM_BYTES;
        if text.contains(right) && !may.contains(&file) {
            breaches.push(format!("{file}: makes masked records out of bytes; only the worker's reader may"));
        }
        if file.ends_with("src/main.rs") && text.lines().count() > 60 {
            breaches.push(format!("{file}: longer than 60 lines"));
        }
    }
    Ok(())
}
