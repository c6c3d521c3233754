//! Values of a record as PostgreSQL writes them in its log. It must not know how Custody decodes anything.

use serde_json::Value;

use crate::stand::field;

/// The bound values of a record in the server's spelling, where `spellings` says which that is for those that differ.
pub fn parameters(record: &Value, spellings: &[(&str, &str)]) -> Vec<Option<String>> {
    let nulls = field(record, "db.query.null_parameters").as_array().cloned().unwrap_or_default();
    (1u64..)
        .map(|number| {
            (field(record, &format!("db.query.parameter.{number}")), nulls.contains(&number.into()))
        })
        .take_while(|(value, is_null)| *is_null || !value.is_null())
        .map(|(value, is_null)| {
            assert!(!is_null || value.is_null(), "NULL and a value: {record}");
            let spelled = spelled(value)?;
            let known = spellings.iter().find(|(recorded, _)| *recorded == spelled);
            Some(known.map_or(spelled, |(_, logged)| (*logged).to_owned()))
        })
        .collect()
}

/// A value as PostgreSQL writes it.
fn spelled(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => if *truth { "t" } else { "f" }.to_owned(),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(element).collect();
            format!("{{{}}}", elements.join(","))
        }
        Value::String(text) => text.clone(),
        number => number.to_string(),
    })
}

/// An element of an array, in quotes where PostgreSQL puts them: never around an array in an array.
fn element(value: &Value) -> String {
    let Some(text) = spelled(value) else { return "NULL".to_owned() };
    if value.is_array() {
        return text;
    }
    let bare = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains([' ', ',', '{', '}', '"', '\\']);
    if bare { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_array_in_an_array_stood_in_quotes() {
        let spelled = |value: Value| spelled(&value);
        assert_eq!(spelled(json!([[1, 2], [3, null]])).as_deref(), Some("{{1,2},{3,NULL}}"));
        assert_eq!(spelled(json!(["a b", "", "null", "x"])).as_deref(), Some("{\"a b\",\"\",\"null\",x}"));
        assert_eq!(spelled(json!(["\"\\{"])).as_deref(), Some("{\"\\\"\\\\{\"}"));
    }
}
