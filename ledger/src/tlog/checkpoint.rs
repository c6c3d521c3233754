//! Checkpoints (c2sp.org/tlog-checkpoint): which tree a log stands for. The key that signs them is certified by the
//! sink's receipt key, so whoever knows that one needs no other; it signs nothing but checkpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::note::{KeyKind, Note, NoteError, NoteKey, cosigned};
use super::rules::{Rule, is_left_out};
use crate::ids::{Hash, PublicKey, Signature};
use crate::keys::{self, Context, LogKey, SinkKey};
use crate::tree;

/// Longest origin that a reader accepts, bytes.
pub const ORIGIN_BYTES_MAX: usize = 255;

/// A tree: the log that it belongs to, how many leaves, and their root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// A checkpoint as a host's batches name the newest one that it has checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointReference {
    /// Name of the log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// A checkpoint that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// No signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note that says something else.
    #[error("this is no checkpoint")]
    Malformed,
    /// Not signed by the log's key.
    #[error("the checkpoint is not signed by the log's key")]
    Signature,
    /// Of another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// The log's key is not certified by the sink's key.
    #[error("the log's key is not certified by the sink's key")]
    Certificate,
}

impl Checkpoint {
    /// What is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Signs it as its log.
    pub fn sign(&self, key: &LogKey) -> Note {
        let text = self.text();
        let signature = key.sign_note(text.as_bytes());
        Note::signed(text, &log_key(key.public()), signature.0.to_vec())
    }

    /// Reads a note and checks that `log` signed it, under its own name. Lines after the third are of no concern here.
    pub fn open(note: &Note, log: &NoteKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::parse(note.text()).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin != log.name() && !is_left_out(Rule::Origin) {
            return Err(CheckpointError::Origin);
        }
        if log.verify(note).is_none() && !is_left_out(Rule::Signature) {
            return Err(CheckpointError::Signature);
        }
        Ok(checkpoint)
    }

    /// [`Checkpoint::open`] of a note's text.
    pub fn open_text(text: &str, log: &NoteKey) -> Result<Self, CheckpointError> {
        Checkpoint::open(&text.parse()?, log)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|origin| (1..=ORIGIN_BYTES_MAX).contains(&origin.len()))?;
        let size = decimal(lines.next()?)?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        lines.all(|line| !line.is_empty()).then(|| Checkpoint {
            origin: origin.to_owned(),
            size,
            root: Hash(root),
        })
    }

    /// As batches name it.
    pub fn reference(&self) -> CheckpointReference {
        CheckpointReference { origin: self.origin.clone(), size: self.size, root: self.root }
    }
}

/// A number without signs, spaces or leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The key of a log, under the name that follows from it: one key, one log, one name, for ever.
pub fn log_key(key: PublicKey) -> NoteKey {
    let [a, b, c, d, e, f, g, h, ..] = tree::hash_of(&key.0).0;
    let name = format!("custody-log/{}", hex::encode([a, b, c, d, e, f, g, h]));
    NoteKey::new(&name, KeyKind::Ed25519, key).expect("the name is made of letters")
}

/// A log's key with the certificate of its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedLogKey {
    /// The key.
    pub key: PublicKey,
    /// The sink's signature over it.
    pub certificate: Signature,
}

impl CertifiedLogKey {
    /// Certifies.
    pub fn certify(sink: &SinkKey, key: PublicKey) -> Self {
        CertifiedLogKey { key, certificate: sink.sign(Context::Log, &key.0) }
    }

    /// The key that checkpoints are verified with, if `sink` certified it.
    pub fn verify(&self, sink: &PublicKey) -> Result<NoteKey, CheckpointError> {
        let holds = keys::verify(sink, Context::Log, &self.key.0, &self.certificate);
        if holds || is_left_out(Rule::Certificate) {
            Ok(log_key(self.key))
        } else {
            Err(CheckpointError::Certificate)
        }
    }
}

/// Adds a witness's cosignature (c2sp.org/tlog-cosignature). Whoever calls has checked the tree's consistency with
/// all that this witness ever cosigned.
pub fn cosign(note: &mut Note, name: &str, key: &LogKey, at_s: u64) -> Option<NoteKey> {
    let witness = NoteKey::new(name, KeyKind::CosignatureV1, key.public())?;
    let signature = key.sign_note(cosigned(note.text(), at_s).as_bytes());
    note.add(&witness, [&at_s.to_be_bytes()[..], &signature.0].concat());
    Some(witness)
}
