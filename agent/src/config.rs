//! The configuration file: what it may say, what it means when it says nothing. `packaging/agent.toml`
//! documents every key; a test holds the two together. Must not touch anything but the file it is given.

use std::path::{Path, PathBuf};

use custody_decoders::level::Level;
use custody_decoders::mask::MaskRules;
use serde::{Deserialize, Serialize};

mod policy;
mod selectors;

pub use policy::FreeAt;
pub use selectors::{Network, Selectors};

/// Where the packages put it.
pub const DEFAULT_PATH: &str = "/etc/custody/agent.toml";

/// The one version of this format.
const CONFIG_VERSION: u32 = 1;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or holds a key or value that is not known.
    #[error("configuration {path} is not valid: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// The policy that it names cannot be followed.
    #[error("policy {path}: {message}")]
    Policy {
        /// Which file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// It was written for another version.
    #[error("configuration {path} has config_version {found}, this agent understands {CONFIG_VERSION}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A value is outside its bounds.
    #[error("configuration {path}: {key} is {value}, it must be {bounds}")]
    Bounds {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        bounds: &'static str,
    },
}

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this format.
    pub config_version: u32,
    /// Keys, certificate, epoch counter and spool.
    #[serde(default = "default_state_directory")]
    pub state_directory: PathBuf,
    /// The status socket.
    #[serde(default = "default_runtime_directory")]
    pub runtime_directory: PathBuf,
    /// Account that the worker changes to.
    #[serde(default = "default_worker_user")]
    pub worker_user: String,
    /// Log filter of `tracing`.
    #[serde(default = "default_log")]
    pub log: String,
    /// What is captured.
    #[serde(default)]
    pub capture: Capture,
    /// Bounds of decoding.
    #[serde(default)]
    pub limits: Limits,
    /// What is masked beyond what always is.
    #[serde(default)]
    pub masking: MaskRules,
    /// Batches that wait for the sink.
    #[serde(default)]
    pub spool: Spool,
    /// The way to the sink.
    #[serde(default)]
    pub forward: Forward,
}

fn default_state_directory() -> PathBuf {
    "/var/lib/custody-agent".into()
}
fn default_runtime_directory() -> PathBuf {
    "/run/custody-agent".into()
}
fn default_worker_user() -> String {
    "nobody".to_owned()
}
fn default_log() -> String {
    "info".to_owned()
}

/// What is captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// How much is recorded of what is captured, while the spool has room.
    pub level: Level,
    /// Bytes of the data ring, a power of two.
    pub data_ring_bytes: u32,
    /// Bytes of the control ring, a power of two.
    pub control_ring_bytes: u32,
    /// Bytes of one call that are copied; the rest is counted as cut.
    pub call_bytes_max: u32,
    /// Read plaintext from TLS libraries.
    pub tls: bool,
    /// What is left out.
    pub exclude: Selectors,
    /// When anything stands here, only this is captured.
    pub include: Selectors,
}

impl Default for Capture {
    fn default() -> Self {
        Capture {
            level: Level::default(),
            data_ring_bytes: 16 << 20,
            control_ring_bytes: 1 << 20,
            call_bytes_max: 1 << 20,
            tls: true,
            exclude: Selectors::default(),
            include: Selectors::default(),
        }
    }
}

/// Bounds of decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest frame that is buffered.
    pub frame_bytes_max: usize,
    /// Bytes of one body that are kept.
    pub body_bytes_max: usize,
    /// Rows of one answer that are kept.
    pub rows_max: usize,
    /// Exchanges of one connection that wait for an answer.
    pub pending_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = custody_decoders::protocol::Limits::default();
        Limits {
            frame_bytes_max: limits.frame_bytes_max,
            body_bytes_max: limits.body_bytes_max,
            rows_max: limits.rows_max,
            pending_max: limits.pending_max,
        }
    }
}

/// Batches that wait for the sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Bytes on disk at most.
    pub bytes_max: u64,
    /// Of these, bytes kept free for heartbeats and gaps.
    pub reserve_bytes: u64,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// What frees a batch.
    pub free_at: FreeAt,
    /// The file that says who must have witnessed it; empty for none.
    pub policy: PathBuf,
}

impl Default for Spool {
    fn default() -> Self {
        Spool {
            bytes_max: 1 << 30,
            reserve_bytes: 16 << 20,
            segment_bytes: 8 << 20,
            free_at: FreeAt::Committed,
            policy: PathBuf::new(),
        }
    }
}

/// The way to the sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forward {
    /// One request waits this long for its answer, seconds.
    pub timeout_seconds: u64,
    /// Longest wait between two attempts, seconds.
    pub backoff_seconds_max: u64,
}

impl Default for Forward {
    fn default() -> Self {
        Forward { timeout_seconds: 30, backoff_seconds_max: 30 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            config_version: CONFIG_VERSION,
            state_directory: default_state_directory(),
            runtime_directory: default_runtime_directory(),
            worker_user: default_worker_user(),
            log: default_log(),
            capture: Capture::default(),
            limits: Limits::default(),
            masking: MaskRules::default(),
            spool: Spool::default(),
            forward: Forward::default(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Config = toml::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
        if config.config_version != CONFIG_VERSION {
            return Err(ConfigError::Version { path: path.to_owned(), found: config.config_version });
        }
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        self.masking
            .check()
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
        let bounds = |ok: bool, key, value: u64, bounds| {
            if ok {
                return Ok(());
            }
            Err(ConfigError::Bounds { path: path.to_owned(), key, value: value.to_string(), bounds })
        };
        let ring = |bytes: u32| bytes.is_power_of_two() && (64 << 10..=1 << 30).contains(&bytes);
        let capture = &self.capture;
        bounds(
            ring(capture.data_ring_bytes),
            "capture.data_ring_bytes",
            capture.data_ring_bytes.into(),
            "a power of two from 65536 to 1073741824",
        )?;
        bounds(
            ring(capture.control_ring_bytes),
            "capture.control_ring_bytes",
            capture.control_ring_bytes.into(),
            "a power of two from 65536 to 1073741824",
        )?;
        bounds(
            (4096..=16 << 20).contains(&capture.call_bytes_max),
            "capture.call_bytes_max",
            capture.call_bytes_max.into(),
            "from 4096 to 16777216",
        )?;
        let limits = &self.limits;
        bounds(
            (4096..=16 << 20).contains(&limits.frame_bytes_max),
            "limits.frame_bytes_max",
            limits.frame_bytes_max as u64,
            "from 4096 to 16777216",
        )?;
        bounds(
            limits.body_bytes_max <= 192 << 10,
            "limits.body_bytes_max",
            limits.body_bytes_max as u64,
            "at most 196608, so that a record fits its entry",
        )?;
        bounds(limits.rows_max <= 100_000, "limits.rows_max", limits.rows_max as u64, "at most 100000")?;
        bounds(
            (1..=1 << 20).contains(&limits.pending_max),
            "limits.pending_max",
            limits.pending_max as u64,
            "from 1 to 1048576",
        )?;
        let spool = &self.spool;
        bounds(
            (1 << 20..=256 << 20).contains(&spool.segment_bytes),
            "spool.segment_bytes",
            spool.segment_bytes,
            "from 1048576 to 268435456",
        )?;
        bounds(
            spool.bytes_max >= spool.reserve_bytes.saturating_add(2 * spool.segment_bytes),
            "spool.bytes_max",
            spool.bytes_max,
            "at least reserve_bytes and two segments",
        )?;
        if spool.free_at == FreeAt::Witnessed && spool.policy.as_os_str().is_empty() {
            return Err(ConfigError::Bounds {
                path: path.to_owned(),
                key: "spool.policy",
                value: "empty".to_owned(),
                bounds: "the path of a policy with a quorum, for spool.free_at is \"witnessed\"",
            });
        }
        bounds(
            (1..=600).contains(&self.forward.timeout_seconds),
            "forward.timeout_seconds",
            self.forward.timeout_seconds,
            "from 1 to 600",
        )?;
        bounds(
            (1..=3600).contains(&self.forward.backoff_seconds_max),
            "forward.backoff_seconds_max",
            self.forward.backoff_seconds_max,
            "from 1 to 3600",
        )
    }

    /// SHA-256 over the meaning of this configuration: the same for two files that say the same.
    pub fn hash(&self) -> [u8; 32] {
        let bytes = rmp_serde::to_vec_named(self).expect("a configuration is plain data");
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests;
