//! Stored entries to views, as people see them. Where an entry's session began before the part that is read, its
//! beginning is looked up, so that each line knows its session whatever was asked for. How far an entry is safe is what
//! holds when its view is made: an answer that takes a while may say more of its later lines.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use custody_ledger::{BatchNumber, EntryType, EpochId, HostId, ReceiptLevel};
use custody_record::{Assembler, Facts, SessionId, Status, View};

use crate::store::{HostRow, Store, StoreError, StoredEntry};
use crate::tree::Tree;

/// Sessions without a stored beginning that are remembered, so that they are not looked for again.
const ABSENT_MAX: usize = 10_000;

/// Makes views of one reader.
pub(crate) struct Viewer {
    assembler: Assembler,
    absent: HashSet<SessionId>,
    /// `None` where nobody is told how far an entry is safe.
    tree: Option<Arc<Tree>>,
    /// What held of the batch of each host that was looked at last.
    levels: HashMap<HostId, (u64, BatchNumber, Status)>,
}

impl Viewer {
    /// For people, who are told how far each entry is safe.
    pub(super) fn new(tree: &Arc<Tree>) -> Self {
        Viewer { tree: Some(Arc::clone(tree)), ..Viewer::without_levels() }
    }

    /// For whoever tells nobody how far an entry is safe: the index of words, and sums over many entries.
    pub(crate) fn without_levels() -> Self {
        Viewer { assembler: Assembler::default(), absent: HashSet::new(), tree: None, levels: HashMap::new() }
    }

    fn level(&mut self, entry: &StoredEntry) -> Status {
        let Some(tree) = &self.tree else { return Status::Stored };
        let (host, counter) = (entry.header.host, entry.header.epoch.counter);
        match self.levels.get(&host) {
            Some((of, batch, level)) if (*of, *batch) == (counter, entry.batch) => *level,
            _ => {
                let level = tree.level_of(host, counter, entry.batch).unwrap_or_else(|error| {
                    // What cannot be looked up is not claimed.
                    tracing::error!("cannot tell how far a batch is safe: {error}");
                    ReceiptLevel::Stored
                });
                let level = match level {
                    ReceiptLevel::Stored => Status::Stored,
                    ReceiptLevel::Committed => Status::Committed,
                    ReceiptLevel::Witnessed => Status::Witnessed,
                };
                self.levels.insert(host, (counter, entry.batch, level));
                level
            }
        }
    }

    /// The view of an entry of this host; before it that of its session's beginning, where that lies before
    /// all that was read.
    pub(super) fn view(
        &mut self,
        store: &Store,
        host: &HostRow,
        entry: &StoredEntry,
    ) -> Result<(Option<View>, View), StoreError> {
        let beginning = self.find_beginning(store, host, entry)?;
        Ok((beginning, self.assemble(host, entry)))
    }

    /// The view of an entry; without the fields of its session where that one's beginning cannot be read.
    pub(crate) fn view_or_alone(&mut self, store: &Store, host: &HostRow, entry: &StoredEntry) -> View {
        // Whoever looks for what is damaged must not be stopped by it.
        drop(self.find_beginning(store, host, entry));
        self.assemble(host, entry)
    }

    fn find_beginning(
        &mut self,
        store: &Store,
        host: &HostRow,
        entry: &StoredEntry,
    ) -> Result<Option<View>, StoreError> {
        let Some(seq) = entry.header.session.filter(|&seq| seq < entry.header.seq) else { return Ok(None) };
        let id = session_id(entry.header.host, entry.header.epoch, seq.0);
        if self.assembler.knows(&id) || self.absent.contains(&id) {
            return Ok(None);
        }
        let beginning = store.entry(entry.header.host, entry.header.epoch.counter, seq)?;
        let beginning = beginning.map(|beginning| self.assemble(host, &beginning));
        if !self.assembler.knows(&id) {
            if self.absent.len() >= ABSENT_MAX {
                self.absent.clear();
            }
            self.absent.insert(id);
        }
        Ok(beginning)
    }

    fn assemble(&mut self, host: &HostRow, entry: &StoredEntry) -> View {
        let (header, status) = (&entry.header, self.level(entry));
        let view = self.assembler.view(&Facts {
            host: header.host.as_bytes(),
            host_id: &header.host.to_string(),
            host_name: &host.enrolment.name,
            labels: &host.enrolment.labels,
            epoch: header.epoch.counter,
            nonce: header.epoch.nonce.as_bytes(),
            seq: header.seq.0,
            entry_type: header.entry_type.as_str(),
            session: header.session.map(|seq| seq.0),
            received: signed(entry.received_ns),
            wall: signed(header.wall_ns),
            status,
            body: entry.body.as_ref().map(|(_, bytes)| bytes.as_slice()),
            expired: entry.expired,
        });
        // Hardly anything follows; what does finds the beginning in the store.
        if let (EntryType::SessionClose, Some(id)) = (&header.entry_type, &view.session_id) {
            self.assembler.forget(id);
        }
        view
    }
}

/// Name of the session that this entry opened.
pub(super) fn session_id(host: HostId, epoch: EpochId, seq: u64) -> SessionId {
    SessionId::of(host.as_bytes(), epoch.counter, epoch.nonce.as_bytes(), seq)
}

/// Unix ns as people's side has them.
pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// A view that says only which host it is: what a filter on hosts is asked about.
pub(super) fn of_host(host: &HostRow) -> View {
    View {
        host: host.enrolment.host.to_string(),
        host_name: host.enrolment.name.clone(),
        epoch: 0,
        seq: 0,
        entry_type: String::new(),
        session_id: None,
        exchange: None,
        received: host.received_ns.map_or(0, signed),
        wall: 0,
        status: Status::Stored,
        record: None,
        session: custody_record::Fields::new(),
        labels: host.enrolment.labels.clone(),
        unreadable: false,
        expired: false,
    }
}
