//! Numbers with a check digit: payment cards (ISO/IEC 7812: issuer range, length, Luhn) and bank accounts
//! (ISO 13616 IBAN: country, length, mod 97).

use super::super::mark::Mark;
use super::super::span::Span;

const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
const IBAN_CHARACTERS_MAX: usize = 34;

/// Neither kind has fewer digits: a text with fewer need not be looked at.
pub(super) const DIGITS_MIN: usize = 7;

/// Finds both kinds; `None` where one is off.
pub(super) fn find(text: &[u8], card: Option<&Mark>, iban: Option<&Mark>, spans: &mut Vec<Span>) {
    if let Some(mark) = iban {
        ibans(text, mark, spans);
    }
    if let Some(mark) = card {
        cards(text, mark, spans);
    }
}

/// A run of digits in a text.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.start
    }
}

fn cards(text: &[u8], mark: &Mark, spans: &mut Vec<Span>) {
    let mut groups: Vec<Group> = Vec::new();
    let mut at = 0;
    while let Some(skip) = text[at..].iter().position(u8::is_ascii_digit) {
        let start = at + skip;
        let length = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        at = start + length;
        if length <= *CARD_DIGITS.end() {
            groups.push(Group { start, end: at });
        }
    }
    let mut index = 0;
    while index < groups.len() {
        let taken = card_groups(text, &groups[index..]);
        if taken > 0 {
            spans.push(Span::new(groups[index].start, groups[index + taken - 1].end, mark.clone()));
        }
        index += taken.max(1);
    }
}

/// The ways to print a card number in groups.
const LAYOUTS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// How many of these groups are a card number.
fn card_groups(text: &[u8], groups: &[Group]) -> usize {
    if CARD_DIGITS.contains(&groups[0].len()) {
        return usize::from(
            stands_alone(text, groups[0], groups[0]) && is_card(&text[groups[0].start..groups[0].end]),
        );
    }
    for layout in LAYOUTS {
        let Some(candidate) = groups.get(..layout.len()) else { continue };
        let lengths = candidate.iter().map(|group| group.len()).eq(layout.iter().copied());
        let separator = text.get(candidate[0].end).copied().unwrap_or(0);
        let joined = candidate
            .windows(2)
            .all(|pair| pair[1].start == pair[0].end + 1 && text[pair[0].end] == separator);
        if lengths && joined && matches!(separator, b' ' | b'-' | b'.') {
            let last = candidate[candidate.len() - 1];
            let mut digits = [0; 19];
            let mut count = 0;
            for byte in text[candidate[0].start..last.end].iter().filter(|byte| byte.is_ascii_digit()) {
                digits[count] = *byte;
                count += 1;
            }
            if stands_alone(text, candidate[0], last) && is_card(&digits[..count]) {
                return layout.len();
            }
        }
    }
    0
}

/// Not a part of a word, of a hash or of a decimal fraction.
fn stands_alone(text: &[u8], first: Group, last: Group) -> bool {
    let before = |back: usize| first.start.checked_sub(back).map_or(b' ', |at| text[at]);
    let after = |on: usize| text.get(last.end + on).copied().unwrap_or(b' ');
    let fraction =
        before(1) == b'.' && before(2).is_ascii_digit() || after(0) == b'.' && after(1).is_ascii_digit();
    !before(1).is_ascii_alphanumeric() && !after(0).is_ascii_alphanumeric() && !fraction
}

fn is_card(digits: &[u8]) -> bool {
    is_issued(digits) && luhn(digits)
}

/// Ranges of the first six digits with the lengths that the issuers give.
const ISSUERS: &[(u32, u32, std::ops::RangeInclusive<usize>)] = &[
    (100_000, 199_999, 15..=15), // UATP
    (220_000, 220_499, 16..=19), // Mir
    (222_100, 272_099, 16..=16), // Mastercard
    (300_000, 305_999, 14..=19), // Diners Club
    (309_500, 309_599, 14..=19), // Diners Club
    (340_000, 349_999, 15..=15), // American Express
    (352_800, 358_999, 16..=19), // JCB
    (360_000, 369_999, 14..=19), // Diners Club
    (370_000, 379_999, 15..=15), // American Express
    (380_000, 399_999, 14..=19), // Diners Club
    (400_000, 499_999, 13..=19), // Visa
    (500_000, 509_999, 16..=19), // Maestro, Elo, Verve, RuPay
    (510_000, 559_999, 16..=16), // Mastercard
    (560_000, 589_999, 16..=19), // Maestro
    (600_000, 699_999, 16..=19), // Discover, UnionPay, Maestro, RuPay
];

fn is_issued(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(6).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    ISSUERS
        .iter()
        .any(|(first, last, lengths)| (first..=last).contains(&&prefix) && lengths.contains(&digits.len()))
}

/// ISO/IEC 7812-1 annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(digit - b'0')) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn ibans(text: &[u8], mark: &Mark, spans: &mut Vec<Span>) {
    let mut at = 0;
    while at + 4 <= text.len() {
        let head = &text[at..at + 4];
        let begins = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        let looks =
            head[0].is_ascii_alphabetic() && head[1].is_ascii_alphabetic() && head[2].is_ascii_digit();
        match begins.then_some(()).filter(|()| looks).and_then(|()| iban_end(text, at)) {
            Some(end) => {
                spans.push(Span::new(at, end, mark.clone()));
                at = end;
            }
            None => at += 1,
        }
    }
}

/// Where the account number that begins here ends: its country's length, single separators left out.
fn iban_end(text: &[u8], start: usize) -> Option<usize> {
    let country = [text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()];
    let (_, length) = IBAN_LENGTHS.iter().find(|(code, _)| code.as_bytes() == country)?;
    let mut characters = [0; IBAN_CHARACTERS_MAX];
    let (mut count, mut at) = (0, start);
    while count < *length {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            characters[count] = byte.to_ascii_uppercase();
            count += 1;
        } else if !matches!(byte, b' ' | b'-') || !text[at - 1].is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
    }
    let ends = text.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (ends && mod_97(&characters[..*length]) == 1).then_some(at)
}

/// ISO 7064 MOD 97-10, the first four characters moved to the end.
fn mod_97(characters: &[u8]) -> u32 {
    let (head, tail) = characters.split_at(4);
    tail.iter().chain(head).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    })
}

/// The IBAN registry (SWIFT, release 99): country and length.
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, &str)> {
        let mut spans = Vec::new();
        find(text.as_bytes(), Some(&Mark::redact("card")), Some(&Mark::redact("iban")), &mut spans);
        spans.into_iter().map(|span| (span.mark.kind.into_owned(), &text[span.start..span.end])).collect()
    }

    #[test]
    fn cards_of_each_issuer_and_layout_are_found() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "4222222222222",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
            "3056 930902 5904",
            "6011111111111117",
            "3530111333300000",
            "5555555555554444",
            "2221000000000009",
            "6200000000000005",
            "6759649826438453",
        ] {
            for around in
                [text.to_owned(), format!("card:{text}, "), format!("'{text}'"), format!("card_{text}")]
            {
                assert_eq!(found(&around), [("card".to_owned(), text)], "{around}");
            }
        }
        assert_eq!(found("4012888888881881 4012-8888-8888-1881 4012 8888 8888 1881").len(), 3);
    }

    #[test]
    fn numbers_that_are_no_card_are_left() {
        for text in [
            "4111111111111112",
            "1700000000000",
            "0.4111111111111111",
            "4111111111111111.5",
            "a4111111111111111",
            "41111111111111114111111111111111",
            "4111  1111 1111 1111",
            "4111-1111 1111-1111",
            "9111111111111111",
            "550e8400-e29b-41d4-a716-446655440000",
            "2024-01-02 03:04:05.678901",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn accounts_are_found_by_length_and_check() {
        for text in [
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "GB82WEST12345698765432",
            "NO9386011117947",
            "fr1420041010050500013m02606",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(found(&format!("to {text}.")), [("iban".to_owned(), text)]);
        }
        for text in [
            "DE89370400440532013001",
            "DE8937040044053201300",
            "XX89370400440532013000",
            "ADE89370400440532013000",
        ] {
            assert!(found(text).iter().all(|(kind, _)| kind != "iban"), "{text}");
        }
    }
}
