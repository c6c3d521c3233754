//! The entry: a signed header and, beside it, a salted body that may be withheld or destroyed while the chain
//! over the headers still verifies.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, CodecError};
use crate::ids::{BootId, EpochId, Hash, HostId, Seq};

mod layout;

/// Version of the header that this code writes.
pub const ENTRY_VERSION: u16 = 1;
/// Longest header that a reader accepts, bytes.
pub const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Longest body of one entry, bytes; longer ones are written in numbered parts.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest text of an entry type that a reader accepts, bytes.
pub const TYPE_BYTES_MAX: usize = 64;

macro_rules! entry_types {
    ($($(#[$doc:meta])+ $variant:ident = $text:literal;)+) => {
        /// What an entry says. Its text is what is signed; a type that is newer than this reader is kept as
        /// its text.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum EntryType {
            $($(#[$doc])+ $variant,)+
            /// A type that this reader does not know.
            Other(Box<str>),
        }

        impl EntryType {
            /// Every type that this version writes.
            pub const ALL: &[EntryType] = &[$(EntryType::$variant),+];

            /// The text that is signed.
            pub fn as_str(&self) -> &str {
                match self {
                    $(EntryType::$variant => $text,)+
                    EntryType::Other(text) => text,
                }
            }
        }
        impl From<&str> for EntryType {
            fn from(text: &str) -> Self {
                match text {
                    $($text => EntryType::$variant,)+
                    _ => EntryType::Other(text.into()),
                }
            }
        }
    };
}

entry_types! {
    /// A connection or terminal is seen for the first time; its seq names the session in this epoch.
    SessionOpen = "session.open";
    /// It ended; carries its byte account.
    SessionClose = "session.close";
    /// Request and answer together.
    Exchange = "exchange";
    /// A request whose answer has not come yet.
    ExchangeOpen = "exchange.open";
    /// A piece of a long exchange.
    ExchangePart = "exchange.part";
    /// The answer to a request of before, or its end without one.
    ExchangeClose = "exchange.close";
    /// A program started.
    Exec = "exec";
    /// A program ended.
    Exit = "exit";
    /// What a person typed and saw.
    Terminal = "terminal";
    /// Something is missing, and this is how much.
    Gap = "gap";
    /// TLS of a program that is not read: which program, with what, and how much so far.
    Coverage = "coverage";
    /// Nothing happened, and the agent lives.
    Heartbeat = "heartbeat";
    /// The configuration in force: levels, rules, masks.
    Config = "config";
    /// How much is recorded changes, because the spool fills or drains.
    Level = "level";
    /// The host's key changes; signed by the key before.
    Key = "key";
    /// What the sink shows of its log does not hold, as this host sees it.
    LogAlarm = "log.alarm";
    /// What this epoch knows of the one before.
    Resume = "resume";
    /// The agent started.
    AgentStart = "agent.start";
    /// The agent stopped in order; nothing follows in this epoch.
    AgentStop = "agent.stop";
}

impl fmt::Display for EntryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl Serialize for EntryType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for EntryType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TypeText)
    }
}

/// Reads the text where it stands.
struct TypeText;

impl Visitor<'_> for TypeText {
    type Value = EntryType;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text of an entry type")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EntryType, E> {
        if text.len() > TYPE_BYTES_MAX {
            return Err(E::custom("entry type is too long"));
        }
        Ok(EntryType::from(text))
    }
}

/// Where the sealed original of an entry is, and what it must be. The host keeps no key to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedReference {
    /// SHA-256 of the ciphertext.
    pub ciphertext: Hash,
    /// Commitment to the plaintext: salted SHA-256, its salt sealed with it.
    pub plaintext: Hash,
    /// Length of the ciphertext, bytes.
    pub ciphertext_bytes: u64,
    /// Length of the plaintext, bytes.
    pub plaintext_bytes: u64,
    /// Which sealing policy and recipients.
    pub policy: Hash,
    /// Which version of the masks made the body that stands here.
    pub masker: Hash,
}

/// What is signed of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHeader {
    /// [`ENTRY_VERSION`].
    pub version: u16,
    /// What it says.
    #[serde(rename = "type")]
    pub entry_type: EntryType,
    /// Whose chain.
    pub host: HostId,
    /// Which boot of its kernel.
    pub boot: BootId,
    /// Which start of its agent.
    pub epoch: EpochId,
    /// Place in the epoch: one more each time.
    pub seq: Seq,
    /// Kernel time of the first byte, boottime ns.
    pub first_ns: u64,
    /// Kernel time of the last byte, boottime ns.
    pub last_ns: u64,
    /// The host's wall clock, ns since 1970: a claim, never sorted on alone.
    pub wall_ns: u64,
    /// Seq of the `session.open` that it belongs to, in the same epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Seq>,
    /// Length of the body, bytes.
    pub body_bytes: u32,
    /// [`crate::tree::body_hash`] of the salt and the body.
    pub body: Hash,
    /// The sealed original, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedReference>,
    /// [`crate::tree::leaf`] of the header before it in the epoch; zero at seq 0.
    pub previous: Hash,
}

impl EntryHeader {
    /// The bytes that are hashed, signed and stored.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode("entry header", self)
    }

    /// Reads a header as stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        layout::read(bytes).map_or_else(|| codec::decode("entry header", bytes), Ok)
    }
}
