//! Chunks, holes and ends at any positions: what comes out is in order, without overlap, and made of bytes that
//! were told for that place.
//!
//! Input: operations of a control byte, a length byte and a distance from what is next (two bytes, signed).
#![no_main]

use std::collections::BTreeMap;

use custody_decoders::event::Cause;
use custody_decoders::streams::{Delivery, Stream};
use libfuzzer_sys::fuzz_target;

/// What a stream may hold: pieces of these lengths, what the other end told, and the tail.
const HELD_BYTES_MAX: usize = 1100 * (96 + 255) + (512 << 10);

/// The byte that stands there; whoever lies tells another one.
fn byte_at(position: u64, lies: bool) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 ^ if lies { 0x55 } else { 0 }
}

/// What came out so far.
#[derive(Default)]
struct Told {
    next: Option<u64>,
    /// Which bytes were told for a place: the true one (1), the lie (2).
    offered: BTreeMap<u64, u8>,
}

impl Told {
    fn offer(&mut self, position: u64, length: u64, lies: bool) -> Vec<u8> {
        let places = (0..length).filter_map(|index| position.checked_add(index));
        places
            .map(|place| {
                *self.offered.entry(place).or_default() |= if lies { 2 } else { 1 };
                byte_at(place, lies)
            })
            .collect()
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let (position, length) = match delivery {
            Delivery::Bytes { position, bytes, .. } => {
                for (place, byte) in (position..=u64::MAX).zip(bytes) {
                    let offered = self.offered.get(&place).copied().unwrap_or_default();
                    let told = offered & 1 != 0 && *byte == byte_at(place, false)
                        || offered & 2 != 0 && *byte == byte_at(place, true);
                    assert!(told, "a byte at {place} that nobody told there");
                }
                (position, bytes.len() as u64)
            }
            Delivery::Gap { position, length, .. } => (position, length),
        };
        assert!(length > 0, "nothing was delivered");
        assert!(self.next.is_none_or(|next| next == position), "{position} follows {:?}", self.next);
        self.next = Some(position + length);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut stream = Stream::starting_at((first & 1 == 0).then_some(0));
    let mut told = Told::default();
    let mut now_ns = 0;
    while let [control, length, high, low, after @ ..] = rest {
        rest = after;
        now_ns += 1_000_000;
        let distance = i64::from(i16::from_be_bytes([*high, *low]));
        let near = stream.next_position().saturating_add_signed(distance);
        // The end of all positions, too.
        let position = if control & 0x40 == 0 { near } else { u64::MAX - u64::from(*low) };
        let length = u64::from(*length);
        let lies = control & 0x80 != 0;
        let bytes =
            if matches!(control & 7, 0..=3) { told.offer(position, length, lies) } else { Vec::new() };
        let mut out = |delivery: Delivery<'_>| told.deliver(delivery);
        match control & 7 {
            0..=2 => stream.bytes(position, now_ns, &bytes, &mut out),
            3 => stream.fill(position, &bytes, &mut out),
            4 => stream.hole(position, length, Cause::Unseen, now_ns, &mut out),
            5 => stream.open_hole(position, length, Cause::Unseen, now_ns, &mut out),
            6 => {
                now_ns += length * 1_000_000;
                stream.expire(now_ns, &mut out);
            }
            _ if length == 255 => stream.end_at(position, now_ns, &mut out),
            _ => stream.flush(&mut out),
        }
        assert!(stream.held_bytes() <= HELD_BYTES_MAX, "{} bytes are held", stream.held_bytes());
    }
    stream.flush(&mut |delivery| told.deliver(delivery));
    assert!(told.next.is_none_or(|next| next == stream.next_position()), "what is next was not delivered");
});
