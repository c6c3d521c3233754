//! What a sink writes into its store by itself, so that the store alone can be verified: enrolments, and
//! statements about what it saw. Signed by the sink's key, like receipts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::ids::{Hash, HostId, Position, PublicKey, Signature};
use crate::keys::{self, Context, SinkKey};
use crate::retention::Retention;
use crate::verify::{Fault, Finding};

/// A host as its sink enrolled it. Its key is what verification starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The id that the sink gave.
    pub host: HostId,
    /// The key that certifies the host's epochs.
    pub key: PublicKey,
    /// What the host calls itself: a claim.
    pub name: String,
    /// Labels of the join token.
    pub labels: BTreeMap<String, String>,
    /// When, by the sink's clock, ns since 1970.
    pub enrolled_ns: u64,
}

/// One statement of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// About which host; `None` for what concerns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// When, by the sink's clock, ns since 1970.
    pub at_ns: u64,
    /// What.
    pub what: Stated,
}

/// What a sink states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stated {
    /// A batch holds, and this has to be known of it.
    Found {
        /// The batch.
        batch: Position,
        /// What.
        finding: Finding,
    },
    /// Another batch came for a place that is taken. The frame is kept here.
    Equivocation {
        /// The batch that was accepted.
        accepted: Position,
        /// The other one.
        other: Position,
        /// Whether the other one is signed by the key of that place: then the host, or who has its memory,
        /// signed twice.
        signed: bool,
        /// The other frame.
        #[serde(with = "serde_bytes")]
        frame: Vec<u8>,
    },
    /// A batch was refused for a check that does not hold.
    Refused {
        /// Which check, and where.
        fault: Fault,
    },
    /// Somebody was not let in.
    Denied(Denied),
    /// A host came over what it may bring: its batches were not taken from then on, until it was under it again.
    OverQuota {
        /// Which quota.
        quota: QuotaKind,
        /// What it allows.
        limit: u64,
        /// What the host had used of it.
        used: u64,
    },
    /// Bodies go by age from now on. Stated and committed before they do.
    Retention(Retention),
    /// A person got a certificate.
    Admitted {
        /// As in the certificate: role, name and, of a reader, scope.
        identity: String,
    },
    /// No certificate that this identity was given up to then is believed; of a host, no batch follows in the store.
    Revoked {
        /// As in the certificate, without a scope.
        identity: String,
        /// Up to when, by the sink's clock, seconds since 1970.
        until_s: u64,
        /// What the person who revoked it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The revocation of this identity was taken away: its certificates are believed again.
    Reinstated {
        /// As in the certificate, without a scope.
        identity: String,
    },
    /// A host got another certificate, over its still valid one and with the newest key of its line.
    Renewed {
        /// As in the certificate.
        identity: String,
        /// SHA-256 of the certificate, DER.
        certificate: Hash,
    },
}

impl Stated {
    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Stated::Found { finding, .. } => finding.code(),
            Stated::Equivocation { .. } => "equivocation",
            Stated::Refused { .. } => "refused",
            Stated::Denied(_) => "denied",
            Stated::OverQuota { .. } => "over_quota",
            Stated::Retention(_) => "retention",
            Stated::Admitted { .. } => "admitted",
            Stated::Revoked { .. } => "revoked",
            Stated::Reinstated { .. } => "reinstated",
            Stated::Renewed { .. } => "renewed",
        }
    }
}

/// What a host may not bring more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaKind {
    /// Batches a second, over some time.
    BatchesPerSecond,
    /// Bytes of batches in one day, UTC.
    BytesPerDay,
    /// Bytes of batches in the store.
    BytesStored,
    /// A kind that is newer than this reader.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuotaKind::BatchesPerSecond => "batches per second",
            QuotaKind::BytesPerDay => "bytes per day",
            QuotaKind::BytesStored => "bytes in the store",
            QuotaKind::Unknown => "a kind that this version does not know",
        })
    }
}

/// Attempts of one caller that were denied for one reason, since that was stated last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// What the certificate says that the sink's authority signed; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Why.
    pub reason: DenialReason,
    /// How many attempts.
    pub count: u64,
    /// When the first of them came, by the sink's clock, ns since 1970.
    pub since_ns: u64,
    /// Where the first of them came from: an IP address.
    pub address: String,
    /// Its method and path, escaped and cut; empty for a connection that came to no request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialReason {
    /// The request came without a client certificate, and needs one.
    NoCertificate,
    /// The certificate is not of the sink's authority, or its time is over: the connection came to no request.
    Certificate,
    /// The authority's certificate names nobody that this sink knows how to read, such as an unknown role.
    Identity,
    /// The certificate is revoked.
    Revoked,
    /// The certificate stands for another host than the one that was asked for.
    OtherHost,
    /// That is not for this role.
    Role,
    /// The host of the certificate is not enrolled here.
    NotEnrolled,
    /// The join token is unknown, used up or expired.
    Token,
    /// Who asks for another certificate of a host does not have the newest key of its chain.
    ChainKey,
    /// A cosignature that no witness of the sink made.
    Cosignature,
    /// A reason that is newer than this reader.
    #[serde(other)]
    Unknown,
}

impl DenialReason {
    /// Its stable name, as stored.
    pub const fn code(self) -> &'static str {
        match self {
            DenialReason::NoCertificate => "no_certificate",
            DenialReason::Certificate => "certificate",
            DenialReason::Identity => "identity",
            DenialReason::Revoked => "revoked",
            DenialReason::OtherHost => "other_host",
            DenialReason::Role => "role",
            DenialReason::NotEnrolled => "not_enrolled",
            DenialReason::Token => "token",
            DenialReason::ChainKey => "chain_key",
            DenialReason::Cosignature => "cosignature",
            DenialReason::Unknown => "unknown",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            DenialReason::NoCertificate => "no client certificate",
            DenialReason::Certificate => "a certificate of another authority, or one whose time is over",
            DenialReason::Identity => "a certificate of an unknown role or form",
            DenialReason::Revoked => "a revoked certificate",
            DenialReason::OtherHost => "another host's path",
            DenialReason::Role => "not for this role",
            DenialReason::NotEnrolled => "a host that is not enrolled here",
            DenialReason::Token => "a join token that is unknown, used up or expired",
            DenialReason::ChainKey => "another certificate without the newest key of the host's chain",
            DenialReason::Cosignature => "a cosignature that no witness made",
            DenialReason::Unknown => "a reason that this version does not know",
        }
    }
}

/// One sentence for people.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.who.as_deref().unwrap_or("somebody without a certificate that holds");
        write!(f, "{who} was denied ({})", self.reason.words())?;
        if self.count != 1 {
            write!(f, " {} times", self.count)?;
        }
        write!(f, ", from {}", self.address)?;
        if !self.request.is_empty() {
            write!(f, ": {}", self.request)?;
        }
        Ok(())
    }
}

/// An enrolment or a statement as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The bytes that are signed.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
    /// The key that signed.
    pub sink: PublicKey,
    /// Signature over the bytes.
    pub signature: Signature,
}

/// A stored message that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// No message of ours.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Not signed by the key that it names.
    #[error("the sink's signature does not hold")]
    Signature,
}

impl Signed {
    /// Signs an [`Enrolment`] or a [`Statement`] and gives the payload of its record.
    pub fn seal<T: Serialize>(key: &SinkKey, message: &T) -> Result<Vec<u8>, CodecError> {
        let message = codec::encode("statement", message)?;
        let signature = key.sign(Context::Statement, &message);
        codec::encode("signed statement", &Signed { message, sink: key.public(), signature })
    }

    /// Reads a record's payload, and checks the signature of the key that it names. Whether that key is to be
    /// believed is the caller's question.
    pub fn open<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<(T, PublicKey), StatementError> {
        let signed: Signed = codec::decode("signed statement", payload)?;
        if !keys::verify(&signed.sink, Context::Statement, &signed.message, &signed.signature) {
            return Err(StatementError::Signature);
        }
        Ok((codec::decode("statement", &signed.message)?, signed.sink))
    }
}
