//! The sink's configuration file. Unknown keys are errors; every key has a default and stands in
//! `packaging/sink.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody_ledger::batch::BATCH_BYTES_MAX;
use custody_ledger::tlog::{NoteKey, Witnesses};
use serde::Deserialize;

use crate::age::Age;
use crate::{retention, store};

/// Most witnesses.
const WITNESSES_MAX: usize = 16;
/// Version of the format that this code reads.
const CONFIG_VERSION: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Version of this format.
    pub config_version: u32,
    /// Address and port.
    pub listen: SocketAddr,
    /// Names and addresses that stand in the server's certificate.
    pub server_names: Vec<String>,
    /// What join tokens tell hosts and people to connect to; by default the first name and the port.
    pub url: Option<String>,
    /// Keys, segments, index and tokens.
    pub state_directory: PathBuf,
    /// Validity of the certificates of hosts and people, days.
    pub certificate_days: u64,
    /// Log filter.
    pub log: String,
    /// Store.
    pub store: StoreSection,
    /// Limits.
    pub limits: LimitsSection,
    /// What one host may bring.
    pub quota: QuotaSection,
    /// What goes by age.
    pub retention: RetentionSection,
    /// Whose cosignatures of the log are collected.
    pub witnesses: WitnessesSection,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// How long a commit gathers batches, ms.
    pub group_commit_ms: u64,
    /// How many bytes end the gathering.
    pub group_bytes_max: usize,
    /// A segment is sealed when it is longer, bytes.
    pub segment_bytes_max: u64,
    /// Least time between two checkpoints of the log, ms.
    pub checkpoint_ms: u64,
    /// Free space below which nothing new is accepted, bytes.
    pub disk_reserve_bytes: u64,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Enrolled hosts.
    pub hosts_max: usize,
    /// Open join tokens.
    pub tokens_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// Appends whose bodies are held at once, of at most 8 MiB each; others wait.
    pub appends_max: usize,
    /// Appends that wait for the store.
    pub queue_jobs_max: usize,
    /// Batches that a reader who follows may be behind before it is told that it missed some.
    pub subscriber_batches_max: usize,
    /// Readers that may follow at once.
    pub readers_max: usize,
}

/// `[quota]`, for each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSection {
    /// Batches per second, over a minute.
    pub host_batches_per_second: u64,
    /// Bytes of batches, as they come, in one day (UTC).
    pub host_bytes_per_day: u64,
    /// Bytes of batches, as they come, in the store.
    pub host_bytes_stored: u64,
}

/// `[retention]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSection {
    /// How long bodies are kept.
    pub bodies: Age,
}

/// `[witnesses]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WitnessesSection {
    /// Verifier keys of witnesses (`custody witness-key` prints them).
    pub keys: Vec<String>,
    /// How many of them make a checkpoint a witnessed one; 0 without witnesses.
    pub quorum: usize,
}

impl WitnessesSection {
    /// What the log is opened with; `None` when keys and quorum do not fit.
    pub fn witnesses(&self) -> Option<Witnesses> {
        if self.keys.is_empty() && self.quorum == 0 {
            return Some(Witnesses::default());
        }
        let keys: Option<Vec<NoteKey>> = self.keys.iter().map(|key| key.parse().ok()).collect();
        let keys = keys.filter(|keys| keys.len() <= WITNESSES_MAX)?;
        let names: BTreeSet<&str> = keys.iter().map(NoteKey::name).collect();
        if names.len() < keys.len() {
            return None;
        }
        Witnesses::some_of(keys, self.quorum)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            config_version: CONFIG_VERSION,
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            url: None,
            state_directory: PathBuf::from("/var/lib/custody-sink"),
            certificate_days: 825,
            log: "info".to_owned(),
            store: StoreSection::default(),
            limits: LimitsSection::default(),
            quota: QuotaSection::default(),
            retention: RetentionSection::default(),
            witnesses: WitnessesSection::default(),
        }
    }
}
impl Default for QuotaSection {
    fn default() -> Self {
        QuotaSection {
            host_batches_per_second: 500,
            host_bytes_per_day: 16 << 30,
            host_bytes_stored: 256 << 30,
        }
    }
}
impl Default for StoreSection {
    fn default() -> Self {
        StoreSection {
            group_commit_ms: 50,
            group_bytes_max: 8 * 1024 * 1024,
            segment_bytes_max: 64 * 1024 * 1024,
            checkpoint_ms: 800,
            disk_reserve_bytes: 256 * 1024 * 1024,
        }
    }
}
impl Default for LimitsSection {
    fn default() -> Self {
        LimitsSection {
            hosts_max: 10_000,
            tokens_max: 1_000,
            connections_max: 4_096,
            appends_max: 16,
            queue_jobs_max: 256,
            subscriber_batches_max: 1_024,
            readers_max: 64,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no TOML of ours.
    #[error("the configuration {path} is wrong: {detail}")]
    Malformed {
        /// Which.
        path: String,
        /// Where and why.
        detail: String,
    },
    /// A value cannot be used.
    #[error("the configuration {path} is wrong: {key} {detail}")]
    Value {
        /// Which.
        path: String,
        /// Which key.
        key: &'static str,
        /// What it must be.
        detail: &'static str,
    },
}

/// A commit that takes longer than this hangs: a disk that is merely slow gets 8 MiB out in that time. Well below
/// `WatchdogSec` of the packaged unit.
const COMMIT_MAX: Duration = Duration::from_secs(10);

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: shown.clone(), source })?;
        let config: Config = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: shown.clone(),
            detail: error.to_string().replace('\n', " "),
        })?;
        config.check().map_err(|(key, detail)| ConfigError::Value { path: shown, key, detail })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let within = |value: u64, range: std::ops::RangeInclusive<u64>| range.contains(&value);
        let demands = [
            (self.config_version == CONFIG_VERSION, "config_version", "must be 1"),
            (!self.server_names.is_empty(), "server_names", "must name the sink at least once"),
            (
                self.url.as_ref().is_none_or(|url| url.starts_with("https://") && url.len() <= 512),
                "url",
                "must begin with https:// and be at most 512 bytes long",
            ),
            (self.state_directory.is_absolute(), "state_directory", "must be an absolute path"),
            (within(self.certificate_days, 1..=3650), "certificate_days", "must be from 1 to 3650"),
            (within(self.store.group_commit_ms, 0..=1000), "store.group_commit_ms", "must be at most 1000"),
            (
                within(self.store.group_bytes_max as u64, 1..=64 << 20),
                "store.group_bytes_max",
                "must be from 1 to 67108864",
            ),
            (
                within(self.store.segment_bytes_max, 1 << 20..=1 << 30),
                "store.segment_bytes_max",
                "must be from 1048576 to 1073741824",
            ),
            (within(self.store.checkpoint_ms, 0..=1000), "store.checkpoint_ms", "must be at most 1000"),
            (
                within(self.limits.hosts_max as u64, 1..=1_000_000),
                "limits.hosts_max",
                "must be from 1 to 1000000",
            ),
            (
                within(self.limits.tokens_max as u64, 1..=100_000),
                "limits.tokens_max",
                "must be from 1 to 100000",
            ),
            (
                within(self.limits.connections_max as u64, 1..=100_000),
                "limits.connections_max",
                "must be from 1 to 100000",
            ),
            (
                within(self.limits.appends_max as u64, 1..=1024),
                "limits.appends_max",
                "must be from 1 to 1024",
            ),
            (
                within(self.limits.queue_jobs_max as u64, 1..=65_536),
                "limits.queue_jobs_max",
                "must be from 1 to 65536",
            ),
            (
                within(self.limits.subscriber_batches_max as u64, 1..=65_536),
                "limits.subscriber_batches_max",
                "must be from 1 to 65536",
            ),
            (within(self.limits.readers_max as u64, 1..=256), "limits.readers_max", "must be from 1 to 256"),
            (
                within(self.quota.host_batches_per_second, 1..=1_000_000),
                "quota.host_batches_per_second",
                "must be from 1 to 1000000",
            ),
            (
                self.quota.host_bytes_per_day >= BATCH_BYTES_MAX as u64,
                "quota.host_bytes_per_day",
                "must be at least 2097152, the largest batch",
            ),
            (
                self.quota.host_bytes_stored >= BATCH_BYTES_MAX as u64,
                "quota.host_bytes_stored",
                "must be at least 2097152, the largest batch",
            ),
            (
                self.witnesses.witnesses().is_some(),
                "witnesses",
                "must have at most 16 keys of different witnesses, each with a name of its own, and a quorum from 1 to \
                 their number",
            ),
        ];
        match demands.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, detail)) => Err((key, detail)),
            None => Ok(()),
        }
    }

    /// What join tokens tell to connect to.
    pub fn public_url(&self) -> String {
        let name = || self.server_names.first().cloned().unwrap_or_default();
        self.url.clone().unwrap_or_else(|| format!("https://{}:{}", name(), self.listen.port()))
    }

    /// Least time between two checkpoints.
    pub const fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.store.checkpoint_ms)
    }

    /// Bounds of the store.
    pub fn store_limits(&self) -> store::Limits {
        store::Limits {
            group_commit: Duration::from_millis(self.store.group_commit_ms),
            group_bytes_max: self.store.group_bytes_max,
            segment_bytes_max: self.store.segment_bytes_max,
            segment_age_max: retention::segment_age_max(self.retention.bodies),
            queue_jobs_max: self.limits.queue_jobs_max,
            subscriber_batches_max: self.limits.subscriber_batches_max,
            disk_reserve_bytes: self.store.disk_reserve_bytes,
            commit_max: COMMIT_MAX,
        }
    }
}

#[cfg(test)]
mod tests;
