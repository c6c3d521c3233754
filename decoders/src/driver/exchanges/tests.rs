//! The sum of what exchanges hold, however they end.

use custody_record::Value;

use super::*;
use crate::item::Class;

fn field(bytes: usize) -> Vec<Field> {
    vec![Field::new("db.query.text", "x".repeat(bytes), Class::Text)]
}

fn rows() -> Rows {
    Rows { columns: vec!["a".to_owned()], rows: vec![vec![Some(Value::from("cell"))], vec![None]] }
}

/// What a walk over all of them gives.
fn walked(exchanges: &Exchanges) -> usize {
    exchanges.open.values().map(|exchange| 256 + exchange.weight).sum()
}

#[test]
fn what_is_held_is_the_sum_of_all_and_given_back_however_each_ends() {
    let mut exchanges = Exchanges::new(Limits { pending_max: 4, ..Limits::default() });
    let steps: [&dyn Fn(&mut Exchanges); 9] = [
        &|all| all.request(1, 10, field(100)),
        &|all| all.request(2, 20, field(200_000)),
        &|all| all.fields(2, 30, field(10)),
        &|all| all.rows(2, 40, rows()),
        &|all| all.response(3, 50, Outcome::Ok, field(50)),
        &|all| all.tick(UNSOLICITED_AFTER_NS + OPEN_AFTER_NS + 100),
        &|all| (4..9).for_each(|id| all.request(id, 60, field(70))),
        &|all| all.response(8, 70, Outcome::Error, field(80)),
        &Exchanges::tell_all_open,
    ];
    for step in steps {
        step(&mut exchanges);
        assert_eq!(exchanges.held_bytes(), walked(&exchanges));
    }
    assert!(exchanges.pending() > 0 && exchanges.pending_limit_hits > 0);
    exchanges.close(End::Reset);
    assert_eq!(exchanges.held_bytes(), 0);
}

#[test]
fn an_answer_without_a_request_that_goes_on_is_one_exchange() {
    let mut exchanges = Exchanges::new(Limits::default());
    exchanges.fields(7, 10, field(100));
    exchanges.tick(10 + UNSOLICITED_AFTER_NS);
    exchanges.fields(7, UNSOLICITED_AFTER_NS + 20, field(50));
    exchanges.response(7, UNSOLICITED_AFTER_NS + 30, Outcome::Ok, Vec::new());
    exchanges.tick(10 * UNSOLICITED_AFTER_NS);
    let told: Vec<_> = std::iter::from_fn(|| exchanges.next_told()).map(|one| (one.id, one.kind)).collect();
    assert_eq!(told, [(7, Kind::ExchangeOpen), (7, Kind::ExchangeClose)]);
    assert_eq!(exchanges.pending(), 0);
}
