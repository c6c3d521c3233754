//! Pieces of a word's list of entries: ascending places, the first in the key, then the distances as LEB128. A piece
//! comes from a disk: what is no list is an error, not a guess.

/// Most entries in one piece: what a search holds of each word.
pub(super) const PIECE_MAX: usize = 1024;

/// The distances of ascending places.
pub(super) fn encode(places: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(places.len() + 8);
    for pair in places.windows(2) {
        let mut distance = pair[1] - pair[0];
        while distance >= 0x80 {
            out.push(distance as u8 | 0x80); // The low seven bits and the mark.
            distance >>= 7;
        }
        out.push(distance as u8); // Below 0x80.
    }
    out
}

/// The places again; `None` if these are no distances.
pub(super) fn decode(first: u64, bytes: &[u8]) -> Option<Vec<u64>> {
    let mut places = vec![first];
    let (mut last, mut distance, mut shift) = (first, 0u64, 0u32);
    for byte in bytes {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        distance |= shifted;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.checked_add(distance).filter(|next| *next > last)?;
            places.push(last);
            (distance, shift) = (0, 0);
        }
    }
    (shift == 0 && places.len() <= PIECE_MAX).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_reads_back() {
        for places in
            [vec![7], vec![0, 1, 127, 128, 129, 40_000, u64::MAX], (5..900).map(|n| n * 300).collect()]
        {
            assert_eq!(decode(places[0], &encode(&places)), Some(places));
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        for bytes in [
            &[0x80][..],
            &[0],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[1; 1024],
        ] {
            assert_eq!(decode(1, bytes), None, "{bytes:?}");
        }
        assert_eq!(decode(u64::MAX, &[1]), None);
    }
}
