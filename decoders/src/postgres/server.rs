//! What the server's messages mean: answers to the step at the head of the queue, and what it says unasked.

use crate::anomaly;
use custody_record::{Value, names};

use crate::item::{Class, Field, text};
use crate::protocol::{Direction, Frame, Out, Outcome};

use super::connection::{Connection, Failure, code};
use super::copy::{Copy, CopyDirection};
use super::frame::{self, HEADER_BYTES, Head};
use super::names::Column;
use super::pairing::{Entry, Subject};
use super::parse::{self, Columns, FromServer, Report};
use super::report;
use super::state::{Effect, Step, effect};

impl Connection {
    /// A typed message.
    pub(super) fn on_server(&mut self, kind: u8, body: &[u8], cut: bool, time_ns: u64, out: &mut dyn Out) {
        let (message, odd) = match parse::from_server(kind, body, cut) {
            Ok(message) => (Some(message), cut.then_some(anomaly::POSTGRES_CUT)),
            Err(malformed) => (None, Some(code(malformed))),
        };
        if let Some(odd) = odd {
            out.anomaly(self.pairing.head().and_then(|head| head.exchange), odd);
        }
        match (kind, message) {
            (b'S', Some(FromServer::ParameterStatus { name, value })) => on_parameter(name, value, out),
            (b'N', Some(FromServer::Notice(report))) => self.on_notice(report, time_ns, out),
            (b'A', Some(FromServer::Notification { pid, channel, payload })) => {
                let request = vec![
                    Field::structure(names::DB_MESSAGE, "NotificationResponse"),
                    Field::structure(names::DB_NOTIFICATION_PID, u64::from(pid)),
                    Field::new(names::DB_NOTIFICATION_CHANNEL, text(channel), Class::Identifier),
                    Field::new(
                        names::DB_NOTIFICATION_PAYLOAD,
                        text(payload),
                        Class::Value { name: String::new() },
                    ),
                ];
                self.tell_unasked(request, Outcome::Ok, Vec::new(), time_ns, out);
            }
            (b'S' | b'N' | b'A', _) => {}
            (kind, message) => self.on_answer(kind, message, time_ns, out),
        }
    }

    /// A message of COPY data: its bytes follow in pieces.
    pub(super) fn on_copy_head(&mut self, frame: Frame<'_>) {
        let length = frame.bytes.get(1..HEADER_BYTES).and_then(|length| length.first_chunk());
        let bytes = length.map_or(0, |length| u32::from_be_bytes(*length).saturating_sub(4));
        if let Some(copy) = self.answer.copy().filter(|copy| copy.direction.carries(frame.direction)) {
            copy.message(frame.direction, bytes.into());
        } else if frame.direction == Direction::Up && self.pairing.head().is_some() {
            // The server's wish for them is still to be seen, or it ignores them.
            self.early_copy.get_or_insert_default().message(bytes.into());
        }
    }

    fn on_answer(&mut self, kind: u8, message: Option<FromServer<'_>>, time_ns: u64, out: &mut dyn Out) {
        self.pairing.heard(kind);
        let Some(head) = self.pairing.head() else { return self.on_unasked(kind, message, time_ns, out) };
        let (step, exchange) = (head.step, head.exchange);
        let effect = effect(step, kind);
        if effect == Effect::Wrong {
            out.anomaly(exchange, anomaly::POSTGRES_UNEXPECTED);
            return self.lose(anomaly::POSTGRES_UNPAIRED, out);
        }
        if effect == Effect::Failed {
            let report = match message {
                Some(FromServer::Error(report)) => Some(report),
                _ => None,
            };
            return self.on_failed(report, time_ns, out);
        }
        self.take_in(kind, message, out);
        if effect == Effect::Done {
            self.on_done(kind, time_ns, out);
        }
    }

    /// The content of an answer's message, for the step at the head.
    fn take_in(&mut self, kind: u8, message: Option<FromServer<'_>>, out: &mut dyn Out) {
        let Some(head) = self.pairing.head() else { return };
        let portal = match &head.subject {
            Subject::UsedPortal(portal) => Some(portal.clone()),
            _ => None,
        };
        let id = head.exchange.unwrap_or(0);
        let copies = matches!(kind, b'G' | b'H' | b'W');
        let statement = if copies { head.copy_statement.clone() } else { None };
        match message {
            Some(FromServer::Columns(columns)) => self.on_columns(columns),
            Some(FromServer::ParameterTypes(types)) => {
                if let Subject::DescribedStatement(statement) = &head.subject {
                    // Described before: the server says the same again.
                    let _ = statement.types.set(types.iter().collect());
                }
            }
            Some(FromServer::Row(cells)) => {
                let formats = portal.as_ref().map_or(&[][..], |portal| &portal.result_formats);
                if let Some(portal) = &portal {
                    self.answer.columns_once(|| portal.answer_columns());
                }
                self.answer.row(Some(cells), formats, &self.limits);
            }
            None if kind == b'D' => self.answer.row(None, &[], &self.limits),
            Some(FromServer::Complete { tag }) => self.answer.complete(tag, id, out),
            Some(FromServer::PortalSuspended) => self.answer.suspend(id, out),
            Some(FromServer::Error(report)) => {
                let (outcome, fields) = self.failure(report, self.answer.gave_up());
                self.answer.fail(outcome, fields);
            }
            None if kind == b'E' => self.answer.fail_unread(),
            Some(FromServer::CopyIn { binary }) => {
                self.copy_done = false;
                self.pairing.ignore_syncs_behind_head();
                self.answer.copy_begins(Copy::new(CopyDirection::In, binary, statement), id, out);
                self.take_early_copy();
            }
            Some(FromServer::CopyOut { binary, columns }) => {
                // What a base backup carries has no columns; rows without any would say nothing.
                let direction = if columns == 0 { CopyDirection::Backup } else { CopyDirection::Out };
                self.answer.copy_begins(Copy::new(direction, binary, statement), id, out);
            }
            Some(FromServer::CopyBoth { binary }) => {
                self.answer.copy_begins(Copy::new(CopyDirection::Both, binary, statement), id, out);
                self.take_early_copy();
            }
            Some(FromServer::FunctionResult(Some(result))) => {
                let value = Value::Bytes(result.to_vec());
                self.answer.field(Field::new(names::DB_FUNCTION_RESULT, value, Class::Opaque));
            }
            Some(FromServer::Authentication { kind, .. }) => self.on_authentication(kind, out),
            Some(FromServer::BackendKey { pid, secret }) => {
                out.session(vec![Field::structure(names::DB_BACKEND_PID, u64::from(pid))]);
                out.goes_by(secret);
            }
            Some(FromServer::NegotiateVersion { minor, options }) => {
                out.session(vec![Field::structure(names::PROTOCOL_VERSION, format!("3.{minor}"))]);
                let options: Vec<_> = options.iter().map(|name| Some(Value::Text(text(name)))).collect();
                if !options.is_empty() {
                    let refused =
                        Field::new(names::DB_OPTIONS_REFUSED, Value::List(options), Class::Identifier);
                    self.answer.field(refused);
                }
            }
            Some(FromServer::Ready { status }) if id != 0 => {
                if let Some(status) = transaction_status(status) {
                    self.answer.field(Field::structure(names::DB_TRANSACTION_STATUS, status));
                }
                if status == b'I' {
                    self.end_portals();
                }
            }
            Some(FromServer::Ready { status: b'I' }) => self.end_portals(),
            _ => {}
        }
    }

    /// What the client said before it was seen that the server wants it.
    fn take_early_copy(&mut self) {
        let Some(mut early) = self.early_copy.take() else { return };
        self.copy_done = early.done;
        let failure = early.failure.take();
        if let Some(copy) = self.answer.copy() {
            copy.early(&early, &self.limits);
        }
        self.on_copy_failure(failure);
    }

    fn on_columns(&mut self, columns: Columns<'_>) {
        let columns: Vec<Column> = columns
            .iter()
            .map(|column| Column {
                name: text(column.name),
                type_oid: column.type_oid,
                binary: column.binary,
            })
            .collect();
        let Some(head) = self.pairing.head() else { return };
        match (&head.subject, head.step) {
            // Described before: what was said then holds, or the server refuses to run it.
            (Subject::DescribedStatement(statement), _) => drop(statement.columns.set(columns)),
            (Subject::UsedPortal(portal), Step::Describe) => drop(portal.columns.set(columns)),
            (_, Step::Query | Step::Unseen) => self.answer.columns(columns),
            _ => {}
        }
    }

    fn on_authentication(&mut self, kind: u32, out: &mut dyn Out) {
        self.credential_owed = !matches!(kind, 0 | 12);
        let asked = match kind {
            0 if self.authentication_asked => return,
            0 => "none",
            1 => "kerberos_v4",
            2 => "kerberos_v5",
            3 => "cleartext",
            4 => "crypt",
            5 => "md5",
            6 => "scm",
            7 => "gss",
            9 => "sspi",
            10 => {
                // Which mechanism, the client says.
                (self.sasl_asked, self.authentication_asked) = (true, true);
                return;
            }
            // Steps of what was asked before.
            8 | 11 | 12 => return,
            _ => {
                out.anomaly(self.starting, anomaly::POSTGRES_UNKNOWN_CODE);
                "unknown"
            }
        };
        self.authentication_asked = true;
        self.answer.field(Field::structure(names::DB_AUTHENTICATION, asked));
    }

    /// Portals end with their transaction.
    fn end_portals(&mut self) {
        if let Some(Entry { subject: Subject::PortalAge(age), .. }) = self.pairing.head() {
            self.portals.forget_before(*age);
        }
    }

    /// The step at the head is answered.
    fn on_done(&mut self, kind: u8, time_ns: u64, out: &mut dyn Out) {
        let Some(entry) = self.pairing.pop() else { return };
        if entry.step == Step::Startup {
            self.starting = None;
        }
        if kind == b'Z' {
            // Who wished to end what is over by now came too late.
            self.cancelled_by = None;
        }
        if kind == b'Z' && self.pairing.head().is_none() {
            // Nothing of what was asked is a COPY: the server ignored the data.
            self.early_copy = None;
        }
        if let Some(id) = entry.exchange {
            self.answer.finish(id, time_ns, out);
        } else if kind == b'Z' && self.answer.failed() {
            // A deferred constraint failed at the commit that Sync makes.
            let id = self.number();
            out.request(id, entry.time_ns, vec![Field::structure(names::DB_MESSAGE, Step::Sync.message())]);
            self.answer.finish(id, time_ns, out);
        }
    }

    fn on_notice(&mut self, report: Report<'_>, time_ns: u64, out: &mut dyn Out) {
        if self.pairing.head().is_some() {
            return self.answer.notice(report);
        }
        let request = vec![Field::structure(names::DB_MESSAGE, "NoticeResponse")];
        self.tell_unasked(request, Outcome::Ok, report::notice(report, 1), time_ns, out);
    }

    /// An answer to nothing that is known.
    fn on_unasked(&mut self, kind: u8, message: Option<FromServer<'_>>, time_ns: u64, out: &mut dyn Out) {
        match (kind, message) {
            // The server ends the session: shutdown, time limit, administrator.
            (_, Some(FromServer::Error(report))) if self.pairing.is_sure() => {
                let request = vec![Field::structure(names::DB_MESSAGE, "ErrorResponse")];
                let (outcome, response) = self.failure(report, false);
                self.tell_unasked(request, outcome, response, time_ns, out);
            }
            (b'T' | b'D' | b'C' | b'I' | b'E' | b's' | b'V' | b'G' | b'H' | b'W', message)
                if !self.pairing.is_full() =>
            {
                let id = self.number();
                out.anomaly(Some(id), anomaly::POSTGRES_REQUEST_UNSEEN);
                self.pairing.adopt(id, time_ns);
                self.take_in(kind, message, out);
            }
            _ => {}
        }
    }

    fn tell_unasked(
        &mut self,
        request: Vec<Field>,
        outcome: Outcome,
        response: Vec<Field>,
        time_ns: u64,
        out: &mut dyn Out,
    ) {
        self.tell(Failure { sent_ns: time_ns, failed_ns: time_ns, request, outcome, response }, out);
    }

    /// A server that knows no encryption answers the wish for it with an error.
    pub(super) fn refused(&mut self, request: &'static str, frame: Frame<'_>, out: &mut dyn Out) {
        match self.early_error(frame) {
            Some((outcome, response)) => {
                let request = vec![Field::structure(names::DB_MESSAGE, request)];
                self.tell_unasked(request, outcome, response, frame.time_ns, out);
            }
            None => out.anomaly(None, anomaly::POSTGRES_SHORT),
        }
    }

    /// The start-up fails with an error in a form that no later message has.
    pub(super) fn on_startup_error(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        match self.early_error(frame) {
            Some((outcome, fields)) => self.answer.fail(outcome, fields),
            None => self.answer.fail_unread(),
        }
        self.pairing.heard(b'E');
        self.on_done(b'E', frame.time_ns, out);
    }

    /// An error in the form of either protocol.
    fn early_error(&mut self, frame: Frame<'_>) -> Option<(Outcome, Vec<Field>)> {
        if let Head::Message(..) = frame::old_error(frame.bytes) {
            let said = &frame.bytes[1..frame.bytes.len() - 1];
            return Some((Outcome::Error, report::old_failure(said)));
        }
        match parse::from_server(b'E', frame.bytes.get(HEADER_BYTES..)?, false) {
            Ok(FromServer::Error(report)) => Some(self.failure(report, false)),
            _ => None,
        }
    }
}

fn on_parameter(name: &[u8], value: &[u8], out: &mut dyn Out) {
    let field = match name {
        b"server_version" => Field::new(names::DB_SERVER_VERSION, text(value), Class::Identifier),
        b"application_name" if !value.is_empty() => {
            Field::new(names::DB_APPLICATION, text(value), Class::Identifier)
        }
        _ => return,
    };
    out.session(vec![field]);
}

fn transaction_status(status: u8) -> Option<&'static str> {
    Some(match status {
        b'I' => "idle",
        b'T' => "in_transaction",
        b'E' => "failed_transaction",
        _ => return None,
    })
}
