//! Check digits and dates: what tells an identifier from any other number of its length. All take upper-case
//! ASCII letters and digits without separators.

/// The value of an ASCII digit.
pub(super) fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

/// A number of digits; the caller knows that they are digits, at most nine.
pub(super) fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, &byte| sum * 10 + digit(byte))
}

/// Each digit times its weight, summed; digits beyond the weights do not count.
pub(super) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&byte, weight)| digit(byte) * weight).sum()
}

/// Whether all characters are the same: such numbers pass many checks, and are nobody's.
pub(super) fn is_monotone(text: &[u8]) -> bool {
    text.windows(2).all(|pair| pair[0] == pair[1])
}

/// ISO/IEC 7812-1 annex B: the sum of a number that ends in its check digit is a multiple of ten.
pub(super) fn luhn_sum(digits: &[u8]) -> u32 {
    let doubled = |value: u32| if value > 4 { value * 2 - 9 } else { value * 2 };
    let values = digits.iter().rev().map(|&byte| digit(byte)).enumerate();
    values.map(|(index, value)| if index % 2 == 0 { value } else { doubled(value) }).sum()
}

/// Whether the last digit is the check digit of those before (Luhn).
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_sum(digits).is_multiple_of(10)
}

/// Verhoeff's check digit: the dihedral group of order ten, its permutation applied by position.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTATION: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |one: u32, other: u32| match (one / 5, other / 5) {
        (0, 0) => (one + other) % 5,
        (0, _) => 5 + (one + other - 5) % 5,
        (_, 0) => 5 + (one - 5 + 5 - other) % 5,
        _ => (one + 5 - other) % 5,
    };
    let permuted = |index: usize, value: u32| {
        (0..index % 8).fold(value, |value, _| PERMUTATION[value as usize % PERMUTATION.len()])
    };
    digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |state, (index, &byte)| product(state, permuted(index, digit(byte))))
        == 0
}

/// ISO 7064 MOD 97-10; letters count from A = 10.
pub(super) fn mod_97(characters: impl Iterator<Item = u8>) -> u32 {
    characters.fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + digit(byte)) % 97,
        _ => (rest * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    })
}

/// ISO 7064 MOD 11,10.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((&last, head)) = digits.split_last() else { return false };
    let rest = head.iter().fold(10, |product, &byte| {
        let sum = (digit(byte) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - rest) % 10 == digit(last)
}

/// Whether such a day can be; of a year of two digits nobody knows whether it leaps.
pub(super) fn is_day(month: u32, day: u32) -> bool {
    let last = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=last).contains(&day)
}

/// Whether `YYMMDD` can be a date.
pub(super) fn is_year_month_day(digits: &[u8]) -> bool {
    is_day(number(&digits[2..4]), number(&digits[4..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers_pass_and_any_other_last_digit_does_not() {
        type Check = fn(&[u8]) -> bool;
        let checks: [(&str, Check); 3] =
            [("79927398713", luhn), ("2363", verhoeff), ("86095742719", mod_11_10)];
        for (number, check) in checks {
            let mut digits = number.as_bytes().to_vec();
            let last = digits.len() - 1;
            let passing: Vec<u8> = (b'0'..=b'9')
                .filter(|&byte| {
                    digits[last] = byte;
                    check(&digits)
                })
                .collect();
            assert_eq!(passing, [number.as_bytes()[last]], "{number}");
        }
        assert_eq!(mod_97(b"3214282912345698765432161182".iter().copied()), 1);
    }
}
