//! The line of a host's keys: from the key that the host enrolled with to its newest one, each signed by the key before.
//! Every opening of an epoch carries the whole line, so it is followed with the enrolment alone; what a line may not do is
//! leave out a key that was there before it, which is what keeps an old key from coming back.

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, PublicKey, Signature};
use crate::keys;

/// Most keys of a line beside the enrolled one. A host that has used them up is enrolled anew.
pub const LINE_MAX: usize = 64;

/// One step of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The key that certifies epochs from now on.
    pub key: PublicKey,
    /// By the key before, over host, that key and this one ([`crate::HostKey::hand_over`]).
    pub signature: Signature,
}

/// What a line is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A step that nobody signed who could.
    #[error("a key of the host's line is not signed by the key before it")]
    HandOver,
    /// It does not lead over the key that the host was known to have.
    #[error(
        "the host's line of keys does not lead over its newest key: that one was left out, or rotated away before"
    )]
    Leaves,
}

/// Follows a line from the enrolled key over the `held` one, the newest that is known; answers its last key.
pub fn follow(
    host: HostId,
    enrolled: &PublicKey,
    held: &PublicKey,
    line: &[HandOver],
) -> Result<PublicKey, LineError> {
    follow_but(host, enrolled, held, line, |_| false)
}

/// The same, where the attack tests may leave checks out.
pub(crate) fn follow_but(
    host: HostId,
    enrolled: &PublicKey,
    held: &PublicKey,
    line: &[HandOver],
    is_left_out: impl Fn(LineError) -> bool,
) -> Result<PublicKey, LineError> {
    let (mut key, mut led_over) = (*enrolled, enrolled == held);
    for step in line {
        if !keys::is_handed_over(host, &key, step) && !is_left_out(LineError::HandOver) {
            return Err(LineError::HandOver);
        }
        key = step.key;
        led_over |= key == *held;
    }
    if led_over || is_left_out(LineError::Leaves) { Ok(key) } else { Err(LineError::Leaves) }
}
