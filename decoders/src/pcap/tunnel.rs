//! Whether a datagram is a tunnel, and what begins within it: IP in IP (RFC 2003, 4213), MPLS in IP (RFC 4023), GRE
//! (RFC 2784, 2890), VXLAN (RFC 7348), Geneve (RFC 8926).
//!
//! One tunnel at a time; how many are followed is the caller's business. What is no well-formed header of a tunnel is
//! an ordinary datagram.

use super::ip::Datagram;
use super::link::{self, Network, u16_at};
use super::tags::Tags;

const ETHERNET: u16 = 0x6558;
const MPLS: u16 = 0x8847;
const UDP_HEADER_BYTES: usize = 8;
/// The registered port, and that of Linux from before there was one, which overlays of containers still use.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;

/// What the tunnel carries; `None` where the datagram is none.
pub(super) fn inside<'a>(datagram: &Datagram<'a>, tags: &mut Tags) -> Option<Network<'a>> {
    let bytes = datagram.bytes;
    match datagram.protocol {
        4 | 41 => Some(link::ip(Some(bytes))),
        47 => generic(bytes, tags),
        137 => Some(link::payload(MPLS, Some(bytes), tags)),
        super::UDP => match u16_at(bytes, 2)? {
            port if VXLAN_PORTS.contains(&port) => vxlan(bytes.get(UDP_HEADER_BYTES..)?, tags),
            GENEVE_PORT => geneve(bytes.get(UDP_HEADER_BYTES..)?, tags),
            _ => None,
        },
        _ => None,
    }
}

/// GRE: checksum, key and sequence number each add four bytes. Source routes (RFC 1701) and the version of PPTP are
/// not followed.
fn generic<'a>(bytes: &'a [u8], tags: &mut Tags) -> Option<Network<'a>> {
    let (flags, kind) = (u16_at(bytes, 0)?, u16_at(bytes, 2)?);
    let (route, version) = (flags & 0x4000, flags & 7);
    if route != 0 || version != 0 {
        return None;
    }
    let words = [0x8000, 0x2000, 0x1000].iter().filter(|flag| flags & **flag != 0).count();
    Some(link::payload(kind, bytes.get(4 + 4 * words..), tags))
}

/// A header of eight bytes that says that its network is valid, then Ethernet.
fn vxlan<'a>(bytes: &'a [u8], tags: &mut Tags) -> Option<Network<'a>> {
    if bytes.first()? & 0x08 == 0 {
        return None;
    }
    if tags.tunnel(network_at(bytes, 4)?).is_err() {
        return Some(Network::TooDeep);
    }
    Some(link::payload(ETHERNET, bytes.get(8..), tags))
}

/// Version and length of the options, what is carried, the network, the options.
fn geneve<'a>(bytes: &'a [u8], tags: &mut Tags) -> Option<Network<'a>> {
    let (first, kind, network) = (*bytes.first()?, u16_at(bytes, 2)?, network_at(bytes, 4)?);
    let (version, options) = (first >> 6, usize::from(first & 0x3f) * 4);
    if version != 0 {
        return None;
    }
    if tags.tunnel(network).is_err() {
        return Some(Network::TooDeep);
    }
    Some(link::payload(kind, bytes.get(8 + options..), tags))
}

fn network_at(bytes: &[u8], at: usize) -> Option<u32> {
    let [high, middle, low] = *bytes.get(at..at + 3)? else { return None };
    Some(u32::from_be_bytes([0, high, middle, low]))
}
