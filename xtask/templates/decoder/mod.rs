//! __Name__: begun by `cargo xtask new-decoder`. What stands here decodes the small protocol that README.md
//! describes; put the real one in its place, from `frame` to `state`.
//!
//! In flow order: [`probe`](Protocol::probe) (is it this protocol) → `frame` (where messages end) → `parse`
//! (bodies to borrowed values) → `connection` (what a message means, by the pure table `state`).

mod connection;
mod frame;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub mod fuzz;
mod parse;
mod state;

use crate::protocol::{Decoder, Heads, Limits, Probe, Protocol};

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct __Name__;

impl Protocol for __Name__ {
    fn name(&self) -> &'static str {
        "__name__"
    }

    fn ports(&self) -> &'static [u16] {
        &[]
    }

    fn probe(&self, heads: Heads<'_>) -> Probe {
        match (frame::greets(heads.up), frame::greets(heads.down)) {
            (Some(true), _) => Probe::Yes,
            (_, Some(true)) => Probe::Reversed,
            (Some(false), _) => Probe::No,
            (None, _) => Probe::More,
        }
    }

    fn open(&self, limits: &Limits, middle: bool) -> Box<dyn Decoder> {
        Box::new(connection::Connection::new(*limits, middle))
    }
}

#[cfg(test)]
crate::harness::tests!(__Name__, "__name__");
