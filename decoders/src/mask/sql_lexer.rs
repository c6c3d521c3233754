//! Cuts a statement into tokens with their places, as PostgreSQL's own scanner does (its manual, section 4.1).
//!
//! It never fails: what is not closed reaches to the end. Of every byte one token says what it is, so that
//! masking can leave all others as they were. Linear.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A word: keyword or name.
    Word,
    /// A name in double quotes.
    QuotedName,
    /// A string, by how it is read.
    String(Quoting),
    /// A number.
    Number,
    /// `$n`: the value comes apart from the statement.
    Parameter(u32),
    /// A comment of either form.
    Comment,
    /// Any other character.
    Symbol(u8),
}

/// How the inside of a string is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// `'…'`, and with prefixes that change nothing inside: `N'…'`, `B'…'`, `X'…'`.
    Plain,
    /// `E'…'`.
    Escapes,
    /// `U&'…'`.
    Unicode,
    /// `$tag$…$tag$`.
    Dollar,
}

/// A token with its place. White space has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What stands between the quotes; of other tokens all.
    pub(crate) inner: (usize, usize),
}

/// The tokens of a statement, in order.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Token> + '_ {
    let text = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0B).count();
        let token = (at < text.len()).then(|| token(text, at))?;
        at = token.end;
        Some(token)
    })
}

fn token(text: &[u8], start: usize) -> Token {
    let rest = &text[start..];
    match rest {
        [b'-', b'-', ..] => {
            let length = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r').unwrap_or(rest.len());
            whole(TokenKind::Comment, start, length)
        }
        [b'/', b'*', ..] => whole(TokenKind::Comment, start, comment_bytes(rest)),
        [b'\'', ..] => quoted(TokenKind::String(Quoting::Plain), text, start, 1),
        [b'E' | b'e', b'\'', ..] => quoted(TokenKind::String(Quoting::Escapes), text, start, 2),
        [b'N' | b'n' | b'B' | b'b' | b'X' | b'x', b'\'', ..] => {
            quoted(TokenKind::String(Quoting::Plain), text, start, 2)
        }
        [b'U' | b'u', b'&', b'\'', ..] => quoted(TokenKind::String(Quoting::Unicode), text, start, 3),
        [b'U' | b'u', b'&', b'"', ..] => quoted(TokenKind::QuotedName, text, start, 3),
        [b'"', ..] => quoted(TokenKind::QuotedName, text, start, 1),
        [b'$', b'0'..=b'9', ..] => {
            let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = rest[1..1 + digits]
                .iter()
                .fold(0u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
            whole(TokenKind::Parameter(number), start, 1 + digits)
        }
        [b'$', ..] => dollar(rest, start).unwrap_or_else(|| whole(TokenKind::Symbol(b'$'), start, 1)),
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => whole(TokenKind::Number, start, number_bytes(rest)),
        [first, ..] if is_name_start(*first) => {
            let length = rest.iter().take_while(|byte| is_name(**byte)).count();
            whole(TokenKind::Word, start, length)
        }
        [first, ..] => whole(TokenKind::Symbol(*first), start, 1),
        [] => whole(TokenKind::Symbol(0), start, 0),
    }
}

fn whole(kind: TokenKind, start: usize, length: usize) -> Token {
    Token { kind, start, end: start + length, inner: (start, start + length) }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Comments nest.
fn comment_bytes(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (1, 2);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            (b'*', b'/') => depth -= 1,
            (b'/', b'*') => depth += 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A string or name in quotes, its opening of `open` bytes; a doubled quote does not end it.
fn quoted(kind: TokenKind, text: &[u8], start: usize, open: usize) -> Token {
    let first = start + open;
    let quote = text[first - 1];
    let escapes = kind == TokenKind::String(Quoting::Escapes);
    let mut at = first;
    while at < text.len() {
        match text[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Token { kind, start, end: at + 1, inner: (first, at) },
            _ => at += 1,
        }
    }
    Token { kind, start, end: text.len(), inner: (first, text.len()) }
}

/// `$tag$…$tag$`; the tag is a name without `$`, or empty.
fn dollar(rest: &[u8], start: usize) -> Option<Token> {
    let tag = 1 + rest[1..].iter().take_while(|byte| **byte != b'$' && is_name(**byte)).count();
    if rest.get(tag) != Some(&b'$') {
        return None;
    }
    let open = &rest[..=tag];
    let inside = memchr::memmem::find(&rest[open.len()..], open);
    let (inner_end, end) = match inside {
        Some(length) => (open.len() + length, open.len() * 2 + length),
        None => (rest.len(), rest.len()),
    };
    Some(Token {
        kind: TokenKind::String(Quoting::Dollar),
        start,
        end: start + end,
        inner: (start + open.len(), start + inner_end),
    })
}

/// Decimal, with fraction and exponent, or with a base prefix; digits may be grouped by `_`.
fn number_bytes(rest: &[u8]) -> usize {
    let mut length = 0;
    while let Some(&byte) = rest.get(length) {
        let sign =
            matches!(byte, b'+' | b'-') && matches!(rest[..length], [b'0'..=b'9' | b'.', .., b'e' | b'E']);
        let hex = matches!(rest, [b'0', b'x' | b'X', ..]);
        let fraction = byte == b'.' && rest.get(length + 1) != Some(&b'.');
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || fraction || sign && !hex) {
            break;
        }
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        tokens(text).map(|token| (token.kind, &text[token.inner.0..token.inner.1])).collect()
    }

    #[test]
    fn each_kind_of_string_ends_where_postgresql_ends_it() {
        use Quoting::{Dollar, Escapes, Plain, Unicode};
        for (text, quoting, inner) in [
            ("'a''b'", Plain, "a''b"),
            (r"'a\'", Plain, r"a\"),
            (r"E'a\'b'", Escapes, r"a\'b"),
            ("U&'\\0061'", Unicode, "\\0061"),
            ("$$a'b$$", Dollar, "a'b"),
            ("$t$a$$b$x$t$", Dollar, "a$$b$x"),
            ("x'00ff'", Plain, "00ff"),
            ("'open", Plain, "open"),
            (r"E'open\", Escapes, r"open\"),
            ("$t$open$", Dollar, "open$"),
        ] {
            assert_eq!(kinds(text), [(TokenKind::String(quoting), inner)], "{text}");
        }
    }

    #[test]
    fn comments_names_numbers_and_parameters() {
        use TokenKind::{Comment, Number, Parameter, QuotedName, Symbol, Word};
        assert_eq!(
            kinds("a$1 $12 /* /* ' */ */ -- '\n\"q\"\"\" 1.5e-3 .5 1_000 0xFF 1..2"),
            [
                (Word, "a$1"),
                (Parameter(12), "$12"),
                (Comment, "/* /* ' */ */"),
                (Comment, "-- '"),
                (QuotedName, "q\"\""),
                (Number, "1.5e-3"),
                (Number, ".5"),
                (Number, "1_000"),
                (Number, "0xFF"),
                (Number, "1"),
                (Symbol(b'.'), "."),
                (Number, ".2"),
            ]
        );
        assert_eq!(kinds("1-2"), [(Number, "1"), (Symbol(b'-'), "-"), (Number, "2")]);
    }
}
