//! From IP to its payload: IPv4 with options, IPv6 with extension headers, fragments of both told as such.
//! Lengths are those that IP claims, so a payload of which the capture kept less has a known size. Checksums
//! are not looked at: with offload they are filled in behind the capture.

use std::net::IpAddr;

/// Extension headers of one packet that are followed.
const EXTENSIONS_MAX: usize = 16;
const FRAGMENT_HEADER: u8 = 44;

/// A payload and its ends. `bytes` may be the first part of `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) length: usize,
    pub(super) bytes: &'a [u8],
}

/// A piece of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) id: u32,
    pub(super) offset: usize,
    pub(super) last: bool,
    pub(super) datagram: Datagram<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Whole(Datagram<'a>),
    Fragment(Fragment<'a>),
    /// The capture ends within the headers.
    Short,
    /// It contradicts itself.
    Malformed,
}

/// `cut_bytes` is what the capture left out of the packet.
pub(super) fn parse(packet: &[u8], cut_bytes: u64) -> Parsed<'_> {
    let cut = usize::try_from(cut_bytes).unwrap_or(usize::MAX);
    let parsed = match packet.first().map(|first| first >> 4) {
        Some(4) => version_4(packet, cut),
        Some(6) => version_6(packet, cut),
        _ => Some(Parsed::Malformed),
    };
    parsed.unwrap_or(Parsed::Short)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

/// What IP claims to be its length, if so many bytes were on the wire. None claimed: a packet that segmentation
/// offload has yet to cut, which is as long as it is.
fn length_of(claimed: Option<usize>, packet: &[u8], cut: usize) -> Option<usize> {
    let on_wire = packet.len().saturating_add(cut);
    match claimed {
        None => Some(on_wire),
        Some(claimed) => (claimed <= on_wire).then_some(claimed),
    }
}

fn version_4(packet: &[u8], cut: usize) -> Option<Parsed<'_>> {
    let header = usize::from(packet.first()? & 15) * 4;
    let claimed = Some(u16_at(packet, 2)?).filter(|claimed| *claimed != 0);
    let Some(total) = length_of(claimed, packet, cut) else { return Some(Parsed::Malformed) };
    if header < 20 || total < header {
        return Some(Parsed::Malformed);
    }
    let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let place = u16_at(packet, 6)?;
    let datagram = Datagram {
        from: address(12)?,
        to: address(16)?,
        protocol: *packet.get(9)?,
        length: total - header,
        bytes: packet.get(header..total.min(packet.len()))?,
    };
    let (offset, more) = ((place & 0x1fff) * 8, place & 0x2000 != 0);
    if offset == 0 && !more {
        return Some(Parsed::Whole(datagram));
    }
    let id = u16_at(packet, 4)? as u32;
    Some(Parsed::Fragment(Fragment { id, offset, last: !more, datagram }))
}

fn version_6(packet: &[u8], cut: usize) -> Option<Parsed<'_>> {
    let claimed = Some(u16_at(packet, 4)?).filter(|claimed| *claimed != 0).map(|claimed| claimed + 40);
    let Some(total) = length_of(claimed, packet, cut) else { return Some(Parsed::Malformed) };
    let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    let (from, to) = (address(8)?, address(24)?);
    let (mut protocol, mut at) = (*packet.get(6)?, 40);
    let mut fragment = None;
    for _ in 0..EXTENSIONS_MAX {
        let header = packet.get(at..);
        let units = |header: Option<&[u8]>| Some(usize::from(*header?.get(1)?));
        at += match protocol {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim.
            0 | 43 | 60 | 135 | 139 | 140 => (units(header)? + 1) * 8,
            51 => (units(header)? + 2) * 4,
            FRAGMENT_HEADER if fragment.is_none() => {
                let header = header?.get(..8)?;
                let place = u16_at(header, 2)?;
                let id = u32::from_be_bytes(header[4..8].try_into().ok()?);
                fragment = Some((id, place & !7, place & 1 == 0));
                8
            }
            _ => break,
        };
        protocol = *header?.first()?;
        // What follows in a later fragment is no header.
        if fragment.is_some_and(|(_, offset, _)| offset > 0) {
            break;
        }
    }
    if total < at {
        return Some(Parsed::Malformed);
    }
    let bytes = packet.get(at..total.min(packet.len()))?;
    let datagram = Datagram { from, to, protocol, length: total - at, bytes };
    Some(match fragment {
        None | Some((_, 0, true)) => Parsed::Whole(datagram),
        Some((id, offset, last)) => Parsed::Fragment(Fragment { id, offset, last, datagram }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(options: &[u8], place: u16, total: u16, payload: &[u8]) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 7]);
        packet.extend(place.to_be_bytes());
        packet.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend_from_slice(options);
        packet.extend_from_slice(payload);
        packet
    }

    fn whole(packet: &[u8], cut: u64) -> Datagram<'_> {
        match parse(packet, cut) {
            Parsed::Whole(datagram) => datagram,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_and_padding_are_no_payload() {
        let packet = v4(&[1, 1, 1, 1], 0, 27, b"abc\0\0\0\0");
        let datagram = whole(&packet, 0);
        assert_eq!((datagram.bytes, datagram.length, datagram.protocol), (&b"abc"[..], 3, 6));
        assert_eq!(datagram.from, IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn what_the_capture_left_out_has_a_size() {
        let packet = v4(&[], 0, 120, b"abc");
        let datagram = whole(&packet, 97);
        assert_eq!((datagram.bytes, datagram.length), (&b"abc"[..], 100));
        assert_eq!(parse(&packet, 96), Parsed::Malformed, "longer than what was on the wire");
        assert_eq!(parse(&packet[..19], 104), Parsed::Short);
    }

    #[test]
    fn no_length_is_that_of_the_packet() {
        assert_eq!(whole(&v4(&[], 0, 0, b"abcd"), 6).length, 10);
    }

    #[test]
    fn fragments_say_where_they_belong() {
        let packet = v4(&[], 0x2000 | 2, 23, b"abc");
        let Parsed::Fragment(fragment) = parse(&packet, 0) else { panic!("no fragment") };
        assert_eq!((fragment.id, fragment.offset, fragment.last), (7, 16, false));
    }

    #[test]
    fn extension_headers_are_followed() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8 + 12 + 8 + 3, 0, 64];
        packet.extend([1; 16]);
        packet.extend([2; 16]);
        packet.extend([51, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop, then authentication
        packet.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // authentication, then fragment
        packet.extend([6, 0, 0, 0, 0, 0, 0, 9]); // an atomic fragment, then TCP
        packet.extend(b"abc");
        let datagram = whole(&packet, 0);
        assert_eq!((datagram.bytes, datagram.protocol), (&b"abc"[..], 6));
        for length in 0..packet.len() - 3 {
            let cut = (packet.len() - length) as u64;
            assert!(
                matches!(parse(&packet[..length], cut), Parsed::Short)
                    || length == 0 && parse(&[], cut) == Parsed::Malformed,
                "cut at {length}"
            );
        }
        packet[63] = 9; // offset 8 and more follows
        assert!(matches!(parse(&packet, 0), Parsed::Fragment(Fragment { id: 9, offset: 8, .. })));
    }
}
