//! Masking: between decoding and the chain, and the only constructor of [`Masked`].
//!
//! It knows classes ([`crate::item::Class`]) and syntaxes, never protocols. Deterministic: the same draft and
//! the same rules give the same record. In flow order: [`rules`] (what operators say) → `mark` (how a mask
//! looks) → [`link`] (the way to the agent).

pub mod link;
mod mark;
pub mod rules;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use custody_record::{Kind, MaskedField, Record, Times, Value, names};

pub use self::mark::Action;
pub use self::rules::{MaskError, MaskRules};
use crate::item::{Class, Field, Name, Rows};

/// Changes whenever the same rules may mask differently; stands in the CONFIG entry beside the rules' hash.
pub const MASKER_VERSION: u32 = 1;
/// Most entries of a record's list of masked fields.
pub const MASKED_FIELDS_MAX: usize = 64;
/// Anomaly: masking of a field failed, so it was dropped whole.
pub const MASK_FAILED: &str = "mask_failed";
/// Anomaly: more fields were masked than the list of masked fields holds.
pub const MASK_LIST_CUT: &str = "mask_list_cut";

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
    /// The one constructor: for [`Masker::mask`], and for [`link::decode`] on the other side of the socket.
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
    rules: Arc<MaskRules>,
    hash: [u8; 32],
}

impl Default for Masker {
    fn default() -> Self {
        Masker::compiled(MaskRules::default())
    }
}

impl Masker {
    /// The stage for these rules.
    pub fn new(rules: MaskRules) -> Result<Self, MaskError> {
        rules.check()?;
        Ok(Masker::compiled(rules))
    }

    fn compiled(rules: MaskRules) -> Self {
        // Field order is the struct's, so the same rules give the same bytes.
        let text = rmp_serde::to_vec_named(&(MASKER_VERSION, &rules)).unwrap_or_default();
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &text).as_ref());
        Masker { rules: Arc::new(rules), hash }
    }

    /// SHA-256 over the rules and the masker's version: which masking a record went through.
    pub fn rules_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Masks one draft. Deterministic; what fails is dropped whole, and that is recorded.
    pub fn mask(&self, draft: Draft) -> Masked<Record> {
        let mut report = Report::default();
        let mut fields = BTreeMap::new();
        for field in draft.fields {
            let Field { name, value, class, .. } = field;
            let done = catch_unwind(AssertUnwindSafe(|| self.value(&name, value, &class, &mut report)));
            match done {
                Ok(value) => insert(&mut fields, name, value),
                Err(_) => report.failed(name),
            }
        }
        if let Some(rows) = draft.rows {
            let count = rows.rows.len() as u64;
            fields.insert(names::DB_ROWS.into(), Value::Text(mark::dropped("rows", rows.rows.len())));
            report.found(names::DB_ROWS.into(), "rows", "drop", count);
        }
        let mut anomalies = draft.anomalies;
        anomalies.extend(report.anomalies.into_iter().map(Cow::Borrowed));
        Masked::new(Record {
            kind: draft.kind,
            session: draft.session,
            exchange: draft.exchange,
            times: draft.times,
            fields,
            masked: report.masked,
            kinds: report.kinds,
            anomalies,
        })
    }

    fn value(&self, name: &Name, value: Value, class: &Class, report: &mut Report) -> Value {
        let kind = match class {
            Class::Structure | Class::Identifier => return escaped(value),
            Class::Secret(kind) => kind,
            _ => "value",
        };
        report.found(name.clone(), kind, "redact", 1);
        let mut out = String::new();
        mark::Mark::redact(kind).write("", &mut out);
        Value::Text(out)
    }
}

/// Adds a field. A name that comes twice (a repeated header) keeps both values, in order.
fn insert(fields: &mut BTreeMap<Name, Value>, name: Name, value: Value) {
    match fields.get_mut(&name) {
        None => {
            fields.insert(name, value);
        }
        Some(Value::List(values)) => values.push(Some(value)),
        Some(first) => {
            let before = std::mem::replace(first, Value::Bool(false));
            *first = Value::List(vec![Some(before), Some(value)]);
        }
    }
}

fn escaped(value: Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(mark::escaped(text)),
        Value::List(items) => Value::List(items.into_iter().map(|item| item.map(escaped)).collect()),
        other => other,
    }
}

/// What masking did to one draft.
#[derive(Debug, Default)]
struct Report {
    masked: Vec<MaskedField>,
    kinds: BTreeMap<Name, u64>,
    anomalies: Vec<&'static str>,
}

impl Report {
    fn found(&mut self, path: Name, kind: &'static str, action: &'static str, count: u64) {
        *self.kinds.entry(kind.into()).or_default() += count;
        let entry = MaskedField { path, kind: kind.into(), action: action.into() };
        if self.masked.contains(&entry) {
            return;
        }
        if self.masked.len() < MASKED_FIELDS_MAX {
            self.masked.push(entry);
        } else {
            self.odd(MASK_LIST_CUT);
        }
    }

    fn failed(&mut self, path: Name) {
        self.found(path, "failed", "drop", 1);
        self.odd(MASK_FAILED);
    }

    fn odd(&mut self, code: &'static str) {
        if !self.anomalies.contains(&code) {
            self.anomalies.push(code);
        }
    }
}
