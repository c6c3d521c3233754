//! Newtypes for what must not be mixed. Byte strings are MessagePack `bin`, and hexadecimal where people read.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Name of a host for ever: a UUIDv7 that the sink gave at enrolment. Never the machine-id: images are cloned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(Uuid);

impl HostId {
    /// Takes an id that was read from outside.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        HostId(uuid)
    }

    /// The sixteen bytes that are signed.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id out of its sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        HostId(Uuid::from_bytes(bytes))
    }
}
impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for HostId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        // Only the hyphenated form: one host has one spelling in paths, certificates and file names.
        let uuid = Uuid::try_parse(text).map_err(|_| ParseIdError("host id"))?;
        if uuid.hyphenated().to_string() != text {
            return Err(ParseIdError("host id"));
        }
        Ok(HostId(uuid))
    }
}

/// Text that is no id of the kind named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no {0}")]
pub struct ParseIdError(&'static str);

macro_rules! byte_newtype {
    ($(#[$doc:meta])+ $name:ident, $length:literal, $what:literal) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError($what))?;
                Ok($name(bytes))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    deserializer.deserialize_bytes(FixedBytes::<$length>($what)).map($name)
                }
            }
        }
    };
}

struct FixedBytes<const N: usize>(&'static str);

impl<const N: usize> Visitor<'_> for FixedBytes<N> {
    type Value = [u8; N];
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} of {N} bytes", self.0)
    }
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

byte_newtype! {
    /// One boot of a kernel, from `/proc/sys/kernel/random/boot_id`.
    BootId, 16, "boot id"
}
byte_newtype! {
    /// SHA-256.
    Hash, 32, "hash"
}
byte_newtype! {
    /// Random bytes before a body, so that nobody can guess a short body from its hash.
    Salt, 16, "salt"
}
byte_newtype! {
    /// Ed25519 public key (RFC 8032).
    PublicKey, 32, "public key"
}
byte_newtype! {
    /// Ed25519 signature.
    Signature, 64, "signature"
}
byte_newtype! {
    /// The random part of an epoch's name: two starts of a cloned host never share it.
    EpochNonce, 16, "epoch nonce"
}

impl Hash {
    /// What stands for "the one before" at the first of a chain.
    pub const ZERO: Hash = Hash([0; 32]);
}

/// One start of the agent. Ordered by the counter, which the agent raises durably at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochId {
    /// Raised by one at least at each start.
    pub counter: u64,
    /// Random.
    pub nonce: EpochNonce,
}
impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.counter, self.nonce)
    }
}
impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for EpochId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (counter, nonce) = text.split_once('-').ok_or(ParseIdError("epoch"))?;
        Ok(EpochId { counter: counter.parse().map_err(|_| ParseIdError("epoch"))?, nonce: nonce.parse()? })
    }
}

macro_rules! number_newtype {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after it; `None` at the end of the numbers.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some($name(number)),
                    None => None,
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
number_newtype! {
    /// Number of an entry in its epoch, from 0, one more each time.
    Seq
}
number_newtype! {
    /// Number of a batch in its epoch, from 0, one more each time.
    BatchNumber
}

/// A batch, named without doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Its epoch.
    pub epoch: EpochId,
    /// Its number.
    pub number: BatchNumber,
    /// Hash of its header.
    pub hash: Hash,
}
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} batch {}", self.epoch.counter, self.number)
    }
}
