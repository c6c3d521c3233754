//! What a field can hold.

use serde::{Deserialize, Serialize};

/// One value. Untagged in its stored form: MessagePack and JSON tell the kinds apart by themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A flag.
    Bool(bool),
    /// A count or a number of a protocol.
    Unsigned(u64),
    /// A number that may be below zero.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text; bytes that are no UTF-8 stand as U+FFFD.
    Text(String),
    /// Bytes that are no text.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Several values, such as the cells of a row; `None` is SQL's NULL.
    List(Vec<Option<Value>>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Unsigned(number)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Bool(flag)
    }
}
