//! Capture files to events: bytes of a file in, in any pieces, and what a live host would have told out.
//!
//! Pure: no I/O, no clock. In flow order: `container` (`classic` pcap, `blocks` of pcapng) → `link` → `ip` →
//! `fragments` → `tunnel` (and again `link` or `ip`) → `segment` → `table` → `connection` → `lane` → [`crate::event::Event`], which
//! [`crate::pipeline`] takes. [`text`] does the same with our own `.cap`. README.md says what is read and what is not.
//!
//! Times: a capture has wall time only, so events carry Unix ns where a live host's carry boottime.

mod blocks;
mod classic;
mod connection;
mod container;
mod fragments;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod fuzz;
mod ip;
mod lane;
mod link;
mod segment;
mod table;
mod tags;
#[cfg(test)]
mod tests;
pub mod text;
mod tunnel;

pub use container::{Damage, Packet};
pub use segment::Flags;

use crate::event::{Endpoint, Event};
use connection::Context;
use container::Container;
use fragments::Fragments;
use link::Network;
use table::Table;
use tags::Tags;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Tunnels within each other that are followed.
const TUNNELS_MAX: u8 = 4;
/// Time is told to the pipeline in steps of this.
const TICK_NS: u64 = 20_000_000;
/// A packet so far behind the latest time says that the clock was set, or was wrong before.
const CLOCK_STEP_NS: u64 = 5_000_000_000;
/// How far behind the last packet the end of a capture lies, so that closed connections are told as such.
const END_NS: u64 = 2_000_000_000;

/// Who hears what a capture tells.
pub trait Listener {
    /// What goes to the pipeline.
    fn event(&mut self, event: Event<'_>);
    /// What became of a segment.
    fn segment(&mut self, _seen: &Seen) {}
}

impl<F: FnMut(Event<'_>)> Listener for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of its packet in the file, from 1.
    pub packet: u64,
    /// Number of its connection, from 1: also the id of its socket.
    pub connection: u64,
    /// Who sent it.
    pub from: Endpoint,
    /// To whom.
    pub to: Endpoint,
    /// Place of its first byte in its direction, where that is known; below zero: before the beginning.
    pub position: Option<i64>,
    /// Its bytes.
    pub length: u64,
    /// Its flags.
    pub flags: Flags,
    /// In a few words.
    pub told: &'static str,
}

/// What a capture may make us hold.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// Connections at once, those included that ended lately.
    pub connections_max: usize,
    /// Bytes out of order that all connections may hold.
    pub held_bytes_max: usize,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions { connections_max: 16_384, held_bytes_max: 64 << 20 }
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What a capture held, in packets unless the name says otherwise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }
    };
}

counts! {
    /// Packets.
    packets,
    /// Bytes of the file that were taken.
    file_bytes,
    /// Packets that are no IP.
    not_ip,
    /// Packets of a link type that is not read.
    unknown_link,
    /// Packets that end before their headers do.
    short,
    /// Packets that contradict themselves.
    malformed,
    /// Times that the capture's clock went back by seconds.
    clock_steps,
    /// Headers of tunnels that were followed.
    tunnels,
    /// Packets within more tunnels, tags or labels than are followed.
    too_deep,
    /// Fragments of IP.
    fragments,
    /// Datagrams whose fragments did not all come.
    fragments_incomplete,
    /// Fragments that claimed bytes of another one.
    fragments_overlapping,
    /// TCP segments.
    segments,
    /// UDP datagrams.
    datagrams,
    /// Bytes that they carried.
    datagram_bytes,
    /// IP packets of other protocols.
    other_transport,
    /// TCP connections.
    connections,
    /// Connections without a SYN, so that who asks had to be guessed.
    guessed,
    /// Connections that were closed to make room for others.
    forgotten,
    /// Times that segments out of order were given up, because too much was held.
    bounds_hit,
    /// Bytes of TCP that were handed on.
    stream_bytes,
    /// Bytes that came more than once.
    repeated_bytes,
    /// Bytes that came more than once and differed.
    disputed_bytes,
    /// Probes that keep a connection alive.
    keep_alives,
    /// Holes: bytes that were sent and are not in the capture.
    lost_holes,
    /// Bytes of them.
    lost_bytes,
    /// Holes: bytes of packets that the capture cut off.
    cut_holes,
    /// Bytes of them.
    cut_bytes,
    /// Bytes from before the first one that was seen of a connection joined in its middle.
    before_beginning_bytes,
    /// Bytes that came after their connection's end.
    after_end_bytes,
    /// Segments that cannot be of the connection between their ends.
    implausible_segments,
    /// Bytes of them.
    implausible_bytes,
}

/// A capture file that comes in pieces.
pub struct Capture {
    container: Container,
    network: Packets,
}

/// What comes after the container.
struct Packets {
    table: Table,
    fragments: Fragments,
    counts: Counts,
    now_ns: u64,
    ticked_ns: u64,
}

/// How deep in a packet something stands.
#[derive(Clone, Copy)]
struct Way<'a> {
    packet: &'a Packet<'a>,
    network: Tags,
    tunnels: u8,
}

impl Capture {
    /// Before its first byte.
    pub fn new(options: CaptureOptions) -> Self {
        Capture {
            container: Container::default(),
            network: Packets {
                table: Table::new(options.connections_max, options.held_bytes_max),
                fragments: Fragments::default(),
                counts: Counts::default(),
                now_ns: 0,
                ticked_ns: 0,
            },
        }
    }

    /// Whether a file that begins so is a capture; `None` while these are too few bytes to tell.
    pub fn is_capture(first: &[u8]) -> Option<bool> {
        Container::is_capture(first)
    }

    /// More of the file. An error ends it: nothing more is taken, and [`Capture::finish`] tells what was held.
    pub fn push(&mut self, bytes: &[u8], listener: &mut dyn Listener) -> Result<(), Damage> {
        self.network.counts.file_bytes += bytes.len() as u64;
        let network = &mut self.network;
        self.container.push(bytes, &mut |packet| network.packet(&packet, listener))
    }

    /// The file is over: what is held or missing is told. Connections that go on are left open, as they are.
    pub fn finish(&mut self, listener: &mut dyn Listener) -> Result<(), Damage> {
        self.network.finish(listener);
        self.container.finish()
    }

    /// What it held so far.
    pub fn counts(&self) -> Counts {
        let Packets { fragments, counts, .. } = &self.network;
        Counts {
            fragments_incomplete: fragments.incomplete,
            fragments_overlapping: fragments.overlapping,
            ..*counts
        }
    }

    /// Bytes of packets that are held.
    pub fn held_bytes(&self) -> usize {
        self.network.table.held_bytes() + self.network.fragments.held_bytes()
    }

    /// Connections that are held.
    pub fn connections_held(&self) -> usize {
        self.network.table.len()
    }
}

impl Packets {
    fn packet(&mut self, packet: &Packet<'_>, listener: &mut dyn Listener) {
        self.counts.packets += 1;
        if packet.time_ns.saturating_add(CLOCK_STEP_NS) < self.now_ns {
            self.counts.clock_steps += 1;
            (self.now_ns, self.ticked_ns) = (packet.time_ns, 0);
        }
        self.now_ns = self.now_ns.max(packet.time_ns);
        if self.now_ns >= self.ticked_ns.saturating_add(TICK_NS) {
            self.ticked_ns = self.now_ns;
            self.table.expire(self.now_ns, &mut self.counts, listener);
            listener.event(Event::Tick(self.now_ns));
        }
        let mut network = Tags::default();
        let found = link::network(packet.link, packet.bytes, &mut network);
        self.network(found, packet.cut_bytes, Way { packet, network, tunnels: 0 }, listener);
    }

    /// What a link, or a tunnel, carries; `cut_bytes` of it are not in the capture.
    fn network(&mut self, found: Network<'_>, cut_bytes: u64, way: Way<'_>, listener: &mut dyn Listener) {
        let ip = match found {
            Network::Ip(ip) => ip,
            Network::Other => return self.counts.not_ip += 1,
            Network::Short => return self.counts.short += 1,
            Network::TooDeep => return self.counts.too_deep += 1,
            Network::UnknownLink => return self.counts.unknown_link += 1,
        };
        match ip::parse(ip, cut_bytes) {
            ip::Parsed::Whole(datagram) => self.datagram(&datagram, way, listener),
            ip::Parsed::Fragment(fragment) => {
                self.counts.fragments += 1;
                if let Some(whole) = self.fragments.push(way.network, fragment, way.packet.time_ns) {
                    let (length, bytes) = (whole.length, whole.bytes.as_slice());
                    let datagram = ip::Datagram { length, bytes, ..fragment.datagram };
                    self.datagram(&datagram, way, listener);
                }
            }
            ip::Parsed::Short => self.counts.short += 1,
            ip::Parsed::Malformed => self.counts.malformed += 1,
        }
    }

    fn datagram(&mut self, datagram: &ip::Datagram<'_>, mut way: Way<'_>, listener: &mut dyn Listener) {
        let ip::Datagram { from, to, protocol, length, bytes } = *datagram;
        if let Some(found) = tunnel::inside(datagram, &mut way.network) {
            if way.tunnels == TUNNELS_MAX {
                return self.counts.too_deep += 1;
            }
            way.tunnels += 1;
            self.counts.tunnels += 1;
            return self.network(found, length.saturating_sub(bytes.len()) as u64, way, listener);
        }
        match protocol {
            TCP => match segment::parse(from, to, length, bytes) {
                segment::Parsed::Segment(segment) => {
                    self.counts.segments += 1;
                    let mut context = Context {
                        listener,
                        counts: &mut self.counts,
                        packet: way.packet.number,
                        time_ns: way.packet.time_ns.max(1),
                        now_ns: self.now_ns,
                    };
                    self.table.segment(way.network, &segment, &mut context);
                }
                segment::Parsed::Short => self.counts.short += 1,
                segment::Parsed::Malformed => self.counts.malformed += 1,
            },
            UDP => {
                self.counts.datagrams += 1;
                self.counts.datagram_bytes += length.saturating_sub(8) as u64;
            }
            _ => self.counts.other_transport += 1,
        }
    }

    fn finish(&mut self, listener: &mut dyn Listener) {
        self.fragments.finish();
        self.table.finish(self.now_ns, &mut self.counts, listener);
        listener.event(Event::Tick(self.now_ns.saturating_add(END_NS)));
    }
}
