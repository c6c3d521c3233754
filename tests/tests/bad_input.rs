//! What bad input gets: one clear sentence, the right exit code, nothing lost, nothing half-written.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use custody_tests::observed;
use custody_tests::process::output;
use custody_tests::stand::Stand;

/// Exit code and what was said on standard error, which must be a sentence and no panic.
fn refusal(command: &mut Command) -> Result<(i32, String)> {
    let Output { status, stderr, .. } = command.output()?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(!said.contains("panicked") && !said.contains("Stack backtrace"), "{said}");
    Ok((status.code().unwrap_or(-1), said))
}

#[test]
fn an_unknown_key_or_damage_in_a_configuration_names_file_and_place() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let file = folder.path().join("bad.toml");
    for (text, named) in [
        ("config_version = 1\nsink_adress = \"localhost\"\n", "sink_adress"),
        ("config_version = 1\n\u{0}\u{1}[[[", "line 2"),
        ("config_version = 99\n", "config_version"),
    ] {
        std::fs::write(&file, text)?;
        for (program, verb) in
            [("custody-agent", "check-config"), ("custody-agent", "run"), ("custody-sink", "doctor")]
        {
            let (code, said) = refusal(stand.program(program).args([verb, "--config"]).arg(&file))?;
            ensure!(code == 2, "{program} {verb}: {code}: {said}");
            ensure!(said.contains(named) && said.contains("bad.toml"), "{program} {verb}: {said}");
        }
    }
    Ok(())
}

#[test]
fn an_agent_without_permission_says_what_is_missing() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let agent = folder.path().join("agent");
    let configuration = folder.path().join("agent.toml");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups", "--"]).arg(stand.binary("custody-agent"));
    let before = listing(&agent)?;
    let (code, said) = refusal(command.args(["run", "--config"]).arg(&configuration))?;
    ensure!(code == 3, "{code}: {said}");
    ensure!(said.contains("CAP_") || said.contains("root"), "{said}");
    ensure!(listing(&agent)? == before, "something was written");
    Ok(())
}

fn listing(folder: &Path) -> Result<String> {
    output(Command::new("find").arg(folder).args(["-printf", "%p %s %T@\n"]))
}

#[test]
fn a_token_is_for_its_role_and_for_one_use() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let token = stand.sink_command(&["enroll", "--role", "reader", "--name", "eve@corp"])?;
    let state = folder.path().join("agent2");
    std::fs::create_dir_all(&state)?;
    let file = folder.path().join("agent2.toml");
    std::fs::write(&file, format!("config_version = 1\nstate_directory = \"{}\"\n", state.display()))?;
    let mut command = stand.program("custody-agent");
    let (code, said) = refusal(command.arg("enroll").arg(token.trim()).arg("--config").arg(&file))?;
    ensure!(code != 0 && said.contains("custody-sink enroll --host"), "{code}: {said}");
    ensure!(!state.join("identity/certificate.pem").exists(), "a refused host holds a certificate");
    let token = stand.sink_command(&["enroll", "--role", "reader", "--name", "eve@corp"])?;
    let login = |home: &str| {
        let mut custody = stand.program("custody");
        custody.env("CUSTODY_HOME", folder.path().join(home)).args(["login", token.trim()]);
        refusal(&mut custody)
    };
    let (code, said) = login("eve")?;
    ensure!(code == 0, "{code}: {said}");
    let (code, said) = login("eve2")?;
    ensure!(code == 3, "{code}: {said}");
    Ok(())
}

#[test]
fn a_host_with_the_certificate_of_another_is_refused_and_spools() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    // A second host of the same sink, whose certificate the first one takes.
    let state = folder.path().join("agent2");
    std::fs::create_dir_all(&state)?;
    let file = folder.path().join("agent2.toml");
    std::fs::write(&file, format!("config_version = 1\nstate_directory = \"{}\"\n", state.display()))?;
    let token = stand.sink_command(&["enroll", "--host"])?;
    output(stand.program("custody-agent").arg("enroll").arg(token.trim()).arg("--config").arg(&file))?;
    for name in ["certificate.pem", "certificate.key"] {
        std::fs::copy(state.join("identity").join(name), folder.path().join("agent/identity").join(name))?;
    }
    ensure!(stand.start_agent_unready()?, "the agent ended instead of waiting for a sink that takes it");
    let status = custody_tests::process::eventually(std::time::Duration::from_secs(30), "a refusal", || {
        let status = stand.status()?;
        Ok((status["sink_error"].as_str().is_some_and(|said| !said.is_empty())).then_some(status))
    })?;
    ensure!(status["ready"] == false, "{status:#}");
    ensure!(status["spool"]["batches"].as_u64().is_some_and(|batches| batches > 0), "{status:#}");
    ensure!(stand.records("type = exchange")?.is_empty(), "the sink took what it had to refuse");
    Ok(())
}

#[test]
fn a_damaged_spool_is_told_and_the_rest_arrives() -> Result<()> {
    let (_folders, mut stand, nginx) = observed::nginx(&[])?;
    stand.stop_sink()?;
    let url = |query: &str| format!("http://127.0.0.1:{}/echo?{query}", nginx.http_port);
    output(Command::new("curl").arg("-s").arg(url("before=1")))?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    stand.agent.take().expect("started above").kill()?;
    // The end of the newest file is torn off, as a crash of the machine would.
    let spool = stand.folder.join("agent/spool");
    let newest = std::fs::read_dir(&spool)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .max()
        .expect("a spool has a file");
    let file = std::fs::File::options().write(true).open(&newest)?;
    file.set_len(file.metadata()?.len().saturating_sub(7))?;
    stand.start_sink()?;
    stand.start_agent()?;
    output(Command::new("curl").arg("-s").arg(url("after=1")))?;
    stand.wait_records("url.query = \"after=1\"", 1)?;
    let gaps = stand.records("type = \"gap\" and custody.gap.cause = \"spool_torn\"")?;
    ensure!(gaps.len() == 1, "{gaps:?}");
    stand.stop_agent()?;
    stand.custody_verdict(&[0, 4])?;
    Ok(())
}

#[test]
fn a_sink_that_is_down_is_told_and_its_folder_is_read() -> Result<()> {
    let (_folders, mut stand, nginx) = observed::nginx(&[])?;
    output(Command::new("curl").arg("-s").arg(format!("http://127.0.0.1:{}/echo?kept=1", nginx.http_port)))?;
    stand.wait_records("url.query = \"kept=1\"", 1)?;
    stand.stop_agent()?;
    stand.stop_sink()?;
    let (code, said) = refusal(stand.as_reader(&mut stand.program("custody")).args(["tail", "--no-follow"]))?;
    ensure!(code == 3, "{code}: {said}");
    ensure!(stand.records("url.query = \"kept=1\"")?.len() == 1);
    Ok(())
}

#[test]
fn a_hostile_payload_does_not_reach_the_terminal() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    let agent = "evil\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m‹card·redact›";
    let url = format!("http://127.0.0.1:{}/echo?hostile=1", nginx.http_port);
    output(Command::new("curl").args(["-s", "-A", agent]).arg(url))?;
    stand.wait_shown("url.query = \"hostile=1\"", 1)?;
    for style in ["text", "wide", "json"] {
        // Of this exchange alone: other programs of this host may well say something that is masked.
        let own = "url.query = \"hostile=1\"";
        let arguments =
            ["tail", "--since", "1h", "--no-follow", "-o", style, "--color", "always", "--where", own];
        let text = stand.ask(&arguments)?;
        ensure!(text.contains("hostile=1"), "{text}");
        for forbidden in ["\u{1b}]", "\u{1b}[2J", "\u{7}", "\u{202e}", "\u{9b}"] {
            ensure!(!text.contains(forbidden), "{style}: {forbidden:?} in {text:?}");
        }
        ensure!(style == "json" || !text.contains("‹card·redact›"), "a payload forged a mask: {text:?}");
    }
    Ok(())
}
