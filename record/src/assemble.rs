//! Stored entries to views: decodes the body where it can, names the session, and adds the fields of the
//! session's beginning that later records do not repeat. Used by the sink and by readers of a copied store,
//! so both show the same.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::{Fields, Record, SessionId, Status, Value, View, names};

/// What a header says of an entry, and its body.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Host id's bytes.
    pub host: &'a [u8; 16],
    /// Host id as text.
    pub host_id: &'a str,
    /// Host's name.
    pub host_name: &'a str,
    /// Host's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Epoch's counter.
    pub epoch: u64,
    /// Epoch's random part.
    pub nonce: &'a [u8; 16],
    /// Sequence in the epoch.
    pub seq: u64,
    /// Type.
    pub entry_type: &'a str,
    /// Sequence of the `session.open` that it belongs to.
    pub session: Option<u64>,
    /// When the sink received it, Unix ns.
    pub received: i64,
    /// When it happened, Unix ns by the host's clock.
    pub wall: i64,
    /// How far it is safe.
    pub status: Status,
    /// The body; `None` when withheld or expired.
    pub body: Option<&'a [u8]>,
    /// Bodies of its batch were let go by age.
    pub expired: bool,
}

/// Bytes of session fields that are remembered; the oldest sessions are forgotten first.
const SESSION_BYTES_MAX: usize = 32 << 20;
/// Longest field of a session that is added to its other records, bytes.
const FIELD_BYTES_MAX: usize = 1024;
/// Memory of one field beyond its text, roughly.
const FIELD_OVERHEAD: usize = 96;

/// Names of forgotten sessions that may wait before they are looked for.
const NAMES_SPARE: usize = 1024;
/// Ids of sessions that are remembered: the entries of a session come near each other, and to hash is dear.
const IDS: usize = 64;

/// What is remembered of a session, and how many bytes that is.
type SessionFields = (Arc<Fields>, usize);

/// What a session's id is made of: host, epoch, its random part, sequence.
type Origin = ([u8; 16], u64, [u8; 16], u64);

/// Remembers the beginnings of sessions while entries pass.
#[derive(Debug, Default)]
pub struct Assembler {
    sessions: HashMap<SessionId, SessionFields>,
    /// As they began; those that were forgotten since may still be named.
    order: VecDeque<SessionId>,
    bytes: usize,
    forgotten: u64,
    /// By the sequence; a newer one takes the place of one before.
    ids: Vec<Option<(Origin, SessionId)>>,
}

impl Assembler {
    /// Sessions whose beginning was forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether the beginning of this session passed and is remembered.
    pub fn knows(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    /// The view of one entry. Entries of one session must come in order for its fields to be known.
    pub fn view(&mut self, facts: &Facts<'_>) -> View {
        let has_record = facts.body.is_some_and(|body| !body.is_empty()) && carries_record(facts.entry_type);
        let record = facts.body.filter(|_| has_record).and_then(|body| Record::decode(body).ok());
        let unreadable = has_record && record.is_none();
        let expired = facts.expired && facts.body.is_none();
        View { unreadable, expired, ..self.view_of(facts, record) }
    }

    /// The view of an entry whose record is at hand; its body is not looked at.
    pub fn view_of(&mut self, facts: &Facts<'_>, record: Option<Record>) -> View {
        let opens = facts.entry_type == "session.open";
        let session_seq = if opens { Some(facts.session.unwrap_or(facts.seq)) } else { facts.session };
        let session_id = session_seq.map(|seq| self.id_of((*facts.host, facts.epoch, *facts.nonce, seq)));
        if let (true, Some(id), Some(record)) = (opens, session_id, &record) {
            self.remember(id, record);
        }
        let known = session_id.and_then(|id| self.sessions.get(&id)).filter(|_| !opens);
        let session = known.map(|(fields, _)| missing_from(fields, record.as_ref())).unwrap_or_default();
        View {
            host: facts.host_id.to_owned(),
            host_name: facts.host_name.to_owned(),
            epoch: facts.epoch,
            seq: facts.seq,
            entry_type: facts.entry_type.to_owned(),
            session_id,
            exchange: record.as_ref().and_then(|record| record.exchange),
            received: facts.received,
            wall: facts.wall,
            status: facts.status,
            unreadable: false,
            expired: false,
            record,
            session,
            labels: facts.labels.clone(),
        }
    }

    fn id_of(&mut self, origin: Origin) -> SessionId {
        self.ids.resize(IDS, None);
        let (host, epoch, nonce, seq) = &origin;
        let slot = &mut self.ids[*seq as usize % IDS];
        match slot {
            Some((known, id)) if *known == origin => *id,
            _ => slot.insert((origin, SessionId::of(host, *epoch, nonce, *seq))).1,
        }
    }

    fn remember(&mut self, id: SessionId, record: &Record) {
        let short = |value: &Value| size(value) <= FIELD_BYTES_MAX;
        let fields: Fields = record
            .fields
            .iter()
            .filter(|(_, value)| short(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let bytes = fields.iter().map(|(name, value)| name.len() + size(value) + FIELD_OVERHEAD).sum();
        self.forget(&id);
        self.sessions.insert(id, (Arc::new(fields), bytes));
        self.bytes += bytes;
        self.order.push_back(id);
        while self.bytes > SESSION_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forgotten += u64::from(self.forget(&oldest));
        }
        if self.order.len() > 2 * self.sessions.len() + NAMES_SPARE {
            self.order.retain(|id| self.sessions.contains_key(id));
        }
    }

    /// Drops what is remembered of a session; whether there was anything. For readers who can look a beginning up again.
    pub fn forget(&mut self, session: &SessionId) -> bool {
        let known = self.sessions.remove(session);
        self.bytes -= known.as_ref().map_or(0, |(_, bytes)| *bytes);
        known.is_some()
    }
}

/// Bodies of these hold a [`Record`]; those of resumptions and the sink's own hold what their writer says.
fn carries_record(entry_type: &str) -> bool {
    const FACTS: [&str; 14] = [
        "session.open",
        "session.close",
        "exec",
        "exit",
        "gap",
        "terminal",
        "agent.start",
        "agent.stop",
        "config",
        "key",
        "heartbeat",
        "coverage",
        "level",
        "log.alarm",
    ];
    entry_type.starts_with("exchange") || FACTS.contains(&entry_type)
}

fn missing_from(fields: &Fields, record: Option<&Record>) -> Fields {
    // What the session said of its state when it opened is not true of each of its records.
    let lasting = |name: &str| !name.starts_with("custody.bytes.") && name != names::OUTCOME;
    let none = Fields::new();
    fields.missing_from(record.map_or(&none, |record| &record.fields), lasting)
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(|value| 8 + value.as_ref().map_or(0, size)).sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Times};

    fn opening(path: &str) -> Record {
        Record {
            kind: Kind::SessionOpen,
            session: None,
            exchange: None,
            times: Times::default(),
            fields: [(names::URL_PATH.into(), Value::from(path))].into_iter().collect(),
            masked: Vec::new(),
            kinds: BTreeMap::new(),
            anomalies: Vec::new(),
        }
    }

    fn id(number: u64) -> SessionId {
        SessionId::of(&[1; 16], 1, &[2; 16], number)
    }

    #[test]
    fn sessions_that_came_and_went_leave_no_memory_behind() {
        let mut assembler = Assembler::default();
        for number in 0..10_000 {
            assembler.remember(id(number), &opening("/a"));
            assert!(assembler.forget(&id(number)));
        }
        assert!(!assembler.forget(&id(0)));
        assert_eq!((assembler.bytes, assembler.sessions.len(), assembler.forgotten()), (0, 0, 0));
        assert!(assembler.order.len() <= NAMES_SPARE + 1);
    }

    #[test]
    fn the_oldest_of_too_many_open_sessions_is_forgotten_and_counted() {
        let mut assembler = Assembler::default();
        let long = "a".repeat(FIELD_BYTES_MAX);
        let count = SESSION_BYTES_MAX / FIELD_BYTES_MAX;
        for number in 0..=count as u64 {
            assembler.remember(id(number), &opening(&long));
        }
        assert!(assembler.bytes <= SESSION_BYTES_MAX);
        assert!(!assembler.knows(&id(0)) && assembler.knows(&id(count as u64)));
        assert_eq!(assembler.forgotten() as usize, count + 1 - assembler.sessions.len());
    }

    #[test]
    fn a_session_that_opens_twice_is_counted_once() {
        let mut assembler = Assembler::default();
        assembler.remember(id(1), &opening("/first"));
        assembler.remember(id(1), &opening("/b"));
        assert!(assembler.forget(&id(1)));
        assert_eq!(assembler.bytes, 0);
    }
}
