//! Content codings (RFC 9110, 8.4.1): gzip, deflate, br and zstd, in any list, decoded as the bytes come.
//!
//! Protocol independent, and pure: coded pieces in, decoded pieces out. What is made is bounded by its user's room and,
//! between two codings of a list, by a ratio, so a bomb costs no more than a body of ordinary size. Keeps no decoded
//! byte itself. A broken coding is no error of ours: what came out before the break stands, and a code says so.

mod layer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::anomaly;
use layer::{Layer, Step};

/// Codings of one list that are followed.
const CODINGS_MAX: usize = 3;
/// Bytes that one step makes at most.
const STEP_BYTES: usize = 8 << 10;
/// What a coding may make for the next one of its list: so much …
const INNER_BYTES: u64 = 256 << 10;
/// … or so many times what came in. More is made for one purpose only.
const INNER_RATIO: u64 = 64;
/// A body that grows beyond this ratio before its room is used up is remarked.
const REMARKABLE_RATIO: u64 = 200;

/// Why decoding stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is no room for more.
    Full,
    /// There is no room for more, and hardly anything came in.
    Bomb,
    /// These bytes are not of this coding.
    Broken,
    /// Bytes follow the end of the coded content.
    Trailing,
    /// The coded content has no end.
    Truncated,
}

impl Stop {
    /// Its code; that a body is longer than what is kept of it is nothing odd.
    pub(crate) fn code(self) -> Option<&'static str> {
        match self {
            Stop::Full => None,
            Stop::Bomb => Some(anomaly::CONTENT_BOMB),
            Stop::Broken => Some(anomaly::CONTENT_BROKEN),
            Stop::Trailing => Some(anomaly::CONTENT_TRAILING),
            Stop::Truncated => Some(anomaly::CONTENT_TRUNCATED),
        }
    }
}

/// The codings of one body.
pub(crate) struct Decoding {
    /// In the order in which they are taken off.
    layers: Vec<Coding>,
}

struct Coding {
    layer: Layer,
    used: u64,
    made: u64,
}

impl Decoding {
    /// For codings in the order in which they were applied, separated by commas; `None` when one is not known.
    pub(crate) fn of(codings: &str) -> Option<Decoding> {
        let mut layers = Vec::new();
        for name in codings.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity")) {
            let layer = Layer::named(name)?;
            layers.push(Coding { layer, used: 0, made: 0 });
        }
        layers.reverse();
        (layers.len() <= CODINGS_MAX).then_some(Decoding { layers })
    }

    /// There is nothing to decode.
    pub(crate) fn is_identity(&self) -> bool {
        self.layers.is_empty()
    }

    /// The next coded bytes; at most `room` decoded ones go to `out`.
    pub(crate) fn push(&mut self, coded: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        let end = out.len().saturating_add(room);
        // These decoders are not ours, and their input is hostile.
        let fed = catch_unwind(AssertUnwindSafe(|| feed(&mut self.layers, coded, end, out)));
        fed.unwrap_or(Err(Stop::Broken))
    }

    /// Nothing follows.
    pub(crate) fn finish(&self) -> Result<(), Stop> {
        let ended = self.layers.iter().all(|coding| coding.used == 0 || coding.layer.may_end());
        if ended { Ok(()) } else { Err(Stop::Truncated) }
    }

    /// Memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.layers.iter().map(|coding| coding.layer.held_bytes(coding.made)).sum()
    }
}

/// Through the first coding, and what it makes through the rest.
fn feed(codings: &mut [Coding], mut coded: &[u8], end: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
    let Some((coding, rest)) = codings.split_first_mut() else {
        let room = end.saturating_sub(out.len());
        out.extend_from_slice(&coded[..coded.len().min(room)]);
        return if coded.len() > room { Err(Stop::Full) } else { Ok(()) };
    };
    let mut made = [0; STEP_BYTES];
    let mut idle = 0;
    loop {
        let Step { used, made: length, result } = coding.layer.step(coded, &mut made);
        coded = &coded[used..];
        coding.used += used as u64;
        coding.made += length as u64;
        let inner = !rest.is_empty() && coding.made > INNER_BYTES.max(coding.used * INNER_RATIO);
        let fed = if inner { Err(Stop::Bomb) } else { feed(rest, &made[..length], end, out) };
        match fed {
            Err(Stop::Full) if coding.made > coding.used.saturating_mul(REMARKABLE_RATIO) => {
                return Err(Stop::Bomb);
            }
            fed => fed?,
        }
        result?;
        idle = if used + length == 0 { idle + 1 } else { 0 };
        match coded.is_empty() && length < made.len() {
            true => return Ok(()),
            // A step may end a part and do nothing else, but no two in a row.
            false if idle > 1 => return Err(Stop::Broken),
            false => {}
        }
    }
}

#[cfg(test)]
mod tests;
