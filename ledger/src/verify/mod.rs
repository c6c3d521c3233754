//! Verification. [`follow`] is the one set of checks: the sink runs it before it accepts a batch, and
//! [`Verifier`] runs it offline over whole stores. Neither parses a body.

mod expiries;
mod findings;
mod follow;
mod report;

pub use expiries::{Expired, ExpiredBodies, Expiries, NotExpired, Unexplained};
pub use findings::{Check, Fault, Finding, LogDifference, judge_checkpoint};
pub use follow::{Hashed, Head, Step, follow};
pub use report::{End, EpochReport, HostReport, Verdict, Verifier};

#[cfg(test)]
pub(crate) mod attacks;
