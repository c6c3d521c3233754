//! Masks one field by its class, whatever kind of value it holds.

use std::borrow::Cow;

use custody_record::{Value, names};

use super::mark::{self, Mark};
use super::policy::Policy;
use super::recognise::Place;
use super::report::Report;
use super::span::{self, Span};
use super::sql::Treatment;
use super::{arguments, body, json, pairs, sql};
use crate::item::Class;

/// Says which parts of a text are to be masked.
type Find<'a> = &'a dyn Fn(&Policy, &str, &mut Vec<Span>);

/// The media type of rows whose columns the statement beside them lists.
const TABULAR: &str = "text/tab-separated-values";

/// The masking of one field.
pub(crate) struct Masking<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) path: &'a str,
    /// Its end is missing.
    pub(crate) cut: bool,
    pub(crate) report: &'a mut Report,
}

impl Masking<'_> {
    /// The value as it may be stored. Statements add to `apart` what they say about values that come apart
    /// from them; those look there.
    pub(crate) fn value(&mut self, value: Value, class: &Class, apart: &mut sql::Apart) -> Value {
        match class {
            Class::Structure => self.structure(value),
            Class::Secret(kind) => self.whole(value, &Mark::redact(kind)),
            Class::Opaque => self.drop(&value, "opaque"),
            Class::Identifier => self.leaf(value, &|policy, text, spans| policy.find_often(text, "", spans)),
            Class::Text => self.leaf(value, &text),
            Class::Statement(_) => {
                let told = std::cell::RefCell::new(apart);
                self.leaf(value, &|policy, text, spans| {
                    let mut found = sql::find(policy, text, spans);
                    let mut told = told.borrow_mut();
                    told.parameters.append(&mut found.parameters);
                    told.copied = found.copied.or(told.copied.take());
                })
            }
            Class::Value { name } => {
                let number =
                    self.path.strip_prefix(names::DB_QUERY_PARAMETER).and_then(|text| text.parse().ok());
                match (self.policy.column(name), number.and_then(|number: u32| apart.parameters.get(&number)))
                {
                    (None, Some(Treatment::Mask(mark))) => self.cell(value, Some(mark), Place::TEXT),
                    (None, Some(Treatment::Look(kinds))) => self.cell(value, None, Place::named(*kinds)),
                    (mark, _) => self.cell(value, mark.as_ref(), Place::of(name)),
                }
            }
            Class::Keyed { key, field } => {
                let mark = self.policy.keyed(key, field);
                let name = if field.is_empty() { key } else { field };
                self.cell(value, mark.as_ref(), Place::of(name))
            }
            Class::Header { name } => {
                self.leaf(value, &|policy, text, spans| pairs::header(policy, name, text, spans))
            }
            Class::Parameter { name, media_type } => match self.policy.parameter(name) {
                Some(mark) => self.whole(value, &mark),
                None => match value {
                    Value::List(values) => {
                        self.list(values, |masking, value| masking.body(value, media_type, "", None))
                    }
                    value => self.body(value, media_type, "", None),
                },
            },
            Class::Query => self.leaf(value, &pairs::query),
            Class::Body { media_type, coding } => self.body(value, media_type, coding, apart.copied.as_ref()),
            Class::Arguments => self.arguments(value),
        }
    }

    /// One cell or parameter: by its column's mark, else by its looks.
    pub(crate) fn cell(&mut self, value: Value, mark: Option<&Mark>, place: Place<'_>) -> Value {
        match mark {
            Some(mark) => self.whole(value, mark),
            None => self.leaf(value, &|policy, text, spans| {
                // A document in a column; what only begins like one is read as text too.
                let json =
                    text.trim_start().starts_with(['{', '[']) && json::find(policy, text, place, spans);
                if !json {
                    policy.find(text.as_bytes(), place, spans);
                }
            }),
        }
    }

    /// A fact of the protocol: stays, but cannot look like a mask.
    fn structure(&mut self, value: Value) -> Value {
        match value {
            Value::Text(text) if self.report.takes(text.len()) => Value::Text(mark::escaped(text)),
            Value::Text(_) => self.drop(&value, "limit"),
            Value::Bytes(_) => self.drop(&value, "binary"),
            Value::List(items) => self.list(items, Self::structure),
            other => other,
        }
    }

    /// Masks all of a value; what is NULL stays so.
    fn whole(&mut self, value: Value, mark: &Mark) -> Value {
        if let Value::List(items) = value {
            return self.list(items, |masking, item| masking.whole(item, mark));
        }
        let original = shown(&value);
        let mut out = String::new();
        // Of a value whose end is missing, the last characters are not the last.
        mark.write(if self.cut { "" } else { &original }, &mut out);
        self.report.found(self.path, mark);
        self.keep(out)
    }

    /// Masks the parts of a text that `find` tells.
    pub(crate) fn leaf(&mut self, value: Value, find: Find<'_>) -> Value {
        let text = match value {
            Value::List(items) => return self.list(items, |masking, item| masking.leaf(item, find)),
            Value::Text(text) => text,
            Value::Bytes(bytes) => match readable(bytes, self.cut) {
                Ok(text) => text,
                Err(bytes) => return self.drop(&Value::Bytes(bytes), "binary"),
            },
            other => return self.number(other, find),
        };
        let mut spans = Vec::new();
        find(self.policy, &text, &mut spans);
        if !span::changes(&text, &spans, self.cut) {
            return self.keep(text);
        }
        let masked = span::apply(&text, spans, self.cut, |mark| self.report.found(self.path, mark));
        self.keep(masked)
    }

    /// A number or flag stays what it is, unless something is found in its digits.
    fn number(&mut self, value: Value, find: Find<'_>) -> Value {
        let digits = shown(&value).into_owned();
        let mut spans = Vec::new();
        find(self.policy, &digits, &mut spans);
        if spans.is_empty() {
            return value;
        }
        let masked = span::apply(&digits, spans, false, |mark| self.report.found(self.path, mark));
        self.keep(masked)
    }

    fn body(&mut self, value: Value, media_type: &str, coding: &str, copied: Option<&sql::Marks>) -> Value {
        let reading = match &value {
            Value::Text(text) => body::reading(media_type, coding, text.as_bytes()),
            Value::Bytes(bytes) => body::reading(media_type, coding, bytes),
            _ => None,
        };
        let Some(reading) = reading else {
            return self.drop(&value, if coding.is_empty() { "binary" } else { "coded" });
        };
        let value = match value {
            // Its charset is another than UTF-8: ASCII still reads the same, the rest is no secret's name.
            Value::Bytes(bytes) => Value::Text(
                String::from_utf8(bytes)
                    .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
            other => other,
        };
        self.leaf(value, &|policy, text, spans| match copied {
            Some(marks) if media_type == TABULAR => body::tabular(policy, marks, text, spans),
            _ => body::find(policy, reading, text, spans),
        })
    }

    fn arguments(&mut self, value: Value) -> Value {
        let Value::List(items) = value else { return self.leaf(value, &text) };
        let arguments: Vec<String> = items
            .iter()
            .map(|item| item.as_ref().map_or_else(String::new, |item| shown(item).into_owned()))
            .collect();
        let spans = arguments::find(self.policy, &arguments);
        let last = arguments.len().saturating_sub(1);
        let cut = self.cut;
        let masked = arguments.iter().zip(spans).enumerate().map(|(index, (argument, spans))| {
            // Only the last one can have lost its end.
            let cut = cut && index == last;
            let text = span::apply(argument, spans, cut, |mark| self.report.found(self.path, mark));
            Some(self.keep(text))
        });
        Value::List(masked.collect())
    }

    fn list(&mut self, items: Vec<Option<Value>>, mut each: impl FnMut(&mut Self, Value) -> Value) -> Value {
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            if self.report.is_full() {
                break;
            }
            kept.push(item.map(|item| each(self, item)));
        }
        Value::List(kept)
    }

    /// A text as it will be stored, if the record has room for it.
    fn keep(&mut self, text: String) -> Value {
        if self.report.takes(text.len()) {
            return Value::Text(text);
        }
        self.drop(&Value::Text(text), "limit")
    }

    /// Left out, with its length.
    fn drop(&mut self, value: &Value, kind: &'static str) -> Value {
        let bytes = match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            other => shown(other).len(),
        };
        self.report.dropped(self.path, kind);
        Value::Text(mark::dropped(kind, bytes))
    }
}

/// Anything that somebody wrote.
fn text(policy: &Policy, text: &str, spans: &mut Vec<Span>) {
    policy.find(text.as_bytes(), Place::TEXT, spans);
}

/// Bytes that are text. One that is cut may end inside of a character.
fn readable(bytes: Vec<u8>, cut: bool) -> Result<String, Vec<u8>> {
    if memchr::memchr(0, &bytes).is_some() {
        return Err(bytes);
    }
    String::from_utf8(bytes).or_else(|error| {
        let valid = error.utf8_error().valid_up_to();
        let mut bytes = error.into_bytes();
        if cut && bytes.len() - valid < 4 {
            bytes.truncate(valid);
        }
        String::from_utf8(bytes).map_err(std::string::FromUtf8Error::into_bytes)
    })
}

/// A value as text, the way people write it.
fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Bool(flag) => Cow::Owned(flag.to_string()),
        Value::Unsigned(number) => Cow::Owned(number.to_string()),
        Value::Signed(number) => Cow::Owned(number.to_string()),
        Value::Float(number) => Cow::Owned(number.to_string()),
        Value::Text(text) => Cow::Borrowed(text),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes),
        Value::List(_) => Cow::Borrowed(""),
    }
}
