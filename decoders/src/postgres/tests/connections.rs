//! What several connections, or the layers of one, say together.

use custody_record::{Kind, Record, names};

use crate::event::{Binding, Event, Flow, Layer, Role, SocketId};
use crate::pipeline::tests::{Host, MS, number, text};

/// The start of a PostgreSQL session, as the client and the server say it. Its key is `secret`.
const PG_START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
const PG_WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0e\0\0\0\x07secretZ\0\0\0\x05I";
const PG_CANCEL: &[u8] = b"\0\0\0\x12\x04\xd2\x16\x2e\0\0\0\x07secret";
const PG_CANCELLED: &[u8] =
    b"E\0\0\0\x3cSERROR\0C57014\0Mcanceling statement due to user request\0\0Z\0\0\0\x05I";

#[test]
fn a_cancel_request_and_its_victim_name_each_other_and_never_the_key() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 5432), (3, 4000));
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, PG_START);
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 12, PG_WELCOME);
    let query = b"Q\0\0\0\x0dselect 1\0";
    host.chunk(1, Flow::Ingress, Layer::Wire, PG_START.len() as u64, 20, query);
    host.socket(2, Role::Server, (2, 5432), (3, 5000));
    host.chunk(2, Flow::Ingress, Layer::Wire, 0, 30, PG_CANCEL);
    host.chunk(1, Flow::Egress, Layer::Wire, PG_WELCOME.len() as u64, 40, PG_CANCELLED);
    // One that names nobody.
    host.socket(3, Role::Server, (2, 5432), (3, 5001));
    let mut other = PG_CANCEL.to_vec();
    other[17] = b'x';
    host.chunk(3, Flow::Ingress, Layer::Wire, 0, 50, &other);
    for id in 1..=3 {
        host.close(id, 60);
    }
    host.tick(61);
    let exchanges = host.of_kind(Kind::Exchange);
    let of = |message: &str| {
        exchanges.iter().filter(|record| text(record, names::DB_MESSAGE) == Some(message)).collect::<Vec<_>>()
    };
    let (cancels, victim) = (of("CancelRequest"), of("Query")[0]);
    let session = |record: &Record| record.session;
    assert_eq!(number(cancels[0], names::DB_CANCELS_SESSION), session(victim));
    assert_eq!(number(victim, names::DB_CANCELLED_BY_SESSION), session(cancels[0]));
    assert_eq!(number(cancels[1], names::DB_CANCELS_SESSION), None);
    assert!(!format!("{:?}", host.records).contains("secret"));
}

#[test]
fn tls_from_the_first_byte_carries_a_session_that_never_asked_for_it() {
    let mut host = Host::new();
    host.socket(1, Role::Server, (2, 5432), (3, 4000));
    host.feed(Event::Bound { socket: SocketId(1), binding: Binding::Fd, existing: false, time_ns: 9 * MS });
    host.chunk(1, Flow::Ingress, Layer::Wire, 0, 10, b"\x16\x03\x01\0\x02\x01\0");
    host.chunk(1, Flow::Egress, Layer::Wire, 0, 11, b"\x16\x03\x03\0\x02\x02\0");
    host.chunk(1, Flow::Ingress, Layer::Plaintext, 0, 12, PG_START);
    host.chunk(1, Flow::Egress, Layer::Plaintext, 0, 13, PG_WELCOME);
    host.close(1, 20);
    host.tick(21);
    let exchange = host.of_kind(Kind::Exchange)[0];
    assert_eq!(text(exchange, names::DB_MESSAGE), Some("StartupMessage"));
    let close = host.of_kind(Kind::SessionClose)[0];
    assert_eq!(text(close, names::PROTOCOL_NAME), Some("postgresql"));
    assert_eq!(number(close, names::BYTES_SKIPPED), Some(14));
    assert!(close.anomalies.is_empty(), "{:?}", close.anomalies);
}
