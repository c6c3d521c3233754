//! Every way to write and read a stream, on TCP over both families and on unix sockets.

use crate::observe::Observer;
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{flag, role, transport};
use custody_agent::probes::Backend;
use rustix::fd::{AsFd, OwnedFd};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Inode of a socket.
pub(crate) fn inode(socket: &impl AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

/// A connected pair: who connected, who accepted.
pub(crate) fn tcp(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

pub(crate) fn unix() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

fn write_and_read(backend: Backend, address: &str) {
    let mut observer = Observer::start(backend);
    let (mut client, mut server) = tcp(address);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut buffer = [0; 100];
    let got = server.read(&mut buffer).unwrap();
    assert_eq!(got, 18);
    let parts = [IoSlice::new(b"HTTP/1.1 "), IoSlice::new(b""), IoSlice::new(b"200 OK\r\n")];
    assert_eq!(server.write_vectored(&parts).unwrap(), 17);
    let (mut first, mut second) = ([0; 5], [0; 50]);
    let got = client.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
    assert_eq!(got, 17);
    let (c, s) = (inode(&client), inode(&server));
    let told = observer.until("the answer", |told| told.stream(c, INGRESS, 0).len() == 17);
    assert_eq!(told.stream(c, EGRESS, 0), b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(told.stream(s, INGRESS, 0), b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(told.stream(s, EGRESS, 0), b"HTTP/1.1 200 OK\r\n");
    assert_eq!(told.stream(c, INGRESS, 0), b"HTTP/1.1 200 OK\r\n");
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    assert_eq!(told.data_before_open, 0);
    let (open_c, open_s) = (*told.open(c).unwrap(), *told.open(s).unwrap());
    assert_eq!((open_c.role, open_s.role), (role::CLIENT, role::SERVER));
    assert_eq!(open_c.transport, transport::TCP);
    assert_eq!((open_c.local, open_c.remote), (open_s.remote, open_s.local));
    assert_eq!(open_c.remote.port, server.local_addr().unwrap().port());
    assert_eq!(open_c.header.flags & flag::EXISTING, 0);
    for chunk in &told.chunks {
        assert_ne!(chunk.data.header.flags & flag::POSITION_EXACT, 0);
    }
    drop((client, server));
    let told = observer.until("both ends", |told| told.closes.len() >= 2);
    let end = told.closes.iter().find(|close| close.socket == open_c.socket).unwrap();
    assert_eq!((end.ingress_position, end.egress_position), (17, 18));
    let end = told.closes.iter().find(|close| close.socket == open_s.socket).unwrap();
    assert_eq!((end.ingress_position, end.egress_position), (18, 17));
}

#[test]
fn tcp_over_ipv4() {
    write_and_read(Backend::Sockets, "127.0.0.1:0");
}

#[test]
fn tcp_over_ipv6() {
    write_and_read(Backend::Sockets, "[::1]:0");
}

#[test]
fn tcp_by_system_calls() {
    write_and_read(Backend::SystemCalls, "127.0.0.1:0");
}
