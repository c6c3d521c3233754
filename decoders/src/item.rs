//! What decoders find: items whose fields carry their class, so that masking needs no knowledge of
//! protocols.

use std::borrow::Cow;

use custody_record::Value;

/// Name of a field, from `custody_record::names`.
pub type Name = Cow<'static, str>;

/// What a value is, for masking. The decoder says it, masking acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// A fact of the protocol (method, status, length, command tag): stays as it is.
    Structure,
    /// A name that somebody gave (user, database, path of a program): shown, content recognisers run.
    Identifier,
    /// Free text: content recognisers run.
    Text,
    /// A statement of this dialect: tokenised, its literals treated as values.
    Statement(Dialect),
    /// One value of a statement or an answer; the column or parameter name where known.
    Value {
        /// Column, field or parameter name; empty when unknown.
        name: String,
    },
    /// One value of a key-value store.
    Keyed {
        /// The key under which it stands; empty when unknown.
        key: String,
        /// Its name within a value of several (the field of a hash); empty when there is none.
        field: String,
    },
    /// A header's value.
    Header {
        /// Header's name in lower case.
        name: String,
    },
    /// One field of a form, decoded.
    Parameter {
        /// Its name; empty when unknown.
        name: String,
        /// Such as `application/json`, where the form tells; else empty.
        media_type: String,
    },
    /// A query string or an `application/x-www-form-urlencoded` body.
    Query,
    /// A body with its media type (lower case, without parameters) and content coding.
    Body {
        /// Such as `application/json`; empty when unknown.
        media_type: String,
        /// Such as `gzip`; empty when plain.
        coding: String,
    },
    /// One argument list of a program.
    Arguments,
    /// A credential: masked whatever the configuration says.
    Secret(&'static str),
    /// Bytes that nobody understands: never shown, only counted.
    Opaque,
}

/// SQL dialect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
}

/// Bytes as text; what is no UTF-8 stands as U+FFFD. Most of it is, which is quicker to see than to replace.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// One named value, not masked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Value,
    /// What it is.
    pub class: Class,
    /// Bytes that are missing at its end (over a limit, or lost): what stands there may be half a secret.
    pub cut: u64,
}

impl Field {
    /// A fact of the protocol.
    pub fn structure(name: impl Into<Name>, value: impl Into<Value>) -> Self {
        Field { name: name.into(), value: value.into(), class: Class::Structure, cut: 0 }
    }
    /// Any other field.
    pub fn new(name: impl Into<Name>, value: impl Into<Value>, class: Class) -> Self {
        Field { name: name.into(), value: value.into(), class, cut: 0 }
    }
    /// The same, and `bytes` of its end are missing.
    #[must_use]
    pub fn cut_by(self, bytes: u64) -> Self {
        Field { cut: bytes, ..self }
    }
}

/// Rows of an answer, up to the limit; the rest is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Column names, in order.
    pub columns: Vec<String>,
    /// Cells; `None` is NULL.
    pub rows: Vec<Vec<Option<Value>>>,
}
