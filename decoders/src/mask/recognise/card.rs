//! Numbers of payment cards (ISO/IEC 7812): issuer range, length, Luhn, and the groups in which they are printed.

use super::check::luhn;
use super::shape::{Recogniser, Shape};

pub(super) const CARD: Recogniser = Recogniser {
    kind: "card",
    what: "numbers of payment cards",
    told: "Luhn, issuer range, length, usual groups",
    words: &["card", "pan", "creditcard"],
    shapes: &[
        card("ddddddddddddd"),
        card("dddddddddddddd"),
        card("ddddddddddddddd"),
        card("dddddddddddddddd"),
        card("ddddddddddddddddd"),
        card("dddddddddddddddddd"),
        card("ddddddddddddddddddd"),
        card("dddd~dddd~dddd~dddd~ddd"),
        card("dddd~dddd~dddd~dddd"),
        card("dddd~dddddd~ddddd"),
        card("dddd~dddddd~dddd"),
    ],
};

const fn card(form: &'static str) -> Shape {
    Shape { form, valid: is_card, named: false, joined: true }
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
