//! Masks a statement: its literals are values, and the column that each meets decides about it.
//!
//! It reads tokens, not grammar: enough to know the column of `name = 'x'`, of lists and function calls after
//! it, of `INSERT INTO t (names) VALUES (…)`, and of passwords in role statements. What it does not understand
//! goes to the recognisers alone. All text outside of masked literals stays byte for byte.

mod nesting;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::mark::Mark;
use super::policy::Policy;
use super::recognise::shape::Kinds;
use super::recognise::{Place, table};
use super::rules::Literals;
use super::span::Span;
use super::sql_lexer::{Quoting, Token, TokenKind, tokens};
use super::view;

/// What a statement says about values that come apart from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apart {
    /// What bound parameters are, by their number.
    pub(crate) parameters: BTreeMap<u32, Treatment>,
    /// The columns of a COPY, where it lists them.
    pub(crate) copied: Option<Marks>,
}

/// Deepest brackets that are told apart; below, all share one context.
const DEPTH_MAX: usize = 256;
/// Most parameters that are remembered: a Bind has at most as many.
const PARAMETERS_MAX: usize = 1 << 16;

/// Functions whose arguments are keys or passwords (pgcrypto, MySQL's `PASSWORD`).
const SECRET_FUNCTIONS: &[&str] = &[
    "crypt",
    "hmac",
    "digest",
    "encrypt",
    "decrypt",
    "encrypt_iv",
    "decrypt_iv",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
    "pgp_sym_decrypt",
    "pgp_sym_decrypt_bytea",
    "pgp_pub_decrypt",
    "pgp_pub_decrypt_bytea",
    "aes_encrypt",
    "aes_decrypt",
    "password",
];

/// Adds the parts of a statement that are to be masked, and says which values apart from it are.
pub(crate) fn find(policy: &Policy, text: &str, spans: &mut Vec<Span>) -> Apart {
    if let Some(known) = policy.statements.recall("", text) {
        return known;
    }
    let before = spans.len();
    // Catches what stands across tokens, or where this lexer and the server's would not agree.
    policy.find(text.as_bytes(), Place::STATEMENT, spans);
    let mut reader = Reader::new(policy, text);
    for token in tokens(text) {
        reader.token(token);
    }
    spans.append(&mut reader.spans);
    if spans.len() == before {
        policy.statements.keep("", text, reader.apart.clone());
    }
    reader.apart
}

/// What a name says about the values that meet it.
#[derive(Clone, Debug)]
pub(crate) enum Treatment {
    /// They are masked whole.
    Mask(Mark),
    /// They may be of these kinds.
    Look(Kinds),
}

/// What is to be done with values by their position.
pub(crate) type Marks = Arc<[Option<Treatment>]>;

/// One level of brackets.
#[derive(Clone, Debug, Default)]
struct Frame {
    /// What values here are when nothing nearer says it.
    base: Option<Treatment>,
    /// The marks of the values by position, and which is next.
    positions: Option<(Marks, usize)>,
    /// The names that stand here, as long as nothing but names and commas does.
    names: Option<Vec<Option<Treatment>>>,
    /// The column list of an INSERT.
    insert_columns: bool,
    /// Arguments of `set_config`: the first names the second.
    set_config: bool,
    /// What was the context outside.
    outer: Option<Treatment>,
}

struct Reader<'a> {
    policy: &'a Policy,
    text: &'a str,
    spans: Vec<Span>,
    apart: Apart,
    /// What the next literal is.
    context: Option<Treatment>,
    /// The last name, while nothing but operators came after it.
    name: Option<(usize, usize)>,
    frames: Vec<Frame>,
    /// Brackets deeper than `DEPTH_MAX`.
    deeper: usize,
    before: Option<Token>,
    /// The literal that an operator or AS follows: a name may come that tells what it is.
    literal: Option<Token>,
    /// The operator that is being read, from where.
    operator: Option<(usize, usize)>,
    cast: bool,
    between: bool,
    distinct: bool,
    /// INSERT was read, its column list not yet.
    insert: bool,
    /// The same of a COPY.
    copy: bool,
    insert_columns: Option<Marks>,
    /// The list of names that was closed last: `(a, b) = (…)`.
    names: Option<Marks>,
    values: Option<Marks>,
}

impl<'a> Reader<'a> {
    fn new(policy: &'a Policy, text: &'a str) -> Self {
        Reader {
            policy,
            text,
            spans: Vec::new(),
            apart: Apart::default(),
            context: None,
            name: None,
            frames: vec![Frame::default()],
            deeper: 0,
            before: None,
            literal: None,
            operator: None,
            cast: false,
            between: false,
            distinct: false,
            insert: false,
            copy: false,
            insert_columns: None,
            names: None,
            values: None,
        }
    }

    fn token(&mut self, token: Token) {
        match token.kind {
            TokenKind::Comment => {
                self.inside(token);
                return;
            }
            TokenKind::Word => self.word(token),
            TokenKind::QuotedName => self.named(token),
            TokenKind::String(_) | TokenKind::Number | TokenKind::Parameter(_) => self.value(token),
            TokenKind::Symbol(symbol) => self.symbol(symbol, token),
        }
        self.before = Some(token);
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Nothing of before counts for what comes, but for the brackets around it.
    fn reset(&mut self) {
        let frame = self.frame();
        let positional =
            frame.positions.as_ref().and_then(|(marks, index)| marks.get(*index).cloned().flatten());
        self.context = positional.or_else(|| self.frame().base.clone());
        self.name = None;
        self.literal = None;
    }

    fn word(&mut self, token: Token) {
        let mut upper = [0; 16];
        let word = &self.text.as_bytes()[token.start..token.end];
        let keyword = match upper.get_mut(..word.len()) {
            Some(upper) => {
                upper.copy_from_slice(word);
                upper.make_ascii_uppercase();
                std::str::from_utf8(upper).unwrap_or("")
            }
            None => "",
        };
        // After a dot it is a name whatever it says.
        if self.before.is_some_and(|before| before.kind == TokenKind::Symbol(b'.')) {
            return self.named(token);
        }
        match keyword {
            "AND" if self.between => self.between = false,
            "BETWEEN" => {
                self.between = true;
                self.operated();
            }
            "FROM" if self.distinct => self.operated(),
            "LIKE" | "ILIKE" | "SIMILAR" | "TO" | "IN" | "IS" | "NOT" | "ANY" | "ALL" | "SOME" | "ARRAY"
            | "ROW" | "DISTINCT" | "ESCAPE" | "DEFAULT" => self.operated(),
            "IDENTIFIED" => self.context = Some(Treatment::Mask(Mark::redact("password"))),
            "BY" | "AS" | "WITH" | "AUTHORIZATION" => {}
            "INSERT" | "REPLACE" => {
                self.reset();
                self.insert = true;
            }
            "COPY" => {
                self.reset();
                self.insert = true;
                self.copy = true;
            }
            "INTO" => self.name = None,
            "VALUES" => {
                self.insert = false;
                self.values = self.insert_columns.clone();
                self.reset();
            }
            "SELECT" => {
                (self.insert, self.copy) = (false, false);
                let columns = self.insert_columns.take();
                self.frame().positions = columns.map(|marks| (marks, 0));
                self.reset();
            }
            "FROM" | "WHERE" | "SET" | "RETURNING" | "GROUP" | "ORDER" | "HAVING" | "ON" | "UNION"
            | "LIMIT" => {
                self.frame().positions = None;
                if matches!(keyword, "SET" | "RETURNING" | "ON") {
                    self.values = None;
                }
                self.reset();
            }
            "AND" | "OR" | "WHEN" | "THEN" | "ELSE" | "END" | "CASE" | "USING" => self.reset(),
            _ => self.named(token),
        }
        self.distinct = keyword == "DISTINCT";
    }

    /// After an operator the name before it says what comes.
    fn operated(&mut self) {
        if let Some(told) = self.name.take().map(|name| self.column(name)) {
            let base = self.frame().base.clone();
            // A secret's place is one whatever the name in it says.
            self.context = match (told, base) {
                (Some(Treatment::Look(_)), Some(base @ Treatment::Mask(_))) => Some(base),
                (told, base) => told.or(base),
            };
        }
    }

    fn column(&self, (start, end): (usize, usize)) -> Option<Treatment> {
        let name = &self.text[start..end];
        let look = || Some(table::kinds_named(name)).filter(|kinds| !kinds.is_empty()).map(Treatment::Look);
        self.policy.column(name).map(Treatment::Mask).or_else(look)
    }

    fn named(&mut self, token: Token) {
        if std::mem::take(&mut self.cast) {
            // A type: it does not name the value.
            return;
        }
        self.operator = None;
        let mark = self.column(token.inner);
        if let (Some(literal), Some(told)) = (self.literal.take(), &mark) {
            self.treat(literal, told.clone());
        }
        self.name = Some(token.inner);
        let dotted = self.before.is_some_and(|before| before.kind == TokenKind::Symbol(b'.'));
        if let Some(names) = &mut self.frame().names {
            if dotted {
                names.pop();
            }
            names.push(mark);
        }
    }

    fn value(&mut self, token: Token) {
        let operator = self.operator.take().map_or("", |(start, end)| &self.text[start..end]);
        self.frame().names = None;
        self.cast = false;
        if matches!(operator, "->" | "->>" | "#>" | "#>>") && matches!(token.kind, TokenKind::String(_)) {
            self.inside(token);
            self.name = Some(token.inner);
            return;
        }
        // `PASSWORD 'x'`: the word right before names it.
        let adjacent = match self.before {
            Some(before) if matches!(before.kind, TokenKind::Word | TokenKind::QuotedName) => {
                self.name.filter(|name| *name == before.inner).and_then(|name| self.column(name))
            }
            _ => None,
        };
        let set_config = self.frame().set_config;
        match adjacent.or_else(|| self.context.clone()) {
            Some(told) => self.treat(token, told),
            None if set_config => {
                let name = self.column(token.inner);
                self.frame().base = name;
                self.frame().set_config = false;
                self.inside(token);
            }
            None => self.inside(token),
        }
        self.literal = Some(token);
        self.name = None;
    }

    fn treat(&mut self, token: Token, told: Treatment) {
        match (told, token.kind) {
            (told, TokenKind::Parameter(number)) => {
                if self.apart.parameters.len() < PARAMETERS_MAX {
                    self.apart.parameters.insert(number, told);
                }
            }
            (Treatment::Mask(mark), _) => self.mask(token, mark),
            (Treatment::Look(kinds), _) => self.look(token, Place::named(kinds)),
        }
    }

    /// A value that nothing says anything about: its content decides.
    fn inside(&mut self, token: Token) {
        self.look(token, Place::TEXT);
    }

    fn look(&mut self, token: Token, place: Place<'_>) {
        let (start, end) = token.inner;
        let literal = matches!(token.kind, TokenKind::String(_) | TokenKind::Number);
        if literal && self.policy.literals == Literals::All {
            return self.mask(token, Mark::redact("literal"));
        }
        let inner = &self.text.as_bytes()[start..end];
        let view = match token.kind {
            TokenKind::String(Quoting::Plain) => view::doubled(inner, b'\''),
            TokenKind::String(Quoting::Escapes) => view::backslash(inner),
            TokenKind::String(Quoting::Unicode) => view::sql_unicode(inner),
            TokenKind::String(Quoting::Dollar) | TokenKind::Comment => view::plain(inner),
            // Without a name it was looked at with the whole statement.
            TokenKind::Number if place != Place::TEXT => view::plain(inner),
            _ => return,
        };
        self.policy.find_decoded(&view, start, place, &mut self.spans);
    }

    /// The whole value is masked.
    fn mask(&mut self, token: Token, mark: Mark) {
        let (start, mut end) = token.inner;
        let inner = &self.text.as_bytes()[start..end];
        let slashes = inner.iter().rev().take_while(|&&byte| byte == b'\\').count();
        if token.kind == TokenKind::String(Quoting::Plain) && slashes % 2 == 1 {
            // With standard_conforming_strings off this quote is escaped, and nobody here knows where it ends.
            end = self.text.len();
        }
        self.spans.push(Span::new(start, end, mark));
    }
}
