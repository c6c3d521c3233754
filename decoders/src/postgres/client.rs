//! What the client's messages mean: requests, and steps that the server has to answer.

use crate::anomaly;
use std::sync::Arc;
use std::sync::OnceLock;

use custody_record::names;

use crate::item::{Class, Field, text};
use crate::protocol::{ExchangeId, Frame, Out, Outcome};

use super::connection::{Connection, Failure, Phase, code};
use super::copy::CopyDirection;
use super::frame;
use super::names::{Portal, Statement};
use super::pairing::{Entry, Subject};
use super::parse::{self, Bind, FromClient, Target};
use super::request::{
    argument_fields, old_startup_fields, parameter_fields, startup_fields, statement_fields,
};
use super::state::Step;

impl Connection {
    /// A packet of before the start-up.
    pub(super) fn on_startup_packet(&mut self, packet: Frame<'_>, cut: u64, out: &mut dyn Out) {
        let request =
            packet.bytes.get(4..8).and_then(|code| code.first_chunk()).map(|code| u32::from_be_bytes(*code));
        match request {
            _ if cut > 0 => out.anomaly(None, anomaly::POSTGRES_SHORT),
            Some(frame::SSL) => self.phase = Phase::AskedSsl,
            Some(frame::GSSENC) => self.phase = Phase::AskedGss,
            Some(frame::CANCEL) => self.on_cancel(packet, out),
            _ => self.on_startup(packet, out),
        }
    }

    fn on_cancel(&mut self, packet: Frame<'_>, out: &mut dyn Out) {
        let Ok((pid, secret)) = parse::cancel(packet.bytes) else {
            return out.anomaly(None, anomaly::POSTGRES_SHORT);
        };
        let id = self.number();
        let fields = vec![
            Field::structure(names::DB_MESSAGE, "CancelRequest"),
            Field::structure(names::DB_BACKEND_PID, u64::from(pid)),
        ];
        out.request(id, packet.time_ns, fields);
        out.names_other(id, secret, names::DB_CANCELS_SESSION);
        self.cancel = Some(id);
    }

    fn on_startup(&mut self, packet: Frame<'_>, out: &mut dyn Out) {
        let old = packet.bytes.get(4..6) == Some(&[0, 2]);
        self.phase = if old { Phase::Old } else { Phase::Messages };
        let id = self.number();
        let mut request = vec![Field::structure(names::DB_MESSAGE, Step::Startup.message())];
        match parse::startup(packet.bytes) {
            _ if old => {
                out.session(parse::old_startup(packet.bytes).map(old_startup_fields).unwrap_or_default());
                out.request(id, packet.time_ns, request);
            }
            Ok(startup) => {
                let (session, parameters) = startup_fields(startup);
                out.session(session);
                request.extend(parameters);
                out.request(id, packet.time_ns, request);
            }
            Err(malformed) => {
                out.request(id, packet.time_ns, request);
                out.anomaly(Some(id), code(malformed));
            }
        }
        self.starting = Some(id);
        self.enqueue(Step::Startup, Some(id), packet.time_ns, Subject::Nothing, out);
    }

    /// A typed message.
    pub(super) fn on_client(&mut self, kind: u8, body: &[u8], cut: bool, time_ns: u64, out: &mut dyn Out) {
        let (message, odd) = match parse::from_client(kind, body, cut) {
            Ok(message) => (Some(message), cut.then_some(anomaly::POSTGRES_CUT)),
            // What can be read without its end is still evidence.
            Err(malformed) => (parse::from_client(kind, body, true).ok(), Some(code(malformed))),
        };
        let Some(message) = message else { return self.on_unread(kind, odd, time_ns, out) };
        self.client_waits = matches!(message, FromClient::Sync | FromClient::Flush);
        match message {
            FromClient::Query { text } => self.on_query(text, odd, time_ns, out),
            FromClient::Parse { statement, text, types } => {
                self.on_parse(statement, text, types.iter().collect(), odd, time_ns, out);
            }
            FromClient::Bind(bind) => self.on_bind(bind, odd, time_ns, out),
            FromClient::Execute { portal } => self.on_execute(portal, time_ns, out),
            FromClient::Describe { target, name } => {
                let subject = self.described(target, name);
                self.enqueue(Step::Describe, None, time_ns, subject, out);
            }
            FromClient::Close { target, name } => {
                let subject = self.closed(target, name);
                self.enqueue(Step::Close, None, time_ns, subject, out);
            }
            FromClient::Function { oid, arguments } => {
                let mut fields = vec![Field::structure(names::DB_FUNCTION, u64::from(oid))];
                fields.extend(argument_fields(arguments));
                let id = self.begin(Step::Function, fields, time_ns, out);
                self.enqueue(Step::Function, Some(id), time_ns, Subject::Nothing, out);
            }
            FromClient::Sync => self.on_sync(time_ns, out),
            FromClient::Credential => self.on_credential(body, out),
            FromClient::CopyFail { reason } => self.on_copy_end(Some(text(reason))),
            FromClient::CopyDone => self.on_copy_end(None),
            FromClient::Flush | FromClient::Terminate => {}
        }
    }

    /// A message whose body says nothing: the server answers it all the same, so it takes its place.
    fn on_unread(&mut self, kind: u8, odd: Option<&'static str>, time_ns: u64, out: &mut dyn Out) {
        let step = match kind {
            b'Q' => Step::Query,
            b'F' => Step::Function,
            b'P' => Step::Parse,
            b'B' => Step::Bind,
            b'D' => Step::Describe,
            b'E' => Step::Execute,
            b'C' => Step::Close,
            b'S' => Step::Sync,
            _ => return odd.into_iter().for_each(|odd| out.anomaly(None, odd)),
        };
        let is_exchange = matches!(step, Step::Query | Step::Function | Step::Execute);
        let id = is_exchange.then(|| self.begin(step, Vec::new(), time_ns, out));
        odd.into_iter().for_each(|odd| out.anomaly(id, odd));
        self.enqueue(step, id, time_ns, Subject::Nothing, out);
    }

    fn on_query(&mut self, query: &[u8], odd: Option<&'static str>, time_ns: u64, out: &mut dyn Out) {
        // A simple query ends the unnamed statement and portal.
        if self.skipping.is_none() {
            self.statements.remove("");
            self.portals.remove("");
        }
        let query = text(query);
        let facts = self.recent.facts_of(&query);
        let fields = statement_fields(query, &facts.summary, odd);
        let copy_statement = facts.copies.then(|| Box::new(fields[0].clone()));
        let id = self.begin(Step::Query, fields, time_ns, out);
        odd.into_iter().for_each(|odd| out.anomaly(Some(id), odd));
        let subject = Subject::PortalAge(self.portals.age());
        self.enqueue_copy(Step::Query, Some(id), time_ns, subject, copy_statement, out);
    }

    fn on_parse(
        &mut self,
        name: &[u8],
        query: &[u8],
        types: Vec<u32>,
        odd: Option<&'static str>,
        time_ns: u64,
        out: &mut dyn Out,
    ) {
        let query = text(query);
        let statement = Arc::new(Statement {
            name: text(name),
            facts: self.recent.facts_of(&query),
            text: query,
            odd,
            declared_types: types,
            types: OnceLock::new(),
            columns: OnceLock::new(),
        });
        let (before, forgotten) = self.statements.insert(statement.clone());
        if forgotten > 0 {
            out.anomaly(None, anomaly::POSTGRES_NAMES_LIMIT);
        }
        self.enqueue(Step::Parse, None, time_ns, Subject::Statement(statement, before), out);
    }

    fn on_bind(&mut self, bind: Bind<'_>, odd: Option<&'static str>, time_ns: u64, out: &mut dyn Out) {
        let statement = self.statements.find(&text(bind.statement));
        let formats: Vec<bool> = bind.formats.iter().map(|format| format == 1).collect();
        let types = statement.as_ref().map_or(&[][..], |statement| statement.parameter_types());
        let values = parameter_fields(bind.values, &formats, types, statement.as_deref());
        let portal = Arc::new(Portal {
            name: text(bind.portal),
            statement_name: text(bind.statement),
            result_formats: bind.result_formats.iter().map(|format| format == 1).collect(),
            columns: OnceLock::new(),
            values,
            odd,
            statement,
        });
        let (before, forgotten) = self.portals.insert(portal.clone());
        if forgotten > 0 {
            out.anomaly(None, anomaly::POSTGRES_NAMES_LIMIT);
        }
        self.enqueue(Step::Bind, None, time_ns, Subject::Portal(portal, before), out);
    }

    fn on_execute(&mut self, name: &[u8], time_ns: u64, out: &mut dyn Out) {
        let name = text(name);
        let portal = self.portals.find(&name);
        let mut fields = Vec::new();
        if !name.is_empty() {
            fields.push(Field::new(names::DB_PORTAL_NAME, name, Class::Identifier));
        }
        let mut odd = Vec::new();
        let mut copy_statement = None;
        let statement = portal.as_ref().and_then(|portal| portal.statement.as_ref());
        match statement {
            Some(statement) => {
                let said = statement_fields(statement.text.clone(), &statement.facts.summary, statement.odd);
                copy_statement = statement.facts.copies.then(|| Box::new(said[0].clone()));
                fields.extend(said);
                odd.extend(statement.odd);
            }
            None => odd.push(anomaly::STATEMENT_UNKNOWN),
        }
        if let Some(portal) = &portal {
            if !portal.statement_name.is_empty() {
                let name = portal.statement_name.clone();
                fields.push(Field::new(names::DB_STATEMENT_NAME, name, Class::Identifier));
            }
            fields.extend(portal.values.iter().cloned());
            odd.extend(portal.odd);
        }
        let id = self.begin(Step::Execute, fields, time_ns, out);
        odd.into_iter().for_each(|odd| out.anomaly(Some(id), odd));
        let subject = portal.map_or(Subject::Nothing, Subject::UsedPortal);
        self.enqueue_copy(Step::Execute, Some(id), time_ns, subject, copy_statement, out);
    }

    fn described(&self, target: Target, name: &[u8]) -> Subject {
        let name = text(name);
        match target {
            Target::Statement => self.statements.find(&name).map(Subject::DescribedStatement),
            Target::Portal => self.portals.find(&name).map(Subject::UsedPortal),
        }
        .unwrap_or(Subject::Nothing)
    }

    fn closed(&mut self, target: Target, name: &[u8]) -> Subject {
        let name = text(name);
        match target {
            Target::Statement => self.statements.remove(&name).map(Subject::ClosedStatement),
            Target::Portal => self.portals.remove(&name).map(Subject::ClosedPortal),
        }
        .unwrap_or(Subject::Nothing)
    }

    fn on_sync(&mut self, time_ns: u64, out: &mut dyn Out) {
        // While it takes COPY data the server ignores Sync.
        if self.answer.copying() == Some(CopyDirection::In) && !self.copy_done {
            return;
        }
        if let Some(skipping) = self.skipping.take() {
            self.take_back(skipping.skipped);
            if let Some(failure) = skipping.failure {
                self.tell(failure, out);
            }
        }
        self.enqueue(Step::Sync, None, time_ns, Subject::PortalAge(self.portals.age()), out);
    }

    fn on_credential(&mut self, body: &[u8], out: &mut dyn Out) {
        const MECHANISMS: &[&str] = &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER"];
        let Some(id) = self.starting else { return };
        self.credential_owed = false;
        // Only that there was one, and by which mechanism: nothing else of it leaves this function.
        let mut fields = vec![Field::new(names::DB_CREDENTIAL, "", Class::Secret("password"))];
        if std::mem::take(&mut self.sasl_asked) {
            let asked = body.split(|byte| *byte == 0).next().unwrap_or(&[]);
            let known = MECHANISMS.iter().find(|mechanism| mechanism.as_bytes() == asked);
            fields.push(Field::structure(names::DB_AUTHENTICATION, *known.unwrap_or(&"sasl")));
        }
        out.fields(id, fields);
    }

    /// The client has sent all of its COPY data, or gave up.
    fn on_copy_end(&mut self, failure: Option<String>) {
        self.copy_done = true;
        if self.answer.copying().is_some() {
            return self.on_copy_failure(failure);
        }
        if self.pairing.head().is_some() {
            let early = self.early_copy.get_or_insert_default();
            (early.done, early.failure) = (true, failure);
        }
    }

    pub(super) fn on_copy_failure(&mut self, failure: Option<String>) {
        if let Some(reason) = failure {
            self.answer.field(Field::new(names::DB_COPY_FAILURE, reason, Class::Text));
        }
    }

    /// A request that is an exchange of its own: told before its place in the queue is known.
    fn begin(&mut self, step: Step, fields: Vec<Field>, time_ns: u64, out: &mut dyn Out) -> ExchangeId {
        let id = self.number();
        let mut request = vec![Field::structure(names::DB_MESSAGE, step.message())];
        request.extend(fields);
        out.request(id, time_ns, request);
        id
    }

    /// A step that the server answers, or skips.
    fn enqueue(
        &mut self,
        step: Step,
        exchange: Option<ExchangeId>,
        time_ns: u64,
        subject: Subject,
        out: &mut dyn Out,
    ) {
        self.enqueue_copy(step, exchange, time_ns, subject, None, out);
    }

    /// The same of a statement that may be a COPY.
    fn enqueue_copy(
        &mut self,
        step: Step,
        exchange: Option<ExchangeId>,
        time_ns: u64,
        subject: Subject,
        copy_statement: Option<Box<Field>>,
        out: &mut dyn Out,
    ) {
        let after_copy_data = self.early_copy.as_ref().is_some_and(|early| early.done);
        let entry = Entry { step, exchange, time_ns, subject, copy_statement, after_copy_data };
        if let Some(skipping) = self.skipping.as_mut() {
            if let Some(id) = exchange {
                let failure = if step == Step::Execute { skipping.failure.take() } else { None };
                skipped(id, time_ns, failure, out);
            }
            if skipping.skipped.len() < self.limits.names_max {
                skipping.skipped.push(entry);
            }
            return;
        }
        let admitted = self.pairing.admits();
        let kept = self.pairing.push(entry);
        if let (Some(id), false) = (exchange, admitted) {
            out.anomaly(
                Some(id),
                if kept { anomaly::POSTGRES_UNPAIRED } else { anomaly::POSTGRES_PENDING_LIMIT },
            );
        }
    }
}

/// The server never ran it; the batch's error is told with the first that it kept from running.
pub(super) fn skipped(id: ExchangeId, time_ns: u64, failure: Option<Failure>, out: &mut dyn Out) {
    match failure {
        Some(failure) => out.response(id, failure.failed_ns.max(time_ns), failure.outcome, failure.response),
        None => out.response(id, time_ns, Outcome::Error, vec![Field::structure(names::DB_SKIPPED, true)]),
    }
}
