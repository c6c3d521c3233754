//! Exchanges counted by what they have in common: how many, how many went wrong, and how long they took.
//!
//! An exchange that was told in two entries counts once, when it ends, with what its beginning said. All is bounded,
//! and what a bound leaves out is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::by::By;
use super::durations::Durations;
use crate::{Fields, Filter, SessionId, Value, View, names};

/// Groups that are told apart; exchanges of further ones are counted together.
pub const GROUPS_MAX: usize = 1_000;
/// Exchanges without an end that are remembered; the oldest are forgotten.
const OPEN_MAX: usize = 10_000;
/// Longest field of a beginning that is remembered, bytes.
const FIELD_BYTES_MAX: usize = 4 << 10;

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsRow {
    /// Its values, in the order of `by`; `-` where there is none.
    pub key: Vec<String>,
    /// Exchanges that ended.
    pub count: u64,
    /// Of these, how many went wrong.
    pub errors: u64,
    /// Exchanges without an end.
    pub waiting: u64,
    /// Ended exchanges per second of the time that was looked at.
    pub rate: f64,
    /// Half of them took at most so long, ns. At most 3 % too high, as all that is no maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<u64>,
    /// 99 of a hundred took at most so long, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<u64>,
    /// The longest, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// All groups, the largest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsPage {
    /// What they are grouped by.
    pub by: String,
    /// The groups that were asked for.
    pub rows: Vec<StatsRow>,
    /// Further groups that were counted and are not shown.
    pub more: u64,
    /// Exchanges of groups beyond the bound: counted here alone.
    pub beyond: u64,
    /// From when to when exchanges were received, Unix ns.
    pub span: Option<(i64, i64)>,
    /// Entries that were read.
    pub looked: u64,
    /// Limits that were hit, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// Counts exchanges while their entries pass.
#[derive(Debug)]
pub struct Stats {
    by: By,
    filter: Option<Filter>,
    groups: BTreeMap<Vec<String>, Group>,
    beyond: u64,
    span: Option<(i64, i64)>,
    looked: u64,
    open: HashMap<(SessionId, u64), Beginning>,
    order: VecDeque<(SessionId, u64)>,
    forgotten: u64,
}

/// What the entry said that opened an exchange.
#[derive(Debug)]
struct Beginning {
    key: Vec<String>,
    fields: Fields,
    counts: bool,
}

#[derive(Debug, Default)]
struct Group {
    count: u64,
    errors: u64,
    waiting: u64,
    durations: Durations,
}

impl Stats {
    /// Of exchanges that the filter lets through.
    pub fn new(by: By, filter: Option<Filter>) -> Self {
        Stats {
            by,
            filter,
            groups: BTreeMap::new(),
            beyond: 0,
            span: None,
            looked: 0,
            open: HashMap::new(),
            order: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Takes the next entry.
    pub fn take(&mut self, mut view: View) {
        self.looked += 1;
        let id = view.session_id.zip(view.exchange);
        match view.entry_type.as_str() {
            "exchange" => {}
            "exchange.open" => return self.begin(id, &view),
            "exchange.close" => {
                if let Some(beginning) = id.and_then(|id| self.open.remove(&id)) {
                    // What the end does not repeat; where both say it, the end is right.
                    let own = view.record.as_ref().map(|record| &record.fields);
                    let more = beginning.fields.into_iter();
                    let more = more.filter(|(name, _)| own.is_none_or(|own| !own.contains_key(name)));
                    view.session.extend(more.collect::<Vec<_>>());
                }
            }
            _ => return,
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(&view)) {
            return;
        }
        let (first, last) = self.span.unwrap_or((view.received, view.received));
        self.span = Some((first.min(view.received), last.max(view.received)));
        let key = self.by.of(&view);
        let Some(group) = group(&mut self.groups, key) else {
            self.beyond += 1;
            return;
        };
        group.count += 1;
        group.errors += u64::from(view.is_error());
        if let Some(duration) = view.number(names::DURATION) {
            group.durations.add(duration);
        }
    }

    fn begin(&mut self, id: Option<(SessionId, u64)>, view: &View) {
        let Some(id) = id else { return };
        while self.open.len() >= OPEN_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forgotten += u64::from(self.open.remove(&oldest).is_some());
        }
        // Ended ones stand in the order still.
        if self.order.len() > 2 * OPEN_MAX {
            self.order.retain(|id| self.open.contains_key(id));
        }
        let short = |value: &Value| !matches!(value, Value::Text(text) if text.len() > FIELD_BYTES_MAX);
        let flat = |value: &Value| !matches!(value, Value::List(_) | Value::Bytes(_));
        let fields = view.record.iter().flat_map(|record| &record.fields);
        let fields = fields.filter(|(_, value)| short(value) && flat(value));
        let counts = self.filter.as_ref().is_none_or(|filter| filter.matches(view));
        let beginning = Beginning {
            key: self.by.of(view),
            fields: fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
            counts,
        };
        self.order.push_back(id);
        self.open.insert(id, beginning);
    }

    /// The `rows` largest groups.
    pub fn page(mut self, rows: usize) -> StatsPage {
        for beginning in self.open.into_values().filter(|beginning| beginning.counts) {
            match group(&mut self.groups, beginning.key) {
                Some(group) => group.waiting += 1,
                None => self.beyond += 1,
            }
        }
        let seconds = self.span.map_or(0.0, |(first, last)| last.saturating_sub(first) as f64 / 1e9).max(1.0);
        let mut all: Vec<StatsRow> = self
            .groups
            .into_iter()
            .map(|(key, group)| StatsRow {
                p50: group.durations.quantile(50),
                p99: group.durations.quantile(99),
                max: group.durations.longest(),
                key,
                count: group.count,
                errors: group.errors,
                waiting: group.waiting,
                rate: group.count as f64 / seconds,
            })
            .collect();
        // Stable: those of one size stay in the order of their keys.
        all.sort_by_key(|row| std::cmp::Reverse((row.count, row.waiting)));
        let more = all.len().saturating_sub(rows) as u64;
        all.truncate(rows);
        let mut limits = Vec::new();
        if self.forgotten > 0 {
            limits.push(format!(
                "of {} exchanges the beginning was forgotten: more than {OPEN_MAX} waited",
                self.forgotten
            ));
        }
        if self.beyond > 0 {
            limits.push(format!(
                "more than {GROUPS_MAX} groups: {} exchanges are in none of them",
                self.beyond
            ));
        }
        StatsPage {
            by: self.by.to_string(),
            rows: all,
            more,
            beyond: self.beyond,
            span: self.span,
            looked: self.looked,
            limits,
        }
    }
}

fn group(groups: &mut BTreeMap<Vec<String>, Group>, key: Vec<String>) -> Option<&mut Group> {
    if groups.len() >= GROUPS_MAX && !groups.contains_key(&key) {
        return None;
    }
    Some(groups.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn exchange(kind: &str, number: u64, fields: Vec<(&'static str, Value)>) -> View {
        View {
            entry_type: kind.to_owned(),
            session_id: Some(SessionId::of(&[1; 16], 1, &[2; 16], 3)),
            exchange: Some(number),
            received: number as i64 * 1_000_000_000,
            ..view(fields)
        }
    }

    fn page(by: &str, filter: Option<&str>, views: Vec<View>) -> StatsPage {
        let mut stats = Stats::new(by.parse().unwrap(), filter.map(|filter| filter.parse().unwrap()));
        views.into_iter().for_each(|view| stats.take(view));
        stats.page(100)
    }

    fn asked(id: u64) -> (&'static str, Value) {
        (names::DB_QUERY_TEXT, format!("SELECT {id}").into())
    }

    #[test]
    fn an_exchange_in_two_entries_counts_once_with_its_statement() {
        let (took, failed) = ((names::DURATION, Value::from(7u64)), (names::OUTCOME, Value::from("error")));
        let views = vec![
            exchange("exchange", 1, vec![asked(1), took.clone()]),
            exchange("exchange.open", 2, vec![asked(2)]),
            exchange("exchange.part", 2, vec![]),
            exchange("exchange.open", 3, vec![asked(3)]),
            exchange("exchange.close", 2, vec![took, failed]),
            exchange("gap", 4, vec![]),
        ];
        let all = page("statement,process", None, views.clone());
        assert_eq!(all.rows.len(), 1, "{all:?}");
        let row = &all.rows[0];
        assert_eq!(row.key, ["SELECT ?", "psql"]);
        assert_eq!((row.count, row.errors, row.waiting, row.rate), (2, 1, 1, 2.0));
        assert_eq!((row.p50, row.p99, row.max), (Some(7), Some(7), Some(7)));
        // A filter on the statement finds the end that does not repeat it.
        let one = page("host", Some("db.query.text = 'SELECT 2'"), views);
        assert_eq!((one.rows[0].count, one.rows[0].waiting), (1, 0));
    }

    #[test]
    fn groups_beyond_the_bound_are_counted_together_and_told() {
        let views = (0..GROUPS_MAX as u64 + 5).map(|number| {
            exchange("exchange", number, vec![(names::USER_NAME, format!("u{number}").into())])
        });
        let told = page("user", None, views.collect());
        assert_eq!((told.rows.len(), told.more, told.beyond), (100, GROUPS_MAX as u64 - 100, 5));
        assert!(told.limits[0].contains("5 exchanges"), "{told:?}");
    }

    #[test]
    fn beginnings_that_never_end_are_bounded() {
        let views = (0..OPEN_MAX as u64 + 3).map(|number| exchange("exchange.open", number, vec![asked(1)]));
        let told = page("statement", None, views.collect());
        assert_eq!(told.rows[0].waiting, OPEN_MAX as u64);
        assert!(told.limits[0].contains("3 exchanges"), "{told:?}");
    }
}
