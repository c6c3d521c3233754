//! Capture files for tests: a small reader of pcap and pcapng, IPv4 and IPv6, TCP, as events of the server's
//! end. Fragments and checksums are not its business; what it cannot read it counts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use custody_decoders::event::{
    Chunk, Endpoint, Event, Flow, Layer, Process, Role, Socket, SocketId, Transport,
};

/// One TCP segment.
struct Segment<'a> {
    from: Endpoint,
    to: Endpoint,
    sequence: u32,
    syn: bool,
    ack: bool,
    fin: bool,
    payload: &'a [u8],
}

/// Packets of a capture file: link type, time and bytes. `None` when it is no capture.
pub(crate) fn packets(file: &[u8]) -> Option<Vec<(u32, u64, &[u8])>> {
    match file.get(..4)? {
        [0xd4, 0xc3, 0xb2, 0xa1] => pcap(file, 1000),
        [0x4d, 0x3c, 0xb2, 0xa1] => pcap(file, 1),
        [0x0a, 0x0d, 0x0d, 0x0a] => pcapng(file),
        _ => None,
    }
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn pcap(file: &[u8], fraction_ns: u64) -> Option<Vec<(u32, u64, &[u8])>> {
    let link = u32_le(file, 20)? & 0xffff;
    let mut packets = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(fraction), Some(length)) =
        (u32_le(file, at), u32_le(file, at + 4), u32_le(file, at + 8))
    {
        let Some(bytes) = file.get(at + 16..at + 16 + length as usize) else { break };
        packets.push((link, u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * fraction_ns, bytes));
        at += 16 + length as usize;
    }
    Some(packets)
}

fn pcapng(file: &[u8]) -> Option<Vec<(u32, u64, &[u8])>> {
    let mut packets = Vec::new();
    let mut links = Vec::new();
    let mut at = 0;
    while let (Some(kind), Some(length)) = (u32_le(file, at), u32_le(file, at + 4)) {
        let Some(block) = file.get(at..at + length as usize).filter(|block| block.len() >= 12) else { break };
        match kind {
            1 => links.push(u32::from(u16_le(block, 8)?)),
            6 => {
                let interface = u32_le(block, 8)? as usize;
                let time = (u64::from(u32_le(block, 12)?) << 32 | u64::from(u32_le(block, 16)?)) * 1000;
                let captured = u32_le(block, 20)? as usize;
                if let (Some(link), Some(bytes)) = (links.get(interface), block.get(28..28 + captured)) {
                    packets.push((*link, time, bytes));
                }
            }
            _ => {}
        }
        at += length as usize;
    }
    Some(packets)
}

fn segment(link: u32, packet: &[u8]) -> Option<Segment<'_>> {
    let mut at = match link {
        0 => 4,
        1 => 12,
        101 | 228 => 0,
        113 => 14,
        276 => 20,
        _ => return None,
    };
    if matches!(link, 1 | 113) {
        while matches!(packet.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
        at += 2;
    }
    let ip = packet.get(at..)?;
    let (from, to, transport) = match ip.first()? >> 4 {
        4 => {
            let header = usize::from(ip[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
            if fragment != 0 || *ip.get(9)? != 6 {
                return None;
            }
            let end = if total == 0 { ip.len() } else { total.min(ip.len()) };
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
            (address(12)?, address(16)?, ip.get(header..end)?)
        }
        6 => {
            if *ip.get(6)? != 6 {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let end = if length == 0 { ip.len() } else { (40 + length).min(ip.len()) };
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
            (address(8)?, address(24)?, ip.get(40..end)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*transport.get(at)?, *transport.get(at + 1)?]));
    let flags = *transport.get(13)?;
    Some(Segment {
        from: Endpoint { address: from, port: port(0)? },
        to: Endpoint { address: to, port: port(2)? },
        sequence: u32::from_be_bytes(transport.get(4..8)?.try_into().ok()?),
        fin: flags & 1 != 0,
        syn: flags & 2 != 0,
        ack: flags & 16 != 0,
        payload: transport.get(usize::from(transport.get(12)? >> 4) * 4..)?,
    })
}

/// A connection as the reader follows it; lane 0 goes to the server.
struct Connection {
    id: SocketId,
    server: Endpoint,
    /// Sequence that has position 0, and the highest position seen.
    lanes: [Option<(u32, u64)>; 2],
    fins: [Option<u64>; 2],
}

/// Tells a capture's TCP connections as events, ticks between them. Returns how many packets were no TCP.
pub(crate) fn tell(packets: &[(u32, u64, &[u8])], feed: &mut dyn FnMut(Event<'_>)) -> usize {
    let mut connections: HashMap<(Endpoint, Endpoint), Connection> = HashMap::new();
    let (mut others, mut opened) = (0, 0);
    let base_ns = packets.iter().map(|(_, time_ns, _)| *time_ns).min().unwrap_or(0);
    let mut now_ns = 0;
    for (link, time_ns, packet) in packets {
        let Some(segment) = segment(*link, packet) else {
            others += 1;
            continue;
        };
        let time_ns = time_ns - base_ns + 1_000_000_000;
        if time_ns > now_ns + 20_000_000 {
            now_ns = time_ns;
            feed(Event::Tick(now_ns));
        }
        let key = ordered(segment.from, segment.to);
        let anew = segment.syn && !segment.ack;
        if anew && connections.get(&key).is_some_and(|known| known.fins.iter().any(Option::is_some)) {
            close(connections.remove(&key), time_ns, feed);
        }
        let connection = connections.entry(key).or_insert_with(|| {
            opened += 1;
            let server = if segment.syn && segment.ack || !segment.syn && segment.from.port < segment.to.port
            {
                segment.from
            } else {
                segment.to
            };
            let socket = open(opened, &segment, server, time_ns);
            let id = socket.id;
            feed(Event::Open(socket));
            Connection { id, server, lanes: [None, None], fins: [None, None] }
        });
        let lane = usize::from(segment.from == connection.server);
        let first = segment.sequence.wrapping_add(u32::from(segment.syn));
        let (start, highest) = connection.lanes[lane].get_or_insert((first, 0));
        let near = first.wrapping_sub(*start);
        let delta = near.wrapping_sub(*highest as u32) as i32;
        let position = highest.saturating_add_signed(i64::from(delta));
        *highest = (*highest).max(position + segment.payload.len() as u64);
        if segment.fin {
            connection.fins[lane] = Some(position + segment.payload.len() as u64);
        }
        if !segment.payload.is_empty() && !segment.syn {
            feed(Event::Chunk(Chunk {
                socket: connection.id,
                flow: if lane == 0 { Flow::Ingress } else { Flow::Egress },
                layer: Layer::Wire,
                position,
                time_ns,
                bytes: segment.payload,
            }));
        }
    }
    now_ns += 1_000_000_000;
    for (_, connection) in connections {
        close(Some(connection), now_ns, feed);
    }
    feed(Event::Tick(now_ns + 1));
    others
}

fn close(connection: Option<Connection>, time_ns: u64, feed: &mut dyn FnMut(Event<'_>)) {
    if let Some(connection) = connection {
        feed(Event::Close(connection.id, connection.fins, time_ns));
    }
}

fn open(number: u64, segment: &Segment<'_>, server: Endpoint, time_ns: u64) -> Socket {
    let client = if server == segment.from { segment.to } else { segment.from };
    Socket {
        id: SocketId(number),
        time_ns,
        transport: Transport::Tcp,
        role: if segment.syn { Role::Server } else { Role::Unknown },
        local: Some(server),
        remote: Some(client),
        peer: None,
        netns: 0,
        existing: !segment.syn,
        positions: [Some(0); 2],
        process: Arc::new(Process::default()),
    }
}

fn ordered(one: Endpoint, other: Endpoint) -> (Endpoint, Endpoint) {
    if (one.address, one.port) <= (other.address, other.port) { (one, other) } else { (other, one) }
}
