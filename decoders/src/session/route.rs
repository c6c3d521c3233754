//! From which end and which layer a session is read, so that each byte is told once: what comes before that is
//! known waits here, bounded in time and bytes.

use super::{Place, Reader, Session, Sink, What};
use crate::anomaly;
use crate::driver::State;
use crate::event::{Cause, Flow, Layer, Transport};
use crate::protocol::Direction;
use crate::streams::{Delivery, Stream};

/// How long bytes wait for the end that is preferred, or for the wire to announce TLS.
pub const LATCH_WAIT_NS: u64 = 100_000_000;
/// Bytes that wait so.
pub const LATCH_BYTES: usize = 256 << 10;

/// What came before it was known from which end to read.
pub(super) struct Waiting {
    pub(super) end: usize,
    pub(super) layer: Layer,
    pub(super) flow: Flow,
    pub(super) time_ns: u64,
    pub(super) position: u64,
    pub(super) what: What<Vec<u8>>,
}

impl Session {
    /// Reads it, keeps it until it is known what to read, or leaves it to the other end.
    pub(super) fn route(&mut self, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let source = match place.layer {
            Layer::Wire => self.wire_source,
            Layer::Plaintext => self.plaintext_source,
        };
        let source = source.or_else(|| self.latch(place));
        match source {
            Some(source) if source != place.end => self.fill_from_other(source, place, what, sink),
            Some(_) if place.layer == Layer::Wire || self.plaintext_ready() => {
                self.read(place, what, sink);
            }
            _ => {
                let what = match what {
                    What::Bytes(bytes) => What::Bytes(bytes.to_vec()),
                    What::Hole(length, cause) => What::Hole(length, cause),
                };
                let Place { end, layer, flow, position, time_ns } = place;
                self.waiting_bytes += 64 + if let What::Bytes(bytes) = &what { bytes.len() } else { 0 };
                self.waiting.push_back(Waiting { end, layer, flow, time_ns, position, what });
                if self.waiting_bytes > LATCH_BYTES {
                    self.stop_waiting(sink);
                }
            }
        }
    }

    /// Which end this layer is read from: the accepting one, unless it is not to be had.
    fn latch(&mut self, place: Place) -> Option<usize> {
        let accepting = !self.ends[place.end].client;
        let alone = self.ends.len() == 1 && !self.expects_peer;
        let chosen = if accepting || alone {
            Some(place.end)
        } else if place.layer == Layer::Wire {
            // The accepting end is here: what it tells is read, even when the other was faster.
            self.ends.iter().position(|end| !end.client && end.closed.is_none())
        } else {
            None
        };
        match place.layer {
            Layer::Wire => self.wire_source = chosen,
            Layer::Plaintext => self.plaintext_source = chosen,
        }
        chosen
    }

    /// Plaintext is read at once, unless a decoder still reads the wire and has not switched.
    fn plaintext_ready(&self) -> bool {
        match &self.reader {
            Reader::Decoding(driver) if self.layer == Layer::Wire => {
                driver.state() != State::Running || self.plaintext_forced
            }
            _ => true,
        }
    }

    /// Nothing is waited for: what came is read from where it came first.
    pub(super) fn stop_waiting(&mut self, sink: Sink<'_>) {
        for waiting in &self.waiting {
            match waiting.layer {
                Layer::Wire => self.wire_source.get_or_insert(waiting.end),
                Layer::Plaintext => self.plaintext_source.get_or_insert(waiting.end),
            };
        }
        self.plaintext_forced |= self.waiting.iter().any(|waiting| waiting.layer == Layer::Plaintext);
        self.replay(sink);
    }

    fn replay(&mut self, sink: Sink<'_>) {
        self.waiting_bytes = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { end, layer, flow, time_ns, position, what } = waiting;
            let what = match &what {
                What::Bytes(bytes) => What::Bytes(bytes.as_slice()),
                What::Hole(length, cause) => What::Hole(*length, *cause),
            };
            self.route(Place { end, layer, flow, position, time_ns }, what, sink);
        }
    }

    fn has_source(&self, waiting: &Waiting) -> bool {
        match waiting.layer {
            Layer::Wire => self.wire_source.is_some(),
            Layer::Plaintext => self.plaintext_source.is_some() && self.plaintext_ready(),
        }
    }

    fn read(&mut self, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let Place { end, layer, flow, position, time_ns } = place;
        if layer == Layer::Plaintext && self.layer == Layer::Wire {
            self.enter_plaintext(end, sink);
        }
        if matches!(self.transport, Transport::Udp | Transport::UnixDatagram) {
            return self.count_datagram(end, flow, what);
        }
        let may_be_filled = self.may_be_filled(layer) && (self.ends.len() == 2 || self.expects_peer);
        self.with_stream(end, layer, flow, sink, |stream, out| match what {
            What::Bytes(bytes) => stream.bytes(position, time_ns, bytes, out),
            What::Hole(length, cause) if may_be_filled && is_lost(cause) => {
                stream.open_hole(position, length, cause, time_ns, out);
            }
            What::Hole(length, cause) => stream.hole(position, length, cause, time_ns, out),
        });
        if !self.waiting.is_empty() && self.waiting.iter().any(|waiting| self.has_source(waiting)) {
            self.replay(sink);
        }
    }

    /// Whether both ends count this layer from the same byte, so that one may tell what the other did not see: TCP
    /// that was seen from its beginning.
    fn may_be_filled(&self, layer: Layer) -> bool {
        let from_the_beginning = self.ends.iter().all(|end| !end.socket.existing);
        layer == Layer::Wire && self.transport == Transport::Tcp && from_the_beginning && !self.tls
    }

    /// What the end that is not read tells: content for holes of the end that is.
    fn fill_from_other(&mut self, source: usize, place: Place, what: What<&[u8]>, sink: Sink<'_>) {
        let What::Bytes(bytes) = what else { return };
        if !self.may_be_filled(place.layer) || self.ends[source].ended {
            return;
        }
        let flow = if place.flow == Flow::Egress { Flow::Ingress } else { Flow::Egress };
        self.with_stream(source, place.layer, flow, sink, |stream, out| {
            stream.fill(place.position, bytes, out);
        });
    }

    fn count_datagram(&mut self, end: usize, flow: Flow, what: What<&[u8]>) {
        let direction = self.direction(end, flow);
        let account = &mut self.base[direction as usize];
        match what {
            What::Bytes(bytes) => {
                account.seen += bytes.len() as u64;
                account.unknown += bytes.len() as u64;
            }
            What::Hole(length, cause) => account.missing(length, cause),
        }
        self.reader = Reader::Counting;
        self.looks_like = Some("datagrams");
    }

    /// Runs `work` on a stream; what it delivers goes to the reader.
    pub(super) fn with_stream(
        &mut self,
        end: usize,
        layer: Layer,
        flow: Flow,
        sink: Sink<'_>,
        work: impl FnOnce(&mut Stream, &mut dyn FnMut(Delivery<'_>)),
    ) {
        let mut stream = std::mem::take(self.ends[end].stream(layer, flow));
        let (disputed, misplaced) = (stream.disputed_bytes(), stream.misplaced());
        let misplaced_bytes = stream.misplaced_bytes();
        work(&mut stream, &mut |delivery| {
            let direction = self.direction(end, flow);
            self.deliver(layer, direction, delivery, sink);
        });
        if stream.disputed_bytes() > disputed {
            self.disputed_bytes += stream.disputed_bytes() - disputed;
            self.note(anomaly::ORDER_UNKNOWN);
        }
        if stream.misplaced() > misplaced {
            self.note(anomaly::POSITION_IMPOSSIBLE);
            let account = &mut self.base[self.direction(end, flow) as usize];
            let bytes = stream.misplaced_bytes() - misplaced_bytes;
            account.seen += bytes;
            account.unparsed += bytes;
        }
        *self.ends[end].stream(layer, flow) = stream;
    }

    pub(super) fn direction(&self, end: usize, flow: Flow) -> Direction {
        if (flow == Flow::Egress) == (self.ends[end].client != self.reversed) {
            Direction::Up
        } else {
            Direction::Down
        }
    }
}

/// Gone on this end, though not left out on purpose.
pub(super) fn is_lost(cause: Cause) -> bool {
    !matches!(cause, Cause::Limit | Cause::Ciphertext | Cause::Rule)
}
