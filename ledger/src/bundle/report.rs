//! What verification of a bundle comes to: what it shows, or the check that rejects it.

use std::fmt;
use std::io;

use serde::Serialize;

use super::{Point, ReadError};
use crate::ids::{BatchNumber, HostId, Seq};
use crate::tlog::policy::Cosigned;
use crate::verify::{Fault, Finding};

/// The reasons for which a bundle is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleCheck {
    /// The bytes are a bundle.
    Format,
    /// The checkpoint is signed by the policy's log.
    Checkpoint,
    /// Enough of the policy's witnesses cosigned the checkpoint.
    Witnesses,
    /// The enrolment is signed by the policy's sink.
    Enrolment,
    /// The enrolment is that of the bundle's host.
    Host,
    /// Enrolment, anchor and batches are under the checkpoint.
    Inclusion,
    /// The way of keys leads from a certified key to the first batch.
    Way,
    /// A frame with all its bodies is the one that the sink received.
    Content,
    /// Batches and entries follow each other without a hole and are those that were signed.
    Chain,
    /// The batches hold the whole range, and begin and end with it.
    Range,
    /// Bodies that are told as expired have: one of the steps of that.
    Retention(RetentionCheck),
}

/// What must hold for a body to have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionCheck {
    /// What stands before the batch is a statement about bodies that go by age.
    Statement,
    /// It is signed by the policy's sink.
    Signature,
    /// It names the bundle's host.
    Host,
    /// It stands in the log behind all that it is about.
    Place,
    /// It is about what came behind that of which the statement before it in the bundle is.
    Order,
    /// It is about the batch that it stands before.
    About,
    /// Nothing is here of what it says to have gone.
    Body,
    /// The batch was as old as it says when it was made.
    Age,
    /// It names as many batches of the host.
    Batches,
    /// A statement is about the batch. Without one its absent bodies have not expired: the bundle is not rejected for that.
    Stated,
    /// The batch lacks what it came with. Bodies that never came have not expired: the bundle is not rejected for that.
    Came,
}

impl fmt::Display for BundleCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            BundleCheck::Retention(step) => format!("retention.{step:?}"),
            check => format!("{check:?}"),
        };
        f.write_str(&name.to_lowercase())
    }
}

/// Why a bundle shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} check failed: {detail}", self.name())]
pub struct Rejected {
    /// Which check.
    pub check: BundleCheck,
    /// What is wrong: one sentence, no payload.
    pub detail: String,
    /// The step of the chain, where that is the reason.
    pub fault: Option<Box<Fault>>,
}

impl Rejected {
    /// Name of the check, such as `range`, or `chain.number` for a step of the chain.
    pub fn name(&self) -> String {
        match &self.fault {
            Some(fault) => format!("{}.{}", self.check, fault.check).replace(' ', "_"),
            None => self.check.to_string(),
        }
    }
}

/// A bundle that is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be read to its end.
    #[error("cannot read the bundle: {0}")]
    Io(io::Error),
    /// It was read, and shows nothing.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl From<ReadError> for VerifyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => VerifyError::Io(error),
            ReadError::Malformed(_) => {
                let (check, detail) = (BundleCheck::Format, error.to_string());
                VerifyError::Rejected(Rejected { check, detail, fault: None })
            }
        }
    }
}

/// What shows that the first batch is signed by a key of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChain {
    /// Each key since the one that the host's enrolled key certified is in the bundle.
    Enrolled,
    /// The log says that its sink had checked it up to this batch; the bundle shows the keys from there on.
    Anchored(BatchNumber),
}

/// What a bundle shows of the session that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// Seq of its first entry.
    pub seq: Seq,
    /// Entries of the session.
    pub entries: u64,
    /// Of these, how many have no body here, and no statement that it expired.
    pub redacted: u64,
    /// How many have none because it expired.
    pub expired: u64,
    /// Its end is here.
    pub closed: bool,
}

/// A statement by which bodies of the range expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// When the sink says that it made it, ns since 1970.
    pub stated_ns: u64,
    /// The age at which its policy let them go, seconds since the sink received them.
    pub age_s: u64,
    /// How many bodies of the range.
    pub bodies: u64,
}

/// What a bundle shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose entries.
    pub host: HostId,
    /// What the host calls itself: a claim.
    pub name_claimed: String,
    /// The first entry.
    pub first: Point,
    /// The last entry.
    pub last: Point,
    /// What leads to the first batch.
    pub keys: KeyChain,
    /// Entries of the range whose body is here and holds.
    pub verified: u64,
    /// Entries of the range whose body is not here, and no statement that it expired. The header's hash stands for it.
    pub redacted: u64,
    /// Entries of the range whose body expired: the sink had signed before that it lets it go by age.
    pub expired: u64,
    /// By which statements, in the order of the log.
    pub expiries: Vec<Expiry>,
    /// Statements beyond those that are kept; their bodies are in `expired`.
    pub expiries_more: u64,
    /// Entries of the range that say that something was lost.
    pub gaps: u64,
    /// Entries around the range, in its first and last batch.
    pub around: u64,
    /// The session that it was made for.
    pub session: Option<SessionReport>,
    /// Batches.
    pub batches: u64,
    /// Starts of the agent.
    pub epochs: u64,
    /// What holds and has to be known: batches that the host held and that are not here.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub findings_more: u64,
    /// The host's wall clock at the first entry, ns since 1970: a claim.
    pub first_wall_claimed_ns: u64,
    /// The same at the last entry.
    pub last_wall_claimed_ns: u64,
    /// When the sink says that it received the first batch, ns since 1970.
    pub first_received_ns: u64,
    /// The same of the last one.
    pub last_received_ns: u64,
    /// The log.
    pub origin: String,
    /// Records under the checkpoint.
    pub size: u64,
    /// Which of the policy's witnesses cosigned it, and when.
    pub cosigned: Vec<Cosigned>,
}

impl Report {
    /// Whether nothing of what the bundle is about is missing in it.
    pub fn is_whole(&self) -> bool {
        let lost = |finding: &Finding| {
            matches!(finding, Finding::Missing { .. } | Finding::Forked { .. } | Finding::RolledBack { .. })
        };
        self.findings_more == 0
            && !self.findings.iter().any(lost)
            && self.session.is_none_or(|session| session.redacted == 0)
    }
}
