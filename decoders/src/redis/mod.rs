//! Redis: RESP2 and RESP3, both directions, commands, replication and what the server says unasked.
//!
//! In flow order: `probe` (is it this protocol) → `token` (the pieces of RESP) → `lane` (where pieces end, large ones
//! in parts) → `tree` (one command or reply, within its limits) → `connection` (which way, holes) → `table` with
//! `command` (what its arguments are) → `pairing` (which reply belongs to which command) → `answer` (what a reply
//! tells) and `unasked` (pushes, messages, monitoring, replication). `words` splits and writes command lines.
//! README.md lists each message type.

mod answer;
mod command;
mod connection;
mod early;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub mod fuzz;
mod lane;
mod pairing;
mod probe;
mod special;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod tree;
mod unasked;
mod words;

use crate::protocol::{Decoder, Heads, Limits, Probe, Protocol};

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redis;

/// Where servers and sentinels usually listen: a hint, never proof.
const PORTS: &[u16] = &[6379, 26379];

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn ports(&self) -> &'static [u16] {
        PORTS
    }

    fn probe(&self, heads: Heads<'_>) -> Probe {
        probe::probe(heads)
    }

    fn open(&self, limits: &Limits, middle: bool) -> Box<dyn Decoder> {
        Box::new(connection::Connection::new(*limits, middle))
    }
}

#[cfg(test)]
crate::harness::tests!(Redis, "redis");
