//! Captures made by hand, byte by byte, and what is told of them.

mod containers;
mod disorder;
mod exchanges;
mod hostile;
mod streams;
mod tunnels;

use super::*;
use crate::event::{Cause, Chunk, Flow, Hole, Role, Socket, SocketId};

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);
const MS: u64 = 1_000_000;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Packets of one conversation, a millisecond apart, with what TCP would number.
#[derive(Clone)]
struct Talk {
    packets: Vec<(u64, Vec<u8>)>,
    now_ns: u64,
    initial: [u32; 2],
    ends: [([u8; 4], u16); 2],
}

impl Talk {
    fn new() -> Self {
        Talk {
            packets: Vec::new(),
            now_ns: 1_700_000_000_000_000_000,
            initial: [1000, 9000],
            ends: [CLIENT, SERVER],
        }
    }

    fn begun() -> Self {
        let mut talk = Talk::new();
        talk.handshake();
        talk
    }

    fn handshake(&mut self) {
        self.segment(0, -1, None, SYN, b"");
        self.segment(1, -1, Some(0), SYN, b"");
        self.segment(0, 0, Some(0), 0, b"");
    }

    /// Who sends (0: the client), at which position, up to where it acknowledges, flags, bytes.
    fn segment(&mut self, who: usize, at: i64, acknowledged: Option<u64>, flags: u8, bytes: &[u8]) {
        let sequence = self.initial[who].wrapping_add(1).wrapping_add(at as u32);
        let other = self.initial[1 - who].wrapping_add(1);
        let (number, flags) = match acknowledged {
            Some(position) => (other.wrapping_add(position as u32), flags | ACK),
            None => (0, flags),
        };
        let (from, to) = (self.ends[who], self.ends[1 - who]);
        self.packets.push((self.now_ns, ip(from, to, &tcp(from.1, to.1, sequence, number, flags, bytes))));
        self.now_ns += MS;
    }

    fn up(&mut self, at: i64, acknowledged: u64, bytes: &[u8]) {
        self.segment(0, at, Some(acknowledged), 0, bytes);
    }

    fn down(&mut self, at: i64, acknowledged: u64, bytes: &[u8]) {
        self.segment(1, at, Some(acknowledged), 0, bytes);
    }

    fn wait(&mut self, ms: u64) {
        self.now_ns += ms * MS;
    }

    fn file(&self) -> Vec<u8> {
        pcap(&self.packets)
    }

    fn heard(&self) -> Heard {
        hear(&self.file())
    }
}

fn tcp(from: u16, to: u16, sequence: u32, acknowledged: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(bytes);
    segment
}

fn ip(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    packet.extend(from.0);
    packet.extend(to.0);
    packet.extend_from_slice(payload);
    packet
}

/// A file of raw IP with nanoseconds.
fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    file.extend(101u32.to_le_bytes());
    for (time_ns, packet) in packets {
        let fraction = (time_ns % 1_000_000_000) as u32;
        for number in [(time_ns / 1_000_000_000) as u32, fraction, packet.len() as u32, packet.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}

/// What was told of one connection: bytes of a direction, with holes in their places.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stream {
    /// At most a mebibyte of each hole.
    bytes: Vec<u8>,
    next: u64,
    holes: Vec<(u64, u64, Cause)>,
}

#[derive(Clone, Debug, Default)]
struct Heard {
    sockets: Vec<Socket>,
    streams: std::collections::BTreeMap<u64, [Stream; 2]>,
    /// Everything in order: connection, then what.
    log: Vec<String>,
    odd: Vec<&'static str>,
    counts: Counts,
    damage: Option<Damage>,
    held_bytes_max: usize,
}

impl Heard {
    /// Bytes of the first connection, lost ones as `_`, cut ones as `~`.
    fn text(&self, flow: Flow) -> String {
        self.text_of(1, flow)
    }

    fn text_of(&self, connection: u64, flow: Flow) -> String {
        let Some(streams) = self.streams.get(&connection) else { return String::new() };
        String::from_utf8_lossy(&streams[flow as usize].bytes).into_owned()
    }

    fn up(&self) -> String {
        self.text(Flow::Ingress)
    }

    fn down(&self) -> String {
        self.text(Flow::Egress)
    }

    fn event(&mut self, event: Event<'_>) {
        let mut stream = |socket: SocketId, flow: Flow, position: u64, length: u64, bytes: &[u8]| {
            let stream = &mut self.streams.entry(socket.0).or_default()[flow as usize];
            assert_eq!(stream.next, position, "told in order, each place once");
            stream.next += length;
            stream.bytes.extend_from_slice(bytes);
        };
        match event {
            Event::Open(socket) => {
                self.log.push(format!("{} open", socket.id.0));
                self.sockets.push(socket);
            }
            Event::Chunk(Chunk { socket, flow, position, bytes, .. }) => {
                stream(socket, flow, position, bytes.len() as u64, bytes);
                self.log.push(format!("{} {flow:?} {}", socket.0, String::from_utf8_lossy(bytes)));
            }
            Event::Hole(Hole { socket, flow, position, length, cause, .. }) => {
                let mark = if cause == Cause::Limit { b'~' } else { b'_' };
                stream(socket, flow, position, length, &vec![mark; length.min(1 << 20) as usize]);
                self.streams.entry(socket.0).or_default()[flow as usize]
                    .holes
                    .push((position, length, cause));
                self.log.push(format!("{} {flow:?} hole {length}", socket.0));
            }
            Event::Reset(socket, flow) => self.log.push(format!("{} reset {flow:?}", socket.0)),
            Event::Close(socket, ends, _) => self.log.push(format!("{} close {ends:?}", socket.0)),
            Event::Odd(_, code) => self.odd.push(code),
            _ => {}
        }
    }
}

fn hear(file: &[u8]) -> Heard {
    hear_in(file, 1 << 16, CaptureOptions::default())
}

fn hear_in(file: &[u8], piece: usize, options: CaptureOptions) -> Heard {
    let mut capture = Capture::new(options);
    let mut heard = Heard::default();
    for piece in file.chunks(piece) {
        if capture.push(piece, &mut |event: Event<'_>| heard.event(event)).is_err() {
            break;
        }
        heard.held_bytes_max = heard.held_bytes_max.max(capture.held_bytes());
    }
    let end = capture.finish(&mut |event: Event<'_>| heard.event(event));
    heard.damage = end.err();
    heard.counts = capture.counts();
    heard
}
