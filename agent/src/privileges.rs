//! What the agent must be allowed to do, and what each is for. The unit file grants just these.

use anyhow::{Result, bail};
use caps::{CapSet, Capability};

/// Each capability with what is lost without it.
pub const NEEDED: [(Capability, &str); 9] = [
    (Capability::CAP_BPF, "probes cannot be loaded"),
    (Capability::CAP_PERFMON, "probes cannot read kernel structures or be attached"),
    (Capability::CAP_SYS_PTRACE, "programs of other users cannot be told apart (/proc)"),
    (Capability::CAP_DAC_READ_SEARCH, "libraries of other users' programs cannot be opened for TLS probes"),
    (
        Capability::CAP_CHECKPOINT_RESTORE,
        "libraries in containers, or deleted ones, cannot be opened for TLS probes",
    ),
    (Capability::CAP_SETUID, "the worker cannot give up its user"),
    (Capability::CAP_SETGID, "the worker cannot give up its groups"),
    (Capability::CAP_SETPCAP, "the worker cannot give up its bounding set"),
    (Capability::CAP_KILL, "a worker that breaks the rules cannot be ended, since it has another user"),
];

/// Those without which the agent runs, and sees less. Kernels ask for this one where a probe is attached to a
/// library by perf_event_open(2), whatever CAP_PERFMON says elsewhere.
pub const WANTED: [(Capability, &str); 1] =
    [(Capability::CAP_SYS_ADMIN, "TLS libraries cannot be probed, so the plaintext of TLS is not read")];

/// Those that are missing here and needed.
pub fn missing() -> Vec<(Capability, &'static str)> {
    without(&NEEDED)
}

/// Those that are missing here and wanted.
pub fn missing_for_all() -> Vec<(Capability, &'static str)> {
    without(&WANTED)
}

fn without(list: &[(Capability, &'static str)]) -> Vec<(Capability, &'static str)> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    list.iter().filter(|(capability, _)| !held.contains(capability)).copied().collect()
}

/// Refuses to run without, in one sentence.
pub fn check_for_run() -> Result<()> {
    let missing = missing();
    let Some((_, cost)) = missing.first() else { return Ok(()) };
    let names: Vec<String> = missing.iter().map(|(capability, _)| capability.to_string()).collect();
    bail!(Missing(format!(
        "missing {}: {cost}; run as root, or by the packaged unit, which grants just what is needed",
        names.join(", ")
    )))
}

/// Privileges are missing; the process ends with the code for "forbidden".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);
