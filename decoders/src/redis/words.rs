//! Command lines: as people type them into redis-cli, as MONITOR writes them, and as they are shown.

/// Splits a line into words the way the server does (`sdssplitargs`): double quotes with escapes, single quotes.
/// `None` when a quote stays open.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = self::word(rest, &mut word)?;
        words.push(word);
    }
}

/// One word; what follows it.
fn word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [byte, ..] if byte.is_ascii_whitespace() || *byte == 0 => return Some(&rest[1..]),
            [b'"', inner @ ..] => return after_quote(double_quoted(inner, word)?),
            [b'\'', inner @ ..] => return after_quote(single_quoted(inner, word)?),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Behind a closing quote a word ends.
fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            [b'\\', byte, after @ ..] => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Writes a word so that it can be typed again: bare where it may be, else in double quotes.
pub(super) fn write(word: &[u8], text: &mut String) {
    let bare = |byte: &u8| matches!(byte, b'!' | b'#'..=b'&' | b'('..=b'[' | b']'..=b'~');
    match std::str::from_utf8(word) {
        Ok(word) if !word.is_empty() && word.bytes().all(|byte| bare(&byte) || byte >= 0x80) => {
            text.push_str(word);
        }
        _ => {
            text.push('"');
            for chunk in word.utf8_chunks() {
                for character in chunk.valid().chars() {
                    match character {
                        '"' | '\\' => text.extend(['\\', character]),
                        '\n' => text.push_str("\\n"),
                        '\r' => text.push_str("\\r"),
                        '\t' => text.push_str("\\t"),
                        '\0'..='\x1f' | '\x7f' => hexadecimal(character as u8, text),
                        other => text.push(other),
                    }
                }
                chunk.invalid().iter().for_each(|byte| hexadecimal(*byte, text));
            }
            text.push('"');
        }
    }
}

fn hexadecimal(byte: u8, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.push_str("\\x");
    text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_the_server_splits_them() {
        let split = |line: &str| split(line.as_bytes());
        assert_eq!(split("  set  a\t\"b \\x41\\n\\\"\" ''").unwrap(), [&b"set"[..], b"a", b"b A\n\"", b""]);
        assert_eq!(split("get 'it\\'s'").unwrap(), [&b"get"[..], b"it's"]);
        assert_eq!(split("").unwrap(), Vec::<Vec<u8>>::new());
        for open in ["set \"a", "set 'a", "set \"a\"b"] {
            assert_eq!(split(open), None, "{open}");
        }
    }

    #[test]
    fn a_word_that_was_written_is_read_again() {
        for word in [&b"key:1"[..], b"", b"a b", b"\"q\\", b"\xff\0\r\n", "schl\u{fc}ssel".as_bytes(), b"'"] {
            let mut text = String::new();
            write(word, &mut text);
            assert_eq!(split(text.as_bytes()).unwrap(), [word], "{text}");
        }
    }
}
