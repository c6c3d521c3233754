//! What the server has said so far to the request that it is answering: results, rows, errors, notices and
//! a COPY, each within its limit.

use crate::anomaly;
use custody_record::{Value, names};

use crate::item::{Field, Rows, text};
use crate::protocol::{ExchangeId, Limits, Out, Outcome};

use super::copy::{Copy, CopyDirection};
use super::names::Column;
use super::parse::{Cells, Report};
use super::{report, value};

/// Results of one request that are listed by their tags.
const RESULTS_MAX: usize = 256;
/// Notices of one request whose text is kept.
const NOTICES_MAX: u64 = 16;

/// The answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    columns: Vec<Column>,
    rows: Rows,
    rows_kept: usize,
    rows_kept_bytes: usize,
    rows_cut: u64,
    rows_of_result: u64,
    results: Vec<Option<Value>>,
    last_tag: String,
    returned_rows: Option<u64>,
    failure: Option<(Outcome, Vec<Field>)>,
    notices: u64,
    copy: Option<Copy>,
    fields: Vec<Field>,
    held_bytes: usize,
}

impl Answer {
    /// Rows that follow have these columns.
    pub(super) fn columns(&mut self, columns: Vec<Column>) {
        self.columns = columns;
    }

    /// Rows that follow have these columns, unless it is known which they have.
    pub(super) fn columns_once(&mut self, columns: impl FnOnce() -> Vec<Column>) {
        if self.rows_of_result == 0 && self.columns.is_empty() {
            self.columns = columns();
        }
    }

    /// One row; `None` when it could not be read.
    pub(super) fn row(&mut self, cells: Option<Cells<'_>>, formats: &[bool], limits: &Limits) {
        self.rows_of_result += 1;
        let Some(cells) = cells else { return };
        if self.rows_kept >= limits.rows_max || self.rows_kept_bytes >= limits.body_bytes_max {
            self.rows_cut += 1;
            return;
        }
        let row: Vec<Option<Value>> = cells
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                let column = self.columns.get(index);
                let binary =
                    format(formats, index).unwrap_or_else(|| column.is_some_and(|column| column.binary));
                let type_oid = column.map_or(0, |column| column.type_oid);
                bytes.map(|bytes| value::decode(type_oid, binary, bytes).cell())
            })
            .collect();
        let bytes: usize =
            row.iter().map(|cell| size_of::<Option<Value>>() + cell.as_ref().map_or(0, value::bytes)).sum();
        self.rows_kept += 1;
        self.rows_kept_bytes += bytes;
        self.held_bytes += bytes;
        self.rows.rows.push(row);
    }

    /// One result is complete. `tag` is empty for an empty query.
    pub(super) fn complete(&mut self, tag: &[u8], id: ExchangeId, out: &mut dyn Out) {
        self.flush_rows(id, out);
        let tag = text(tag);
        self.count_rows(tag.rsplit(' ').next().and_then(|count| count.parse().ok()));
        if self.results.len() < RESULTS_MAX {
            self.results.push(Some(Value::Text(tag.clone())));
        } else if self.results.len() == RESULTS_MAX {
            self.results.push(None);
            out.anomaly(Some(id), anomaly::POSTGRES_RESULTS_LIMIT);
        }
        self.last_tag = tag;
        self.columns = Vec::new();
    }

    /// The client asked for fewer rows than there are; no tag says how many came.
    pub(super) fn suspend(&mut self, id: ExchangeId, out: &mut dyn Out) {
        self.count_rows(Some(self.rows_of_result));
        self.flush_rows(id, out);
    }

    fn count_rows(&mut self, rows: Option<u64>) {
        if let Some(rows) = rows {
            self.returned_rows = Some(self.returned_rows.unwrap_or(0).saturating_add(rows));
        }
    }

    /// The server said no.
    pub(super) fn fail(&mut self, outcome: Outcome, fields: Vec<Field>) {
        self.failure = Some((outcome, fields));
    }

    /// The client has ended its COPY with CopyFail.
    pub(super) fn gave_up(&self) -> bool {
        self.fields.iter().any(|field| field.name == names::DB_COPY_FAILURE)
    }

    /// The server said no, and why could not be read.
    pub(super) fn fail_unread(&mut self) {
        self.failure = Some((Outcome::Error, Vec::new()));
    }

    /// The server remarked something.
    pub(super) fn notice(&mut self, report: Report<'_>) {
        self.notices += 1;
        if self.notices <= NOTICES_MAX {
            self.field_all(report::notice(report, self.notices));
        }
    }

    /// One more field of the answer.
    pub(super) fn field(&mut self, field: Field) {
        self.held_bytes += value::field_bytes(&field);
        self.fields.push(field);
    }

    fn field_all(&mut self, fields: Vec<Field>) {
        fields.into_iter().for_each(|field| self.field(field));
    }

    /// A COPY begins.
    pub(super) fn copy_begins(&mut self, copy: Copy, id: ExchangeId, out: &mut dyn Out) {
        self.copy_ends(id, out);
        self.copy = Some(copy);
    }

    /// The COPY that goes on, if any.
    pub(super) fn copy(&mut self) -> Option<&mut Copy> {
        self.copy.as_mut()
    }

    /// Which way the COPY that goes on goes.
    pub(super) fn copying(&self) -> Option<CopyDirection> {
        self.copy.as_ref().map(|copy| copy.direction)
    }

    fn copy_ends(&mut self, id: ExchangeId, out: &mut dyn Out) {
        if let Some(copy) = self.copy.take() {
            out.fields(id, copy.end());
        }
    }

    fn flush_rows(&mut self, id: ExchangeId, out: &mut dyn Out) {
        self.rows_of_result = 0;
        if self.rows.rows.is_empty() {
            return;
        }
        let columns = self.columns.iter().map(|column| column.name.clone()).collect();
        out.rows(id, Rows { columns, rows: std::mem::take(&mut self.rows.rows) });
    }

    /// The answer is complete: tells what is left and is ready for the next.
    pub(super) fn finish(&mut self, id: ExchangeId, time_ns: u64, out: &mut dyn Out) {
        self.flush_rows(id, out);
        self.copy_ends(id, out);
        let answer = std::mem::take(self);
        let mut fields = answer.fields;
        if answer.results.len() > 1 {
            let class = report::list_class(&answer.results);
            fields.push(Field::new(names::DB_RESULTS, Value::List(answer.results), class));
        }
        if !answer.last_tag.is_empty() {
            fields.push(report::fact(names::DB_COMMAND_TAG, answer.last_tag));
        }
        if let Some(rows) = answer.returned_rows {
            fields.push(Field::structure(names::DB_RETURNED_ROWS, rows));
        }
        if answer.rows_cut > 0 {
            fields.push(Field::structure(names::DB_ROWS_CUT, answer.rows_cut));
        }
        if answer.notices > 0 {
            fields.push(Field::structure(names::DB_NOTICES, answer.notices));
        }
        let (outcome, failure) = answer.failure.unwrap_or((Outcome::Ok, Vec::new()));
        fields.extend(failure);
        out.response(id, time_ns, outcome, fields);
    }

    /// The answer stays without its end: what came of it is told all the same.
    pub(super) fn abandon(&mut self, id: ExchangeId, out: &mut dyn Out) {
        self.flush_rows(id, out);
        self.copy_ends(id, out);
        let fields = std::mem::take(self).fields;
        if !fields.is_empty() {
            out.fields(id, fields);
        }
    }

    /// The server said no to it.
    pub(super) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        let copy = self.copy.as_ref().map_or(0, Copy::held_bytes);
        self.held_bytes + copy + self.columns.len() * size_of::<Column>()
    }
}

/// The format of a column: none given, one for all, or one each.
pub(super) fn format(formats: &[bool], index: usize) -> Option<bool> {
    match formats {
        [] => None,
        [all] => Some(*all),
        each => each.get(index).copied(),
    }
}
