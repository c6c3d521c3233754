//! Kernels that do not let themselves be observed: without a description of their types, or with bpf(2) forbidden.
//! One sentence says what is missing, what it costs and what to do; nothing is written; `doctor` says the same.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use custody_tests::process::{Running, output};
use custody_tests::stand::Stand;
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(30);

/// Forbids bpf(2), number 321 on x86-64, as a container's seccomp filter does, and goes on as another program.
const WITHOUT_BPF: &str = "
import ctypes, os, struct, sys
code = b''.join(struct.pack('HBBI', *one) for one in
    [(0x20, 0, 0, 0), (0x15, 0, 1, 321), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)])
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_char_p)]
if ctypes.CDLL(None).prctl(22, 2, ctypes.byref(Program(4, code))) != 0: sys.exit('no filter')
os.execv(sys.argv[1], sys.argv[1:])
";

/// The agent behind `prefix`: exit code, standard output, standard error.
fn agent(stand: &Stand, prefix: &[&str], verb: &str) -> Result<(Option<i32>, String, String)> {
    let (program, arguments) = prefix.split_first().context("a prefix")?;
    let Output { status, stdout, stderr } = Command::new(program)
        .args(arguments)
        .arg(stand.binary("custody-agent"))
        .args([verb, "--config"])
        .arg(stand.folder.join("agent.toml"))
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((status.code(), text(&stdout), text(&stderr)))
}

fn written(stand: &Stand) -> Result<String> {
    output(Command::new("find").arg(stand.folder.join("agent")).args(["-type", "f", "-printf", "%p %s\n"]))
}

/// `run` says these words in one line, ends with this code and writes nothing; `doctor` fails with the same words.
fn refused(stand: &Stand, prefix: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let before = written(stand)?;
    let (ended, _, said) = agent(stand, prefix, "run")?;
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    ensure!(ended == Some(code) && lines.len() == 1, "{ended:?}: {said}");
    for word in words {
        ensure!(lines[0].matches(word).count() == 1, "`{word}` once in: {said}");
    }
    ensure!(written(stand)? == before, "something was written");
    let (ended, told, _) = agent(stand, prefix, "doctor")?;
    ensure!(ended == Some(1), "{ended:?}: {told}");
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("FAILED")).collect();
    ensure!(failed.len() == 1, "one cause, told once: {told}");
    for word in words {
        ensure!(failed[0].contains(word), "`{word}` in: {}", failed[0]);
    }
    Ok(())
}

#[test]
fn a_kernel_without_btf_is_refused_in_one_sentence() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty)?;
    // A folder without the file in the place of the kernel's, in a mount namespace of its own.
    let hide = format!("mount --bind {} /sys/kernel/btf && exec \"$@\"", empty.display());
    let words = [
        "does not describe its own types",
        "nothing on this host can be observed",
        "CONFIG_DEBUG_INFO_BTF",
        "/sys/kernel/btf/vmlinux",
        "No such file or directory",
    ];
    refused(&stand, &["unshare", "-m", "--", "sh", "-c", &hide, "sh"], 1, &words)
}

#[test]
fn a_kernel_that_refuses_bpf_is_told_from_a_missing_right() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let words =
        ["refuses bpf(2)", "Operation not permitted", "nothing on this host can be observed", "seccomp"];
    refused(&stand, &["/usr/bin/python3", "-c", WITHOUT_BPF], 3, &words)?;
    // Without the right itself the agent asks for that one, and doctor could not look.
    for (capability, name) in [("bpf", "CAP_BPF"), ("perfmon", "CAP_PERFMON")] {
        let set = format!("-{capability}");
        let prefix = ["setpriv", "--bounding-set", &set, "--"];
        let before = written(&stand)?;
        let (code, _, said) = agent(&stand, &prefix, "run")?;
        ensure!(
            code == Some(3) && said.contains(&format!("missing {name}: probes cannot")),
            "{code:?}: {said}"
        );
        ensure!(written(&stand)? == before, "something was written");
        let (code, told, _) = agent(&stand, &prefix, "doctor")?;
        ensure!(code == Some(4) && told.contains(&format!("missing here: {name}")), "{code:?}: {told}");
    }
    Ok(())
}

/// An agent with these capabilities alone, ready; what it says of its probes, and its log.
fn probes_with(stand: &Stand, capabilities: &str) -> Result<(serde_json::Value, String)> {
    let program = stand.binary("custody-agent").display().to_string();
    let configuration = stand.folder.join("agent.toml").display().to_string();
    let command =
        ["setpriv", "--bounding-set", capabilities, "--", &program, "run", "--config", &configuration];
    let log = stand.folder.join("agent-bounded.log");
    let mut agent = Running::start("custody-agent", &command, None, &log, Signal::TERM)?;
    agent.wait_ready(PATIENCE, || stand.status().is_ok_and(|status| status["ready"] == true))?;
    let probes = stand.status()?["probes"].clone();
    let said = agent.log();
    ensure!(agent.stop(PATIENCE)?.success(), "{said}");
    Ok((probes, said))
}

#[test]
fn the_rights_that_the_unit_grants_are_enough_for_all_probes() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let stand = Stand::new(folder.path(), "")?;
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/custody-agent.service");
    let unit = std::fs::read_to_string(unit)?;
    let granted =
        unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("no set")?;
    let names: Vec<String> =
        granted.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect();
    let only = |names: &[String]| {
        format!("-all,{}", names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(","))
    };
    let (probes, said) = probes_with(&stand, &only(&names))?;
    let states = || probes.as_array().into_iter().flatten();
    ensure!(states().all(|probe| probe["state"] == "attached"), "{probes:#}");
    ensure!(
        states().any(|probe| probe["name"].as_str().is_some_and(|name| name.starts_with("TLS "))),
        "{probes:#}"
    );
    ensure!(!said.contains("ERROR"), "{said}");
    // Without the one that library probes need, sockets are observed, and what is lost is said.
    let fewer: Vec<String> = names.into_iter().filter(|name| name != "sys_admin").collect();
    let (probes, said) = probes_with(&stand, &only(&fewer))?;
    ensure!(
        said.contains("missing CAP_SYS_ADMIN") && said.contains("plaintext of TLS is not read"),
        "{said}"
    );
    ensure!(probes.to_string().contains("cannot be probed"), "{probes:#}");
    let set = only(&fewer);
    let (code, told, _) = agent(&stand, &["setpriv", "--bounding-set", &set, "--"], "doctor")?;
    ensure!(code == Some(0) && told.contains("missing CAP_SYS_ADMIN"), "{code:?}: {told}");
    Ok(())
}
