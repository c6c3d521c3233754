//! Simple queries.

use super::*;

/// Field codes of the specification, and what each is called in the record of an error.
const ERROR_FIELDS: [(char, &str); 17] = [
    ('V', "db.postgresql.severity"),
    ('C', "db.response.status_code"),
    ('M', "error.message"),
    ('D', "db.postgresql.error.detail"),
    ('H', "db.postgresql.error.hint"),
    ('P', "db.postgresql.error.position"),
    ('p', "db.postgresql.error.internal_position"),
    ('q', "db.postgresql.error.internal_query"),
    ('W', "db.postgresql.error.where"),
    ('s', "db.postgresql.error.schema"),
    ('t', "db.postgresql.error.table"),
    ('c', "db.postgresql.error.column"),
    ('d', "db.postgresql.error.data_type"),
    ('n', "db.postgresql.error.constraint"),
    ('F', "db.postgresql.error.file"),
    ('L', "db.postgresql.error.line"),
    ('R', "db.postgresql.error.routine"),
];

#[test]
fn every_field_of_an_error_is_told() {
    let mut body = b"SFEHLER\0".to_vec();
    for (code, name) in ERROR_FIELDS {
        body.extend(format!("{code}said {name}\0").bytes());
    }
    body.push(0);
    let mut talk = Talk::joined();
    talk.up(query("select 1")).down([message(b'E', &body), ready(b'I')].concat());
    for (_, name) in ERROR_FIELDS {
        assert_eq!(talk.exchange(1).text(name), format!("said {name}"));
    }
}

#[test]
fn a_query_with_rows_is_one_exchange() {
    let mut talk = Talk::joined();
    talk.up(query("select id, name from people where name = 'x'"))
        .down(columns(&[("id", 23, 0), ("name", 25, 0)]))
        .down(row(&[Some(b"1"), Some(b"x")]))
        .down(row(&[Some(b"2"), None]))
        .down(complete("SELECT 2"))
        .down(ready(b'I'));
    let told = talk.exchange(1);
    assert_eq!(told.outcome, Some(Outcome::Ok));
    assert_eq!(told.text("db.query.summary"), "SELECT people");
    assert_eq!(told.text("db.postgresql.command_tag"), "SELECT 2");
    assert_eq!(told.number("db.response.returned_rows"), Some(2));
    assert_eq!(told.text("db.postgresql.transaction_status"), "idle");
    assert_eq!(told.rows[0].columns, ["id", "name"]);
    assert_eq!(told.rows[0].rows, [vec![text_cell("1"), text_cell("x")], vec![text_cell("2"), None]]);
    assert!(matches!(told.class("db.query.text"), Class::Statement(_)));
}

#[test]
fn several_statements_list_their_results() {
    let mut talk = Talk::joined();
    talk.up(query("insert into a values (1); select 1; select 2"))
        .down(complete("INSERT 0 1"))
        .down([columns(&[("x", 23, 0)]), row(&[Some(b"1")]), complete("SELECT 1")].concat())
        .down([columns(&[("y", 23, 0)]), row(&[Some(b"2")]), complete("SELECT 1")].concat())
        .down(ready(b'I'));
    let told = talk.exchange(1);
    let tags = ["INSERT 0 1", "SELECT 1", "SELECT 1"].map(text_cell);
    assert_eq!(told.fields["db.postgresql.results"].0, Value::List(tags.to_vec()));
    assert_eq!(told.rows.len(), 2);
    assert_eq!(told.rows[1].columns, ["y"]);
}

#[test]
fn an_error_is_told_with_its_state_and_its_request() {
    let mut talk = Talk::joined();
    talk.up(query("selec")).down(error("42601", "syntax error")).down(ready(b'E'));
    let told = talk.exchange(1);
    assert_eq!(told.outcome, Some(Outcome::Error));
    assert_eq!(told.text("db.response.status_code"), "42601");
    assert_eq!(told.text("db.postgresql.severity"), "ERROR");
    assert_eq!(told.class("error.message"), &Class::Text);
}

#[test]
fn a_cancelled_statement_says_why_as_far_as_the_server_says_it() {
    for (message, outcome, cause) in [
        ("canceling statement due to user request", Outcome::Cancelled, "user_request"),
        ("canceling statement due to statement timeout", Outcome::Error, "statement_timeout"),
        ("annulation de la requête à la demande de l'utilisateur", Outcome::Error, ""),
    ] {
        let mut talk = Talk::joined();
        talk.up(query("select pg_sleep(9)")).down(error("57014", message)).down(ready(b'I'));
        assert_eq!(talk.exchange(1).outcome, Some(outcome), "{message}");
        assert_eq!(talk.exchange(1).text("db.postgresql.cancel_cause"), cause, "{message}");
        assert_eq!(talk.exchange(1).text("db.response.status_code"), "57014");
    }
}

#[test]
fn a_message_that_claims_to_be_plain_text_is_never_structure() {
    let mut talk = Talk::joined();
    talk.up(query("select 1")).down(complete("mail@example.org card=1")).down(ready(b'I'));
    assert_eq!(talk.exchange(1).class("db.postgresql.command_tag"), &Class::Text);
}
