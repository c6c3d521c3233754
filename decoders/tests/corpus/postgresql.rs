//! PostgreSQL, value by value: the second reader does not say which message of a frame a value is of.

use std::collections::BTreeMap;
use std::path::Path;

use custody_record::{Kind, Record, Value, names};

use crate::capture::{rows, stream_of, text};
use crate::compare::{Alone, Comparison, Reason, Said, oddness};

/// Their names and ours.
const FIELDS: [(&str, &str); 9] = [
    ("pgsql.query", names::DB_QUERY_TEXT),
    ("pgsql.statement", names::DB_STATEMENT_NAME),
    ("pgsql.portal", names::DB_PORTAL_NAME),
    ("pgsql.tag", names::DB_COMMAND_TAG),
    ("pgsql.code", names::DB_RESPONSE_STATUS),
    ("pgsql.severity", names::DB_SEVERITY),
    ("pgsql.message", names::ERROR_MESSAGE),
    ("pgsql.col.name", names::DB_COLUMNS),
    ("Data row", names::DB_ROWS),
];

/// Fields that the second reader tells where a thing is named first, and we where it is used: each is counted once.
const ONCE: [&str; 2] = [names::DB_QUERY_TEXT, names::DB_STATEMENT_NAME];

fn count(said: &mut BTreeMap<String, u64>, name: &str, value: &str) {
    let count = said.entry(format!("{name}={value}")).or_default();
    *count = if ONCE.contains(&name) { 1 } else { *count + 1 };
}

fn theirs(corpus: &Path, file: &Path) -> Option<Said> {
    let mut said = Said::new();
    for row in rows(corpus, "postgresql", file)? {
        // A row is counted; its cells the second reader does not tell as text.
        let is_row = row.field == "pgsql.type" && row.value == "Data row";
        let (field, value) = if is_row { ("Data row", "") } else { (row.field.as_str(), row.value.as_str()) };
        let Some((_, name)) = FIELDS.iter().find(|(theirs, _)| *theirs == field) else { continue };
        // What has no name: the second reader tells an empty one.
        if is_row || !value.is_empty() {
            count(said.entry(row.stream).or_default(), name, value);
        }
    }
    Some(said)
}

fn ours(records: &[Record]) -> Said {
    let mut said = Said::new();
    for record in
        records.iter().filter(|record| !matches!(record.kind, Kind::SessionOpen | Kind::SessionClose))
    {
        let said = said.entry(stream_of(record)).or_default();
        for (_, name) in FIELDS {
            values(record, name).iter().for_each(|value| count(said, name, value));
        }
    }
    said
}

/// What a record says in a field that is compared: rows are counted, names in a list are told one by one.
fn values(record: &Record, name: &str) -> Vec<String> {
    match record.fields.get(name) {
        Some(Value::List(rows)) if name == names::DB_ROWS => vec![String::new(); rows.len()],
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| match item {
                Some(Value::Text(text)) => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => text(record, name).into_iter().collect(),
    }
}

fn reason(alone: &Alone<'_>) -> Option<Reason> {
    oddness(alone.records)
}

#[test]
fn postgresql_captures() {
    let unit = "values of 9 fields, by connection; rows by number";
    Comparison { folder: "postgresql", unit, theirs, ours, reason }.run();
}
