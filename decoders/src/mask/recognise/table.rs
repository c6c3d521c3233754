//! All recognisers that may be set, in one table: keys of the configuration, kinds in masks, the manual's list.

use std::sync::LazyLock;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};

use super::shape::{Kinds, Recogniser};
use super::{address, card, email, iban, national, passport, phone, wallet};

/// Those that have files of their own, first because they are the most common.
const GENERAL: &[Recogniser] = &[
    email::EMAIL,
    card::CARD,
    iban::IBAN,
    phone::PHONE,
    wallet::WALLET,
    passport::PASSPORT,
    address::IP,
    address::MAC,
];

/// Kinds that are looked for only when the configuration says so.
const OFF: &[&str] = &["ip", "mac"];

/// Every recogniser, at the index that its kind has.
pub(crate) static TABLE: LazyLock<Vec<&'static Recogniser>> =
    LazyLock::new(|| GENERAL.iter().chain(national::ALL.into_iter().flatten()).collect());

/// Places of those that the walk calls by name.
pub(super) const EMAIL: usize = 0;
pub(super) const IBAN: usize = 2;
pub(super) const PHONE: usize = 3;
pub(super) const WALLET: usize = 4;
pub(super) const IP: usize = 6;
pub(super) const MAC: usize = 7;

/// Whether this kind is looked for when the configuration says nothing.
pub(crate) fn is_on(kind: usize) -> bool {
    !OFF.contains(&TABLE[kind].kind)
}

/// Words as long as this are looked for inside of others too.
const STEM_BYTES_MIN: usize = 7;

/// The words of all kinds, and which kind each is of.
static WORDS: LazyLock<(DFA, Vec<usize>)> = LazyLock::new(|| {
    let words =
        TABLE.iter().enumerate().flat_map(|(kind, one)| one.words.iter().map(move |word| (word, kind)));
    let (words, kinds): (Vec<&&str>, Vec<usize>) = words.unzip();
    let finder = DFA::builder().ascii_case_insensitive(true).match_kind(MatchKind::Standard).build(words);
    (finder.expect("a short list of words is an automaton, and tests say so"), kinds)
});

/// Calls `found` with each name of a kind in a text, in any spelling (`taxFile`, `tax_file`, `Tax file`), and
/// where it ends.
pub(super) fn each_named(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let (finder, kinds) = &*WORDS;
    let Ok(mut state) = finder.start_state(Anchored::No) else { return };
    // Of the last letters, the newest lowest, which began a word.
    let mut starts = 0u64;
    let mut before = b' ';
    for (at, &byte) in text.iter().enumerate() {
        if byte.is_ascii_alphanumeric() {
            let begins = begins_word(before, byte);
            starts = starts << 1 | u64::from(begins);
            state = finder.next_state(Anchored::No, state, byte);
            if finder.is_special(state) && finder.is_match(state) {
                let ends = text.get(at + 1).is_none_or(|&next| begins_word(byte, next));
                for index in 0..finder.match_len(state) {
                    let pattern = finder.match_pattern(state, index);
                    let length = finder.pattern_len(pattern);
                    if length >= STEM_BYTES_MIN || ends && starts >> (length - 1) & 1 == 1 {
                        found(at + 1, kinds[pattern.as_usize()]);
                    }
                }
            }
        }
        before = byte;
    }
}

/// Whether a word ends before this byte.
fn begins_word(before: u8, byte: u8) -> bool {
    !before.is_ascii_alphanumeric()
        || !byte.is_ascii_alphanumeric()
        || before.is_ascii_lowercase() && byte.is_ascii_uppercase()
}

/// The kinds that the name of a column, field or header names.
pub(crate) fn kinds_named(name: &str) -> Kinds {
    let mut named = Kinds::NONE;
    each_named(name.as_bytes(), |_, kind| named = named.or(Kinds::of(kind)));
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_in_the_set_and_a_name_of_its_own() {
        assert!(TABLE.len() <= 64, "a set of kinds has 64 places");
        let mut names: Vec<_> = TABLE.iter().map(|one| one.kind).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        for (place, kind) in
            [(EMAIL, "email"), (IBAN, "iban"), (PHONE, "phone"), (WALLET, "wallet"), (IP, "ip"), (MAC, "mac")]
        {
            assert_eq!(TABLE[place].kind, kind);
        }
    }

    #[test]
    fn names_in_any_spelling_name_their_kinds() {
        let names = |name: &str| {
            let kinds = kinds_named(name);
            (0..TABLE.len()).filter(|&kind| kinds.has(kind)).map(|kind| TABLE[kind].kind).collect::<Vec<_>>()
        };
        assert_eq!(names("nhsNumber"), ["uk_nhs"]);
        assert_eq!(names("customer.social_security_no"), ["us_ssn"]);
        assert_eq!(names("my phone is"), ["phone"]);
        for harmless in ["", "sinus", "company", "total", "order_id", "telling", "tinder", "finish"] {
            assert!(names(harmless).is_empty(), "{harmless}");
        }
    }
}
