//! How a session is told: drafts for masking, with who talks, what was said and what became of the bytes.

use custody_record::{Kind, Times, Value, names};

use super::ends::End;
use super::{Session, Sink};
use crate::driver::exchanges::Telling;
use crate::event::{Binding, Cause, Endpoint, Process, Transport};
use crate::item::{Class, Field};
use crate::mask::Draft;

/// A draft without session.
pub(crate) fn draft(kind: Kind, first_ns: u64, last_ns: u64, fields: Vec<Field>) -> Draft {
    Draft {
        kind,
        session: None,
        exchange: None,
        times: Times { first_ns, last_ns },
        fields,
        rows: None,
        anomalies: Vec::new(),
    }
}

impl Session {
    pub(super) fn draft_open(&self) -> Draft {
        let mut fields = self.identity();
        if let Some(end) = self.subject() {
            process_fields(&end.socket.process, &mut fields);
            if end.socket.existing {
                fields.push(Field::structure(names::SESSION_EXISTING, true));
            }
        }
        self.peer_fields(&mut fields);
        self.own(draft(Kind::SessionOpen, self.first_ns, self.first_ns, fields))
    }

    pub(super) fn draft_close(&self) -> Draft {
        let mut fields = self.identity();
        self.peer_fields(&mut fields);
        let [up, down] = self.accounts();
        let both = up.plus(&down);
        let skipped = both.skipped + self.ciphertext_bytes;
        for (name, bytes) in [
            (names::BYTES_UP, up.seen),
            (names::BYTES_DOWN, down.seen),
            (names::BYTES_LOST, both.lost),
            (names::BYTES_CUT, both.cut),
            (names::BYTES_SKIPPED, skipped),
            (names::BYTES_UNPARSED, both.unparsed),
        ] {
            fields.push(Field::structure(name, bytes));
        }
        if self.protocol.is_some() && both.unknown > 0 {
            fields.push(Field::structure(names::BYTES_OPAQUE, both.unknown));
        }
        if let Some(by_client) = self.reset_by_client {
            let by = if by_client { "client" } else { "server" };
            fields.push(Field::structure(names::OUTCOME, "reset"));
            fields.push(Field::structure(names::RESET_BY, by));
        }
        let mut draft = self.own(draft(Kind::SessionClose, self.first_ns, self.last_ns, fields));
        draft.anomalies = self.anomalies.iter().map(|code| (*code).into()).collect();
        draft
    }

    pub(super) fn draft_gap(&self, cause: Cause, bytes: u64, first_ns: u64, last_ns: u64) -> Draft {
        let mut fields = vec![
            Field::structure(names::BYTES_LOST, bytes),
            Field::structure(names::GAP_CAUSE, cause_name(cause)),
        ];
        self.brief(&mut fields);
        self.own(draft(Kind::Gap, first_ns, last_ns, fields))
    }

    pub(super) fn draft_exchange(&self, telling: Telling) -> Draft {
        let mut fields = telling.fields;
        self.brief(&mut fields);
        fields.extend(self.facts.iter().cloned());
        for (name, bytes) in [(names::BYTES_UP, telling.bytes[0]), (names::BYTES_DOWN, telling.bytes[1])] {
            fields.push(Field::structure(name, bytes));
        }
        if let Some(end) = telling.end {
            fields.push(Field::structure(names::OUTCOME, end.as_str()));
        }
        if let Some(duration_ns) = telling.duration_ns {
            fields.push(Field::structure(names::DURATION, duration_ns));
        }
        let mut draft = self.own(draft(telling.kind, telling.first_ns, telling.last_ns, fields));
        draft.exchange = Some(telling.id);
        draft.rows = telling.rows;
        draft.anomalies = telling.anomalies.into_iter().map(Into::into).collect();
        draft
    }

    pub(super) fn open(&mut self, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.opened, true) {
            sink(self.draft_open());
        }
    }

    pub(super) fn tell_gaps(&mut self, begun_before_ns: u64, sink: Sink<'_>) {
        if self.gaps.is_empty() {
            return;
        }
        let mut due = Vec::new();
        self.gaps.retain(|cause, missing| {
            let is_due = missing.first_ns <= begun_before_ns;
            if is_due {
                due.push((*cause, *missing));
            }
            !is_due
        });
        for (cause, missing) in due {
            self.open(sink);
            sink(self.draft_gap(cause, missing.bytes, missing.first_ns, missing.last_ns));
        }
    }

    pub(super) fn own(&self, mut draft: Draft) -> Draft {
        draft.session = Some(self.number);
        draft
    }

    /// What each record of the session carries, so that a reader who came late can tell and filter.
    pub(super) fn brief(&self, fields: &mut Vec<Field>) {
        fields.push(Field::structure(names::PROTOCOL_NAME, self.protocol_name()));
        if let Some(end) = self.subject() {
            let process = &end.socket.process;
            if process.pid != 0 {
                fields.push(Field::structure(names::PROCESS_PID, u64::from(process.pid)));
                text(names::PROCESS_EXECUTABLE, &process.executable, fields);
                text(names::USER_NAME, &process.user_name, fields);
            }
        }
        self.addresses(fields);
    }

    fn identity(&self) -> Vec<Field> {
        let mut fields = vec![
            Field::structure(names::NETWORK_TRANSPORT, transport_name(self.transport)),
            Field::structure(names::PROTOCOL_NAME, self.protocol_name()),
        ];
        if self.protocol.is_none() || self.handed_over && self.looks_like.is_some() {
            fields.push(Field::structure(names::PROTOCOL_LOOKS_LIKE, self.looks_like()));
        }
        self.addresses(&mut fields);
        if let Some(end) = self.subject() {
            let side = match (self.ends.len(), end.client) {
                (2.., _) => "both",
                (_, true) => "client",
                (_, false) => "server",
            };
            fields.push(Field::structure(names::SIDE, side));
        }
        if self.tls {
            fields.push(Field::structure(names::TLS, "tls"));
            self.hellos.fields(&mut fields);
        }
        let plaintext_end = match self.plaintext_source {
            Some(source) => self.ends.get(source),
            // Before the first plaintext: the end that it will be read from, as far as is known.
            None => self.ends.iter().filter(|end| end.binding.is_some()).min_by_key(|end| end.client),
        };
        if let Some(binding) = plaintext_end.and_then(|end| end.binding) {
            fields.push(Field::structure(names::BINDING, binding_name(binding)));
        }
        fields.extend(self.facts.iter().cloned());
        fields
    }

    fn addresses(&self, fields: &mut Vec<Field>) {
        let Some(end) = self.subject() else { return };
        let [own, peer] = &end.addresses;
        let (own, peer) = ((end.socket.local, own), (end.socket.remote, peer));
        let (client, server) = if end.client { (own, peer) } else { (peer, own) };
        endpoint_fields(client, names::CLIENT_ADDRESS, names::CLIENT_PORT, fields);
        endpoint_fields(server, names::SERVER_ADDRESS, names::SERVER_PORT, fields);
    }

    fn peer_fields(&self, fields: &mut Vec<Field>) {
        let subject = self.subject_index();
        let Some(peer) = self.ends.iter().enumerate().find(|(index, _)| Some(*index) != subject) else {
            return;
        };
        let process = &peer.1.socket.process;
        fields.push(Field::structure(names::PEER_PID, u64::from(process.pid)));
        text(names::PEER_EXECUTABLE, &process.executable, fields);
    }

    fn subject(&self) -> Option<&End> {
        self.subject_index().and_then(|index| self.ends.get(index))
    }

    /// The end whose process the record is about: who connected, for it is asked first; else the one end that
    /// is there.
    fn subject_index(&self) -> Option<usize> {
        let connecting = self.ends.iter().position(|end| end.client);
        connecting.or((!self.ends.is_empty()).then_some(0))
    }
}

/// All that is known of a process.
pub(crate) fn process_fields(process: &Process, fields: &mut Vec<Field>) {
    if process.pid == 0 {
        return;
    }
    let number = |name: &'static str, number: u64| Field::structure(name, number);
    fields.push(number(names::PROCESS_PID, u64::from(process.pid)));
    fields.push(number(names::PROCESS_START, process.start_ns));
    fields.push(number(names::PROCESS_PARENT_PID, u64::from(process.parent_pid)));
    fields.push(number(names::USER_ID, u64::from(process.user_id)));
    text(names::PROCESS_EXECUTABLE, &process.executable, fields);
    text(names::PROCESS_CWD, &process.working_directory, fields);
    text(names::USER_NAME, &process.user_name, fields);
    text(names::LOGIN_USER, &process.login_name, fields);
    text(names::LOGIN_TTY, &process.tty, fields);
    text(names::CGROUP, &process.cgroup, fields);
    if let Some(login_uid) = process.login_uid {
        fields.push(number(names::LOGIN_UID, u64::from(login_uid)));
    }
    if let Some(audit_session) = process.audit_session {
        fields.push(number(names::LOGIN_AUDIT_SESSION, u64::from(audit_session)));
    }
    if let Some(unit) = systemd_unit(&process.cgroup) {
        text(names::SERVICE_NAME, unit, fields);
    }
    if let Some(container) = container_id(&process.cgroup) {
        text(names::CONTAINER_ID, container, fields);
    }
    if !process.arguments.is_empty() {
        let arguments = process.arguments.iter().map(|argument| Some(Value::Bytes(argument.clone())));
        fields.push(Field::new(names::PROCESS_ARGS, Value::List(arguments.collect()), Class::Arguments));
    }
    if process.arguments_cut > 0 {
        fields.push(number(names::BYTES_CUT, process.arguments_cut));
    }
}

fn text(name: &'static str, value: &str, fields: &mut Vec<Field>) {
    if !value.is_empty() {
        fields.push(Field::new(name, value, Class::Identifier));
    }
}

fn endpoint_fields(
    (endpoint, shown): (Option<Endpoint>, &Option<String>),
    address: &'static str,
    port: &'static str,
    fields: &mut Vec<Field>,
) {
    if let (Some(endpoint), Some(shown)) = (endpoint, shown) {
        fields.push(Field::structure(address, shown.as_str()));
        fields.push(Field::structure(port, u64::from(endpoint.port)));
    }
}

/// The innermost systemd unit of a control group's path.
fn systemd_unit(cgroup: &str) -> Option<&str> {
    cgroup.rsplit('/').find(|segment| segment.ends_with(".service") || segment.ends_with(".scope"))
}

/// The container's id, as runtimes put it in the path: 64 hexadecimal digits.
fn container_id(cgroup: &str) -> Option<&str> {
    cgroup
        .rsplit(['/', '-', ':', '.'])
        .find(|part| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// As it stands in records.
pub(crate) fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::RingFull => "ring_full",
        Cause::PageFault => "page_fault",
        Cause::NoPayload => "no_payload",
        Cause::TableFull => "table_full",
        Cause::Unseen => "unseen",
        Cause::Limit => "limit",
        Cause::Ciphertext => "ciphertext",
        Cause::Rule => "rule",
    }
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Unix => "unix",
        Transport::UnixDatagram => "unix_datagram",
    }
}

fn binding_name(binding: Binding) -> &'static str {
    match binding {
        Binding::Fd => "fd",
        Binding::Bio => "bio",
        Binding::Nested => "nested",
        Binding::Ciphertext => "ciphertext",
        Binding::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_and_container_are_read_off_the_control_group() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(systemd_unit("/system.slice/nginx.service"), Some("nginx.service"));
        assert_eq!(systemd_unit("/user.slice/user-0.slice/session-9.scope"), Some("session-9.scope"));
        assert_eq!(systemd_unit("/"), None);
        assert_eq!(container_id(&format!("/system.slice/docker-{id}.scope")), Some(id));
        assert_eq!(container_id(&format!("/kubepods/besteffort/pod1/{id}")), Some(id));
        assert_eq!(container_id("/system.slice/nginx.service"), None);
    }
}
