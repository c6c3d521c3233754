//! Signing keys: the host's enrolled key, the keys of single batches that are wiped after one use, and the
//! sink's receipt key. Each signature covers a context line first, so that none can stand for another; only notes have a public form of their own, and keys of
//! their own for it.
//!
//! Ed25519 by ring. ring does not wipe the expanded key that it builds for a signature, so what must not
//! outlive its use is expanded at the last moment in a frame that is overwritten afterwards.

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::{Zeroize, Zeroizing};

use crate::ids::{BootId, EpochId, HostId, PublicKey, Signature};
use crate::line::HandOver;

/// What a signature is for. The line is signed before the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The host key certifies key 0 of an epoch.
    Epoch,
    /// A batch key signs a batch header.
    Batch,
    /// The host key shows at enrolment that its holder has it.
    Enrolment,
    /// The sink signs a receipt.
    Receipt,
    /// The sink signs what it wrote down itself.
    Statement,
    /// The sink certifies the key of its log.
    Log,
    /// A host key hands over to the next one.
    HandOver,
    /// The host key shows that its holder asks for a new certificate.
    Renewal,
}

impl Context {
    const fn line(self) -> &'static [u8] {
        match self {
            Context::Epoch => b"custody/1 epoch\n",
            Context::Batch => b"custody/1 batch\n",
            Context::Enrolment => b"custody/1 enrolment\n",
            Context::Receipt => b"custody/1 receipt\n",
            Context::Statement => b"custody/1 statement\n",
            Context::Log => b"custody/1 log\n",
            Context::HandOver => b"custody/1 hand-over\n",
            Context::Renewal => b"custody/1 renewal\n",
        }
    }
}

/// Trouble with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the system's random generator gave nothing")]
    Random,
    /// Bytes that are no PKCS#8 Ed25519 key.
    #[error("this is no Ed25519 private key in PKCS#8")]
    Malformed,
}

/// Whether `signature` is that of `key` over `message` in this context.
pub fn verify(key: &PublicKey, context: Context, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, &key.0).verify(&framed(context, message), &signature.0).is_ok()
}

/// Whether `signature` is that of `key` over a note's text. Notes have their own form, so no context line stands
/// before them; keys of notes sign nothing else.
pub(crate) fn verify_note(key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, &key.0).verify(text, &signature.0).is_ok()
}

fn framed(context: Context, message: &[u8]) -> Vec<u8> {
    [context.line(), message].concat()
}

fn sign(pair: &Ed25519KeyPair, context: Context, message: &[u8]) -> Signature {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(pair.sign(&framed(context, message)).as_ref());
    Signature(bytes)
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(pair.public_key().as_ref());
    PublicKey(bytes)
}

/// Fills `out` with random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).map_err(|_| KeyError::Random)?;
    Ok(out)
}

macro_rules! stored_key {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        pub struct $name(Ed25519KeyPair);

        impl $name {
            /// A new key and its PKCS#8 form, which the caller stores with mode 0600.
            pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
                let document =
                    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
                let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
                Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
            }

            /// The key out of its stored form.
            pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
                Ed25519KeyPair::from_pkcs8(pkcs8).map($name).map_err(|_| KeyError::Malformed)
            }

            /// What others verify with.
            pub fn public(&self) -> PublicKey {
                public(&self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.public())
            }
        }
    };
}

stored_key! {
    /// The key that a host enrolled with, or the newest of its line. It certifies the first batch key of each epoch, and
    /// signs what makes another key or certificate the host's.
    HostKey
}
stored_key! {
    /// The key by which a sink signs receipts and its own statements.
    SinkKey
}

stored_key! {
    /// The key by which a log signs its checkpoints, or a witness those of others. It signs notes and nothing else.
    LogKey
}

impl LogKey {
    /// Signs the text of a note.
    pub(crate) fn sign_note(&self, text: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(text).as_ref());
        Signature(bytes)
    }
}

impl HostKey {
    /// Certifies key 0 of an epoch.
    pub fn certify(&self, host: HostId, boot: BootId, epoch: EpochId, key: &PublicKey) -> Signature {
        sign(&self.0, Context::Epoch, &epoch_statement(host, boot, epoch, key))
    }

    /// Shows possession of this key at enrolment, bound to one certificate request (DER).
    pub fn prove_enrolment(&self, certificate_request: &[u8]) -> Signature {
        sign(&self.0, Context::Enrolment, &enrolment_statement(certificate_request))
    }

    /// Hands over to another key, which certifies the host's epochs from then on.
    pub fn hand_over(&self, host: HostId, next: &PublicKey) -> HandOver {
        let signature = sign(&self.0, Context::HandOver, &hand_over_statement(host, &self.public(), next));
        HandOver { key: *next, signature }
    }

    /// Shows that the host's chain asks for a certificate over this request (DER).
    pub fn prove_renewal(&self, host: HostId, certificate_request: &[u8]) -> Signature {
        sign(&self.0, Context::Renewal, &renewal_statement(host, certificate_request))
    }
}

impl SinkKey {
    /// Signs a receipt or a statement of the sink.
    pub fn sign(&self, context: Context, message: &[u8]) -> Signature {
        sign(&self.0, context, message)
    }
}

/// Whether the host key certified key 0 of this epoch.
pub fn is_certified(
    host_key: &PublicKey,
    host: HostId,
    boot: BootId,
    epoch: EpochId,
    key: &PublicKey,
    certificate: &Signature,
) -> bool {
    verify(host_key, Context::Epoch, &epoch_statement(host, boot, epoch, key), certificate)
}

/// Whether who sent this certificate request has the host key.
pub fn is_enrolment_proof(host_key: &PublicKey, certificate_request: &[u8], proof: &Signature) -> bool {
    verify(host_key, Context::Enrolment, &enrolment_statement(certificate_request), proof)
}

/// Whether the holder of `before` handed over to the key of this step.
pub(crate) fn is_handed_over(host: HostId, before: &PublicKey, step: &HandOver) -> bool {
    verify(before, Context::HandOver, &hand_over_statement(host, before, &step.key), &step.signature)
}

/// Whether who has the host key asks for a certificate over this request.
pub fn is_renewal_proof(
    host_key: &PublicKey,
    host: HostId,
    certificate_request: &[u8],
    proof: &Signature,
) -> bool {
    verify(host_key, Context::Renewal, &renewal_statement(host, certificate_request), proof)
}

/// Host 16, the key that hands over 32, the next one 32.
fn hand_over_statement(host: HostId, before: &PublicKey, next: &PublicKey) -> Vec<u8> {
    [&host.as_bytes()[..], &before.0, &next.0].concat()
}

/// Host 16, SHA-256 of the request 32.
fn renewal_statement(host: HostId, certificate_request: &[u8]) -> Vec<u8> {
    [&host.as_bytes()[..], &crate::tree::hash_of(certificate_request).0].concat()
}

/// Fixed layout, so that nothing has to be parsed: host 16, boot 16, counter 8 (big-endian), nonce 16, key 32.
fn epoch_statement(host: HostId, boot: BootId, epoch: EpochId, key: &PublicKey) -> Vec<u8> {
    [&host.as_bytes()[..], &boot.0, &epoch.counter.to_be_bytes(), &epoch.nonce.0, &key.0].concat()
}

fn enrolment_statement(certificate_request: &[u8]) -> [u8; 32] {
    crate::tree::hash_of(certificate_request).0
}

/// The key of exactly one batch. Only its seed is held, and the seed is wiped with it.
pub(crate) struct BatchKey {
    seed: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl BatchKey {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let seed = Zeroizing::new(random()?);
        let public = derive_public(&seed);
        scrub_stack();
        Ok(BatchKey { seed, public: public? })
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs the one batch of this key and ends the key.
    pub(crate) fn sign_last(self, header: &[u8]) -> Result<Signature, KeyError> {
        let signature = sign_with_seed(&self.seed, header);
        drop(self);
        scrub_stack();
        signature
    }
}

#[inline(never)]
fn derive_public(seed: &[u8; 32]) -> Result<PublicKey, KeyError> {
    Ok(public(&Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed)?))
}

#[inline(never)]
fn sign_with_seed(seed: &[u8; 32], header: &[u8]) -> Result<Signature, KeyError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed)?;
    Ok(sign(&pair, Context::Batch, header))
}

/// Overwrites the part of the stack that the frames of ring and of the two functions above have used.
#[inline(never)]
fn scrub_stack() {
    let mut frames = [0_u8; 16 * 1024];
    frames.zeroize();
}

#[cfg(test)]
impl LogKey {
    /// A key of known bytes.
    pub(crate) fn from_pair(pair: Ed25519KeyPair) -> Self {
        LogKey(pair)
    }
}
#[cfg(test)]
impl HostKey {
    /// A key of known bytes.
    pub(crate) fn from_pair(pair: Ed25519KeyPair) -> Self {
        HostKey(pair)
    }
}
#[cfg(test)]
impl SinkKey {
    /// A key of known bytes.
    pub(crate) fn from_pair(pair: Ed25519KeyPair) -> Self {
        SinkKey(pair)
    }
}
