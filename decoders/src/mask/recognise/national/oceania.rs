//! Australia.

use crate::mask::recognise::check::{digit, is_monotone, weighted};
use crate::mask::recognise::shape::{Recogniser, named, sure};

/// Australian Taxation Office: weighted mod 11.
const AU_TFN: Recogniser = Recogniser {
    kind: "au_tfn",
    what: "Australian tax file numbers",
    told: "mod 11; beside its name",
    words: &["tfn", "taxfile"],
    shapes: &[named("ddddddddd", au_tfn), named("ddd_ddd_ddd", au_tfn)],
};

fn au_tfn(digits: &[u8]) -> bool {
    !is_monotone(digits) && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Australian Business Register: one less of the first digit, mod 89.
const AU_ABN: Recogniser = Recogniser {
    kind: "au_abn",
    what: "Australian business numbers",
    told: "mod 89",
    words: &["abn", "australianbusiness"],
    shapes: &[sure("ddddddddddd", au_abn), sure("dd_ddd_ddd_ddd", au_abn)],
};

fn au_abn(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19];
    let sum = weighted(digits, &WEIGHTS);
    digits[0] != b'0' && (sum - WEIGHTS[0]).is_multiple_of(89)
}

/// Corporations Regulations 2001, schedule 1A: weights 8 to 1 mod 10.
const AU_ACN: Recogniser = Recogniser {
    kind: "au_acn",
    what: "Australian company numbers",
    told: "mod 10; beside its name",
    words: &["acn", "australiancompany"],
    shapes: &[named("ddddddddd", au_acn), named("ddd_ddd_ddd", au_acn)],
};

fn au_acn(digits: &[u8]) -> bool {
    (10 - weighted(digits, &[8, 7, 6, 5, 4, 3, 2, 1]) % 10) % 10 == digit(digits[8])
}

/// Services Australia: first digit 2 to 6, weights 1 3 7 9 mod 10, then the number of the card's issue.
const AU_MEDICARE: Recogniser = Recogniser {
    kind: "au_medicare",
    what: "Australian Medicare numbers",
    told: "first digit, mod 10; without separators beside its name",
    words: &["medicare"],
    shapes: &[sure("dddd_ddddd_d", au_medicare), named("dddddddddd", au_medicare)],
};

fn au_medicare(digits: &[u8]) -> bool {
    matches!(digits[0], b'2'..=b'6')
        && weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == digit(digits[8])
        && digits[9] != b'0'
}

/// All of this file.
pub(super) const ALL: &[Recogniser] = &[AU_TFN, AU_ABN, AU_ACN, AU_MEDICARE];
