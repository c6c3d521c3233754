//! Which words an entry must have for a filter to match, so that an index of words can choose entries before they
//! are read. Says nothing rather than too much: what it leaves out is only read in vain.

use super::field::{Derived, Field};
use super::{Literal, Node, Operator};
use crate::search::{Need, is_count, words};

impl Node {
    /// `None` when nothing is sure.
    pub(super) fn need(&self) -> Option<Need> {
        match self {
            Node::And(nodes) => {
                let needs: Vec<Need> = nodes.iter().filter_map(Node::need).collect();
                (!needs.is_empty()).then_some(Need::All(needs))
            }
            Node::Or(nodes) => nodes.iter().map(Node::need).collect::<Option<Vec<_>>>().map(Need::Any),
            Node::Compare { field, operator: Operator::Equal, literal } => literal.need(field),
            Node::Not(_)
            | Node::Has(_)
            | Node::Error
            | Node::Open
            | Node::Compare { .. }
            | Node::Pattern { .. } => None,
        }
    }
}

impl Literal {
    fn need(&self, field: &Field) -> Option<Need> {
        match field {
            Field::Label(_) | Field::Kind(_) => return None,
            // Numbers of the header, and counts: they are no words.
            Field::Derived(Derived::Exchange | Derived::Epoch | Derived::Seq | Derived::Duration) => {
                return None;
            }
            Field::Record(name) if is_count(name) => return None,
            Field::Derived(Derived::Session) => {
                let is_word = self.text.len() >= 2 && self.text.bytes().all(|b| b.is_ascii_alphanumeric());
                return is_word.then(|| Need::Prefix(self.text.to_ascii_lowercase()));
            }
            Field::Derived(_) | Field::Record(_) => {}
        }
        // 500ms and 1.5e3 stand as other digits where they are found.
        let digits = self.text.len() <= 15 && self.text.bytes().all(|byte| byte.is_ascii_digit());
        if self.number.is_some() && !(digits && (self.text == "0" || !self.text.starts_with('0'))) {
            return None;
        }
        let mut needs = Vec::new();
        words(&self.text, |word| needs.push(Need::Word(word.to_owned())));
        (!needs.is_empty()).then_some(Need::All(needs))
    }
}
