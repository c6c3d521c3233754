//! Fields of requests: statements, parameters, start-up.

use custody_record::{Value, names};

use crate::item::{Class, Dialect, Field, text};

use super::names::Statement;
use super::parse;
use super::value;

/// Text and summary of a statement; `odd` says why the text is not whole, and then how much is missing is not
/// known.
pub(super) fn statement_fields(query: String, summary: &str, odd: Option<&'static str>) -> Vec<Field> {
    let statement = Field::new(names::DB_QUERY_TEXT, query, Class::Statement(Dialect::Postgres));
    let mut fields = vec![statement.cut_by(u64::from(odd.is_some()))];
    if !summary.is_empty() {
        fields.push(Field::new(names::DB_QUERY_SUMMARY, summary, Class::Identifier));
    }
    fields
}

/// The values of a statement's parameters. What is NULL has no value: its number stands in a list of its own, for an
/// array may hold nothing but one NULL.
pub(super) fn parameter_fields(
    values: parse::Cells<'_>,
    formats: &[bool],
    types: &[u32],
    statement: Option<&Statement>,
) -> Vec<Field> {
    let mut fields = Vec::with_capacity(usize::from(values.count).min(values.bytes.len() / 4));
    let mut nulls = Vec::new();
    for (index, bytes) in values.iter().enumerate() {
        let Some(bytes) = bytes else {
            nulls.push(Some(Value::Unsigned(index as u64 + 1)));
            continue;
        };
        let name = format!("{}{}", names::DB_QUERY_PARAMETER, index + 1);
        let column = statement.map_or("", |statement| statement.facts.parameter(index + 1));
        let binary = super::answer::format(formats, index).unwrap_or(false);
        let type_oid = types.get(index).copied().unwrap_or(0);
        fields.push(value::decode(type_oid, binary, bytes).field(name, column));
    }
    fields.extend(null_field(nulls));
    fields
}

/// The arguments of a function call. No description tells their types or names: nobody understands them.
pub(super) fn argument_fields(values: parse::Cells<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut nulls = Vec::new();
    for (number, bytes) in (1u64..).zip(values.iter()) {
        match bytes {
            Some(bytes) => {
                let name = format!("{}{number}", names::DB_QUERY_PARAMETER);
                fields.push(Field::new(name, Value::Bytes(bytes.to_vec()), Class::Opaque));
            }
            None => nulls.push(Some(Value::Unsigned(number))),
        }
    }
    fields.extend(null_field(nulls));
    fields
}

fn null_field(numbers: Vec<Option<Value>>) -> Option<Field> {
    (!numbers.is_empty()).then(|| Field::structure(names::DB_NULL_PARAMETERS, Value::List(numbers)))
}

/// Facts of a session of protocol 2, which is named and not decoded.
pub(super) fn old_startup_fields((user, database): (&[u8], &[u8])) -> Vec<Field> {
    vec![
        Field::structure(names::DB_SYSTEM, "postgresql"),
        Field::structure(names::PROTOCOL_VERSION, "2.0"),
        Field::new(names::DB_NAMESPACE, text(database), Class::Identifier),
        Field::new(names::DB_USER, text(user), Class::Identifier),
    ]
}

/// Facts of the session, and the other parameters of a start-up.
pub(super) fn startup_fields(startup: parse::Startup<'_>) -> (Vec<Field>, Vec<Field>) {
    let mut session = vec![
        Field::structure(names::DB_SYSTEM, "postgresql"),
        Field::structure(names::PROTOCOL_VERSION, format!("3.{}", startup.minor)),
    ];
    let mut others = Vec::new();
    let mut user = None;
    let mut database = None;
    for (name, value) in startup.iter() {
        let value = text(value);
        match name {
            b"user" => user = Some(value),
            b"database" => database = Some(value),
            b"application_name" => session.push(Field::new(names::DB_APPLICATION, value, Class::Identifier)),
            b"replication" => {
                let mode = match value.as_str() {
                    "database" => "logical",
                    "false" | "off" | "no" | "0" => continue,
                    _ => "physical",
                };
                session.push(Field::structure(names::DB_REPLICATION, mode));
            }
            name => {
                // A field's name is never masked, so it must be plain.
                let plain =
                    name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
                let name = if plain && name.len() <= 64 { text(name) } else { "other".to_owned() };
                others.push(Field::new(format!("{}{name}", names::DB_STARTUP_PARAMETER), value, Class::Text));
            }
        }
    }
    // Without a name of its own the database is called as the user is.
    let database = database.filter(|name| !name.is_empty()).or_else(|| user.clone());
    session.extend(database.map(|name| Field::new(names::DB_NAMESPACE, name, Class::Identifier)));
    session.extend(user.map(|name| Field::new(names::DB_USER, name, Class::Identifier)));
    (session, others)
}
