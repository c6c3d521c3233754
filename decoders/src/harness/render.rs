//! What was told, as text for review: each field with its class, and what masking makes of it.

use std::fmt::Write;

use custody_record::{Kind, Record, Times, Value};

use super::replay::{Outcome, Told};
use crate::case::Case;
use crate::driver::State;
use crate::item::Field;
use crate::mask::{Draft, Masker};

/// Longest value that is shown whole.
const SHOWN_BYTES_MAX: usize = 400;

/// All that was told of a case.
pub fn outcome(case: &Case, outcome: &Outcome) -> String {
    let mut text = format!("case {}\n", case.name);
    if outcome.state != State::Running {
        line(&mut text, format_args!("  state {:?}", outcome.state));
    }
    for (direction, account) in ["up", "down"].iter().zip(&outcome.accounts) {
        let parts = [
            ("unparsed", account.unparsed),
            ("unknown", account.unknown),
            ("lost", account.lost),
            ("cut", account.cut),
            ("skipped", account.skipped),
        ];
        let parts: String = parts
            .iter()
            .filter(|part| part.1 > 0)
            .map(|(name, bytes)| format!(" + {bytes} {name}"))
            .collect();
        line(&mut text, format_args!("  {direction} {} = {} framed{parts}", account.seen, account.framed));
    }
    for code in &outcome.anomalies {
        line(&mut text, format_args!("  ! {code}"));
    }
    for field in outcome.session.values() {
        field_line(&mut text, field, None);
    }
    for (id, told) in &outcome.exchanges {
        let end = told.end.map_or("unanswered", |end| end.as_str());
        line(&mut text, format_args!("exchange {id} {end}"));
        text.push_str(&exchange(told));
    }
    text
}

/// One exchange, without its number and its end.
pub fn exchange(told: &Told) -> String {
    let masked = masked(told);
    let mut text = String::new();
    for code in &told.anomalies {
        line(&mut text, format_args!("  ! {code}"));
    }
    for (name, field) in &told.fields {
        field_line(&mut text, field, masked.fields.get(name.as_str()));
    }
    if let Some(rows) = &told.rows {
        line(&mut text, format_args!("  columns {:?}", rows.columns));
        for row in &rows.rows {
            let cells: Vec<String> =
                row.iter().map(|cell| cell.as_ref().map_or("NULL".to_owned(), value)).collect();
            line(&mut text, format_args!("  row {}", cells.join(" | ")));
        }
        for (name, masked) in masked.fields.iter().filter(|(name, _)| !told.fields.contains_key(&***name)) {
            line(&mut text, format_args!("  => {name} = {}", value(masked)));
        }
    }
    text
}

/// The exchange as a masked record.
pub fn masked(told: &Told) -> Record {
    let draft = Draft {
        kind: Kind::Exchange,
        session: None,
        exchange: None,
        times: Times { first_ns: 0, last_ns: 0 },
        fields: told.fields.values().cloned().collect(),
        rows: told.rows.clone(),
        anomalies: Vec::new(),
    };
    Masker::default().mask(draft).into_inner()
}

fn field_line(text: &mut String, field: &Field, masked: Option<&Value>) {
    let cut = if field.cut > 0 { format!(", {} bytes cut", field.cut) } else { String::new() };
    let mut shown = format!("  {} = {} ({:?}{cut})", field.name, value(&field.value), field.class);
    match masked {
        Some(masked) if value(masked) != value(&field.value) => {
            shown.push_str(&format!(" => {}", value(masked)));
        }
        _ => {}
    }
    line(text, format_args!("{shown}"));
}

/// A value on one line, long ones by their beginning and length.
fn value(value: &Value) -> String {
    let shown = match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("b\"{}\"", bytes.escape_ascii()),
        Value::List(items) => {
            let items: Vec<String> =
                items.iter().map(|item| item.as_ref().map_or("NULL".to_owned(), self::value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Bool(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
    };
    if shown.len() <= SHOWN_BYTES_MAX {
        return shown;
    }
    let end = (0..=SHOWN_BYTES_MAX / 4).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} characters)", &shown[..end], shown.chars().count())
}

fn line(text: &mut String, shown: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{shown}");
}
