//! Calls that do less than they were asked, more than one thing, or something beside the stream.

use crate::calls::{inode, tcp, unix};
use crate::features::{Feature, offered};
use crate::observe::{Observer, only_this_program};
use crate::raw::{Message, call, segment, set_option};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{cause, flag};
use custody_agent::probes::{Backend, ProbeOptions};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{Read, Write};
use std::net::UdpSocket;

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];
const RECVMSG: u64 = 47;
const RECVMMSG: u64 = 299;
const SENDMMSG: u64 = 307;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_ERRQUEUE: u64 = 0x2000;
const MSG_ZEROCOPY: u64 = 0x400_0000;

fn fd(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

/// Bytes of which no two stretches are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + at / 65_521) as u8).collect()
}

fn roomy(backend: Backend) -> Observer {
    Observer::with(ProbeOptions { backend: Some(backend), data_ring_bytes: 32 << 20, ..only_this_program() })
}

/// Writes `text` without blocking, in pieces that never fit, reading at the other end only when nothing goes any
/// more. Gives how often a call failed and how often it did less than asked.
fn squeeze(writer: &OwnedFd, reader: &OwnedFd, text: &[u8]) -> (usize, usize) {
    const PIECE: usize = 400_000;
    rustix::io::ioctl_fionbio(writer, true).unwrap();
    let (mut sent, mut read, mut refused, mut short) = (0, 0, 0, 0);
    let mut buffer = vec![0; 90_000];
    while read < text.len() {
        let piece = &text[sent..text.len().min(sent + PIECE)];
        match send(writer, piece, SendFlags::empty()) {
            Ok(some) => {
                short += usize::from(some < piece.len());
                sent += some;
                if sent < text.len() {
                    continue;
                }
            }
            Err(rustix::io::Errno::AGAIN) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        while read < sent {
            let (_, some) = recv(reader, &mut buffer, RecvFlags::empty()).unwrap();
            assert!(buffer[..some] == text[read..read + some]);
            read += some;
        }
    }
    (refused, short)
}

#[test]
fn calls_that_are_refused_or_cut_short_tell_each_byte_once() {
    for backend in BACKENDS {
        let text = pattern(9_000_000);
        let (client, server) = tcp("127.0.0.1:0");
        for (writer, reader) in [(OwnedFd::from(server), OwnedFd::from(client)), unix()] {
            let mut observer = roomy(backend);
            let (refused, short) = squeeze(&writer, &reader, &text);
            assert!(refused > 0 && short > 0, "nothing was tried: {refused} refused, {short} short");
            let own = inode(&writer);
            let told = observer.until("all", |told| told.accounted(own, EGRESS) >= text.len() as u64);
            assert!(told.stream(own, EGRESS, 0) == text, "{backend:?}");
            assert!(told.gaps.is_empty(), "{:?}", told.gaps);
        }
    }
}

#[test]
fn a_message_list_that_stops_in_the_middle_is_not_mistaken_for_its_rest() {
    let mut observer = roomy(Backend::Sockets);
    let (a, b) = unix();
    rustix::io::ioctl_fionbio(&a, true).unwrap();
    let (large, small) = (pattern(3_000_000), [b'S'; 100]);
    let (first, second) = ([segment(&large)], [segment(&small)]);
    let mut messages = [Message::of(&first), Message::of(&second)];
    // Only a part of the first message fits: that ends the call without an error.
    assert_eq!(call(SENDMMSG, [fd(&a), messages.as_mut_ptr() as u64, 2, 0, 0, 0]), 1);
    let sent = usize::try_from(messages[0].length).unwrap();
    assert!((1..large.len()).contains(&sent), "{sent} bytes went");
    let mut buffer = vec![0; 400_000];
    let mut read = 0;
    while read < sent {
        read += recv(&b, &mut buffer, RecvFlags::empty()).unwrap().1;
    }
    let short = [b'A'; 50];
    let (first, second) = ([segment(&short)], [segment(&small)]);
    // The same list again, as a program does that keeps one.
    messages = [Message::of(&first), Message::of(&second)];
    assert_eq!(call(SENDMMSG, [fd(&a), messages.as_mut_ptr() as u64, 2, 0, 0, 0]), 2);
    let own = inode(&a);
    let whole = (sent + 150) as u64;
    let told = observer.until("all", |told| told.accounted(own, EGRESS) >= whole);
    let expected = [&large[..sent], &short, &small].concat();
    let open = told.open(own).unwrap().socket;
    for chunk in told.chunks.iter().filter(|c| c.data.socket == open && c.data.direction == EGRESS) {
        let at = chunk.data.position as usize;
        assert!(chunk.bytes == expected[at..at + chunk.bytes.len()], "not what was sent at {at}");
    }
    assert_eq!(told.accounted(own, EGRESS), whole);
    drop(b);
}

#[test]
fn a_message_of_too_many_segments_to_be_summed_makes_the_next_a_gap_and_no_guess() {
    let mut observer = Observer::start(Backend::Sockets);
    let (a, b) = unix();
    let (first, second) = ([segment(b"s"); 17], [segment(b"next")]);
    let messages = [Message::of(&first), Message::of(&second)];
    assert_eq!(call(SENDMMSG, [fd(&a), messages.as_ptr() as u64, 2, 0, 0, 0]), 2);
    // A list of its own begins anew.
    let other = [Message::of(&second)];
    assert_eq!(call(SENDMMSG, [fd(&a), other.as_ptr() as u64, 1, 0, 0, 0]), 1);
    let own = inode(&a);
    let told = observer.until("all", |told| told.accounted(own, EGRESS) >= 25);
    let missing: Vec<_> = told.gaps(own, EGRESS).iter().map(|gap| (gap.position, gap.length)).collect();
    assert_eq!(missing, [(17, 4)]);
    let last = told.chunks.last().unwrap();
    assert_eq!((last.data.position, last.bytes.as_slice()), (21, &b"next"[..]));
    drop(b);
}

/// `struct timespec`.
fn seconds(seconds: u64, nanoseconds: u64) -> [u64; 2] {
    [seconds, nanoseconds]
}

#[test]
fn messages_received_under_a_time_limit_are_each_told_or_missing_with_their_length() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        for text in ["one", "three", "sixteen"] {
            a.send(text.as_bytes()).unwrap();
        }
        let buffers = [[0_u8; 20]; 3];
        let parts = buffers.each_ref().map(|buffer| [segment(buffer)]);
        let into = parts.each_ref().map(|part| Message::of(part));
        let limit = seconds(5, 0);
        let arguments = [fd(&b), into.as_ptr() as u64, 3, 0, limit.as_ptr() as u64, 0];
        assert_eq!(call(RECVMMSG, arguments), 3);
        let own = inode(&b);
        let told = observer.until("three", |told| told.accounted(own, INGRESS) >= 15);
        assert_eq!(told.accounted(own, INGRESS), 15, "{backend:?}");
        let open = told.open(own).unwrap().socket;
        for chunk in told.chunks.iter().filter(|chunk| chunk.data.socket == open) {
            let expected = ["one", "three", "sixteen"][chunk.data.position as usize];
            assert_eq!(chunk.bytes, expected.as_bytes());
        }
        let missing: Vec<_> =
            told.gaps(own, INGRESS).iter().map(|gap| (gap.position, gap.length, gap.cause)).collect();
        let expected: &[_] = match backend {
            // Which message is told is not sure under a limit, so the bytes are left out rather than guessed.
            Backend::Sockets => &[(1, 5, cause::NO_PAYLOAD), (2, 7, cause::NO_PAYLOAD)],
            Backend::SystemCalls => &[],
        };
        assert_eq!(missing, expected, "{backend:?}");
    }
}

#[test]
fn a_time_limit_that_ended_a_list_leaves_nothing_behind_for_the_next() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        let buffers = [*b"stale memory number one.", *b"stale memory number two."];
        let parts = buffers.each_ref().map(|buffer| [segment(buffer)]);
        let into = parts.each_ref().map(|part| Message::of(part));
        a.send(b"before").unwrap();
        // The limit is over at once, which is looked at only after a message came.
        let limit = seconds(0, 0);
        assert_eq!(call(RECVMMSG, [fd(&b), into.as_ptr() as u64, 2, 0, limit.as_ptr() as u64, 0]), 1);
        a.send(b"after").unwrap();
        assert_eq!(call(RECVMMSG, [fd(&b), into.as_ptr() as u64, 2, MSG_DONTWAIT, 0, 0]), 1);
        let own = inode(&b);
        let told = observer.until("both", |told| told.accounted(own, INGRESS) >= 11);
        let open = told.open(own).unwrap().socket;
        let texts: Vec<_> = told.chunks.iter().filter(|chunk| chunk.data.socket == open).collect();
        let texts: Vec<_> = texts.iter().map(|chunk| chunk.bytes.as_slice()).collect();
        assert_eq!(texts, [&b"before"[..], b"after"], "{backend:?}");
    }
}

#[test]
fn an_urgent_byte_that_is_read_apart_does_not_move_the_stream() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = tcp("127.0.0.1:0");
        send(&a, b"abc", SendFlags::empty()).unwrap();
        send(&a, b"!", SendFlags::OOB).unwrap();
        send(&a, b"def", SendFlags::empty()).unwrap();
        let mut buffer = [0; 20];
        // Read before the bytes that stand before it.
        assert_eq!(recv(&b, &mut buffer, RecvFlags::OOB).unwrap().1, 1);
        assert_eq!(buffer[0], b'!');
        assert_eq!(recv(&b, &mut buffer, RecvFlags::empty()).unwrap().1, 3);
        assert_eq!(recv(&b, &mut buffer, RecvFlags::empty()).unwrap().1, 3);
        let (own, end) = (inode(&a), inode(&b));
        let told =
            observer.until("all", |told| told.chunks.iter().filter(|c| c.bytes == b"def").count() == 2);
        assert_eq!(told.stream(own, EGRESS, 0), b"abc!def", "{backend:?}");
        let open = told.open(end).unwrap().socket;
        let read = |beside: bool| {
            let chunks = told.chunks.iter().filter(move |chunk| {
                chunk.data.socket == open && (chunk.data.header.flags & flag::OUT_OF_BAND != 0) == beside
            });
            chunks.map(|chunk| (chunk.data.position, chunk.bytes.as_slice())).collect::<Vec<_>>()
        };
        assert_eq!(read(false), [(0, &b"abc"[..]), (4, b"def")]);
        assert_eq!(read(true).iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [b"!"]);
        let missing: Vec<_> = told.gaps(end, INGRESS).iter().map(|gap| (gap.position, gap.length)).collect();
        assert_eq!(missing, [(3, 1)], "its place in the stream is said");
    }
}

#[test]
fn an_urgent_byte_that_is_left_in_line_is_part_of_the_stream() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = tcp("127.0.0.1:0");
        rustix::net::sockopt::set_socket_oobinline(&b, true).unwrap();
        send(&a, b"abc", SendFlags::empty()).unwrap();
        send(&a, b"!", SendFlags::OOB).unwrap();
        send(&a, b"def", SendFlags::empty()).unwrap();
        let mut read = Vec::new();
        while read.len() < 7 {
            let mut buffer = [0; 20];
            let (_, some) = recv(&b, &mut buffer, RecvFlags::empty()).unwrap();
            read.extend_from_slice(&buffer[..some]);
        }
        assert_eq!(read, b"abc!def");
        let end = inode(&b);
        let told = observer.until("all", |told| told.accounted(end, INGRESS) >= 7);
        assert_eq!(told.stream(end, INGRESS, 0), b"abc!def", "{backend:?}");
        assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    }
}

#[test]
fn a_send_without_a_copy_is_told_with_its_bytes_and_its_notice_is_no_traffic() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut client, server) = tcp("127.0.0.1:0");
        if !offered(
            Feature::ZeroCopy,
            set_option(&server, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &1_i32.to_ne_bytes()),
        ) {
            return;
        }
        let text = pattern(30_000);
        let mut sent = 0;
        while sent < text.len() {
            let rest = &text[sent..];
            let arguments = [fd(&server), rest.as_ptr() as u64, rest.len() as u64, MSG_ZEROCOPY, 0, 0];
            sent += usize::try_from(call(44, arguments)).unwrap();
        }
        let mut read = vec![0; text.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == text);
        let (control, buffer) = ([0_u64; 16], *b"stale memory");
        let part = [segment(&buffer)];
        let notice = Message::of(&part).with_control(&control);
        let mut tries = 0;
        while call(RECVMSG, [fd(&server), &raw const notice as u64, MSG_ERRQUEUE | MSG_DONTWAIT, 0, 0, 0]) < 0
        {
            tries += 1;
            assert!(tries < 1000, "no notice that the memory is free again");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        (&server).write_all(b"after").unwrap();
        client.write_all(b"answer").unwrap();
        (&server).read_exact(&mut [0; 6]).unwrap();
        let end = inode(&server);
        let told = observer.until("the answer", |told| told.accounted(end, INGRESS) >= 6);
        assert_eq!(told.stream(end, INGRESS, 0), b"answer");
        assert!(told.stream(end, EGRESS, 0) == [&text[..], b"after"].concat(), "{backend:?}");
        assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    }
}

#[test]
fn a_receive_without_a_copy_is_a_gap_with_its_length() {
    const TCP_ZEROCOPY_RECEIVE: u64 = 35;
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut client, mut server) = tcp("127.0.0.1:0");
        client.write_all(b"before").unwrap();
        server.read_exact(&mut [0; 6]).unwrap();
        client.write_all(b"by no call that receives").unwrap();
        // `struct tcp_zerocopy_receive`: what is too small to be mapped goes to a buffer beside. The call is none of
        // those that receive.
        let buffer = [0_u8; 100];
        let mut wanted = [0, 0, 0, buffer.as_ptr() as u64, buffer.len() as u64, 0, 0, 0];
        let mut size = size_of_val(&wanted) as u64;
        let arguments =
            [fd(&server), 6, TCP_ZEROCOPY_RECEIVE, wanted.as_mut_ptr() as u64, (&raw mut size) as u64, 0];
        assert_eq!(call(55, arguments), 0);
        assert_eq!((wanted[4] as u32, &buffer[..24]), (24, &b"by no call that receives"[..]));
        client.write_all(b"after").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        let end = inode(&server);
        let told = observer.until("all", |told| told.accounted(end, INGRESS) >= 35);
        let missing: Vec<_> =
            told.gaps(end, INGRESS).iter().map(|gap| (gap.position, gap.length, gap.cause)).collect();
        assert_eq!(missing, [(6, 24, cause::NO_PAYLOAD)], "{backend:?}");
        let last = told.chunks.iter().rfind(|chunk| chunk.data.direction == INGRESS).unwrap();
        assert_eq!((last.data.position, last.bytes.as_slice()), (30, &b"after"[..]));
    }
}

#[test]
fn a_datagram_that_came_back_by_the_error_queue_is_no_traffic() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_option(&a, libc::IPPROTO_IP, libc::IP_RECVERR, &1_i32.to_ne_bytes()).unwrap();
        // A port on which nobody listens: it was free a moment ago.
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        a.connect(nobody).unwrap();
        a.send(b"returned to sender").unwrap();
        let (control, buffer) = ([0_u64; 32], [0; 50]);
        let part = [segment(&buffer)];
        let notice = Message::of(&part).with_control(&control);
        let mut tries = 0;
        let length = loop {
            let length =
                call(RECVMSG, [fd(&a), &raw const notice as u64, MSG_ERRQUEUE | MSG_DONTWAIT, 0, 0, 0]);
            if length >= 0 {
                break length;
            }
            tries += 1;
            assert!(tries < 1000, "the error never came");
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!((length, &buffer[..18]), (18, &b"returned to sender"[..]));
        // To itself, so that something is received after it.
        a.connect(a.local_addr().unwrap()).unwrap();
        a.send(b"real").unwrap();
        a.recv(&mut [0; 10]).unwrap();
        let own = inode(&a);
        let told = observer.until("the real one", |told| told.accounted(own, INGRESS) >= 4);
        assert_eq!(told.accounted(own, INGRESS), 4, "{backend:?}");
        assert_eq!(told.accounted(own, EGRESS), 22);
    }
}

#[test]
fn a_socket_that_is_closed_with_unread_bytes_ends_where_reading_ended() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut a, mut b) = tcp("127.0.0.1:0");
        a.write_all(b"read and unread").unwrap();
        b.read_exact(&mut [0; 4]).unwrap();
        b.write_all(b"enough").unwrap();
        let (own, end) = (inode(&a), inode(&b));
        drop(b);
        let mut rest = Vec::new();
        let _ = a.read_to_end(&mut rest);
        drop(a);
        let of = |told: &crate::observe::Told, inode| {
            let open = told.open(inode)?.socket;
            told.closes.iter().find(|close| close.socket == open).copied()
        };
        let told = observer.until("both ends", |told| of(told, own).is_some() && of(told, end).is_some());
        let close = of(told, end).unwrap();
        assert_eq!((close.ingress_position, close.egress_position), (4, 6), "{backend:?}");
        assert_eq!(of(told, own).unwrap().egress_position, 15, "what was sent was sent");
        assert_eq!(told.stream(end, INGRESS, 0), b"read");
        assert!(told.gaps.is_empty(), "nobody read it, so nothing is missing: {:?}", told.gaps);
    }
}
