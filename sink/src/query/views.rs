//! Stored entries to views, as people see them. Where an entry's session began before the part that is read, its
//! beginning is looked up, so that each line knows its session whatever was asked for.

use std::collections::HashSet;

use custody_ledger::{EntryType, EpochId, HostId, ReceiptLevel};
use custody_record::{Assembler, Facts, SessionId, Status, View};

use crate::store::{HostRow, Store, StoreError, StoredEntry};

/// Sessions without a stored beginning that are remembered, so that they are not looked for again.
const ABSENT_MAX: usize = 10_000;

/// Makes views of one reader.
pub(crate) struct Viewer {
    assembler: Assembler,
    absent: HashSet<SessionId>,
}

impl Viewer {
    pub(crate) fn new() -> Self {
        Viewer { assembler: Assembler::default(), absent: HashSet::new() }
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
        let header = &entry.header;
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
            status: match entry.level {
                ReceiptLevel::Stored => Status::Stored,
                ReceiptLevel::Committed => Status::Committed,
                ReceiptLevel::Witnessed => Status::Witnessed,
            },
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
