//! One exchange while it is joined: what a decoder said of it since it was last told, and what that weighs in memory.
//!
//! Must not decide when it is told: that is for all exchanges of a connection together.

use custody_record::{Kind, Value};

use super::{End, Telling};
use crate::item::{Class, Field, Rows};
use crate::protocol::{ExchangeId, Outcome};

#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) requested: bool,
    pub(super) opened: bool,
    pub(super) told_ns: u64,
    pub(super) answer: Option<Outcome>,
    pub(super) fields: Vec<Field>,
    pub(super) rows: Option<Rows>,
    pub(super) rows_kept: usize,
    pub(super) weight: usize,
    pub(super) bytes: [u64; 2],
    pub(super) anomalies: Vec<&'static str>,
}

impl Exchange {
    /// Takes what was not told yet; its weight leaves `held`, the sum of all.
    pub(super) fn tell(&mut self, held: &mut usize, kind: Kind, id: ExchangeId, end: Option<End>) -> Telling {
        *held -= std::mem::take(&mut self.weight);
        self.told_ns = self.last_ns;
        Telling {
            kind,
            id,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            duration_ns: end.map(|_| self.last_ns.saturating_sub(self.first_ns)),
            end,
            fields: std::mem::take(&mut self.fields),
            rows: self.rows.take(),
            bytes: std::mem::take(&mut self.bytes),
            anomalies: std::mem::take(&mut self.anomalies),
        }
    }

    /// Adds fields; what they weigh.
    pub(super) fn merge(&mut self, fields: Vec<Field>) -> usize {
        let weight = fields.iter().map(field_weight).sum();
        self.weight += weight;
        if self.fields.is_empty() {
            self.fields = fields;
            return weight;
        }
        for field in fields {
            match self.fields.iter_mut().find(|known| known.name == field.name) {
                Some(known) => append(known, field),
                None => self.fields.push(field),
            }
        }
        weight
    }
}

/// More of a body that comes in pieces is joined; of anything else the newer value stands.
fn append(known: &mut Field, more: Field) {
    known.cut = more.cut;
    match (&known.class, &mut known.value, more.value) {
        (Class::Body { .. }, Value::Bytes(before), Value::Bytes(bytes)) => before.extend(bytes),
        (Class::Body { .. }, Value::Text(before), Value::Text(text)) => before.push_str(&text),
        (_, value, newer) => *value = newer,
    }
}

fn field_weight(field: &Field) -> usize {
    64 + field.name.len() + value_weight(&field.value)
}

pub(super) fn value_weight(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => {
            items.iter().map(|item| 32 + item.as_ref().map_or(0, value_weight)).sum::<usize>()
        }
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => 0,
    }
}
