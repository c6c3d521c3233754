//! Asia and Africa.

use crate::mask::recognise::check::{
    digit, is_day, is_monotone, is_year_month_day, luhn, number, verhoeff, weighted,
};
use crate::mask::recognise::shape::{Recogniser, named, sure};

/// Unique Identification Authority of India: first digit 2 to 9, Verhoeff.
const IN_AADHAAR: Recogniser = Recogniser {
    kind: "in_aadhaar",
    what: "Indian Aadhaar numbers",
    told: "first digit, Verhoeff; without separators beside its name",
    words: &["aadhaar", "aadhar", "uidai"],
    shapes: &[sure("dddd_dddd_dddd", in_aadhaar), named("dddddddddddd", in_aadhaar)],
};

fn in_aadhaar(digits: &[u8]) -> bool {
    matches!(digits[0], b'2'..=b'9') && !digits.iter().eq(digits.iter().rev()) && verhoeff(digits)
}

/// Income-tax Rules, rule 114: the fourth letter tells who holds it.
const IN_PAN: Recogniser = Recogniser {
    kind: "in_pan",
    what: "Indian permanent account numbers",
    told: "kind of holder; any such word beside its name",
    words: &["pan", "permanentaccount", "incometax"],
    shapes: &[sure("AAAAAddddA", in_pan), named("AAAAAddddA", |_| true)],
};

fn in_pan(text: &[u8]) -> bool {
    b"ABCFGHJLPT".contains(&text[3])
}

/// Central Goods and Services Tax Rules, rule 10: state, account number, entity, Z, check character.
const IN_GSTIN: Recogniser = Recogniser {
    kind: "in_gstin",
    what: "Indian goods and services tax numbers",
    told: "state, form",
    words: &["gstin", "gst"],
    shapes: &[sure("ddAAAAAddddAXAX", in_gstin)],
};

fn in_gstin(text: &[u8]) -> bool {
    matches!(number(&text[..2]), 1..=38 | 97 | 99) && text[12] != b'0' && text[13] == b'Z'
}

/// Election Commission of India: three letters, seven digits, no check.
const IN_VOTER: Recogniser = Recogniser {
    kind: "in_voter",
    what: "Indian voter identity numbers",
    told: "form; beside its name",
    words: &["voter", "epic", "vote", "electoral"],
    shapes: &[named("AAAddddddd", |_| true)],
};

/// Immigration and Checkpoints Authority of Singapore: weights 2 7 6 5 4 3 2, the letter by the first one.
const SG_NRIC: Recogniser = Recogniser {
    kind: "sg_nric",
    what: "Singaporean identity and foreign identification numbers",
    told: "first letter, letter mod 11",
    words: &["nric", "fin"],
    shapes: &[sure("AdddddddA", sg_nric)],
};

fn sg_nric(text: &[u8]) -> bool {
    let (letters, offset) = match text[0] {
        b'S' => (b"JZIHGFEDCBA", 0),
        b'T' => (b"JZIHGFEDCBA", 4),
        b'F' => (b"XWUTRQPNMLK", 0),
        b'G' => (b"XWUTRQPNMLK", 4),
        b'M' => (b"XWUTRQPNJLK", 3),
        _ => return false,
    };
    let sum = offset + weighted(&text[1..8], &[2, 7, 6, 5, 4, 3, 2]);
    text[8] == letters[sum as usize % 11]
}

/// Resident Registration Act of Korea: date, sex and century; the check digit was given up in October 2020.
const KR_RRN: Recogniser = Recogniser {
    kind: "kr_rrn",
    what: "Korean resident and foreigner registration numbers",
    told: "date, century; without a hyphen beside its name",
    words: &["rrn", "frn", "residentregistration"],
    shapes: &[sure("dddddd-ddddddd", kr_rrn), named("ddddddddddddd", kr_rrn)],
};

fn kr_rrn(digits: &[u8]) -> bool {
    is_year_month_day(digits) && matches!(digits[6], b'1'..=b'8')
}

/// Department of Provincial Administration of Thailand: kind of person, province, mod 11.
const TH_NATIONAL_ID: Recogniser = Recogniser {
    kind: "th_national_id",
    what: "Thai identity numbers",
    told: "kind, province, mod 11; without hyphens beside its name",
    words: &["thai", "tnin", "nationalid", "citizenid"],
    shapes: &[sure("d_dddd_ddddd_dd_d", th_national_id), named("ddddddddddddd", th_national_id)],
};

fn th_national_id(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    matches!(digits[0], b'1'..=b'8')
        && matches!(number(&digits[1..3]), 10..=27 | 30..=58 | 60..=67 | 70..=77 | 80..=86 | 90..=96)
        && (11 - sum % 11) % 10 == digit(digits[12])
}

/// GB 11643-1999: place, date, order, ISO 7064 MOD 11-2.
const CN_RESIDENT_ID: Recogniser = Recogniser {
    kind: "cn_resident_id",
    what: "Chinese resident identity numbers",
    told: "date, ISO 7064 mod 11-2",
    words: &["shenfenzheng", "residentid", "sfz"],
    shapes: &[sure("dddddddddddddddddX", cn_resident_id)],
};

fn cn_resident_id(text: &[u8]) -> bool {
    let sum = weighted(text, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    matches!(number(&text[6..10]), 1900..=2099)
        && is_day(number(&text[10..12]), number(&text[12..14]))
        && text[17] == b"10X98765432"[sum as usize % 11]
}

/// Department of Home Affairs of South Africa: date, sex, citizenship, Luhn.
const ZA_ID: Recogniser = Recogniser {
    kind: "za_id",
    what: "South African identity numbers",
    told: "date, citizenship, Luhn; without spaces beside its name",
    words: &["southafrican", "saidnumber", "rsaid"],
    shapes: &[sure("dddddd dddd ddd", za_id), named("ddddddddddddd", za_id)],
};

fn za_id(digits: &[u8]) -> bool {
    is_year_month_day(digits) && matches!(digits[10], b'0'..=b'2') && !is_monotone(digits) && luhn(digits)
}

/// All of this file.
pub(super) const ALL: &[Recogniser] =
    &[IN_AADHAAR, IN_PAN, IN_GSTIN, IN_VOTER, SG_NRIC, KR_RRN, TH_NATIONAL_ID, CN_RESIDENT_ID, ZA_ID];
