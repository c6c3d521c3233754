//! What is checked of a log that a sink shows, by name, so that the attack tests can leave one check out.

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The sink certified the log's key.
    Certificate,
    /// It is the log of before.
    OtherLog,
    /// The checkpoint has the log's name.
    Origin,
    /// The log's key signed the checkpoint.
    Signature,
    /// It has no fewer leaves than before.
    Rollback,
    /// Its tree begins with the one of before.
    Fork,
    /// What is said to be committed is in its tree.
    Inclusion,
    /// A cosignature is one over this checkpoint, at its time, by the key that it names.
    Cosignature,
    /// Enough witnesses cosigned.
    Quorum,
    /// One key is one witness.
    OneKey,
    /// Nobody is a witness of itself.
    OwnKey,
    /// What is called witnessed is of the tree that is watched.
    WitnessedFork,
}

/// No check is left out of what runs.
#[cfg(not(test))]
pub(super) const fn is_left_out(_: Rule) -> bool {
    false
}
#[cfg(test)]
pub(super) use super::attacks::is_left_out;
