//! What is told of the fixtures, by subject: the goldens say all of it, these say what matters.

use custody_record::Value;

use super::Redis;
use crate::case;
use crate::driver::exchanges::End;
use crate::harness::replay::{self, Outcome, Told};
use crate::item::Class;
use crate::protocol::Outcome as Ended;

mod commands;
mod loss;
mod modes;
mod values;

/// What is told of a case of a fixture.
#[track_caller]
fn told(fixture: &str, name: &str) -> Outcome {
    let path = format!("{}/src/redis/fixtures/{fixture}.cap", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a fixture");
    let cases = case::parse(fixture, &text).expect("cases");
    let wanted = format!("{fixture}: {name}");
    let case = cases.iter().find(|case| case.name == wanted).expect("the case");
    replay::replay(&Redis, case, usize::MAX)
}

/// What is told of a conversation.
fn talk(text: &str) -> Outcome {
    let cases = case::parse("talk", text).expect("a case");
    replay::replay(&Redis, &cases[0], usize::MAX)
}

/// A field as text; empty when it is not there.
fn field(told: &Told, name: &str) -> String {
    match told.fields.get(name).map(|field| &field.value) {
        Some(Value::Text(text)) => text.clone(),
        Some(value) => format!("{value:?}"),
        None => String::new(),
    }
}

fn text(told: &Told) -> String {
    field(told, "db.query.text")
}

fn reply_type(told: &Told) -> String {
    field(told, "db.redis.reply_type")
}

/// Exchanges in their order.
fn all(outcome: &Outcome) -> Vec<&Told> {
    outcome.exchanges.values().collect()
}

/// The first exchange of this line.
#[track_caller]
fn of<'a>(outcome: &'a Outcome, line: &str) -> &'a Told {
    outcome.exchanges.values().find(|told| text(told) == line).expect("the line")
}

/// Messages of this kind.
fn messages(outcome: &Outcome, kind: &str) -> usize {
    outcome.exchanges.values().filter(|told| field(told, "db.redis.message") == kind).count()
}

fn is_ok(told: &Told) -> bool {
    told.end == Some(End::Answered(Ended::Ok))
}

/// No secret class is missing where the fixture has credentials.
fn secrets(outcome: &Outcome) -> usize {
    let fields = outcome.exchanges.values().flat_map(|told| told.fields.values());
    fields.filter(|field| matches!(field.class, Class::Secret(_))).count()
}

/// Nothing was odd, and each exchange was answered.
#[track_caller]
fn is_clean(outcome: &Outcome) {
    assert!(outcome.anomalies.is_empty(), "{:?}", outcome.anomalies);
    for (id, told) in &outcome.exchanges {
        assert!(told.anomalies.is_empty(), "{id}: {:?}", told.anomalies);
        assert!(matches!(told.end, Some(End::Answered(_))), "{id}: {told:?}");
    }
    for account in &outcome.accounts {
        assert_eq!(account.seen, account.framed, "{account:?}");
    }
}
