//! Text of a filter to tokens with their places. One pass, no copy but of quoted text.

use super::{FilterError, SOURCE_BYTES_MAX};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, keyword or bare value.
    Word(String),
    /// A quoted value.
    Quoted(String),
    /// An operator or parenthesis.
    Symbol(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) position: usize,
}

/// Longer ones first, so that `=~` is not read as `=`.
const SYMBOLS: &[&str] = &["!=", "<=", ">=", "=~", "!~", "==", "=", "<", ">", "(", ")"];

pub(super) fn tokens(source: &str) -> Result<Vec<Spanned>, FilterError> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the filter is longer than {SOURCE_BYTES_MAX} bytes");
        return Err(FilterError::new(source, SOURCE_BYTES_MAX, message));
    }
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(character) = source[position..].chars().next() {
        let rest = &source[position..];
        if character.is_whitespace() {
            position += character.len_utf8();
            continue;
        }
        let (token, length) = if character == '"' || character == '\'' {
            quoted(source, position, character)?
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (Token::Symbol(if *symbol == "==" { "=" } else { symbol }), symbol.len())
        } else {
            let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            if length == 0 {
                let shown = crate::text::escape(&rest[..character.len_utf8()]).into_owned();
                return Err(FilterError::new(
                    source,
                    position,
                    format!("`{shown}` means nothing here; quote it if it is part of a value"),
                ));
            }
            (Token::Word(rest[..length].to_owned()), length)
        };
        tokens.push(Spanned { token, position });
        position += length;
    }
    Ok(tokens)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || "_-./:@+%*$".contains(character)
}

/// A quoted text. Only the quotes and the backslash itself are escaped; every other backslash stays, so that
/// patterns read as people know them.
fn quoted(source: &str, start: usize, quote: char) -> Result<(Token, usize), FilterError> {
    let mut text = String::new();
    let mut characters = source[start + 1..].char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        if character == quote {
            return Ok((Token::Quoted(text), index + 2));
        }
        let escaped = |(_, next): &(usize, char)| matches!(next, '\\' | '\'' | '"');
        if character == '\\'
            && let Some((_, next)) = characters.next_if(escaped)
        {
            text.push(next);
            continue;
        }
        text.push(character);
    }
    Err(FilterError::new(source, start, "this quote is never closed"))
}
