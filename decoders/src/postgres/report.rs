//! Errors and notices as fields (documentation, "Error and Notice Message Fields").

use custody_record::{Value, names};

use crate::item::{Class, Dialect, Field, text};
use crate::protocol::Outcome;

use super::parse::Report;

/// SQLSTATE `query_canceled`: a statement that was cancelled, on request, by a time limit, or because the client
/// gave its COPY up. Only the message tells which.
const QUERY_CANCELED: &[u8] = b"57014";

/// The server's words for each cause (`ProcessInterrupts` of all versions since 9.3). A server that speaks
/// another language leaves the cause unknown.
const CANCEL_CAUSES: &[(&[u8], &str)] = &[
    (b"canceling statement due to user request", "user_request"),
    (b"canceling statement due to statement timeout", "statement_timeout"),
    (b"canceling authentication due to timeout", "authentication_timeout"),
];

/// How an error ends its request, and its fields. `gave_up`: the client has ended its COPY with CopyFail;
/// `cancelled_by`: the session that asked the server to cancel it.
pub(super) fn failure(report: Report<'_>, gave_up: bool, cancelled_by: Option<u64>) -> (Outcome, Vec<Field>) {
    let mut fields = error(report);
    let cause = match report.field(b'C') {
        QUERY_CANCELED if gave_up => Some("copy_fail"),
        QUERY_CANCELED => {
            let said = report.field(b'M');
            CANCEL_CAUSES.iter().find(|(message, _)| *message == said).map(|(_, cause)| *cause)
        }
        _ => None,
    };
    fields.extend(cause.map(|cause| Field::structure(names::DB_CANCEL_CAUSE, cause)));
    if cause == Some("user_request") {
        fields.extend(cancelled_by.map(|session| Field::structure(names::DB_CANCELLED_BY_SESSION, session)));
    }
    // What is not known to be somebody's wish is an error.
    let wished = matches!(cause, Some("user_request" | "copy_fail"));
    (if wished { Outcome::Cancelled } else { Outcome::Error }, fields)
}

/// The fields of an error, each with its class.
fn error(report: Report<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    for (code, value) in report.iter() {
        let value = text(value);
        match code {
            b'C' => {
                fields.push(fact(names::DB_RESPONSE_STATUS, value.clone()));
                fields.push(fact(names::ERROR_TYPE, value));
            }
            b'M' => fields.push(Field::new(names::ERROR_MESSAGE, value, Class::Text)),
            // Since 9.6 there is one that is never translated.
            b'V' => fields.push(fact(names::DB_SEVERITY, value)),
            b'S' if report.field(b'V').is_empty() => fields.push(fact(names::DB_SEVERITY, value)),
            code => {
                let Some((name, class)) = other(code, value.as_bytes()) else { continue };
                let class =
                    if holds_row(code, &value, report.field(b'C')) { Class::Secret("row") } else { class };
                fields.push(Field::new(format!("{}{name}", names::DB_ERROR_FIELD), value, class));
            }
        }
    }
    fields
}

/// An error in the form of protocol 2: its severity, if it has one, and a text.
pub(super) fn old_failure(said: &[u8]) -> Vec<Field> {
    let said = text(said);
    let said = said.trim_end();
    let severity = ["FATAL", "ERROR", "PANIC"].into_iter().find(|severity| said.starts_with(severity));
    let message = severity.and_then(|severity| said[severity.len()..].strip_prefix(':')).unwrap_or(said);
    let mut fields = vec![Field::new(names::ERROR_MESSAGE, message.trim_start(), Class::Text)];
    fields.extend(severity.map(|severity| Field::structure(names::DB_SEVERITY, severity)));
    fields
}

/// The fields of a notice, numbered.
pub(super) fn notice(report: Report<'_>, number: u64) -> Vec<Field> {
    report
        .iter()
        .filter_map(|(code, value)| {
            let (name, class) = match code {
                b'C' => ("status_code", fact_class(value)),
                b'M' => ("message", Class::Text),
                b'V' => ("severity", fact_class(value)),
                b'S' if report.field(b'V').is_empty() => ("severity", fact_class(value)),
                b'D' | b'W' if holds_row(code, &text(value), report.field(b'C')) => {
                    (other(code, value)?.0, Class::Secret("row"))
                }
                code => other(code, value)?,
            };
            Some(Field::new(format!("{}{number}.{name}", names::DB_NOTICE), text(value), class))
        })
        .collect()
}

/// Whether this text quotes a whole row, so that no column tells what its values are: the detail of a violated
/// NOT NULL, CHECK, partition or view option, the line of a COPY that failed, and the bound parameters of a portal
/// (with `log_parameter_max_length_on_error`).
fn holds_row(code: u8, value: &str, status: &[u8]) -> bool {
    match code {
        b'D' => matches!(status, b"23502" | b"23514" | b"44000"),
        // With a column's name before it, the name decides.
        b'W' => value.lines().any(|line| {
            let copied = line.starts_with("COPY ") && line.contains(": \"") && !line.contains(", column ");
            copied || holds_parameter(line)
        }),
        _ => false,
    }
}

/// `unnamed portal with parameters: $1 = 'x'`, in whatever language the words are.
fn holds_parameter(line: &str) -> bool {
    line.split('$').skip(1).any(|after| {
        let value = after.trim_start_matches(|character: char| character.is_ascii_digit());
        value.len() < after.len() && value.starts_with(" = ")
    })
}

fn other(code: u8, value: &[u8]) -> Option<(&'static str, Class)> {
    let (name, class) = match code {
        b'D' => ("detail", Class::Text),
        b'H' => ("hint", Class::Text),
        b'W' => ("where", Class::Text),
        b'q' => ("internal_query", Class::Statement(Dialect::Postgres)),
        b'P' => ("position", fact_class(value)),
        b'p' => ("internal_position", fact_class(value)),
        b's' => ("schema", Class::Identifier),
        b't' => ("table", Class::Identifier),
        b'c' => ("column", Class::Identifier),
        b'd' => ("data_type", Class::Identifier),
        b'n' => ("constraint", Class::Identifier),
        b'F' => ("file", Class::Identifier),
        b'L' => ("line", fact_class(value)),
        b'R' => ("routine", Class::Identifier),
        _ => return None,
    };
    Some((name, class))
}

/// A fact of the protocol, if it looks like one: what a server puts there is its own affair, and text that
/// stays unmasked must be short and plain.
pub(super) fn fact(name: &'static str, value: String) -> Field {
    let class = fact_class(value.as_bytes());
    Field::new(name, value, class)
}

/// The class of several such facts.
pub(super) fn list_class(values: &[Option<Value>]) -> Class {
    let plain = |value: &Option<Value>| match value {
        Some(Value::Text(text)) => fact_class(text.as_bytes()) == Class::Structure,
        _ => true,
    };
    if values.iter().all(plain) { Class::Structure } else { Class::Text }
}

fn fact_class(value: &[u8]) -> Class {
    const BYTES_MAX: usize = 64;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'_');
    if value.len() <= BYTES_MAX && value.iter().all(plain) { Class::Structure } else { Class::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_values_in_the_context_of_an_error_are_kept_secret() {
        let held = |value: &str| holds_row(b'W', value, b"22012");
        assert!(held("unnamed portal with parameters: $1 = 'hunter2'"));
        assert!(held("PL/pgSQL function f() line 1\nportal \"p\" parameter $12 = 'hunter2'"));
        assert!(held("unbenanntes Portal mit Parametern: $1 = 'hunter2'"));
        assert!(!held("PL/pgSQL function f(text) line 1 at RAISE"));
        assert!(!held("SQL statement \"SELECT price FROM goods WHERE id = $1\""));
        assert!(!held("unnamed portal parameter $1"));
    }
}
