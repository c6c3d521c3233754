//! Each trap that is known of capture at the system call, as a test of its own.

use crate::calls::{inode, tcp, unix};
use crate::observe::{Observer, only_this_program};
use crate::raw::call;
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{cause, flag};
use custody_agent::probes::{Backend, Match, ProbeOptions, Rule};
use rustix::fd::AsRawFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{Read, Write};
use std::sync::Mutex;

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];

fn number(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn a_large_write_is_whole_and_in_order_both_ways() {
    for backend in BACKENDS {
        a_large_write_is_whole_and_in_order_both_ways_with(backend);
    }
}

fn a_large_write_is_whole_and_in_order_both_ways_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (client, server) = tcp("127.0.0.1:0");
    let s = inode(&server);
    let sent = pattern(300_000);
    for (mut from, mut to) in [(&client, &server), (&server, &client)] {
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || from.write_all(&pattern(300_000)));
            let mut received = vec![0; sent.len()];
            to.read_exact(&mut received).unwrap();
            writer.join().unwrap().unwrap();
        });
    }
    // The connecting end may be spared; see `twins`.
    let told = observer.until("all", |told| told.stream(s, EGRESS, 0).len() == sent.len());
    assert!(told.stream(s, INGRESS, 0) == sent);
    assert!(told.stream(s, EGRESS, 0) == sent);
    assert_eq!(told.gaps.len(), 0);
    assert!(told.chunks.iter().all(|chunk| chunk.data.header.flags & flag::POSITION_EXACT != 0));
}

#[test]
fn two_threads_that_write_one_socket_never_claim_the_same_place() {
    const EACH: usize = 2_000_000;
    let mut observer = Observer::with(ProbeOptions {
        data_ring_bytes: 32 << 20,
        call_bytes_max: EACH as u64,
        ..only_this_program()
    });
    // The accepting end writes: the connecting one may be spared.
    let (mut client, server) = tcp("127.0.0.1:0");
    let writers: Vec<_> = [b'a', b'b']
        .into_iter()
        .map(|letter| {
            let mut server = server.try_clone().unwrap();
            std::thread::spawn(move || server.write_all(&vec![letter; EACH]).unwrap())
        })
        .collect();
    let mut received = vec![0; 2 * EACH];
    client.read_exact(&mut received).unwrap();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let s = inode(&server);
    let told = observer.until("all", |told| told.accounted(s, EGRESS) >= 2 * EACH as u64);
    assert_eq!(told.accounted(s, EGRESS), 2 * EACH as u64, "each byte once, or said to be missing");
    // What the reader told, where it did, stands at the same places.
    for chunk in &told.chunks {
        let at = chunk.data.position as usize;
        assert!(chunk.bytes == received[at..at + chunk.bytes.len()], "not what the peer got at {at}");
    }
}

#[test]
fn a_call_over_the_limit_is_cut_and_says_where() {
    let mut observer = Observer::with(ProbeOptions { call_bytes_max: 10_000, ..only_this_program() });
    let (a, b) = unix();
    send(&a, &pattern(15_000), SendFlags::empty()).unwrap();
    send(&a, b"after", SendFlags::empty()).unwrap();
    let told = observer.until("both", |told| told.chunks.len() >= 2);
    let gaps = told.gaps(inode(&a), EGRESS);
    assert_eq!(
        gaps.iter().map(|g| (g.position, g.length, g.cause)).collect::<Vec<_>>(),
        [(10_000, 5_000, cause::CALL_LIMIT)]
    );
    assert_eq!(told.chunks.last().unwrap().data.position, 15_000);
    let wire = observer.counters().wire;
    assert_eq!(wire.produced_bytes, wire.submitted_bytes + wire.lost_bytes + wire.cut_bytes);
    assert_eq!((wire.produced_bytes, wire.cut_bytes), (15_005, 5_000));
    drop(b);
}

#[test]
fn a_full_ring_is_a_gap_of_known_place() {
    let options = ProbeOptions { data_ring_bytes: 1 << 16, ..only_this_program() };
    let mut observer = Observer::with(options);
    let (a, b) = unix();
    let text = pattern(3_000);
    for _ in 0..40 {
        send(&a, &text, SendFlags::empty()).unwrap();
    }
    let told = observer.until("loss", |told| !told.gaps.is_empty());
    let captured: u64 = told.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
    let gaps = told.gaps(inode(&a), EGRESS);
    assert!(gaps.iter().all(|gap| gap.cause == cause::RING_FULL));
    assert_eq!(captured + gaps.iter().map(|gap| gap.length).sum::<u64>(), 120_000);
    let wire = observer.counters().wire;
    assert_eq!(wire.produced_bytes, wire.submitted_bytes + wire.lost_bytes + wire.cut_bytes);
    drop(b);
}

#[test]
fn looking_is_not_receiving() {
    for backend in BACKENDS {
        looking_is_not_receiving_with(backend);
    }
}

fn looking_is_not_receiving_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (a, b) = tcp("127.0.0.1:0");
    send(&a, b"once", SendFlags::empty()).unwrap();
    let mut buffer = [0; 10];
    recv(&b, &mut buffer, RecvFlags::PEEK).unwrap();
    recv(&b, &mut buffer, RecvFlags::PEEK).unwrap();
    recv(&b, &mut buffer, RecvFlags::empty()).unwrap();
    send(&a, b"twice", SendFlags::empty()).unwrap();
    recv(&b, &mut buffer, RecvFlags::empty()).unwrap();
    let told = observer.until("the second", |told| told.stream(inode(&b), INGRESS, 0).len() >= 9);
    assert_eq!(told.stream(inode(&b), INGRESS, 0), b"oncetwice");
}

#[test]
fn discarded_bytes_never_show_stale_memory() {
    for backend in BACKENDS {
        discarded_bytes_never_show_stale_memory_with(backend);
    }
}

fn discarded_bytes_never_show_stale_memory_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (a, b) = tcp("127.0.0.1:0");
    send(&a, b"thrown away", SendFlags::empty()).unwrap();
    let buffer = *b"stale memory that was here before";
    assert_eq!(call(45, [number(&b), buffer.as_ptr() as u64, 11, 0x20, 0, 0]), 11);
    let told = observer.until("the gap", |told| !told.gaps(inode(&b), INGRESS).is_empty());
    let gaps = told.gaps(inode(&b), INGRESS);
    assert_eq!((gaps[0].position, gaps[0].length, gaps[0].cause), (0, 11, cause::NO_PAYLOAD));
    assert!(told.stream(inode(&b), INGRESS, 0).is_empty());
}

#[test]
fn a_read_that_takes_the_fin_has_its_place() {
    for backend in BACKENDS {
        a_read_that_takes_the_fin_has_its_place_with(backend);
    }
}

fn a_read_that_takes_the_fin_has_its_place_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (mut a, mut b) = tcp("127.0.0.1:0");
    a.write_all(b"the last words").unwrap();
    a.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    b.read_to_end(&mut all).unwrap();
    b.write_all(b"an answer").unwrap();
    let (inode_b, mut rest) = (inode(&b), Vec::new());
    drop(b);
    a.read_to_end(&mut rest).unwrap();
    drop(a);
    let told = observer.until("its end", |told| {
        told.open(inode_b).is_some_and(|open| told.closes.iter().any(|close| close.socket == open.socket))
    });
    assert_eq!(told.stream(inode_b, INGRESS, 0), b"the last words");
    let open = told.open(inode_b).unwrap().socket;
    let close = told.closes.iter().find(|close| close.socket == open).unwrap();
    assert_eq!((close.ingress_position, close.egress_position), (14, 9));
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
}

#[test]
fn a_blocked_read_belongs_to_the_socket_that_it_waited_on() {
    for backend in BACKENDS {
        a_blocked_read_belongs_to_the_socket_that_it_waited_on_with(backend);
    }
}

fn a_blocked_read_belongs_to_the_socket_that_it_waited_on_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (a, b) = unix();
    let (c, d) = unix();
    let waiting = rustix::io::dup(&b).unwrap();
    let target = number(&waiting);
    let reader = std::thread::spawn(move || {
        let buffer = [0; 10];
        call(0, [target, buffer.as_ptr() as u64, 10, 0, 0, 0])
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    // The number now names the other pair's socket, while the read still waits on the first.
    assert_eq!(call(33, [number(&d), target, 0, 0, 0, 0]), i64::try_from(target).unwrap());
    send(&a, b"for b", SendFlags::empty()).unwrap();
    assert_eq!(reader.join().unwrap(), 5);
    let told = observer.until("the read", |told| !told.stream(inode(&b), INGRESS, 0).is_empty());
    assert_eq!(told.stream(inode(&b), INGRESS, 0), b"for b");
    assert!(told.stream(inode(&d), INGRESS, 0).is_empty());
    drop((c, waiting));
}

#[test]
fn sendfile_and_splice_are_gaps_with_their_length() {
    for backend in BACKENDS {
        sendfile_and_splice_are_gaps_with_their_length_with(backend);
    }
}

fn sendfile_and_splice_are_gaps_with_their_length_with(backend: Backend) {
    let mut observer = Observer::start(backend);
    let (mut a, mut b) = tcp("127.0.0.1:0");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(5_000)).unwrap();
    a.write_all(b"head").unwrap();
    let mut start = 0;
    assert_eq!(rustix::fs::sendfile(&a, &file, Some(&mut start), 5_000).unwrap(), 5_000);
    a.write_all(b"tail").unwrap();
    let mut received = vec![0; 4];
    b.read_exact(&mut received).unwrap();
    // Received without a buffer: into a pipe.
    let (out, into) = rustix::pipe::pipe().unwrap();
    let mut moved = 0;
    while moved < 5_000 {
        moved +=
            rustix::pipe::splice(&b, None, &into, None, 5_000 - moved, rustix::pipe::SpliceFlags::empty())
                .unwrap();
        let mut scratch = vec![0; 65536];
        rustix::io::read(&out, &mut scratch).unwrap();
    }
    b.read_exact(&mut received).unwrap();
    let (sender, receiver) = (inode(&a), inode(&b));
    let told = observer
        .until("the tail", |told| told.chunks.iter().filter(|chunk| chunk.bytes == b"tail").count() == 2);
    for (end, direction) in [(sender, EGRESS), (receiver, INGRESS)] {
        let gaps = told.gaps(end, direction);
        assert!(gaps.iter().all(|gap| gap.cause == cause::NO_PAYLOAD));
        assert_eq!(gaps.iter().map(|gap| gap.length).sum::<u64>(), 5_000);
        let open = told.open(end).unwrap().socket;
        let tail =
            told.chunks.iter().find(|chunk| chunk.data.socket == open && chunk.bytes == b"tail").unwrap();
        assert_eq!(tail.data.position, 5_004);
    }
}

#[test]
fn a_page_that_is_not_there_is_a_gap_of_its_own() {
    let mut observer = Observer::start(Backend::Sockets);
    let (a, b) = unix();
    // Received into memory whose pages are given back before anybody looks cannot be tried; a page fault on a
    // sent file mapping can: the kernel faults it in for the send, so the bytes are there.
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(12_288)).unwrap();
    let mapped = call(9, [0, 12_288, 1, 1, number(&file), 0]);
    assert!(mapped > 0);
    assert_eq!(call(1, [number(&a), mapped.cast_unsigned(), 12_288, 0, 0, 0]), 12_288);
    let told = observer.until("the send", |told| {
        let bytes = told.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
        bytes + told.gaps.iter().map(|gap| gap.length).sum::<u64>() == 12_288
    });
    for chunk in &told.chunks {
        let at = chunk.data.position as usize;
        assert!(chunk.bytes == pattern(12_288)[at..at + chunk.bytes.len()]);
    }
    assert!(told.gaps.iter().all(|gap| gap.cause == cause::PAGE_FAULT));
    drop(b);
}

#[test]
fn a_connection_that_is_older_than_the_observer_has_true_positions() {
    let (mut a, mut b) = tcp("127.0.0.1:0");
    let mut buffer = [0; 100];
    a.write_all(b"before").unwrap();
    b.read_exact(&mut buffer[..4]).unwrap();
    b.write_all(b"answer").unwrap();
    let mut observer = Observer::start(Backend::Sockets);
    b.read_exact(&mut buffer[..2]).unwrap();
    a.write_all(b"after").unwrap();
    b.read_exact(&mut buffer[..5]).unwrap();
    a.read_exact(&mut buffer[..6]).unwrap();
    let (a, b) = (inode(&a), inode(&b));
    let told = observer.until("all", |told| told.stream(a, INGRESS, 0).len() == 6);
    let open = told.open(b).unwrap();
    assert_ne!(open.header.flags & flag::EXISTING, 0);
    assert_eq!(told.stream(b, INGRESS, 4), b"reafter");
    assert_eq!(told.stream(a, EGRESS, 6), b"after");
    assert_eq!(told.stream(a, INGRESS, 0), b"answer");
}

#[test]
fn rules_leave_out_and_count() {
    let (mut a, mut b) = tcp("127.0.0.1:0");
    let address = b.local_addr().unwrap();
    let mut observer = Observer::start(Backend::Sockets);
    observer.probes.exclude_endpoint(address.ip(), address.port()).unwrap();
    a.write_all(b"not for you").unwrap();
    b.read_exact(&mut [0; 11]).unwrap();
    let (c, d) = unix();
    send(&c, b"for you", SendFlags::empty()).unwrap();
    let told = observer.until("the other", |told| !told.chunks.is_empty());
    assert_eq!(told.chunks[0].bytes, b"for you");
    let counters = observer.counters();
    // Rule 1 includes this program, rule 2 is the endpoint: a send and a receive of eleven bytes.
    assert_eq!((counters.rules[1].events, counters.rules[1].bytes), (2, 22));
    drop(d);
}

#[test]
fn what_no_include_rule_names_is_counted_apart() {
    let rules = vec![Rule { include: true, matches: Match::Port(1) }];
    let mut observer = Observer::with(ProbeOptions { rules, ..ProbeOptions::default() });
    let (a, b) = unix();
    send(&a, b"hello", SendFlags::empty()).unwrap();
    assert!(observer.drain().chunks.is_empty());
    assert!(observer.counters().not_included.bytes >= 5);
    drop(b);
}

#[test]
fn sockets_beyond_the_table_are_told_as_lost_bytes() {
    log::set_logger(&HEARD).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let mut observer = Observer::with(ProbeOptions { sockets_max: 8, ..only_this_program() });
    // The kernel may keep a few more than it was told.
    let pairs: Vec<_> = (0..200).map(|_| unix()).collect();
    for (a, _) in &pairs {
        rustix::io::write(a, &[7; 100]).unwrap();
    }
    let told = observer.until("all of it", |told| {
        let missing: u64 = told.gaps.iter().map(|gap| gap.length).sum();
        missing + told.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>() == 200 * 100
    });
    assert!(told.gaps.iter().all(|gap| gap.cause == cause::MAP_FULL && gap.socket.generation == 0));
    assert!(told.gaps.len() >= 100, "{} gaps", told.gaps.len());
    let lost = told.gaps.len() as u64;
    assert_eq!(observer.counters().wire.lost_events, lost);
    // Who runs the agent reads it in its log, once, however often it happened.
    observer.probes.pass_log();
    let heard = HEARD.0.lock().unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains("table of sockets is full"), "{heard:?}");
}

/// What the kernel side logged.
struct Heard(Mutex<Vec<String>>);

static HEARD: Heard = Heard(Mutex::new(Vec::new()));

impl log::Log for Heard {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}
