//! Receipts: what a sink promises of one batch, signed.

use serde::{Deserialize, Serialize};

use crate::batch::ReceiptReference;
use crate::codec::{self, CodecError};
use crate::ids::{HostId, Position, PublicKey, Signature};
use crate::keys::{self, Context, SinkKey};
use crate::tree;

/// Version of the receipt that this code writes.
pub const RECEIPT_VERSION: u16 = 1;

/// How far a batch is from being lost or denied, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptLevel {
    /// Verified, written, synced to the medium and read back.
    Stored,
    /// Included under a signed checkpoint.
    Committed,
    /// That checkpoint is cosigned by witnesses.
    Witnessed,
}

/// What the sink promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub version: u16,
    /// How far.
    pub level: ReceiptLevel,
    /// Whose batch.
    pub host: HostId,
    /// Which batch.
    pub batch: Position,
    /// When the sink received it by its own clock, ns since 1970.
    pub received_ns: u64,
    /// The key that signed.
    pub sink: PublicKey,
}

/// A receipt as it travels and is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The bytes that are signed.
    #[serde(with = "serde_bytes")]
    pub receipt: Vec<u8>,
    /// Signature over them.
    pub signature: Signature,
}

/// A receipt that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// No receipt of ours.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Another version.
    #[error("receipt version {0} is unknown here")]
    Version(u16),
    /// Not signed by the sink that was asked for.
    #[error("the receipt is not signed by the sink's key")]
    Signature,
}

impl Receipt {
    /// This receipt, if it names `sink`.
    pub fn of(self, sink: &PublicKey) -> Result<Self, ReceiptError> {
        if self.sink == *sink { Ok(self) } else { Err(ReceiptError::Signature) }
    }
}

impl SignedReceipt {
    /// Signs a promise.
    pub fn sign(
        key: &SinkKey,
        level: ReceiptLevel,
        host: HostId,
        batch: Position,
        received_ns: u64,
    ) -> Result<Self, CodecError> {
        let receipt =
            Receipt { version: RECEIPT_VERSION, level, host, batch, received_ns, sink: key.public() };
        let receipt = codec::encode("receipt", &receipt)?;
        let signature = key.sign(Context::Receipt, &receipt);
        Ok(SignedReceipt { receipt, signature })
    }

    /// Reads it and checks that `sink` signed it.
    pub fn verify(&self, sink: &PublicKey) -> Result<Receipt, ReceiptError> {
        self.open()?.of(sink)
    }

    /// Reads it and checks that the key that it names signed it. Whether that is the right one, [`Receipt::of`] tells.
    pub fn open(&self) -> Result<Receipt, ReceiptError> {
        let receipt: Receipt = codec::decode("receipt", &self.receipt)?;
        if receipt.version != RECEIPT_VERSION {
            return Err(ReceiptError::Version(receipt.version));
        }
        if !keys::verify(&receipt.sink, Context::Receipt, &self.receipt, &self.signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(receipt)
    }

    /// How the host's next batches name it.
    pub fn reference(&self, batch: Position) -> ReceiptReference {
        ReceiptReference { batch, receipt: tree::hash_of(&self.receipt) }
    }
}
