//! North and South America.

use crate::mask::recognise::check::{
    digit, is_monotone, is_year_month_day, luhn, luhn_sum, number, weighted,
};
use crate::mask::recognise::shape::{Recogniser, named, sure};

/// Social Security Administration, POMS RM 10201.035.
const US_SSN: Recogniser = Recogniser {
    kind: "us_ssn",
    what: "US social security numbers",
    told: "area, group and serial that are given; without separators beside its name",
    words: &["ssn", "socialsecurity", "socialsec"],
    shapes: &[sure("ddd_dd_dddd", us_ssn), named("ddddddddd", us_ssn)],
};

fn us_ssn(digits: &[u8]) -> bool {
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    // Two numbers that were printed on sample cards.
    let sample = digits == b"078051120" || digits == b"219099999";
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !sample && !is_monotone(digits)
}

/// Internal Revenue Manual 3.21.263: 9, and a group of the given ranges.
const US_ITIN: Recogniser = Recogniser {
    kind: "us_itin",
    what: "US individual taxpayer numbers",
    told: "first digit, group; without separators beside its name",
    words: &["itin", "taxpayer", "taxid", "tin"],
    shapes: &[
        sure("ddd_dd_dddd", us_itin),
        sure("ddd-dddddd", us_itin),
        sure("ddddd-dddd", us_itin),
        named("ddddddddd", us_itin),
    ],
};

fn us_itin(digits: &[u8]) -> bool {
    digits[0] == b'9' && matches!(number(&digits[3..5]), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// American Bankers Association routing numbers: the Federal Reserve's prefixes, weights 3 7 1.
const US_ABA: Recogniser = Recogniser {
    kind: "us_aba",
    what: "US bank routing numbers",
    told: "district, weights 3 7 1 mod 10; beside its name",
    words: &["aba", "routing", "rtn", "routingnumber"],
    shapes: &[named("ddddddddd", us_aba)],
};

fn us_aba(digits: &[u8]) -> bool {
    matches!(number(&digits[..2]), 1..=12 | 21..=32 | 61..=72 | 80)
        && weighted(digits, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// Centers for Medicare and Medicaid Services: Luhn with 80840 before it (45 CFR 162.406).
const US_NPI: Recogniser = Recogniser {
    kind: "us_npi",
    what: "US numbers of health care providers",
    told: "first digit, Luhn with 80840 before it; beside its name",
    words: &["npi", "provider", "nationalprovider"],
    shapes: &[named("dddddddddd", us_npi), named("dddd_ddd_ddd", us_npi)],
};

fn us_npi(digits: &[u8]) -> bool {
    // What the five digits before it add to the sum.
    const PREFIX_SUM: u32 = 24;
    matches!(digits[0], b'1' | b'2') && (luhn_sum(digits) + PREFIX_SUM).is_multiple_of(10)
}

/// Centers for Medicare and Medicaid Services, "Understanding the MBI": eleven places of fixed kinds.
const US_MBI: Recogniser = Recogniser {
    kind: "us_mbi",
    what: "US Medicare beneficiary identifiers",
    told: "kind of each of eleven places",
    words: &["mbi", "medicare", "beneficiary"],
    shapes: &[sure("dAXd-AXd-AAdd", us_mbi), sure("dAXdAXdAAdd", us_mbi)],
};

fn us_mbi(text: &[u8]) -> bool {
    text[0] != b'0' && !text.iter().any(|byte| b"SLOIBZ".contains(byte))
}

/// Employment and Social Development Canada: Luhn; 0 and 8 are not given to people.
const CA_SIN: Recogniser = Recogniser {
    kind: "ca_sin",
    what: "Canadian social insurance numbers",
    told: "first digit, Luhn; other than with hyphens beside its name",
    words: &["sin", "nas", "socialinsurance", "assurancesociale"],
    shapes: &[sure("ddd-ddd-ddd", ca_sin), named("ddd ddd ddd", ca_sin), named("ddddddddd", ca_sin)],
};

fn ca_sin(digits: &[u8]) -> bool {
    !matches!(digits[0], b'0' | b'8') && luhn(digits)
}

/// Receita Federal, Instrução Normativa 1548: two check digits mod 11.
const BR_CPF: Recogniser = Recogniser {
    kind: "br_cpf",
    what: "Brazilian taxpayer numbers of persons",
    told: "two check digits mod 11",
    words: &["cpf"],
    shapes: &[sure("ddd.ddd.ddd-dd", br_cpf), sure("ddddddddddd", br_cpf)],
};

fn br_cpf(digits: &[u8]) -> bool {
    let ends = |count: usize| {
        let weights: Vec<u32> = (2..2 + count as u32).rev().collect();
        weighted(&digits[..count], &weights) * 10 % 11 % 10 == digit(digits[count])
    };
    !is_monotone(digits) && ends(9) && ends(10)
}

/// Receita Federal, Instrução Normativa 2119: the same of companies, weights from 2 to 9.
const BR_CNPJ: Recogniser = Recogniser {
    kind: "br_cnpj",
    what: "Brazilian taxpayer numbers of companies",
    told: "two check digits mod 11; without separators beside its name",
    words: &["cnpj"],
    shapes: &[sure("dd.ddd.ddd/dddd-dd", br_cnpj), named("dddddddddddddd", br_cnpj)],
};

fn br_cnpj(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 13] = [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2];
    let ends = |count: usize| {
        weighted(&digits[..count], &WEIGHTS[13 - count..]) * 10 % 11 % 10 == digit(digits[count])
    };
    !is_monotone(digits) && ends(12) && ends(13)
}

/// Registro Nacional de Población: CURP, eighteen places, the last a check digit mod 10.
const MX_CURP: Recogniser = Recogniser {
    kind: "mx_curp",
    what: "Mexican population registry codes",
    told: "date, sex, check digit mod 10",
    words: &["curp"],
    shapes: &[sure("AAAAddddddAAAAAAXd", mx_curp)],
};

fn mx_curp(text: &[u8]) -> bool {
    // The alphabet has Ñ after N, which no ASCII form holds.
    let value = |byte: u8| match byte {
        b'0'..=b'9' => digit(byte),
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        _ => u32::from(byte.wrapping_sub(b'A')) + 11,
    };
    let sum: u32 = text[..17].iter().zip((2..=18).rev()).map(|(&byte, weight)| value(byte) * weight).sum();
    is_year_month_day(&text[4..10])
        && matches!(text[10], b'H' | b'M' | b'X')
        && (10 - sum % 10) % 10 == digit(text[17])
}

/// All of this file.
pub(super) const ALL: &[Recogniser] =
    &[US_SSN, US_ITIN, US_ABA, US_NPI, US_MBI, CA_SIN, BR_CPF, BR_CNPJ, MX_CURP];
