//! Verification. [`follow`] is the one set of checks: the sink runs it before it accepts a batch, and
//! [`Verifier`] runs it offline over whole stores. Neither parses a body.

mod follow;
mod report;

pub use follow::{Check, Fault, Finding, Head, LogDifference, Step, follow, judge_checkpoint};
pub use report::{End, EpochReport, HostReport, Verdict, Verifier};

#[cfg(test)]
pub(crate) mod attacks;
