//! Views of entries folded to one row per session.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::view::SessionView;
use crate::{Fields, SessionId, SessionPrefix, View};

/// Sessions that are remembered; the oldest closed ones are forgotten first, then the oldest.
pub const SESSIONS_MAX: usize = 100_000;
/// Exchanges without an answer that are remembered per session.
const WAITING_MAX: usize = 4096;

/// The rows, in the order in which sessions opened.
#[derive(Debug, Default)]
pub struct Sessions {
    rows: HashMap<SessionId, Row>,
    order: VecDeque<SessionId>,
    forgotten: u64,
}

#[derive(Debug)]
struct Row {
    view: SessionView,
    waiting: BTreeSet<u64>,
}

impl Sessions {
    /// Takes the next entry.
    pub fn fold(&mut self, view: &View) {
        let Some(id) = view.session_id else { return };
        if !self.rows.contains_key(&id) {
            self.make_room();
            self.order.push_back(id);
            self.rows.insert(id, Row { view: first(id, view), waiting: BTreeSet::new() });
        }
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.take(view);
    }

    /// All rows, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SessionView> {
        self.order.iter().filter_map(|id| self.rows.get(id)).map(|row| &row.view)
    }

    /// The rows whose id begins so; at most `limit`.
    pub fn find(&self, prefix: &SessionPrefix, limit: usize) -> Vec<&SessionView> {
        self.iter().filter(|row| prefix.matches(&row.session_id)).take(limit).collect()
    }

    /// Sessions that were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn make_room(&mut self) {
        if self.rows.len() < SESSIONS_MAX {
            return;
        }
        // A look at the oldest few keeps this cheap; among them the first closed one goes.
        let closed = self
            .order
            .iter()
            .take(64)
            .position(|id| self.rows.get(id).is_none_or(|row| row.view.closed.is_some()));
        if let Some(id) = self.order.remove(closed.unwrap_or(0)) {
            self.rows.remove(&id);
            self.forgotten += 1;
        }
    }
}

fn first(id: SessionId, view: &View) -> SessionView {
    SessionView {
        session_id: id,
        host: view.host.clone(),
        host_name: view.host_name.clone(),
        labels: view.labels.clone(),
        epoch: view.epoch,
        seq: view.seq,
        last_seq: view.seq,
        opened: view.wall,
        closed: None,
        received: view.received,
        exchanges: 0,
        errors: 0,
        waiting: 0,
        fields: Fields::new(),
    }
}

impl Row {
    fn take(&mut self, view: &View) {
        let row = &mut self.view;
        row.last_seq = row.last_seq.max(view.seq);
        row.received = view.received;
        let number = view.exchange.unwrap_or(0);
        match view.entry_type.as_str() {
            "exchange" => row.exchanges += 1,
            "exchange.open" => {
                row.exchanges += 1;
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.insert(number);
                }
            }
            "exchange.close" => {
                self.waiting.remove(&number);
            }
            "session.close" => {
                row.closed = Some(view.wall);
                self.waiting.clear();
            }
            _ => {}
        }
        row.errors +=
            u64::from(matches!(view.entry_type.as_str(), "exchange" | "exchange.close") && view.is_error());
        row.waiting = self.waiting.len() as u64;
        let Some(record) = &view.record else { return };
        if matches!(view.entry_type.as_str(), "session.open" | "session.close") {
            row.fields.extend(record.fields.iter().map(|(name, value)| (name.clone(), value.clone())));
        } else {
            // Database, user and program are learnt after the beginning.
            for name in [
                crate::names::PROTOCOL_NAME,
                crate::names::DB_NAMESPACE,
                crate::names::DB_USER,
                crate::names::DB_APPLICATION,
            ] {
                if let Some(value) = record.fields.get(name) {
                    row.fields.insert(name.into(), value.clone());
                }
            }
        }
    }
}
