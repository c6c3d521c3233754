//! The record: one fact that the host saw, with identity, times and named fields.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Fields;

/// What kind of fact. The text form is the entry type of the ledger as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A connection or terminal is seen for the first time.
    #[serde(rename = "session.open")]
    SessionOpen,
    /// A connection or terminal ended; carries its byte account.
    #[serde(rename = "session.close")]
    SessionClose,
    /// A request whose answer has not come yet.
    #[serde(rename = "exchange.open")]
    ExchangeOpen,
    /// A piece of a long exchange.
    #[serde(rename = "exchange.part")]
    ExchangePart,
    /// The answer to an [`Kind::ExchangeOpen`] of before, or its end without one.
    #[serde(rename = "exchange.close")]
    ExchangeClose,
    /// Request and answer together.
    #[serde(rename = "exchange")]
    Exchange,
    /// A program started.
    #[serde(rename = "exec")]
    Exec,
    /// A program ended.
    #[serde(rename = "exit")]
    Exit,
    /// Bytes or events are missing, and this is how many.
    #[serde(rename = "gap")]
    Gap,
    /// The agent tells of itself: start, stop, configuration, heartbeat.
    #[serde(rename = "agent")]
    Agent,
}

impl Kind {
    /// As it stands in records and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::SessionOpen => "session.open",
            Kind::SessionClose => "session.close",
            Kind::ExchangeOpen => "exchange.open",
            Kind::ExchangePart => "exchange.part",
            Kind::ExchangeClose => "exchange.close",
            Kind::Exchange => "exchange",
            Kind::Exec => "exec",
            Kind::Exit => "exit",
            Kind::Gap => "gap",
            Kind::Agent => "agent",
        }
    }
}

/// When it happened, by the clock of the kernel that saw it. Order within a host goes by sequence and
/// boottime; the wall clock is a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// First byte, boottime ns.
    pub first_ns: u64,
    /// Last byte, boottime ns.
    pub last_ns: u64,
}

/// One field that masking changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedField {
    /// The field's name.
    pub path: Cow<'static, str>,
    /// What was found there: `email`, `card`, `password` …
    pub kind: Cow<'static, str>,
    /// What was done: `redact`, `keep_last`, `drop`.
    pub action: Cow<'static, str>,
}

/// One fact, ready to be stored. In the store it is MessagePack with field names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What kind of fact.
    pub kind: Kind,
    /// The worker's number of the session, unique within one epoch of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// Number of the exchange in its session, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u64>,
    /// When.
    pub times: Times,
    /// Fields by their names in [`crate::names`].
    pub fields: Fields,
    /// What masking changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<MaskedField>,
    /// How many values of each sensitive kind an answer held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<Cow<'static, str>, u64>,
    /// Stable codes of what was odd; `custody explain CODE` tells more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<Cow<'static, str>>,
}

/// Deepest nesting that a stored record may have; a record itself needs four. Beyond it a reader would follow
/// hostile bytes to the end of its stack.
const DEPTH_MAX: usize = 16;

impl Record {
    /// The stored form: MessagePack with field names.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(self)
    }

    /// Reads the stored form, of bounded depth.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        deserializer.set_max_depth(DEPTH_MAX);
        Record::deserialize(&mut deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    fn record(value: Value) -> Record {
        Record {
            kind: Kind::Exchange,
            session: Some(1),
            exchange: None,
            times: Times { first_ns: 1, last_ns: 2 },
            fields: Fields::from([("db.response.rows".into(), value)]),
            masked: Vec::new(),
            kinds: BTreeMap::new(),
            anomalies: Vec::new(),
        }
    }

    #[test]
    fn a_kind_is_called_as_it_is_stored() {
        for kind in [Kind::SessionOpen, Kind::SessionClose, Kind::ExchangeOpen, Kind::ExchangePart]
            .into_iter()
            .chain([Kind::ExchangeClose, Kind::Exchange, Kind::Exec, Kind::Exit, Kind::Gap, Kind::Agent])
        {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn rows_of_an_answer_read_back() {
        let rows = Value::List(vec![Some(Value::List(vec![Some("a".into()), None])), None]);
        let stored = record(rows.clone()).encode().unwrap();
        assert_eq!(Record::decode(&stored).unwrap(), record(rows));
    }

    #[test]
    fn a_deep_record_is_refused_not_followed_to_the_end_of_the_stack() {
        let mut value = Value::Bool(true);
        for _ in 0..100 {
            value = Value::List(vec![Some(value)]);
        }
        let stored = record(value).encode().unwrap();
        assert!(Record::decode(&stored).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_a_record(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..100) {
            let _ = Record::decode(&bytes);
            let mut stored = record(Value::from("x")).encode().unwrap();
            let at = at.min(stored.len());
            stored.splice(at..at, bytes);
            let _ = Record::decode(&stored);
        }
    }
}
