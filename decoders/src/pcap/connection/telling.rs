//! How a connection is told: as a socket of its server, its bytes and holes in order, its end.

use std::sync::Arc;

use super::{Connection, Context};
use crate::anomaly;
use crate::event::{
    Cause, Chunk, Endpoint, Event, Flow, Hole, Layer, Process, Role, Socket, SocketId, Transport,
};
use crate::pcap::lane::Lane;
use crate::registry;
use crate::streams::Delivery;

impl Connection {
    /// Runs `work` on a lane; what it delivers becomes events.
    pub(super) fn with(
        &mut self,
        index: usize,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Lane, &mut dyn FnMut(Delivery<'_>)),
    ) {
        let mut lane = std::mem::take(&mut self.lanes[index]);
        work(&mut lane, &mut |delivery| self.tell(index, delivery, context));
        self.lanes[index] = lane;
    }

    fn tell(&mut self, lane: usize, delivery: Delivery<'_>, context: &mut Context<'_>) {
        self.open(context);
        let socket = SocketId(self.number);
        let flow = if Some(lane) == self.client { Flow::Ingress } else { Flow::Egress };
        let layer = Layer::Wire;
        context.listener.event(match delivery {
            Delivery::Bytes { position, time_ns, bytes } => {
                context.counts.stream_bytes += bytes.len() as u64;
                Event::Chunk(Chunk { socket, flow, layer, position, time_ns, bytes })
            }
            Delivery::Gap { position, length, cause, time_ns } => {
                let (holes, missing) = match cause {
                    Cause::Limit => (&mut context.counts.cut_holes, &mut context.counts.cut_bytes),
                    _ => (&mut context.counts.lost_holes, &mut context.counts.lost_bytes),
                };
                *holes += 1;
                *missing = missing.saturating_add(length);
                Event::Hole(Hole { socket, flow, layer, position, length, cause, time_ns })
            }
        });
    }

    /// Tells of the connection, once there is something to tell: by then a SYN that was captured late has come.
    pub(super) fn open(&mut self, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        let known = self.client.is_some();
        let client = *self.client.get_or_insert_with(|| guess_client(&self.ends));
        let id = SocketId(self.number);
        context.listener.event(Event::Open(Socket {
            id,
            time_ns: self.first_ns,
            transport: Transport::Tcp,
            role: if known { Role::Server } else { Role::Unknown },
            local: Some(self.ends[1 - client]),
            remote: Some(self.ends[client]),
            peer: None,
            netns: 0,
            whole: true,
            existing: !self.begun,
            positions: [Some(0); 2],
            process: Arc::new(Process::default()),
        }));
        if !known {
            context.counts.guessed += 1;
            context.listener.event(Event::Odd(id, anomaly::ENDS_GUESSED));
        }
    }

    /// The connection is over, by a reset of this lane, by both ends, or because it is forgotten.
    pub(in crate::pcap) fn end(&mut self, reset_by: Option<usize>, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.flush(context);
        self.open(context);
        let socket = SocketId(self.number);
        let client = self.client.unwrap_or(0);
        if let Some(lane) = reset_by {
            let flow = if lane == client { Flow::Ingress } else { Flow::Egress };
            context.listener.event(Event::Reset(socket, flow));
        }
        let ends = [client, 1 - client].map(|lane| self.lanes[lane].end);
        context.listener.event(Event::Close(socket, ends, self.last_ns.max(context.time_ns)));
        for lane in &mut self.lanes {
            lane.forget();
        }
    }

    /// Nothing more comes: all that is held or missing is told.
    pub(in crate::pcap) fn flush(&mut self, context: &mut Context<'_>) {
        self.release_all(context);
        let time_ns = context.time_ns;
        for lane in [0, 1] {
            self.with(lane, context, |lane, out| lane.close(time_ns, out));
        }
        if !self.over {
            self.open(context);
        }
    }
}

/// Who asked, when no SYN says so: who speaks to a port where servers listen; else the higher port.
fn guess_client(ends: &[Endpoint; 2]) -> usize {
    match ends.map(|end| registry::is_known_port(end.port)) {
        [true, false] => 1,
        [false, true] => 0,
        _ => usize::from(ends[1].port > ends[0].port),
    }
}
