//! Exchanges counted by what they have in common: how many, how many went wrong, and how long they took.
//!
//! An exchange that was told in two entries counts once, when it ends, with what its beginning said. All is bounded,
//! and what a bound leaves out is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::shape;
use crate::{Fields, Filter, SessionId, Value, View, names};

/// Groups that are told apart; exchanges of further ones are counted together.
pub const GROUPS_MAX: usize = 1_000;
/// Fields that one may group by at once.
pub const KEYS_MAX: usize = 4;
/// Exchanges without an end that are remembered; the oldest are forgotten.
const OPEN_MAX: usize = 10_000;
/// Longest field of a beginning that is remembered, bytes.
const FIELD_BYTES_MAX: usize = 4 << 10;
/// Longest value of a group's key, bytes.
const KEY_BYTES_MAX: usize = 400;

/// What one may group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Systemd unit.
    Service,
    /// Statement without its values.
    Statement,
    /// Host's name.
    Host,
    /// Protocol.
    Protocol,
    /// User that the process runs as.
    User,
    /// Program.
    Process,
    /// Status of the answer.
    Status,
}

/// Their names.
const KEYS: &[(&str, Key)] = &[
    ("service", Key::Service),
    ("statement", Key::Statement),
    ("host", Key::Host),
    ("protocol", Key::Protocol),
    ("user", Key::User),
    ("process", Key::Process),
    ("status", Key::Status),
];

/// What to group by, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By(Vec<Key>);

/// Text that names nothing to group by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; --by takes up to {KEYS_MAX} of: {}", names(KEYS))]
pub struct ByError {
    what: String,
}

fn names(keys: &[(&str, Key)]) -> String {
    keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for By {
    type Err = ByError;
    fn from_str(text: &str) -> Result<Self, ByError> {
        let mut keys = Vec::new();
        for name in text.split(',').map(str::trim).take(KEYS_MAX + 1) {
            let shown: String = name.chars().take(40).collect();
            let shown = crate::text::escape(&shown).into_owned();
            let Some((_, key)) = KEYS.iter().find(|(own, _)| *own == name) else {
                return Err(ByError { what: format!("`{shown}` is nothing to group by") });
            };
            if keys.contains(key) || keys.len() == KEYS_MAX {
                return Err(ByError { what: format!("`{shown}` is one too many") });
            }
            keys.push(*key);
        }
        Ok(By(keys))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = |key: &Key| KEYS.iter().find(|(_, other)| other == key).map_or("", |(name, _)| *name);
        f.write_str(&self.0.iter().map(own).collect::<Vec<_>>().join(","))
    }
}

impl By {
    fn of(&self, view: &View) -> Vec<String> {
        self.0.iter().map(|key| key.of(view)).collect()
    }
}

impl Key {
    fn of(self, view: &View) -> String {
        let text = |name: &str| view.text(name).map(|text| text.into_owned());
        let value = match self {
            Key::Service => text(names::SERVICE_NAME),
            Key::Statement => shape::statement(view),
            Key::Host => Some(view.host_name.clone()),
            Key::Protocol => text(names::PROTOCOL_NAME),
            Key::User => text(names::USER_NAME).or_else(|| text(names::USER_ID)),
            Key::Process => text(names::PROCESS_EXECUTABLE)
                .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()),
            Key::Status => text(names::HTTP_STATUS)
                .or_else(|| text(names::DB_RESPONSE_STATUS))
                .or_else(|| text(names::OUTCOME)),
        };
        let mut value = value.filter(|value| !value.is_empty()).unwrap_or_else(|| "-".to_owned());
        let end = (0..=KEY_BYTES_MAX.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
        value.truncate(end.unwrap_or(0));
        value
    }
}

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
    longest: Option<u64>,
    /// Durations by [`bucket`].
    buckets: BTreeMap<u16, u64>,
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
            *group.buckets.entry(bucket(duration)).or_default() += 1;
            group.longest = group.longest.max(Some(duration));
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
                p50: group.quantile(50),
                p99: group.quantile(99),
                max: group.longest,
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

impl Group {
    /// The duration that `percent` of all do not exceed.
    fn quantile(&self, percent: u64) -> Option<u64> {
        let total: u64 = self.buckets.values().sum();
        let rank = total.saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0;
        for (bucket, count) in &self.buckets {
            below += count;
            if below >= rank {
                return Some(end_of(*bucket).min(self.longest.unwrap_or(u64::MAX)));
            }
        }
        None
    }
}

/// Parts of each power of two: a duration is known to 1 in 32.
const PARTS_BITS: u32 = 5;

/// Durations that are told as one.
fn bucket(duration: u64) -> u16 {
    let exponent = duration.max(1).ilog2().saturating_sub(PARTS_BITS);
    // Below 2 * 32 + 60 * 32.
    (u64::from(exponent << PARTS_BITS) + (duration >> exponent)) as u16
}

/// The longest duration of a bucket.
fn end_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let exponent = (bucket >> PARTS_BITS).saturating_sub(1);
    let part = bucket - (exponent << PARTS_BITS);
    (u128::from(part + 1) << exponent).saturating_sub(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn a_wrong_key_names_the_right_ones() {
        let error = |by: &str| by.parse::<By>().unwrap_err().to_string();
        assert!(
            error("statment").contains("`statment` is nothing to group by")
                && error("x").contains("service, statement, host")
        );
        assert!(error("host,host").contains("one too many") && error("").contains("nothing"));
        assert!(error("host,user,status,process,protocol").contains("one too many"));
        assert!(!error("\u{1b}[2J").contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn a_duration_is_told_at_most_one_in_32_too_long(duration: u64) {
            let told = end_of(bucket(duration));
            prop_assert!(told >= duration && told - duration <= duration / 32, "{duration} {told}");
        }

        #[test]
        fn longer_is_never_told_shorter(one: u64, two: u64) {
            prop_assert_eq!(one.cmp(&two).then(bucket(one).cmp(&bucket(two))), one.cmp(&two));
            prop_assert!(one > two || bucket(one) <= bucket(two));
        }
    }
}
