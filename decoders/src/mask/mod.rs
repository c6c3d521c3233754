//! Masking: between decoding and the chain, and the only constructor of [`Masked`].
//!
//! It knows classes ([`crate::item::Class`]) and syntaxes, never protocols. Deterministic: the same draft and
//! the same rules give the same record. In flow order: [`rules`] (what operators say) → `policy` (the same,
//! compiled) → one module per syntax, which say what is to be masked (`sql`, `json`, `body`, `pairs`,
//! `arguments`) with `secret` (by name) and `recognise` (by looks) → `span` (the text with masks) → `mark`
//! (how a mask looks) → `field` (values of all kinds) → `report` (what was done) → [`link`] (the way to the
//! agent).

mod arguments;
mod body;
mod coded;
mod field;
mod json;
pub mod link;
mod mark;
mod memory;
mod pairs;
mod policy;
mod recognise;
mod report;
pub mod rules;
mod secret;
mod span;
mod sql;
mod sql_lexer;
mod view;
mod xml;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use custody_record::{Fields, Kind, Record, Times, Value, names};

pub use self::mark::Action;
use self::policy::Policy;
use self::recognise::Place;
use self::report::Report;
pub use self::rules::{MaskError, MaskRules};
use crate::item::{Class, Field, Name, Rows};

/// Changes whenever the same rules may mask differently; stands in the CONFIG entry beside the rules' hash.
pub const MASKER_VERSION: u32 = 2;
/// Most entries of a record's list of masked fields.
pub const MASKED_FIELDS_MAX: usize = 64;
/// Most bytes of values in one record; what goes beyond is dropped, field by field and row by row.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// A value that went through masking. Nothing else can become an entry: the constructor is private to this
/// module.
///
/// ```compile_fail,E0423
/// let record = custody_decoders::mask::Masked("not masked");
/// ```
/// ```compile_fail,E0624
/// let record = custody_decoders::mask::Masked::new("not masked");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// The one constructor: for [`Masker::mask`], and for [`link::WorkerReader::decode`] on the other side of the socket.
    fn new(value: T) -> Self {
        Masked(value)
    }
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }
    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// A record before masking.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What kind of fact.
    pub kind: Kind,
    /// The session's number.
    pub session: Option<u64>,
    /// The exchange's number.
    pub exchange: Option<u64>,
    /// When.
    pub times: Times,
    /// Fields with their classes.
    pub fields: Vec<Field>,
    /// Rows of the answer.
    pub rows: Option<Rows>,
    /// Codes of what was odd.
    pub anomalies: Vec<Cow<'static, str>>,
}

/// The masking stage with its rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Masker {
    policy: Arc<Policy>,
    hash: [u8; 32],
}

impl Default for Masker {
    fn default() -> Self {
        Masker::new(MaskRules::default()).expect("the default rules are valid, and a test says so")
    }
}

impl Masker {
    /// The stage for these rules.
    pub fn new(rules: MaskRules) -> Result<Self, MaskError> {
        rules.check()?;
        let policy = Policy::new(&rules).map_err(|_| MaskError::Recognisers)?;
        // Fields are written in the order of the structs, so the same rules give the same bytes.
        let text = rmp_serde::to_vec_named(&(MASKER_VERSION, &rules)).map_err(|_| MaskError::Recognisers)?;
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &text).as_ref());
        Ok(Masker { policy: Arc::new(policy), hash })
    }

    /// SHA-256 over the rules and the masker's version: which masking a record went through.
    pub fn rules_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Masks one draft. Deterministic; what fails is dropped whole, and that is recorded.
    pub fn mask(&self, draft: Draft) -> Masked<Record> {
        let mut report = Report::default();
        let mut fields = Vec::with_capacity(draft.fields.len() + 2);
        // Statements first: they tell the columns that values apart from them meet.
        let mut found = draft.fields;
        let is_statement = |field: &Field| matches!(field.class, Class::Statement(_));
        if let Some(last) = found.iter().rposition(is_statement) {
            found[..=last].sort_by_key(|field| !is_statement(field));
        }
        let mut apart = sql::Apart::default();
        for field in found {
            let name = self.field_name(field.name, &mut report);
            let masked = guarded(|| {
                field::Masking { policy: &self.policy, path: &name, cut: field.cut > 0, report: &mut report }
                    .value(field.value, &field.class, &mut apart)
            });
            match masked {
                Some(value) => fields.push((name, value)),
                None => report.failed(name),
            }
        }
        if let Some(rows) = draft.rows {
            match guarded(|| self.rows(rows, &mut report)) {
                Some((columns, rows)) => {
                    fields.push((names::DB_COLUMNS.into(), columns));
                    fields.push((names::DB_ROWS.into(), rows));
                }
                None => report.failed(names::DB_ROWS.into()),
            }
        }
        let mut anomalies = draft.anomalies;
        anomalies.extend(report.anomalies().map(Cow::Borrowed));
        let (masked, kinds) = report.into_parts();
        Masked::new(Record {
            kind: draft.kind,
            session: draft.session,
            exchange: draft.exchange,
            times: draft.times,
            fields: Fields::merged(fields, keep_both),
            masked,
            kinds,
            anomalies,
        })
    }

    /// A name that came with the payload (a header's) is payload, behind the prefix that the schema gives it.
    fn field_name(&self, name: Name, report: &mut Report) -> Name {
        let Cow::Owned(name) = name else { return name };
        if self.policy.harmless_fields.recall("", &name).is_some() {
            return Cow::Owned(name);
        }
        let prefix =
            PREFIXES.iter().filter(|known| name.starts_with(**known)).max_by_key(|known| known.len());
        let (prefix, text) = name.split_at(prefix.map_or(0, |prefix| prefix.len()));
        let masked = guarded(|| {
            let mut spans = Vec::new();
            self.policy.find(text.as_bytes(), Place::TEXT, &mut spans);
            span::changes(text, &spans, false)
                .then(|| span::apply(text, spans, false, |mark| report.found(prefix, mark)))
        });
        let masked = masked.unwrap_or_else(|| Some(mark::dropped("name", text.len())));
        match masked {
            Some(masked) => Cow::Owned(prefix.to_owned() + &masked),
            None => {
                self.policy.harmless_fields.keep("", &name, ());
                Cow::Owned(name)
            }
        }
    }

    /// Column names, and rows of cells.
    fn rows(&self, rows: Rows, report: &mut Report) -> (Value, Value) {
        let places = rows.columns.clone();
        let marks: Vec<_> = rows.columns.iter().map(|column| self.policy.column(column)).collect();
        let mut masking =
            field::Masking { policy: &self.policy, path: names::DB_COLUMNS, cut: false, report };
        let columns: Vec<Option<Value>> = rows
            .columns
            .into_iter()
            .map(|column| {
                Some(masking.leaf(Value::Text(column), &|policy, text, spans| {
                    policy.find(text.as_bytes(), Place::TEXT, spans);
                }))
            })
            .collect();
        let paths: Vec<String> = columns
            .iter()
            .map(|column| match column {
                Some(Value::Text(name)) => format!("{}.{name}", names::DB_ROWS),
                _ => names::DB_ROWS.to_owned(),
            })
            .collect();
        let mut kept = Vec::with_capacity(rows.rows.len());
        for row in rows.rows {
            if report.is_full() {
                break;
            }
            let cells = row.into_iter().enumerate().map(|(index, cell)| {
                let path = paths.get(index).map_or(names::DB_ROWS, String::as_str);
                let mut masking =
                    field::Masking { policy: &self.policy, path, cut: false, report: &mut *report };
                let mark = marks.get(index).and_then(Option::as_ref);
                cell.map(|cell| {
                    masking.cell(cell, mark, places.get(index).map_or(Place::TEXT, |name| Place::of(name)))
                })
            });
            kept.push(Some(Value::List(cells.collect())));
        }
        (Value::List(columns), Value::List(kept))
    }
}

/// Names of the schema that are prefixes of names which come with the payload.
static PREFIXES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| names::ALL.iter().map(|(name, _)| *name).filter(|name| name.ends_with('.')).collect());

/// What `work` gives, or `None` when it panics: masking must not take the worker down, and a value that could
/// not be masked must not go on.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// A name that comes twice (a repeated header) keeps both values, in order.
fn keep_both(first: &mut Value, value: Value) {
    match first {
        Value::List(values) => values.push(Some(value)),
        first => {
            let before = std::mem::replace(first, Value::Bool(false));
            *first = Value::List(vec![Some(before), Some(value)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rules_are_valid_and_their_hash_says_which_they_are() {
        let rules = MaskRules { literals: rules::Literals::All, ..MaskRules::default() };
        let other = Masker::new(rules.clone()).unwrap();
        assert_eq!(Masker::default().rules_hash(), Masker::default().rules_hash());
        assert_ne!(Masker::default().rules_hash(), other.rules_hash());
        assert_eq!(Masker::new(rules).unwrap().rules_hash(), other.rules_hash());
    }

    #[test]
    fn a_panic_while_masking_drops_the_field_and_says_so() {
        assert_eq!(guarded(|| -> u8 { panic!("a test's own panic") }), None);
        let mut report = Report::default();
        report.failed("x".into());
        assert_eq!(report.anomalies().collect::<Vec<_>>(), [crate::anomaly::MASK_FAILED]);
        let (masked, _) = report.into_parts();
        assert_eq!((masked[0].path.as_ref(), masked[0].action.as_ref()), ("x", "drop"));
    }
}
