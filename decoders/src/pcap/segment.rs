//! From an IP payload to a TCP segment. Options are not read: nothing here depends on them.

use std::net::IpAddr;

use crate::event::Endpoint;

/// Bytes of the header that are needed to say anything.
const NEEDED_BYTES: usize = 14;

/// One segment. `bytes` may be the first part of `length`: the capture kept no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) sequence: u32,
    pub(super) acknowledged: Option<u32>,
    pub(super) flags: Flags,
    pub(super) length: usize,
    pub(super) bytes: &'a [u8],
}

/// Flags of a segment, as they stand in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// It ends its direction.
    pub fn fin(self) -> bool {
        self.0 & 1 != 0
    }
    /// It begins its direction.
    pub fn syn(self) -> bool {
        self.0 & 2 != 0
    }
    /// It breaks the connection off.
    pub fn rst(self) -> bool {
        self.0 & 4 != 0
    }
    /// It acknowledges.
    pub fn ack(self) -> bool {
        self.0 & 16 != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Segment(Segment<'a>),
    /// The capture ends within what is needed of the header.
    Short,
    /// It contradicts itself.
    Malformed,
}

/// `length` is that of the whole segment, of which the capture kept `bytes`.
pub(super) fn parse(from: IpAddr, to: IpAddr, length: usize, bytes: &[u8]) -> Parsed<'_> {
    let Some(head) = bytes.get(..NEEDED_BYTES) else {
        return if length < 20 { Parsed::Malformed } else { Parsed::Short };
    };
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let header = usize::from(head[12] >> 4) * 4;
    if header < 20 || header > length {
        return Parsed::Malformed;
    }
    let flags = Flags(head[13]);
    Parsed::Segment(Segment {
        from: Endpoint { address: from, port: port(0) },
        to: Endpoint { address: to, port: port(2) },
        sequence: number(4),
        acknowledged: flags.ack().then(|| number(8)),
        flags,
        length: length - header,
        bytes: bytes.get(header..length.min(bytes.len())).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(length: usize, bytes: &[u8]) -> Parsed<'_> {
        parse([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), length, bytes)
    }

    #[test]
    fn a_segment_of_which_less_was_kept_has_its_length() {
        let mut bytes =
            vec![0x30, 0x39, 0, 80, 0, 0, 0, 5, 0, 0, 0, 6, 0x60, 0x18, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1];
        bytes.extend(b"GET");
        for (kept, data) in [(27, &b"GET"[..]), (25, b"G"), (24, b""), (14, b"")] {
            let Parsed::Segment(segment) = parsed(34, &bytes[..kept]) else { panic!("{kept} bytes") };
            assert_eq!((segment.bytes, segment.length), (data, 10), "{kept} bytes");
            assert_eq!((segment.from.port, segment.to.port), (12345, 80));
            assert_eq!((segment.sequence, segment.acknowledged), (5, Some(6)));
        }
        assert_eq!(parsed(34, &bytes[..13]), Parsed::Short);
        assert_eq!(parsed(23, &bytes[..23]), Parsed::Malformed, "a header longer than the segment");
        bytes[12] = 0x40;
        assert_eq!(parsed(34, &bytes), Parsed::Malformed, "a header of 16 bytes");
    }
}
