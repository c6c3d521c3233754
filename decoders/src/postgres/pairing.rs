//! Which answer belongs to which request: the queue of what the server still has to answer, and when that
//! is not known any more.
//!
//! PostgreSQL answers in order, so the queue is the protocol's own rule. After a hole in the bytes, a message
//! that fits no rule, or more requests than the limit, pairing stops; it starts again where the server is
//! surely idle. Until then requests are told without their answers: nothing is guessed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::item::Field;
use crate::protocol::ExchangeId;

use super::names::{Portal, Statement};
use super::state::Step;

/// Messages of one exchange in the queue, at most, on average: Parse, Bind, Describe, Execute, Close, Sync.
const STEPS_PER_EXCHANGE: usize = 6;

/// One step that the server has to answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) step: Step,
    /// The exchange that this step answers, for steps that are one.
    pub(super) exchange: Option<ExchangeId>,
    pub(super) time_ns: u64,
    pub(super) subject: Subject,
    /// The statement, where it may be a COPY: its columns say what the data are.
    pub(super) copy_statement: Option<Box<Field>>,
    /// It came behind COPY data that were seen before the server's wish for them.
    pub(super) after_copy_data: bool,
}

impl Entry {
    /// A statement whose parameters the server is about to describe.
    fn is_undescribed(&self) -> bool {
        self.step == Step::Describe && matches!(self.subject, Subject::DescribedStatement(_))
    }
}

/// What a step is about.
#[derive(Debug)]
pub(super) enum Subject {
    Nothing,
    /// A new statement, and what had its name before.
    Statement(Arc<Statement>, Option<Arc<Statement>>),
    /// A new portal, and what had its name before.
    Portal(Arc<Portal>, Option<Arc<Portal>>),
    /// A statement that is described.
    DescribedStatement(Arc<Statement>),
    /// A portal that is described or run.
    UsedPortal(Arc<Portal>),
    /// A statement whose name was given up.
    ClosedStatement(Arc<Statement>),
    /// A portal whose name was given up.
    ClosedPortal(Arc<Portal>),
    /// Portals older than this end with the transaction.
    PortalAge(u64),
}

/// How sure pairing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Requests and answers pair.
    Paired,
    /// More requests than the limit: so many answers end with ReadyForQuery and belong to none that is kept.
    Full { ready_left: u64 },
    /// Unknown answers may still come.
    Lost,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Pairing {
    queue: VecDeque<Entry>,
    steps_max: usize,
    trust: Trust,
    /// ReadyForQuery messages that may still come, at most.
    ready_expected: u64,
    /// The client has sent a request before the one before was answered.
    pipelines: bool,
    /// The last message of the server was ReadyForQuery; `None` before the first.
    server_idle: Option<bool>,
    /// Statements in the queue that the server has still to describe.
    undescribed: usize,
}

impl Pairing {
    pub(super) fn new(pending_max: usize) -> Self {
        Pairing {
            queue: VecDeque::new(),
            steps_max: pending_max.saturating_mul(STEPS_PER_EXCHANGE),
            trust: Trust::Paired,
            ready_expected: 0,
            pipelines: false,
            server_idle: None,
            undescribed: 0,
        }
    }

    /// Whether a request that comes now will be paired. Called before each request: this is where pairing
    /// starts again.
    pub(super) fn admits(&mut self) -> bool {
        let idle = self.server_idle != Some(false);
        if self.trust == Trust::Lost
            && (self.ready_expected == 0 || (idle && !self.pipelines))
            && self.queue.is_empty()
        {
            self.trust = Trust::Paired;
            self.ready_expected = 0;
        }
        self.trust == Trust::Paired && self.queue.len() < self.steps_max
    }

    /// A step that the server has to answer. Returns false when it is over the limit.
    pub(super) fn push(&mut self, entry: Entry) -> bool {
        if entry.step.ends_ready() {
            // How many answers are due is known only while requests pair.
            let due = self.trust == Trust::Paired && self.ready_expected > 0;
            self.pipelines |= due && entry.step != Step::Startup;
            self.ready_expected += 1;
        }
        match &mut self.trust {
            Trust::Paired if self.queue.len() < self.steps_max => {
                self.undescribed += usize::from(entry.is_undescribed());
                self.queue.push_back(entry);
                true
            }
            Trust::Paired => {
                self.trust = Trust::Full { ready_left: u64::from(entry.step.ends_ready()) };
                false
            }
            Trust::Full { ready_left } => {
                *ready_left += u64::from(entry.step.ends_ready());
                false
            }
            Trust::Lost => true,
        }
    }

    /// Nothing was lost so far, or all of it is behind.
    pub(super) fn is_sure(&self) -> bool {
        self.trust == Trust::Paired
    }

    /// The step that the server answers now.
    pub(super) fn head(&self) -> Option<&Entry> {
        self.queue.front()
    }

    /// The step is answered.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.undescribed -= usize::from(entry.is_undescribed());
        Some(entry)
    }

    /// The server has still to say what some statement's parameters are.
    pub(super) fn awaits_description(&self) -> bool {
        self.undescribed > 0
    }

    /// The server said something.
    pub(super) fn heard(&mut self, kind: u8) {
        let ready = kind == b'Z';
        self.server_idle = Some(ready);
        if ready {
            self.ready_expected = self.ready_expected.saturating_sub(1);
            if let (Trust::Full { ready_left }, true) = (&mut self.trust, self.queue.is_empty()) {
                *ready_left = ready_left.saturating_sub(1);
                if *ready_left == 0 {
                    self.trust = Trust::Paired;
                }
            }
        }
    }

    /// Takes out what the server skips after an error: all from the head up to the next Sync. Says whether
    /// that Sync has come already.
    pub(super) fn skip(&mut self) -> (Vec<Entry>, bool) {
        let sync = self.queue.iter().position(|entry| entry.step == Step::Sync);
        let skipped: Vec<Entry> = self.queue.drain(..sync.unwrap_or(self.queue.len())).collect();
        self.undescribed -= skipped.iter().filter(|entry| entry.is_undescribed()).count();
        let skipped_ready = skipped.iter().filter(|entry| entry.step.ends_ready()).count();
        self.ready_expected = self.ready_expected.saturating_sub(skipped_ready as u64);
        (skipped, sync.is_some() || self.trust != Trust::Paired)
    }

    /// The server ignores the Syncs that came before it began to take COPY data.
    pub(super) fn ignore_syncs_behind_head(&mut self) {
        while self.queue.get(1).is_some_and(|entry| entry.step == Step::Sync && !entry.after_copy_data) {
            self.queue.remove(1);
            self.ready_expected = self.ready_expected.saturating_sub(1);
        }
    }

    /// Bytes from the server are missing, or make no sense here: nothing pending can be paired. Returns what
    /// stays without its answer.
    pub(super) fn lose(&mut self) -> Vec<Entry> {
        self.trust = Trust::Lost;
        // Its last word may be among what is missing: it is idle when it says so again.
        self.server_idle = Some(false);
        self.drain()
    }

    /// An answer begins whose request was not seen: it stands alone. Not while requests over the limit are
    /// answered, which were told without.
    pub(super) fn adopt(&mut self, exchange: ExchangeId, time_ns: u64) {
        self.ready_expected = self.ready_expected.max(1);
        self.queue.push_back(Entry {
            step: Step::Unseen,
            exchange: Some(exchange),
            time_ns,
            subject: Subject::Nothing,
            copy_statement: None,
            after_copy_data: false,
        });
    }

    /// More requests came than the limit, and their answers are due.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.trust, Trust::Full { .. })
    }

    /// Bytes from the client are missing: what is pending is answered first, then unknown answers follow.
    pub(super) fn lose_after_pending(&mut self) {
        self.doubt();
        self.ready_expected += 1;
    }

    /// Requests may be told later than their answers: none pairs before the server says that it is idle.
    pub(super) fn doubt(&mut self) {
        self.trust = Trust::Lost;
        self.server_idle = Some(false);
        self.ready_expected = self.ready_expected.max(1);
    }

    /// The connection ended: takes out all that is pending.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        self.undescribed = 0;
        self.queue.drain(..).collect()
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.queue.len() * size_of::<Entry>()
    }
}
