//! A value as its reader decodes it, each byte knowing where it stood: so that what a coding hides is found,
//! and what is found is masked in the text as it was sent.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Decoded bytes with the place of each in the original.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) bytes: Vec<u8>,
    /// For each byte the place of its code's first byte; one more for the end.
    origins: Vec<usize>,
}

impl View {
    fn with_capacity(bytes: usize) -> Self {
        View { bytes: Vec::with_capacity(bytes), origins: Vec::with_capacity(bytes + 1) }
    }

    fn push(&mut self, byte: u8, origin: usize) {
        self.bytes.push(byte);
        self.origins.push(origin);
    }

    fn end(mut self, origin: usize) -> Self {
        self.origins.push(origin);
        self
    }

    /// The range of the original that was decoded into this one.
    pub(crate) fn origin(&self, start: usize, end: usize) -> (usize, usize) {
        (self.origins[start], self.origins[end])
    }
}

/// A text that needs no decoding.
pub(crate) fn plain(text: &[u8]) -> View {
    View { bytes: text.to_vec(), origins: (0..=text.len()).collect() }
}

/// `%XX` decoded (RFC 3986 section 2.1), and `+` as a space where `plus` (forms and queries).
pub(crate) fn percent(text: &[u8], plus: bool) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], hex_pair(text, at + 1)) {
            (b'%', Some(byte)) => {
                view.push(byte, at);
                at += 3;
            }
            (b'+', _) if plus => {
                view.push(b' ', at);
                at += 1;
            }
            (byte, _) => {
                view.push(byte, at);
                at += 1;
            }
        }
    }
    view.end(text.len())
}

/// Whether anything in it is percent-encoded.
pub(crate) fn has_percent(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).any(|at| hex_pair(text, at + 1).is_some())
}

/// Backslash escapes decoded as JSON (RFC 8259 section 7) and PostgreSQL's `E''` have them; an escape that
/// neither knows stands for the character after the backslash.
pub(crate) fn backslash(text: &[u8]) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] != b'\\' || at + 1 == text.len() {
            view.push(text[at], at);
            at += 1;
            continue;
        }
        at += escape(text, at, &mut view);
    }
    view.end(text.len())
}

/// Decodes the escape at `at` and says how long it is.
fn escape(text: &[u8], at: usize, view: &mut View) -> usize {
    let simple = match text[at + 1] {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(text, at, 4, view),
        b'U' => return unicode(text, at, 8, view),
        b'x' => {
            if let Some(byte) = hex_pair(text, at + 2) {
                view.push(byte, at);
                return 4;
            }
            b'x'
        }
        digit @ b'0'..=b'7' => {
            let digits =
                text[at + 1..].iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            let number =
                text[at + 1..at + 1 + digits].iter().fold(0u32, |sum, byte| sum * 8 + u32::from(byte - b'0'));
            view.push(u8::try_from(number).unwrap_or(digit), at);
            return 1 + digits;
        }
        other => other,
    };
    view.push(simple, at);
    2
}

/// `\uXXXX` with surrogate pairs, or `\UXXXXXXXX`.
fn unicode(text: &[u8], at: usize, digits: usize, view: &mut View) -> usize {
    let Some(first) = hex_number(text, at + 2, digits) else {
        view.push(text[at + 1], at);
        return 2;
    };
    let mut length = 2 + digits;
    let mut code = first;
    let high = (0xD800..0xDC00).contains(&first) && text[at + length..].starts_with(b"\\u");
    if high && let Some(second @ 0xDC00..=0xDFFF) = hex_number(text, at + length + 2, 4) {
        code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        length += 6;
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        view.push(byte, at);
    }
    length
}

/// A doubled quote decoded to one (SQL).
pub(crate) fn doubled(text: &[u8], quote: u8) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        view.push(text[at], at);
        at += if text[at] == quote && text.get(at + 1) == Some(&quote) { 2 } else { 1 };
    }
    view.end(text.len())
}

/// The escapes of `U&'…'` decoded: `\XXXX`, `\+XXXXXX`, `\\` (SQL:2016, Unicode delimited strings).
pub(crate) fn sql_unicode(text: &[u8]) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (skip, digits) = if text.get(at + 1) == Some(&b'+') { (2, 6) } else { (1, 4) };
        let code = if text[at] == b'\\' {
            hex_number(text, at + skip, digits).and_then(char::from_u32)
        } else {
            None
        };
        let Some(character) = code else {
            view.push(text[at], at);
            at += 1;
            continue;
        };
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            view.push(byte, at);
        }
        at += skip + digits;
    }
    view.end(text.len())
}

fn hex_pair(text: &[u8], at: usize) -> Option<u8> {
    hex_number(text, at, 2).and_then(|number| u8::try_from(number).ok())
}

fn hex_number(text: &[u8], at: usize, digits: usize) -> Option<u32> {
    text.get(at..at + digits)?
        .iter()
        .try_fold(0u32, |sum, &byte| Some(sum << 4 | char::from(byte).to_digit(16)?))
}

/// Shortest run that is taken for base64 or hex; what is coded shorter holds no secret that could be told.
const RUN_BYTES_MIN: usize = 16;

/// Takes either alphabet by turns, any padding, and stray bits at the end: a cut run still decodes.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes base64 of either alphabet as far as it is.
pub(crate) fn base64(run: &[u8]) -> Option<Vec<u8>> {
    let run = run.trim_ascii_end();
    let padding = run.iter().rev().take_while(|&&byte| byte == b'=').count();
    let mut digits = &run[..run.len() - padding];
    if digits.len() % 4 == 1 {
        digits = &digits[..digits.len() - 1];
    }
    STANDARD.decode(digits).or_else(|_| URL_SAFE.decode(digits)).ok()
}

/// What a text holds, seen in one pass: without it, whole recognisers and codings need not look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    classes: u8,
    /// Digits.
    pub(crate) digits: usize,
    longest_run: usize,
}

const AT: u8 = 1;
const PERCENT: u8 = 2;
const BACKSLASH: u8 = 4;
const DIGIT: u8 = 8;
const RUN: u8 = 16;

/// Classes of each byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_') {
            class |= RUN;
        }
        if b.is_ascii_digit() {
            class |= DIGIT;
        }
        class |= match b {
            b'@' => AT,
            b'%' => PERCENT,
            b'\\' => BACKSLASH,
            _ => 0,
        };
        classes[byte] = class;
        byte += 1;
    }
    classes
};

impl Survey {
    /// Looks at each byte once.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut survey = Survey::default();
        let mut run = 0;
        for &byte in text {
            let class = CLASSES[usize::from(byte)];
            survey.classes |= class;
            survey.digits += usize::from(class & DIGIT != 0);
            run = if class & RUN != 0 { run + 1 } else { 0 };
            survey.longest_run = survey.longest_run.max(run);
        }
        survey
    }

    /// Whether there is an `@`.
    pub(crate) fn has_at(&self) -> bool {
        self.classes & AT != 0
    }

    /// Whether there is a `%`.
    pub(crate) fn has_percent(&self) -> bool {
        self.classes & PERCENT != 0
    }

    /// Whether there is a backslash.
    pub(crate) fn has_backslash(&self) -> bool {
        self.classes & BACKSLASH != 0
    }

    /// Whether [`encoded_runs`] would look at anything.
    pub(crate) fn has_runs(&self) -> bool {
        self.longest_run >= RUN_BYTES_MIN
    }
}

/// Calls `found` with each run that may be base64 or hex, its place, and what it decodes to as text.
pub(crate) fn encoded_runs(text: &[u8], mut found: impl FnMut(usize, usize, &[u8])) {
    let mut at = 0;
    while at < text.len() {
        let length = text[at..].iter().take_while(|&&byte| CLASSES[usize::from(byte)] & RUN != 0).count();
        let (start, end) = (at, at + length);
        at = end + 1;
        if length < RUN_BYTES_MIN {
            continue;
        }
        let padded = text[end..].iter().take(2).take_while(|&&byte| byte == b'=').count();
        let run = &text[start..end];
        let hex = hex_of(run).filter(|bytes| is_text(bytes));
        if let Some(bytes) = hex.or_else(|| base64(run).filter(|bytes| is_text(bytes))) {
            found(start, end + padded, &bytes);
        }
    }
}

/// Hex with or without the `x` or `0x` before it.
fn hex_of(run: &[u8]) -> Option<Vec<u8>> {
    let digits = run.strip_prefix(b"0x").or_else(|| run.strip_prefix(b"x")).unwrap_or(run);
    hex::decode(digits).ok()
}

/// Whether decoded bytes look like text: random bytes of this length do not.
fn is_text(bytes: &[u8]) -> bool {
    let odd =
        bytes.iter().filter(|&&byte| byte < b' ' && !byte.is_ascii_whitespace() || byte >= 0x7F).count();
    odd * 8 <= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_decoded_and_every_byte_knows_its_place() {
        let view = percent(b"a%40b+c%4", true);
        assert_eq!(view.bytes, b"a@b c%4");
        assert_eq!(view.origin(1, 2), (1, 4));
        assert_eq!(view.origin(0, 7), (0, 9));
        let view = backslash(br#"\u0040\n\"\x41\101\ud83d\ude00\q\"#);
        assert_eq!(view.bytes, "@\n\"AA😀q\\".as_bytes());
        assert_eq!(view.origin(0, 1), (0, 6));
        assert_eq!(doubled(b"o''brien", b'\'').bytes, b"o'brien");
    }

    #[test]
    fn broken_escapes_do_not_panic() {
        for text in [&b"\\"[..], b"\\u", b"\\u12", b"\\ud800\\u0041", b"\\x", b"\\777", b"%", b"%4", b"%zz"] {
            let _ = (backslash(text), percent(text, true), doubled(text, b'\''));
        }
    }

    #[test]
    fn runs_of_base64_and_hex_are_seen_as_text_only() {
        let mut seen = Vec::new();
        let mut note =
            |start, end, bytes: &[u8]| seen.push((start, end, String::from_utf8(bytes.to_vec()).unwrap()));
        encoded_runs(b"x=YWxpY2VAZXhhbXBsZS5vcmc= \\x616c6963654062 0123456789abcdef", &mut note);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0], (2, 26, "alice@example.org".into()));
        let mut hex = Vec::new();
        encoded_runs(b"\\x616c696365406578616d706c65", |start, end, bytes| {
            hex.push((start, end, bytes.to_vec()))
        });
        assert_eq!(hex, [(1, 28, b"alice@example".to_vec())]);
    }
}
