//! Europe.

use crate::mask::recognise::check::{
    digit, is_day, is_monotone, is_year_month_day, luhn, mod_11_10, mod_97, number, weighted,
};
use crate::mask::recognise::shape::{Recogniser, named, sure};

/// NHS Data Dictionary: ten digits, the last mod 11.
const UK_NHS: Recogniser = Recogniser {
    kind: "uk_nhs",
    what: "British health service numbers",
    told: "mod 11; without spaces beside its name",
    words: &["nhs", "chi", "patient"],
    shapes: &[sure("ddd ddd dddd", uk_nhs), named("ddd-ddd-dddd", uk_nhs), named("dddddddddd", uk_nhs)],
};

fn uk_nhs(digits: &[u8]) -> bool {
    let rest = 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    rest % 11 == digit(digits[9]) && rest != 10 && !is_monotone(digits)
}

/// HMRC manual NIM39110: prefixes that are not given, suffix A to D.
const UK_NINO: Recogniser = Recogniser {
    kind: "uk_nino",
    what: "British national insurance numbers",
    told: "letters that are given",
    words: &["nino", "nationalinsurance"],
    shapes: &[sure("AAddddddA", uk_nino), sure("AA_dd_dd_dd_A", uk_nino), sure("AA_dddddd_A", uk_nino)],
};

fn uk_nino(text: &[u8]) -> bool {
    let [first, second] = [text[0], text[1]];
    !b"DFIQUV".contains(&first)
        && !b"DFIOQUV".contains(&second)
        && ![b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"].contains(&&[first, second])
        && matches!(text[8], b'A'..=b'D')
}

/// DVLA: five places of the name, decade, month (of women plus 50), day, year, initials.
const UK_DRIVING_LICENCE: Recogniser = Recogniser {
    kind: "uk_driving_licence",
    what: "British driving licence numbers",
    told: "name padded with 9, date of birth",
    words: &["driving", "licence", "license", "dvla"],
    shapes: &[sure("XXXXXddddddAXdAA", uk_driving_licence), sure("XXXXXddddddAXXAA", uk_driving_licence)],
};

fn uk_driving_licence(text: &[u8]) -> bool {
    let name = text[..5].iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let month = number(&text[6..8]);
    let month = if month > 50 { month - 50 } else { month };
    name > 0
        && text[name..5].iter().all(|&byte| byte == b'9')
        && is_day(month, number(&text[8..10]))
        && (text[12].is_ascii_uppercase() || text[12] == b'9')
}

/// Ministerio del Interior: number mod 23 gives the letter. Of foreigners X, Y or Z stands for 0, 1 or 2.
const ES_NIF: Recogniser = Recogniser {
    kind: "es_nif",
    what: "Spanish identity numbers",
    told: "letter mod 23",
    words: &["nif", "dni"],
    shapes: &[
        sure("ddddddddA", es_nif),
        sure("dddddddd_A", es_nif),
        sure("dddddddA", es_nif),
        sure("ddddddd_A", es_nif),
    ],
};

const ES_NIE: Recogniser = Recogniser {
    kind: "es_nie",
    what: "Spanish identity numbers of foreigners",
    told: "first letter, letter mod 23",
    words: &["nie", "extranjero"],
    shapes: &[sure("AdddddddA", es_nie), sure("Addddddd_A", es_nie), sure("A_ddddddd_A", es_nie)],
};

fn spanish_letter(number: u32) -> u8 {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[number as usize % 23]
}

fn es_nif(text: &[u8]) -> bool {
    text.split_last().is_some_and(|(&last, digits)| last == spanish_letter(number(digits)))
}

fn es_nie(text: &[u8]) -> bool {
    let Some(first) = b"XYZ".iter().position(|&byte| byte == text[0]) else { return false };
    text[8] == spanish_letter(first as u32 * 10_000_000 + number(&text[1..8]))
}

/// Decreto ministeriale 345 of 2004: name, date and place of birth, check letter; letters may stand for digits.
const IT_FISCAL_CODE: Recogniser = Recogniser {
    kind: "it_fiscal_code",
    what: "Italian fiscal codes of persons",
    told: "month, day, check letter",
    words: &["fiscalcode", "codicefiscale", "cf"],
    shapes: &[sure("AAAAAAXXAXXAXXXA", it_fiscal_code), sure("AAA_AAA_XXAXX_AXXXA", it_fiscal_code)],
};

fn it_fiscal_code(text: &[u8]) -> bool {
    /// Values of the characters A to Z (and 0 to 9, as A to J) in odd places.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    // What stands for a digit where two people would have the same code.
    let read = |byte: u8| match b"LMNPQRSTUV".iter().position(|&letter| letter == byte) {
        Some(value) => Some(value as u32),
        None if byte.is_ascii_digit() => Some(digit(byte)),
        None => None,
    };
    let places = [6, 7, 9, 10, 12, 13, 14];
    if places.iter().any(|&at| read(text[at]).is_none()) || !b"ABCDEHLMPRST".contains(&text[8]) {
        return false;
    }
    let day = read(text[9]).unwrap_or(0) * 10 + read(text[10]).unwrap_or(0);
    let sum: u32 = text[..15]
        .iter()
        .enumerate()
        .map(|(index, &byte)| {
            let value = if byte.is_ascii_digit() { digit(byte) } else { u32::from(byte - b'A') };
            if index % 2 == 0 { ODD[value as usize % 26] } else { value }
        })
        .sum();
    matches!(day, 1..=31 | 41..=71) && u32::from(text[15] - b'A') == sum % 26
}

/// Decreto del Presidente della Repubblica 633 of 1972, article 35: Luhn.
const IT_VAT: Recogniser = Recogniser {
    kind: "it_vat",
    what: "Italian VAT numbers",
    told: "Luhn; beside its name",
    words: &["partitaiva", "piva", "iva", "vat"],
    shapes: &[named("ddddddddddd", it_vat)],
};

fn it_vat(digits: &[u8]) -> bool {
    number(&digits[..7]) != 0 && luhn(digits)
}

/// Bundeszentralamt für Steuern: of the first ten digits one comes twice or three times; ISO 7064 MOD 11,10.
const DE_TAX_ID: Recogniser = Recogniser {
    kind: "de_tax_id",
    what: "German tax numbers of persons",
    told: "how often digits come, ISO 7064 mod 11,10",
    words: &["steuerid", "steueridentifikationsnummer", "idnr", "taxid"],
    shapes: &[sure("ddddddddddd", de_tax_id), sure("dd ddd ddd ddd", de_tax_id)],
};

fn de_tax_id(digits: &[u8]) -> bool {
    let mut counts = [0u8; 10];
    for &byte in &digits[..10] {
        counts[digit(byte) as usize % 10] += 1;
    }
    let repeated: Vec<u8> = counts.into_iter().filter(|&count| count > 1).collect();
    digits[0] != b'0' && matches!(repeated[..], [2 | 3]) && mod_11_10(digits)
}

/// Verordnung über die Versicherungsnummer: area, date of birth, first letter of the name, serial, check digit.
const DE_SOCIAL_SECURITY: Recogniser = Recogniser {
    kind: "de_social_security",
    what: "German pension insurance numbers",
    told: "date, check digit mod 10",
    words: &["rentenversicherung", "sozialversicherung", "rvnr", "svnr"],
    shapes: &[sure("ddddddddAddd", de_social_security), sure("dd dddddd A ddd", de_social_security)],
};

fn de_social_security(text: &[u8]) -> bool {
    const WEIGHTS: [u32; 12] = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let letter = u32::from(text[8] - b'A') + 1;
    let values = text[..8].iter().map(|&byte| digit(byte)).chain([letter / 10, letter % 10]);
    let values = values.chain(text[9..11].iter().map(|&byte| digit(byte)));
    let cross = |value: u32| value / 10 + value % 10;
    let sum: u32 = values.zip(WEIGHTS).map(|(value, weight)| cross(value * weight)).sum();
    // A day that was given already is counted on from 32.
    let day = number(&text[2..4]);
    sum % 10 == digit(text[11]) && (is_day(number(&text[4..6]), day.min(28)) && day > 0)
}

/// Sozialgesetzbuch V, section 290: a letter, eight digits, a check digit.
const DE_HEALTH_INSURANCE: Recogniser = Recogniser {
    kind: "de_health_insurance",
    what: "German health insurance numbers",
    told: "weights 1 2 mod 10; beside its name",
    words: &["kvnr", "krankenversicherung", "krankenkasse", "versichertennummer"],
    shapes: &[named("Addddddddd", de_health_insurance)],
};

fn de_health_insurance(text: &[u8]) -> bool {
    let letter = u32::from(text[0] - b'A') + 1;
    let values = [letter / 10, letter % 10].into_iter().chain(text[1..9].iter().map(|&byte| digit(byte)));
    let cross = |value: u32| value / 10 + value % 10;
    let sum: u32 = values.enumerate().map(|(index, value)| cross(value * (1 + index as u32 % 2))).sum();
    sum % 10 == digit(text[9])
}

/// INSEE: sex, month, place and order of birth; key 97 minus the number mod 97. Corsica has 2A and 2B.
const FR_NIR: Recogniser = Recogniser {
    kind: "fr_nir",
    what: "French social security numbers",
    told: "sex, month, mod 97",
    words: &["nir", "securitesociale", "insee"],
    shapes: &[sure("dddddXddddddddd", fr_nir), sure("d dd dd dX ddd ddd dd", fr_nir)],
};

fn fr_nir(text: &[u8]) -> bool {
    // 2A counts as 19, 2B as 18.
    let mut digits = [0; 13];
    digits.copy_from_slice(&text[..13]);
    match &text[5..7] {
        [b'2', b'A'] => digits[5..7].copy_from_slice(b"19"),
        [b'2', b'B'] => digits[5..7].copy_from_slice(b"18"),
        _ => {}
    }
    let month = number(&text[3..5]);
    digits.iter().all(u8::is_ascii_digit)
        && matches!(text[0], b'1' | b'2')
        && matches!(month, 1..=12 | 20..=42)
        && 97 - mod_97(digits.iter().copied()) == number(&text[13..])
}

/// Registre national: date, order, and 97 minus the number mod 97; of people born since 2000 with a 2 before it.
const BE_NATIONAL: Recogniser = Recogniser {
    kind: "be_national",
    what: "Belgian national register numbers",
    told: "date, mod 97",
    words: &["rijksregister", "registrenational", "nrn", "insz", "niss"],
    shapes: &[sure("ddddddddddd", be_national), sure("dd.dd.dd-ddd.dd", be_national)],
};

fn be_national(digits: &[u8]) -> bool {
    let key = number(&digits[9..]);
    let before = mod_97(digits[..9].iter().copied());
    let since_2000 = mod_97(b"2".iter().chain(&digits[..9]).copied());
    is_year_month_day(digits) && (97 - before == key || 97 - since_2000 == key)
}

/// Zentrale Ausgleichsstelle: 756 (the country), the check digit of EAN-13.
const CH_AHV: Recogniser = Recogniser {
    kind: "ch_ahv",
    what: "Swiss social security numbers",
    told: "country, check digit mod 10",
    words: &["ahv", "avs", "sozialversicherung"],
    shapes: &[sure("ddddddddddddd", ch_ahv), sure("ddd.dddd.dddd.dd", ch_ahv)],
};

fn ch_ahv(digits: &[u8]) -> bool {
    digits.starts_with(b"756")
        && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

/// Belastingdienst: weights 9 to 2, the last minus one, mod 11.
const NL_BSN: Recogniser = Recogniser {
    kind: "nl_bsn",
    what: "Dutch citizen service numbers",
    told: "mod 11; beside its name",
    words: &["bsn", "burgerservice", "sofi"],
    shapes: &[named("ddddddddd", nl_bsn), named("dddd.dd.ddd", nl_bsn)],
};

fn nl_bsn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    !is_monotone(digits) && sum % 11 == digit(digits[8]) % 11
}

/// Ustawa o ewidencji ludności, article 15: date with the century in the month, weights 1 3 7 9.
const PL_PESEL: Recogniser = Recogniser {
    kind: "pl_pesel",
    what: "Polish population numbers",
    told: "date with century, weights 1 3 7 9 mod 10",
    words: &["pesel"],
    shapes: &[sure("ddddddddddd", pl_pesel)],
};

fn pl_pesel(digits: &[u8]) -> bool {
    weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
        && is_day(number(&digits[2..4]) % 20, number(&digits[4..6]))
}

/// Digital and Population Data Services Agency: the sign tells the century, the number mod 31 the last place.
const FI_HETU: Recogniser = Recogniser {
    kind: "fi_hetu",
    what: "Finnish personal identity codes",
    told: "date, century, mod 31",
    words: &["hetu", "henkilotunnus", "tunnus"],
    shapes: &[sure("ddddddAdddX", fi_hetu), sure("dddddd-dddX", fi_hetu), sure("dddddd+dddX", fi_hetu)],
};

fn fi_hetu(text: &[u8]) -> bool {
    let (date, rest) = text.split_at(6);
    let (century, rest) = rest.split_at(rest.len() - 4);
    let order = number(&rest[..3]);
    let last = b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(number(date) * 1000 + order) as usize % 31];
    century.iter().all(|byte| matches!(byte, b'A'..=b'F' | b'U'..=b'Y'))
        && is_day(number(&date[2..4]), number(&date[..2]))
        && order >= 2
        && rest[3] == last
}

/// Skatteverket SKV 704: date, serial, Luhn; of coordination numbers the day plus 60.
const SE_PERSONNUMMER: Recogniser = Recogniser {
    kind: "se_personnummer",
    what: "Swedish personal identity numbers",
    told: "date, Luhn; without century or hyphen beside its name",
    words: &["personnummer", "samordningsnummer", "pnr"],
    shapes: &[
        // Of this century it may be a time to the minute.
        sure("dddddddddddd", |digits| digits.starts_with(b"19") && se_personnummer(digits)),
        named("dddddddddddd", se_personnummer),
        sure("dddddddd-dddd", se_personnummer),
        sure("dddddd-dddd", se_personnummer),
        sure("dddddd+dddd", se_personnummer),
        named("dddddddddd", se_personnummer),
    ],
};

fn se_personnummer(digits: &[u8]) -> bool {
    let (century, short) = digits.split_at(digits.len() - 10);
    let day = number(&short[4..6]);
    matches!(century, [] | b"18" | b"19" | b"20")
        && is_day(number(&short[2..4]), if day > 60 { day - 60 } else { day })
        && luhn(short)
}

/// Skatteetaten: date (shifted for D numbers and others), two check digits mod 11.
const NO_FODSELSNUMMER: Recogniser = Recogniser {
    kind: "no_fodselsnummer",
    what: "Norwegian identity numbers",
    told: "date, two check digits mod 11",
    words: &["fodselsnummer", "personnummer", "fnr"],
    shapes: &[sure("ddddddddddd", no_fodselsnummer), sure("dddddd ddddd", no_fodselsnummer)],
};

fn no_fodselsnummer(digits: &[u8]) -> bool {
    let (day, month) = (number(&digits[..2]), number(&digits[2..4]));
    let first = weighted(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]);
    let second = weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]);
    is_day(if month > 40 { month - 40 } else { month }, if day > 40 { day - 40 } else { day })
        && first.is_multiple_of(11)
        && second.is_multiple_of(11)
}

/// Nüfus ve Vatandaşlık İşleri: two check digits mod 10.
const TR_NATIONAL_ID: Recogniser = Recogniser {
    kind: "tr_national_id",
    what: "Turkish identity numbers",
    told: "two check digits mod 10",
    words: &["tckn", "tckimlik", "kimlik"],
    shapes: &[sure("ddddddddddd", tr_national_id)],
};

fn tr_national_id(digits: &[u8]) -> bool {
    let odd = weighted(digits, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(digits, &[0, 1, 0, 1, 0, 1, 0, 1]);
    // Ten times eight keeps the difference positive; the tenth digit is of its residue alone.
    digits[0] != b'0'
        && (odd * 7 + 80 - even) % 10 == digit(digits[9])
        && (odd + even + digit(digits[9])) % 10 == digit(digits[10])
}

/// All of this file.
pub(super) const ALL: &[Recogniser] = &[
    UK_NHS,
    UK_NINO,
    UK_DRIVING_LICENCE,
    ES_NIF,
    ES_NIE,
    IT_FISCAL_CODE,
    IT_VAT,
    DE_TAX_ID,
    DE_SOCIAL_SECURITY,
    DE_HEALTH_INSURANCE,
    FR_NIR,
    BE_NATIONAL,
    CH_AHV,
    NL_BSN,
    PL_PESEL,
    FI_HETU,
    SE_PERSONNUMMER,
    NO_FODSELSNUMMER,
    TR_NATIONAL_ID,
];
