//! Each system call that moves a socket's bytes is seen once, with its bytes; those that move none are not.

use crate::calls::{inode, tcp, unix};
use crate::observe::{Observer, only_this_program};
use crate::raw::{Message, call, call_32, low_page, segment};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{cause, flag, role, transport};
use custody_agent::probes::{Backend, ProbeOptions};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{Read, Write};
use std::net::UdpSocket;

const SENDMMSG: u64 = 307;
const RECVMMSG: u64 = 299;
const PREADV2: u64 = 327;
const PWRITEV2: u64 = 328;

fn fd(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

/// Sends over `a` and receives over `b` in every way, and compares both ends' streams.
fn every_way(mut observer: Observer, a: OwnedFd, b: OwnedFd) {
    let mut expected = Vec::new();
    let mut buffer = [0; 64];

    send(&a, b"send ", SendFlags::empty()).unwrap();
    recv(&b, &mut buffer, RecvFlags::empty()).unwrap();
    expected.extend_from_slice(b"send ");

    rustix::io::write(&a, b"write ").unwrap();
    rustix::io::read(&b, &mut buffer).unwrap();
    expected.extend_from_slice(b"write ");

    let parts = [segment(b"send"), segment(b""), segment(b"msg ")];
    let message = Message::of(&parts);
    assert_eq!(call(46, [fd(&a), &raw const message as u64, 0, 0, 0, 0]), 8);
    let (one, two) = ([0; 3], [0; 20]);
    let into = [segment(&one), segment(&two)];
    let message = Message::of(&into);
    assert_eq!(call(47, [fd(&b), &raw const message as u64, 0, 0, 0, 0]), 8);
    expected.extend_from_slice(b"sendmsg ");

    let (first, second) = ([segment(b"two ")], [segment(b"messages ")]);
    let messages = [Message::of(&first), Message::of(&second)];
    assert_eq!(call(SENDMMSG, [fd(&a), messages.as_ptr() as u64, 2, 0, 0, 0]), 2);
    let (first, second, third) = ([segment(&one)], [segment(&two[..10])], [segment(&two[10..])]);
    let into = [Message::of(&first), Message::of(&second), Message::of(&third)];
    // MSG_DONTWAIT: what is there fills two of three, and an error ends the call.
    assert_eq!(call(RECVMMSG, [fd(&b), into.as_ptr() as u64, 3, 0x40, 0, 0]), 2);
    expected.extend_from_slice(b"two messages ");

    let parts = [segment(b"pwritev2 ")];
    assert_eq!(call(PWRITEV2, [fd(&a), parts.as_ptr() as u64, 1, u64::MAX, u64::MAX, 0]), 9);
    let into = [segment(&two)];
    assert_eq!(call(PREADV2, [fd(&b), into.as_ptr() as u64, 1, u64::MAX, u64::MAX, 0]), 9);
    expected.extend_from_slice(b"pwritev2 ");

    let (sender, receiver) = (inode(&a), inode(&b));
    let told =
        observer.until("the last call", |told| told.stream(receiver, INGRESS, 0).len() >= expected.len());
    assert_eq!(told.gaps.len(), 0, "{:?}", told.gaps);
    assert_eq!(
        String::from_utf8(told.stream(sender, EGRESS, 0)).unwrap(),
        String::from_utf8(expected.clone()).unwrap()
    );
    assert_eq!(told.stream(receiver, INGRESS, 0), expected);
}

#[test]
fn every_way_over_tcp() {
    let (a, b) = tcp("127.0.0.1:0");
    // Opened before the observer: nothing has moved yet, so positions begin at 0 all the same.
    every_way(Observer::start(Backend::Sockets), a.into(), b.into());
}

#[test]
fn every_way_over_tcp_without_the_hook_under_the_lock() {
    let (a, b) = tcp("127.0.0.1:0");
    let options = ProbeOptions { locked_sends: false, ..only_this_program() };
    every_way(Observer::with(options), a.into(), b.into());
}

#[test]
fn every_way_by_system_calls() {
    let (a, b) = tcp("127.0.0.1:0");
    every_way(Observer::start(Backend::SystemCalls), a.into(), b.into());
    let (a, b) = unix();
    every_way(Observer::start(Backend::SystemCalls), a, b);
}

#[test]
fn every_way_over_unix_streams() {
    let (a, b) = unix();
    every_way(Observer::start(Backend::Sockets), a, b);
}

#[test]
fn int_0x80_is_seen() {
    calls_of_32_bit_programs(Backend::Sockets);
}

#[test]
fn int_0x80_is_seen_by_system_calls() {
    calls_of_32_bit_programs(Backend::SystemCalls);
}

fn calls_of_32_bit_programs(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (a, b) = unix();
    let page = low_page();
    page[..8].copy_from_slice(b"compat 4");
    let address = page.as_ptr() as u32;
    let [a_fd, b_fd] = [a.as_raw_fd() as u32, b.as_raw_fd() as u32];
    assert_eq!(call_32(4, [a_fd, address, 8]), 8);
    assert_eq!(call_32(3, [b_fd, address + 100, 50]), 8);
    // readv and writev with 32-bit iovecs.
    page[200..208].copy_from_slice(&[address.to_ne_bytes(), 6_u32.to_ne_bytes()].concat());
    assert_eq!(call_32(146, [a_fd, address + 200, 1]), 6);
    // socketcall(SYS_RECV, {fd, buffer, length, flags})
    let words = [b_fd, address + 300, 50, 0].map(u32::to_ne_bytes).concat();
    page[400..416].copy_from_slice(&words);
    assert_eq!(call_32(102, [10, address + 400, 0]), 6);
    let (sender, receiver) = (inode(&a), inode(&b));
    let told = observer.until("both", |told| told.stream(receiver, INGRESS, 0).len() >= 14);
    assert_eq!(told.stream(sender, EGRESS, 0), b"compat 4compat");
    assert_eq!(told.stream(receiver, INGRESS, 0), b"compat 4compat");
}

#[test]
fn unix_peers_name_each_other() {
    let mut observer = Observer::start(Backend::Sockets);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("listener");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let (c, s) = (inode(&client), inode(&server));
    let told = observer.until("both opens", |told| told.open(s).is_some() && told.open(c).is_some());
    let (open_c, open_s) = (told.open(c).unwrap(), told.open(s).unwrap());
    assert_eq!(open_c.transport, transport::UNIX_STREAM);
    // Whoever is seen last names the other.
    assert_eq!(open_s.peer, open_c.socket);
    assert_eq!((open_c.role, open_s.role), (role::CLIENT, role::SERVER));
}

#[test]
fn datagrams_are_numbered_and_a_truncated_one_says_so() {
    for backend in [Backend::Sockets, Backend::SystemCalls] {
        datagrams(backend);
    }
}

fn datagrams(backend: Backend) {
    let mut observer = Observer::start(backend);
    let a = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = UdpSocket::bind("127.0.0.1:0").unwrap();
    a.connect(b.local_addr().unwrap()).unwrap();
    for text in ["first", "second", "a longer one"] {
        a.send(text.as_bytes()).unwrap();
    }
    let mut buffer = [0; 100];
    b.recv(&mut buffer).unwrap();
    b.recv(&mut buffer).unwrap();
    // MSG_TRUNC: the result is the datagram's length, the buffer holds less.
    let length = call(45, [fd(&b), buffer.as_ptr() as u64, 4, 0x20, 0, 0]);
    assert_eq!(length, 12);
    let receiver = inode(&b);
    let told = observer
        .until("three", |told| told.chunks.iter().filter(|c| c.data.direction == INGRESS).count() >= 3);
    let open = told.open(receiver).unwrap();
    assert_eq!(open.transport, transport::UDP);
    let seen: Vec<_> = told.chunks.iter().filter(|c| c.data.socket == open.socket).collect();
    assert!(seen.iter().all(|c| c.data.header.flags & flag::DATAGRAM != 0));
    assert_eq!(
        seen.iter().map(|c| (c.data.position, c.bytes.as_slice())).collect::<Vec<_>>(),
        [(0, &b"first"[..]), (1, b"second"), (2, b"a lo")]
    );
    let gaps = told.gaps(receiver, INGRESS);
    assert_eq!(
        gaps.iter().map(|g| (g.position, g.length, g.cause)).collect::<Vec<_>>(),
        [(2, 8, cause::NO_PAYLOAD)]
    );
}
