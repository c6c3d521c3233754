//! What masking did to one draft: the list of masked fields, the counts by kind, the anomalies, and how much
//! of the record's bound is left.

use std::borrow::Cow;
use std::collections::BTreeMap;

use custody_record::MaskedField;

use super::mark::Mark;
use super::{MASKED_FIELDS_MAX, RECORD_BYTES_MAX};
use crate::anomaly::{MASK_FAILED, MASK_LIST_CUT, MASK_RECORD_CUT};
use crate::item::Name;

/// Bytes that a value takes in a record beside its text.
const VALUE_BYTES: usize = 8;

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    masked: Vec<MaskedField>,
    kinds: BTreeMap<Name, u64>,
    anomalies: Vec<&'static str>,
    bytes: usize,
}

impl Report {
    /// A value of this field was masked.
    pub(crate) fn found(&mut self, path: &str, mark: &Mark) {
        self.note(path, &mark.kind, mark.action_name());
    }

    /// A value of this field was left out.
    pub(crate) fn dropped(&mut self, path: &str, kind: &'static str) {
        self.note(path, &Cow::Borrowed(kind), "drop");
    }

    /// Masking of this field failed.
    pub(crate) fn failed(&mut self, path: Name) {
        self.dropped(&path, "failed");
        self.odd(MASK_FAILED);
    }

    fn note(&mut self, path: &str, kind: &Name, action: &'static str) {
        match self.kinds.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.kinds.insert(kind.clone(), 1);
            }
        }
        let known = |entry: &MaskedField| entry.path == path && entry.kind == *kind && entry.action == action;
        if self.masked.iter().any(known) {
            return;
        }
        if self.masked.len() == MASKED_FIELDS_MAX {
            return self.odd(MASK_LIST_CUT);
        }
        let path = Cow::Owned(path.to_owned());
        self.masked.push(MaskedField { path, kind: kind.clone(), action: action.into() });
    }

    fn odd(&mut self, code: &'static str) {
        if !self.anomalies.contains(&code) {
            self.anomalies.push(code);
        }
    }

    /// Takes the room of a value of this many bytes, or says that there is none.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let after = self.bytes.saturating_add(bytes).saturating_add(VALUE_BYTES);
        if after > RECORD_BYTES_MAX {
            self.odd(MASK_RECORD_CUT);
            return false;
        }
        self.bytes = after;
        true
    }

    /// Whether not even a small value fits; says so in the record.
    pub(crate) fn is_full(&mut self) -> bool {
        let full = self.bytes + 4096 > RECORD_BYTES_MAX;
        if full {
            self.odd(MASK_RECORD_CUT);
        }
        full
    }

    /// Codes of what was odd.
    pub(crate) fn anomalies(&self) -> impl Iterator<Item = &'static str> {
        self.anomalies.iter().copied()
    }

    /// The list of masked fields, and the counts by kind.
    pub(crate) fn into_parts(self) -> (Vec<MaskedField>, BTreeMap<Name, u64>) {
        (self.masked, self.kinds)
    }
}
