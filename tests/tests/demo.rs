//! `cargo xtask demo` as a newcomer types it: it shows traffic, verifies, and leaves no process, however and
//! whenever it is ended.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::process::eventually;
use custody_tests::{leftover, stand};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(240);

fn demo(folder: &Path, more: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["xtask", "demo", "--yes", "--folder"])
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // cargo's own variables of this test would make it build again what depends on them.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        if name != "CARGO_TARGET_DIR" {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn nothing_is_left(folder: &Path) -> Result<()> {
    eventually(Duration::from_secs(30), "the end of the last process", || {
        Ok(leftover::processes(folder)?.is_empty().then_some(()))
    })
    .with_context(|| format!("left over: {:?}", leftover::processes(folder)))
}

fn demo_folder(parent: &tempfile::TempDir) -> Result<PathBuf> {
    let folder = parent.path().join("demo");
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

#[test]
fn three_rounds_are_shown_and_verified_and_leave_nothing() -> Result<()> {
    let parent = stand::folder()?;
    let folder = demo_folder(&parent)?;
    let output = demo(&folder, &["--rounds", "3"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for wanted in [
        "GET /prices.json?round=3",
        "GET /missing 404",
        "GET /echo?from=python",
        "SELECT '‹email·redact›' AS contact, 42 AS answer",
        "42P01",
        "0 of them were lost",
        "VERIFIED",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    for secret in ["c2VjcmV0IG9mIHRoZSBkZW1v", "4111111111111111", "anna@example.org"] {
        assert!(!said.contains(secret), "{secret} stands in:\n{said}");
    }
    nothing_is_left(&folder)
}

/// The xtask that `cargo` became: cargo replaces itself by the program that it runs.
fn signal(demo: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_raw(demo.id() as i32).context("pid 0")?, signal)?)
}

#[test]
fn ctrl_c_during_start_and_during_traffic_leaves_nothing_and_verifies() -> Result<()> {
    let parent = stand::folder()?;
    let folder = demo_folder(&parent)?;
    // Each file says that the demo has come so far: sink, agent, nginx, PostgreSQL, traffic.
    for (sign, in_traffic) in [
        ("sink-1.log", false),
        ("agent-2.log", false),
        ("nginx/nginx.log", false),
        ("postgres/postgres.log", false),
        ("nginx/access.log", true),
    ] {
        let running = demo(&folder, &[]).spawn()?;
        let file = folder.join(sign);
        eventually(PATIENCE, sign, || {
            let there = file.metadata().is_ok_and(|meta| !in_traffic || meta.len() > 0);
            Ok(there.then_some(()))
        })?;
        signal(&running, Signal::INT)?;
        let output = running.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{sign}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("VERIFIED") || !in_traffic && said.contains("interrupted"), "{sign}: {said}");
        nothing_is_left(&folder).context(sign)?;
        std::fs::remove_dir_all(&folder)?;
        std::fs::create_dir(&folder)?;
    }
    Ok(())
}

#[test]
fn a_killed_demo_leaves_nothing() -> Result<()> {
    let parent = stand::folder()?;
    let folder = demo_folder(&parent)?;
    for sign in ["agent-2.log", "nginx/access.log"] {
        let mut running = demo(&folder, &[]).spawn()?;
        let file = folder.join(sign);
        eventually(PATIENCE, sign, || Ok(file.exists().then_some(())))?;
        signal(&running, Signal::KILL)?;
        running.wait()?;
        nothing_is_left(&folder).context(sign)?;
        std::fs::remove_dir_all(&folder)?;
        std::fs::create_dir(&folder)?;
    }
    Ok(())
}
