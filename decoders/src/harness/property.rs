//! What every decoder must hold, whatever its bytes mean. Each property takes one conversation and says what is
//! wrong; each is shown to fail on a decoder that breaks it (`broken.rs`).

use super::random::Random;
use super::replay::{DIRECTIONS, Outcome, replay, run};
use super::{compare, render};
use crate::case::{Case, Step, What};
use crate::driver::State;
use crate::protocol::{Direction, Limits, Protocol};
use crate::work;

/// One property: its name and its check.
pub type Property = (&'static str, fn(&dyn Protocol, &Case) -> Result<(), String>);

/// All of them.
pub const PROPERTIES: &[Property] = &[
    ("any chunking tells the same", chunking),
    ("any interleaving of the directions tells the same", interleaving),
    ("chunks that come twice or out of order tell the same", duplicates),
    ("nothing is mixed across a gap", gaps),
    ("what is cut off anywhere tells no more than the whole", truncation),
    ("memory stays bounded", memory),
    ("work grows with the bytes and not with their square", work_is_linear),
    ("no secret survives masking", secrets),
];

/// Conversations longer than this are tried at samples of their places.
const EVERY_PLACE_BYTES: usize = 300;

/// Bytes of a step, if it is bytes.
fn bytes_of(step: &Step) -> Option<&[u8]> {
    if let What::Bytes(bytes) = &step.what { Some(bytes) } else { None }
}

fn has_gaps(case: &Case) -> bool {
    case.steps.iter().any(|step| matches!(step.what, What::Gap(_)))
}

/// Places of `length` bytes that are tried: all, or those near the edges and a sample between.
fn places(length: usize) -> Vec<usize> {
    if length <= EVERY_PLACE_BYTES {
        return (1..length).collect();
    }
    let stride = (length / 100).max(1);
    let mut places: Vec<usize> =
        (1..100).chain((100..length - 50).step_by(stride)).chain(length - 50..length).collect();
    places.dedup();
    places
}

/// Two pieces instead of one, at every place; and pieces of one size.
fn chunking(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    let whole = replay(protocol, case, usize::MAX);
    for piece in [1, 2, 3, 7, 64, 1000] {
        compare::equal(case, &whole, &replay(protocol, case, piece))
            .map_err(|why| format!("in pieces of {piece}: {why}"))?;
    }
    for (index, step) in case.steps.iter().enumerate() {
        let Some(bytes) = bytes_of(step) else { continue };
        for place in places(bytes.len()) {
            let mut steps = case.steps.clone();
            let part = |bytes: &[u8]| Step { what: What::Bytes(bytes.to_vec()), ..step.clone() };
            steps.splice(index..=index, [part(&bytes[..place]), part(&bytes[place..])]);
            compare::equal(case, &whole, &run(protocol, case, &steps))
                .map_err(|why| format!("line {index} split at {place}: {why}"))?;
        }
    }
    Ok(())
}

/// One direction is seen before or after the other, whatever caused what. The end of a direction is no event
/// of the other's order: it stays last.
fn interleaving(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    if has_gaps(case) {
        return Ok(());
    }
    let steps: Vec<Step> = case.steps.iter().filter(|step| bytes_of(step).is_some()).cloned().collect();
    let whole = run(protocol, case, &steps);
    for at in 1..steps.len() {
        let mut swapped = steps.clone();
        swapped.swap(at - 1, at);
        if steps[at].direction != steps[at - 1].direction {
            compare::equal_in_any_order(case, &whole, &run(protocol, case, &swapped))
                .map_err(|why| format!("lines {} and {at} swapped: {why}", at - 1))?;
        }
    }
    let mut random = Random::new(7);
    for round in 0..40 {
        let merged = merged(&steps, &mut random);
        compare::equal_in_any_order(case, &whole, &run(protocol, case, &merged))
            .map_err(|why| format!("merge {round}: {why}"))?;
    }
    Ok(())
}

/// Pieces of the steps, each direction in its order, none further ahead of the other than two steps.
fn merged(steps: &[Step], random: &mut Random) -> Vec<Step> {
    let lanes = DIRECTIONS.map(|direction| -> Vec<(usize, &Step)> {
        steps.iter().enumerate().filter(|(_, step)| step.direction == direction).collect()
    });
    let mut next = [0usize; 2];
    let mut offset = [0usize; 2];
    let mut merged = Vec::new();
    loop {
        let head = [0, 1].map(|lane| lanes[lane].get(next[lane]).map(|(order, _)| *order));
        let lane = match head {
            [None, None] => return merged,
            [Some(_), None] => 0,
            [None, Some(_)] => 1,
            [Some(up), Some(down)] if up + 2 < down => 0,
            [Some(up), Some(down)] if down + 2 < up => 1,
            _ => random.below(2),
        };
        let step = lanes[lane][next[lane]].1;
        let Some(bytes) = bytes_of(step) else { continue };
        let rest = &bytes[offset[lane]..];
        let length = 1 + random.below(rest.len());
        merged.push(Step { what: What::Bytes(rest[..length].to_vec()), ..step.clone() });
        offset[lane] += length;
        if offset[lane] == bytes.len() {
            (next[lane], offset[lane]) = (next[lane] + 1, 0);
        }
    }
}

/// Chunks of one direction that come twice, or the second before the first, by their positions.
fn duplicates(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    if has_gaps(case) {
        return Ok(());
    }
    let whole = replay(protocol, case, usize::MAX);
    let mut random = Random::new(11);
    for round in 0..20 {
        let mut replay = super::replay::Replay::new(protocol, case.limits, case.middle);
        let mut positions = [0u64; 2];
        let mut now_ns = 0;
        for Step { direction, time_ns, what } in &case.steps {
            now_ns = now_ns.max(*time_ns);
            let What::Bytes(bytes) = what else {
                replay.end(*direction, *time_ns);
                continue;
            };
            let start = positions[*direction as usize];
            let cut = random.below(bytes.len() + 1);
            let mut say = |from: usize, to: usize| {
                replay.bytes(*direction, start + from as u64, *time_ns, &bytes[from..to]);
            };
            match random.below(3) {
                0 => {
                    say(0, bytes.len());
                    say(cut, bytes.len());
                }
                1 => {
                    say(cut, bytes.len());
                    say(0, cut);
                }
                _ => {
                    say(cut, bytes.len());
                    say(0, bytes.len());
                }
            }
            positions[*direction as usize] += bytes.len() as u64;
        }
        let told = replay.finish(now_ns);
        compare::equal(case, &whole, &told).map_err(|why| format!("round {round}: {why}"))?;
    }
    Ok(())
}

/// A hole anywhere in either direction: what is told is what was said, and answers stay with their requests.
fn gaps(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    let whole = replay(protocol, case, usize::MAX);
    for (index, step) in case.steps.iter().enumerate() {
        let Some(bytes) = bytes_of(step) else { continue };
        let stride = (bytes.len() / 20).max(1);
        for start in (0..bytes.len()).step_by(stride) {
            for length in [1, 9, 100, usize::MAX] {
                let end = start.saturating_add(length).min(bytes.len());
                let mut steps = case.steps.clone();
                let part = |what| Step { what, ..step.clone() };
                steps.splice(
                    index..=index,
                    [
                        part(What::Bytes(bytes[..start].to_vec())),
                        part(What::Gap((end - start) as u64)),
                        part(What::Bytes(bytes[end..].to_vec())),
                    ],
                );
                check_part(case, &whole, &run(protocol, case, &steps))
                    .map_err(|why| format!("line {index} without bytes {start} to {end}: {why}"))?;
            }
        }
    }
    Ok(())
}

/// Both directions end at any byte of the conversation.
fn truncation(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    let whole = replay(protocol, case, usize::MAX);
    for (index, step) in case.steps.iter().enumerate() {
        let Some(bytes) = bytes_of(step) else { continue };
        let stride = (bytes.len() / 40).max(1);
        for end in (0..bytes.len()).step_by(stride) {
            let mut steps = case.steps[..index].to_vec();
            steps.push(Step { what: What::Bytes(bytes[..end].to_vec()), ..step.clone() });
            check_part(case, &whole, &run(protocol, case, &steps))
                .map_err(|why| format!("cut off in line {index} at {end}: {why}"))?;
        }
    }
    Ok(())
}

fn check_part(case: &Case, whole: &Outcome, part: &Outcome) -> Result<(), String> {
    balanced(part)?;
    compare::within(case, whole, part)
}

/// The decoder went on to the end and each byte is accounted for.
pub(super) fn balanced(outcome: &Outcome) -> Result<(), String> {
    if outcome.state == State::Failed {
        return Err("the decoder panicked".to_owned());
    }
    for account in &outcome.accounts {
        if !account.balances() || account.pending > 0 {
            return Err(format!("bytes are not accounted for: {account:?}"));
        }
    }
    Ok(())
}

/// Limits that are soon hit.
pub(super) const SMALL: Limits =
    Limits { frame_bytes_max: 4096, body_bytes_max: 1024, rows_max: 8, pending_max: 8, names_max: 8 };
/// What a connection may hold under [`SMALL`] limits, whatever comes: eight exchanges of some 64 KiB.
const SMALL_HELD_BYTES_MAX: usize = 512 << 10;

/// The same again and again, with one direction or both, under small limits.
fn memory(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    let case = Case { limits: SMALL, ..case.clone() };
    for only in [None, Some(Direction::Up), Some(Direction::Down)] {
        let steps: Vec<Step> = case
            .steps
            .iter()
            .filter(|step| bytes_of(step).is_some() && only.is_none_or(|only| step.direction == only))
            .cloned()
            .collect();
        let length: usize = steps.iter().filter_map(bytes_of).map(<[u8]>::len).sum();
        if length == 0 {
            continue;
        }
        let times = ((640 << 10) / length).clamp(2, 10_000);
        let flood: Vec<Step> = std::iter::repeat_n(steps, times).flatten().collect();
        let outcome = run(protocol, &case, &flood);
        balanced(&outcome)?;
        if outcome.held_bytes_max > SMALL_HELD_BYTES_MAX {
            return Err(format!("{only:?} {times} times: held {} bytes", outcome.held_bytes_max));
        }
    }
    Ok(())
}

/// Bytes that one byte of input may cost to look at: each is copied, framed, parsed, cut into tokens.
const WORK_PER_BYTE_MAX: u64 = 100;

/// One byte of the conversation comes five thousand times, and all come one by one.
fn work_is_linear(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    const TIMES: usize = 5_000;
    let sample = (case.len() / 8).max(1);
    for (index, step) in case.steps.iter().enumerate() {
        let Some(bytes) = bytes_of(step).filter(|bytes| bytes.len() < TIMES) else { continue };
        for place in (0..bytes.len()).step_by(sample) {
            let mut steps = case.steps[..=index].to_vec();
            let stretched = [&bytes[..place], &[bytes[place]].repeat(TIMES), &bytes[place..]].concat();
            steps[index].what = What::Bytes(stretched);
            let stretched = Case { steps, ..case.clone() };
            work::start();
            let outcome = replay(protocol, &stretched, 1);
            let (work, length) = (work::done(), stretched.len() as u64);
            balanced(&outcome)?;
            if work > WORK_PER_BYTE_MAX * length {
                return Err(format!(
                    "line {index}, byte {place} {TIMES} times: {length} bytes cost {work} to look at"
                ));
            }
        }
    }
    Ok(())
}

/// Seeded secrets are in no masked record.
fn secrets(protocol: &dyn Protocol, case: &Case) -> Result<(), String> {
    let outcome = replay(protocol, case, usize::MAX);
    let mut session = super::replay::Told::default();
    session.fields.clone_from(&outcome.session);
    for told in outcome.exchanges.values().chain([&session]) {
        let masked = format!("{:?}", render::masked(told));
        if let Some(secret) = case.secrets.iter().find(|secret| masked.contains(secret.as_str())) {
            return Err(format!("{secret} survives masking in:\n{}", render::exchange(told)));
        }
    }
    Ok(())
}
