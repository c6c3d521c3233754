//! Labels: what a join token says of hosts, and by which a reader's scope chooses among them. Never taken from a host.

use std::collections::BTreeMap;

/// Most labels of one host or one scope.
pub const LABELS_MAX: usize = 16;
/// Longest key and longest value, bytes.
const PART_BYTES_MAX: usize = 64;

/// Reads `key=value`: short, and harmless in a URI, a log and a terminal.
pub fn parse(text: &str) -> Result<(String, String), String> {
    let harmless = |part: &str| {
        !part.is_empty()
            && part.len() <= PART_BYTES_MAX
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
    };
    match text.split_once('=') {
        Some((key, value)) if harmless(key) && harmless(value) => Ok((key.to_owned(), value.to_owned())),
        _ => {
            Err("a label is key=value, of letters, digits and . _ - /, each at most 64 bytes long".to_owned())
        }
    }
}

/// Puts labels together. A key that stands there twice would leave open which one counts.
pub fn gather(
    labels: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, String> {
    let mut gathered = BTreeMap::new();
    for (key, value) in labels {
        if gathered.contains_key(&key) {
            return Err(format!("the label {key} is given twice"));
        }
        if gathered.len() >= LABELS_MAX {
            return Err(format!("there are at most {LABELS_MAX} labels"));
        }
        gathered.insert(key, value);
    }
    Ok(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_stands_there_twice_was_taken_as_the_last_one() {
        let labels = ["env=prod", "env=dev"].map(|text| parse(text).unwrap());
        assert!(gather(labels).unwrap_err().contains("twice"));
    }

    #[test]
    fn labels_that_could_end_a_scope_early_are_refused() {
        for text in ["env", "env=", "=prod", "env=a;b", "env=a=b", "env=a b", "env=\u{202e}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
