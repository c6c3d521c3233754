//! The one shape in which an entry reaches people: what the sink's API sends line by line, what `-o json`
//! prints, and what text is rendered from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Citation, SessionId};
use crate::{Fields, Record, Value, names};

/// How far an entry is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Read from a capture file: no sink has it, and nobody vouches for it.
    Unstored,
    /// Verified, stored and synced at the sink.
    Stored,
    /// Under a signed checkpoint.
    Committed,
    /// Under a checkpoint that others signed as well.
    Witnessed,
}

impl Status {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unstored => "unstored",
            Status::Stored => "stored",
            Status::Committed => "committed",
            Status::Witnessed => "witnessed",
        }
    }
}

/// One entry with what its header says, and its record where this version can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Host id.
    pub host: String,
    /// Host's name at the sink.
    pub host_name: String,
    /// Epoch's counter.
    pub epoch: u64,
    /// Sequence in the epoch.
    pub seq: u64,
    /// Type of the entry, as its header says.
    #[serde(rename = "type")]
    pub entry_type: String,
    /// Session that it belongs to, where the sink knows the session's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Number of the exchange in its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u64>,
    /// When the sink received it, Unix ns by the sink's clock.
    pub received: i64,
    /// When it happened, Unix ns by the host's clock: a claim.
    pub wall: i64,
    /// How far it is safe.
    pub status: Status,
    /// The record; absent when the entry has none, or this version cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Fields of the session's beginning that the record does not repeat.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub session: Fields,
    /// The host's labels at the sink.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The body is there and this version cannot read it: what stands above is all that can be said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
    /// The body was let go by age, as the store says; `custody verify` says whether that was stated before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

impl View {
    /// A field of the record, or of its session.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.record.as_ref().and_then(|record| record.fields.get(name)).or_else(|| self.session.get(name))
    }

    /// A field's text.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.field(name).map(Value::display)
    }

    /// A field's number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name).and_then(Value::as_unsigned)
    }

    /// How it is cited.
    pub fn citation(&self) -> Citation {
        Citation { host: self.host_name.clone(), epoch: self.epoch, seq: self.seq }
    }

    /// Whether something went wrong: the server said no, or no answer came.
    pub fn is_error(&self) -> bool {
        let outcome = self.field(names::OUTCOME).and_then(Value::as_text);
        outcome.is_some_and(|outcome| outcome != "ok")
            || self.field(names::ERROR_TYPE).is_some()
            || self.number(names::HTTP_STATUS).is_some_and(|status| status >= 400)
    }
}

/// Where a host's chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadView {
    /// Epoch's counter.
    pub epoch: u64,
    /// Number of the newest batch.
    pub batch: u64,
    /// Sequence of its last entry.
    pub seq: u64,
}

/// A host as the sink knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Host id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The newest batch; `None` before the first.
    #[serde(default)]
    pub head: Option<HeadView>,
    /// When the newest batch came, Unix ns by the sink's clock.
    #[serde(default)]
    pub last_seen: Option<i64>,
    /// Counters per source in the newest batch: produced, delivered, lost …
    #[serde(default)]
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// All that those counters call lost.
    pub lost: u64,
    /// Nothing came for longer than heartbeats are apart.
    pub silent: bool,
    /// The quota that it is over, in words: nothing of it is taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_quota: Option<String>,
    /// What has to be known of its batches, and what the sink stated of it, by code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub noted: BTreeMap<String, NotedView>,
}

/// Something that has to be known of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedView {
    /// How often.
    pub count: u64,
    /// When last, Unix ns by the sink's clock.
    pub last: i64,
}

/// A session in one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub session_id: SessionId,
    /// Host id.
    pub host: String,
    /// Host's name.
    pub host_name: String,
    /// The host's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Epoch's counter.
    pub epoch: u64,
    /// Sequence of its `session.open`.
    pub seq: u64,
    /// Sequence of the newest entry that belongs to it.
    pub last_seq: u64,
    /// When it opened, Unix ns by the host's clock.
    pub opened: i64,
    /// When it closed; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<i64>,
    /// When the sink received the newest entry, Unix ns.
    pub received: i64,
    /// Exchanges so far.
    pub exchanges: u64,
    /// Of these, how many went wrong.
    pub errors: u64,
    /// Exchanges without an answer so far.
    pub waiting: u64,
    /// Fields of its beginning, and of its end once it closed.
    pub fields: Fields,
}

/// A session with its entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The session.
    pub session: SessionView,
    /// Its entries in order.
    pub entries: Vec<View>,
    /// There are more entries than one answer holds.
    pub truncated: bool,
}

/// One line of the tail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TailLine {
    /// An entry.
    Entry(Box<View>),
    /// Something about the tail itself.
    Notice(Notice),
}

/// What the tail says of itself. One key, so that readers tell it from an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Who is being shown: hosts that fit, of how many.
    Hosts {
        /// Hosts that the filter lets through, as far as it speaks of hosts.
        shown: u64,
        /// Hosts that the sink knows.
        known: u64,
    },
    /// This many batches were not sent, because the reader was too slow; they are in the store.
    Missed(u64),
    /// Nothing came from this host for longer than heartbeats are apart.
    Silent {
        /// Host's name.
        host_name: String,
        /// Since when, Unix ns by the sink's clock.
        since: i64,
        /// Its last entry.
        last: String,
    },
    /// The sink looked at as many old entries as one request may; older or later ones are missing here.
    Incomplete(u64),
}
