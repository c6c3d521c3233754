//! What a reply tells: its type, its values each with the class that the command gives them, or the error.

use std::borrow::Cow;

use custody_record::{Value, names};

use super::command::{Plan, value};
use super::table::Holds;
use super::tree::{Node, Tree};
use crate::item::{Class, Field, text};
use crate::protocol::Outcome;

/// Fields of a hash that are told apart; values of more are counted.
const PLACES_MAX: usize = 64;
/// Longest name of one that is told, bytes.
const PLACE_BYTES_MAX: usize = 256;
/// What an error of the server repeats of a command follows these words: it may be a value.
const REPEATED: &str = "with args beginning with:";

/// Type of a value, as it is told.
pub(super) fn type_name(kind: u8) -> &'static str {
    match kind {
        b'+' => "string",
        b'-' => "error",
        b':' => "integer",
        b'$' => "bulk",
        b'*' => "array",
        b'#' => "boolean",
        b',' => "double",
        b'(' => "big_number",
        b'!' => "bulk_error",
        b'=' => "verbatim",
        b'%' => "map",
        b'~' => "set",
        b'>' => "push",
        b'|' => "attribute",
        _ => "null",
    }
}

/// One reply, or one of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(super) tree: &'a Tree,
    /// Where it stands among the values.
    at: usize,
}

/// What it tells.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) fields: Vec<Field>,
}

impl<'a> Reply<'a> {
    /// The reply as a whole; attributes may stand before it.
    pub(super) fn of(tree: &'a Tree) -> Self {
        let at = tree.nodes().iter().position(|node| !node.attribute).unwrap_or(0);
        Reply { tree, at }
    }

    pub(super) fn node(&self) -> &'a Node {
        const NOTHING: Node = Node::nothing();
        self.tree.nodes().get(self.at).unwrap_or(&NOTHING)
    }

    pub(super) fn kind(&self) -> u8 {
        self.node().kind
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.tree.bytes(self.node())
    }

    pub(super) fn is_aggregate(&self) -> bool {
        matches!(self.kind(), b'*' | b'%' | b'~' | b'>')
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self.kind(), b'-' | b'!')
    }

    /// The values right below, those that are kept.
    pub(super) fn children(self) -> impl Iterator<Item = Reply<'a>> {
        let depth = self.node().depth;
        let below = self.tree.nodes().get(self.at + 1..).unwrap_or_default();
        let below = below.iter().enumerate().take_while(move |(_, node)| node.depth > depth);
        below
            .filter(move |(_, node)| node.depth == depth + 1 && !node.attribute)
            .map(move |(index, _)| Reply { tree: self.tree, at: self.at + 1 + index })
    }

    /// The value, and how many bytes of it are not kept.
    pub(super) fn value(self) -> (Option<Value>, u64) {
        let (mut at, mut cut) = (self.at, 0);
        (build(self.tree, &mut at, &mut cut, false), cut)
    }

    fn value_field(self, name: impl Into<Cow<'static, str>>, class: Class) -> Option<Field> {
        let (value, cut) = self.value();
        value.map(|value| Field::new(name, value, class).cut_by(cut))
    }

    /// What it tells of a command with this plan. When it is not certain that it belongs to it, no value is shown.
    pub(super) fn answer(self, plan: &Plan, certain: bool) -> Answer {
        let mut fields = Vec::with_capacity(4);
        fields.push(Field::structure(names::REDIS_REPLY_TYPE, type_name(self.kind())));
        if self.is_error() {
            self.error(plan.guarded || !certain, &mut fields);
            return Answer { outcome: Outcome::Error, fields };
        }
        if self.is_aggregate() {
            let each = if self.kind() == b'%' { 2 } else { 1 };
            fields.push(Field::structure(names::DB_RETURNED_ROWS, self.node().elements / each));
        }
        let holds = plan.holds.unwrap_or(Holds::Opaque);
        match holds {
            _ if !certain => fields.extend(self.value_field(names::REDIS_REPLY, self.class(plan, false))),
            Holds::Keys if self.is_aggregate() => self.by_place(plan, true, &mut fields),
            Holds::Fields if self.is_aggregate() => self.by_place(plan, false, &mut fields),
            Holds::Pairs if self.is_aggregate() => self.pairs(plan, &mut fields),
            _ => fields.extend(self.value_field(names::REDIS_REPLY, self.class(plan, true))),
        }
        let attributes = self.tree.nodes()[..self.at].first().filter(|node| node.attribute);
        if attributes.is_some() {
            let class = self.class(plan, certain);
            fields.extend(Reply { tree: self.tree, at: 0 }.attributes(class));
        }
        Answer { outcome: Outcome::Ok, fields }
    }

    fn attributes(self, class: Class) -> Option<Field> {
        let (mut at, mut cut) = (self.at, 0);
        let value = build(self.tree, &mut at, &mut cut, true)?;
        Some(Field::new(names::REDIS_ATTRIBUTES, value, class).cut_by(cut))
    }

    /// Error: its first word is its code. Of a guarded one only what stands before a quotation is told.
    fn error(self, guarded: bool, fields: &mut Vec<Field>) {
        let line = self.bytes();
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let code = &line[..end];
        let is_code = (1..=64).contains(&code.len())
            && code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
        if is_code {
            fields.push(Field::structure(names::ERROR_TYPE, text(code)));
            fields.push(Field::structure(names::DB_RESPONSE_STATUS, text(code)));
        }
        let mut message = text(line);
        let end =
            if guarded { message.find('\'') } else { message.find(REPEATED).map(|at| at + REPEATED.len()) };
        message.truncate(end.unwrap_or(message.len()));
        fields.push(Field::new(names::ERROR_MESSAGE, message, Class::Text).cut_by(self.node().cut));
    }

    fn class(self, plan: &Plan, certain: bool) -> Class {
        if self.kind() == b'+' {
            let known = matches!(self.bytes(), b"OK" | b"PONG" | b"QUEUED" | b"RESET");
            return if known { Class::Structure } else { Class::Text };
        }
        if !certain {
            return Class::Opaque;
        }
        match plan.holds {
            Some(Holds::Fields) => {
                let field = plan.places.first().cloned().unwrap_or_default();
                Class::Keyed { key: plan.key.clone(), field }
            }
            Some(Holds::Value | Holds::Keys | Holds::Pairs) if plan.key.is_empty() => Class::Text,
            Some(Holds::Value | Holds::Keys | Holds::Pairs) => keyed(plan, ""),
            Some(Holds::Text) => Class::Text,
            Some(Holds::Secret) => Class::Secret("credential"),
            Some(Holds::Opaque) | None => Class::Opaque,
        }
    }

    /// Each value under the key or field that was asked for at its place.
    fn by_place(self, plan: &Plan, keys: bool, fields: &mut Vec<Field>) {
        let mut cut = self.node().elements.saturating_sub(plan.places.len() as u64);
        for (number, (reply, place)) in self.children().zip(&plan.places).enumerate() {
            let (name, class) = if keys {
                (
                    format!("{}{}", names::REDIS_REPLY_VALUE, number + 1),
                    Class::Keyed { key: place.clone(), field: String::new() },
                )
            } else {
                (format!("{}{place}", names::REDIS_REPLY_VALUE), keyed(plan, place))
            };
            if place.len() > PLACE_BYTES_MAX {
                cut += 1;
                continue;
            }
            fields.extend(reply.value_field(name, class));
        }
        if cut > 0 {
            fields.push(Field::structure(names::DB_ROWS_CUT, cut));
        }
    }

    /// Fields with their values wherever they stand in it; of what else is there, a list.
    fn pairs(self, plan: &Plan, fields: &mut Vec<Field>) {
        let mut found = Pairs::default();
        found.walk(self, true);
        let setting = plan.key.is_empty();
        for (place, values, cut) in found.places {
            let class =
                if setting { super::special::class_of_setting(place.clone()) } else { keyed(plan, &place) };
            let value = match <[Option<Value>; 1]>::try_from(values) {
                Ok([one]) => one,
                Err(several) => Some(Value::List(several)),
            };
            let name = format!("{}{place}", names::REDIS_REPLY_VALUE);
            fields.extend(value.map(|value| Field::new(name, value, class).cut_by(cut)));
        }
        if !found.others.is_empty() {
            fields.push(Field::new(names::REDIS_REPLY, Value::List(found.others), Class::Text));
        }
        if found.cut > 0 {
            fields.push(Field::structure(names::DB_ROWS_CUT, found.cut));
        }
    }
}

fn keyed(plan: &Plan, field: &str) -> Class {
    Class::Keyed { key: plan.key.clone(), field: field.to_owned() }
}

/// Fields and values in turns, found in a reply.
#[derive(Default)]
struct Pairs {
    places: Vec<(String, Vec<Option<Value>>, u64)>,
    /// Ids, cursors, names of keys.
    others: Vec<Option<Value>>,
    cut: u64,
}

impl Pairs {
    /// `may_pair`: where it stands, values in turns with fields may stand.
    fn walk(&mut self, reply: Reply<'_>, may_pair: bool) {
        let children: Vec<Reply<'_>> = reply.children().collect();
        let leaves = children.iter().filter(|child| !child.is_aggregate()).count();
        let kept = children.len() as u64 == reply.node().elements;
        if leaves == children.len() && may_pair && (children.len().is_multiple_of(2) || !kept) {
            for pair in children.chunks_exact(2) {
                self.pair(pair[0], pair[1]);
            }
            return;
        }
        // An entry of a stream is its id with its fields, a scan is its cursor with them.
        let entry = children.len() == 2 && leaves == 1 && !children[0].is_aggregate();
        for child in children {
            if child.is_aggregate() {
                self.walk(child, entry || leaves == 0);
            } else {
                self.others.push(child.value().0);
            }
        }
    }

    fn pair(&mut self, field: Reply<'_>, value: Reply<'_>) {
        let place = text(field.bytes());
        let (value, cut) = value.value();
        if let Some(known) = self.places.iter_mut().find(|known| known.0 == place) {
            known.1.push(value);
            known.2 += cut;
        } else if self.places.len() < PLACES_MAX && place.len() <= PLACE_BYTES_MAX && field.node().cut == 0 {
            self.places.push((place, vec![value], cut));
        } else {
            self.cut += 1;
        }
    }
}

/// The value at this place; afterwards `at` is the one behind it. Recursion is as deep as a tree is.
fn build(tree: &Tree, at: &mut usize, cut: &mut u64, attributes: bool) -> Option<Value> {
    let node = tree.nodes().get(*at)?;
    *at += 1;
    *cut = cut.saturating_add(node.cut);
    let bytes = tree.bytes(node);
    let word = || std::str::from_utf8(bytes).unwrap_or_default();
    Some(match node.kind {
        b'*' | b'%' | b'~' | b'>' | b'|' => {
            let mut items = Vec::new();
            while let Some(below) = tree.nodes().get(*at).filter(|below| below.depth > node.depth) {
                let skipped = below.attribute && !attributes;
                let item = build(tree, at, cut, attributes);
                if !skipped {
                    items.push(item);
                }
            }
            Value::List(items)
        }
        b'_' => return None,
        b':' => match word().parse::<i64>() {
            Ok(number) if number >= 0 => Value::Unsigned(number.unsigned_abs()),
            Ok(number) => Value::Signed(number),
            Err(_) => Value::Text(text(bytes)),
        },
        b'#' => Value::Bool(bytes == b"t"),
        b',' => match word().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => Value::Text(text(bytes)),
        },
        // Three letters say what it is, and a colon.
        b'=' => value(bytes.get(4..).unwrap_or_default()),
        _ => value(bytes),
    })
}
