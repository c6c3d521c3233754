//! Our own text form of conversations (`.cap`, see [`crate::case`]) to events: each case is a connection.
//!
//! A case says which bytes went up and down, so there is nothing to put in order. Its limits are the
//! pipeline's business and are not set here.

use std::sync::Arc;

use super::Listener;
use crate::case::{Case, What};
use crate::event::{Cause, Chunk, Event, Flow, Hole, Layer, Process, Role, Socket, SocketId, Transport};
use crate::protocol::Direction;

/// Time between two cases, so that the one before is told as over.
const BETWEEN_NS: u64 = 2_000_000_000;

/// Whether a file that begins so is one: its first line that says something begins as one of its lines does.
pub fn is_text(first: &[u8]) -> bool {
    let text = String::from_utf8_lossy(first);
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let begins = |line: &str| {
        let word = line.split(' ').next().unwrap_or_default();
        ["case", "middle", "secret", "limit", ">", "<"].contains(&word)
    };
    lines.next().is_some_and(begins)
}

/// Tells the cases one after the other.
pub fn tell(cases: &[Case], listener: &mut dyn Listener) {
    let mut begin_ns = 0;
    for (index, case) in cases.iter().enumerate() {
        let socket = SocketId(index as u64 + 1);
        listener.event(Event::Tick(begin_ns));
        listener.event(Event::Open(open(socket, case.middle, begin_ns)));
        let mut positions = [0u64; 2];
        let mut ends = [None; 2];
        let mut last_ns = begin_ns;
        for step in &case.steps {
            let flow = if step.direction == Direction::Up { Flow::Ingress } else { Flow::Egress };
            let position = &mut positions[flow as usize];
            let time_ns = begin_ns.saturating_add(step.time_ns);
            last_ns = last_ns.max(time_ns);
            listener.event(Event::Tick(last_ns));
            let layer = Layer::Wire;
            match &step.what {
                What::Bytes(bytes) => {
                    let chunk = Chunk { socket, flow, layer, position: *position, time_ns, bytes };
                    listener.event(Event::Chunk(chunk));
                    *position += bytes.len() as u64;
                }
                What::Gap(length) => {
                    let (length, cause) = (*length, Cause::Unseen);
                    let hole = Hole { socket, flow, layer, position: *position, length, cause, time_ns };
                    listener.event(Event::Hole(hole));
                    *position = position.saturating_add(length);
                }
                What::End => ends[flow as usize] = Some(*position),
            }
        }
        listener.event(Event::Close(socket, ends, last_ns));
        begin_ns = last_ns.saturating_add(BETWEEN_NS);
    }
    listener.event(Event::Tick(begin_ns));
}

fn open(id: SocketId, middle: bool, time_ns: u64) -> Socket {
    Socket {
        id,
        time_ns,
        transport: Transport::Tcp,
        role: Role::Server,
        local: None,
        remote: None,
        peer: None,
        netns: 0,
        whole: true,
        existing: middle,
        positions: [Some(0); 2],
        process: Arc::new(Process::default()),
    }
}
