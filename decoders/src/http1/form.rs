//! Fields of a form (WHATWG URL, 5; RFC 7578), each under its name; parameters of header values (RFC 9110, 5.6.6).

use std::borrow::Cow;

use custody_record::{Value, names};

use crate::item::{Class, Field, text};

/// Values of a form that are kept; the rest is counted.
pub(super) const FIELDS_MAX: u64 = 128;
/// Longest name of a field that is kept.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// Fields of an `application/x-www-form-urlencoded` body; `cut` bytes of its end are missing.
pub(super) fn fields(body: &[u8], cut: u64, fields: &mut Vec<Field>) {
    let mut count = 0;
    let mut pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).peekable();
    while let Some(pair) = pairs.next() {
        count += 1;
        let torn = cut > 0 && pairs.peek().is_none() && !body.ends_with(b"&");
        let equals = memchr::memchr(b'=', pair);
        let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
        let value = value.get(1..).unwrap_or_default();
        // A name without its end is another name.
        if count > FIELDS_MAX || (torn && equals.is_none()) {
            continue;
        }
        let value = if torn { whole_characters(value) } else { percent_decoded(value) };
        let value = Value::Text(text(&value));
        add(
            names::HTTP_REQUEST_FORM,
            &text(&percent_decoded(name)),
            "",
            value,
            u64::from(torn) * cut,
            fields,
        );
    }
    if count > 0 {
        fields.push(Field::structure(names::HTTP_REQUEST_FORM_COUNT, count));
    }
}

/// Adds a field under `prefix`; those of one name become a list.
pub(super) fn add(
    prefix: &'static str,
    name: &str,
    media_type: &str,
    value: Value,
    cut: u64,
    fields: &mut Vec<Field>,
) {
    if name.len() > NAME_BYTES_MAX {
        return;
    }
    let path = [prefix, name].concat();
    if let Some(known) = fields.iter_mut().find(|field| field.name == path) {
        known.cut = cut;
        match &mut known.value {
            Value::List(values) => values.push(Some(value)),
            first => {
                *first = Value::List(vec![Some(std::mem::replace(first, Value::Bool(false))), Some(value)])
            }
        }
        return;
    }
    let class = Class::Parameter { name: name.to_owned(), media_type: media_type.to_owned() };
    fields.push(Field::new(Cow::Owned(path), value, class).cut_by(cut));
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped =
            bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|digits| hex::decode(digits).ok());
        match (escaped, byte) {
            (Some(escaped), _) => {
                decoded.extend(escaped);
                at += 2;
            }
            (None, b'+') => decoded.push(b' '),
            (None, byte) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

/// Decodes a value whose end is missing: without half an escape and half a character.
fn whole_characters(value: &[u8]) -> Vec<u8> {
    let value = match value {
        [before @ .., b'%'] | [before @ .., b'%', _] => before,
        _ => value,
    };
    let mut decoded = percent_decoded(value);
    if let Err(error) = std::str::from_utf8(&decoded)
        && error.error_len().is_none()
    {
        decoded.truncate(error.valid_up_to());
    }
    decoded
}

/// The parameter of this name in a header's value: `text/html; charset="utf-8"`.
pub(super) fn parameter(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut rest = &value[memchr::memchr(b';', value)?..];
    while let [b';', after @ ..] = rest {
        let after = after.trim_ascii_start();
        let end = after.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        let (key, after) = after.split_at(end);
        let (found, after) = match after {
            [b'=', b'"', quoted @ ..] => unquoted(quoted),
            [b'=', plain @ ..] => {
                let end = memchr::memchr(b';', plain).unwrap_or(plain.len());
                (plain[..end].trim_ascii().to_vec(), &plain[end..])
            }
            _ => (Vec::new(), after),
        };
        if key.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            return Some(found);
        }
        rest = &after[memchr::memchr(b';', after).unwrap_or(after.len())..];
    }
    None
}

/// A quoted string, and what follows it.
fn unquoted(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut text = Vec::new();
    let mut at = 0;
    while let Some(&byte) = quoted.get(at) {
        match byte {
            b'"' => return (text, &quoted[at + 1..]),
            // Browsers do not escape so, and their paths hold backslashes.
            b'\\' if matches!(quoted.get(at + 1), Some(b'"' | b'\\')) => {
                text.push(quoted[at + 1]);
                at += 1;
            }
            byte => text.push(byte),
        }
        at += 1;
    }
    (text, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_or_quote_within_quotes_ends_no_parameter() {
        let value = br#"form-data; name="a;b=\"c\""; filename=plain ; x"#;
        assert_eq!(parameter(value, "NAME").as_deref(), Some(&br#"a;b="c""#[..]));
        assert_eq!(parameter(value, "filename").as_deref(), Some(&b"plain"[..]));
        assert_eq!(parameter(value, "missing"), None);
        assert_eq!(parameter(b"text/html", "charset"), None);
    }

    #[test]
    fn a_torn_form_shows_no_half_name_and_no_half_escape() {
        let told = |body: &[u8], cut| {
            let mut told = Vec::new();
            fields(body, cut, &mut told);
            told.into_iter().map(|field| (field.name.into_owned(), field.value)).collect::<Vec<_>>()
        };
        let a = ("http.request.form.a".to_owned(), Value::Text("1 +".to_owned()));
        let count = |count: u64| ("http.request.form_fields".to_owned(), Value::Unsigned(count));
        assert_eq!(told(b"a=1+%2B&pass", 9), [a.clone(), count(2)]);
        assert_eq!(told(b"a=1+%2B%4", 9), [a.clone(), count(1)]);
        assert_eq!(told(b"a=1+%2B&&", 0), [a, count(1)]);
    }

    #[test]
    fn a_form_without_end_keeps_some_fields_and_counts_all() {
        let mut told = Vec::new();
        fields("a=1&".repeat(10_000).as_bytes(), 0, &mut told);
        assert_eq!(told.len(), 2);
        assert!(matches!(&told[0].value, Value::List(values) if values.len() == FIELDS_MAX as usize));
        assert_eq!(told[1].value, Value::Unsigned(10_000));
    }
}
