//! The extended protocol: statements, portals, values, pipelines, and errors up to the Sync.

use super::*;

fn all(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.concat()
}

#[test]
fn an_execute_is_one_exchange_with_its_statement_and_values() {
    let mut talk = Talk::joined();
    talk.up(all(&[
        parse("", "select card from people where id = $1 and email = $2", &[23, 25]),
        bind("", "", 1, &[Some(&7i32.to_be_bytes()), Some(b"a@example.org")], 1),
        describe('P', ""),
        execute(""),
        sync(),
    ]))
    .down(all(&[bare(b'1'), bare(b'2'), columns(&[("card", 20, 1)])]))
    .down(all(&[row(&[Some(&9i64.to_be_bytes())]), row(&[None]), complete("SELECT 2"), ready(b'I')]));
    assert_eq!(talk.told.exchanges.len(), 1);
    let told = talk.exchange(1);
    assert_eq!(told.outcome, Some(Outcome::Ok));
    assert_eq!(told.text("db.postgresql.message"), "Execute");
    assert_eq!(told.text("db.query.summary"), "SELECT people");
    assert_eq!(told.fields["db.query.parameter.1"].0, Value::Signed(7));
    assert_eq!(told.text("db.query.parameter.2"), "a@example.org");
    assert_eq!(told.class("db.query.parameter.2"), &Class::Value { name: "email".to_owned() });
    assert_eq!(told.rows[0].rows, [vec![Some(Value::Signed(9))], vec![None]]);
    assert_eq!(told.anomalies, [""; 0]);
}

#[test]
fn a_named_statement_is_executed_again_without_its_text() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("s1", "update t set a = $1", &[0]), describe('S', "s1"), sync()]));
    talk.down(all(&[bare(b'1'), message(b't', &[0, 1, 0, 0, 0, 21]), bare(b'n'), ready(b'I')]));
    assert_eq!(talk.told.exchanges.len(), 0, "a statement that is only prepared is no exchange");
    for id in 1..=2 {
        talk.up(all(&[bind("", "s1", 1, &[Some(&[0, 5])], 0), execute(""), sync()]));
        talk.down(all(&[bare(b'2'), complete("UPDATE 3"), ready(b'I')]));
        let told = talk.exchange(id);
        assert_eq!(told.text("db.query.text"), "update t set a = $1");
        assert_eq!(told.text("db.postgresql.statement"), "s1");
        assert_eq!(told.fields["db.query.parameter.1"].0, Value::Signed(5), "typed by the server's word");
        assert_eq!(told.number("db.response.returned_rows"), Some(3));
    }
}

#[test]
fn columns_of_a_described_statement_serve_its_executions() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("s", "select 1", &[]), describe('S', "s"), sync()]));
    talk.down(all(&[bare(b'1'), message(b't', &[0, 0]), columns(&[("n", 23, 0)]), ready(b'I')]));
    talk.up(all(&[bind("", "s", 0, &[], 1), execute(""), sync()]));
    talk.down(all(&[bare(b'2'), row(&[Some(&1i32.to_be_bytes())]), complete("SELECT 1"), ready(b'I')]));
    assert_eq!(talk.exchange(1).rows[0].columns, ["n"]);
    assert_eq!(talk.exchange(1).rows[0].rows, [vec![Some(Value::Signed(1))]]);
}

#[test]
fn pipelined_requests_pair_in_order_whatever_comes_between() {
    let requests: Vec<Vec<u8>> = (1..=3)
        .map(|n| all(&[parse("", &format!("select {n}"), &[]), bind("", "", 0, &[], 0), execute(""), sync()]))
        .collect();
    let answers: Vec<Vec<u8>> = (1..=3)
        .map(|n| {
            all(&[
                bare(b'1'),
                bare(b'2'),
                row(&[Some(n.to_string().as_bytes())]),
                complete("SELECT 1"),
                ready(b'I'),
            ])
        })
        .collect();
    let mut at_once = Talk::joined();
    at_once.up(requests.concat()).down(answers.concat());
    let mut between = Talk::joined();
    between
        .up(&requests[0])
        .up(&requests[1])
        .down(&answers[0])
        .up(&requests[2])
        .down(&answers[1])
        .down(&answers[2]);
    for talk in [at_once, between] {
        for n in 1..=3 {
            let told = talk.exchange(n);
            assert_eq!(told.text("db.query.text"), format!("select {n}"));
            assert_eq!(told.rows[0].rows[0], [text_cell(&n.to_string())]);
        }
    }
}

#[test]
fn an_error_skips_to_the_sync_and_no_further() {
    let run = |text| all(&[parse("", text, &[]), bind("", "", 0, &[], 0), execute("")]);
    let mut talk = Talk::joined();
    talk.up(all(&[run("select a"), run("select b"), run("select c"), sync(), run("select d"), sync()]));
    let done = all(&[bare(b'1'), bare(b'2'), complete("SELECT 0")]);
    talk.down(all(&[done.clone(), error("42703", "no b"), ready(b'I'), done, ready(b'I')]));
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Ok));
    assert_eq!(talk.exchange(2).text("db.response.status_code"), "42703");
    assert_eq!(talk.exchange(3).fields["db.postgresql.skipped"].0, Value::Bool(true));
    assert_eq!(talk.exchange(3).outcome, Some(Outcome::Error));
    assert_eq!(talk.exchange(4).outcome, Some(Outcome::Ok));
    assert_eq!(talk.exchange(4).text("db.query.text"), "select d");
}

#[test]
fn an_error_before_its_execute_was_seen_makes_the_same_exchange() {
    let (first, second) = (parse("", "selec", &[]), all(&[bind("", "", 0, &[], 0), execute(""), sync()]));
    let mut late = Talk::joined();
    late.up(all(&[first.clone(), second.clone()])).down(all(&[error("42601", "syntax"), ready(b'I')]));
    let mut early = Talk::joined();
    early.up(first).down(error("42601", "syntax")).up(second).down(ready(b'I'));
    for talk in [late, early] {
        assert_eq!(talk.told.exchanges.len(), 1);
        let told = talk.exchange(1);
        assert_eq!(told.outcome, Some(Outcome::Error));
        assert_eq!(told.text("db.query.text"), "selec");
        assert_eq!(told.text("db.response.status_code"), "42601");
    }
}

#[test]
fn a_parse_that_fails_without_an_execute_is_an_exchange() {
    for messages in [1, 2] {
        let mut talk = Talk::joined();
        let prepare = parse("s", "selec", &[]);
        if messages == 1 {
            talk.up(all(&[prepare, describe('S', "s"), sync()])).down(error("42601", "syntax"));
        } else {
            talk.up(prepare).down(error("42601", "syntax")).up(all(&[describe('S', "s"), sync()]));
        }
        talk.down(ready(b'I'));
        let told = talk.exchange(1);
        assert_eq!(told.text("db.postgresql.message"), "Parse");
        assert_eq!(told.text("db.query.text"), "selec");
        assert_eq!(told.outcome, Some(Outcome::Error));
    }
}

#[test]
fn a_refused_statement_gives_its_name_back() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("s", "select 1", &[]), sync()])).down(all(&[bare(b'1'), ready(b'I')]));
    talk.up(all(&[parse("s", "select 2", &[]), sync()])).down(all(&[error("42P05", "exists"), ready(b'I')]));
    talk.up(all(&[bind("", "s", 0, &[], 0), execute(""), sync()]));
    assert_eq!(talk.exchange(2).text("db.query.text"), "select 1");
}

#[test]
fn a_skipped_close_closes_nothing() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("s", "select 1", &[]), sync()])).down(all(&[bare(b'1'), ready(b'I')]));
    talk.up(all(&[parse("", "x", &[]), message(b'C', b"Ss\0"), sync()]));
    talk.down(all(&[error("42601", "x"), ready(b'I')]));
    talk.up(all(&[bind("", "s", 0, &[], 0), execute(""), sync()]));
    assert_eq!(talk.exchange(2).text("db.query.text"), "select 1");
    talk.down(all(&[bare(b'2'), complete("SELECT 0"), ready(b'I')]));
    talk.up(all(&[message(b'C', b"Ss\0"), sync()])).down(all(&[bare(b'3'), ready(b'I')]));
    talk.up(all(&[bind("", "s", 0, &[], 0), execute(""), sync()]));
    assert_eq!(talk.exchange(3).anomalies, ["statement_unknown"]);
}

#[test]
fn a_portal_is_fetched_in_pieces() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("", "select 1", &[]), bind("c", "", 0, &[], 0), execute("c"), sync()]));
    talk.down(all(&[bare(b'1'), bare(b'2'), row(&[Some(b"1")]), bare(b's'), ready(b'T')]));
    talk.up(all(&[execute("c"), sync()])).down(all(&[complete("SELECT 0"), ready(b'I')]));
    assert_eq!(talk.exchange(1).number("db.response.returned_rows"), Some(1));
    assert_eq!(talk.exchange(2).text("db.query.text"), "select 1");
    assert_eq!(talk.exchange(2).text("db.postgresql.portal"), "c");
    talk.up(all(&[execute("c"), sync()]));
    assert_eq!(talk.exchange(3).anomalies, ["statement_unknown"], "portals end with their transaction");
}

#[test]
fn a_deferred_constraint_fails_at_the_sync() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("", "insert into t values (1)", &[]), bind("", "", 0, &[], 0), execute(""), sync()]));
    talk.down(all(&[bare(b'1'), bare(b'2'), complete("INSERT 0 1"), error("23503", "fk"), ready(b'I')]));
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Ok));
    assert_eq!(talk.exchange(2).text("db.postgresql.message"), "Sync");
    assert_eq!(talk.exchange(2).text("db.response.status_code"), "23503");
}

#[test]
fn an_empty_statement_and_a_null_value() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("", "", &[]), bind("", "", 0, &[None], 0), execute(""), message(b'H', b""), sync()]));
    talk.down(all(&[bare(b'1'), bare(b'2'), bare(b'I'), ready(b'I')]));
    assert!(!talk.exchange(1).fields.contains_key("db.query.parameter.1"));
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Ok));
}

#[test]
fn a_null_and_an_array_of_one_null_look_different() {
    const TEXT_ARRAY: u32 = 1009;
    let of_one_null =
        [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0xff; 4]].concat();
    let mut talk = Talk::joined();
    talk.up(parse("", "select $1, $2, $3", &[TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY]));
    talk.up(all(&[bind("", "", 1, &[None, Some(&of_one_null), None], 0), execute("")]));
    let told = talk.exchange(1);
    assert_eq!(told.fields["db.query.parameter.2"].0, Value::List(vec![None]));
    let nulls = vec![Some(Value::Unsigned(1)), Some(Value::Unsigned(3))];
    assert_eq!(told.fields["db.query.null_parameters"].0, Value::List(nulls));
    assert!(!told.fields.contains_key("db.query.parameter.1"));
}

#[test]
fn a_binary_value_of_an_unknown_type_is_opaque() {
    let mut talk = Talk::joined();
    talk.up(all(&[parse("", "select $1", &[3614]), bind("", "", 1, &[Some(&[1; 16])], 0), execute("")]));
    assert_eq!(talk.exchange(1).class("db.query.parameter.1"), &Class::Opaque);
}

#[test]
fn a_function_call_is_an_exchange() {
    let mut talk = Talk::joined();
    let body = [&1598u32.to_be_bytes()[..], &[0, 1, 0, 0], &cells(&[Some(b"x"), None]), &[0, 0]].concat();
    talk.up(message(b'F', &body)).down(all(&[message(b'V', b"\0\0\0\x010"), ready(b'I')]));
    assert_eq!(talk.exchange(1).number("db.postgresql.function"), Some(1598));
    assert_eq!(talk.exchange(1).class("db.query.parameter.1"), &Class::Opaque);
    let nulls = Value::List(vec![Some(Value::Unsigned(2))]);
    assert_eq!(talk.exchange(1).fields["db.query.null_parameters"].0, nulls);
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Ok));
    assert_eq!(talk.exchange(1).class("db.postgresql.function_result"), &Class::Opaque);
}
