//! PostgreSQL's frontend/backend protocol 3.0 to 3.2.
//!
//! In flow order: `probe` (is it this protocol) → `frame` (where messages end) → `parse` (bodies to borrowed
//! values) → `connection` with `client` and `server` (what a message means, by the pure table `state`) →
//! `pairing` (which answer belongs to which request) → `answer` (results, rows, errors within their limits).
//! `names` holds prepared statements and portals, `value` reads formats, `statement` and `lexer` read what SQL
//! tells without its values. README.md lists each message of the specification with its test.

mod answer;
mod client;
mod connection;
mod early;
mod frame;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub mod fuzz;
mod lexer;
mod names;
mod pairing;
mod parse;
mod probe;
mod report;
mod server;
mod state;
mod statement;
#[cfg(test)]
mod tests;
mod value;

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
