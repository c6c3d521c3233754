//! Tunnels, and networks that have the same addresses.

use super::*;

const OUTER: (([u8; 4], u16), ([u8; 4], u16)) = (([172, 16, 0, 1], 0), ([172, 16, 0, 2], 0));
const ADDRESSES: [u8; 12] = [2; 12];

/// An IPv4 packet of this protocol between the tunnel's ends.
fn outer_4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = ip(OUTER.0, OUTER.1, payload);
    packet[9] = protocol;
    packet
}

fn outer_6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend([[0xfd; 16], [0xfe; 16]].concat());
    packet.extend_from_slice(payload);
    packet
}

/// The same TCP between the same ports over IPv6.
fn inner_6(packet: &[u8]) -> Vec<u8> {
    let address = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    let mut over = vec![0x60, 0, 0, 0];
    over.extend((packet.len() as u16 - 20).to_be_bytes());
    over.extend([6, 64]);
    over.extend([address(packet[15]), address(packet[19])].concat());
    over.extend_from_slice(&packet[20..]);
    over
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ADDRESSES[..], &kind.to_be_bytes(), payload].concat()
}

fn gre(flags: u8, kind: u16, payload: &[u8]) -> Vec<u8> {
    let words = (flags & 0xb0).count_ones() as usize;
    [&[flags, 0], &kind.to_be_bytes()[..], &vec![9; 4 * words], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[0xc0, 1][..], &port.to_be_bytes(), &length, &[0, 0], payload].concat()
}

fn vxlan(network: u8, frame: &[u8]) -> Vec<u8> {
    udp(4789, &[&[8, 0, 0, 0, 0, 0, network, 0], frame].concat())
}

fn geneve(network: u8, options: usize, kind: u16, payload: &[u8]) -> Vec<u8> {
    let kind = kind.to_be_bytes();
    let head = [(options / 4) as u8, 0, kind[0], kind[1], 0, 0, network, 0];
    udp(6081, &[&head[..], &vec![7; options], payload].concat())
}

pub(super) fn said() -> Talk {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"GET / HTTP/1.1\r\n\r\n");
    talk.down(0, 18, b"answer");
    talk
}

/// All packets of a conversation, each within what `wrap` puts around it.
pub(super) fn wrapped(talk: &Talk, wrap: impl Fn(&[u8]) -> Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    talk.packets.iter().map(|(time_ns, packet)| (*time_ns, wrap(packet))).collect()
}

/// The same file, its packets being frames of Ethernet.
fn frames(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = pcap(packets);
    file[20] = 1;
    file
}

pub(super) type Wrap = fn(&[u8]) -> Vec<u8>;

/// Each tunnel, and how many headers of tunnels it has.
pub(super) const WRAPS: [(&str, u64, Wrap); 16] = [
    ("4 in 4", 1, |ip| outer_4(4, ip)),
    ("6 in 4", 1, |ip| outer_4(41, &inner_6(ip))),
    ("4 in 6", 1, |ip| outer_6(4, ip)),
    ("6 in 6", 1, |ip| outer_6(41, &inner_6(ip))),
    ("MPLS in IP", 1, |ip| outer_4(137, &[&[0, 1, 1, 64], ip].concat())),
    ("GRE", 1, |ip| outer_4(47, &gre(0, 0x0800, ip))),
    ("GRE, IPv6", 1, |ip| outer_6(47, &gre(0, 0x86dd, &inner_6(ip)))),
    ("GRE, key", 1, |ip| outer_4(47, &gre(0x20, 0x0800, ip))),
    ("GRE, checksum, key, sequence", 1, |ip| outer_4(47, &gre(0xb0, 0x0800, ip))),
    ("GRE, bridging", 1, |ip| outer_4(47, &gre(0x10, 0x6558, &ethernet(0x0800, ip)))),
    ("GRE, MPLS", 1, |ip| outer_4(47, &gre(0, 0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64], ip].concat()))),
    ("VXLAN", 1, |ip| outer_4(17, &vxlan(5, &ethernet(0x0800, ip)))),
    ("VXLAN over IPv6", 1, |ip| outer_6(17, &vxlan(5, &ethernet(0x86dd, &inner_6(ip))))),
    ("Geneve", 1, |ip| outer_4(17, &geneve(5, 0, 0x6558, &ethernet(0x0800, ip)))),
    ("Geneve with options, IP", 1, |ip| outer_4(17, &geneve(5, 12, 0x0800, ip))),
    ("GRE in VXLAN", 2, |ip| outer_4(17, &vxlan(5, &ethernet(0x0800, &outer_4(47, &gre(0, 0x0800, ip)))))),
];

#[test]
fn a_conversation_within_a_tunnel_is_that_of_its_own_ends() {
    let talk = said();
    for (name, tunnels, wrap) in WRAPS {
        let heard = hear(&pcap(&wrapped(&talk, wrap)));
        assert_eq!(
            (heard.up().as_str(), heard.down().as_str()),
            ("GET / HTTP/1.1\r\n\r\n", "answer"),
            "{name}"
        );
        assert_eq!((heard.sockets.len(), heard.counts.segments), (1, 5), "{name}");
        assert_eq!((heard.counts.tunnels, heard.counts.datagrams), (5 * tunnels, 0), "{name}");
        let local = heard.sockets[0].local.expect("known");
        let inner = local.address.to_string();
        assert!(
            ["10.0.0.2", "2001:db8::2"].contains(&inner.as_str()) && local.port == 80,
            "{name}: {local:?}"
        );
    }
}

#[test]
fn a_tunnel_that_is_cut_off_in_its_headers_is_counted() {
    let syn = said().packets[0].1.clone();
    for (name, _, wrap) in WRAPS {
        let whole = wrap(&syn);
        let headers = whole.len() - 20 + 13;
        for kept in 1..headers {
            let mut file = pcap(&[(1, whole.clone())]);
            file.truncate(24 + 16 + kept);
            file[32..36].copy_from_slice(&(kept as u32).to_le_bytes());
            let counts = hear(&file).counts;
            let told = counts.short + counts.datagrams + counts.other_transport;
            assert_eq!(
                (counts.segments, told, counts.malformed),
                (0, 1, 0),
                "{name} cut at {kept}: {counts:?}"
            );
        }
    }
}

#[test]
fn bytes_that_the_capture_cut_off_within_a_tunnel_have_their_size() {
    for (name, _, wrap) in WRAPS {
        let mut packets = wrapped(&said(), wrap);
        let (last_ns, last) = packets.pop().expect("a packet");
        let mut file = pcap(&packets);
        let kept = last.len() - 4;
        for number in [(last_ns / 1_000_000_000) as u32, 1, kept as u32, last.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend_from_slice(&last[..kept]);
        let heard = hear(&file);
        assert_eq!((heard.down().as_str(), heard.counts.cut_bytes), ("an~~~~", 4), "{name}");
    }
}

/// An IPv4 packet as two fragments, the first with eight bytes of its payload.
fn split(packet: &[u8]) -> [Vec<u8>; 2] {
    [(0x2000u16, &packet[20..28]), (1, &packet[28..])].map(|(place, part)| {
        let mut fragment = [&packet[..20], part].concat();
        fragment[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        fragment[6..8].copy_from_slice(&place.to_be_bytes());
        fragment
    })
}

#[test]
fn fragments_of_a_tunnel_and_in_a_tunnel_are_joined() {
    let talk = said();
    for (name, _, wrap) in WRAPS.into_iter().filter(|(name, ..)| !name.contains('6')) {
        let inside =
            talk.packets.iter().flat_map(|(at, packet)| split(packet).map(|part| (*at, wrap(&part))));
        let around =
            talk.packets.iter().flat_map(|(at, packet)| split(&wrap(packet)).map(|part| (*at, part)));
        for packets in [inside.collect::<Vec<_>>(), around.collect()] {
            let heard = hear(&pcap(&packets));
            assert_eq!((heard.down().as_str(), heard.counts.fragments), ("answer", 10), "{name}");
        }
    }
}

#[test]
fn tunnels_within_tunnels_are_followed_so_far_and_counted_beyond() {
    for (depth, followed) in [(4, true), (5, false), (200, false)] {
        let packets = wrapped(&said(), |ip| (0..depth).fold(ip.to_vec(), |inner, _| outer_4(4, &inner)));
        let heard = hear(&pcap(&packets));
        assert_eq!(
            (heard.down() == "answer", heard.counts.too_deep),
            (followed, if followed { 0 } else { 5 })
        );
    }
}

/// A conversation of these first numbers, whose answer names its network.
fn answered(initial: [u32; 2], answer: &[u8]) -> Talk {
    let mut talk = Talk { initial, ..Talk::new() };
    talk.handshake();
    talk.up(0, 0, b"GET / HTTP/1.1\r\n\r\n");
    talk.down(0, 18, answer);
    talk
}

/// A wrapping with the number of a network.
type Network = fn(u8, &[u8]) -> Vec<u8>;

#[test]
fn networks_with_the_same_addresses_are_told_apart() {
    let kinds: [(&str, Network); 5] = [
        ("VLAN", |id, ip| ethernet(0x8100, &[&[0, id, 8, 0], ip].concat())),
        ("outer VLAN", |id, ip| ethernet(0x88a8, &[&[0, id, 0x81, 0, 0, 9, 8, 0], ip].concat())),
        ("inner VLAN", |id, ip| ethernet(0x88a8, &[&[0, 9, 0x81, 0, 0, id, 8, 0], ip].concat())),
        ("VXLAN", |id, ip| ethernet(0x0800, &outer_4(17, &vxlan(id, &ethernet(0x0800, ip))))),
        ("Geneve", |id, ip| ethernet(0x0800, &outer_4(17, &geneve(id, 8, 0x0800, ip)))),
    ];
    for (name, kind) in kinds {
        let (one, other) = (answered([1 << 30, 1 << 31], b"one"), answered([3 << 30, 7], b"other"));
        // Packet by packet in turn, and in fragments, so that each could be taken for the other one's.
        let packets: Vec<_> = one.packets.iter().zip(&other.packets).collect();
        let turns = packets.iter().flat_map(|((at, one), (_, other))| {
            let ([a, b], [c, d]) = (split(one), split(other));
            [(*at, kind(1, &a)), (*at, kind(2, &c)), (*at, kind(1, &b)), (*at, kind(2, &d))]
        });
        let heard = hear(&frames(&turns.collect::<Vec<_>>()));
        let answers = [1, 2].map(|connection| heard.text_of(connection, Flow::Egress));
        assert_eq!((answers, heard.odd.len()), (["one".to_owned(), "other".to_owned()], 0), "{name}");
        assert_eq!(heard.counts.fragments_overlapping, 0, "{name}");
    }
}

#[test]
fn a_conversation_whose_directions_bear_different_tags_is_one() {
    let talk = said();
    let tag = |id: u8, ip: &[u8]| ethernet(0x8100, &[&[0, id, 8, 0], ip].concat());
    for first in 0..4 {
        let packets = talk.packets.iter().enumerate().map(|(index, (at, packet))| {
            let packet = if [0, 2, 3].contains(&index) { tag(7, packet) } else { ethernet(0x0800, packet) };
            (*at, packet)
        });
        let heard = hear(&frames(&packets.skip(first).collect::<Vec<_>>()));
        assert_eq!((heard.sockets.len(), heard.down().as_str()), (1, "answer"), "from packet {first}");
        assert_eq!((heard.up().as_str(), heard.counts.lost_bytes), ("GET / HTTP/1.1\r\n\r\n", 0));
    }
}

#[test]
fn a_conversation_that_is_routed_between_two_networks_is_told_once() {
    let tag = |id: u8, ip: &[u8]| ethernet(0x8100, &[&[0, id, 8, 0], ip].concat());
    let talk = said();
    let twice = talk.packets.iter().flat_map(|(at, packet)| [(*at, tag(3, packet)), (*at, tag(5, packet))]);
    let heard = hear(&frames(&twice.collect::<Vec<_>>()));
    assert_eq!((heard.sockets.len(), heard.down().as_str(), heard.counts.repeated_bytes), (1, "answer", 24));
}

#[test]
fn a_priority_is_no_network() {
    let tagged = |control: u8, ip: &[u8]| ethernet(0x8100, &[&[control, 0, 8, 0], ip].concat());
    let talk = said();
    let mut packets = wrapped(&talk, |ip| ethernet(0x0800, ip));
    for (index, (_, packet)) in packets.iter_mut().enumerate() {
        if index % 2 == 1 {
            *packet = tagged(0xe0, &talk.packets[index].1);
        }
    }
    let heard = hear(&frames(&packets));
    assert_eq!((heard.sockets.len(), heard.down().as_str()), (1, "answer"));
}

#[test]
fn what_is_no_tunnel_is_a_datagram_on_its_port() {
    let ip = said().packets[0].1.clone();
    let frame = ethernet(0x0800, &ip);
    let packets = [
        outer_4(17, &udp(4789, &[&[0; 8], &frame[..]].concat())),
        outer_4(17, &udp(6081, &[&[0x40, 0, 0x65, 0x58, 0, 0, 0, 0], &frame[..]].concat())),
        outer_4(17, &udp(53, &[&[8, 0, 0, 0, 0, 0, 5, 0], &frame[..]].concat())),
        outer_4(17, &udp(4789, b"")),
        outer_4(47, &[&[0x20, 1, 0x88, 0x0b, 0, 0, 0, 0], &ip[..]].concat()),
        outer_4(47, &gre(0x40, 0x0800, &ip)),
    ];
    let counts = hear(&pcap(&packets.map(|packet| (1, packet)))).counts;
    assert_eq!((counts.datagrams, counts.other_transport, counts.tunnels, counts.segments), (4, 2, 0, 0));
    let arp = outer_4(17, &vxlan(5, &ethernet(0x0806, &[0; 28])));
    let counts = hear(&pcap(&[(1, arp)])).counts;
    assert_eq!((counts.not_ip, counts.tunnels, counts.datagrams), (1, 1, 0), "ARP within a tunnel");
}
