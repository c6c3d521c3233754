//! One proof as a file (c2sp.org/tlog-proof): a leaf's place, its inclusion proof and the checkpoint, checked offline
//! with the log's key alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Checkpoint, CheckpointError, decimal};
use super::note::{NOTE_BYTES_MAX, Note, NoteKey};
use super::proof::{PROOF_HASHES_MAX, verify_inclusion};
use crate::ids::Hash;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const EXTRA_BYTES_MAX: usize = 64 * 1024;

/// A proof that a leaf is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The leaf's index.
    pub index: u64,
    /// From the leaf's sibling up.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

/// A proof that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text is no proof.
    #[error("this is no tlog-proof")]
    Malformed,
    /// The checkpoint does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The leaf is not in that tree at that place.
    #[error("the proof is not one of this leaf in this tree")]
    Inclusion,
}

impl InclusionProof {
    /// Checks that the leaf with this hash is in the tree of a checkpoint that `log` signed.
    pub fn verify(&self, leaf: &Hash, log: &NoteKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, log)?;
        let holds = verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes);
        if holds { Ok(checkpoint) } else { Err(ProofError::Inclusion) }
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = ProofError;
    fn from_str(text: &str) -> Result<Self, ProofError> {
        if text.len() > NOTE_BYTES_MAX + EXTRA_BYTES_MAX {
            return Err(ProofError::Malformed);
        }
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Malformed)?;
        let (index, hashes) = read(proof).ok_or(ProofError::Malformed)?;
        let checkpoint = checkpoint.parse().map_err(CheckpointError::Note)?;
        Ok(InclusionProof { index, hashes, checkpoint })
    }
}

fn read(proof: &str) -> Option<(u64, Vec<Hash>)> {
    let mut lines = proof.split('\n').peekable();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    // Nobody vouches for what stands there, and nobody here needs it.
    let _extra = lines.next_if(|line| line.starts_with("extra "));
    let index = decimal(lines.next()?.strip_prefix("index ")?)?;
    let hash = |line: &str| Some(Hash(STANDARD.decode(line).ok()?.try_into().ok()?));
    let hashes = lines.take(PROOF_HASHES_MAX + 1).map(hash).collect::<Option<Vec<_>>>()?;
    (hashes.len() <= PROOF_HASHES_MAX).then_some((index, hashes))
}
