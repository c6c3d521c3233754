//! What filters choose, as a table; what they refuse; and that hostile ones end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Kind, Record, Status, Times, Value, names};

fn view() -> View {
    let fields = [
        (names::DB_QUERY_TEXT, Value::from("SELECT * FROM customers")),
        (names::DB_RESPONSE_STATUS, Value::from("57014")),
        (names::DURATION, Value::from(1_000_000_000_u64)),
        (names::OUTCOME, Value::from("error")),
        (names::DB_COLUMNS, Value::List(vec![Some("id".into()), None, Some("email".into())])),
        (names::TLS, Value::from(true)),
        ("db.query.parameter.1", Value::from("it's")),
    ];
    let session = [
        (names::PROCESS_EXECUTABLE, Value::from("/usr/bin/psql")),
        (names::PROCESS_PID, Value::from(31337_u64)),
        (names::SERVICE_NAME, Value::from("payments.service")),
        (names::USER_NAME, Value::from("postgres")),
    ];
    View {
        host: "0190d8f0-0000-7000-8000-000000000001".into(),
        host_name: "db-7".into(),
        epoch: 3,
        seq: 184_201,
        entry_type: "exchange".into(),
        session_id: Some(crate::SessionId::of(&[1; 16], 3, &[2; 16], 17)),
        exchange: Some(3),
        received: 0,
        wall: 0,
        status: Status::Stored,
        record: Some(Record {
            kind: Kind::Exchange,
            session: Some(1),
            exchange: Some(3),
            times: Times::default(),
            fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            masked: Vec::new(),
            kinds: BTreeMap::from([("email".into(), 500)]),
            anomalies: vec!["D03".into(), "D07".into()],
        }),
        session: session.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        labels: BTreeMap::from([("env".into(), "prod".into())]),
        unreadable: false,
        expired: false,
    }
}

fn check(filter: &str) -> bool {
    filter.parse::<Filter>().unwrap_or_else(|error| panic!("{error}")).matches(&view())
}

#[test]
fn what_filters_choose() {
    for (filter, wanted) in [
        ("db.response.status_code =~ '^57' and duration > 500ms", true),
        ("db.response.status_code=57014", true),
        ("status = '57014'", true),
        ("status > 6000", true),
        ("status = 5701", false),
        ("duration = 1s", true),
        ("duration <= 999ms", false),
        ("duration < 1.5s", true),
        ("duration >= 1m", false),
        ("process = psql", true),
        ("process = /usr/bin/psql", true),
        ("process = 31337", true),
        ("process != psql", false),
        ("service = payments and user=postgres", true),
        ("login = alice", false),
        ("login != alice", false),
        ("not login = alice", true),
        ("host = db-7 and label.env = prod", true),
        ("label.env = test", false),
        ("type = exchange and exchange = 3 and epoch = 3 and seq > 184200", true),
        ("db.response.columns = email", true),
        ("db.response.columns != email", false),
        ("db.response.columns != card", true),
        ("db.response.columns !~ 'mail'", false),
        ("has(db.response.columns) and not has(http.request.method)", true),
        ("custody.tls = true", true),
        ("custody.tls = false", false),
        ("custody.kinds.email >= 500", true),
        ("custody.anomalies = D07", true),
        ("db.query.parameter.1 = 'it\\'s'", true),
        ("db.query.text =~ '\\bcustomers$'", true),
        ("db.query.text =~ \"(?i)select\\s\"", true),
        ("error", true),
        ("open", false),
        ("false_positive = 1 or true", false),
        ("type = a or type = exchange and not (type = exchange and exchange = 4)", true),
        ("type=exchange AND NOT exchange=3", false),
    ] {
        if filter.contains("false_positive") {
            assert!(filter.parse::<Filter>().is_err());
            continue;
        }
        assert_eq!(check(filter), wanted, "{filter}");
    }
}

#[test]
fn a_session_is_found_by_its_first_digits() {
    let id = view().session_id.map(|id| id.to_string()).unwrap_or_default();
    assert!(check(&format!("session = {}", &id[..4])));
    assert!(!check("session = zzzz"));
}

#[test]
fn mistakes_are_pointed_at() {
    for (filter, shown) in [
        ("", "the filter is empty\n  \n  ^"),
        ("duration >", "expected a value here, such as 500ms or 'some text'\n  duration >\n            ^"),
        ("duratio > 5", "there is no field `duratio`; did you mean `duration`?\n  duratio > 5\n  ^"),
        ("type = 'a", "this quote is never closed\n  type = 'a\n         ^"),
        ("(type = a", "expected `)` here\n  (type = a\n           ^"),
        ("type = a)", "this parenthesis was never opened\n  type = a)\n          ^"),
        ("type = a type = b", "expected `and`, `or` or the end here\n  type = a type = b\n           ^"),
        (
            "type and host = a",
            "expected an operator here: = != < <= > >= =~ !~\n  type and host = a\n       ^",
        ),
        (
            "type = a & b",
            "`&` means nothing here; quote it if it is part of a value\n  type = a & b\n           ^",
        ),
        ("host =~ '('", "the pattern cannot be used: unclosed group\n  host =~ '('\n          ^"),
    ] {
        assert_eq!(filter.parse::<Filter>().map_err(|error| error.to_string()).unwrap_err(), shown);
    }
}

#[test]
fn hostile_filters_are_refused() {
    for filter in [
        "(".repeat(5000),
        "not ".repeat(2000),
        format!("{}type = a{}", "(".repeat(40), ")".repeat(40)),
        vec!["type = a"; 300].join(" and "),
        vec!["type =~ a"; 20].join(" and "),
        "type =~ '(?:(?:a{1000}){1000}){1000}'".to_owned(),
        "type =~ '\\w{1000}'".to_owned(),
        format!("type =~ '{}'", "(".repeat(100) + &")".repeat(100)),
        "a".repeat(SOURCE_BYTES_MAX + 1),
    ] {
        assert!(filter.parse::<Filter>().is_err(), "{}", &filter[..40]);
    }
}

#[test]
fn an_error_shows_no_control_characters() {
    let error = "type = a \u{1b}[2J".parse::<Filter>().unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[test]
fn mentions_finds_a_field_wherever_it_stands() {
    let filter: Filter = "host = a or not (exchange = 1 and has(type))".parse().unwrap();
    assert!(filter.mentions("type") && filter.mentions("host") && !filter.mentions("seq"));
}

#[test]
fn a_host_is_left_out_only_when_no_entry_of_it_can_match() {
    let mut host = view();
    (host.host_name, host.labels) = ("db-7".into(), [("env".to_owned(), "prod".to_owned())].into());
    let admits = |text: &str| text.parse::<Filter>().unwrap().admits_host(&host);
    assert!(
        admits("host = db-7 and error") && admits("host = other or type = gap") && admits("label.env = prod")
    );
    assert!(!admits("host = other and error") && !admits("not host = db-7") && !admits("label.env = test"));
    assert!(!admits("host = other or (label.env = test and type = gap)"));
}

fn any_filter() -> impl Strategy<Value = String> {
    let field = prop::sample::select(
        fields().map(|(name, _)| name.trim_end_matches('.').to_owned()).collect::<Vec<_>>(),
    )
    .prop_filter("families need a rest", |name| Field::named(name).is_ok());
    let operator = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let value = any::<String>().prop_map(|text| quote(&text));
    let term =
        (field, operator, value).prop_map(|(field, operator, value)| format!("{field} {operator} {value}"));
    term.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("not ({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) and ({two})")),
            (inner.clone(), inner).prop_map(|(one, two)| format!("({one}) or ({two})")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error(text in ".{0,200}") {
        if let Ok(filter) = text.parse::<Filter>() {
            filter.matches(&view());
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_end(words in prop::collection::vec(
        prop::sample::select(vec!["not", "and", "or", "(", ")", "has", "type", "=", "=~", "'a'", "5ms", "open"]), 0..60)) {
        let _ = words.join(" ").parse::<Filter>();
    }

    #[test]
    fn not_turns_every_filter_round(filter in any_filter()) {
        prop_assume!(filter.len() < SOURCE_BYTES_MAX / 2);
        prop_assert_eq!(check(&format!("not ({filter})")), !check(&filter));
    }

    #[test]
    fn a_quoted_value_is_found_as_it_is(text in any::<String>()) {
        let mut view = view();
        view.host_name = text.clone();
        let filter: Filter = format!("host = {}", quote(&text)).parse().unwrap();
        prop_assert!(filter.matches(&view));
    }

    #[test]
    fn numbers_compare_as_numbers(own: u64, other: u64) {
        let mut view = view();
        view.seq = own;
        let matches = |operator: &str| format!("seq {operator} {other}").parse::<Filter>().unwrap().matches(&view);
        prop_assert_eq!(matches("<"), own < other);
        prop_assert_eq!(matches(">="), own >= other);
        prop_assert_eq!(matches("="), own == other);
    }
}
