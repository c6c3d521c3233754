//! What is in force on a host stands in its record, and its keys change without anything being lost: a certificate that
//! renews itself, a chain that goes on under another key, and a bundle from behind that.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use custody_tests::process::{eventually, output};
use custody_tests::stand::{Stand, field};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Exchanges the agent's configuration, has it read again, and waits for the entry of that.
fn reload(stand: &Stand, text: &str, entries: usize) -> Result<Value> {
    std::fs::write(stand.folder.join("agent.toml"), text)?;
    let agent = stand.agent.as_ref().context("no agent runs")?;
    kill_process(Pid::from_raw(agent.pid() as i32).context("pid 0")?, Signal::HUP)?;
    let mut records = stand.wait_records("type = \"config\"", entries)?;
    records.pop().context("no entry")
}

fn sha256(path: &Path) -> Result<String> {
    let sum = output(Command::new("sha256sum").arg(path))?;
    Ok(sum.split_whitespace().next().context("a sum")?.to_owned())
}

#[test]
fn what_is_in_force_is_recorded_at_the_start_and_at_each_reload_and_a_refused_file_is_too() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let good = std::fs::read_to_string(stand.folder.join("agent.toml"))?;
    let loaded = stand.wait_records("type = \"config\"", 1)?.remove(0);
    let of = |record: &Value, name: &str| field(record, &format!("custody.agent.{name}")).clone();
    assert_eq!(of(&loaded, "config.state"), "loaded");
    assert_eq!(of(&loaded, "config.version"), 1);
    assert_eq!(of(&loaded, "program"), sha256(&stand.binary("custody-agent"))?);
    assert_eq!(of(&loaded, "kernel"), rustix::system::uname().release().to_string_lossy().as_ref());
    assert_eq!(of(&loaded, "object").as_str().map(str::len), Some(64));
    let programs = of(&loaded, "kernel.programs");
    let programs = programs.as_str().context("the programs in the kernel")?;
    for name in ["sched_process_exec:", "tcp_destroy_sock:"] {
        let tag = programs.split(' ').find_map(|program| program.strip_prefix(name));
        ensure!(tag.is_some_and(|tag| tag.len() == 16 && tag != "0000000000000000"), "{name} in {programs}");
    }

    let masked = format!("{good}\n[masking]\nliterals = \"all\"\n");
    let reloaded = reload(&stand, &masked, 2)?;
    assert_eq!(of(&reloaded, "config.state"), "reloaded");
    for name in ["config", "masks"] {
        assert_ne!(of(&reloaded, name), of(&loaded, name), "{name}");
    }
    let part = reload(&stand, &format!("{masked}\n[capture]\ncall_bytes_max = 8192\n"), 3)?;
    assert_eq!(of(&part, "config.state"), "reloaded_in_part");
    assert_eq!(of(&part, "masks"), of(&reloaded, "masks"));

    let refused = reload(&stand, "config_version = 1\npassword = \"hunter2\"\n", 4)?;
    assert_eq!(of(&refused, "config.state"), "refused");
    assert_eq!(of(&refused, "config"), of(&part, "config"), "the last good one stays");
    assert_eq!(of(&refused, "config.refused"), sha256(&stand.folder.join("agent.toml"))?);
    ensure!(!refused.to_string().contains("hunter2"), "{refused}");

    std::fs::write(stand.folder.join("agent.toml"), &good)?;
    let store = stand.folder.join("sink").display().to_string();
    let shown =
        stand.custody(&["tail", "--from", &store, "--since", "1d", "--where", "type = \"config\""])?;
    ensure!(shown.contains("configuration refused: ") && shown.contains(", masks "), "{shown}");
    stand.stop_agent()?;
    stand.verify()?;
    Ok(())
}

/// Puts a certificate of the sink's authority into place whose time is nearly over, over the key that is there.
fn age_certificate(stand: &Stand) -> Result<()> {
    let (identity, sink) = (stand.folder.join("agent/identity"), stand.folder.join("sink"));
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let facts = read(&identity.join("identity.toml"))?;
    let host = facts.lines().find_map(|line| line.strip_prefix("host = \"")).context("a host")?;
    let name = format!("custody:host:{}", host.trim_end_matches('"'));
    let issuer = KeyPair::from_pem(&read(&sink.join("ca.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&read(&sink.join("ca.pem"))?, issuer)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.as_str().try_into()?)];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(2045, 1, 1));
    let key = KeyPair::from_pem(&read(&identity.join("certificate.key"))?)?;
    std::fs::write(identity.join("certificate.pem"), params.signed_by(&key, &issuer)?.pem())?;
    Ok(())
}

#[test]
fn a_host_goes_on_under_another_certificate_and_another_key_and_its_bundle_still_holds() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    // A certificate whose time is nearly over renews itself.
    age_certificate(&stand)?;
    stand.start_agent()?;
    let renewed = stand.wait_records("type = \"key\"", 1)?.remove(0);
    let certificate = field(&renewed, "custody.agent.certificate").as_str().context("a hash")?.to_owned();
    let rotate = |stand: &Stand| {
        let mut command = stand.program("custody-agent");
        output(command.arg("rotate-keys").arg("--config").arg(stand.folder.join("agent.toml")))
    };
    // While the agent runs; in force at its next start. The second one is signed by a key that no epoch ever had.
    let first = rotate(&stand)?;
    let second = rotate(&stand)?;
    let words =
        |said: &str| said.split_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect();
    let (first, second): (Vec<String>, Vec<String>) = (words(&first), words(&second));
    assert_eq!(first[4], second[0], "each goes on from the key before");
    stand.wait_records("type = \"heartbeat\"", 1)?;
    stand.stop_agent()?;
    stand.start_agent()?;
    let told = stand.wait_records("type = \"key\"", 2)?.pop().context("an entry")?;
    assert_eq!(field(&told, "custody.agent.host_key.rotations"), 2, "{told}");
    assert_eq!(field(&told, "custody.agent.host_key"), second[4].as_str());
    stand.wait_records("type = \"heartbeat\"", 2)?;

    let token = stand.sink_command(&["enroll", "--role", "auditor", "--name", "dana@corp"])?;
    let mut login = stand.program("custody");
    output(login.env("CUSTODY_HOME", stand.folder.join("auditor")).args(["login", token.trim()]))?;
    let (bundle, policy) = (stand.folder.join("b.bundle"), stand.folder.join("policy.txt"));
    let range = format!("{}/2/2-5", told["host"].as_str().context("a host")?);
    let mut said = String::new();
    let exported = eventually(PATIENCE, "a bundle of what is committed", || {
        let mut export = stand.program("custody");
        export.env("CUSTODY_HOME", stand.folder.join("auditor")).args(["export", &range, "-o"]);
        let ended = export.arg(&bundle).arg("--policy-out").arg(&policy).output()?;
        said = String::from_utf8(ended.stderr)?;
        Ok(ended.status.success().then_some(()))
    });
    exported.with_context(|| format!("{range}: {said}"))?;
    let shown = output(stand.program("custody").arg("verify").arg(&bundle).arg("--policy").arg(&policy))?;
    ensure!(shown.contains("VERIFIED"), "{shown}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/second_verifier/verify_bundle.py");
    let shown = output(Command::new("python3").arg(script).arg(&bundle).arg(&policy))?;
    ensure!(shown.starts_with("verified ") && shown.contains("keys=enrolled"), "{shown}");

    stand.stop_agent()?;
    stand.stop_sink()?;
    let verified = stand.verify()?;
    let rotated = format!("the host went on from its key {} to {}", first[0], second[4]);
    for sentence in [&rotated, &format!("got another certificate: {certificate}"), "VERIFIED"] {
        ensure!(verified.contains(sentence), "{sentence} in {verified}");
    }
    Ok(())
}
