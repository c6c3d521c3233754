//! What was told twice, compared: the same, or no more than a part of it.

use custody_record::Value;

use super::render;
use super::replay::{Outcome, Told};
use crate::anomaly;
use crate::case::Case;
use crate::driver::exchanges::End;
use crate::item::{Class, Field};

/// Both told the same.
pub(super) fn equal(case: &Case, one: &Outcome, other: &Outcome) -> Result<(), String> {
    let same = one.exchanges == other.exchanges
        && one.session == other.session
        && sorted(&one.anomalies) == sorted(&other.anomalies)
        && one.state == other.state
        && one.accounts == other.accounts;
    if same {
        return Ok(());
    }
    let (one, other) = (render::outcome(case, one), render::outcome(case, other));
    Err(difference(&one, &other))
}

/// Both told the same, though perhaps in another order: what a server says unasked has no place among requests.
pub(super) fn equal_in_any_order(case: &Case, one: &Outcome, other: &Outcome) -> Result<(), String> {
    let numbered = |outcome: &Outcome| {
        let mut told: Vec<_> = outcome.exchanges.values().cloned().collect();
        told.sort_by_cached_key(|told| format!("{told:?}"));
        Outcome { exchanges: (1u64..).zip(told).collect(), ..outcome.clone() }
    };
    equal(case, &numbered(one), &numbered(other))
}

fn sorted(codes: &[&'static str]) -> Vec<&'static str> {
    let mut codes = codes.to_vec();
    codes.sort_unstable();
    codes
}

/// The first lines that differ.
fn difference(one: &str, other: &str) -> String {
    let at = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    let show = |text: &str| -> Vec<String> { text.lines().skip(at).take(6).map(str::to_owned).collect() };
    format!("told whole:\n    {}\n  told now:\n    {}", show(one).join("\n    "), show(other).join("\n    "))
}

/// `part` comes from the same conversation with bytes missing: it says nothing that `whole` does not, and what
/// it says without remark of an answer is what was answered.
pub(super) fn within(case: &Case, whole: &Outcome, part: &Outcome) -> Result<(), String> {
    for (id, told) in &part.exchanges {
        let answered = matches!(told.end, Some(End::Answered(_)));
        let known = whole.exchanges.values();
        if answered && told.anomalies.is_empty() {
            if !known.clone().any(|original| is_part(told, original)) {
                return Err(format!(
                    "exchange {id} was told without remark and was never said:\n{}",
                    render::exchange(told)
                ));
            }
            continue;
        }
        // What may answer an unknown request is read without knowing what was asked, and says so.
        if !told.requested || told.anomalies.contains(&anomaly::PAIRING_UNCERTAIN) {
            continue;
        }
        for field in told.fields.values() {
            let fields = known.clone().filter_map(|original| original.fields.get(field.name.as_ref()));
            // What a decoder concludes may differ, what it no longer knows the type of is opaque, and several
            // answers may stand as one: it has said so.
            if matches!(field.class, Class::Structure | Class::Opaque)
                || matches!(field.value, Value::List(_))
            {
                continue;
            }
            if !is_number(&field.value) && !fields.clone().any(|original| agrees(field, original)) {
                return Err(format!(
                    "{} of exchange {id} was never said: {:?} ({})",
                    field.name, field.value, case.name
                ));
            }
        }
    }
    Ok(())
}

/// Each field and row of `told` stands in `original`.
fn is_part(told: &Told, original: &Told) -> bool {
    let fields = told.fields.values().all(|field| {
        is_number(&field.value)
            || field.class == Class::Opaque
            || original.fields.get(field.name.as_ref()).is_some_and(|known| agrees(field, known))
    });
    let rows = told.rows.as_ref().is_none_or(|rows| {
        let known = original.rows.as_ref();
        // Without its columns a row is told as it came.
        let untyped = rows.columns.is_empty();
        known.is_some_and(|known| untyped || rows.rows.iter().all(|row| known.rows.contains(row)))
    });
    fields && rows && told.end == original.end
}

/// Counts change when bytes are missing.
fn is_number(value: &Value) -> bool {
    matches!(value, Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Bool(_))
}

/// The same, or its beginning where a beginning may stand: in a body, and in what says that it was cut.
fn agrees(field: &Field, original: &Field) -> bool {
    let may_be_shorter = field.cut > 0 || matches!(field.class, Class::Body { .. } | Class::Opaque);
    value_agrees(&field.value, &original.value, may_be_shorter)
}

fn value_agrees(part: &Value, original: &Value, may_be_shorter: bool) -> bool {
    match (part, original) {
        (Value::Text(part), Value::Text(whole)) if may_be_shorter => whole.starts_with(part.as_str()),
        (Value::Bytes(part), Value::Bytes(whole)) if may_be_shorter => whole.starts_with(part),
        // Of several values of one name, one may be all that came.
        (Value::List(part), Value::List(_)) if may_be_shorter => {
            part.iter().flatten().all(|part| value_agrees(part, original, true))
        }
        (Value::Text(_) | Value::Bytes(_), Value::List(whole)) => {
            whole.iter().flatten().any(|whole| value_agrees(part, whole, may_be_shorter))
        }
        (part, whole) => part == whole,
    }
}
