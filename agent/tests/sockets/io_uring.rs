//! What io_uring moves: with its bytes, or missing with its length; never another call's memory, and never silence.

use crate::calls::{inode, tcp, unix};
use crate::features::{Feature, offered};
use crate::observe::{Observer, Told};
use crate::raw::{Message, call, segment};
use crate::uring::{ASYNC, POLLED, Uring, operation};
use custody_abi::cause;
use custody_abi::direction::{EGRESS, INGRESS};
use custody_agent::probes::Backend;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send};

const STALE: [u8; 40] = *b"stale memory, which nobody sent or read.";

fn ring(flags: u32) -> Option<Uring> {
    match Uring::new(flags) {
        Ok(ring) => Some(ring),
        Err(refusal) => {
            assert!(!offered(Feature::IoUring, Err::<(), _>(refusal)));
            None
        }
    }
}

/// Each byte of one direction is told where it was in `stream`, or missing, and together they are all of it.
fn assert_true(told: &Told, inode: u64, direction: u8, stream: &[u8]) {
    let open = told.open(inode).unwrap().socket;
    let own = told.chunks.iter().filter(|c| c.data.socket == open && c.data.direction == direction);
    let mut pieces: Vec<(usize, usize)> = own
        .map(|chunk| {
            let at = chunk.data.position as usize;
            let text = String::from_utf8_lossy(&chunk.bytes);
            assert_eq!(text, String::from_utf8_lossy(&stream[at..at + chunk.bytes.len()]), "at {at}");
            (at, chunk.bytes.len())
        })
        .collect();
    for gap in told.gaps(inode, direction) {
        assert_eq!(gap.cause, cause::NO_PAYLOAD);
        pieces.push((gap.position as usize, gap.length as usize));
    }
    pieces.sort_unstable();
    let mut next = 0;
    for (at, length) in pieces {
        assert_eq!(at, next, "each byte once, or said to be missing once");
        next += length;
    }
    assert_eq!(next, stream.len());
}

/// Every way to send and to receive, over one pair; gives what was sent.
fn every_way(ring: &Uring, flags: u8, a: &OwnedFd, b: &OwnedFd) -> Vec<u8> {
    let mut sent = Vec::new();
    let buffer = STALE;
    let room = [segment(&buffer)];
    let into = Message::of(&room);
    let (message, list, whole) = ((&raw const into) as u64, room.as_ptr() as u64, buffer.as_ptr() as u64);
    ring.register(&buffer);
    for (way, text) in [
        (operation::SEND, &b"send, "[..]),
        (operation::WRITE, b"write, "),
        (operation::SENDMSG, b"sendmsg, "),
        (operation::WRITEV, b"writev, "),
    ] {
        for (back, length, address) in [
            (operation::RECV, buffer.len(), whole),
            (operation::READ, buffer.len(), whole),
            (operation::RECVMSG, 1, message),
            (operation::READV, 1, list),
            (operation::READ_FIXED, buffer.len(), whole),
        ] {
            let parts = [segment(text)];
            let out = Message::of(&parts);
            let (address_out, length_out) = match way {
                operation::SENDMSG => ((&raw const out) as u64, 1),
                operation::WRITEV => (parts.as_ptr() as u64, 1),
                _ => (text.as_ptr() as u64, text.len()),
            };
            let expected = i32::try_from(text.len()).unwrap();
            assert_eq!(ring.run(way, flags, a, address_out, length_out), expected, "operation {way}");
            sent.extend_from_slice(text);
            assert_eq!(ring.run(back, flags, b, address, length), expected, "operation {back}");
        }
    }
    // What was received last is sent on from the ring's own buffer.
    assert_eq!(ring.run(operation::WRITE_FIXED, flags, a, whole, 6), 6);
    sent.extend_from_slice(b"writev");
    assert_eq!(ring.run(operation::RECV, flags, b, whole, 40), 6);
    sent
}

fn every_way_with(ring_flags: u32, flags: u8, pair: impl Fn() -> (OwnedFd, OwnedFd)) {
    let Some(ring) = ring(ring_flags) else { return };
    let mut observer = Observer::start(Backend::Sockets);
    let (a, b) = pair();
    let sent = every_way(&ring, flags, &a, &b);
    let (own, end) = (inode(&a), inode(&b));
    let all = sent.len() as u64;
    let told = observer
        .until("all", |told| told.accounted(own, EGRESS) >= all && told.accounted(end, INGRESS) >= all);
    assert_true(told, own, EGRESS, &sent);
    assert_true(told, end, INGRESS, &sent);
    assert_eq!(told.data_before_open, 0);
}

fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let (a, b) = tcp("127.0.0.1:0");
    (a.into(), b.into())
}

#[test]
fn every_operation_over_tcp() {
    every_way_with(0, 0, tcp_pair);
}

#[test]
fn every_operation_over_unix_streams() {
    every_way_with(0, 0, unix);
}

#[test]
fn every_operation_by_worker_threads() {
    every_way_with(0, ASYNC, tcp_pair);
    every_way_with(0, ASYNC, unix);
}

#[test]
fn every_operation_by_the_polling_thread() {
    every_way_with(POLLED, 0, tcp_pair);
}

#[test]
fn what_is_sent_over_tcp_has_its_bytes() {
    for (ring_flags, flags) in [(0, 0), (0, ASYNC), (POLLED, 0)] {
        let Some(ring) = ring(ring_flags) else { return };
        let mut observer = Observer::start(Backend::Sockets);
        let (a, b) = tcp_pair();
        for way in [operation::SEND, operation::WRITE, operation::SEND_ZC] {
            assert_eq!(ring.run(way, flags, &a, b"words, ".as_ptr() as u64, 7), 7, "operation {way}");
        }
        recv(&b, &mut [0; 21], RecvFlags::WAITALL).unwrap();
        let own = inode(&a);
        let told = observer.until("all", |told| told.accounted(own, EGRESS) >= 21);
        assert_eq!(told.stream(own, EGRESS, 0), b"words, words, words, ");
    }
}

/// The kernel finishes a receive that had to wait when the thread leaves whatever system call it is in. Then the
/// thread's registers name that call's buffer, which has nothing to do with it.
#[test]
fn a_receive_that_ends_inside_another_call_does_not_show_that_calls_memory() {
    for pair in [tcp_pair, unix] {
        let Some(ring) = ring(0) else { return };
        let mut observer = Observer::start(Backend::Sockets);
        let (a, b) = pair();
        let (c, d) = pair();
        let received = STALE;
        ring.submit(operation::RECV, 0, &b, received.as_ptr() as u64, received.len());
        let late = std::thread::spawn({
            let (a, c) = (rustix::io::dup(&a).unwrap(), rustix::io::dup(&c).unwrap());
            move || {
                std::thread::sleep(std::time::Duration::from_millis(100));
                send(&a, b"for the ring", SendFlags::empty()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
                send(&c, b"for the call", SendFlags::empty()).unwrap();
            }
        });
        let buffer = STALE;
        let fd = u64::try_from(d.as_raw_fd()).unwrap();
        assert_eq!(call(0, [fd, buffer.as_ptr() as u64, buffer.len() as u64, 0, 0, 0]), 12);
        late.join().unwrap();
        assert_eq!(ring.wait(), 12);
        assert_eq!(&received[..12], b"for the ring");
        let (ring_end, call_end) = (inode(&b), inode(&d));
        let told = observer.until("both", |told| {
            told.accounted(ring_end, INGRESS) >= 12 && told.accounted(call_end, INGRESS) >= 12
        });
        assert_true(told, ring_end, INGRESS, b"for the ring");
        assert_eq!(told.stream(call_end, INGRESS, 0), b"for the call");
    }
}

/// The same for a send that waited for room.
#[test]
fn a_send_that_ends_inside_another_call_does_not_show_that_calls_memory() {
    let Some(ring) = ring(0) else { return };
    let mut observer = Observer::start(Backend::Sockets);
    let (a, b) = unix();
    let (c, d) = unix();
    let mut sent = Vec::new();
    while let Ok(some) = send(&a, &[b'.'; 4000], SendFlags::DONTWAIT) {
        sent.extend_from_slice(&[b'.'; 4000][..some]);
    }
    let text = *b"waited for room";
    ring.submit(operation::SEND, 0, &a, text.as_ptr() as u64, text.len());
    let before = sent.len();
    sent.extend_from_slice(&text);
    let other = std::thread::spawn({
        let (b, d) = (rustix::io::dup(&b).unwrap(), rustix::io::dup(&d).unwrap());
        move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let mut buffer = vec![0; 1 << 20];
            let mut read = 0;
            while read < before {
                read += recv(&b, &mut buffer, RecvFlags::empty()).unwrap().1;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            // Makes room for the call.
            while recv(&d, &mut buffer, RecvFlags::DONTWAIT).is_ok() {}
        }
    });
    while send(&c, &[b'-'; 4000], SendFlags::DONTWAIT).is_ok() {}
    // Waits for room in another socket, with another buffer.
    let fd = u64::try_from(c.as_raw_fd()).unwrap();
    assert_eq!(call(1, [fd, STALE.as_ptr() as u64, STALE.len() as u64, 0, 0, 0]), 40);
    other.join().unwrap();
    assert_eq!(ring.wait(), 15);
    let own = inode(&a);
    let told = observer.until("all", |told| told.accounted(own, EGRESS) >= sent.len() as u64);
    assert_true(told, own, EGRESS, &sent);
    drop(d);
}
