//! What fails, is skipped, or stays without an answer: told once, with the request that it kept from running.

use crate::item::{Class, Field};
use crate::protocol::{Out, Outcome};
use custody_record::names;

use super::client::skipped;
use super::connection::{Connection, Failure, Skipping};
use super::pairing::{Entry, Subject};
use super::parse::Report;
use super::report;
use super::request::statement_fields;
use super::state::Step;

impl Connection {
    /// The step at the head failed: the server skips all up to the next Sync. The first execution that this
    /// kept from running carries the error; without one the step is an exchange by itself.
    pub(super) fn on_failed(&mut self, report: Option<Report<'_>>, time_ns: u64, out: &mut dyn Out) {
        let (mut entries, sync_came) = self.pairing.skip();
        let Some(head) = entries.first_mut() else { return };
        // The server gave the unnamed ones up before it refused their successors.
        match &mut head.subject {
            Subject::Statement(statement, before) if statement.name.is_empty() => *before = None,
            Subject::Portal(portal, before) if portal.name.is_empty() => *before = None,
            _ => {}
        }
        let gave_up = self.answer.gave_up();
        let (outcome, response) =
            report.map_or((Outcome::Error, Vec::new()), |report| self.failure(report, gave_up));
        let mut failure = Some(Failure {
            sent_ns: head.time_ns,
            failed_ns: time_ns,
            request: step_fields(head),
            outcome,
            response,
        });
        if head.step == Step::Execute {
            // What came of it before it failed is told with it.
            if let (Some(id), Some(failure)) = (head.exchange.take(), failure.take()) {
                self.answer.fail(failure.outcome, failure.response);
                self.answer.finish(id, time_ns, out);
            }
        }
        for entry in &entries {
            let Some(id) = entry.exchange else { continue };
            let carried = if entry.step == Step::Execute { failure.take() } else { None };
            skipped(id, time_ns, carried, out);
        }
        if !sync_came {
            // What follows up to the Sync may still name them.
            self.skipping = Some(Skipping { failure, skipped: entries });
            return;
        }
        self.take_back(entries);
        if let Some(failure) = failure {
            self.tell(failure, out);
        }
    }

    /// How an error ends what it answers, and who asked for that.
    pub(super) fn failure(&mut self, report: Report<'_>, gave_up: bool) -> (Outcome, Vec<Field>) {
        report::failure(report, gave_up, self.cancelled_by.take())
    }

    /// Steps that never ran: their names are what they were before, from the last to the first.
    pub(super) fn take_back(&mut self, skipped: Vec<Entry>) {
        for entry in skipped.into_iter().rev() {
            match entry.subject {
                Subject::Statement(statement, before) => self.statements.take_back(&statement, before),
                Subject::Portal(portal, before) => self.portals.take_back(&portal, before),
                Subject::ClosedStatement(statement) => self.statements.give_back(statement),
                Subject::ClosedPortal(portal) => self.portals.give_back(portal),
                _ => {}
            }
        }
    }

    /// The server says nothing more.
    pub(super) fn on_server_end(&mut self, time_ns: u64, out: &mut dyn Out) {
        if let Some(id) = self.cancel.take() {
            // It answers a cancel by closing, whatever came of it.
            out.response(id, time_ns, Outcome::Ok, Vec::new());
        }
        if let Some(failure) = self.skipping.take().and_then(|skipping| skipping.failure) {
            self.tell(failure, out);
        }
        let entries = self.pairing.drain();
        if let Some(id) = entries.first().and_then(|head| head.exchange) {
            match self.answer.failed() {
                true => self.answer.finish(id, time_ns, out),
                false => self.answer.abandon(id, out),
            }
        }
        self.tell_unanswered(&entries, None, out);
    }

    /// A statement that was prepared, never run and never answered may be what killed the server.
    pub(super) fn tell_unanswered(
        &mut self,
        entries: &[Entry],
        code: Option<&'static str>,
        out: &mut dyn Out,
    ) {
        let batches = entries.split(|entry| entry.step == Step::Sync);
        for batch in batches.filter(|batch| batch.iter().all(|entry| entry.step != Step::Execute)) {
            for entry in batch.iter().filter(|entry| entry.step == Step::Parse) {
                let id = self.number();
                out.request(id, entry.time_ns, step_fields(entry));
                code.into_iter().for_each(|code| out.anomaly(Some(id), code));
            }
        }
    }
}

/// What a step that is no exchange by itself was about.
fn step_fields(entry: &Entry) -> Vec<Field> {
    let mut fields = vec![Field::structure(names::DB_MESSAGE, entry.step.message())];
    let statement = match &entry.subject {
        Subject::Statement(statement, _) | Subject::DescribedStatement(statement) => Some(statement),
        Subject::Portal(portal, _) | Subject::UsedPortal(portal) => portal.statement.as_ref(),
        _ => None,
    };
    if let Some(statement) = statement {
        if !statement.name.is_empty() {
            fields.push(Field::new(names::DB_STATEMENT_NAME, statement.name.clone(), Class::Identifier));
        }
        fields.extend(statement_fields(statement.text.clone(), &statement.facts.summary, statement.odd));
    }
    fields
}
