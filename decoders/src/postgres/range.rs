//! Ranges and multiranges out of their binary formats, as the text that PostgreSQL writes: `[1,10)`.

use super::binary::{as_text, quoted, simple_value, word};

/// Flags of a range (`rangetypes.h` of the server).
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

/// Type of a range, of its multirange and of its bounds: int4, num, ts, tstz, date, int8.
const RANGES: &[(u32, u32, u32)] = &[
    (3904, 4451, 23),
    (3906, 4532, 1700),
    (3908, 4533, 1114),
    (3910, 4534, 1184),
    (3912, 4535, 1082),
    (3926, 4536, 20),
];

/// The type of a range's bounds.
pub(super) fn element(type_oid: u32) -> Option<u32> {
    RANGES.iter().find(|(range, ..)| *range == type_oid).map(|(.., element)| *element)
}

/// The type of the bounds of a multirange's ranges.
pub(super) fn of_multirange(type_oid: u32) -> Option<u32> {
    RANGES.iter().find(|(_, multirange, _)| *multirange == type_oid).map(|(.., element)| *element)
}

/// A range: flags, then the bounds that are there, each with its length.
pub(super) fn range(element: u32, bytes: &[u8]) -> Option<String> {
    let (&flags, mut left) = bytes.split_first()?;
    if flags & EMPTY != 0 {
        return left.is_empty().then(|| "empty".to_owned());
    }
    let mut bound = |infinite: u8| -> Option<String> {
        if flags & infinite != 0 {
            return Some(String::new());
        }
        let length = usize::try_from(word(&mut left)?).ok()?;
        let (value, after) = left.split_at_checked(length)?;
        left = after;
        Some(quoted(&as_text(&simple_value(element, value)??), &['(', ')', '[', ']']))
    };
    let (lower, upper) = (bound(LOWER_INFINITE)?, bound(UPPER_INFINITE)?);
    let open = if flags & LOWER_INCLUSIVE != 0 { '[' } else { '(' };
    let close = if flags & UPPER_INCLUSIVE != 0 { ']' } else { ')' };
    left.is_empty().then(|| format!("{open}{lower},{upper}{close}"))
}

/// Several of them, each with its length.
pub(super) fn multirange(element: u32, bytes: &[u8]) -> Option<String> {
    let mut left = bytes;
    let count = usize::try_from(word(&mut left)?).ok().filter(|count| *count <= bytes.len() / 5)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::try_from(word(&mut left)?).ok()?;
        let (one, after) = left.split_at_checked(length)?;
        left = after;
        ranges.push(range(element, one)?);
    }
    left.is_empty().then(|| format!("{{{}}}", ranges.join(",")))
}
