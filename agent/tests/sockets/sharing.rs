//! One socket in several hands, and one number for several sockets: the socket is what counts.

use crate::calls::{inode, tcp};
use crate::observe::{Observer, Told};
use crate::raw::{Message, call, fork, segment, wait};
use custody_abi::direction::{EGRESS, INGRESS};
use custody_agent::probes::Backend;
use rustix::fd::AsRawFd;
use std::io::{Read, Write};
use std::net::TcpListener;

const BACKENDS: [Backend; 2] = [Backend::Sockets, Backend::SystemCalls];
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;

fn number(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap()
}

/// Who wrote what on this socket, in order.
fn writers(told: &Told, inode: u64) -> Vec<(u32, &[u8])> {
    let open = told.open(inode).unwrap().socket;
    let own = |chunk: &&crate::observe::Chunk| chunk.data.socket == open && chunk.data.direction == EGRESS;
    told.chunks.iter().filter(own).map(|chunk| (chunk.data.task.pid, chunk.bytes.as_slice())).collect()
}

#[test]
fn a_duplicated_descriptor_is_the_same_stream() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut a, mut b) = tcp("127.0.0.1:0");
        let mut copy = a.try_clone().unwrap();
        a.write_all(b"one ").unwrap();
        copy.write_all(b"two ").unwrap();
        // The socket lives as long as one of its numbers.
        let own = inode(&a);
        drop(a);
        copy.write_all(b"three").unwrap();
        b.read_exact(&mut [0; 13]).unwrap();
        let told = observer.until("three", |told| told.stream(inode(&b), INGRESS, 0).len() == 13);
        assert_eq!(told.stream(own, EGRESS, 0), b"one two three");
        assert_eq!(told.opens.iter().filter(|open| open.inode == own).count(), 1);
        let open = told.open(own).unwrap().socket;
        assert!(told.closes.iter().all(|close| close.socket != open), "{backend:?}: closed while in use");
    }
}

#[test]
fn a_socket_shared_by_fork_is_one_stream_and_names_who_wrote() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (mut a, mut b) = tcp("127.0.0.1:0");
        a.write_all(b"parent ").unwrap();
        let (shared, text) = (number(&a), *b"child ");
        let child = fork(|| {
            call(1, [shared, text.as_ptr() as u64, 6, 0, 0, 0]);
        });
        observer.adopt(child);
        wait(child);
        a.write_all(b"again").unwrap();
        b.read_exact(&mut [0; 18]).unwrap();
        let (own, parent) = (inode(&a), std::process::id());
        let told = observer.until("all", |told| told.stream(inode(&b), INGRESS, 0).len() == 18);
        assert_eq!(told.stream(own, EGRESS, 0), b"parent child again");
        let expected = [(parent, &b"parent "[..]), (child, b"child "), (parent, b"again")];
        assert_eq!(writers(told, own), expected, "{backend:?}");
    }
}

/// The child is older than the socket, so it has it from the message alone.
#[test]
fn a_socket_passed_to_another_process_is_one_stream_and_names_who_wrote() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let (here, there) = crate::calls::unix();
        let (door, text, byte) = (number(&there), *b"child ", [0; 1]);
        let (control, into) = ([0_u64; 3], [segment(&byte)]);
        let message = Message::with_control(&into, &control);
        let child = fork(|| {
            call(RECVMSG, [door, &raw const message as u64, 0, 0, 0, 0]);
            let passed = std::hint::black_box(&control)[2] & 0xffff_ffff;
            call(1, [passed, text.as_ptr() as u64, 6, 0, 0, 0]);
        });
        observer.adopt(child);
        let (mut a, mut b) = tcp("127.0.0.1:0");
        a.write_all(b"parent ").unwrap();
        // cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, the descriptor.
        let (rights, from) = ([20, 1 | 1 << 32, number(&a)], [segment(&byte)]);
        let message = Message::with_control(&from, &rights);
        assert_eq!(call(SENDMSG, [number(&here), &raw const message as u64, 0, 0, 0, 0]), 1);
        wait(child);
        a.write_all(b"again").unwrap();
        b.read_exact(&mut [0; 18]).unwrap();
        let (own, parent) = (inode(&a), std::process::id());
        let told = observer.until("all", |told| told.stream(inode(&b), INGRESS, 0).len() == 18);
        assert_eq!(told.stream(own, EGRESS, 0), b"parent child again");
        let expected = [(parent, &b"parent "[..]), (child, b"child "), (parent, b"again")];
        assert_eq!(writers(told, own), expected, "{backend:?}");
    }
}

#[test]
fn a_new_socket_under_an_old_number_is_another_stream() {
    for backend in BACKENDS {
        let mut observer = Observer::start(backend);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut seen = Vec::new();
        let mut before = None;
        for round in 0..20_u8 {
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(before.is_none_or(|before| before == number(&client)), "the number was not reused");
            before = Some(number(&client));
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[round; 7]).unwrap();
            server.read_exact(&mut [0; 7]).unwrap();
            seen.push((inode(&client), inode(&server)));
            drop(client);
            drop(server);
        }
        let (_, last) = seen[19];
        let told = observer.until("the last", |told| told.stream(last, INGRESS, 0).len() == 7);
        for (round, (client, server)) in seen.iter().enumerate() {
            assert_eq!(told.stream(*client, EGRESS, 0), [round as u8; 7], "{backend:?}");
            assert_eq!(told.stream(*server, INGRESS, 0), [round as u8; 7], "{backend:?}");
        }
    }
}
