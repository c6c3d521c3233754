//! The evidence formats of Custody: entries, the chain, signed batches, receipts, segment files, wire messages
//! and their verification. What is signed is fixed here, and bytes under a signature cannot be migrated.
//!
//! Pure: bytes in, bytes out. No file, network, clock or log; the only outside source is the random generator.
//! Never parses an entry's body, and never re-serialises what it hashes: a hash is over the bytes as stored.
//!
//! In flow order: [`ids`], [`codec`] (one MessagePack convention), [`keys`], [`line`] (a host's keys, one after the other), [`entry`], [`tree`], [`batch`],
//! [`chain`] (the host's side), [`receipt`], [`statement`] (the sink's own records), [`retention`] (bodies that go by age), [`wire`] (between host and sink), [`segment`] (files of the spool
//! and of the store), [`tlog`] (the sink's transparency log), [`verify`] (the same checks for the sink and for offline readers),
//! [`bundle`] (a part of it all for an outsider).
#![forbid(unsafe_code)]

pub mod batch;
pub mod bundle;
pub mod chain;
pub mod codec;
pub mod entry;
pub mod ids;
pub mod keys;
pub mod line;
pub mod receipt;
pub mod retention;
pub mod segment;
pub mod statement;
pub mod tlog;
pub mod tree;
pub mod verify;
pub mod wire;

#[cfg(test)]
mod golden;

pub use batch::{Batch, BatchHeader, Counters, Opening, Resume};
pub use chain::{Chain, Draft, Echo, SignedBatch};
pub use entry::{EntryHeader, EntryType};
pub use ids::{BatchNumber, BootId, EpochId, Hash, HostId, Position, PublicKey, Salt, Seq, Signature};
pub use keys::{HostKey, LogKey, SinkKey};
pub use line::HandOver;
pub use receipt::{Receipt, ReceiptLevel, SignedReceipt};
pub use statement::{Enrolment, Statement};
