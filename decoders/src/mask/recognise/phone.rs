//! Telephone numbers: international ones (ITU-T E.164) wherever they stand, national ones in the printed form
//! of North America, and any other beside its name.

use super::check::{is_monotone, number};
use super::shape::{Recogniser, named, sure};

pub(super) const PHONE: Recogniser = Recogniser {
    kind: "phone",
    what: "telephone numbers",
    told: "`+`, country and length; North American groups; any other beside its name",
    words: &[
        "phone",
        "telephone",
        "telefon",
        "telefono",
        "telefone",
        "telepono",
        "tel",
        "mobile",
        "mobil",
        "mob",
        "movil",
        "cell",
        "cellphone",
        "celular",
        "handy",
        "fax",
        "whatsapp",
        "sms",
        "msisdn",
        "phonenumber",
        "mobilenumber",
        "cep",
    ],
    shapes: &[
        sure("ddd-ddd-dddd", north_american),
        named("ddddddd", national),
        named("dddddddd", national),
        named("ddddddddd", national),
        named("dddddddddd", national),
        named("ddddddddddd", national),
        named("dddddddddddd", national),
        named("ddd~dddd", national),
        named("dd~ddddddd", national),
        named("ddd~ddddddd", national),
        named("dddd~dddddd", national),
        named("dddd~ddddddd", national),
        named("ddddd~dddddd", national),
        named("dddd~dddd", national),
        named("ddd~ddd~ddd", national),
        named("ddd~ddd~dddd", national),
        named("dddd~ddd~ddd", national),
        named("dddd~ddd~dddd", national),
        named("ddd~dddd~dddd", national),
        named("dd~dddd~dddd", national),
        named("dd~ddd~dddd", national),
        named("d~dddd~dddd", national),
        named("d~ddd~ddd~dddd", national),
        named("ddd~ddd~dd~dd", national),
        named("dddd~ddd~dd~dd", national),
        named("d~ddd~ddd~dd~dd", national),
        named("dd~ddd~dd~dd", national),
        named("dd~dd~dd~dd~dd", national),
        named("dd~dd~dd~dd", national),
    ],
};

fn national(digits: &[u8]) -> bool {
    !is_monotone(digits)
}

/// North American Numbering Plan: neither area nor exchange begins with 0 or 1.
fn north_american(digits: &[u8]) -> bool {
    digits.len() == 10 && digits[0] > b'1' && digits[3] > b'1'
}

/// Digits of a number with its country (E.164 section 6).
const DIGITS_MIN: usize = 8;
const DIGITS_MAX: usize = 15;
/// Fewest digits after the country.
const NATIONAL_MIN: usize = 6;

/// Where the number ends whose first digit, after a `+` or an opening bracket, stands at `start`, and where it
/// begins.
pub(super) fn find(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let begin = start.checked_sub(1)?;
    let before = begin.checked_sub(1).map_or(b' ', |at| text[at]);
    match text[begin] {
        b'+' if !before.is_ascii_alphanumeric() => Some((begin, international(text, start)?)),
        b'(' => {
            let rest = text.get(start..start + 4)?;
            let after = start + 4 + usize::from(text.get(start + 4) == Some(&b' '));
            let last = text.get(after..after + 8)?;
            let area = rest[..3].iter().all(u8::is_ascii_digit) && rest[3] == b')';
            let mut digits = [0; 10];
            digits[..3].copy_from_slice(&rest[..3]);
            digits[3..6].copy_from_slice(&last[..3]);
            digits[6..].copy_from_slice(&last[4..]);
            let form = area && matches!(last[3], b'-' | b' ' | b'.') && digits.iter().all(u8::is_ascii_digit);
            let ends = text.get(after + 8).is_none_or(|byte| !byte.is_ascii_alphanumeric());
            (form && ends && north_american(&digits)).then_some((begin, after + 8))
        }
        _ => None,
    }
}

/// Where an international number ends: at the last group that fits into it.
fn international(text: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0; DIGITS_MAX];
    let (mut count, mut at, mut end) = (0, start, None);
    loop {
        let group = text[at..].iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if group == 0 || count + group > most(&digits[..count]) {
            break;
        }
        digits[count..count + group].copy_from_slice(&text[at..at + group]);
        count += group;
        at += group;
        if text.get(at).is_some_and(u8::is_ascii_alphabetic) {
            break;
        }
        end = Some(at);
        at += separators(&text[at..]);
    }
    let country = country_digits(&digits[..count])?;
    let north = digits[0] != b'1' || north_american(&digits[1..count]);
    ((DIGITS_MIN..=DIGITS_MAX).contains(&count) && count >= country + NATIONAL_MIN && north)
        .then_some(end)
        .flatten()
}

/// Most digits of a number that begins so.
fn most(digits: &[u8]) -> usize {
    if digits.first() == Some(&b'1') { 11 } else { DIGITS_MAX }
}

/// What may stand between two groups: one separator, with brackets around a group.
fn separators(rest: &[u8]) -> usize {
    let length = rest.iter().take(3).take_while(|byte| b" -./()".contains(byte)).count();
    match &rest[..length] {
        [b' ' | b'-' | b'.' | b'/' | b'(' | b')'] | [b' ', b'('] | [b')', b' ' | b'-'] => length,
        _ => 0,
    }
}

/// How many digits the country's code has (ITU-T E.164 annex D), when one begins so.
fn country_digits(digits: &[u8]) -> Option<usize> {
    let two = number(digits.get(..2)?);
    match two {
        10..=19 | 70..=79 => Some(1),
        20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98 => {
            Some(2)
        }
        21..=26 | 29 | 35 | 37 | 38 | 42 | 50 | 59 | 67..=69 | 80 | 85 | 87 | 88 | 96 | 97 | 99 => Some(3),
        _ => None,
    }
}
