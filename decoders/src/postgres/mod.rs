//! PostgreSQL's frontend/backend protocol 3.0 to 3.2.
//!
//! In flow order: `probe` (is it this protocol) → `frame` (where messages end) → `parse` with `pieces` (bodies to
//! borrowed values) → `connection` with `client`, `request`, `server` and `failure` (what a message means, by the
//! pure table `state`) → `pairing` (which answer belongs to which request) → `answer` and `report` (results, rows,
//! errors within their limits); `copy` holds the data of a COPY, `early` those that overtake the wish for them.
//! `names` holds prepared statements and portals; `value` and `binary` with `array`, `range`, `moment`, `network` and
//! `geometry` read formats; `statement`, `parameters`, `words` and `lexer` read what SQL tells without its values.
//! README.md lists each message of the specification.

mod answer;
mod array;
mod binary;
mod client;
mod connection;
mod copy;
mod early;
mod failure;
mod frame;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub mod fuzz;
mod geometry;
mod lexer;
mod moment;
mod names;
mod network;
mod pairing;
mod parameters;
mod parse;
mod pieces;
mod probe;
mod range;
mod report;
mod request;
mod server;
mod state;
mod statement;
#[cfg(test)]
mod tests;
mod value;
mod words;

use crate::protocol::{Decoder, Heads, Limits, Probe, Protocol};

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postgres;

impl Protocol for Postgres {
    fn name(&self) -> &'static str {
        "postgresql"
    }
    fn ports(&self) -> &'static [u16] {
        &[5432]
    }
    fn probe(&self, heads: Heads<'_>) -> Probe {
        probe::probe(heads)
    }
    fn open(&self, limits: &Limits, middle: bool) -> Box<dyn Decoder> {
        Box::new(connection::Connection::new(limits, middle))
    }
}

#[cfg(test)]
crate::harness::tests!(Postgres, "postgres");
