//! The one way in which text of a record reaches a terminal. What was recorded was written by others, some of
//! them hostile: whatever moves the cursor, colours, hides or reorders text is shown, never sent.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Colours of our own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Names to find the line by.
    Strong,
    /// What matters less.
    Dim,
    /// What went wrong.
    Bad,
    /// What is missing.
    Warn,
    /// What is well.
    Good,
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// They are.
    pub colours: bool,
}

impl Palette {
    /// The text in this style; the text must be escaped already.
    pub fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        let code = match style {
            Style::Plain => return Cow::Borrowed(text),
            Style::Strong => "1",
            Style::Dim => "2",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Good => "32",
        };
        if !self.colours || text.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// Escaped text of a record whose masks `‹kind·action·id›` stand out.
    pub fn record(&self, text: &str) -> String {
        let escaped = escape(text);
        if !self.colours {
            return escaped.into_owned();
        }
        let mut out = String::with_capacity(escaped.len());
        let mut rest = escaped.as_ref();
        while let Some(start) = rest.find(MASK_OPEN) {
            let Some(length) = rest[start..].find(MASK_CLOSE) else { break };
            let end = start + length + MASK_CLOSE.len_utf8();
            out.push_str(&rest[..start]);
            out.push_str(&self.paint(Style::Dim, &rest[start..end]));
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }
}

/// Opens a mask. Masking escapes it in payload, so that nobody can pretend to have been masked.
pub const MASK_OPEN: char = '‹';
/// Closes a mask.
pub const MASK_CLOSE: char = '›';

/// The text with everything escaped that a terminal or a reader could be fooled by: C0, DEL, C1, bidi
/// controls, line and paragraph separators, invisible format characters, tags, and the backslash before
/// them that would make an escape ambiguous. The result is one line.
pub fn escape(text: &str) -> Cow<'_, str> {
    escaped(text, must_escape, |character, out| match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        other if (other as u32) < 0x100 => {
            let _ = write!(out, "\\x{:02x}", other as u32);
        }
        other => {
            let _ = write!(out, "\\u{{{:x}}}", other as u32);
        }
    })
}

/// JSON text with the same characters as RFC 8259 escapes, so that it does no harm where it is looked at. JSON
/// itself escapes C0 and leaves the rest; outside of strings none of them can stand.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Its own backslashes escape already.
    let active = |character| character != '\\' && must_escape(character);
    escaped(json, active, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// The text with each character that is `active` as `write` puts it.
fn escaped(text: &str, active: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut seen) = (0, 0);
    while let Some(at) = suspect(&text.as_bytes()[seen..]).map(|place| seen + place) {
        // A suspect byte begins a character: those before it were single bytes, or were stepped over whole.
        let Some(character) = text[at..].chars().next() else { break };
        seen = at + character.len_utf8();
        if active(character) {
            out.push_str(&text[copied..at]);
            write(character, &mut out);
            copied = seen;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Where the first byte stands that may belong to a character of [`must_escape`]. Most text is long runs of
/// harmless ASCII, which are passed by the block.
fn suspect(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let harmless = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'\\';
    let blocks = bytes.chunks_exact(BLOCK);
    // No short cut within a block: that is what lets the compiler look at its bytes at once.
    let clean = blocks.take_while(|block| block.iter().fold(true, |all, byte| all & harmless(byte)));
    let passed = clean.count() * BLOCK;
    bytes[passed..].iter().position(|byte| !harmless(byte)).map(|place| passed + place)
}

fn must_escape(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\\'
        | '\u{ad}' | '\u{61c}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        // Private use: terminals draw what their fonts please.
        | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..)
}

/// Columns that escaped text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Escaped text in at most `columns` columns; what did not fit is said by `…`.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    let mut used = 0;
    let mut end = 0;
    for (index, character) in text.char_indices() {
        let columns = character.width().unwrap_or(0);
        if used + columns > room {
            break;
        }
        used += columns;
        end = index + character.len_utf8();
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Escaped text, cut or padded to exactly these columns.
pub fn pad(text: &str, columns: usize) -> String {
    let fitted = fit(text, columns);
    let missing = columns.saturating_sub(width(&fitted));
    format!("{fitted}{:missing$}", "")
}

/// A length of time as people say it: `310 ms`, `1.20 s`, `13m`, `4h 02m`, `3d 04h`.
pub fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{} µs", nanoseconds / 1_000),
        1_000_000..10_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{} ms", nanoseconds / 1_000_000),
        _ if seconds < 100 => format!("{:.2} s", nanoseconds as f64 / 1e9),
        _ if seconds < 3600 => format!("{}m", seconds / 60),
        _ if seconds < 86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A count with its thousands apart: `2,411,880`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_says_the_same_and_does_nothing_to_a_terminal() {
        let hostile = "\\ \u{1b}[2J \u{202e} \u{9b}31m \u{e0041} \"";
        let json = serde_json::to_string(hostile).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), hostile);
    }

    proptest! {
        #[test]
        fn every_character_is_looked_at_wherever_it_stands(text in "[ -~\u{80}-\u{a0}\n\u{e9}\u{200b}\u{1f600}\u{e0041}]{0,80}") {
            let expected: String = text
                .chars()
                .map(|character| match character {
                    '\\' => "\\\\".to_owned(),
                    '\n' => "\\n".to_owned(),
                    other if must_escape(other) && (other as u32) < 0x100 => format!("\\x{:02x}", other as u32),
                    other if must_escape(other) => format!("\\u{{{:x}}}", other as u32),
                    other => other.to_string(),
                })
                .collect();
            prop_assert_eq!(escape(&text), expected);
        }
    }

    #[test]
    fn hostile_text_is_shown_not_sent() {
        for (hostile, shown) in [
            ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
            ("\u{9b}31m", "\\x9b31m"),
            ("done\rERROR", "done\\rERROR"),
            ("a\nSILENT db-7", "a\\nSILENT db-7"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("x\u{2066}y\u{2069}", "x\\u{2066}y\\u{2069}"),
            ("line\u{2028}two\u{2029}", "line\\u{2028}two\\u{2029}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("tag\u{e0041}", "tag\\u{e0041}"),
            ("del\u{7f}bs\u{8}", "del\\x7fbs\\x08"),
            ("\\x1b", "\\\\x1b"),
            ("naïve 日本 ‹email·redact·1›", "naïve 日本 ‹email·redact·1›"),
        ] {
            assert_eq!(escape(hostile), shown);
        }
    }

    #[test]
    fn columns_count_what_is_seen() {
        assert_eq!(pad("日本語", 5), "日本…");
        assert_eq!(pad("日本語", 4), "日… ");
        assert_eq!(pad("ab", 4), "ab  ");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn masks_stand_out_only_in_colour() {
        assert_eq!(Palette { colours: false }.record("id=‹email·redact›!"), "id=‹email·redact›!");
        assert_eq!(
            Palette { colours: true }.record("id=‹email·redact›!"),
            "id=\x1b[2m‹email·redact›\x1b[0m!"
        );
        assert_eq!(Palette { colours: true }.record("open ‹ end"), "open ‹ end");
    }

    #[test]
    fn numbers_as_people_say_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(2_411_880), "2,411,880");
        assert_eq!(duration(310_000_000), "310 ms");
        assert_eq!(duration(1_200_000_000), "1.20 s");
        assert_eq!(duration(13 * 60_000_000_000), "13m");
    }

    proptest! {
        #[test]
        fn nothing_that_moves_a_cursor_survives(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(|c| c.is_control() || must_escape(c) && c != '\\'));
        }

        #[test]
        fn escaping_loses_nothing(one in any::<String>(), two in any::<String>()) {
            prop_assert_eq!(escape(&one) == escape(&two), one == two);
        }

        #[test]
        fn padding_is_exact(text in any::<String>(), columns in 0usize..80) {
            prop_assert_eq!(width(&pad(&escape(&text), columns)), columns);
        }
    }
}
