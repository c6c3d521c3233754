//! Any bytes, in any pieces, both ways, with gaps: what a fuzzer feeds, and a bounded run of it for tests.
//!
//! Input: operations of a control byte, a length byte and so many bytes. Seeds are made of the cases, so that a
//! run begins at conversations that make sense.

use super::property::{SMALL, balanced};
use super::random::Random;
use super::replay::Replay;
use crate::case::{Case, What};
use crate::protocol::{Direction, Protocol};

/// Longest input.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// What a connection may hold, whatever comes.
const HELD_BYTES_MAX: usize = 1 << 20;

const BYTES: u8 = 4;
const DOWN: u8 = 8;

/// One input. `Err` says what is wrong with the decoder.
pub fn check(protocol: &dyn Protocol, data: &[u8]) -> Result<(), String> {
    let (middle, mut rest) = match data.split_first() {
        Some((first, rest)) => (first & 1 != 0, rest),
        None => return Ok(()),
    };
    let mut replay = Replay::new(protocol, SMALL, middle);
    let mut positions = [0u64; 2];
    let mut now_ns = 1;
    while let [control, length, after @ ..] = rest {
        let direction = if control & DOWN == 0 { Direction::Up } else { Direction::Down };
        let position = &mut positions[direction as usize];
        match control & 7 {
            0 => {
                replay.hole(direction, *position, u64::from(*length) + 1, now_ns);
                *position += u64::from(*length) + 1;
                rest = after;
            }
            1 => {
                now_ns += u64::from(*length) * 1_000_000;
                replay.tick(now_ns);
                rest = after;
            }
            _ => {
                let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
                replay.bytes(direction, *position, now_ns, piece);
                *position += piece.len() as u64;
                rest = after;
            }
        }
        now_ns += 1_000_000;
    }
    let outcome = replay.finish(now_ns);
    balanced(&outcome)?;
    if outcome.held_bytes_max > HELD_BYTES_MAX {
        return Err(format!("held {} bytes", outcome.held_bytes_max));
    }
    Ok(())
}

/// The body of a fuzz target.
///
/// # Panics
/// When the decoder panicked, holds too much, or bytes are not accounted for.
pub fn body(protocol: &dyn Protocol, data: &[u8]) {
    if let Err(why) = check(protocol, data) {
        panic!("{}: {why}", protocol.name());
    }
}

/// A case as an input.
pub fn seed(case: &Case) -> Vec<u8> {
    let mut seed = vec![u8::from(case.middle)];
    for step in &case.steps {
        let way = if step.direction == Direction::Up { 0 } else { DOWN };
        match &step.what {
            What::Bytes(bytes) => {
                for piece in bytes.chunks(255) {
                    seed.extend([BYTES | way, piece.len() as u8]);
                    seed.extend_from_slice(piece);
                }
            }
            What::Gap(length) => seed.extend([way, (length - 1).min(255) as u8]),
            What::End => {}
        }
    }
    seed.truncate(INPUT_BYTES_MAX);
    seed
}

/// All seeds, then `count` changed ones. `Err` holds the input in hexadecimal.
pub fn run(protocol: &dyn Protocol, seeds: &[Vec<u8>], count: usize) -> Result<(), String> {
    let mut random = Random::new(0xC0FFEE);
    let fail = |input: &[u8], why| format!("{why}; the input: {}", hex::encode(input));
    for seed in seeds {
        check(protocol, seed).map_err(|why| fail(seed, why))?;
    }
    for _ in 0..count {
        let input = changed(seeds, &mut random);
        check(protocol, &input).map_err(|why| fail(&input, why))?;
    }
    Ok(())
}

/// A seed with some changes.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const ODD: [u8; 12] = [0, 1, 0x0a, 0x0d, 0x20, 0x30, 0x7f, 0x80, 0xff, b':', b',', b'"'];
    let pick = |random: &mut Random| seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    let mut input = pick(random);
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(64)).min(input.len());
        match random.below(8) {
            0 | 1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = ODD[random.below(ODD.len())]),
            3 => drop(input.drain(at..end)),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let other = pick(random);
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => {
                let number = [0u32, 1, 4, 0x7fff_ffff, 0xffff_ffff, 0x0001_0000][random.below(6)];
                input.splice(at..end.min(at + 4), number.to_be_bytes());
            }
            _ => {
                let byte = ODD[random.below(ODD.len())];
                input.splice(at..at, vec![byte; 1 + random.below(40)]);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}
