//! Queries on entries, and what both need of the index.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Fields, Kind, Record, Status, Times, Value, View, names};

pub(super) fn view(fields: impl IntoIterator<Item = (&'static str, Value)>) -> View {
    let record = Record {
        kind: Kind::Exchange,
        session: None,
        exchange: Some(1),
        times: Times::default(),
        fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: vec!["order_unknown".into()],
    };
    View {
        host: "0190a000-0000-7000-8000-000000000001".into(),
        host_name: "db-7".into(),
        epoch: 1,
        seq: 2,
        entry_type: "exchange".into(),
        session_id: None,
        exchange: Some(1),
        received: 5,
        wall: 4,
        status: Status::Stored,
        record: Some(record),
        session: Fields::from([(names::PROCESS_EXECUTABLE.into(), Value::from("/usr/bin/psql"))]),
        labels: BTreeMap::new(),
        unreadable: false,
        expired: false,
    }
}

fn statement() -> View {
    view([
        (names::DB_QUERY_TEXT, Value::from("SELECT * FROM no_such_table WHERE id = 42")),
        (names::DB_RETURNED_ROWS, Value::from(7u64)),
        (names::DB_ROWS, Value::List(vec![Some(Value::List(vec![Some("cell one".into()), None]))])),
    ])
}

fn finds(query: &str) -> bool {
    query.parse::<Query>().unwrap().matches(&statement())
}

#[test]
fn words_phrases_and_beginnings_are_found() {
    for query in [
        "",
        "select",
        "SELECT 42",
        "table such",
        "\"from no such\"",
        "no_such_table",
        "no_such_ta*",
        "sel*",
        "psql",
        "/usr/bin/ps*",
        "db-7",
        "7",
        "cell",
        "\"cell one\"",
        "order_unknown",
        "exchange",
        "\"SELECT\"from*",
    ] {
        assert!(finds(query), "{query}");
    }
    for query in [
        "selec",
        "\"no from\"",
        "\"such no\"",
        "table_no",
        "elect*",
        "psql bash",
        "\"42 7\"",
        "\"one psql\"",
        "no_such_*x",
    ] {
        let matched = query.parse::<Query>().is_ok_and(|query| query.matches(&statement()));
        assert!(!matched, "{query}");
    }
}

#[test]
fn a_phrase_that_begins_anew_inside_of_itself_is_found() {
    let text = view([(names::DB_QUERY_TEXT, Value::from("a a b"))]);
    assert!("\"a b\"".parse::<Query>().unwrap().matches(&text));
    assert!("\"a a b\"".parse::<Query>().unwrap().matches(&text));
    assert!(!"\"b a\"".parse::<Query>().unwrap().matches(&text));
}

#[test]
fn bad_queries_get_a_sentence() {
    for (query, sentence) in [
        ("\"open", "never closed"),
        ("--", "no word"),
        ("a*", "too short"),
        ("/v1/*", "too short"),
        ("a*b", "end of a word"),
        ("\"ab*\"", "end of a word"),
        ("\u{1b}[*", "no word"),
    ] {
        let error = query.parse::<Query>().unwrap_err().to_string();
        assert!(error.contains(sentence) && !error.contains('\u{1b}'), "{query}: {error}");
    }
    assert_eq!("x ".repeat(600).parse::<Query>(), Err(QueryError::TooLong));
    assert_eq!("x ".repeat(65).parse::<Query>(), Err(QueryError::TooManyWords));
}

#[test]
fn a_cursor_reads_back_and_nothing_else_does() {
    for cursor in [Cursor::of(0, 0), Cursor::of(7, 1023), Cursor::of(1 << 40, 3)] {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    for wrong in ["", "7", "7.", ".3", "7.1024", "+7.1", "18446744073709551615.1", "1.2.3"] {
        assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_a_sentence(text in ".{0,80}") {
        match text.parse::<Query>() {
            Ok(query) => { query.matches(&statement()); }
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
    }

    #[test]
    fn what_is_found_has_the_words_that_the_index_is_asked_for(text in "[a-z0-9_.*\" ]{0,20}", value in "[a-z0-9_. ]{0,30}") {
        let view = view([(names::DB_QUERY_TEXT, Value::from(value))]);
        if let Ok(query) = text.parse::<Query>() {
            prop_assert!(!query.matches(&view) || query.need().is_met(&view));
            let again: Query = query.to_string().parse().unwrap();
            prop_assert_eq!(again, query);
        }
    }

    #[test]
    fn what_a_filter_lets_through_has_the_words_that_the_index_is_asked_for(
        field in prop::sample::select(vec!["host", "type", "process", "status", "protocol", "db.query.text", "db.response.returned_rows", "duration", "custody.bytes.up"]),
        operator in prop::sample::select(vec!["=", "!=", "<", "=~"]),
        literal in "[a-z0-9.]{1,6}",
        value in "[a-z0-9._]{0,6}",
        number in 0u64..2000,
        join in prop::sample::select(vec!["and", "or", "and not"]),
    ) {
        let view = view([
            (names::DB_QUERY_TEXT, Value::from(value.clone())),
            (names::DB_RESPONSE_STATUS, Value::from(value)),
            (names::DB_RETURNED_ROWS, Value::from(number)),
            (names::BYTES_UP, Value::from(number + 5000)),
            (names::HTTP_STATUS, Value::Float(number as f64 / 2.0)),
        ]);
        let equal = format!("custody.bytes.up = {} {join} {field} {operator} {literal}", number + 5000);
        for text in [format!("{field} {operator} {literal}"), format!("{field} {operator} '{literal}' {join} type = exchange"), equal] {
            let Ok(filter) = text.parse::<crate::Filter>() else { continue };
            let met = filter.need().is_none_or(|need| need.is_met(&view));
            prop_assert!(!filter.matches(&view) || met, "{}", text);
        }
    }
}
