//! From a packet to its IP: Ethernet with VLAN tags, labels of MPLS, loopback, Linux cooked,
//! PPPoE, raw. Nothing else is looked at.

use super::tags::Tags;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network<'a> {
    /// IP begins here.
    Ip(&'a [u8]),
    /// Something else: ARP, LLDP, …
    Other,
    /// The capture ends before it could be told.
    Short,
    /// It bears more tags or labels than are followed.
    TooDeep,
    /// A link type that is not read.
    UnknownLink,
}

/// Tags, and labels of a stack, that are followed.
const TAGS_MAX: usize = 8;
/// Two addresses, before what the frame carries is named.
const ADDRESSES_BYTES: usize = 12;

/// `tags` learns the VLANs of the packet.
pub(super) fn network<'a>(link: u32, packet: &'a [u8], tags: &mut Tags) -> Network<'a> {
    match link {
        // DLT_NULL, DLT_LOOP: a family in somebody's byte order, which IP's own version makes needless.
        0 | 108 => ip(packet.get(4..)),
        1 => named(packet, ADDRESSES_BYTES, tags),
        12 | 14 | 101 | 228 | 229 => ip(Some(packet)),
        113 => named(packet, 14, tags),
        276 => match u16_at(packet, 0) {
            Some(kind) => payload(kind, packet.get(20..), tags),
            None => Network::Short,
        },
        _ => Network::UnknownLink,
    }
}

/// What `packet` carries is named at `at`, and follows.
fn named<'a>(packet: &'a [u8], at: usize, tags: &mut Tags) -> Network<'a> {
    match u16_at(packet, at) {
        Some(kind) => payload(kind, packet.get(at + 2..), tags),
        None => Network::Short,
    }
}

/// What begins with `bytes`, which is of this kind (EtherType).
pub(super) fn payload<'a>(mut kind: u16, mut bytes: Option<&'a [u8]>, tags: &mut Tags) -> Network<'a> {
    for _ in 0..=TAGS_MAX {
        let Some(here) = bytes else { return Network::Short };
        // Where the kind of what follows is told; its bytes come behind.
        let at = match kind {
            0x0800 | 0x86dd => return ip(bytes),
            0x8100 | 0x88a8 | 0x9100 => {
                let Some(control) = u16_at(here, 0) else { return Network::Short };
                if tags.vlan(control).is_err() {
                    return Network::TooDeep;
                }
                2
            }
            0x6558 => ADDRESSES_BYTES,
            0x8847 | 0x8848 => return labelled(here),
            0x8864 => return point_to_point(here.get(6..)),
            _ => return Network::Other,
        };
        let Some(next) = u16_at(here, at) else { return Network::Short };
        (kind, bytes) = (next, here.get(at + 2..));
    }
    Network::TooDeep
}

/// Labels of MPLS (RFC 3032): the last one has its bit. What they carry is not named; of IP its version tells.
fn labelled(stack: &[u8]) -> Network<'_> {
    for (index, label) in stack.chunks(4).take(TAGS_MAX).enumerate() {
        match label.get(2) {
            Some(bits) if bits & 1 != 0 => return ip(stack.get(4 * index + 4..)),
            Some(_) => {}
            None => return Network::Short,
        }
    }
    if stack.len() < 4 * TAGS_MAX { Network::Short } else { Network::TooDeep }
}

fn point_to_point(frame: Option<&[u8]>) -> Network<'_> {
    match frame.and_then(|frame| frame.get(..2)) {
        None => Network::Short,
        Some([0x00, 0x21 | 0x57]) => ip(frame.and_then(|frame| frame.get(2..))),
        Some(_) => Network::Other,
    }
}

pub(super) fn ip(bytes: Option<&[u8]>) -> Network<'_> {
    match bytes.and_then(|bytes| Some((bytes, bytes.first()? >> 4))) {
        None => Network::Short,
        Some((bytes, 4 | 6)) => Network::Ip(bytes),
        Some(_) => Network::Other,
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_is_found_below_each_link_layer() {
        let ip: &[u8] = &[0x45, 1, 2];
        let network = |link, packet: &[u8]| match super::network(link, packet, &mut Tags::default()) {
            Network::Ip(found) => Ok(found == ip),
            other => Err(format!("{other:?}")),
        };
        let with = |head: &[u8]| [head, ip].concat();
        let zeros = |count: usize, tail: &[u8]| [&vec![0; count][..], tail].concat();
        for (link, packet) in [
            (0, with(&[2, 0, 0, 0])),
            (108, with(&[0, 0, 0, 2])),
            (1, with(&zeros(12, &[8, 0]))),
            (1, with(&zeros(12, &[0x81, 0, 0, 5, 8, 0]))),
            (1, with(&zeros(12, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]))),
            (1, with(&zeros(12, &[0x88, 0x47, 0, 1, 1, 64]))),
            (1, with(&zeros(12, &[0x81, 0, 0, 5, 0x88, 0x48, 0, 1, 0, 64, 0, 2, 1, 64]))),
            (1, with(&zeros(12, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21]))),
            (113, with(&zeros(14, &[8, 0]))),
            (113, with(&zeros(14, &[0x81, 0, 0, 7, 8, 0]))),
            (276, with(&[&[8, 0][..], &[0; 18]].concat())),
            (276, with(&[&[0x81, 0][..], &[0; 18], &[0, 7, 8, 0]].concat())),
            (101, ip.to_vec()),
            (228, ip.to_vec()),
        ] {
            assert_eq!(network(link, &packet), Ok(true), "link {link}: {packet:?}");
            for length in 0..packet.len() - ip.len() {
                let cut = network(link, &packet[..length]);
                assert_eq!(cut, Err("Short".to_owned()), "link {link} cut at {length}");
            }
        }
        for (link, packet, told) in [
            (1, zeros(12, &[8, 6, 0, 1]), "Other"), // ARP
            (147, ip.to_vec(), "UnknownLink"),
            (1, [0x81, 0].repeat(40), "TooDeep"),
            (1, [&zeros(12, &[0x88, 0x47])[..], &[0; 40]].concat(), "TooDeep"),
        ] {
            assert_eq!(network(link, &packet), Err(told.to_owned()), "link {link}: {packet:?}");
        }
    }
}
