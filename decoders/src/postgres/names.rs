//! Prepared statements and portals by their names, bounded in number and bytes.
//!
//! The client's messages change the names at once, before the server agreed; when the server refuses one, its
//! change is taken back. What fell out over a limit is unknown afterwards, never guessed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::statement::Facts;

/// Bytes of statements that one connection keeps, whatever their number.
const BYTES_MAX: usize = 4 << 20;
/// What a named thing costs besides its bytes.
const ENTRY_BYTES: usize = 256;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) binary: bool,
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its name; empty for the unnamed one.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// Why the text is not whole.
    pub(super) odd: Option<&'static str>,
    /// What the text tells without its values.
    pub(super) facts: Arc<Facts>,
    /// Types of parameters as the client gave them; 0 where it left that to the server.
    pub(super) declared_types: Vec<u32>,
    /// Types of parameters as the server told them.
    pub(super) types: OnceLock<Vec<u32>>,
    /// Columns of its answer as the server told them; formats are the portal's.
    pub(super) columns: OnceLock<Vec<Column>>,
}

impl Statement {
    /// Types of parameters, as far as anybody told them.
    pub(super) fn parameter_types(&self) -> &[u32] {
        self.types.get().unwrap_or(&self.declared_types)
    }
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Portal {
    /// Its name; empty for the unnamed one.
    pub(super) name: String,
    /// Name of the statement; empty for the unnamed one.
    pub(super) statement_name: String,
    /// What it runs; `None` when that was never seen.
    pub(super) statement: Option<Arc<Statement>>,
    /// Formats asked for the answer's columns: none, one for all, or one each.
    pub(super) result_formats: Vec<bool>,
    /// Columns of its answer as the server told them, with formats.
    pub(super) columns: OnceLock<Vec<Column>>,
    /// The values with their types, for the records of its executions.
    pub(super) values: Vec<crate::item::Field>,
    /// Why the values are not whole.
    pub(super) odd: Option<&'static str>,
}

impl Portal {
    /// Columns of its answer with their formats, as far as the server told them.
    pub(super) fn answer_columns(&self) -> Vec<Column> {
        let of_statement = || self.statement.as_ref().and_then(|statement| statement.columns.get());
        self.columns.get().or_else(of_statement).cloned().unwrap_or_default()
    }
}

/// A thing with a name, and what it costs to keep.
pub(super) trait Named {
    /// The name.
    fn name(&self) -> &str;
    /// Bytes that are held.
    fn bytes(&self) -> usize;
}

impl Named for Statement {
    fn name(&self) -> &str {
        &self.name
    }
    fn bytes(&self) -> usize {
        let columns = self.columns.get().map_or(0, |columns| columns.len() * size_of::<Column>());
        ENTRY_BYTES
            + self.name.len()
            + self.text.len()
            + self.facts.bytes()
            + columns
            + self.declared_types.len() * 8
    }
}

impl Named for Portal {
    fn name(&self) -> &str {
        &self.name
    }
    fn bytes(&self) -> usize {
        let columns = self.columns.get().map_or(0, |columns| columns.len() * size_of::<Column>());
        let values: usize = self.values.iter().map(super::value::field_bytes).sum();
        ENTRY_BYTES + self.name.len() + self.result_formats.len() + columns + values
    }
}

/// Named things in the order of their arrival.
#[derive(Debug)]
pub(super) struct Names<T> {
    by_age: BTreeMap<u64, (Arc<T>, usize)>,
    by_name: HashMap<String, u64>,
    next: u64,
    bytes: usize,
    count_max: usize,
}

impl<T: Named> Names<T> {
    pub(super) fn new(count_max: usize) -> Self {
        Names { by_age: BTreeMap::new(), by_name: HashMap::new(), next: 0, bytes: 0, count_max }
    }

    /// The thing of this name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<T>> {
        Some(self.by_age.get(self.by_name.get(name)?)?.0.clone())
    }

    /// Gives a thing its name; says what had the name before, and how many fell out over the limits.
    pub(super) fn insert(&mut self, thing: Arc<T>) -> (Option<Arc<T>>, usize) {
        let before = self.remove(thing.name());
        let bytes = thing.bytes();
        let mut forgotten = 0;
        while !self.by_age.is_empty()
            && (self.by_age.len() >= self.count_max || self.bytes + bytes > BYTES_MAX)
        {
            self.forget_oldest();
            forgotten += 1;
        }
        self.by_name.insert(thing.name().to_owned(), self.next);
        self.by_age.insert(self.next, (thing, bytes));
        self.next += 1;
        self.bytes += bytes;
        (before, forgotten)
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<T>> {
        let age = self.by_name.remove(name)?;
        let (thing, bytes) = self.by_age.remove(&age)?;
        self.bytes -= bytes;
        Some(thing)
    }

    /// The server refused `refused`: its name goes back to what it was, unless it was given anew since.
    pub(super) fn take_back(&mut self, refused: &Arc<T>, before: Option<Arc<T>>) {
        if self.find(refused.name()).is_some_and(|current| Arc::ptr_eq(&current, refused)) {
            self.remove(refused.name());
            if let Some(before) = before {
                self.insert(before);
            }
        }
    }

    /// A name that was given up by mistake is what it was, unless it was given anew since.
    pub(super) fn give_back(&mut self, thing: Arc<T>) {
        if self.find(thing.name()).is_none() {
            self.insert(thing);
        }
    }

    /// Age that the next thing will have.
    pub(super) fn age(&self) -> u64 {
        self.next
    }

    /// Forgets all that came before this age.
    pub(super) fn forget_before(&mut self, age: u64) {
        while self.by_age.first_key_value().is_some_and(|(oldest, _)| *oldest < age) {
            self.forget_oldest();
        }
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    fn forget_oldest(&mut self) {
        if let Some((_, (thing, bytes))) = self.by_age.pop_first() {
            self.by_name.remove(thing.name());
            self.bytes -= bytes;
        }
    }
}
