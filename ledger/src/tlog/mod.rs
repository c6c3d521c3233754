//! The sink's transparency log in the public formats of C2SP, so that tools that nobody here wrote can read it:
//! tiles and entry bundles (c2sp.org/tlog-tiles), signed notes, checkpoints, cosignatures and proofs
//! (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof).
//!
//! Pure: whoever has the tiles hands them in, as files, over HTTP or out of memory. Never decides what becomes a leaf.
//!
//! In flow order: [`leaf`] (a record of the store), [`edge`] (the growing tree and the tiles that it makes), [`tile`]
//! (names and contents), [`proof`] (made and checked), [`note`] and [`checkpoint`] (what is signed), [`text`] (one
//! proof as a file), [`policy`] (whose cosignatures a checkpoint needs), [`witness`] (what a host demands).

pub mod checkpoint;
pub mod edge;
pub mod leaf;
pub mod note;
pub mod policy;
pub mod proof;
mod rules;
pub mod text;
pub mod tile;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointReference};
pub use edge::{Edge, MemoryTree};
pub use leaf::BatchLeaf;
pub use note::{Note, NoteKey};
pub use policy::{Policy, PolicyError, Witnesses};
pub use proof::{Nodes, verify_consistency, verify_inclusion};
pub use text::InclusionProof;
pub use tile::{Tile, TileNodes};
pub use witness::{Alarm, Awaited, Witness};

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod vectors;
