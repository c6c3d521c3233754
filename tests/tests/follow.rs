//! `custody verify --follow` beside a real sink: what goes on from what was seen holds, a log that was rolled back or
//! forked is found by whoever followed it, and a host's echo of another log is told to auditors.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use custody_tests::stand::{Stand, folder};

/// One look; its exit code, and what it said on both streams.
fn look(stand: &Stand, home: &Path) -> Result<(i32, String)> {
    let mut command = stand.program("custody");
    command.args(["verify", "--follow", "--once", "--utc"]).env("CUSTODY_HOME", home);
    let Output { status, stdout, stderr } = command.output()?;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(!said.contains("panicked"), "{said}");
    Ok((status.code().unwrap_or(-1), said))
}

/// Logs a person in, which is one more record of the store.
fn login(stand: &Stand, home: &Path, role: &str, name: &str) -> Result<()> {
    let token = stand.sink_command(&["enroll", "--role", role, "--name", name])?;
    let mut command = stand.program("custody");
    let output = command.args(["login", token.trim()]).env("CUSTODY_HOME", home).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    ensure!(Command::new("cp").arg("-a").arg(from).arg(to).status()?.success(), "cp failed");
    Ok(())
}

#[test]
fn whoever_followed_a_log_sees_that_it_was_rolled_back_or_forked() -> Result<()> {
    let folder = folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let [auditor, reader, other] = ["auditor", "reader", "other"].map(|name| folder.path().join(name));
    login(&stand, &auditor, "auditor", "ada@corp")?;
    login(&stand, &reader, "reader", "dana@corp")?;
    for home in [&auditor, &reader] {
        let (code, said) = look(&stand, home)?;
        ensure!(code == 0 && said.contains("for the first time") && said.contains("✔"), "{code}: {said}");
        ensure!(said.contains("compared") == (home == &auditor), "{said}");
    }
    let state = stand.folder.join("sink");
    let aside = folder.path().join("aside");
    stand.stop_sink()?;
    copy(&state, &aside)?;
    stand.start_sink()?;
    for name in ["one", "two", "three"] {
        login(&stand, &other, "reader", name)?;
    }
    wait_for(&stand, &auditor, "goes on from")?;
    let (code, said) = look(&stand, &reader)?;
    ensure!(code == 0 && said.contains("goes on from"), "{code}: {said}");
    // Nothing new is nothing to tell.
    let (code, said) = look(&stand, &auditor)?;
    ensure!(code == 0 && !said.contains("✔"), "{code}: {said}");
    // The sink's owner takes back what was recorded since.
    stand.stop_sink()?;
    copy(&aside, &state)?;
    stand.start_sink()?;
    for home in [&auditor, &reader] {
        let (code, said) = look(&stand, home)?;
        ensure!(code == 5 && said.contains("rolled back"), "{code}: {said}");
    }
    // And records other things, until there is more than before.
    for name in ["four", "five", "six", "seven", "eight"] {
        login(&stand, &other, "reader", name)?;
    }
    wait_for(&stand, &auditor, "forked")?;
    let (code, said) = look(&stand, &reader)?;
    ensure!(code == 5 && said.contains("forked"), "{code}: {said}");
    stand.stop_sink()?;
    let (code, said) = look(&stand, &auditor)?;
    ensure!(code == 3, "{code}: {said}");
    Ok(())
}

/// Looks until it says so: a checkpoint comes a second after a record.
fn wait_for(stand: &Stand, home: &Path, words: &str) -> Result<()> {
    let mut said = String::new();
    for _ in 0..100 {
        said = look(stand, home)?.1;
        if said.contains(words) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{words} was never said: {said}")
}

#[test]
fn a_damaged_memory_of_what_was_seen_is_no_fresh_start() -> Result<()> {
    let folder = folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let home = folder.path().join("home");
    login(&stand, &home, "auditor", "ada@corp")?;
    ensure!(look(&stand, &home)?.0 == 0);
    let file = std::fs::read_dir(home.join("follow"))?.next().expect("a file of what was seen")?.path();
    let text = std::fs::read_to_string(&file)?;
    for damaged in ["", "{}", &text.replace("\"size\":", "\"size\":1")] {
        std::fs::write(&file, damaged)?;
        let (code, said) = look(&stand, &home)?;
        ensure!(code == 2 && said.contains("is damaged"), "{damaged:?}: {code}: {said}");
    }
    Ok(())
}
