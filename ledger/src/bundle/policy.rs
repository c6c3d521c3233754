//! The policy: the public keys that an auditor believes, got by another way than the bundle. Lines as in C2SP's policy
//! files, with one of ours for the sink's receipt key.
//!
//! ```text
//! sink <64 hexadecimal digits>
//! log <verifier key: name+id+base64>
//! quorum none
//! ```

use std::fmt;
use std::str::FromStr;

use crate::ids::PublicKey;
use crate::tlog::NoteKey;
use crate::tlog::checkpoint::log_key;

/// Longest policy that a reader accepts, bytes.
const POLICY_BYTES_MAX: usize = 64 * 1024;

/// Whom an auditor believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The key by which the sink signs enrolments.
    pub sink: PublicKey,
    /// The key of its log, under the log's name.
    pub log: NoteKey,
}

/// Text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line that cannot be followed; to pass over it would be to believe more than the policy says.
    #[error("line {0} of the policy is unknown here, damaged or repeated")]
    Line(usize),
    /// A line that must be there.
    #[error("the policy names no {0}")]
    Missing(&'static str),
    /// Over the limit.
    #[error("the policy is too long")]
    TooLong,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sink {}\nlog {}\nquorum none", self.sink, self.log)
    }
}

impl FromStr for Policy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let (mut sink, mut log) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let wrong = PolicyError::Line(index + 1);
            match line.trim().split_once(' ') {
                None if line.trim().is_empty() => {}
                Some(("sink", key)) if sink.is_none() => sink = Some(key.parse().map_err(|_| wrong)?),
                Some(("log", key)) if log.is_none() => log = Some(read_log(key).ok_or(wrong)?),
                Some(("quorum", "none")) => {}
                _ if line.starts_with('#') => {}
                _ => return Err(wrong),
            }
        }
        let sink = sink.ok_or(PolicyError::Missing("sink"))?;
        Ok(Policy { sink, log: log.ok_or(PolicyError::Missing("log"))? })
    }
}

/// A log's name follows from its key.
fn read_log(text: &str) -> Option<NoteKey> {
    let key: NoteKey = text.parse().ok()?;
    (key == log_key(key.key())).then_some(key)
}
