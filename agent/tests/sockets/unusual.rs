//! Rare ways to use a socket: nothing is told twice, nothing is missed, and memory that holds something else is
//! never taken for what was received.

use crate::calls::{inode, tcp};
use crate::features::{Feature, is_there, set_option};
use crate::observe::Observer;
use crate::raw::{Message, call, segment};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{cause, flag, transport};
use custody_agent::probes::Backend;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];
const SOL_SOCKET: u64 = 1;
const SOL_TCP: u64 = 6;

fn number(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn an_ipv4_client_of_an_ipv6_server_sees_the_same_addresses() {
    const AF_INET6: u16 = 10;
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let listener = TcpListener::bind("[::]:0").unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"mapped").unwrap();
        server.read_exact(&mut [0; 6]).unwrap();
        let (c, s) = (inode(&client), inode(&server));
        let told = observer.until("both", |told| told.stream(s, INGRESS, 0).len() == 6);
        assert_eq!(told.stream(c, EGRESS, 0), b"mapped");
        let plain = |end: custody_abi::Endpoint| match end.family {
            AF_INET6 => (std::net::Ipv6Addr::from(end.address).to_canonical(), end.port),
            _ => (std::net::Ipv4Addr::from_octets(end.address[..4].try_into().unwrap()).into(), end.port),
        };
        let (client_open, server_open) = (told.open(c).unwrap(), told.open(s).unwrap());
        assert_eq!(server_open.local.family, AF_INET6);
        assert_ne!(client_open.local.family, AF_INET6);
        assert_eq!(plain(client_open.local), plain(server_open.remote));
        assert_eq!(plain(client_open.remote), plain(server_open.local));
        assert_eq!(client_open.netns, server_open.netns);
    }
}

#[test]
fn a_full_send_buffer_tells_what_was_taken_and_the_rest_later() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut a, mut b) = tcp("127.0.0.1:0");
        sockopt::set_socket_send_buffer_size(&a, 20_000).unwrap();
        sockopt::set_socket_recv_buffer_size(&b, 20_000).unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let sent = pattern(700_000);
        let (mut done, mut received, mut refused, mut short) = (0, Vec::new(), 0, 0);
        let mut buffer = vec![0; 9_000];
        while received.len() < sent.len() {
            let end = sent.len().min(done + 60_000);
            match a.write(&sent[done..end]) {
                Ok(taken) => {
                    short += usize::from(taken < end - done);
                    done += taken;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    refused += 1;
                }
            }
            match b.read(&mut buffer) {
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            observer.drain();
        }
        assert!(refused > 0 && short > 0, "{refused} refused, {short} short");
        let (a, b) = (inode(&a), inode(&b));
        let told = observer.until("all", |told| told.accounted(b, INGRESS) >= sent.len() as u64);
        assert!(told.stream(a, EGRESS, 0) == sent, "{backend:?}");
        assert!(told.stream(b, INGRESS, 0) == sent, "{backend:?}");
        assert!(told.gaps.is_empty(), "{backend:?}: {:?}", told.gaps);
    }
}

#[test]
fn an_urgent_byte_in_line_is_a_byte_like_others() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = tcp("127.0.0.1:0");
        sockopt::set_socket_oobinline(&b, true).unwrap();
        send(&a, b"before", SendFlags::empty()).unwrap();
        send(&a, b"!", SendFlags::OOB).unwrap();
        send(&a, b"after", SendFlags::empty()).unwrap();
        let (mut read, mut buffer) = (0, [0; 20]);
        while read < 12 {
            read += recv(&b, &mut buffer, RecvFlags::empty()).unwrap().0;
        }
        let (a, b) = (inode(&a), inode(&b));
        let told = observer.until("all", |told| told.accounted(b, INGRESS) >= 12);
        assert_eq!(told.stream(a, EGRESS, 0), b"before!after", "{backend:?}");
        assert_eq!(told.stream(b, INGRESS, 0), b"before!after", "{backend:?}");
    }
}

#[test]
fn an_urgent_byte_beside_the_stream_is_flagged_and_leaves_a_hole_of_one() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, b) = tcp("127.0.0.1:0");
        send(&a, b"before", SendFlags::empty()).unwrap();
        send(&a, b"!", SendFlags::OOB).unwrap();
        send(&a, b"after", SendFlags::empty()).unwrap();
        let mut buffer = [0; 20];
        assert_eq!(recv(&b, &mut buffer, RecvFlags::empty()).unwrap().0, 6);
        assert_eq!(recv(&b, &mut buffer, RecvFlags::OOB).unwrap().0, 1);
        assert_eq!(buffer[0], b'!');
        assert_eq!(recv(&b, &mut buffer, RecvFlags::empty()).unwrap().0, 5);
        let (a, b) = (inode(&a), inode(&b));
        let told = observer.until("after", |told| told.chunks.iter().any(|chunk| chunk.bytes == b"after"));
        assert_eq!(told.stream(a, EGRESS, 0), b"before!after", "{backend:?}");
        let own = told.open(b).unwrap().socket;
        let seen: Vec<_> = told
            .chunks
            .iter()
            .filter(|chunk| chunk.data.socket == own)
            .map(|chunk| {
                (chunk.data.header.flags & flag::OUT_OF_BAND != 0, chunk.data.position, &chunk.bytes[..])
            })
            .collect();
        assert_eq!(seen, [(false, 0, &b"before"[..]), (true, 6, b"!"), (false, 7, b"after")], "{backend:?}");
        let gaps: Vec<_> = told.gaps(b, INGRESS).iter().map(|gap| (gap.position, gap.length)).collect();
        assert!(gaps.is_empty() || gaps == [(6, 1)], "{backend:?}: {gaps:?}");
    }
}

#[test]
fn zero_copy_sends_are_told_once_and_their_notices_are_no_traffic() {
    const SO_ZEROCOPY: u64 = 60;
    const MSG_ZEROCOPY: u64 = 0x400_0000;
    const MSG_ERRQUEUE: u64 = 0x2000;
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (a, mut b) = tcp("127.0.0.1:0");
        if !is_there(Feature::ZeroCopy, set_option(number(&a), SOL_SOCKET, SO_ZEROCOPY, &1_u32.to_ne_bytes()))
        {
            return;
        }
        let sent = pattern(40_000);
        let address = sent.as_ptr() as u64;
        assert_eq!(call(44, [number(&a), address, 40_000, MSG_ZEROCOPY, 0, 0]), 40_000);
        let mut received = vec![0; 40_000];
        b.read_exact(&mut received).unwrap();
        let (control, byte) = ([0_u64; 16], [b'?'; 8]);
        let into = [segment(&byte)];
        let message = Message::with_control(&into, &control);
        let notice = || call(47, [number(&a), &raw const message as u64, MSG_ERRQUEUE, 0, 0, 0]);
        while notice() < 0 {}
        send(&a, b"after", SendFlags::empty()).unwrap();
        b.read_exact(&mut received[..5]).unwrap();
        let (a, b) = (inode(&a), inode(&b));
        let told = observer.until("all", |told| told.accounted(b, INGRESS) >= 40_005);
        let expected = [&sent[..], b"after"].concat();
        assert!(told.stream(a, EGRESS, 0) == expected, "{backend:?}");
        assert!(told.stream(b, INGRESS, 0) == expected, "{backend:?}");
        assert_eq!(told.accounted(a, INGRESS), 0, "{backend:?}: a notice is no traffic");
    }
}

fn mptcp() -> Result<OwnedFd, rustix::io::Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::MPTCP))
}

/// A listener of MPTCP, or `None` where the kernel has none.
fn mptcp_listener() -> Option<TcpListener> {
    let made = mptcp();
    let result = made.as_ref().map_or_else(|error| -i64::from(error.raw_os_error()), |_| 0);
    if !is_there(Feature::Mptcp, result) {
        return None;
    }
    let listener = made.unwrap();
    rustix::net::bind(&listener, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&listener, 4).unwrap();
    Some(listener.into())
}

#[test]
fn mptcp_is_recognised_and_counted() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let Some(listener) = mptcp_listener() else { return };
        let client = mptcp().unwrap();
        rustix::net::connect(&client, &listener.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::from(client);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"over several ways").unwrap();
        server.read_exact(&mut [0; 17]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        let (c, s) = (inode(&client), inode(&server));
        let told = observer.until("the answer", |told| told.accounted(c, INGRESS) >= 6);
        for end in [c, s] {
            assert_eq!(told.open(end).unwrap().transport, transport::MPTCP, "{backend:?}");
        }
        let accounts = [told.accounted(c, EGRESS), told.accounted(s, INGRESS), told.accounted(s, EGRESS)];
        assert_eq!(accounts, [17, 17, 6], "{backend:?}");
        // The TCP sockets below it are no connections of their own.
        let port = listener.local_addr().unwrap().port();
        let below = |open: &&custody_abi::SocketOpen| {
            open.transport == transport::TCP && (open.local.port == port || open.remote.port == port)
        };
        assert_eq!(told.opens.iter().filter(below).count(), 0, "{backend:?}");
    }
}

/// Go's servers listen so, and most of their clients know nothing of it.
#[test]
fn a_plain_client_of_an_mptcp_server_is_told_in_full() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let Some(listener) = mptcp_listener() else { return };
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"plain").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        let (c, s) = (inode(&client), inode(&server));
        let told = observer.until("both", |told| told.accounted(s, INGRESS) >= 5);
        assert_eq!(told.stream(c, EGRESS, 0), b"plain", "{backend:?}");
        assert_eq!(told.stream(s, INGRESS, 0), b"plain", "{backend:?}");
    }
}

#[test]
fn kernel_tls_is_recognised_and_counted() {
    const TCP_ULP: u64 = 31;
    const SOL_TLS: u64 = 282;
    let mut observer = Observer::start(Backend::Sockets);
    let (a, mut b) = tcp("127.0.0.1:0");
    if !is_there(Feature::KernelTls, set_option(number(&a), SOL_TCP, TCP_ULP, b"tls")) {
        return;
    }
    // TLS 1.2, AES-GCM-128, with a key of zeros: version, cipher, iv, key, salt, sequence.
    let keys = [&[3, 3, 51, 0][..], &[0; 36]].concat();
    assert_eq!(set_option(number(&a), SOL_TLS, 1, &keys), 0);
    send(&a, b"never in the record", SendFlags::empty()).unwrap();
    // Five bytes of header, eight of nonce, sixteen of tag around it.
    b.read_exact(&mut [0; 48]).unwrap();
    let told = observer.until("the record", |told| told.accounted(inode(&b), INGRESS) >= 48);
    assert!(told.stream(inode(&a), EGRESS, 0).is_empty());
    assert!(told.accounted(inode(&a), EGRESS) >= 19);
}

/// The end of a call by its time limit is not told, so nobody knows which message a later call begins with.
#[test]
fn a_time_limit_of_recvmmsg_never_shows_another_messages_buffer() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").unwrap();
        a.connect(b.local_addr().unwrap()).unwrap();
        let buffers = [*b"stale-1", *b"stale-2", *b"stale-3"];
        let into = [[segment(&buffers[0])], [segment(&buffers[1])], [segment(&buffers[2])]];
        let messages = [Message::of(&into[0]), Message::of(&into[1]), Message::of(&into[2])];
        let receive = |nanoseconds: u64| {
            let limit = [0_u64, nanoseconds];
            let of = messages.as_ptr() as u64;
            call(299, [number(&b), of, 3, 0, limit.as_ptr() as u64, 0])
        };
        a.send(b"datum 1").unwrap();
        // The limit is looked at after each message: of no time at all, one message is the whole of the call.
        assert_eq!(receive(1), 1);
        for text in [b"datum 2", b"datum 3", b"datum 4"] {
            a.send(text).unwrap();
        }
        assert_eq!(receive(900_000_000), 3);
        let receiver = inode(&b);
        let told = observer.until("four", |told| {
            let own = told.open(receiver).map(|open| open.socket);
            let chunks = told.chunks.iter().filter(|chunk| Some(chunk.data.socket) == own);
            chunks.count() + told.gaps(receiver, INGRESS).len() >= 4
        });
        let own = told.open(receiver).unwrap().socket;
        let mut places: Vec<_> =
            told.gaps(receiver, INGRESS).iter().map(|gap| (gap.position, gap.length)).collect();
        for chunk in told.chunks.iter().filter(|chunk| chunk.data.socket == own) {
            let expected = format!("datum {}", chunk.data.position + 1);
            assert_eq!(String::from_utf8_lossy(&chunk.bytes), expected, "{backend:?}");
            places.push((chunk.data.position, chunk.bytes.len() as u64));
        }
        places.sort_unstable();
        assert_eq!(places, [(0, 7), (1, 7), (2, 7), (3, 7)], "{backend:?}");
        assert!(told.gaps.iter().all(|gap| gap.cause == cause::NO_PAYLOAD));
    }
}

#[test]
fn a_close_with_unread_bytes_ends_where_the_reading_ended() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut a, mut b) = tcp("127.0.0.1:0");
    a.write_all(b"read|never read").unwrap();
    b.read_exact(&mut [0; 5]).unwrap();
    let (a_inode, b_inode) = (inode(&a), inode(&b));
    drop(b);
    while recv(&a, &mut [0; 10], RecvFlags::empty()).is_ok_and(|(read, _)| read > 0) {}
    drop(a);
    let told = observer.until("both ends", |told| told.closes.len() >= 2);
    assert_eq!(told.stream(b_inode, INGRESS, 0), b"read|");
    assert_eq!(told.stream(a_inode, EGRESS, 0), b"read|never read");
    let open = told.open(b_inode).unwrap().socket;
    let close = told.closes.iter().find(|close| close.socket == open).unwrap();
    assert_eq!(close.ingress_position, 5, "what nobody read is not missing from what was read");
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
}
