//! Where messages begin and end, and which types exist in which direction.
//!
//! A message is one type byte, a length that counts itself but not the type, and a body. The packets before
//! the start-up have no type byte, and the answer to a wish for encryption is a single byte. Nothing is
//! decoded here.

use crate::protocol::Direction;

/// Type byte and length.
pub(super) const HEADER_BYTES: usize = 5;
/// What the server itself accepts as a start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;
/// No message of a server or client is longer (`MaxAllocSize` of the server, with its header).
const MESSAGE_BYTES_MAX: usize = (1 << 30) + 4;

/// Length of a start-up packet of protocol 2, which has fields of fixed length.
pub(super) const OLD_STARTUP_BYTES: usize = 296;
/// Longest text of an error in the form of protocol 2 (`pqParseInput3` takes no longer one).
const OLD_ERROR_BYTES_MAX: usize = 30_000;

/// Longest message of a type that is not known: libpq takes the connection for broken at a longer one.
const FOREIGN_BYTES_MAX: usize = 30_000;

/// Request code of `CancelRequest`.
pub(super) const CANCEL: u32 = 80_877_102;
/// Request code of `SSLRequest`.
pub(super) const SSL: u32 = 80_877_103;
/// Request code of `GSSENCRequest`.
pub(super) const GSSENC: u32 = 80_877_104;

/// Message types with the least and the greatest length that they can have (the length word included).
struct Kinds(&'static [(u8, usize, usize)]);

const FROM_CLIENT: Kinds = Kinds(&[
    (b'B', 12, MESSAGE_BYTES_MAX),
    (b'C', 6, MESSAGE_BYTES_MAX),
    (b'D', 6, MESSAGE_BYTES_MAX),
    (b'E', 9, MESSAGE_BYTES_MAX),
    (b'F', 14, MESSAGE_BYTES_MAX),
    (b'H', 4, 4),
    (b'P', 8, MESSAGE_BYTES_MAX),
    (b'Q', 5, MESSAGE_BYTES_MAX),
    (b'S', 4, 4),
    (b'X', 4, 4),
    (b'c', 4, 4),
    (b'd', 4, MESSAGE_BYTES_MAX),
    (b'f', 5, MESSAGE_BYTES_MAX),
    (b'p', 4, 65_535 + 4),
]);

const FROM_SERVER: Kinds = Kinds(&[
    (b'1', 4, 4),
    (b'2', 4, 4),
    (b'3', 4, 4),
    (b'A', 10, MESSAGE_BYTES_MAX),
    (b'C', 5, MESSAGE_BYTES_MAX),
    (b'D', 6, MESSAGE_BYTES_MAX),
    (b'E', 5, MESSAGE_BYTES_MAX),
    (b'G', 7, MESSAGE_BYTES_MAX),
    (b'H', 7, MESSAGE_BYTES_MAX),
    (b'I', 4, 4),
    (b'K', 12, 8 + 256),
    (b'N', 5, MESSAGE_BYTES_MAX),
    (b'R', 8, MESSAGE_BYTES_MAX),
    (b'S', 6, MESSAGE_BYTES_MAX),
    (b'T', 6, MESSAGE_BYTES_MAX),
    (b'V', 8, MESSAGE_BYTES_MAX),
    (b'W', 7, MESSAGE_BYTES_MAX),
    (b'Z', 5, 5),
    (b'c', 4, 4),
    (b'd', 4, MESSAGE_BYTES_MAX),
    (b'n', 4, 4),
    (b's', 4, 4),
    (b't', 6, MESSAGE_BYTES_MAX),
    (b'v', 12, MESSAGE_BYTES_MAX),
]);

/// What stands at the head of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Fewer bytes than a header has.
    Short,
    /// A header: type (0 before the start-up) and bytes of the whole message.
    Message(u8, usize),
    /// A header of a type that this protocol does not have, with a length that it could have.
    Foreign(usize),
    /// No message of this protocol begins so.
    Wrong,
}

/// A message with a type byte.
pub(super) fn typed(direction: Direction, bytes: &[u8]) -> Head {
    let Some(&kind) = bytes.first() else { return Head::Short };
    let kinds = match direction {
        Direction::Up => FROM_CLIENT,
        Direction::Down => FROM_SERVER,
    };
    let known = kinds.0.iter().find(|(known, ..)| *known == kind);
    if known.is_none() && !kind.is_ascii_alphanumeric() {
        return Head::Wrong;
    }
    let Some(length) = word(bytes.get(1..)) else { return Head::Short };
    let Some(&(_, least, most)) = known else {
        let plausible = (4..=FOREIGN_BYTES_MAX).contains(&(length as usize));
        return if plausible { Head::Foreign(length as usize + 1) } else { Head::Wrong };
    };
    match length as usize {
        length if (least..=most).contains(&length) => Head::Message(kind, length + 1),
        _ => Head::Wrong,
    }
}

/// A packet of before the start-up: a length and a code.
pub(super) fn startup(bytes: &[u8]) -> Head {
    let (Some(length), code) = (word(Some(bytes)), word(bytes.get(4..))) else { return Head::Short };
    let length = length as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Head::Wrong;
    }
    match code {
        None => Head::Short,
        Some(SSL | GSSENC) if length == 8 => Head::Message(0, length),
        // A cancel key has 4 bytes up to protocol 3.0 and up to 256 from 3.2 on.
        Some(CANCEL) if (13..=12 + 256).contains(&length) => Head::Message(0, length),
        Some(version) if version >> 16 == 3 && length >= 9 => Head::Message(0, length),
        Some(version) if version >> 16 == 2 && length == OLD_STARTUP_BYTES => Head::Message(0, length),
        Some(_) => Head::Wrong,
    }
}

/// An error as protocol 2 has it, text up to a zero byte: so a server answers that knows no other protocol yet,
/// or that could not even start a process. No length of protocol 3 begins with a letter.
pub(super) fn old_error(bytes: &[u8]) -> Head {
    match bytes {
        [b'E', first, ..] if first.is_ascii_graphic() => match memchr::memchr(0, bytes) {
            Some(end) if end < OLD_ERROR_BYTES_MAX => Head::Message(b'E', end + 1),
            None if bytes.len() < OLD_ERROR_BYTES_MAX => Head::Short,
            _ => Head::Wrong,
        },
        [b'E'] => Head::Short,
        _ => Head::Wrong,
    }
}

/// The first four bytes as a number.
fn word(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_counts_itself_but_not_the_type() {
        assert_eq!(typed(Direction::Up, b"Q\0\0\0\x0dSELECT 1\0"), Head::Message(b'Q', 14));
        assert_eq!(typed(Direction::Down, b"Z\0\0\0\x05I"), Head::Message(b'Z', 6));
    }

    #[test]
    fn a_short_header_waits() {
        for length in 0..HEADER_BYTES {
            assert_eq!(typed(Direction::Up, &b"Q\0\0\0\x0d"[..length]), Head::Short);
        }
        for length in 0..8 {
            assert_eq!(startup(&b"\0\0\0\x08\x04\xd2\x16\x2f"[..length]), Head::Short);
        }
    }

    #[test]
    fn lengths_that_no_message_has_are_wrong() {
        assert_eq!(typed(Direction::Up, b"S\0\0\0\x05"), Head::Wrong);
        assert_eq!(typed(Direction::Up, b"Q\0\0\0\x03"), Head::Wrong);
        assert_eq!(typed(Direction::Down, b"D\xff\xff\xff\xff"), Head::Wrong);
        assert_eq!(typed(Direction::Down, b"Q\0\0\0\x05"), Head::Foreign(6));
        assert_eq!(typed(Direction::Down, b"Q\0\0\x80\0"), Head::Wrong);
        assert_eq!(typed(Direction::Down, b"{\0\0\0\x05"), Head::Wrong);
        assert_eq!(startup(b"\xff\xff\xff\xff"), Head::Wrong);
    }

    #[test]
    fn packets_before_the_start_up_are_known_by_their_code() {
        assert_eq!(startup(b"\0\0\0\x08\x04\xd2\x16\x2f"), Head::Message(0, 8));
        assert_eq!(startup(b"\0\0\0\x08\x04\xd2\x16\x30"), Head::Message(0, 8));
        assert_eq!(startup(b"\0\0\0\x10\x04\xd2\x16\x2e"), Head::Message(0, 16));
        assert_eq!(startup(b"\0\0\0\x09\0\x03\0\0\0"), Head::Message(0, 9));
        assert_eq!(startup(b"\0\0\0\x09\0\x02\0\0\0"), Head::Wrong);
        assert_eq!(startup(b"\0\0\x01\x28\0\x02\0\0\0"), Head::Message(0, 296));
    }

    #[test]
    fn an_error_of_protocol_2_ends_with_its_text() {
        assert_eq!(old_error(b"EFATAL:  no\n\0Z"), Head::Message(b'E', 13));
        assert_eq!(old_error(b"EFATAL"), Head::Short);
        assert_eq!(old_error(b"E\0\0\0\x20SFATAL"), Head::Wrong);
    }
}
