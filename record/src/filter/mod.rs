//! The one filter language, the same in tail, search and decode, on the command line and at the sink:
//! `db.response.status_code =~ "^57" and duration > 500ms`.
//!
//! ```text
//! filter     = and ("or" and)*            and = not ("and" not)*          not = "not" not | term
//! term       = "(" filter ")" | "has" "(" field ")" | "error" | "open" | field operator value
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~"
//! value      = word | 'text' | "text"     words: true, 57014, 1.5, 500ms, 64KiB, psql, /usr/bin/psql, 10.2.0.9
//! ```
//! A comparison with a field that is not there is false, `!=` too; `not` turns that round. Of a list, one
//! element that matches is enough, but `!=` and `!~` want all. Filters come from the network: length, depth,
//! number of terms and size of patterns are bounded, and patterns run in time linear in the text.

mod error;
mod field;
mod lexer;
mod need;
mod parser;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex_automata::meta::Regex;

pub use error::FilterError;
pub use field::all as fields;
use field::{Field, Scalar};

use crate::View;
use crate::search::Need;

/// Longest filter, bytes.
pub const SOURCE_BYTES_MAX: usize = 8 * 1024;
/// Most terms in one filter.
pub const TERMS_MAX: usize = 256;
/// Deepest nesting of parentheses and `not`.
pub const DEPTH_MAX: usize = 32;
/// Most patterns in one filter.
pub const PATTERNS_MAX: usize = 16;
/// Longest pattern, bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// A filter that was understood.
#[derive(Clone, Debug)]
pub struct Filter {
    source: String,
    root: Node,
}

impl Filter {
    /// Whether this entry is wanted.
    pub fn matches(&self, view: &View) -> bool {
        self.root.matches(view)
    }

    /// Whether entries of this host can match at all; only the view's host and labels are looked at.
    pub fn admits_host(&self, view: &View) -> bool {
        self.root.of_host(view) != Some(false)
    }

    /// Words without which no entry matches; `None` when there are none that are sure.
    pub fn need(&self) -> Option<Need> {
        self.root.need()
    }

    /// The text that it was made from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it speaks of the field of this name (`type`, say) anywhere.
    pub fn mentions(&self, field: &str) -> bool {
        self.root.mentions(field)
    }
}

impl FromStr for Filter {
    type Err = FilterError;
    fn from_str(source: &str) -> Result<Self, FilterError> {
        let root = parser::parse(source)?;
        Ok(Filter { source: source.to_owned(), root })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Text as a quoted value of a filter.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[derive(Clone, Debug)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Has(Field),
    Error,
    Open,
    Compare { field: Field, operator: Operator, literal: Literal },
    Pattern { field: Field, regex: Box<Regex>, wanted: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// What a field is compared with. A word that is a number is kept as text too: `status = 57014` must find the
/// text "57014".
#[derive(Clone, Debug, PartialEq)]
struct Literal {
    text: String,
    number: Option<f64>,
    integer: Option<i128>,
}

impl Node {
    fn matches(&self, view: &View) -> bool {
        match self {
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(view)),
            Node::And(nodes) => nodes.iter().all(|node| node.matches(view)),
            Node::Not(node) => !node.matches(view),
            Node::Has(field) => field.values(view, &mut |_| true).present,
            Node::Error => view.is_error(),
            Node::Open => matches!(view.entry_type.as_str(), "exchange.open" | "session.open"),
            Node::Compare { field, operator: Operator::NotEqual, literal } => {
                let found = field.values(view, &mut |value| literal.equals(&value, field));
                found.present && !found.matched
            }
            Node::Compare { field, operator, literal } => {
                field.values(view, &mut |value| literal.compares(&value, *operator, field)).matched
            }
            Node::Pattern { field, regex, wanted } => {
                let found = field.values(view, &mut |value| regex.is_match(value.text().as_bytes()));
                found.present && found.matched == *wanted
            }
        }
    }

    /// What is sure of all entries of a host; `None` when it depends on the entry.
    fn of_host(&self, view: &View) -> Option<bool> {
        match self {
            Node::Or(nodes) => decided(nodes, view, true),
            Node::And(nodes) => decided(nodes, view, false),
            Node::Not(node) => node.of_host(view).map(|sure| !sure),
            Node::Has(field) | Node::Compare { field, .. } | Node::Pattern { field, .. } => {
                field.is_of_host().then(|| self.matches(view))
            }
            Node::Error | Node::Open => None,
        }
    }

    fn mentions(&self, name: &str) -> bool {
        match self {
            Node::Or(nodes) | Node::And(nodes) => nodes.iter().any(|node| node.mentions(name)),
            Node::Not(node) => node.mentions(name),
            Node::Has(field) | Node::Compare { field, .. } | Node::Pattern { field, .. } => {
                field.is_named(name)
            }
            Node::Error => false,
            Node::Open => name == "type",
        }
    }
}

/// One node that is `by` decides; all of them the other way decide, too.
fn decided(nodes: &[Node], view: &View, by: bool) -> Option<bool> {
    let sure: Vec<Option<bool>> = nodes.iter().map(|node| node.of_host(view)).collect();
    if sure.contains(&Some(by)) { Some(by) } else { sure.iter().all(|one| *one == Some(!by)).then_some(!by) }
}

impl Literal {
    fn equals(&self, value: &Scalar<'_>, field: &Field) -> bool {
        if field.is_prefix() {
            return value.text().starts_with(&self.text);
        }
        self.order(value) == Some(Ordering::Equal)
    }

    fn compares(&self, value: &Scalar<'_>, operator: Operator, field: &Field) -> bool {
        match operator {
            Operator::Equal => self.equals(value, field),
            Operator::NotEqual => !self.equals(value, field),
            Operator::Less => self.order(value) == Some(Ordering::Less),
            Operator::Greater => self.order(value) == Some(Ordering::Greater),
            Operator::LessEqual => matches!(self.order(value), Some(Ordering::Less | Ordering::Equal)),
            Operator::GreaterEqual => matches!(self.order(value), Some(Ordering::Greater | Ordering::Equal)),
        }
    }

    /// How the value stands to this literal; `None` when the two cannot be compared.
    fn order(&self, value: &Scalar<'_>) -> Option<Ordering> {
        match value {
            Scalar::Integer(integer) => match self.integer {
                Some(own) => Some(integer.cmp(&own)),
                None => (*integer as f64).partial_cmp(&self.number?),
            },
            Scalar::Float(float) => float.partial_cmp(&self.number?),
            Scalar::Flag(flag) => (*flag == (self.text == "true") && matches!(&*self.text, "true" | "false"))
                .then_some(Ordering::Equal),
            Scalar::Text(text) => match (self.integer, text.parse::<i128>()) {
                // "00" as a SQLSTATE class is text and must not equal "0".
                (Some(own), Ok(number)) if !self.text.starts_with('0') && !text.starts_with('0') => {
                    Some(number.cmp(&own))
                }
                _ => Some(text.as_ref().cmp(&self.text)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
