//! What a text may hide: one look that says which codings and recognisers need not look, and runs of base64 and
//! hex.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::view::line_end_bytes;

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
const AMPERSAND: u8 = 32;
const EQUALS: u8 = 64;
const NUL: u8 = 128;

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
            b'&' => AMPERSAND,
            b'=' => EQUALS,
            0 => NUL,
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

    /// Whether there is an `&`.
    pub(crate) fn has_ampersand(&self) -> bool {
        self.classes & AMPERSAND != 0
    }

    /// Whether there is an `=`.
    pub(crate) fn has_equals(&self) -> bool {
        self.classes & EQUALS != 0
    }

    /// Whether there is a NUL.
    pub(crate) fn has_nul(&self) -> bool {
        self.classes & NUL != 0
    }

    /// Whether [`encoded_runs`] would look at anything.
    pub(crate) fn has_runs(&self) -> bool {
        self.longest_run >= RUN_BYTES_MIN
    }
}

/// Shortest run that is taken for base64 or hex; what is coded shorter holds no secret that could be told.
const RUN_BYTES_MIN: usize = 16;
/// Shortest line of a run that is broken into lines.
const LINE_BYTES_MIN: usize = 40;

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

/// Calls `found` with each run that may be base64 or hex, its place, and what it decodes to as text. A run that is
/// broken into lines of one width (RFC 2045 section 6.8) is read as one.
pub(crate) fn encoded_runs(text: &[u8], mut found: impl FnMut(usize, usize, &[u8])) {
    let mut at = 0;
    let mut lines = Vec::new();
    while at < text.len() {
        let (start, width) = (at, run_bytes(&text[at..]));
        let mut end = start + width;
        at = end + 1;
        if width < RUN_BYTES_MIN {
            continue;
        }
        lines.clear();
        if width >= LINE_BYTES_MIN {
            while let Some(length) = next_line(&text[end..], width) {
                if lines.is_empty() {
                    lines.extend_from_slice(&text[start..end]);
                }
                let next = end + line_end_bytes(&text[end..]);
                end = next + length;
                lines.extend_from_slice(&text[next..end]);
                if length < width {
                    break;
                }
            }
        }
        at = at.max(end + 1);
        let run = if lines.is_empty() { &text[start..end] } else { &lines };
        let padded = text[end..].iter().take(2).take_while(|&&byte| byte == b'=').count();
        if let Some(bytes) = hex_of(run).and_then(as_text).or_else(|| base64(run).and_then(as_text)) {
            found(start, end + padded, &bytes);
        }
    }
}

/// How long the run in the next line is, when it goes on one of this width.
fn next_line(rest: &[u8], width: usize) -> Option<usize> {
    let line_end = line_end_bytes(rest);
    let length = run_bytes(&rest[line_end..]);
    (line_end > 0 && (1..=width).contains(&length)).then_some(length)
}

fn run_bytes(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| CLASSES[usize::from(byte)] & RUN != 0).count()
}

/// Hex with or without the `x` or `0x` before it.
fn hex_of(run: &[u8]) -> Option<Vec<u8>> {
    let digits = run.strip_prefix(b"0x").or_else(|| run.strip_prefix(b"x")).unwrap_or(run);
    hex::decode(digits).ok()
}

/// Decoded bytes when they look like text, be it UTF-16 of ASCII: random bytes of this length do not.
fn as_text(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    if bytes.iter().filter(|&&byte| byte == 0).count() * 3 >= bytes.len() {
        bytes.retain(|&byte| byte != 0);
    }
    let odd = |byte: &u8| *byte < b' ' && !byte.is_ascii_whitespace() || *byte == 0x7F;
    let strange = bytes.iter().filter(|byte| odd(byte)).count();
    let beyond = bytes.iter().filter(|byte| !byte.is_ascii()).count();
    // Text of another script is UTF-8, but for a character that the end cuts.
    let foreign = beyond * 8 <= bytes.len()
        || std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to() + 4 > bytes.len(), |_| true);
    (strange * 8 <= bytes.len() && foreign).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_run_that_is_broken_into_lines_is_one() {
        let text = "mail ann@example.org ".repeat(12);
        let coded = base64::engine::general_purpose::STANDARD.encode(&text);
        let lines: Vec<&str> =
            (0..coded.len()).step_by(76).map(|at| &coded[at..coded.len().min(at + 76)]).collect();
        let broken = format!("x: {}\r\n", lines.join("\r\n"));
        let mut seen = Vec::new();
        encoded_runs(broken.as_bytes(), |start, end, bytes| seen.push((start, end, bytes.to_vec())));
        assert_eq!(seen, [(3, broken.len() - 2, text.into_bytes())]);
    }

    #[test]
    fn wide_and_foreign_text_is_text_and_noise_is_not() {
        let wide: Vec<u8> = b"ann@example.org".iter().flat_map(|&byte| [byte, 0]).collect();
        assert_eq!(as_text(wide).as_deref(), Some(&b"ann@example.org"[..]));
        let foreign = "имя: Анна, ann@example.org".as_bytes();
        assert!(
            as_text(foreign.to_vec()).is_some() && as_text(foreign[..foreign.len() - 1].to_vec()).is_some()
        );
        let noise: Vec<u8> = (0..64u8).map(|byte| byte.wrapping_mul(167) ^ 0xA5).collect();
        assert!(as_text(noise).is_none());
    }
}
