//! Sockets that look like TCP and are not: recognised, never read as what they are not.

use crate::calls::{inode, tcp};
use crate::features::{Feature, offered};
use crate::observe::Observer;
use crate::raw::set_option;
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::transport;
use custody_agent::probes::Backend;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];

fn mptcp() -> Option<OwnedFd> {
    let protocol = rustix::net::Protocol::from_raw(core::num::NonZeroU32::new(262).unwrap());
    match rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(protocol)) {
        Ok(socket) => Some(socket),
        Err(refusal) => {
            assert!(!offered(Feature::Mptcp, Err::<(), _>(refusal)));
            None
        }
    }
}

/// An MPTCP listener on the loopback, and its address.
fn mptcp_listener() -> Option<(OwnedFd, SocketAddr)> {
    let listener = mptcp()?;
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&listener, 4).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
    Some((listener, address))
}

fn talk(client: &impl AsFd, server: &impl AsFd) {
    let mut buffer = [0; 20];
    assert_eq!(send(client, b"a question", SendFlags::empty()).unwrap(), 10);
    assert_eq!(recv(server, &mut buffer, RecvFlags::empty()).unwrap().1, 10);
    assert_eq!(send(server, b"an answer", SendFlags::empty()).unwrap(), 9);
    assert_eq!(recv(client, &mut buffer, RecvFlags::empty()).unwrap().1, 9);
}

#[test]
fn a_connection_over_mptcp_is_called_so_and_counted() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let Some((listener, address)) = mptcp_listener() else { return };
        let client = mptcp().unwrap();
        rustix::net::connect(&client, &address).unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        talk(&client, &server);
        let (c, s) = (inode(&client), inode(&server));
        let told = observer.until("the answer", |told| told.accounted(c, INGRESS) >= 9);
        for (end, sent, received) in [(c, 10, 9), (s, 9, 10)] {
            let open = told.open(end).unwrap();
            assert_eq!(open.transport, transport::MPTCP, "{backend:?}");
            assert_eq!((told.accounted(end, EGRESS), told.accounted(end, INGRESS)), (sent, received));
            assert!(told.chunks.iter().all(|chunk| chunk.data.position == 0));
        }
        // Nothing but the two: what carries them below is not told as a TCP connection beside them.
        assert_eq!(told.opens.len(), 2, "{:?}", told.opens);
    }
}

#[test]
fn an_mptcp_socket_that_is_gone_leaves_the_table() {
    let mut observer = Observer::start(Backend::Sockets);
    let Some((listener, address)) = mptcp_listener() else { return };
    let client = mptcp().unwrap();
    rustix::net::connect(&client, &address).unwrap();
    let server = rustix::net::accept(&listener).unwrap();
    talk(&client, &server);
    drop(client);
    assert_eq!(recv(&server, &mut [0; 10], RecvFlags::empty()).unwrap().1, 0);
    drop((server, listener));
    let told = observer.until("both ends", |told| told.closes.len() >= 2);
    let mut ends: Vec<_> =
        told.closes.iter().map(|close| (close.ingress_position, close.egress_position)).collect();
    ends.sort_unstable();
    assert_eq!(ends, [(9, 10), (10, 9)]);
}

#[test]
fn a_plain_client_of_an_mptcp_server_is_a_tcp_connection_with_all_its_bytes() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let Some((listener, address)) = mptcp_listener() else { return };
        // As most clients of a server in Go are.
        let client = TcpStream::connect(address).unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        talk(&client, &server);
        let (c, s) = (inode(&client), inode(&server));
        let told = observer.until("the answer", |told| told.accounted(c, INGRESS) >= 9);
        assert_eq!(told.stream(c, EGRESS, 0), b"a question", "{backend:?}");
        assert_eq!(told.stream(s, INGRESS, 0), b"a question");
        assert_eq!(told.stream(s, EGRESS, 0), b"an answer");
        assert_eq!(told.stream(c, INGRESS, 0), b"an answer");
        assert_eq!(told.open(c).unwrap().transport, transport::TCP);
        assert_eq!(told.open(s).unwrap().transport, transport::TCP, "the kernel went back to plain TCP");
        assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    }
}

#[test]
fn an_mptcp_client_of_a_plain_server_tells_what_it_moved() {
    let mut observer = Observer::start(Backend::Sockets);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(client) = mptcp() else { return };
    rustix::net::connect(&client, &listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    talk(&client, &server);
    let (c, s) = (inode(&client), inode(&server));
    let told = observer.until("the answer", |told| told.accounted(c, INGRESS) >= 9);
    assert_eq!((told.accounted(c, EGRESS), told.accounted(c, INGRESS)), (10, 9));
    assert_eq!(told.open(c).unwrap().transport, transport::MPTCP);
    assert_eq!(told.stream(s, INGRESS, 0), b"a question");
    assert_eq!(told.stream(s, EGRESS, 0), b"an answer");
}

#[test]
fn kernel_tls_is_counted_and_its_records_are_not_taken_for_what_the_program_wrote() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (client, server) = tcp("127.0.0.1:0");
        send(&client, b"clear", SendFlags::empty()).unwrap();
        recv(&server, &mut [0; 5], RecvFlags::empty()).unwrap();
        for end in [&client, &server] {
            if !offered(Feature::KernelTls, set_option(end, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")) {
                return;
            }
        }
        // TLS 1.2 with AES-GCM-128: version, cipher, iv, key, salt, first sequence.
        let mut keys = [0_u8; 40];
        keys[..4].copy_from_slice(&[0x03, 0x03, 51, 0]);
        // SOL_TLS; TLS_TX and TLS_RX.
        set_option(&client, 282, 1, &keys).unwrap();
        set_option(&server, 282, 2, &keys).unwrap();
        send(&client, b"secret", SendFlags::empty()).unwrap();
        let mut buffer = [0; 20];
        assert_eq!(recv(&server, &mut buffer, RecvFlags::empty()).unwrap().1, 6);
        let (own, end) = (inode(&client), inode(&server));
        let told = observer
            .until("all", |told| told.accounted(own, EGRESS) >= 11 && told.accounted(end, INGRESS) >= 11);
        assert!(told.chunks.iter().all(|chunk| chunk.bytes == b"clear"), "{backend:?}");
        assert!(told.gaps.iter().all(|gap| gap.cause == custody_abi::cause::NO_PAYLOAD));
    }
}
