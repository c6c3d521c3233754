//! A value as its reader decodes it, each byte knowing where it stood: so that what a coding hides is found,
//! and what is found is masked in the text as it was sent.

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

/// Without NUL: what UTF-16 is of ASCII.
pub(crate) fn without_nul(text: &[u8]) -> View {
    let mut view = View::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        view.push(byte, at);
    }
    view.end(text.len())
}

/// Quoted-printable decoded (RFC 2045 section 6.7): `=XX`, and `=` at the end of a line joins it to the next.
pub(crate) fn quoted_printable(text: &[u8]) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'=' {
            if let Some(byte) = hex_pair(text, at + 1) {
                view.push(byte, at);
                at += 3;
                continue;
            }
            let line_end = line_end_bytes(&text[at + 1..]);
            if line_end > 0 {
                at += 1 + line_end;
                continue;
            }
        }
        view.push(text[at], at);
        at += 1;
    }
    view.end(text.len())
}

/// Whether something in it is quoted-printable, and not only the value of a name: a line goes on, a sign is coded that
/// must be or that may hide an address, or two in a row.
pub(crate) fn has_quoted_printable(text: &[u8]) -> bool {
    memchr::memchr_iter(b'=', text).any(|at| match hex_pair(text, at + 1) {
        Some(b'=' | b'@') => true,
        // Written as the standard wants it: else it is more likely the value of a name.
        Some(0x80..) => !text[at + 1..at + 3].iter().any(u8::is_ascii_lowercase),
        Some(_) => text.get(at + 3) == Some(&b'=') && hex_pair(text, at + 4).is_some(),
        None => line_end_bytes(&text[at + 1..]) > 0,
    })
}

/// How long the end of a line is that stands here; 0 when there is none.
pub(crate) fn line_end_bytes(rest: &[u8]) -> usize {
    match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => 0,
    }
}

/// Character references of HTML that stand for signs of secrets' forms (WHATWG HTML, section 13.5).
const REFERENCES: &[(&[u8], u8)] = &[
    (b"amp;", b'&'),
    (b"lt;", b'<'),
    (b"gt;", b'>'),
    (b"quot;", b'"'),
    (b"apos;", b'\''),
    (b"nbsp;", b' '),
    (b"commat;", b'@'),
    (b"period;", b'.'),
    (b"colon;", b':'),
    (b"equals;", b'='),
    (b"num;", b'#'),
    (b"plus;", b'+'),
    (b"lowbar;", b'_'),
    (b"percnt;", b'%'),
];

/// Character references decoded: `&#64;`, `&#x40;`, and those with names of [`REFERENCES`].
pub(crate) fn references(text: &[u8]) -> View {
    let mut view = View::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let found = if text[at] == b'&' { reference(&text[at + 1..]) } else { None };
        let Some((character, length)) = found else {
            view.push(text[at], at);
            at += 1;
            continue;
        };
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            view.push(byte, at);
        }
        at += 1 + length;
    }
    view.end(text.len())
}

/// Whether there is a character reference.
pub(crate) fn has_references(text: &[u8]) -> bool {
    memchr::memchr_iter(b'&', text).any(|at| reference(&text[at + 1..]).is_some())
}

/// What the reference after an `&` stands for, and its length.
fn reference(rest: &[u8]) -> Option<(char, usize)> {
    /// More digits are no character.
    const DIGITS_MAX: usize = 7;
    let Some(number) = rest.strip_prefix(b"#") else {
        let (name, byte) = REFERENCES.iter().find(|(name, _)| rest.starts_with(name))?;
        return Some((char::from(*byte), name.len()));
    };
    let (digits, radix, before) = match number {
        [b'x' | b'X', digits @ ..] => (digits, 16, 2),
        digits => (digits, 10, 1),
    };
    let count = digits.iter().take(DIGITS_MAX).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let code =
        std::str::from_utf8(&digits[..count]).ok().and_then(|text| u32::from_str_radix(text, radix).ok())?;
    let closed = usize::from(digits.get(count) == Some(&b';'));
    Some((char::from_u32(code)?, before + count + closed))
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
    fn mail_and_pages_are_decoded() {
        let view = quoted_printable(b"a=40b=\r\nc=3Dd=x");
        assert_eq!(view.bytes, b"a@bc=d=x");
        assert_eq!(view.origin(3, 4), (8, 9));
        let view = references(b"a&#64;b&#x2e;c&amp;d&e&#;&#x;&#xFFFFFFF;");
        assert_eq!(view.bytes, b"a@b.c&d&e&#;&#x;&#xFFFFFFF;");
        assert_eq!(view.origin(1, 2), (1, 6));
        assert_eq!(without_nul(b"a\0@\0").bytes, b"a@");
        for (text, expected) in [
            (&b"limit=20&x=ab"[..], false),
            (b"a=40b", true),
            (b"=6B=34", true),
            (b"a=\nb", true),
            (b"a=b", false),
        ] {
            assert_eq!(has_quoted_printable(text), expected, "{text:?}");
        }
    }
}
