//! One harness for all decoders: what every protocol must hold, whatever its bytes mean.

use crate::driver::Driver;
use crate::protocol::{Direction, Limits, Protocol};

/// Any bytes, cut into pieces by their own values, both ways, with gaps.
///
/// # Panics
/// When the accounts of the bytes do not balance, or the decoder panicked.
pub fn fuzz(protocol: &dyn Protocol, data: &[u8]) {
    let limits =
        Limits { frame_bytes_max: 4096, body_bytes_max: 256, rows_max: 4, pending_max: 8, names_max: 8 };
    let mut driver = Driver::new(protocol.open(&limits, false), limits);
    let mut positions = [0u64; 2];
    let mut rest = data;
    let mut time_ns = 1;
    while let Some((&control, after)) = rest.split_first() {
        let direction = if control & 1 == 0 { Direction::Up } else { Direction::Down };
        let length = (usize::from(control >> 2) * 3).min(after.len());
        let (piece, after) = after.split_at(length);
        let position = &mut positions[direction as usize];
        if control & 2 != 0 && control & 0xf0 == 0 {
            driver.gap(direction, length as u64 + 1, crate::event::Cause::Unseen, time_ns);
            *position += length as u64 + 1;
        } else {
            driver.bytes(direction, *position, time_ns, piece);
            *position += length as u64;
        }
        while driver.exchanges().next_told().is_some() {}
        time_ns += 10_000_000;
        driver.tick(time_ns);
        rest = after;
    }
    for direction in [Direction::Up, Direction::Down] {
        driver.end(direction, time_ns);
        assert!(driver.account(direction).balances(), "{:?}", driver.account(direction));
    }
    driver.exchanges().close(crate::driver::exchanges::End::NoResponse);
    assert_ne!(driver.state(), crate::driver::State::Failed, "the decoder panicked");
}
