//! When the spool is freed, and by whose word: the policy file that the configuration names. Reads that file and no other.

use std::io::Read;
use std::path::PathBuf;

use custody_ledger::tlog::Policy;
use custody_ledger::tlog::policy::POLICY_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Spool};

/// What frees a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreeAt {
    /// This host has seen the proof that it is in the sink's log.
    #[default]
    Committed,
    /// And enough witnesses of the policy cosigned a checkpoint over it.
    Witnessed,
}

impl Spool {
    /// The policy that says when a batch is witnessed; `None` when the spool is freed before that.
    pub fn policy(&self) -> Result<Option<Policy>, ConfigError> {
        if self.free_at == FreeAt::Committed {
            return Ok(None);
        }
        let path: &PathBuf = &self.policy;
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            std::fs::File::open(path)?.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let policy: Policy = text
            .parse()
            .map_err(|error| ConfigError::Policy { path: path.clone(), message: format!("{error}") })?;
        if !policy.witnesses.demand_any() {
            let message =
                "it has `quorum none`, and spool.free_at = \"witnessed\" needs witnesses".to_owned();
            return Err(ConfigError::Policy { path: path.clone(), message });
        }
        Ok(Some(policy))
    }
}
