//! How much is told of what was decoded. Stands between decoders and [`crate::mask`]: what a level leaves out is neither
//! masked nor chained nor sent, and is counted.
//!
//! Must not touch what is no exchange, but at [`Level::Off`]: gaps, programs and sessions are told at every other level.

use std::collections::HashMap;
use std::fmt;

use custody_record::{Kind, Value, names};
use serde::{Deserialize, Serialize};

use crate::item::{Class, Field};
use crate::mask::Draft;

/// How much is told, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing of connections; gaps and programs are told.
    Off,
    /// Sessions, with their bytes and how many exchanges they had.
    Counts,
    /// Each exchange: its operation, outcome, times and bytes, without values, headers, parameters and bodies.
    Summary,
    /// All that the limits let through.
    #[default]
    Statement,
}

impl Level {
    /// As it stands in configuration and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Counts => "counts",
            Level::Summary => "summary",
            Level::Statement => "statement",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Records that the level let through, and that it left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Handed on to the masks, reduced or whole.
    pub records: u64,
    /// Left out whole.
    pub left_out: u64,
}

/// What a session's exchanges were whose records were left out.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    exchanges: u64,
    bytes: u64,
}

/// Applies the level in force to each draft.
#[derive(Debug, Default)]
pub(crate) struct Reducer {
    pub(crate) level: Level,
    pub(crate) told: Told,
    /// By session: as many as are open at most.
    sessions: HashMap<u64, LeftOut>,
}

impl Reducer {
    pub(crate) fn new(level: Level) -> Self {
        Reducer { level, ..Reducer::default() }
    }

    /// What remains of a draft; `None` when it is left out.
    pub(crate) fn reduce(&mut self, draft: Draft) -> Option<Draft> {
        let reduced = self.apply(draft);
        match reduced {
            Some(_) => self.told.records += 1,
            None => self.told.left_out += 1,
        }
        reduced
    }

    fn apply(&mut self, mut draft: Draft) -> Option<Draft> {
        let ended = match draft.kind {
            Kind::Gap | Kind::Exec | Kind::Exit | Kind::Agent => return Some(draft),
            _ if self.level == Level::Off => {
                self.sessions.remove(&draft.session.unwrap_or_default());
                return None;
            }
            Kind::SessionOpen => return Some(draft),
            Kind::SessionClose => return Some(self.closed(draft)),
            Kind::Exchange | Kind::ExchangeClose => 1,
            Kind::ExchangeOpen | Kind::ExchangePart => 0,
        };
        match self.level {
            Level::Statement => {}
            Level::Summary => summarise(&mut draft),
            Level::Counts | Level::Off => {
                let left_out = self.sessions.entry(draft.session.unwrap_or_default()).or_default();
                left_out.exchanges += ended;
                left_out.bytes += moved(&draft);
                return None;
            }
        }
        Some(draft)
    }

    fn closed(&mut self, mut draft: Draft) -> Draft {
        if let Some(left_out) = self.sessions.remove(&draft.session.unwrap_or_default()) {
            draft.fields.push(Field::structure(names::LEVEL, Level::Counts.as_str()));
            draft.fields.push(Field::structure(names::LEVEL_EXCHANGES, left_out.exchanges));
            draft.fields.push(Field::structure(names::LEVEL_BYTES, left_out.bytes));
        }
        draft
    }
}

/// Leaves the facts of the protocol, the names of things, and the path that was asked for.
fn summarise(draft: &mut Draft) {
    let mut bytes = 0;
    draft.fields.retain(|field| {
        let stays =
            matches!(field.class, Class::Structure | Class::Identifier) || field.name == names::URL_PATH;
        if !stays {
            bytes += bytes_of(&field.value);
        }
        stays
    });
    let cells = draft.rows.take().into_iter().flat_map(|rows| rows.rows).flatten().flatten();
    bytes += cells.map(|cell| bytes_of(&cell)).sum::<u64>();
    draft.fields.push(Field::structure(names::LEVEL, Level::Summary.as_str()));
    draft.fields.push(Field::structure(names::LEVEL_BYTES, bytes));
}

fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(items) => items.iter().flatten().map(bytes_of).sum(),
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => 0,
    }
}

/// Bytes up and down of an exchange, or of a piece of it.
fn moved(draft: &Draft) -> u64 {
    let count = |field: &Field| match field.value {
        Value::Unsigned(bytes) if field.name == names::BYTES_UP || field.name == names::BYTES_DOWN => bytes,
        _ => 0,
    };
    draft.fields.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use custody_record::Times;

    use super::*;
    use crate::item::Rows;

    fn draft(kind: Kind, fields: Vec<Field>) -> Draft {
        let times = Times { first_ns: 1, last_ns: 2 };
        let (session, exchange) = (Some(7), Some(1));
        Draft { kind, session, exchange, times, fields, rows: None, anomalies: Vec::new() }
    }

    fn number(draft: &Draft, name: &str) -> Option<u64> {
        let field = draft.fields.iter().find(|field| field.name == name)?;
        if let Value::Unsigned(number) = field.value { Some(number) } else { None }
    }

    fn exchange() -> Draft {
        let mut exchange = draft(
            Kind::Exchange,
            vec![
                Field::new(names::URL_PATH, "/orders", Class::Text),
                Field::new(names::URL_QUERY, "card=1", Class::Query),
                Field::new("http.request.header.host", "shop", Class::Header { name: "host".into() }),
                Field::structure(names::HTTP_STATUS, 200u64),
                Field::structure(names::BYTES_UP, 30u64),
                Field::structure(names::BYTES_DOWN, 12u64),
            ],
        );
        exchange.rows = Some(Rows { columns: vec!["a".into()], rows: vec![vec![Some("xyz".into()), None]] });
        exchange
    }

    #[test]
    fn a_summary_that_kept_a_value_or_did_not_say_how_much_it_left_out() {
        let told = Reducer::new(Level::Summary).reduce(exchange()).unwrap();
        let names: Vec<_> = told.fields.iter().map(|field| field.name.as_ref()).collect();
        let (status, up, down) = (names::HTTP_STATUS, names::BYTES_UP, names::BYTES_DOWN);
        assert_eq!(names, [names::URL_PATH, status, up, down, names::LEVEL, names::LEVEL_BYTES]);
        assert_eq!(told.rows, None);
        assert_eq!(number(&told, names::LEVEL_BYTES), Some(6 + 4 + 3));
    }

    #[test]
    fn an_exchange_that_was_left_out_and_stands_in_no_count() {
        let mut reducer = Reducer::new(Level::Counts);
        let part = |kind| Draft { kind, ..exchange() };
        assert!(reducer.reduce(exchange()).is_none());
        // One slow exchange is one, whatever it is told in.
        for kind in [Kind::ExchangeOpen, Kind::ExchangePart, Kind::ExchangeClose] {
            assert!(reducer.reduce(part(kind)).is_none());
        }
        // The level may rise before the session ends.
        reducer.level = Level::Statement;
        assert_eq!(reducer.reduce(exchange()).unwrap().fields.len(), 6);
        let close = reducer.reduce(draft(Kind::SessionClose, Vec::new())).unwrap();
        assert_eq!(number(&close, names::LEVEL_EXCHANGES), Some(2));
        assert_eq!(number(&close, names::LEVEL_BYTES), Some(4 * 42));
        assert_eq!(reducer.told, Told { records: 2, left_out: 4 });
        assert!(reducer.sessions.is_empty());
    }

    #[test]
    fn a_level_that_took_what_it_must_never_take() {
        for level in [Level::Off, Level::Counts, Level::Summary, Level::Statement] {
            let mut reducer = Reducer::new(level);
            for kind in [Kind::Gap, Kind::Exec, Kind::Exit] {
                let secret = Field::new("process.command_args", "ls", Class::Arguments);
                let told = reducer.reduce(draft(kind, vec![secret])).unwrap();
                assert_eq!(told.fields.len(), 1, "{level} reduced a {kind:?}");
            }
            let open = reducer.reduce(draft(Kind::SessionOpen, Vec::new()));
            assert_eq!(open.is_some(), level > Level::Off);
        }
    }
}
