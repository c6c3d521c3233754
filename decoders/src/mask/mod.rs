//! Masking: between decoding and the chain, and the only constructor of [`Masked`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use custody_record::{Kind, Record, Times};

use crate::item::{Field, Rows};

/// A value that went through masking. Nothing else can become an entry: the constructor is private to this
/// module.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
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

/// The masking stage with its rules.
#[derive(Clone, Debug, Default)]
pub struct Masker {}

impl Masker {
    /// Masks one draft. Deterministic; what fails is dropped whole, and that is recorded.
    pub fn mask(&self, draft: Draft) -> Masked<Record> {
        let fields = draft
            .fields
            .into_iter()
            .filter(|field| field.class == crate::item::Class::Structure)
            .map(|field| (field.name, field.value))
            .collect();
        Masked(Record {
            kind: draft.kind,
            session: draft.session,
            exchange: draft.exchange,
            times: draft.times,
            fields,
            masked: Vec::new(),
            kinds: BTreeMap::new(),
            anomalies: draft.anomalies,
        })
    }
}
