//! Tokens to a filter, by recursive descent of bounded depth.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::field::Field;
use super::lexer::{Spanned, Token, tokens};
use super::{DEPTH_MAX, FilterError, Literal, Node, Operator, PATTERN_BYTES_MAX, PATTERNS_MAX, TERMS_MAX};

/// Memory of one compiled pattern, bytes: bounds the time per byte of text as well.
const PATTERN_MEMORY_MAX: usize = 512 * 1024;
/// Nesting inside a pattern.
const PATTERN_DEPTH_MAX: u32 = 32;

pub(super) fn parse(source: &str) -> Result<Node, FilterError> {
    let tokens = tokens(source)?;
    if tokens.is_empty() {
        return Err(FilterError::new(source, 0, "the filter is empty"));
    }
    let mut parser = Parser { source, tokens, next: 0, terms: 0, patterns: 0 };
    let root = parser.or(0)?;
    match parser.peek() {
        None => Ok(root),
        Some(Token::Symbol(")")) => Err(parser.error("this parenthesis was never opened")),
        Some(_) => Err(parser.error("expected `and`, `or` or the end here")),
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned>,
    next: usize,
    terms: usize,
    patterns: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|spanned| &spanned.token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).map_or(self.source.len(), |spanned| spanned.position)
    }

    fn error(&self, message: impl Into<String>) -> FilterError {
        FilterError::new(self.source, self.position(), message)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(own)) if *own == symbol);
        self.next += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.and(depth)?];
        while self.take_keyword("or") {
            nodes.push(self.and(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    fn and(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.not(depth)?];
        while self.take_keyword("and") {
            nodes.push(self.not(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
    }

    fn not(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("the filter is nested deeper than {DEPTH_MAX}")));
        }
        if self.take_keyword("not") {
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take_symbol("(") {
            let inner = self.or(depth + 1)?;
            if !self.take_symbol(")") {
                return Err(self.error("expected `)` here"));
            }
            return Ok(inner);
        }
        self.term()
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(self.error(format!("the filter has more than {TERMS_MAX} terms")));
        }
        let start = self.next;
        let Some(Token::Word(word)) = self.peek().cloned() else {
            return Err(self.error("expected a field name here, such as db.query.text"));
        };
        self.next += 1;
        if word.eq_ignore_ascii_case("has") && self.take_symbol("(") {
            return self.has();
        }
        let Some(operator) = self.operator() else {
            return match word.as_str() {
                "error" => Ok(Node::Error),
                "open" => Ok(Node::Open),
                _ => {
                    let known = Field::named(&word);
                    let at = if known.is_ok() { self.next } else { start };
                    self.next = at;
                    Err(self.error(
                        known
                            .err()
                            .unwrap_or_else(|| "expected an operator here: = != < <= > >= =~ !~".to_owned()),
                    ))
                }
            };
        };
        let field = Field::named(&word)
            .map_err(|message| FilterError::new(self.source, self.tokens[start].position, message))?;
        self.value(field, operator)
    }

    fn has(&mut self) -> Result<Node, FilterError> {
        let Some(Token::Word(name)) = self.peek().cloned() else {
            return Err(self.error("expected a field name here: has(db.query.text)"));
        };
        let field = Field::named(&name).map_err(|message| self.error(message))?;
        self.next += 1;
        if !self.take_symbol(")") {
            return Err(self.error("expected `)` here"));
        }
        Ok(Node::Has(field))
    }

    fn operator(&mut self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Symbol(symbol)) if !matches!(*symbol, "(" | ")") => {
                let symbol = *symbol;
                self.next += 1;
                Some(symbol)
            }
            _ => None,
        }
    }

    fn value(&mut self, field: Field, operator: &str) -> Result<Node, FilterError> {
        let (text, bare) = match self.peek().cloned() {
            Some(Token::Word(word)) => (word, true),
            Some(Token::Quoted(text)) => (text, false),
            _ => return Err(self.error("expected a value here, such as 500ms or 'some text'")),
        };
        let operator = match operator {
            "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterEqual,
            pattern => return self.pattern(field, &text, pattern == "=~"),
        };
        let literal = if bare { literal(text) } else { Literal { text, number: None, integer: None } };
        self.next += 1;
        Ok(Node::Compare { field, operator, literal })
    }

    fn pattern(&mut self, field: Field, pattern: &str, wanted: bool) -> Result<Node, FilterError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(self.error(format!("the filter has more than {PATTERNS_MAX} patterns")));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(self.error(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let config = Regex::config()
            .nfa_size_limit(Some(PATTERN_MEMORY_MAX))
            .hybrid_cache_capacity(PATTERN_MEMORY_MAX)
            .onepass_size_limit(Some(PATTERN_MEMORY_MAX))
            .dfa_size_limit(Some(PATTERN_MEMORY_MAX));
        let regex = Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().nest_limit(PATTERN_DEPTH_MAX))
            .build(pattern)
            .map_err(|error| {
                let cause = error.syntax_error().map_or_else(
                    || "it is too large".to_owned(),
                    |error| error.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
                );
                self.error(format!("the pattern cannot be used: {}", crate::text::escape(&cause)))
            })?;
        self.next += 1;
        Ok(Node::Pattern { field, regex: Box::new(regex), wanted })
    }
}

/// Units of a bare value with their factor: lengths of time in ns, sizes in bytes. `m` is a minute, as in
/// `--since 10m`; a mebibyte is `MiB`.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

fn literal(text: String) -> Literal {
    let digits =
        text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-').len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" => Some(1),
        _ => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
    };
    let (Some(factor), Ok(value)) = (factor, number.parse::<f64>()) else {
        return Literal { text, number: None, integer: None };
    };
    let scaled = value * factor as f64;
    let integer = match number.parse::<i128>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) if scaled.fract() == 0.0 && scaled.abs() < 1e15 => Some(scaled as i128),
        Err(_) => None,
    };
    Literal { number: Some(scaled), integer, text }
}
