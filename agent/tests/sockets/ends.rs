//! Beginnings and ends: where a stream is first seen, who made it, and how it ended.

use crate::calls::{inode, tcp, unix};
use crate::observe::{Observer, Told, only_this_program};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{POSITION_UNKNOWN, SocketClose, flag, role};
use custody_agent::probes::{Backend, Match, ProbeOptions, Rule};
use rustix::net::{SendFlags, recv, send, sockopt};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];

fn close_of(told: &Told, inode: u64) -> Option<SocketClose> {
    let open = told.open(inode)?.socket;
    told.closes.iter().find(|close| close.socket == open).copied()
}

#[test]
fn the_first_call_on_an_older_connection_stands_where_its_stream_was_first_seen() {
    for backend in BACKENDS {
        let (mut a, mut b) = tcp("127.0.0.1:0");
        a.write_all(b"before the observer").unwrap();
        b.read_exact(&mut [0; 10]).unwrap();
        b.write_all(b"an answer").unwrap();
        let mut observer = Observer::start(backend);
        b.read_exact(&mut [0; 9]).unwrap();
        b.write_all(b", and more").unwrap();
        a.read_exact(&mut [0; 19]).unwrap();
        let (a, b) = (inode(&a), inode(&b));
        let told = observer.until("all", |told| told.stream(a, INGRESS, 0).len() == 19);
        let (open_a, open_b) = (told.open(a).unwrap(), told.open(b).unwrap());
        assert_ne!(open_b.header.flags & flag::EXISTING, 0);
        assert_eq!((open_b.ingress_position, open_b.egress_position), (10, 9), "{backend:?}");
        assert_eq!((open_a.ingress_position, open_a.egress_position), (0, 19), "{backend:?}");
        assert_eq!(told.stream(b, INGRESS, 10), b" observer");
        assert_eq!(told.stream(b, EGRESS, 9), b", and more");
        assert!(told.gaps.is_empty(), "{backend:?}: {:?}", told.gaps);
    }
}

#[test]
fn a_busy_connection_that_is_older_never_stands_below_zero() {
    let (mut a, mut b) = tcp("127.0.0.1:0");
    // Bounded, so that nothing goes on when an assertion ends the test.
    let writer = std::thread::spawn(move || {
        for _ in 0..400 {
            a.write_all(&[7; 3000]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let mut observer = Observer::with(ProbeOptions { data_ring_bytes: 32 << 20, ..only_this_program() });
    let mut read = 0;
    while let Ok(more) = b.read(&mut [0; 20_000])
        && more > 0
    {
        read += more;
    }
    writer.join().unwrap();
    assert_eq!(read, 400 * 3000);
    let told = observer.until("some", |told| !told.chunks.is_empty());
    for chunk in &told.chunks {
        let open = told.opens.iter().find(|open| open.socket == chunk.data.socket).unwrap();
        let begin = [open.ingress_position, open.egress_position][usize::from(chunk.data.direction)];
        assert!((begin..1 << 40).contains(&chunk.data.position), "{} {begin}", chunk.data.position);
    }
    assert!(told.gaps.iter().all(|gap| gap.length < 1 << 40 && gap.position < 1 << 40));
}

/// The kernel keeps the socket and gives it new sequences: measured with these, the first connection would end
/// anywhere within 2 GiB around, and below zero as well.
#[test]
fn a_socket_that_connects_anew_is_two_connections_and_the_first_keeps_its_bytes() {
    for _ in 0..10 {
        let mut observer = Observer::start(Backend::Sockets);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (_first, _) = listener.accept().unwrap();
        client.write_all(b"the first").unwrap();
        rustix::net::connect_unspec(&client).unwrap();
        rustix::net::connect(&client, &address).unwrap();
        let (_second, _) = listener.accept().unwrap();
        client.write_all(b"the second").unwrap();
        let own = inode(&client);
        let told =
            observer.until("both", |told| told.chunks.iter().any(|chunk| chunk.bytes == b"the second"));
        let opens: Vec<_> = told.opens.iter().filter(|open| open.inode == own).collect();
        assert_eq!(opens.len(), 2);
        let close = close_of(told, own).unwrap();
        assert_eq!((close.ingress_position, close.egress_position), (POSITION_UNKNOWN, POSITION_UNKNOWN));
        let second = told.chunks.iter().find(|chunk| chunk.bytes == b"the second").unwrap();
        assert_eq!((second.data.socket, second.data.position), (opens[1].socket, 0));
    }
}

#[test]
fn a_reset_is_told_by_both_ends() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut a, mut b) = tcp("127.0.0.1:0");
    a.write_all(b"something that nobody reads").unwrap();
    b.write_all(b"read").unwrap();
    a.read_exact(&mut [0; 4]).unwrap();
    let (a_inode, b_inode) = (inode(&a), inode(&b));
    // Closed with unread bytes: the kernel answers with a reset.
    drop(b);
    while recv(&a, &mut [0; 10], rustix::net::RecvFlags::empty()).is_ok_and(|(read, _)| read > 0) {}
    drop(a);
    let told = observer.until("both ends", |told| close_of(told, a_inode).is_some());
    assert_eq!(close_of(told, a_inode).unwrap().header.flags, flag::RESET_RECEIVED);
    // The other end never read, and is told for what it wrote.
    let close = close_of(told, b_inode).unwrap();
    assert_eq!(close.header.flags, flag::RESET_SENT);
    assert_eq!((close.ingress_position, close.egress_position), (0, 4));
}

#[test]
fn a_close_that_throws_everything_away_ends_where_the_data_ended() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut a, b) = tcp("127.0.0.1:0");
    a.write_all(b"twelve bytes").unwrap();
    sockopt::set_socket_linger(&a, Some(Duration::ZERO)).unwrap();
    let own = inode(&a);
    drop(a);
    let told = observer.until("its end", |told| close_of(told, own).is_some());
    let close = close_of(told, own).unwrap();
    assert_eq!(close.egress_position, 12, "a disconnect moves the sequence away from the data");
    assert_eq!(close.header.flags, flag::RESET_SENT);
    drop(b);
}

#[test]
fn an_orderly_end_is_no_reset() {
    let mut observer = Observer::start(Backend::Sockets);
    let (a, mut b) = tcp("127.0.0.1:0");
    (&a).write_all(b"bye").unwrap();
    let own = inode(&a);
    drop(a);
    b.read_to_end(&mut Vec::new()).unwrap();
    drop(b);
    let told = observer.until("its end", |told| close_of(told, own).is_some());
    assert_eq!(close_of(told, own).unwrap().header.flags, 0);
}

#[test]
fn a_connection_without_data_is_told_by_who_connected() {
    let mut observer = Observer::start(Backend::Sockets);
    let (a, b) = tcp("127.0.0.1:0");
    let port = a.local_addr().unwrap().port();
    drop((a, b));
    let told = observer.until("its end", |told| told.opens.iter().any(|open| open.local.port == port));
    let open = told.opens.iter().find(|open| open.local.port == port).unwrap();
    assert_eq!((open.role, open.task.pid), (role::CLIENT, std::process::id()));
    assert!(told.closes.iter().any(|close| close.socket == open.socket));
}

#[test]
fn sockets_without_a_handshake_are_new_unless_they_stood_in_the_list() {
    let (old, _old_peer) = unix();
    let old_datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut observer = Observer::start(Backend::Sockets);
    let (new, new_peer) = unix();
    let new_datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [&old, &new] {
        send(socket, b"words", SendFlags::empty()).unwrap();
    }
    old_datagrams.send_to(b"words", new_datagrams.local_addr().unwrap()).unwrap();
    new_datagrams.send_to(b"words", old_datagrams.local_addr().unwrap()).unwrap();
    let told = observer.until("four", |told| told.chunks.len() == 4);
    let existing = |inode| told.open(inode).unwrap().header.flags & flag::EXISTING != 0;
    assert!(existing(inode(&old)) && existing(inode(&old_datagrams)));
    assert!(!existing(inode(&new)) && !existing(inode(&new_datagrams)));
    drop(new_peer);
}

#[test]
fn unix_and_udp_sockets_that_are_gone_are_swept_and_the_living_stay() {
    let mut observer = Observer::start(Backend::Sockets);
    let (gone, gone_peer) = unix();
    let (lives, lives_peer) = unix();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.send_to(b"one", datagrams.local_addr().unwrap()).unwrap();
    for socket in [&gone, &lives] {
        send(socket, b"words", SendFlags::empty()).unwrap();
    }
    let inodes = [inode(&gone), inode(&datagrams), inode(&lives)];
    let told = observer.until("three", |told| told.chunks.len() == 3);
    let keys = inodes.map(|inode| told.open(inode).unwrap().socket);
    assert_eq!(observer.probes.sweep().unwrap(), []);
    drop((gone, gone_peer, datagrams));
    let mut swept = observer.probes.sweep().unwrap();
    swept.sort_by_key(|gone| gone.socket.generation);
    let mut expected = [(keys[0], [0, 5]), (keys[1], [0, 1])];
    expected.sort_by_key(|(key, _)| key.generation);
    assert_eq!(swept.iter().map(|gone| (gone.socket, gone.ends)).collect::<Vec<_>>(), expected);
    assert_eq!(observer.probes.sweep().unwrap(), []);
    // The one that lives goes on under its name.
    send(&lives, b"more", SendFlags::empty()).unwrap();
    let told = observer.until("more", |told| told.chunks.len() == 4);
    assert_eq!((told.chunks[3].data.socket, told.chunks[3].data.position), (keys[2], 5));
    drop(lives_peer);
}

#[test]
fn what_rules_leave_out_is_not_even_named_and_the_canary_comes_through() {
    let own = only_this_program().rules.remove(0).matches;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let canary_port = listener.local_addr().unwrap().port();
    let rules = vec![Rule { include: false, matches: own }];
    let mut observer = Observer::with(ProbeOptions { rules, canary_port, ..ProbeOptions::default() });
    // In use, and never used.
    let (mut a, b) = tcp("127.0.0.1:0");
    a.write_all(b"not for the record").unwrap();
    let unused = tcp("127.0.0.1:0");
    let ports = [&a, &unused.0].map(|client| client.local_addr().unwrap().port());
    let (c, d) = unix();
    send(&c, b"not for the record", SendFlags::empty()).unwrap();
    let silent = [inode(&a), inode(&b), inode(&c), inode(&d)];
    drop((a, b, c, d, unused));
    let mut canary = TcpStream::connect(("127.0.0.1", canary_port)).unwrap();
    let (mut heard, _) = listener.accept().unwrap();
    canary.write_all(b"tweet").unwrap();
    heard.read_exact(&mut [0; 5]).unwrap();
    let told = observer.until("the canary", |told| told.chunks.len() == 2);
    assert!(told.chunks.iter().all(|chunk| chunk.bytes == b"tweet"));
    assert!(silent.iter().all(|inode| told.open(*inode).is_none()));
    let named = |open: &&custody_abi::SocketOpen| ports.contains(&open.local.port);
    assert_eq!(told.opens.iter().filter(named).count(), 0);
    assert!(matches!(only_this_program().rules[0].matches, Match::Executable { .. }));
}
