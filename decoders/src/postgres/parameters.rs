//! Which column each parameter of a statement meets, so that masking can go by column name. Looks at tokens and
//! knows no grammar: what it does not understand it leaves out.

use super::lexer::Token;

/// Highest parameter number of the protocol.
const PARAMETER_MAX: usize = 65_535;

/// Column that each parameter meets.
pub(super) fn parameters(tokens: &[Token<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut inserts = Inserts::default();
    for at in 0..tokens.len() {
        inserts.step(tokens, at);
        let Token::Parameter(number) = tokens[at] else { continue };
        let number = number as usize;
        if number == 0 || number > PARAMETER_MAX {
            continue;
        }
        let Some(name) = compared(tokens, at).or_else(|| inserts.column()) else { continue };
        if names.len() < number {
            names.resize(number, String::new());
        }
        if names[number - 1].is_empty() {
            names[number - 1] = name.to_owned();
        }
    }
    names
}

/// Follows `INSERT INTO t (a, b) VALUES (…, …), (…, …)`: which column the place in the tuple is.
#[derive(Default)]
struct Inserts<'a> {
    columns: Vec<&'a str>,
    state: Insert,
    depth: usize,
    place: usize,
}

#[derive(Default, PartialEq)]
enum Insert {
    #[default]
    Outside,
    Named,
    Columns,
    Listed,
    Values,
}

impl<'a> Inserts<'a> {
    fn step(&mut self, tokens: &[Token<'a>], at: usize) {
        let token = tokens[at];
        match (&self.state, token) {
            (_, Token::Mark(b';')) => *self = Inserts::default(),
            (Insert::Outside | Insert::Values, Token::Word(word))
                if self.depth == 0 && word.eq_ignore_ascii_case("INTO") =>
            {
                *self = Inserts { state: Insert::Named, ..Inserts::default() };
            }
            (Insert::Named, Token::Mark(b'(')) => self.state = Insert::Columns,
            (Insert::Columns, Token::Mark(b')')) => self.state = Insert::Listed,
            (Insert::Columns, token) => self.columns.extend(token.name()),
            (Insert::Listed, Token::Word(word)) if word.eq_ignore_ascii_case("VALUES") => {
                self.state = Insert::Values;
            }
            (Insert::Values, Token::Mark(b'(')) => {
                self.depth += 1;
                if self.depth == 1 {
                    self.place = 0;
                }
            }
            (Insert::Values, Token::Mark(b')')) => self.depth = self.depth.saturating_sub(1),
            (Insert::Values, Token::Mark(b',')) if self.depth == 1 => self.place += 1,
            (Insert::Values, Token::Word(word))
                if self.depth == 0 && !word.eq_ignore_ascii_case("VALUES") =>
            {
                *self = Inserts::default();
            }
            _ => {}
        }
    }
    fn column(&self) -> Option<&'a str> {
        (self.state == Insert::Values && self.depth > 0)
            .then(|| self.columns.get(self.place).copied())
            .flatten()
    }
}

/// How far back a comparison's other side is looked for.
const REACH: usize = 12;

/// The column that the parameter at `at` is compared with or assigned to.
fn compared<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    before(tokens, at).or_else(|| match tokens.get(at + 1..)? {
        [Token::Operator(_), other @ ..] => right_side(other),
        _ => None,
    })
}

/// The column that a comparison's right side begins with: `t.col`.
fn right_side<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let qualified = tokens.chunks(2).take(3).position(|pair| pair.get(1) != Some(&Token::Mark(b'.')))?;
    tokens[2 * qualified].column()
}

fn before<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    let start = at.saturating_sub(REACH);
    let mut left = at;
    // Through opening parentheses, called functions, earlier members of an IN list and `BETWEEN $1 AND`.
    while left > start {
        left -= 1;
        match tokens[left] {
            Token::Mark(b'(' | b',') | Token::Parameter(_) | Token::Literal => {}
            Token::Word(word) if is_comparison(word) => return left_side(&tokens[start..left]),
            Token::Word(word) if word.eq_ignore_ascii_case("AND") => {}
            Token::Operator(_) => return left_side(&tokens[start..left]),
            Token::Word(_) if tokens.get(left + 1) == Some(&Token::Mark(b'(')) => {}
            _ => return None,
        }
    }
    None
}

fn is_comparison(word: &str) -> bool {
    ["LIKE", "ILIKE", "IN", "BETWEEN", "SIMILAR", "TO", "NOT"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

/// The column that a comparison's left side ends with: `t.col`, `col NOT`, `lower(col)`, `col::text`.
fn left_side<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    tokens
        .iter()
        .rev()
        .find(|token| {
            !matches!(token, Token::Mark(b')')) && !matches!(token, Token::Word(word) if is_comparison(word))
        })
        .and_then(Token::column)
}
