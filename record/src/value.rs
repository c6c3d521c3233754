//! What a field can hold, and its two stored forms. MessagePack and JSON tell the kinds apart by themselves;
//! only bytes need help in JSON, where they stand as `{"base64": "…"}`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A flag.
    Bool(bool),
    /// A count or a number of a protocol.
    Unsigned(u64),
    /// A number that may be below zero. What is not below zero is read back as [`Value::Unsigned`].
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text; bytes that are no UTF-8 stand as U+FFFD.
    Text(String),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
    /// Several values, such as the cells of a row; `None` is SQL's NULL.
    List(Vec<Option<Value>>),
}

impl Value {
    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, when it is one that is not below zero.
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// As people read it in one line, not escaped yet: see [`crate::text`].
    pub fn display(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Bool(flag) => Cow::Owned(flag.to_string()),
            Value::Unsigned(number) => Cow::Owned(number.to_string()),
            Value::Signed(number) => Cow::Owned(number.to_string()),
            Value::Float(number) => Cow::Owned(number.to_string()),
            Value::Bytes(bytes) => Cow::Owned(format!("0x{}", HexBytes(bytes))),
            Value::List(values) => {
                let parts: Vec<_> = values
                    .iter()
                    .map(|value| value.as_ref().map_or(Cow::Borrowed("NULL"), |value| value.display()))
                    .collect();
                Cow::Owned(parts.join(", "))
            }
        }
    }
}

struct HexBytes<'a>(&'a [u8]);
impl fmt::Display for HexBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Key of the only map that a value can be.
const BASE64: &str = "base64";

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Unsigned(number) => serializer.serialize_u64(*number),
            Value::Signed(number) => serializer.serialize_i64(*number),
            // JSON has no word for these; null would read back as a missing value.
            Value::Float(number) if serializer.is_human_readable() && !number.is_finite() => {
                serializer.collect_str(number)
            }
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) if serializer.is_human_readable() => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(BASE64, &STANDARD.encode(bytes))?;
                map.end()
            }
            Value::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Most elements that room is made for ahead of reading them: a length on the wire is a claim.
const LIST_RESERVE_MAX: usize = 64;

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flag, number, text, bytes or list")
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(number))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }
    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(list.size_hint().unwrap_or(0).min(LIST_RESERVE_MAX));
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (key, text) = map.next_entry::<String, String>()?.unwrap_or_default();
        if key != BASE64 {
            return Err(A::Error::custom("a map is no value unless it holds base64"));
        }
        let bytes = STANDARD.decode(text).map_err(A::Error::custom)?;
        match map.next_key::<String>()? {
            None => Ok(Value::Bytes(bytes)),
            Some(_) => Err(A::Error::custom("a value of bytes holds base64 alone")),
        }
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(Value::Unsigned),
            (i64::MIN..0).prop_map(Value::Signed),
            any::<f32>()
                .prop_filter("finite", |n| n.is_finite())
                .prop_map(|n| Value::Float(f64::from(n) + 0.5)),
            any::<String>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 32, 8, |inner| {
            prop::collection::vec(prop::option::of(inner), 0..8).prop_map(Value::List)
        })
    }

    proptest! {
        #[test]
        fn both_stored_forms_read_back_as_they_were(value in any_value()) {
            let packed = rmp_serde::to_vec_named(&value).unwrap();
            prop_assert_eq!(&rmp_serde::from_slice::<Value>(&packed).unwrap(), &value);
            let json = serde_json::to_string(&value).unwrap();
            if !json.contains('.') && !json.contains('e') {
                prop_assert_eq!(&serde_json::from_str::<Value>(&json).unwrap(), &value);
            }
        }

        #[test]
        fn hostile_bytes_are_an_error_or_a_value(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = rmp_serde::from_slice::<Value>(&bytes);
        }
    }

    #[test]
    fn a_number_that_json_cannot_say_stays_readable() {
        assert_eq!(serde_json::to_string(&Value::Float(f64::NAN)).unwrap(), "\"NaN\"");
    }
}
