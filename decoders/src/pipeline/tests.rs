//! Sessions from events: who is read, what is told, and when.

use std::net::{IpAddr, Ipv4Addr};

use custody_record::Value;

use super::*;
use crate::event::{Binding, Endpoint, Role, Transport};

const REQUEST: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
pub(crate) const MS: u64 = 1_000_000;

pub(crate) struct Host {
    pipeline: Pipeline,
    pub(crate) records: Vec<Record>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Host { pipeline: Pipeline::new(PipelineOptions::default()), records: Vec::new() }
    }

    pub(crate) fn feed(&mut self, event: Event<'_>) {
        let records = &mut self.records;
        self.pipeline.feed(event, &mut |masked| records.push(masked.get().clone()));
    }

    pub(crate) fn socket(&mut self, id: u64, role: Role, local: (u8, u16), remote: (u8, u16)) {
        self.feed(Event::Open(Socket { role, ..socket(id, local, remote) }));
    }

    pub(crate) fn chunk(
        &mut self,
        id: u64,
        flow: Flow,
        layer: Layer,
        position: u64,
        time_ms: u64,
        bytes: &[u8],
    ) {
        let socket = SocketId(id);
        self.feed(Event::Chunk(Chunk { socket, flow, layer, position, time_ns: time_ms * MS, bytes }));
    }

    pub(crate) fn close(&mut self, id: u64, time_ms: u64) {
        self.feed(Event::Close(SocketId(id), [None, None], time_ms * MS));
    }

    pub(crate) fn tick(&mut self, time_ms: u64) {
        self.feed(Event::Tick(time_ms * MS));
    }

    fn kinds(&self) -> Vec<Kind> {
        self.records.iter().map(|record| record.kind).collect()
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<&Record> {
        self.records.iter().filter(|record| record.kind == kind).collect()
    }
}

fn socket(id: u64, local: (u8, u16), remote: (u8, u16)) -> Socket {
    let endpoint = |(last, port): (u8, u16)| {
        let address = if last == 1 { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 0, 0, last) };
        Some(Endpoint { address: IpAddr::V4(address), port })
    };
    Socket {
        id: SocketId(id),
        time_ns: MS,
        transport: Transport::Tcp,
        role: Role::Unknown,
        local: endpoint(local),
        remote: endpoint(remote),
        peer: None,
        netns: 1,
        whole: false,
        existing: false,
        positions: [Some(0); 2],
        process: Arc::new(Process { pid: id as u32, ..Process::default() }),
    }
}

pub(crate) fn number(record: &Record, name: &str) -> Option<u64> {
    match record.fields.get(name) {
        Some(Value::Unsigned(number)) => Some(*number),
        _ => None,
    }
}

pub(crate) fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    match record.fields.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

#[test]
fn one_exchange_of_a_remote_client() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 12, ANSWER);
    assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange]);
    let exchange = &host.records[1];
    assert_eq!(number(exchange, names::HTTP_STATUS), Some(200));
    assert_eq!(text(exchange, names::HTTP_METHOD), Some("GET"));
    assert_eq!(number(exchange, names::DURATION), Some(2 * MS));
    assert_eq!(number(exchange, names::BYTES_UP), Some(REQUEST.len() as u64));
    assert_eq!(number(exchange, names::BYTES_DOWN), Some(ANSWER.len() as u64));
    assert_eq!(text(exchange, names::OUTCOME), Some("ok"));
    host.close(1, 20);
    host.tick(21);
    assert_eq!(host.kinds()[2..], [Kind::SessionClose]);
    assert_eq!(number(&host.records[2], names::BYTES_DOWN), Some(ANSWER.len() as u64));
    assert_eq!((host.pipeline.sessions_open(), host.pipeline.held_bytes()), (0, 0));
}

#[test]
fn both_ends_on_one_host_are_one_session_told_once() {
    for server_first in [false, true] {
        let mut host = Host::new();
        host.socket(1, Role::Client, (1, 4000), (1, 80));
        host.chunk(1, Flow::Egress, Layer::Wire, 0, 10, REQUEST);
        host.socket(2, Role::Server, (1, 80), (1, 4000));
        host.chunk(2, Flow::Ingress, Layer::Wire, 0, 11, REQUEST);
        let mut answers = [(2, Flow::Egress, 12), (1, Flow::Ingress, 13)];
        if server_first {
            answers.reverse();
        }
        for (id, flow, time_ms) in answers {
            host.chunk(id, flow, Layer::Wire, 0, time_ms, ANSWER);
        }
        host.tick(400);
        host.close(1, 410);
        host.close(2, 410);
        host.tick(500);
        assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange, Kind::SessionClose]);
        let close = &host.records[2];
        assert_eq!(text(close, names::SIDE), Some("both"));
        assert_eq!(number(close, names::PEER_PID), Some(2));
        assert_eq!(number(close, names::BYTES_UP), Some(REQUEST.len() as u64));
    }
}

/// A connection whose server sends its head, and its body without a program that reads it.
fn host_whose_server_uses_sendfile() -> Host {
    let mut host = Host::new();
    host.socket(1, Role::Client, (1, 4000), (1, 80));
    host.socket(2, Role::Server, (1, 80), (1, 4000));
    host.chunk(2, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.feed(Event::Hole(Hole {
        socket: SocketId(2),
        flow: Flow::Egress,
        layer: Layer::Wire,
        position: ANSWER.len() as u64 - 2,
        length: 2,
        cause: Cause::NoPayload,
        time_ns: 12 * MS,
    }));
    host.chunk(2, Flow::Egress, Layer::Wire, 0, 12, &ANSWER[..ANSWER.len() - 2]);
    host
}

#[test]
fn what_a_server_sent_without_reading_it_is_taken_from_the_client_that_read_it() {
    for server_closes_first in [false, true] {
        let mut host = host_whose_server_uses_sendfile();
        if server_closes_first {
            host.close(2, 13);
            host.tick(14);
        }
        host.chunk(1, Flow::Ingress, Layer::Wire, 0, 20, ANSWER);
        host.tick(30);
        host.close(1, 31);
        host.close(2, 31);
        host.tick(40);
        assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange, Kind::SessionClose]);
        let exchange = &host.records[1];
        assert_eq!(number(exchange, names::HTTP_STATUS), Some(200));
        assert_eq!(number(exchange, names::DURATION), Some(2 * MS), "it was sent when the server sent it");
        for record in &host.records[1..] {
            assert_eq!(number(record, names::BYTES_DOWN), Some(ANSWER.len() as u64));
            assert_eq!(number(record, names::BYTES_LOST).unwrap_or(0), 0);
        }
    }
}

#[test]
fn what_nobody_read_stays_a_gap_after_a_bounded_wait() {
    let mut host = host_whose_server_uses_sendfile();
    host.tick(100);
    assert!(host.of_kind(Kind::Gap).is_empty());
    host.tick(113);
    host.close(1, 114);
    host.close(2, 114);
    host.tick(115);
    let gaps = host.of_kind(Kind::Gap);
    assert_eq!(gaps.len(), 1);
    assert_eq!(number(gaps[0], names::BYTES_LOST), Some(2));
    assert_eq!(number(host.records.last().unwrap(), names::BYTES_LOST), Some(2));
}

#[test]
fn a_connection_that_is_older_than_the_agent_is_not_filled() {
    let mut host = Host::new();
    for (id, role, local, remote) in
        [(1, Role::Client, (1, 4000), (1, 80)), (2, Role::Server, (1, 80), (1, 4000))]
    {
        host.feed(Event::Open(Socket { role, existing: true, ..socket(id, local, remote) }));
    }
    host.chunk(2, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.feed(Event::Hole(Hole {
        socket: SocketId(2),
        flow: Flow::Egress,
        layer: Layer::Wire,
        position: 0,
        length: ANSWER.len() as u64,
        cause: Cause::NoPayload,
        time_ns: 12 * MS,
    }));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 13, ANSWER);
    host.close(1, 14);
    host.close(2, 14);
    host.tick(15);
    assert_eq!(number(host.records.last().unwrap(), names::BYTES_LOST), Some(ANSWER.len() as u64));
}

#[test]
fn mapped_addresses_join_and_other_namespaces_do_not() {
    let mut host = Host::new();
    host.socket(1, Role::Client, (1, 4000), (1, 80));
    let mapped = |endpoint: Option<Endpoint>| {
        endpoint.map(|endpoint| match endpoint.address {
            IpAddr::V4(address) => Endpoint { address: address.to_ipv6_mapped().into(), ..endpoint },
            IpAddr::V6(_) => endpoint,
        })
    };
    let server = socket(2, (1, 80), (1, 4000));
    let server = Socket { local: mapped(server.local), remote: mapped(server.remote), ..server };
    host.feed(Event::Open(Socket { role: Role::Server, ..server }));
    assert_eq!(host.pipeline.sessions_open(), 1);
    let elsewhere = Socket { netns: 2, ..socket(3, (1, 80), (1, 4000)) };
    host.feed(Event::Open(elsewhere));
    assert_eq!(host.pipeline.sessions_open(), 2);
}

#[test]
fn a_request_without_answer_is_told_before_it() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.tick(209);
    assert!(host.of_kind(Kind::ExchangeOpen).is_empty());
    host.tick(211);
    assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::ExchangeOpen]);
    assert_eq!(text(&host.records[1], names::HTTP_METHOD), Some("GET"));
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 900, ANSWER);
    assert_eq!(host.kinds()[2..], [Kind::ExchangeClose]);
    assert_eq!(host.records[1].exchange, host.records[2].exchange);
    assert_eq!(number(&host.records[2], names::DURATION), Some(890 * MS));
}

#[test]
fn a_connection_that_ends_under_a_request_says_no_response() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.close(1, 20);
    host.tick(21);
    let exchange = host.of_kind(Kind::Exchange);
    assert_eq!(text(exchange[0], names::OUTCOME), Some("no_response"));
}

#[test]
fn plaintext_is_read_and_its_ciphertext_only_counted() {
    let mut host = Host::new();
    host.socket(1, Role::Client, (2, 4000), (3, 443));
    let hello = b"\x16\x03\x01\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 10, hello);
    host.feed(Event::Bound { socket: SocketId(1), binding: Binding::Fd, existing: false, time_ns: 11 * MS });
    host.chunk(1, Flow::Egress, Layer::Plaintext, 0, 12, REQUEST);
    host.chunk(1, Flow::Ingress, Layer::Plaintext, 0, 13, ANSWER);
    let hole = Hole {
        socket: SocketId(1),
        flow: Flow::Ingress,
        layer: Layer::Wire,
        position: 0,
        length: 1000,
        cause: Cause::Ciphertext,
        time_ns: 13 * MS,
    };
    host.feed(Event::Hole(hole));
    host.close(1, 20);
    host.tick(21);
    assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange, Kind::SessionClose]);
    assert_eq!(text(&host.records[0], names::BINDING), Some("fd"));
    let close = &host.records[2];
    assert_eq!(number(close, names::BYTES_SKIPPED), Some(1000 + hello.len() as u64));
    assert_eq!(number(close, names::BYTES_UP), Some(REQUEST.len() as u64));
}

#[test]
fn a_session_that_is_told_before_its_first_plaintext_says_how_it_is_bound() {
    let mut host = Host::new();
    host.socket(1, Role::Client, (2, 4000), (3, 443));
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 10, b"\x16\x03\x01\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    host.feed(Event::Bound {
        socket: SocketId(1),
        binding: Binding::Ciphertext,
        existing: false,
        time_ns: 11 * MS,
    });
    host.tick(2000);
    assert_eq!(host.kinds(), [Kind::SessionOpen]);
    assert_eq!(text(&host.records[0], names::BINDING), Some("ciphertext"));
}

#[test]
fn of_two_plaintexts_the_accepting_one_is_read() {
    for with_server in [true, false] {
        let mut host = Host::new();
        host.socket(1, Role::Client, (1, 4000), (1, 443));
        host.socket(2, Role::Server, (1, 443), (1, 4000));
        // Never so in life: the two ends differ, so that it shows which one was read.
        let as_the_server_read = b"GET /server HTTP/1.1\r\nHost: x\r\n\r\n";
        host.chunk(1, Flow::Egress, Layer::Plaintext, 0, 12, REQUEST);
        if with_server {
            host.chunk(2, Flow::Ingress, Layer::Plaintext, 0, 13, as_the_server_read);
            host.chunk(2, Flow::Egress, Layer::Plaintext, 0, 14, ANSWER);
        }
        host.chunk(1, Flow::Ingress, Layer::Plaintext, 0, 15, ANSWER);
        host.tick(400);
        assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange]);
        let path = if with_server { "/server" } else { "/a" };
        assert_eq!(text(&host.records[1], names::URL_PATH), Some(path));
        assert_eq!(number(&host.records[1], names::PROCESS_PID), Some(1), "who connected is asked first");
    }
}

#[test]
fn an_unknown_role_is_settled_by_the_first_bytes() {
    let mut host = Host::new();
    host.socket(1, Role::Unknown, (2, 4000), (3, 30000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 12, ANSWER);
    let exchange = host.of_kind(Kind::Exchange);
    assert_eq!(number(exchange[0], names::SERVER_PORT), Some(4000));
    assert_eq!(number(exchange[0], names::BYTES_UP), Some(REQUEST.len() as u64));
}

#[test]
fn an_unknown_protocol_is_counted_and_classified() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 22), (3, 4000));
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 10, b"SSH-2.0-OpenSSH_9.2\r\n");
    host.tick(900);
    assert!(host.records.is_empty());
    host.tick(1100);
    assert_eq!(host.kinds(), [Kind::SessionOpen]);
    host.close(1, 2000);
    host.tick(2001);
    let close = &host.records[1];
    assert_eq!(text(close, names::PROTOCOL_LOOKS_LIKE), Some("ssh"));
    assert_eq!(number(close, names::BYTES_DOWN), Some(21));
}

#[test]
fn a_lost_range_is_a_gap_with_its_cause_and_decoding_goes_on() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 11, ANSWER);
    host.chunk(1, Flow::Ingress, Layer::Wire, 500, 12, REQUEST);
    host.tick(130);
    host.chunk(1, Flow::Egress, Layer::Wire, ANSWER.len() as u64, 140, ANSWER);
    host.tick(2000);
    assert_eq!(host.of_kind(Kind::Exchange).len(), 2);
    let gap = host.of_kind(Kind::Gap);
    assert_eq!(number(gap[0], names::BYTES_LOST), Some(500 - REQUEST.len() as u64));
    assert_eq!(text(gap[0], names::GAP_CAUSE), Some("unseen"));
}

#[test]
fn bytes_that_overtake_their_socket_wait_for_it() {
    let mut host = Host::new();
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, REQUEST);
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 12, ANSWER);
    assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::Exchange]);
    host.chunk(9, Flow::Ingress, Layer::Wire, 0, 13, REQUEST);
    host.tick(500);
    assert_eq!(number(host.of_kind(Kind::Gap)[0], names::BYTES_LOST), Some(REQUEST.len() as u64));
}

#[test]
fn memory_of_all_sessions_is_bounded() {
    let mut host = Host::new();
    host.pipeline.options.held_bytes_max = 1 << 20;
    for id in 1..200 {
        host.socket(id, Role::Server, (2, 80), (3, 4000 + id as u16));
        host.chunk(id, Flow::Ingress, Layer::Wire, 0, 10, b"POST / HTTP/1.1\r\n");
        for part in 0..100u64 {
            host.chunk(id, Flow::Ingress, Layer::Wire, 17 + part * 1000, 10, &[b'x'; 1000]);
            assert!(host.pipeline.held_bytes() < 2 << 20);
        }
    }
    assert!(host.pipeline.counters().sheds > 0);
}

#[test]
fn an_idle_connection_is_silent_until_it_ends() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    for seconds in 1..100 {
        host.tick(seconds * 1000);
    }
    assert!(host.records.is_empty());
    host.close(1, 200_000);
    host.tick(200_001);
    assert_eq!(host.kinds(), [Kind::SessionOpen, Kind::SessionClose]);
}

#[test]
fn what_is_shed_is_cut_and_what_follows_is_read_anew() {
    let mut host = Host::new();
    host.pipeline = Pipeline::new(PipelineOptions { held_bytes_max: 3000, ..PipelineOptions::default() });
    host.socket(1, Role::Server, (2, 80), (3, 4000));
    let endless = [b"GET /endless HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 4000]].concat();
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, &endless);
    assert!(host.pipeline.held_bytes() < 3000, "{} bytes held", host.pipeline.held_bytes());
    assert_eq!(host.pipeline.counters().sheds, 1);
    host.chunk(1, Flow::Ingress, Layer::Wire, endless.len() as u64, 11, b"\r\n\r\n");
    host.chunk(1, Flow::Ingress, Layer::Wire, endless.len() as u64 + 4, 12, REQUEST);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 13, ANSWER);
    host.close(1, 20);
    host.tick(21);
    let told: Vec<_> = host.records.iter().filter_map(|record| text(record, names::URL_PATH)).collect();
    assert!(told.contains(&"/a"), "{told:?}");
    let close = host.of_kind(Kind::SessionClose)[0];
    assert_eq!(number(close, names::BYTES_CUT), Some(endless.len() as u64));
    assert!(close.anomalies.iter().any(|code| *code == "memory_shed"), "{:?}", close.anomalies);
}

#[test]
fn what_moves_on_sockets_without_room_is_one_gap_a_second_with_its_bytes() {
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let mut told = Vec::new();
    for call in 0..100 {
        pipeline.feed(Event::NoRoom(10, 1_000 + call), &mut |record| told.push(record.into_inner()));
    }
    pipeline.feed(Event::Tick(500_000_000), &mut |record| told.push(record.into_inner()));
    assert!(told.is_empty());
    pipeline.feed(Event::Tick(2_000_000_000), &mut |record| told.push(record.into_inner()));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].fields[names::GAP_CAUSE], Value::from("table_full"));
    assert_eq!(told[0].fields[names::GAP_EVENTS], Value::from(100u64));
    assert_eq!(told[0].fields[names::BYTES_LOST], Value::from(1000u64));
    assert_eq!((told[0].times.first_ns, told[0].times.last_ns), (1_000, 1_099));
}

const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x00\x02\x13\x01\x01\x00";
const SERVER_HELLO: &[u8] =
    b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\x00\x13\x01\x00";

/// A server whose handshake was seen.
fn tls_server() -> Host {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 443), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, CLIENT_HELLO);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 11, SERVER_HELLO);
    host
}

fn unread_gaps(host: &Host) -> Vec<u64> {
    let gaps = host.of_kind(Kind::Gap);
    let unread = gaps.iter().filter(|gap| text(gap, names::GAP_CAUSE) == Some("tls_not_read"));
    unread.filter_map(|gap| number(gap, names::BYTES_SKIPPED)).collect()
}

const HELLOS: u64 = (CLIENT_HELLO.len() + SERVER_HELLO.len()) as u64;

#[test]
fn tls_that_nobody_reads_is_a_gap_and_reported_for_its_program() {
    let mut host = tls_server();
    host.chunk(1, Flow::Ingress, Layer::Wire, CLIENT_HELLO.len() as u64, 12, &[23; 500]);
    host.close(1, 20);
    host.tick(21);
    assert_eq!(unread_gaps(&host), [HELLOS + 500]);
    let close = host.of_kind(Kind::SessionClose);
    assert_eq!(text(close[0], names::TLS_VERSION), Some("1.2"));
    let unread = host.pipeline.take_unread();
    let told: Vec<_> = unread.iter().map(|one| (one.process.pid, one.connections, one.bytes)).collect();
    assert_eq!(told, [(1, 1, HELLOS + 500)]);
    assert!(host.pipeline.take_unread().is_empty(), "told twice");
}

#[test]
fn a_handshake_of_a_library_that_is_read_or_that_nobody_took_up_is_no_gap() {
    let mut read = tls_server();
    read.feed(Event::Bound {
        socket: SocketId(1),
        binding: Binding::Nested,
        existing: false,
        time_ns: 12 * MS,
    });
    read.close(1, 20);
    read.tick(21);
    assert!(unread_gaps(&read).is_empty());
    let mut refused = Host::new();
    refused.socket(1, Role::Server, (2, 443), (3, 4000));
    refused.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, CLIENT_HELLO);
    refused.close(1, 20);
    refused.tick(21);
    assert!(unread_gaps(&refused).is_empty());
}

#[test]
fn what_came_before_a_library_was_looked_at_is_a_gap_and_the_rest_is_read() {
    for existing in [true, false] {
        let mut host = tls_server();
        host.chunk(1, Flow::Ingress, Layer::Wire, CLIENT_HELLO.len() as u64, 12, &[23; 500]);
        host.feed(Event::Bound { socket: SocketId(1), binding: Binding::Nested, existing, time_ns: 13 * MS });
        // In the middle of an exchange when the beginning was missed.
        let first: &[u8] = if existing { b"rest of a body" } else { REQUEST };
        host.chunk(1, Flow::Ingress, Layer::Plaintext, 0, 14, first);
        host.chunk(1, Flow::Ingress, Layer::Plaintext, first.len() as u64, 15, REQUEST);
        host.chunk(1, Flow::Egress, Layer::Plaintext, 0, 16, ANSWER);
        host.close(1, 20);
        host.tick(21);
        assert_eq!(unread_gaps(&host), if existing { vec![HELLOS + 500] } else { vec![] });
        let exchanges = host.of_kind(Kind::Exchange);
        assert!(
            exchanges.iter().any(|one| number(one, names::HTTP_STATUS) == Some(200)),
            "existing: {existing}"
        );
    }
}

#[test]
fn a_long_connection_that_is_not_read_is_told_before_it_ends_but_not_an_idle_one() {
    let mut host = tls_server();
    host.tick(61_000);
    assert!(unread_gaps(&host).is_empty(), "an idle connection may still be read");
    host.chunk(1, Flow::Ingress, Layer::Wire, CLIENT_HELLO.len() as u64, 62_000, &[23; 70_000]);
    host.tick(130_000);
    assert_eq!(unread_gaps(&host), [HELLOS + 70_000]);
    assert_eq!(host.pipeline.take_unread()[0].connections, 1);
    host.chunk(1, Flow::Egress, Layer::Wire, SERVER_HELLO.len() as u64, 131_000, &[23; 9]);
    host.close(1, 131_001);
    host.tick(131_002);
    assert_eq!(unread_gaps(&host), [HELLOS + 70_000, 9]);
    let rest = host.pipeline.take_unread();
    assert_eq!((rest[0].connections, rest[0].bytes), (0, 9), "the connection was counted twice");
}

/// What is told of a connection that leaves HTTP by this answer, and goes on so.
fn left_http(wish: &str, answer: &str, up: &[u8], down: &[u8]) -> Vec<Record> {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 3128), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, wish.as_bytes());
    // The first bytes of the server may come with its answer.
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 12, answer.as_bytes());
    host.chunk(1, Flow::Ingress, Layer::Wire, wish.len() as u64, 14, up);
    host.chunk(1, Flow::Egress, Layer::Wire, answer.len() as u64, 16, down);
    host.close(1, 20);
    host.tick(2000);
    assert_eq!((host.pipeline.sessions_open(), host.pipeline.held_bytes()), (0, 0));
    host.records
}

const CONNECT: &str = "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection Established\r\n\r\n";

#[test]
fn what_a_tunnel_carries_is_read_where_its_first_bytes_tell_what_it_is() {
    let start = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0".as_slice();
    let started = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".as_slice();
    let cases: [(&[u8], &[u8], &str, &str); 3] = [
        (REQUEST, ANSWER, "http", names::HTTP_METHOD),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", "redis", names::DB_OPERATION),
        (start, started, "postgresql", names::DB_MESSAGE),
    ];
    for (up, down, protocol, field) in cases {
        let records = left_http(CONNECT, ESTABLISHED, up, down);
        let exchanges: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Exchange).collect();
        assert_eq!(exchanges.len(), 2, "{protocol}");
        assert_eq!(text(exchanges[0], names::HTTP_METHOD), Some("CONNECT"));
        assert_eq!(exchanges[1].exchange, Some(2), "{protocol}: numbered on");
        assert_eq!(text(exchanges[1], names::PROTOCOL_NAME), Some(protocol));
        assert!(text(exchanges[1], field).is_some(), "{protocol}");
        let close = &records[records.len() - 1];
        assert_eq!(text(close, names::PROTOCOL_UPGRADED), Some("tunnel"));
        assert_eq!(number(close, names::BYTES_OPAQUE), None, "{protocol}: all of it is read");
        assert_eq!(number(close, names::BYTES_UP), Some((CONNECT.len() + up.len()) as u64));
    }
}

#[test]
fn what_follows_http_and_is_not_read_is_named_and_counted() {
    let wish = |protocol: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    };
    let switch = |protocol: &str| {
        format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    };
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".as_slice();
    for (wish, answer, up, down, name, looks_like) in [
        // A request in a frame of WebSocket is no request.
        (wish("WebSocket"), switch("WebSocket"), REQUEST, b"\x81\x02hi".as_slice(), "websocket", None),
        (
            wish("h2c"),
            switch("h2c"),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\x04\0\0\0\0\0",
            "h2c",
            Some("http2"),
        ),
        (CONNECT.to_owned(), ESTABLISHED.to_owned(), b"\x01\x02\x03", b"\x04\xff", "tunnel", Some("binary")),
    ] {
        let records = left_http(&wish, &answer, up, down);
        let close = &records[records.len() - 1];
        assert_eq!(records.iter().filter(|record| record.kind == Kind::Exchange).count(), 1, "{name}");
        assert_eq!(text(close, names::PROTOCOL_UPGRADED), Some(name));
        assert_eq!(text(close, names::PROTOCOL_LOOKS_LIKE), looks_like, "{name}");
        assert_eq!(number(close, names::BYTES_OPAQUE), Some((up.len() + down.len()) as u64), "{name}");
    }
    let tls = left_http(CONNECT, ESTABLISHED, hello, hello);
    assert_eq!(text(&tls[tls.len() - 1], names::TLS), Some("tls"));
    let unread = tls.iter().find(|record| record.kind == Kind::Gap).expect("a gap of what is not read");
    assert_eq!(text(unread, names::GAP_CAUSE), Some("tls_not_read"));
}

#[test]
fn an_answer_that_switches_unasked_leaves_http_as_it_is() {
    let answer = "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n";
    let records = left_http("GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer, REQUEST, ANSWER);
    let statuses: Vec<_> = records.iter().filter_map(|record| number(record, names::HTTP_STATUS)).collect();
    assert_eq!(statuses, [101, 200]);
}
