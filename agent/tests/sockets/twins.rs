//! Both ends of a connection on this host: the accepting one is told, the connecting one is spared, and never where
//! the reader of the rings would have to read it.

use crate::calls::{inode, tcp};
use crate::observe::{Observer, Told};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{ACCEPTING_END_WAIT_NS, flag};
use custody_agent::probes::Backend;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const PIECE: usize = 1000;
const ROUNDS: usize = 40;

/// A question and an answer of `PIECE` bytes each, `ROUNDS` times.
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    let mut buffer = [0; PIECE];
    for round in 0..ROUNDS {
        client.write_all(&[round as u8; PIECE]).unwrap();
        server.read_exact(&mut buffer).unwrap();
        server.write_all(&[round as u8 + 100; PIECE]).unwrap();
        client.read_exact(&mut buffer).unwrap();
    }
}

fn told_of(told: &Told, inode: u64, direction: u8) -> usize {
    let Some(open) = told.open(inode) else { return 0 };
    let chunks = told.chunks.iter();
    let own = chunks.filter(|chunk| chunk.data.socket == open.socket && chunk.data.direction == direction);
    own.map(|chunk| chunk.bytes.len()).sum()
}

#[test]
fn the_connecting_end_is_spared_and_counted_when_the_accepting_end_tells() {
    the_connecting_end_is_spared(Backend::Sockets, "127.0.0.1:0");
}

#[test]
fn the_connecting_end_is_spared_by_system_calls_too() {
    the_connecting_end_is_spared(Backend::SystemCalls, "127.0.0.1:0");
}

#[test]
fn the_connecting_end_is_spared_where_a_server_of_both_families_accepts_it() {
    the_connecting_end_is_spared(Backend::Sockets, "[::]:0");
}

fn the_connecting_end_is_spared(backend: Backend, server: &str) {
    let mut observer = Observer::start(backend);
    let listener = TcpListener::bind(server).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let (c, s) = (inode(&client), inode(&server));
    talk(&mut client, &mut server);
    let all = PIECE * ROUNDS;
    let told = observer.until("the accepting end", |told| told_of(told, s, EGRESS) == all);
    assert_eq!(told.stream(s, INGRESS, 0).len(), all);
    let spared = 2 * all - told_of(told, c, INGRESS) - told_of(told, c, EGRESS);
    assert!(spared >= all, "of {} bytes only {spared} were spared", 2 * all);
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    assert_eq!(observer.counters().other_end.bytes, spared as u64);
    // Where it ended is told of both.
    drop((client, server));
    let told = observer.until("both ends", |told| told.closes.len() >= 2);
    for close in &told.closes {
        assert_eq!((close.ingress_position, close.egress_position), (all as u64, all as u64));
    }
}

#[test]
fn an_accepting_end_that_is_slow_spares_nobody() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut client, mut server) = tcp("127.0.0.1:0");
    let c = inode(&client);
    client.write_all(b"first").unwrap();
    std::thread::sleep(Duration::from_nanos(ACCEPTING_END_WAIT_NS));
    server.read_exact(&mut [0; 5]).unwrap();
    talk(&mut client, &mut server);
    let all = PIECE * ROUNDS;
    let told = observer.until("the connecting end", |told| told_of(told, c, INGRESS) == all);
    assert_eq!(told_of(told, c, EGRESS), all + 5);
    assert_eq!(observer.counters().other_end.bytes, 0);
}

#[test]
fn a_file_that_the_accepting_end_sends_unread_is_told_by_who_reads_it() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut client, mut server) = tcp("[::1]:0");
    let (c, s) = (inode(&client), inode(&server));
    talk(&mut client, &mut server);
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..50_000u32).map(|n| (n % 251) as u8).collect();
    file.write_all(&content).unwrap();
    let sent = rustix::fs::sendfile(&server, &file, Some(&mut 0), content.len()).unwrap();
    let mut read = vec![0; sent];
    client.read_exact(&mut read).unwrap();
    let from = (PIECE * ROUNDS) as u64;
    let told = observer.until("the file", |told| {
        told.chunks.iter().any(|chunk| chunk.data.position + chunk.bytes.len() as u64 == from + sent as u64)
    });
    let holes: u64 = told.gaps(s, EGRESS).iter().map(|gap| gap.length).sum();
    assert_eq!(holes, sent as u64, "the sender's side has no bytes");
    let open = told.open(c).unwrap();
    let mut bytes = Vec::new();
    for chunk in told.chunks.iter().filter(|chunk| {
        chunk.data.socket == open.socket && chunk.data.direction == INGRESS && chunk.data.position >= from
    }) {
        assert_eq!(chunk.data.position, from + bytes.len() as u64);
        assert_ne!(chunk.data.header.flags & flag::POSITION_EXACT, 0);
        bytes.extend_from_slice(&chunk.bytes);
    }
    assert!(bytes == read, "{} bytes told, {} read", bytes.len(), read.len());
}
