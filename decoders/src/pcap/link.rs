//! From a packet to its IP: Ethernet with VLAN tags, loopback, Linux cooked, PPPoE, raw. Nothing else is looked at.

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network<'a> {
    /// IP begins here.
    Ip(&'a [u8]),
    /// Something else: ARP, LLDP, …
    Other,
    /// The capture ends before it could be told.
    Short,
    /// A link type that is not read.
    UnknownLink,
}

/// Tags of one frame that are followed.
const TAGS_MAX: usize = 8;

pub(super) fn network(link: u32, packet: &[u8]) -> Network<'_> {
    match link {
        // DLT_NULL, DLT_LOOP: a family in somebody's byte order, which IP's own version makes needless.
        0 | 108 => ip(packet.get(4..)),
        1 => tagged(packet, 12),
        12 | 14 | 101 | 228 | 229 => ip(Some(packet)),
        113 => tagged(packet, 14),
        276 => cooked_v2(packet),
        _ => Network::UnknownLink,
    }
}

/// The protocol's number stands in `packet` at `at`, and its bytes follow.
fn tagged(packet: &[u8], mut at: usize) -> Network<'_> {
    for _ in 0..=TAGS_MAX {
        let Some(&[high, low]) = packet.get(at..at + 2) else { return Network::Short };
        at += 2;
        match u16::from_be_bytes([high, low]) {
            0x0800 | 0x86dd => return ip(packet.get(at..)),
            0x8100 | 0x88a8 | 0x9100 => at += 2,
            0x8864 => return point_to_point(packet.get(at + 6..)),
            _ => return Network::Other,
        }
    }
    Network::Other
}

fn cooked_v2(packet: &[u8]) -> Network<'_> {
    match packet.get(..2) {
        None => Network::Short,
        Some([0x08, 0x00] | [0x86, 0xdd]) => ip(packet.get(20..)),
        Some([0x81, 0x00] | [0x88, 0xa8]) => tagged(packet, 22),
        Some(_) => Network::Other,
    }
}

fn point_to_point(frame: Option<&[u8]>) -> Network<'_> {
    match frame.and_then(|frame| frame.get(..2)) {
        None => Network::Short,
        Some([0x00, 0x21 | 0x57]) => ip(frame.and_then(|frame| frame.get(2..))),
        Some(_) => Network::Other,
    }
}

fn ip(bytes: Option<&[u8]>) -> Network<'_> {
    match bytes.and_then(|bytes| Some((bytes, bytes.first()? >> 4))) {
        None => Network::Short,
        Some((bytes, 4 | 6)) => Network::Ip(bytes),
        Some(_) => Network::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_is_found_below_each_link_layer() {
        let ip: &[u8] = &[0x45, 1, 2];
        let with = |head: &[u8]| [head, ip].concat();
        let zeros = |count: usize, tail: &[u8]| [&vec![0; count][..], tail].concat();
        for (link, packet) in [
            (0, with(&[2, 0, 0, 0])),
            (108, with(&[0, 0, 0, 2])),
            (1, with(&zeros(12, &[8, 0]))),
            (1, with(&zeros(12, &[0x81, 0, 0, 5, 8, 0]))),
            (1, with(&zeros(12, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]))),
            (1, with(&zeros(12, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21]))),
            (113, with(&zeros(14, &[8, 0]))),
            (113, with(&zeros(14, &[0x81, 0, 0, 7, 8, 0]))),
            (276, with(&[&[8, 0][..], &[0; 18]].concat())),
            (276, with(&[&[0x81, 0][..], &[0; 18], &[0, 7, 8, 0]].concat())),
            (101, ip.to_vec()),
            (228, ip.to_vec()),
        ] {
            assert_eq!(network(link, &packet), Network::Ip(ip), "link {link}: {packet:?}");
            for length in 0..packet.len() - ip.len() {
                assert_eq!(network(link, &packet[..length]), Network::Short, "link {link} cut at {length}");
            }
        }
        assert_eq!(network(1, &zeros(12, &[8, 6, 0, 1])), Network::Other, "ARP");
        assert_eq!(network(147, ip), Network::UnknownLink);
        assert_eq!(network(1, &[0x81, 0].repeat(40)), Network::Other, "tags without end");
    }
}
