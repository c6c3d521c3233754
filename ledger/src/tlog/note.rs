//! Signed notes (c2sp.org/signed-note): a text and lines of signatures by named keys. A key's id comes from its name,
//! its kind and its bytes; signatures of keys that the reader does not know are passed over.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rules::{Rule, is_left_out};
use crate::ids::{PublicKey, Signature};
use crate::keys;
use crate::tree;

/// Longest note that a reader accepts, bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Most signatures of one note.
pub const SIGNATURES_MAX: usize = 64;

const DASH: &str = "\u{2014} ";

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// The text of a note.
    Ed25519,
    /// A witness's statement about a checkpoint (c2sp.org/tlog-cosignature, `cosignature/v1`).
    CosignatureV1,
}

impl KeyKind {
    const fn to_byte(self) -> u8 {
        match self {
            KeyKind::Ed25519 => 0x01,
            KeyKind::CosignatureV1 => 0x04,
        }
    }
}

/// A key that notes are verified with. As text it is a `vkey`: `name+id+base64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoteKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
}

/// Text that is no note or no key of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no {0}")]
pub struct NoteError(&'static str);

impl NoteKey {
    /// `None` when the name is empty or has a space or a plus in it.
    pub fn new(name: &str, kind: KeyKind, key: PublicKey) -> Option<Self> {
        let named =
            !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
        named.then(|| NoteKey { name: name.to_owned(), kind, key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key itself.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The first four bytes of the hash over name, kind and key.
    pub fn id(&self) -> [u8; 4] {
        let parts = [self.name.as_bytes(), b"\n", &[self.kind.to_byte()], &self.key.0].concat();
        let [a, b, c, d, ..] = tree::hash_of(&parts).0;
        [a, b, c, d]
    }

    /// Whether the note's text is signed by this key. For a cosignature: when, seconds since 1970.
    pub fn verify(&self, note: &Note) -> Option<Signed> {
        let id = self.id();
        // A key signs once; a second signature under its name is not looked at.
        let found = note.signatures.iter().find(|found| found.name == self.name && found.id == id)?;
        match self.kind {
            KeyKind::Ed25519 => {
                let signature = Signature(found.bytes.as_slice().try_into().ok()?);
                keys::verify_note(&self.key, note.text.as_bytes(), &signature)
                    .then_some(Signed { at_s: None })
            }
            KeyKind::CosignatureV1 => {
                let (time, signature) = found.bytes.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let signature = Signature(signature.try_into().ok()?);
                let message = cosigned(&note.text, time);
                let holds = i64::try_from(time).is_ok()
                    && keys::verify_note(&self.key, message.as_bytes(), &signature);
                (holds || is_left_out(Rule::Cosignature)).then_some(Signed { at_s: Some(time) })
            }
        }
    }
}

/// What a witness signs.
pub(crate) fn cosigned(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// A signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Of a cosignature: when it was made, seconds since 1970.
    pub at_s: Option<u64>,
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind.to_byte()], &self.key.0[..]].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(bytes))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let (name, rest) = text.split_once('+')?;
            let (id, encoded) = rest.split_once('+')?;
            let bytes = STANDARD.decode(encoded).ok()?;
            let (kind, key) = bytes.split_first()?;
            let kind =
                [KeyKind::Ed25519, KeyKind::CosignatureV1].into_iter().find(|k| k.to_byte() == *kind)?;
            let key = NoteKey::new(name, kind, PublicKey(key.try_into().ok()?))?;
            (hex::encode(key.id()) == id).then_some(key)
        };
        read().ok_or(NoteError("verifier key (name+id+key)"))
    }
}

/// One line below a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A text with signatures, none of them verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// What is signed: lines, each with its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A note over `text` with one signature.
    pub(crate) fn signed(text: String, key: &NoteKey, bytes: Vec<u8>) -> Self {
        let mut note = Note { text, signatures: Vec::new() };
        note.add(key, bytes);
        note
    }

    /// The bytes of a key's signature, to be put elsewhere.
    #[cfg(test)]
    pub(crate) fn signature(&self, key: &NoteKey) -> Vec<u8> {
        let found = self.signatures.iter().find(|one| one.name == key.name && one.id == key.id());
        found.unwrap().bytes.clone()
    }

    /// Takes a key's signature over from another note of the same text, if it holds and none of that key is here yet.
    pub fn adopt(&mut self, other: &Note, key: &NoteKey) -> Option<Signed> {
        let id = key.id();
        let theirs = |one: &&NoteSignature| one.name == key.name && one.id == id;
        let signed = key.verify(other).filter(|_| other.text == self.text)?;
        if !self.signatures.iter().any(|one| theirs(&one)) {
            self.signatures.push(other.signatures.iter().find(theirs)?.clone());
        }
        Some(signed)
    }

    /// Adds a signature, such as a witness's.
    pub fn add(&mut self, key: &NoteKey, bytes: Vec<u8>) {
        self.signatures.push(NoteSignature { name: key.name.clone(), id: key.id(), bytes });
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|one| {
            writeln!(f, "{DASH}{} {}", one.name, STANDARD.encode([&one.id[..], &one.bytes].concat()))
        })
    }
}

impl FromStr for Note {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let error = NoteError("signed note");
        let harmless = text.chars().all(|c| c == '\n' || !c.is_ascii_control());
        if text.len() > NOTE_BYTES_MAX || !harmless {
            return Err(error);
        }
        let (body, lines) = text.rsplit_once("\n\n").ok_or(error)?;
        let lines = lines.strip_suffix('\n').filter(|lines| !lines.is_empty()).ok_or(error)?;
        let signatures: Vec<_> = lines.split('\n').map(signature).collect::<Option<_>>().ok_or(error)?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(error);
        }
        Ok(Note { text: format!("{body}\n"), signatures })
    }
}

fn signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    let named = !name.is_empty() && !name.contains('+') && !bytes.is_empty();
    named.then(|| NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
