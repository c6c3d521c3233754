//! What a sink writes into its store by itself, so that the store alone can be verified: enrolments, and
//! statements about what it saw. Signed by the sink's key, like receipts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::ids::{HostId, Position, PublicKey, Signature};
use crate::keys::{self, Context, SinkKey};
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
    /// About which host.
    pub host: HostId,
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
