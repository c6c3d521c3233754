//! What a word is: a run of letters and digits, in lower case. The sink's index and everyone who checks a found
//! entry cut text by this one function, so that both mean the same.

use crate::{Value, View, names};

/// Longest word, bytes: of a longer one its beginning counts.
pub const WORD_BYTES_MAX: usize = 64;

/// Hands over each word of a text, in order.
pub fn words(text: &str, mut take: impl FnMut(&str)) {
    let mut word = String::with_capacity(WORD_BYTES_MAX);
    for character in text.chars() {
        if character.is_alphanumeric() {
            if word.len() < WORD_BYTES_MAX {
                if character.is_ascii() {
                    word.push(character.to_ascii_lowercase());
                } else {
                    word.extend(character.to_lowercase());
                }
            }
        } else if !word.is_empty() {
            take(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        take(&word);
    }
}

/// Hands over each text of an entry in which words are looked for: its type, host and session, the values of its
/// record and of its session's beginning (but for [counts](is_count)), and codes of what was odd.
pub fn texts(view: &View, mut take: impl FnMut(&str)) {
    take(&view.entry_type);
    take(&view.host_name);
    take(&view.host);
    if let Some(session) = &view.session_id {
        take(session.as_str());
    }
    let record = view.record.iter();
    let fields = record.clone().flat_map(|record| &record.fields).chain(&view.session);
    fields.filter(|(name, _)| !is_count(name)).for_each(|(_, value)| each(value, &mut take));
    for record in record {
        record.anomalies.iter().for_each(|code| take(code));
        record.masked.iter().for_each(|field| take(&field.path));
        record.kinds.keys().for_each(|kind| take(kind));
    }
}

/// Whether a field is a number that is other at each entry: nobody looks for it as a word, and it would make half of
/// an index. Filters compare it.
pub(crate) fn is_count(name: &str) -> bool {
    name.starts_with("custody.bytes.") || name == names::DURATION
}

fn each(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::Text(text) => take(text),
        Value::List(values) => values.iter().flatten().for_each(|value| each(value, take)),
        other => take(&other.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            cut("GET /v1/Charge?id=‹email·redact·7›"),
            ["get", "v1", "charge", "id", "email", "redact", "7"]
        );
        assert_eq!(cut("Straße_ÄÖ 日本 --"), ["straße", "äö", "日本"]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn a_long_word_is_its_beginning_and_never_longer() {
        let found = cut(&"İ".repeat(500));
        assert_eq!(found.len(), 1);
        assert!(found[0].len() < WORD_BYTES_MAX + 8, "{}", found[0].len());
        assert_eq!(cut(&"a".repeat(100)), ["a".repeat(64)]);
    }
}
