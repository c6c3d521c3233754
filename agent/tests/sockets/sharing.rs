//! One socket in several hands, one number for several sockets, and one connection in two families: who is told,
//! and where.

use crate::calls::{inode, tcp, unix};
use crate::observe::{Chunk, Observer, Told};
use crate::raw::{call, forked};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_abi::{flag, role};
use custody_agent::probes::Backend;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];
const WRITE: u64 = 1;

fn fd(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

/// Chunks of one direction of a socket, whoever moved them, in the order told: position, who, bytes.
fn by_anyone(told: &Told, inode: u64, direction: u8) -> Vec<(u64, u32, &[u8])> {
    let Some(open) = told.open(inode) else { return vec![] };
    let own = |chunk: &&Chunk| chunk.data.socket == open.socket && chunk.data.direction == direction;
    let chunks = told.chunks.iter().chain(&told.elsewhere).filter(own);
    let mut all: Vec<_> =
        chunks.map(|chunk| (chunk.data.position, chunk.data.task.pid, chunk.bytes.as_slice())).collect();
    all.sort_by_key(|(position, ..)| *position);
    all
}

#[test]
fn two_numbers_of_one_socket_are_one_stream() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut client, mut server) = tcp("127.0.0.1:0");
        let mut again = client.try_clone().unwrap();
        client.write_all(b"one, ").unwrap();
        again.write_all(b"two, ").unwrap();
        // A number that is closed takes nothing along.
        let own = inode(&client);
        drop(client);
        again.write_all(b"three").unwrap();
        server.read_exact(&mut [0; 15]).unwrap();
        let end = inode(&server);
        let told = observer.until("all", |told| told.stream(end, INGRESS, 0).len() == 15);
        assert_eq!(told.stream(own, EGRESS, 0), b"one, two, three", "{backend:?}");
        assert_eq!(told.opens.iter().filter(|open| open.inode == own).count(), 1);
        assert!(told.closes.is_empty() && told.gaps.is_empty());
        drop(again);
    }
}

#[test]
fn a_child_that_writes_its_parents_socket_is_named_and_goes_on_where_the_parent_stopped() {
    for backend in BACKENDS {
        for (a, mut b) in [
            {
                let (a, b) = tcp("127.0.0.1:0");
                (OwnedFd::from(a), std::fs::File::from(OwnedFd::from(b)))
            },
            {
                let (a, b) = unix();
                (a, std::fs::File::from(b))
            },
        ] {
            let mut observer = Observer::start(backend);
            rustix::io::write(&a, b"parent, ").unwrap();
            let text = b"child, ";
            let child =
                forked(|| call(WRITE, [fd(&a), text.as_ptr() as u64, text.len() as u64, 0, 0, 0]) == 7);
            rustix::io::write(&a, b"parent again").unwrap();
            b.read_exact(&mut [0; 27]).unwrap();
            let (own, end) = (inode(&a), inode(&b));
            let told = observer.until("all", |told| told.accounted(end, INGRESS) == 27);
            let parent = std::process::id();
            assert_eq!(
                by_anyone(told, own, EGRESS),
                [(0, parent, &b"parent, "[..]), (8, child, b"child, "), (15, parent, b"parent again")],
                "{backend:?}"
            );
            assert_eq!(told.opens.iter().filter(|open| open.inode == own).count(), 1);
            assert!(told.gaps.is_empty(), "{:?}", told.gaps);
        }
    }
}

#[test]
fn a_child_that_ends_does_not_end_its_parents_socket() {
    let mut observer = Observer::start(Backend::Sockets);
    let (mut client, mut server) = tcp("127.0.0.1:0");
    client.write_all(b"before").unwrap();
    forked(|| true);
    client.write_all(b", after").unwrap();
    server.read_exact(&mut [0; 13]).unwrap();
    let end = inode(&server);
    let told = observer.until("all", |told| told.stream(end, INGRESS, 0).len() == 13);
    assert_eq!(told.stream(inode(&client), EGRESS, 0), b"before, after");
    assert!(told.closes.is_empty());
}

/// Sends a descriptor over a unix socket, with a byte that carries it.
fn pass(over: &OwnedFd, passed: &impl AsFd) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [passed.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    rustix::net::sendmsg(over, &[IoSlice::new(b"!")], &mut control, SendFlags::empty()).unwrap();
}

/// Receives what [`pass`] sent.
fn take(over: &OwnedFd) -> OwnedFd {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(over, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::empty()).unwrap();
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.unwrap()
}

#[test]
fn a_socket_that_was_passed_on_is_the_same_stream_in_the_hands_of_another() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut client, mut server) = tcp("127.0.0.1:0");
        let (near, far) = unix();
        client.write_all(b"giver, ").unwrap();
        let own = inode(&client);
        pass(&near, &client);
        // The giver has no number for it any more: it lives in the message alone.
        drop(client);
        let child = forked(|| {
            let taken = take(&far);
            rustix::io::write(&taken, b"taker").is_ok_and(|written| written == 5)
        });
        server.read_exact(&mut [0; 12]).unwrap();
        let end = inode(&server);
        let told = observer.until("all", |told| told.stream(end, INGRESS, 0).len() == 12);
        assert_eq!(
            by_anyone(told, own, EGRESS),
            [(0, std::process::id(), &b"giver, "[..]), (7, child, b"taker")],
            "{backend:?}"
        );
        assert_eq!(told.opens.iter().filter(|open| open.inode == own).count(), 1);
        // What carried it is traffic of its own: one byte each way of looking at it.
        assert_eq!(by_anyone(told, inode(&far), INGRESS), [(0, child, &b"!"[..])]);
        assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    }
}

#[test]
fn a_number_that_is_used_again_at_once_is_another_socket() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let mut sockets = Vec::new();
        let mut number = None;
        for text in [&b"the first"[..], b"the second one", b"3"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = TcpStream::connect(address).unwrap();
            // Each client takes the number that the one before it had, at the moment when that is closed.
            let client = match number.take() {
                None => OwnedFd::from(client),
                Some(mut before) => {
                    rustix::io::dup2(&client, &mut before).unwrap();
                    before
                }
            };
            let (mut server, _) = listener.accept().unwrap();
            assert_eq!(rustix::io::write(&client, text).unwrap(), text.len());
            server.read_exact(&mut vec![0; text.len()]).unwrap();
            sockets.push((inode(&client), text, server));
            number = Some(client);
        }
        let ends: Vec<_> = sockets.iter().map(|(_, text, server)| (inode(server), *text)).collect();
        let told = observer
            .until("all", |told| ends.iter().all(|(end, text)| told.stream(*end, INGRESS, 0) == *text));
        for (own, text, _) in &sockets {
            assert_eq!(told.stream(*own, EGRESS, 0), *text, "{backend:?}");
        }
        assert_eq!(told.opens.len(), 6);
        assert!(told.gaps.is_empty(), "{:?}", told.gaps);
    }
}

/// An end's addresses as the worker reads them: IPv4 that is carried as IPv6 is IPv4.
fn plain(endpoint: custody_abi::Endpoint) -> (std::net::IpAddr, u16) {
    let address = match endpoint.family {
        2 => {
            let [a, b, c, d, ..] = endpoint.address;
            Ipv4Addr::new(a, b, c, d).into()
        }
        10 => Ipv6Addr::from(endpoint.address).to_canonical(),
        other => panic!("family {other}"),
    };
    (address, endpoint.port)
}

#[test]
fn ends_in_two_families_tell_the_same_pair_of_addresses() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        // A server of both families, as most are; and a client that asks for IPv4 by an IPv6 socket.
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for target in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let address: std::net::IpAddr = target.parse().unwrap();
            let mut client = TcpStream::connect((address, port)).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(b"question").unwrap();
            server.read_exact(&mut [0; 8]).unwrap();
            server.write_all(b"reply").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            let (c, s) = (inode(&client), inode(&server));
            let told = observer.until("all", |told| told.stream(c, INGRESS, 0).len() == 5);
            let (open_c, open_s) = (told.open(c).unwrap(), told.open(s).unwrap());
            assert_eq!(open_s.local.family, 10, "the accepting end is an IPv6 socket");
            assert_eq!(open_c.local.family, if address.is_ipv4() { 2 } else { 10 });
            assert_eq!(plain(open_c.local), plain(open_s.remote), "{backend:?} {target}");
            assert_eq!(plain(open_c.remote), plain(open_s.local));
            assert_eq!(plain(open_c.remote), (Ipv4Addr::LOCALHOST.into(), port));
            assert_eq!((open_c.role, open_s.role), (role::CLIENT, role::SERVER));
            assert_eq!((open_c.netns, open_c.transport), (open_s.netns, open_s.transport));
            assert_eq!(told.stream(c, EGRESS, 0), b"question");
            assert_eq!(told.stream(s, INGRESS, 0), b"question");
            assert!(told.chunks.iter().all(|chunk| chunk.data.header.flags & flag::POSITION_EXACT != 0));
        }
    }
}
