//! Holes, joining in the middle, and limits: what is not known is said, and never guessed.

use super::*;

#[test]
fn a_statement_from_before_is_unknown() {
    let mut talk = Talk::joined();
    talk.up([bind("", "old", 0, &[Some(b"7")], 0), execute(""), sync()].concat());
    talk.down([bare(b'2'), complete("SELECT 1"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.anomalies, ["statement_unknown"]);
    assert_eq!(told.text("db.postgresql.statement"), "old");
    assert_eq!(told.text("db.query.parameter.1"), "7");
    assert!(!told.fields.contains_key("db.query.text"));
    assert_eq!(told.outcome, Some(Outcome::Ok));
}

#[test]
fn an_answer_to_what_was_not_seen_stands_alone() {
    let mut talk = Talk::joined();
    talk.down([row(&[Some(b"1")]), complete("SELECT 1")].concat());
    talk.up(query("select 2")).down(ready(b'I')).down([complete("SELECT 2"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).anomalies, ["postgres_request_unseen"]);
    assert_eq!(talk.exchange(1).text("db.postgresql.command_tag"), "SELECT 1");
    assert_eq!(talk.exchange(1).rows[0].rows, [[text_cell("1")]]);
    assert_eq!(talk.exchange(2).text("db.query.text"), "select 2");
    assert_eq!(talk.exchange(2).text("db.postgresql.command_tag"), "SELECT 2");
}

#[test]
fn a_hole_in_the_answer_leaves_the_request_without_one() {
    let mut talk = Talk::joined();
    talk.up(query("select 1")).down(row(&[Some(b"1")])).gap(Direction::Down);
    assert_eq!(talk.exchange(1).anomalies, ["postgres_unpaired"]);
    talk.down([complete("SELECT 1"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).outcome, None);
    assert_eq!(talk.exchange(2).anomalies, ["postgres_request_unseen"]);
    talk.up(query("select 2")).down([complete("SELECT 2"), ready(b'I')].concat());
    assert_eq!(talk.exchange(3).text("db.postgresql.command_tag"), "SELECT 2");
}

#[test]
fn a_statement_that_was_only_prepared_is_told_when_its_answer_is_lost() {
    let mut talk = Talk::joined();
    talk.up([parse("s", "select 1", &[]), sync()].concat()).gap(Direction::Down);
    assert_eq!(talk.exchange(1).text("db.query.text"), "select 1");
    assert_eq!(talk.exchange(1).anomalies, ["postgres_unpaired"]);
}

#[test]
fn a_hole_in_the_requests_keeps_what_came_before() {
    let mut talk = Talk::joined();
    talk.up(query("select 1")).gap(Direction::Up);
    talk.down([complete("SELECT 1"), ready(b'I'), complete("SELECT 99"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).text("db.postgresql.command_tag"), "SELECT 1");
    assert_eq!(talk.exchange(2).anomalies, ["postgres_request_unseen"]);
    assert_eq!(talk.exchange(2).text("db.postgresql.command_tag"), "SELECT 99");
    talk.up(query("select 3")).down([complete("SELECT 3"), ready(b'I')].concat());
    assert_eq!(talk.exchange(3).text("db.postgresql.command_tag"), "SELECT 3");
}

#[test]
fn an_answer_that_fits_no_request_stops_pairing() {
    let mut talk = Talk::joined();
    talk.up([parse("", "select 1", &[]), bind("", "", 0, &[], 0), execute(""), sync()].concat());
    talk.down([bare(b'3'), complete("SELECT 1"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.outcome, None);
    assert!(told.anomalies.contains(&"postgres_unpaired"));
    assert_eq!(talk.exchange(2).anomalies, ["postgres_request_unseen"]);
    talk.up(query("select 2")).down([complete("SELECT 2"), ready(b'I')].concat());
    assert_eq!(talk.exchange(3).outcome, Some(Outcome::Ok));
}

#[test]
fn more_requests_than_the_limit_pair_again_when_all_are_answered() {
    let mut talk = Talk::with(Limits { pending_max: 1, ..Limits::default() }, true);
    for _ in 0..20 {
        talk.up(query("select 1"));
    }
    assert_eq!(talk.exchange(20).anomalies, ["postgres_pending_limit"]);
    for _ in 0..20 {
        talk.down([complete("SELECT 1"), ready(b'I')].concat());
    }
    let answered = talk.told.exchanges.values().filter(|told| told.outcome.is_some()).count();
    assert_eq!(answered, 6);
    talk.up(query("select 2")).down([complete("SELECT 2"), ready(b'I')].concat());
    assert_eq!(talk.exchange(21).text("db.postgresql.command_tag"), "SELECT 2");
}

#[test]
fn names_over_the_limit_are_forgotten_from_the_oldest() {
    let mut talk = Talk::with(Limits { names_max: 2, ..Limits::default() }, true);
    for name in ["a", "b", "c"] {
        talk.up([parse(name, "select 1", &[]), sync()].concat()).down([bare(b'1'), ready(b'I')].concat());
    }
    assert_eq!(talk.told.anomalies, ["postgres_names_limit"]);
    for name in ["a", "c"] {
        talk.up([bind("", name, 0, &[], 0), execute(""), sync()].concat());
    }
    assert_eq!(talk.exchange(1).anomalies, ["statement_unknown"]);
    assert_eq!(talk.exchange(2).text("db.query.text"), "select 1");
}

#[test]
fn long_statements_do_not_fill_the_memory() {
    let mut talk = Talk::joined();
    let text = "x".repeat(200 << 10);
    for name in 0..200 {
        talk.up([parse(&name.to_string(), &text, &[]), sync()].concat());
        talk.down([bare(b'1'), ready(b'I')].concat());
    }
    assert!(talk.decoder.held_bytes() < 5 << 20, "{}", talk.decoder.held_bytes());
}

#[test]
fn rows_over_the_limit_are_counted() {
    let mut talk = Talk::with(Limits { rows_max: 3, ..Limits::default() }, true);
    talk.up(query("select n")).down(columns(&[("n", 23, 0)]));
    for _ in 0..10 {
        talk.down(row(&[Some(b"1")]));
    }
    talk.down([complete("SELECT 10"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.rows[0].rows.len(), 3);
    assert_eq!(told.number("db.response.rows_cut"), Some(7));
    assert_eq!(told.number("db.response.returned_rows"), Some(10));
}

#[test]
fn a_cut_statement_keeps_what_is_there() {
    let mut talk = Talk::joined();
    let whole = query("select 'a very long statement'");
    let frame = Frame { direction: Direction::Up, position: 0, time_ns: 1, bytes: &whole[..20] };
    talk.decoder.on_frame(frame, whole.len() as u64 - 20, &mut talk.told);
    assert_eq!(talk.exchange(1).text("db.query.text"), "select 'a very ");
    assert_eq!(talk.exchange(1).anomalies, ["postgres_cut"]);
}

#[test]
fn resync_wants_two_messages_that_agree() {
    let mut decoder = Postgres.open(&Limits::default(), true);
    let row = row(&[Some(b"ABCD"), Some(b"hello wor")]);
    let stream = [&row[9..], &row, &complete("SELECT 2"), &ready(b'I')].concat();
    assert_eq!(decoder.resync(Direction::Down, &stream), Some(row.len() - 9));
    assert_eq!(decoder.resync(Direction::Down, b"D\0\0\0\x06\0\0 no message"), None);
    assert_eq!(decoder.resync(Direction::Up, b"S\0\0\0\x04"), None, "one plausible header is not enough");
    assert_eq!(decoder.resync(Direction::Up, b"xxS\0\0\0\x04S\0\0\0\x04"), Some(2));
}
