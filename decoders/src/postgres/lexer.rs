//! PostgreSQL's lexical structure (documentation, chapter 4.1), as far as summaries and parameters need it.
//! One pass, linear, no allocation; an unterminated quote takes the rest.

use memchr::memmem;

/// One token. Literals keep nothing of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key word or a plain identifier.
    Word(&'a str),
    /// A quoted identifier, without its outer quotes.
    Quoted(&'a str),
    /// A string or a number.
    Literal,
    /// `$1`.
    Parameter(u32),
    /// An operator's first byte.
    Operator(u8),
    /// One of `( ) , ; . [ ]` and `:` for a cast.
    Mark(u8),
}

impl<'a> Token<'a> {
    /// The identifier that it may be.
    pub(super) fn name(&self) -> Option<&'a str> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            _ => None,
        }
    }
    /// The identifier, unless it is a word that no column is called.
    pub(super) fn column(&self) -> Option<&'a str> {
        const NEVER: &[&str] =
            &["SELECT", "WHERE", "AND", "OR", "NOT", "NULL", "THEN", "ELSE", "END", "ON", "SET"];
        self.name().filter(|name| !NEVER.iter().any(|never| never.eq_ignore_ascii_case(name)))
    }
}

/// The tokens of a statement, without comments and casts.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut lexer = Lexer { text, at: 0 };
    std::iter::from_fn(move || lexer.next())
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let first = *rest.first()?;
            return Some(match (first, rest.get(1).copied().unwrap_or(0)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => {
                    self.at += 1;
                    continue;
                }
                (b'-', b'-') => {
                    self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    continue;
                }
                (b'/', b'*') => {
                    self.comment();
                    continue;
                }
                (b':', b':') => {
                    self.cast();
                    continue;
                }
                (b'e' | b'E', b'\'') => self.string(1, true),
                (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => self.string(1, false),
                (b'\'', _) => self.string(0, false),
                (b'"', _) => self.quoted(),
                (b'$', b'0'..=b'9') => self.parameter(),
                (b'$', _) => self.dollar(),
                (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => self.number(),
                (b'(' | b')' | b',' | b';' | b'.' | b'[' | b']' | b':', _) => {
                    self.at += 1;
                    Token::Mark(first)
                }
                (first, _) if is_word_start(first) => self.word(),
                _ => self.operator(first),
            });
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let length = self.rest().bytes().position(|byte| !wanted(byte)).unwrap_or(self.rest().len());
        let found = &self.rest()[..length];
        self.at += length;
        found
    }

    fn word(&mut self) -> Token<'a> {
        Token::Word(self.take(is_word))
    }

    fn number(&mut self) -> Token<'a> {
        self.take(|byte| byte == b'.' || is_word(byte));
        Token::Literal
    }

    fn parameter(&mut self) -> Token<'a> {
        self.at += 1;
        self.take(|byte| byte.is_ascii_digit()).parse().map_or(Token::Literal, Token::Parameter)
    }

    fn operator(&mut self, first: u8) -> Token<'a> {
        const OPERATORS: &[u8] = b"+-*/<>=~!@#%^&|`?";
        if OPERATORS.contains(&first) {
            // `--` and `/*` end an operator, so a comment behind one is found.
            let bytes = self.rest().as_bytes();
            let length = (1..bytes.len())
                .find(|at| {
                    !OPERATORS.contains(&bytes[*at])
                        || matches!(&bytes[*at..], [b'-', b'-', ..] | [b'/', b'*', ..])
                })
                .unwrap_or(bytes.len());
            self.at += length;
        } else {
            self.at += 1;
        }
        Token::Operator(first)
    }

    /// Nested comments, as the standard has them.
    fn comment(&mut self) {
        let bytes = self.rest().as_bytes();
        let mut depth = 0usize;
        let mut at = 0;
        while at < bytes.len() {
            match &bytes[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.at += at;
    }

    /// `::type`: says nothing about columns.
    fn cast(&mut self) {
        self.at += 2;
        self.take(|byte| byte == b' ');
        self.take(|byte| byte == b'.' || byte == b'[' || byte == b']' || is_word(byte));
    }

    fn string(&mut self, prefix: usize, escapes: bool) -> Token<'a> {
        let bytes = self.rest().as_bytes();
        let mut at = prefix + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if escapes => at += 2,
                b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => break,
                _ => at += 1,
            }
        }
        self.advance_to(at + 1);
        Token::Literal
    }

    fn quoted(&mut self) -> Token<'a> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut at = 1;
        while at < bytes.len() {
            match bytes[at] {
                b'"' if bytes.get(at + 1) == Some(&b'"') => at += 2,
                b'"' => break,
                _ => at += 1,
            }
        }
        let name = rest.get(1..at.min(rest.len())).unwrap_or("");
        self.advance_to(at + 1);
        Token::Quoted(name)
    }

    /// `$tag$ … $tag$`.
    fn dollar(&mut self) -> Token<'a> {
        let rest = self.rest();
        let tag =
            rest[1..].bytes().position(|byte| !is_word(byte) || byte == b'$').map_or(rest.len(), |at| at + 1);
        if rest.as_bytes().get(tag) != Some(&b'$') {
            self.at += 1;
            return Token::Operator(b'$');
        }
        let mark = &rest[..=tag];
        let length = memmem::find(&rest.as_bytes()[mark.len()..], mark.as_bytes())
            .map_or(rest.len(), |body| body + 2 * mark.len());
        self.at += length;
        Token::Literal
    }

    /// An escape may end in the middle of a character or behind the end.
    fn advance_to(&mut self, length: usize) {
        let mut at = (self.at + length).min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        self.at = at;
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[Token<'_>]) {
        assert_eq!(tokens(text).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn literals_keep_nothing() {
        use Token::*;
        check(
            "'a''b' E'\\'x' $$y$$ $t$ $$ $t$ 1.5e3 x'ff'",
            &[Literal, Literal, Literal, Literal, Literal, Literal],
        );
        check("'open", &[Literal]);
        check("E'\\", &[Literal]);
        check("E'\\é' a", &[Literal, Word("a")]);
        check("$a$ never ended $b$", &[Literal]);
    }

    #[test]
    fn comments_and_casts_vanish() {
        use Token::*;
        check("a -- b\nc /* d /* e */ f */ g::text[] h", &[Word("a"), Word("c"), Word("g"), Word("h")]);
        check("a=--b\n$1", &[Word("a"), Operator(b'='), Parameter(1)]);
        check("/* open", &[]);
    }

    #[test]
    fn quoted_names_stay_whole() {
        use Token::*;
        check("\"a b\".\"c\"\"d\"", &[Quoted("a b"), Mark(b'.'), Quoted("c\"\"d")]);
        check("\"open", &[Quoted("open")]);
    }
}
