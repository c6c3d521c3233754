//! Where messages begin and end. A message is a length of four bytes, a kind, and so many bytes of body.
//! Nothing is decoded here.

use crate::protocol::Direction;
use crate::work;

use super::state::{self, Effect};

/// Length and kind.
pub(super) const HEADER_BYTES: usize = 5;
/// No body is longer.
const BODY_BYTES_MAX: usize = 1 << 20;
/// What a connection begins with.
const GREETING: &[u8] = b"\0\0\0\x08H__name8__";

/// What stands at the head of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Fewer bytes than a header has.
    Short,
    /// A message of this kind and so many bytes, header included.
    Message(u8, usize),
    /// No message begins so.
    Wrong,
}

/// Reads a header.
pub(super) fn head(direction: Direction, bytes: &[u8]) -> Head {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Head::Short };
    let [a, b, c, d, kind] = *header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match state::effect(direction, kind) {
        Effect::Wrong => Head::Wrong,
        _ if length > BODY_BYTES_MAX => Head::Wrong,
        _ => Head::Message(kind, HEADER_BYTES + length),
    }
}

/// Whether a connection begins here; `None` when more is needed to say.
pub(super) fn greets(bytes: &[u8]) -> Option<bool> {
    let known = bytes.len().min(GREETING.len());
    match bytes[..known] == GREETING[..known] {
        true if known < GREETING.len() => None,
        same => Some(same),
    }
}

/// Where in `bytes` messages surely begin: two headers in a row that agree.
pub(super) fn resync(direction: Direction, bytes: &[u8]) -> Option<usize> {
    work::looked_at(bytes.len());
    (0..bytes.len()).find(|start| {
        let bytes = &bytes[*start..];
        let Head::Message(_, length) = head(direction, bytes) else { return false };
        bytes.get(length..).is_some_and(|next| matches!(head(direction, next), Head::Message(..)))
    })
}
