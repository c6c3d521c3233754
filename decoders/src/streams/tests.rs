//! Order, overlaps, holes and bounds of one stream.

use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq, Eq, Clone)]
enum Got {
    Bytes(u64, Vec<u8>),
    Gap(u64, u64, Cause),
}

fn into(got: &mut Vec<Got>) -> impl FnMut(Delivery<'_>) + '_ {
    |delivery| match delivery {
        Delivery::Bytes { position, bytes, .. } => match got.last_mut() {
            Some(Got::Bytes(start, before)) if *start + before.len() as u64 == position => {
                before.extend(bytes)
            }
            _ => got.push(Got::Bytes(position, bytes.to_vec())),
        },
        Delivery::Gap { position, length, cause, .. } => got.push(Got::Gap(position, length, cause)),
    }
}

#[test]
fn chunks_out_of_order_are_put_in_order() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(3, 1, b"def", &mut into(&mut got));
    assert!(got.is_empty());
    stream.bytes(0, 2, b"abc", &mut into(&mut got));
    assert_eq!(got, [Got::Bytes(0, b"abcdef".to_vec())]);
    assert_eq!(stream.held_bytes, 0);
}

#[test]
fn a_hole_waits_then_becomes_a_gap() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(4, 1000, b"x", &mut into(&mut got));
    stream.expire(1000 + REORDER_WAIT_NS - 1, &mut into(&mut got));
    assert!(got.is_empty());
    stream.expire(1000 + REORDER_WAIT_NS, &mut into(&mut got));
    assert_eq!(got, [Got::Gap(0, 4, Cause::Unseen), Got::Bytes(4, b"x".to_vec())]);
}

#[test]
fn known_holes_come_in_their_place_and_bytes_win_over_them() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.hole(2, 4, Cause::RingFull, 1, &mut into(&mut got));
    stream.bytes(4, 1, b"ef", &mut into(&mut got));
    stream.bytes(0, 1, b"ab", &mut into(&mut got));
    assert_eq!(
        got,
        [Got::Bytes(0, b"ab".to_vec()), Got::Gap(2, 2, Cause::RingFull), Got::Bytes(4, b"ef".to_vec())]
    );
}

#[test]
fn a_repetition_is_counted_and_a_contradiction_is_disputed() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(0, 1, b"abcd", &mut into(&mut got));
    stream.bytes(2, 1, b"cdef", &mut into(&mut got));
    assert_eq!((stream.duplicate_bytes(), stream.disputed_bytes()), (2, 0));
    stream.bytes(4, 1, b"XY", &mut into(&mut got));
    assert_eq!((stream.duplicate_bytes(), stream.disputed_bytes()), (2, 2));
    assert_eq!(got, [Got::Bytes(0, b"abcdef".to_vec())]);
}

#[test]
fn kept_chunks_that_disagree_are_never_delivered() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(2, 1, b"cdef", &mut into(&mut got));
    stream.bytes(3, 1, b"DE", &mut into(&mut got));
    stream.bytes(0, 1, b"ab", &mut into(&mut got));
    assert_eq!(
        got,
        [Got::Bytes(0, b"abc".to_vec()), Got::Gap(3, 2, Cause::Unseen), Got::Bytes(5, b"f".to_vec())]
    );
    assert_eq!(stream.disputed_bytes(), 4);
}

#[test]
fn pieces_are_bounded() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    for index in 0..100_000u64 {
        stream.bytes(1 + index * 2, index, b"x", &mut into(&mut got));
        assert!(stream.held_bytes() < (PIECES_MAX + 2) * (PIECE_OVERHEAD + 1) + TAIL_BYTES * 2);
    }
}

#[test]
fn positions_at_the_end_of_the_world_are_refused_and_counted() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(0, 1, b"true", &mut into(&mut got));
    // What a position below zero looks like, and one past the end of numbers.
    stream.bytes(0u64.wrapping_sub(717_101_026), 1, b"abcd", &mut into(&mut got));
    stream.bytes(u64::MAX - 1, 1, b"abcd", &mut into(&mut got));
    stream.hole(u64::MAX - 1, u64::MAX, Cause::Unseen, 1, &mut into(&mut got));
    stream.hole(4, u64::MAX - 100, Cause::PageFault, 1, &mut into(&mut got));
    stream.hole(0u64.wrapping_sub(10), 5, Cause::PageFault, 1, &mut into(&mut got));
    stream.end_at(0u64.wrapping_sub(717_101_026), 1, &mut into(&mut got));
    stream.flush(&mut into(&mut got));
    assert_eq!((stream.misplaced(), stream.misplaced_bytes()), (6, 8));
    stream.bytes(4, 1, b"too", &mut into(&mut got));
    assert_eq!(got, [Got::Bytes(0, b"truetoo".to_vec())], "what is true is read as if nothing had been said");
}

#[test]
fn a_stream_of_unknown_beginning_begins_where_its_first_bytes_stand() {
    let (mut stream, mut got) = (Stream::starting_at(None), Vec::new());
    stream.bytes(1 << 50, 1, b"ab", &mut into(&mut got));
    stream.bytes((1 << 50) + 3, 1, b"d", &mut into(&mut got));
    stream.end_at((1 << 50) + 4, 1, &mut into(&mut got));
    let at = 1 << 50;
    let expected = [
        Got::Bytes(at, b"ab".to_vec()),
        Got::Gap(at + 2, 1, Cause::Unseen),
        Got::Bytes(at + 3, b"d".to_vec()),
    ];
    assert_eq!(got, expected);
    let (mut stream, mut got) = (Stream::starting_at(None), Vec::new());
    stream.end_at(500, 1, &mut into(&mut got));
    assert!(got.is_empty(), "where it began is not known, so neither is what is missing");
}

#[test]
fn a_hole_takes_the_bytes_of_the_other_end_at_its_positions_alone() {
    for fill_first in [false, true] {
        let (mut stream, mut got) = (Stream::default(), Vec::new());
        if fill_first {
            stream.fill(0, b"HEADbodyTAIL", &mut into(&mut got));
        }
        stream.open_hole(4, 4, Cause::NoPayload, 1, &mut into(&mut got));
        if !fill_first {
            stream.fill(0, b"HEADbodyTAIL", &mut into(&mut got));
        }
        assert!(got.is_empty(), "no byte of the other end where no hole was told");
        stream.bytes(0, 1, b"head", &mut into(&mut got));
        stream.bytes(8, 1, b"tail", &mut into(&mut got));
        assert_eq!(got, [Got::Bytes(0, b"headbodytail".to_vec())], "fill first: {fill_first}");
        stream.fill(0, b"HEADBODYTAIL", &mut into(&mut got));
        assert_eq!(got.len(), 1, "nothing twice");
        stream.flush(&mut into(&mut got));
        assert_eq!((stream.held_bytes, stream.spare_bytes), (0, 0));
    }
}

#[test]
fn what_the_other_end_lacks_too_stays_a_gap_of_the_exact_size_after_the_wait() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.open_hole(0, 100, Cause::NoPayload, 1000, &mut into(&mut got));
    stream.bytes(100, 1000, b"after", &mut into(&mut got));
    stream.fill(30, &[7; 20], &mut into(&mut got));
    assert_eq!(stream.open_until_ns(), Some(1000 + REORDER_WAIT_NS));
    stream.expire(1000 + REORDER_WAIT_NS - 1, &mut into(&mut got));
    assert!(got.is_empty());
    stream.expire(1000 + REORDER_WAIT_NS, &mut into(&mut got));
    let expected = [
        Got::Gap(0, 30, Cause::NoPayload),
        Got::Bytes(30, vec![7; 20]),
        Got::Gap(50, 50, Cause::NoPayload),
        Got::Bytes(100, b"after".to_vec()),
    ];
    assert_eq!(got, expected);
    assert_eq!((stream.held_bytes, stream.open_until_ns()), (0, None));
}

#[test]
fn a_hole_that_was_left_out_on_purpose_is_not_filled() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    stream.bytes(0, 1, b"a", &mut into(&mut got));
    stream.hole(1, 3, Cause::Limit, 1, &mut into(&mut got));
    stream.fill(1, b"bcd", &mut into(&mut got));
    assert_eq!(got, [Got::Bytes(0, b"a".to_vec()), Got::Gap(1, 3, Cause::Limit)]);
}

#[test]
fn what_the_other_end_tells_ahead_is_bounded() {
    let (mut stream, mut got) = (Stream::default(), Vec::new());
    for index in 0..10_000u64 {
        stream.fill(index * 1000, &[1; 1000], &mut into(&mut got));
        assert!(stream.held_bytes() <= 300 << 10);
    }
    stream.fill(u64::MAX - 3, &[1; 9], &mut into(&mut got));
    stream.fill(u64::MAX - 9, &[1; 9], &mut into(&mut got));
    assert!(got.is_empty());
    stream.bytes(0, 1, &[2; 10_000_000], &mut into(&mut got));
    stream.fill(10_000_000, b"x", &mut into(&mut got));
    assert_eq!(stream.spare_bytes, 1, "what was passed is let go");
}

proptest! {
    /// Whatever this end did not see and in whatever pieces the other end tells it, the stream comes out whole:
    /// true bytes where either end has them, gaps of the exact size elsewhere.
    #[test]
    fn any_filling_of_any_holes_gives_the_bytes_that_either_end_has(
        pieces in proptest::collection::vec((1usize..30, any::<bool>()), 1..30),
        fills in proptest::collection::vec((0usize..300, 1usize..50), 0..30),
    ) {
        let whole: Vec<u8> = (0..900u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (mut stream, mut got) = (Stream::default(), Vec::new());
        let mut fills = fills.into_iter();
        let (mut at, mut known) = (0, vec![false; 900]);
        for (length, seen) in pieces {
            if seen {
                known[at..at + length].fill(true);
                stream.bytes(at as u64, 1, &whole[at..at + length], &mut into(&mut got));
            } else {
                stream.open_hole(at as u64, length as u64, Cause::NoPayload, 1, &mut into(&mut got));
            }
            at += length;
            if let Some((from, length)) = fills.next() {
                stream.fill(from as u64, &whole[from..from + length], &mut into(&mut got));
                if from + length <= at {
                    known[from..from + length].fill(true);
                }
            }
        }
        stream.flush(&mut into(&mut got));
        let mut next = 0;
        for told in got {
            match told {
                Got::Bytes(position, bytes) => {
                    prop_assert_eq!(position as usize, next);
                    prop_assert_eq!(&bytes[..], &whole[next..next + bytes.len()]);
                    next += bytes.len();
                }
                Got::Gap(position, length, cause) => {
                    prop_assert_eq!((position as usize, cause), (next, Cause::NoPayload));
                    prop_assert!(!known[next..next + length as usize].contains(&true));
                    next += length as usize;
                }
            }
        }
        prop_assert_eq!(next, at);
        prop_assert_eq!(stream.held_bytes, 0);
    }
}

proptest! {
    /// Whatever is claimed, no gap is longer than a stream can jump, and memory stays bounded.
    #[test]
    fn hostile_positions_never_make_impossible_gaps(
        claims in proptest::collection::vec((any::<u64>(), 0u8..64, any::<u64>(), 0u8..4), 1..80),
    ) {
        let (mut stream, mut got) = (Stream::default(), Vec::new());
        for (position, shift, length, what) in claims {
            let (position, length) = (position >> shift, length >> shift);
            match what {
                0 => stream.hole(position, length, Cause::PageFault, 1, &mut into(&mut got)),
                1 => stream.expire(u64::MAX, &mut into(&mut got)),
                _ => stream.bytes(position, 1, &[7; 9], &mut into(&mut got)),
            }
        }
        stream.flush(&mut into(&mut got));
        for told in got {
            if let Got::Gap(_, length, _) = told {
                prop_assert!(length <= JUMP_BYTES_MAX);
            }
        }
    }
}

proptest! {
    /// Any order and any overlap of true chunks gives the stream back, once.
    #[test]
    fn any_order_of_true_chunks_gives_the_stream(
        cuts in proptest::collection::vec((0usize..200, 1usize..40), 1..60),
        order in any::<u64>(),
    ) {
        let whole: Vec<u8> = (0..240u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut chunks: Vec<(usize, usize)> = cuts.iter().map(|(at, length)| (*at, (at + length).min(240))).collect();
        chunks.extend((0..240).step_by(20).map(|at| (at, at + 20)));
        let mut state = order | 1;
        for index in (1..chunks.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunks.swap(index, (state >> 33) as usize % (index + 1));
        }
        let (mut stream, mut got) = (Stream::default(), Vec::new());
        for (from, to) in chunks {
            stream.bytes(from as u64, 1, &whole[from..to], &mut into(&mut got));
        }
        prop_assert_eq!(got, vec![Got::Bytes(0, whole)]);
        prop_assert_eq!(stream.disputed_bytes(), 0);
        prop_assert_eq!(stream.held_bytes, 0);
    }
}
