//! What a command says: its line with keys and without values, each value with its class, what its reply will hold, and
//! what it does to the connection.

use std::borrow::Cow;

use custody_record::{Value, names};

use super::special;
use super::table::{self, Command, Holds};
use super::tree::{Node, Tree};
use super::words;
use crate::item::{Class, Field, text};

/// Longest command line that is shown, bytes; of a longer one, its beginning.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Values that are told one by one.
const PARAMETERS_MAX: usize = 64;
/// Longest name of a command that is told, bytes.
const NAME_SHOWN_MAX: usize = 128;
/// Most keys or fields whose places in a reply are remembered.
const PLACES_MAX: usize = 64;

/// Names of the first parameters, so that they need not be made each time.
const PARAMETERS: [&str; 8] = [
    "db.query.parameter.1",
    "db.query.parameter.2",
    "db.query.parameter.3",
    "db.query.parameter.4",
    "db.query.parameter.5",
    "db.query.parameter.6",
    "db.query.parameter.7",
    "db.query.parameter.8",
];

/// What the reply to a command holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) holds: Option<Holds>,
    /// The key that the command is about.
    pub(super) key: String,
    /// Keys or fields, in the order of the reply's values.
    pub(super) places: Vec<String>,
    /// It holds a credential, which an error may repeat.
    pub(super) guarded: bool,
}

/// What a command does to the connection, beside what it asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Nothing.
    Plain,
    Multi,
    Exec,
    Discard,
    Reset,
    Monitor,
    /// PSYNC, SYNC: the server may go over to replication.
    Replicate,
    /// REPLCONF ACK: never replied to.
    Acknowledge,
    /// (P|S)(UN)SUBSCRIBE, with so many channels.
    Subscribe(u64),
    /// CLIENT REPLY.
    Replies(Replies),
    /// SELECT: facts of the session once it succeeds, as AUTH, HELLO and CLIENT SETNAME.
    Facts(Vec<Field>),
}

/// What CLIENT REPLY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    Skip,
}

/// A command, read.
pub(super) struct Described {
    pub(super) fields: Vec<Field>,
    pub(super) plan: Plan,
    pub(super) act: Act,
}

/// The arguments of a command, its name included.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a> {
    tree: &'a Tree,
    nodes: &'a [Node],
}

impl<'a> Arguments<'a> {
    /// Of a tree that holds a command.
    pub(super) fn of(tree: &'a Tree) -> Self {
        Arguments { tree, nodes: tree.nodes().get(1..).unwrap_or_default() }
    }
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        self.nodes.get(index).map_or(&[], |node| self.tree.bytes(node))
    }
    /// In upper case, when it is a word.
    pub(super) fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }
    pub(super) fn kept(&self) -> usize {
        self.nodes.len()
    }
    /// All, those that are not kept included.
    pub(super) fn count(&self) -> usize {
        self.nodes.len() + usize::try_from(self.tree.nodes_cut).unwrap_or(usize::MAX - self.nodes.len())
    }
}

/// Reads a command.
pub(super) fn describe(tree: &Tree) -> Described {
    let arguments = Arguments::of(tree);
    let name = arguments.get(0);
    let command = table::find(name);
    let mut line = Line::new(command, arguments);
    let special = special::roles(command, &arguments);
    let mut roles = Roles::of(if special.is_empty() { command.arguments } else { "" }, arguments.count());
    for index in 1..arguments.kept() {
        let role = match special.get(index - 1) {
            Some(role) => *role,
            None => roles.next(arguments.get(index)),
        };
        line.argument(index, role);
    }
    line.finish(command, name)
}

/// What each argument is, by the command's pattern.
struct Roles<'a> {
    before: &'a [u8],
    group: &'a [u8],
    after: &'a [u8],
    at: usize,
    in_group: usize,
    keys_left: u64,
    left: usize,
}

impl<'a> Roles<'a> {
    fn of(pattern: &'a str, count: usize) -> Self {
        let (before, rest) = pattern.split_once('(').unwrap_or((pattern, ""));
        let (group, after) = rest.split_once(')').unwrap_or((rest, ""));
        let [before, group, after] = [before, group, after].map(str::as_bytes);
        Roles { before, group, after, at: 0, in_group: 0, keys_left: 0, left: count.saturating_sub(1) }
    }

    fn next(&mut self, argument: &[u8]) -> u8 {
        self.left = self.left.saturating_sub(1);
        if self.keys_left > 0 {
            self.keys_left -= 1;
            return b'k';
        }
        if let Some(role) = self.before.get(self.at) {
            self.at += 1;
            if *role == b'#' {
                let count = std::str::from_utf8(argument).ok().and_then(|count| count.parse().ok());
                self.keys_left = count.unwrap_or(0);
            }
            return *role;
        }
        // The last ones have places of their own.
        if self.left < self.after.len() {
            return self.after[self.after.len() - 1 - self.left];
        }
        // What stands behind all that is known may be a value.
        let Some(role) = self.group.get(self.in_group) else { return b'v' };
        self.in_group = (self.in_group + 1) % self.group.len();
        *role
    }
}

/// The line as it is written, and what is told beside it.
struct Line<'a> {
    arguments: Arguments<'a>,
    text: String,
    text_cut: u64,
    fields: Vec<Field>,
    parameters: usize,
    parameters_cut: u64,
    plan: Plan,
    key: String,
    field: String,
    /// The key is not known to its end, so nothing can be said about its values.
    hidden: bool,
}

impl<'a> Line<'a> {
    fn new(command: &Command, arguments: Arguments<'a>) -> Self {
        let mut text = String::with_capacity(64);
        let name = arguments.get(0);
        words::write(&name[..name.len().min(NAME_SHOWN_MAX)], &mut text);
        Line {
            text,
            arguments,
            text_cut: name.len().saturating_sub(NAME_SHOWN_MAX) as u64,
            fields: Vec::with_capacity(6),
            parameters: 0,
            parameters_cut: 0,
            plan: Plan { holds: Some(command.holds), ..Plan::default() },
            key: String::new(),
            field: String::new(),
            hidden: false,
        }
    }

    fn argument(&mut self, index: usize, role: u8) {
        let Arguments { tree, nodes } = self.arguments;
        let node = &nodes[index];
        let bytes = tree.bytes(node);
        match role {
            b'k' => {
                self.key = text(bytes);
                self.field.clear();
                self.hidden = node.cut > 0;
                match self.plan.holds {
                    Some(Holds::Keys) => self.place(bytes),
                    _ if self.plan.key.is_empty() => self.plan.key = self.key.clone(),
                    _ => {}
                }
                self.show(bytes, node.cut);
            }
            b'f' => {
                self.field = text(bytes);
                if self.plan.holds == Some(Holds::Fields) {
                    self.place(bytes);
                }
                self.show(bytes, node.cut);
            }
            b's' | b'#' => {
                self.field = String::new();
                self.show(bytes, node.cut);
            }
            b'p' => {
                self.fields.push(Field::new(names::DB_STORED_PROCEDURE, text(bytes), Class::Identifier));
                self.show(bytes, node.cut);
            }
            b't' => {
                self.hide();
                let script = Field::new(names::REDIS_SCRIPT, text(bytes), Class::Text).cut_by(node.cut);
                self.fields.push(script);
            }
            b'x' => {
                self.plan.guarded = true;
                self.parameter(bytes, node.cut, Class::Secret("password"));
            }
            b'c' => {
                self.plan.guarded = true;
                let name = text(self.arguments.get(index - 1));
                let class = special::class_of_setting(name);
                self.parameter(bytes, node.cut, class);
            }
            _ if self.hidden => self.parameter(bytes, node.cut, Class::Opaque),
            _ => {
                let class = Class::Keyed { key: self.key.clone(), field: self.field.clone() };
                self.parameter(bytes, node.cut, class);
            }
        }
    }

    fn place(&mut self, bytes: &[u8]) {
        if self.plan.places.len() < PLACES_MAX {
            self.plan.places.push(text(bytes));
        }
    }

    fn show(&mut self, bytes: &[u8], cut: u64) {
        if self.text_cut == 0 && self.text.len() + bytes.len() < LINE_BYTES_MAX {
            self.text.push(' ');
            words::write(bytes, &mut self.text);
            self.text_cut = cut;
        } else {
            self.text_cut = self.text_cut.saturating_add(bytes.len() as u64 + cut + 1);
        }
    }

    fn hide(&mut self) {
        if self.text_cut == 0 && self.text.len() < LINE_BYTES_MAX {
            self.text.push_str(" ?");
        } else {
            self.text_cut += 2;
        }
    }

    fn parameter(&mut self, bytes: &[u8], cut: u64, class: Class) {
        self.hide();
        if self.parameters >= PARAMETERS_MAX {
            self.parameters_cut += 1;
            return;
        }
        self.parameters += 1;
        let name = match PARAMETERS.get(self.parameters - 1) {
            Some(name) => Cow::Borrowed(*name),
            None => Cow::Owned(format!("{}{}", names::DB_QUERY_PARAMETER, self.parameters)),
        };
        self.fields.push(Field::new(name, value(bytes), class).cut_by(cut));
    }

    fn finish(mut self, command: &'static Command, name: &[u8]) -> Described {
        let shown = text(&name[..name.len().min(NAME_SHOWN_MAX)]);
        let class = if command.name.is_empty() { Class::Text } else { Class::Structure };
        self.fields.push(Field::new(names::DB_OPERATION, shown, class));
        let line = Field::new(names::DB_QUERY_TEXT, self.text, Class::Text).cut_by(self.text_cut);
        self.fields.push(line);
        let cut = self.parameters_cut + self.arguments.tree.nodes_cut;
        if cut > 0 {
            self.fields.push(Field::structure(names::REDIS_ARGUMENTS_CUT, cut));
        }
        special::adjust(command, &self.arguments, &mut self.plan);
        let act = special::act(command, &self.arguments);
        Described { fields: self.fields, plan: self.plan, act }
    }
}

/// Bytes as text where they are.
pub(super) fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod command_tests {
    use super::*;

    #[test]
    fn parameters_have_the_names_of_the_schema() {
        for (index, name) in PARAMETERS.iter().enumerate() {
            assert_eq!(*name, format!("{}{}", names::DB_QUERY_PARAMETER, index + 1));
        }
    }

    #[test]
    fn roles_follow_the_pattern() {
        let roles = |pattern: &str, arguments: &[&str]| -> String {
            let mut roles = Roles::of(pattern, arguments.len() + 1);
            arguments.iter().map(|argument| char::from(roles.next(argument.as_bytes()))).collect()
        };
        assert_eq!(roles("(k)s", &["a", "b", "0"]), "kks");
        assert_eq!(roles("k(fv)", &["h", "f", "v", "f", "v"]), "kfvfv");
        assert_eq!(roles("t#(v)", &["return 1", "2", "a", "b", "c"]), "t#kkv");
        assert_eq!(roles("k", &["a", "b"]), "kv", "what is not foreseen is a value");
        assert_eq!(roles("t#(v)", &["x", "18446744073709551615", "a"]), "t#k");
    }
}
