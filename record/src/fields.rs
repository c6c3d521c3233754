//! The named fields of a record: a short list in the order of their names. A record has a dozen of them, is
//! built once and looked at a few times, so a list is cheaper than a tree to build, walk and drop. It knows
//! nothing of what the names mean.

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Value;

/// Name of a field.
type Name = Cow<'static, str>;

/// Most fields that room is made for on the word of stored bytes; more are read, but room comes as they do.
const ROOM_MAX: usize = 256;

/// Fields by name, each name once, in the order of names. Stored as a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<(Name, Value)>);

/// Walks over fields in the order of names.
pub type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, (Name, Value)>, fn(&'a (Name, Value)) -> (&'a Name, &'a Value)>;

impl Fields {
    /// None.
    pub fn new() -> Self {
        Fields::default()
    }

    /// Takes fields in any order. Of a name that comes twice, `merge` gets the first value and a later one.
    pub fn merged(mut fields: Vec<(Name, Value)>, mut merge: impl FnMut(&mut Value, Value)) -> Self {
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(name, value), (before, first)| {
            let same = name == before;
            if same {
                merge(first, std::mem::replace(value, Value::Bool(false)));
            }
            same
        });
        Fields(fields)
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// Whether there is a value of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets a value, and gives the one of before.
    pub fn insert(&mut self, name: Name, value: Value) -> Option<Value> {
        match self.place(&name) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.insert(place, (name, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.place(name).ok().map(|place| self.0.remove(place).1)
    }

    /// Those of a name that is `wanted` and that `others` has not: one walk over both, for both are in order.
    #[must_use]
    pub fn missing_from(&self, others: &Fields, wanted: impl Fn(&str) -> bool) -> Fields {
        let mut others = others.0.iter().map(|(name, _)| name).peekable();
        let missing = self.0.iter().filter(|(name, _)| {
            while others.next_if(|other| *other < name).is_some() {}
            others.peek() != Some(&name) && wanted(name)
        });
        Fields(missing.cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in the order of names.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Their names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|(name, _)| name)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }
}

/// The later of two values of one name stands.
impl FromIterator<(Name, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(fields: I) -> Self {
        Fields::merged(fields.into_iter().collect(), |first, later| *first = later)
    }
}

impl<const N: usize> From<[(Name, Value); N]> for Fields {
    fn from(fields: [(Name, Value); N]) -> Self {
        fields.into_iter().collect()
    }
}

impl Extend<(Name, Value)> for Fields {
    fn extend<I: IntoIterator<Item = (Name, Value)>>(&mut self, fields: I) {
        // Sorted once: one insertion each would be quadratic in what a host stored.
        self.0.extend(fields);
        *self = std::mem::take(&mut self.0).into_iter().collect();
    }
}

impl IntoIterator for Fields {
    type Item = (Name, Value);
    type IntoIter = std::vec::IntoIter<(Name, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a Name, &'a Value);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Panics when there is none, as maps do.
impl Index<&str> for Fields {
    type Output = Value;
    fn index(&self, name: &str) -> &Value {
        self.get(name).expect("no field of this name")
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Fields;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of fields")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(0).min(ROOM_MAX));
        while let Some(field) = map.next_entry::<Name, Value>()? {
            fields.push(field);
        }
        // Stored in order, but nothing may hang on what a host stored.
        Ok(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_whatever_order_they_came_in() {
        let mut fields = Fields::from([("b".into(), 2u64.into()), ("a".into(), 1u64.into())]);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields.insert("c".into(), 3u64.into()), None);
        assert_eq!(fields.insert("a".into(), 4u64.into()), Some(1u64.into()));
        assert_eq!((fields["a"].clone(), fields.get("d")), (4u64.into(), None));
        assert_eq!((fields.remove("b"), fields.remove("b")), (Some(2u64.into()), None));
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn what_another_list_has_is_not_missing_from_it() {
        let list = |names: &str| -> Fields {
            names.chars().map(|name| (name.to_string().into(), Value::from(1u64))).collect()
        };
        let missing = |ours, theirs| {
            let missing = list(ours).missing_from(&list(theirs), |name| name != "x");
            missing.keys().map(|name| name.to_string()).collect::<String>()
        };
        for (ours, theirs, expected) in
            [("abcd", "bd", "ac"), ("bd", "abcde", ""), ("abx", "", "ab"), ("", "ab", ""), ("ad", "bc", "ad")]
        {
            assert_eq!(missing(ours, theirs), expected, "{ours} from {theirs}");
        }
    }

    #[test]
    fn stored_fields_out_of_order_or_twice_are_read_all_the_same() {
        let fields: Fields = serde_json::from_str(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"a":2,"b":3}"#);
    }
}
