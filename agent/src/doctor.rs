//! `custody-agent doctor`: what this host can and cannot do, what that costs, what to do about it. Changes
//! nothing and needs no privileges; without them it says what it could not look at.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use crate::attribution::users;
use crate::config::Config;
use crate::identity::Identity;
use crate::probes::{self, State};
use crate::sink_client::{Client, Credentials};
use crate::{capture, clock, privileges};

const SINK_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond this the host's wall clock and the sink's disagree enough to confuse people.
const CLOCK_SKEW_MAX_NS: u64 = 2_000_000_000;
/// What agent and worker need beside the rings, bytes.
const MEMORY_BASE_BYTES: u64 = 192 << 20;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, with a cost that is said.
    Reduced,
    /// The agent cannot do its work like this.
    Failed,
    /// Could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is.
    pub grade: Grade,
    /// What was seen; for all but `ok`: what it costs and what to do.
    pub detail: String,
}

fn finding(what: impl Into<String>, grade: Grade, detail: impl Into<String>) -> Finding {
    Finding { what: what.into(), grade, detail: detail.into() }
}

/// Looks at everything.
pub async fn examine(config_path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = match Config::load(config_path) {
        Ok(config) => {
            findings.push(finding("configuration", Grade::Ok, config_path.display().to_string()));
            config
        }
        Err(error) => {
            let detail = format!("{error}; the rest was looked at with the defaults");
            findings.push(finding("configuration", Grade::Failed, detail));
            Config::default()
        }
    };
    findings.extend(rights());
    findings.push(object());
    findings.extend(probe_table(Path::new("/sys")));
    findings.push(rules(&config));
    findings.push(memory(&config));
    findings.push(spool(&config));
    findings.push(worker(&config));
    findings.extend(sink(&config).await);
    findings
}

/// The exit code that says it to scripts: 0 able, 1 not able, 4 not everything could be looked at.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let any = |grade| findings.iter().any(|finding| finding.grade == grade);
    if any(Grade::Failed) {
        1
    } else if any(Grade::Unknown) {
        4
    } else {
        0
    }
}

/// As people read it.
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let mark = match finding.grade {
            Grade::Ok => "ok     ",
            Grade::Reduced => "reduced",
            Grade::Failed => "FAILED ",
            Grade::Unknown => "unknown",
        };
        format!("{mark}  {:width$}  {}", finding.what, finding.detail)
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn rights() -> Vec<Finding> {
    let told = |missing: Vec<(caps::Capability, &'static str)>| {
        missing.iter().map(|(name, cost)| format!("{name}: {cost}")).collect::<Vec<_>>().join("; ")
    };
    let missing = privileges::missing();
    if !missing.is_empty() {
        let detail =
            format!("missing here: {}. Run `doctor` as root to see what the agent will see", told(missing));
        return vec![finding("privileges", Grade::Unknown, detail)];
    }
    let wanted = privileges::missing_for_all();
    let privileges = if wanted.is_empty() {
        finding("privileges", Grade::Ok, "all that are needed")
    } else {
        let detail = format!("missing {}; run as root, or by the packaged unit", told(wanted));
        finding("privileges", Grade::Reduced, detail)
    };
    let bpf = match probes::able::bpf() {
        Ok(()) => finding("bpf(2)", Grade::Ok, "allowed"),
        Err(error) => finding("bpf(2)", Grade::Failed, error.to_string()),
    };
    vec![privileges, bpf]
}

fn object() -> Finding {
    match probes::object_hash() {
        Some(hash) => finding("kernel object", Grade::Ok, format!("sha256 {}", hex::encode(hash))),
        None => {
            let detail = "this program was built without it and can observe nothing; run `cargo xtask \
                          build-ebpf` and build the agent again";
            finding("kernel object", Grade::Failed, detail)
        }
    }
}

fn probe_table(sys: &Path) -> Vec<Finding> {
    let types = match probes::able::types(sys) {
        Ok(bytes) => finding("kernel types", Grade::Ok, format!("{bytes} bytes")),
        Err(error) => finding("kernel types", Grade::Failed, format!("{:#}", anyhow::Error::new(error))),
    };
    let table = probes::table(sys).into_iter().map(|probe| {
        let what = format!("probe {}", probe.hook);
        match probe.state {
            State::Present => finding(what, Grade::Ok, format!("({})", probe.prototype)),
            State::Missing => {
                let detail = format!(
                    "not in this kernel (known since {}); instead: {}; lost: {}",
                    probe.least_kernel, probe.fallback, probe.lost
                );
                finding(what, Grade::Reduced, detail)
            }
            State::Unknown(reason) => finding(what, Grade::Unknown, reason),
        }
    });
    std::iter::once(types).chain(table).collect()
}

fn rules(config: &Config) -> Finding {
    match capture::rules(&config.capture) {
        Ok(rules) => finding("capture rules", Grade::Ok, format!("{} of the configuration", rules.len())),
        Err(error) => finding("capture rules", Grade::Failed, format!("{error:#}")),
    }
}

fn memory(config: &Config) -> Finding {
    let rings = u64::from(config.capture.data_ring_bytes) + u64::from(config.capture.control_ring_bytes);
    let needed = rings + MEMORY_BASE_BYTES;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?;
        Some(kib.trim().parse::<u64>().ok()? << 10)
    });
    let mib = |bytes: u64| bytes >> 20;
    match available {
        None => finding("memory", Grade::Unknown, "/proc/meminfo cannot be read"),
        Some(available) if available < needed => finding(
            "memory",
            Grade::Reduced,
            format!(
                "{} MiB are available, {} MiB may be needed; lower capture.data_ring_bytes",
                mib(available),
                mib(needed)
            ),
        ),
        Some(available) => finding(
            "memory",
            Grade::Ok,
            format!("rings {} MiB, all at most {} of {} MiB", mib(rings), mib(needed), mib(available)),
        ),
    }
}

fn spool(config: &Config) -> Finding {
    let folder = &config.state_directory;
    match rustix::fs::statvfs(folder) {
        Err(error) => finding(
            "spool",
            Grade::Unknown,
            format!("{}: {error}; `custody-agent enroll` makes it", folder.display()),
        ),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let wanted = config.spool.bytes_max;
            let mib = |bytes: u64| bytes >> 20;
            if free < wanted {
                let detail = format!(
                    "{} MiB are free in {}, spool.bytes_max is {} MiB: records are lost when the sink is away for long",
                    mib(free),
                    folder.display(),
                    mib(wanted)
                );
                return finding("spool", Grade::Reduced, detail);
            }
            finding("spool", Grade::Ok, format!("{} MiB of {} MiB free", mib(wanted), mib(free)))
        }
    }
}

/// Starts a worker that gives up its rights and tries every door.
fn worker(config: &Config) -> Finding {
    const WHAT: &str = "worker isolation";
    if !privileges::missing().is_empty() {
        return finding(WHAT, Grade::Unknown, "only root can show how rights are given up");
    }
    let Some((uid, gid)) = users::account(Path::new("/"), &config.worker_user) else {
        let detail = format!(
            "worker_user `{}` is not in /etc/passwd: name an account without rights",
            config.worker_user
        );
        return finding(WHAT, Grade::Failed, detail);
    };
    let output = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(["worker", "--inspect", "--uid", &uid.to_string(), "--gid", &gid.to_string()])
            .stdin(Stdio::null())
            .output()
    });
    match output {
        Ok(output) if output.status.success() => finding(
            WHAT,
            Grade::Ok,
            format!("user {uid}; no file, socket, program, memory or right was to be had"),
        ),
        Ok(output) => finding(
            WHAT,
            Grade::Failed,
            format!("a door is open: {}", String::from_utf8_lossy(&output.stdout).trim()),
        ),
        Err(error) => finding(WHAT, Grade::Failed, format!("cannot start a worker: {error}")),
    }
}

async fn sink(config: &Config) -> Vec<Finding> {
    let identity = match Identity::load(&config.state_directory) {
        Ok(identity) => identity,
        Err(error) => return vec![finding("enrolment", Grade::Unknown, format!("{error:#}"))],
    };
    let facts = &identity.facts;
    let mut findings =
        vec![finding("enrolment", Grade::Ok, format!("host {} at {}", facts.host, facts.sink_url))];
    let client = Credentials::of(&identity)
        .and_then(|credentials| Client::enrolled(&identity, &credentials, SINK_TIMEOUT));
    let answer = match client {
        Ok(mut client) => {
            let path = custody_ledger::wire::head_path(facts.host);
            let content_type = custody_ledger::wire::CONTENT_TYPE;
            client.send(Method::GET, &path, content_type, bytes::Bytes::new()).await
        }
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let detail = format!("{error:#}; records wait in the spool until it answers");
            findings.push(finding("sink", Grade::Failed, detail));
            return findings;
        }
    };
    match crate::sink_client::read::<custody_ledger::wire::HeadResponse>(&answer) {
        Ok(head) => {
            let head = head.head.map_or("nothing yet".to_owned(), |head| head.to_string());
            findings.push(finding("sink", Grade::Ok, format!("answers; has {head}")));
        }
        Err(error) => findings.push(finding("sink", Grade::Failed, format!("{error:#}"))),
    }
    findings.extend(answer.wall_ns.map(clock_skew));
    findings
}

fn clock_skew(sink_wall_ns: u64) -> Finding {
    let skew = clock::wall_ns().abs_diff(sink_wall_ns);
    let detail = format!("{} s from the sink's", skew / 1_000_000_000);
    if skew > CLOCK_SKEW_MAX_NS {
        let detail =
            format!("{detail}: times shown to people will be off, order is not; synchronise the clock");
        return finding("clock", Grade::Reduced, detail);
    }
    finding("clock", Grade::Ok, detail)
}
