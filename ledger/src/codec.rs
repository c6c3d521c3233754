//! One MessagePack convention for everything: maps with field names, unknown fields ignored, bytes left over
//! refused, nesting bounded.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Deepest nesting that a reader follows; our own messages need four.
const DEPTH_MAX: usize = 16;

/// Bytes that are no message of the kind asked for.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// MessagePack of another shape, or none.
    #[error("malformed {what}: {source}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What the reader stumbled on.
        source: rmp_serde::decode::Error,
    },
    /// A whole message, then more.
    #[error("malformed {what}: bytes left over")]
    LeftOver {
        /// What was being read.
        what: &'static str,
    },
    /// A value that has no MessagePack form.
    #[error("cannot write {what}: {source}")]
    Unwritable {
        /// What was being written.
        what: &'static str,
        /// Why.
        source: rmp_serde::encode::Error,
    },
}

/// The stored form of a message.
pub fn encode<T: Serialize>(what: &'static str, message: &T) -> Result<Vec<u8>, CodecError> {
    rmp_serde::to_vec_named(message).map_err(|source| CodecError::Unwritable { what, source })
}

/// Reads exactly one message.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    // Over the slice itself: a reader over `Read` copies each text and each byte string before it is looked at.
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    let message =
        T::deserialize(&mut deserializer).map_err(|source| CodecError::Malformed { what, source })?;
    // Only at the end of the bytes is there no first byte of one more value.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(message),
        _ => Err(CodecError::LeftOver { what }),
    }
}

/// Walks over length-prefixed fields of a binary frame. Lengths are checked against what remains.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A field of bytes behind its length (u32, big-endian).
    pub(crate) fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Appends a field of bytes behind its length. The caller keeps fields far below 4 GiB.
pub(crate) fn put_prefixed(out: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).expect("a field's limit is far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_behind_a_message_is_refused_whatever_it_begins() {
        let message = encode("message", &("text", 7_u64)).unwrap();
        assert!(decode::<(String, u64)>("message", &message).is_ok());
        for byte in 0..=u8::MAX {
            for more in [&[byte][..], &[byte, 0x92], &[byte, 0xc0, 0xc0, 0xc0, 0xc0]] {
                let longer = [&message, more].concat();
                let read = decode::<(String, u64)>("message", &longer);
                assert!(matches!(read, Err(CodecError::LeftOver { .. })), "{more:02x?}: {read:?}");
            }
        }
    }
}
