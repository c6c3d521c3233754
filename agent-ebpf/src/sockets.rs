//! What is known of a socket, from its first sight to its end: name, addresses, role, and where in its two
//! streams it stands.
//!
//! Must not: name a socket by its file descriptor, or trust an address of `struct sock` without its
//! generation: the kernel reuses both.

use crate::kernel::{current, current_key, load, offset, read, read_to};
use crate::lives::{announce, close};
use crate::maps::{EXISTING, SOCKETS};
use crate::rings::{add, shared};
use crate::rules;
use crate::sequences::{tcp_positions, tcp_sequences};
use aya_ebpf::bindings::BPF_NOEXIST;
use custody_abi::{Endpoint, Socket, SocketKey, TaskKey, role, transport};

pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;

/// Index of the directions in the arrays of an entry.
pub(crate) const INGRESS: usize = custody_abi::direction::INGRESS as usize;
pub(crate) const EGRESS: usize = custody_abi::direction::EGRESS as usize;

/// Bits of [`Socket::state`].
pub(crate) mod state {
    /// The open was told.
    pub(crate) const ANNOUNCED: u16 = 1 << 0;
    /// It was there before its first sight.
    pub(crate) const EXISTING: u16 = 1 << 1;
    /// We sent FIN: `write_seq` is one past the data.
    pub(crate) const FIN_SENT: u16 = 1 << 2;
    /// A connect that has no answer yet: sequences mean nothing.
    pub(crate) const CONNECTING: u16 = 1 << 3;
    /// `end_sequence` is set.
    pub(crate) const OVER: u16 = 1 << 4;
    /// A rule left out what was moved.
    pub(crate) const LEFT_OUT: u16 = 1 << 5;
    /// The peer broke it off.
    pub(crate) const RESET_RECEIVED: u16 = 1 << 6;
    /// This end broke it off.
    pub(crate) const RESET_SENT: u16 = 1 << 7;
    /// See [`crate::twins`]: this end's first bytes were told, so it is settled whether the other is spared.
    pub(crate) const MET: u16 = 1 << 8;
    /// What this end moves is told by its other end.
    pub(crate) const SPARED: u16 = 1 << 9;
    /// Bytes passed this end that could not be read here.
    pub(crate) const HOLED: u16 = 1 << 10;
}

/// The entry of a socket that moves data now, made at its first sight. `before`: bytes by direction that the
/// kernel has counted already and that will be told from now on. `None` for families that are not observed,
/// and when the table is full.
#[inline(always)]
pub(crate) fn find(sock: u64, before: [u64; 2]) -> Option<*mut Socket> {
    if let Some(socket) = SOCKETS.get_ptr_mut(&sock) {
        if is_same(sock, socket) {
            return Some(socket);
        }
        close(sock, socket);
    }
    first_sight(sock, before)
}

/// The same without making one.
#[inline(always)]
pub(crate) fn known(sock: u64) -> Option<*mut Socket> {
    SOCKETS.get_ptr_mut(&sock).filter(|socket| is_same(sock, *socket))
}

/// TCP tells its end; of others only the inode tells that the address serves another socket now.
#[inline(always)]
fn is_same(sock: u64, socket: *mut Socket) -> bool {
    // SAFETY: a map's value, alive while the program runs.
    let known = unsafe { &*socket };
    known.transport == transport::TCP || inode(sock) == known.inode
}

/// Tells of a socket that is wanted, before anything else is told of it.
#[inline(always)]
pub(crate) fn tell(sock: u64, socket: *mut Socket) {
    if !is_told(socket) {
        announce(sock, socket, &current_key());
    }
}

/// Whether [`tell`] has nothing more to do.
#[inline(always)]
pub(crate) fn is_told(socket: *mut Socket) -> bool {
    // SAFETY: a map's value, alive while the program runs.
    let bits = unsafe { (*socket).state };
    bits & state::ANNOUNCED != 0
}

/// Remembers that a rule left out what was moved: such a socket's end is not told either.
#[inline(always)]
pub(crate) fn leave_out(socket: *mut Socket) {
    // SAFETY: a map's value, alive while the program runs.
    unsafe { (*socket).state |= state::LEFT_OUT };
}

/// Whether this socket is of a kind that is observed; cheap for those that are known.
#[inline(always)]
pub(crate) fn is_observed(sock: u64) -> bool {
    SOCKETS.get_ptr_mut(&sock).is_some() || transport_of(sock).is_some()
}

/// The `struct sock` that a file descriptor of the current process names at this moment.
#[inline(always)]
pub(crate) fn sock_of_fd(fd: i32) -> Result<u64, ()> {
    const S_IFMT: u16 = 0o170000;
    const S_IFSOCK: u16 = 0o140000;
    let files: u64 = load(current(), offset::TASK_FILES());
    let table: u64 = read(files + offset::FILES_FDT() as u64)?;
    let max: u32 = read(table + offset::FDT_MAX() as u64)?;
    if fd < 0 || fd as u32 >= max {
        return Err(());
    }
    let array: u64 = read(table + offset::FDT_FD() as u64)?;
    let file: u64 = read(array + fd as u64 * 8)?;
    let inode: u64 = read(file + offset::FILE_INODE() as u64)?;
    if read::<u16>(inode + offset::INODE_MODE() as u64)? & S_IFMT != S_IFSOCK {
        return Err(());
    }
    let socket: u64 = read(file + offset::FILE_PRIVATE() as u64)?;
    read(socket + offset::SOCKET_SK() as u64)
}

/// The entry of a socket whose beginning was not told by a hook.
#[inline(always)]
fn first_sight(sock: u64, before: [u64; 2]) -> Option<*mut Socket> {
    let transport = transport_of(sock)?;
    let bits = if is_older(sock, transport) { state::EXISTING } else { 0 };
    insert(sock, transport, role::UNKNOWN, bits, before);
    // Another CPU may have been first; then its entry holds.
    SOCKETS.get_ptr_mut(&sock)
}

/// Whether the socket was there before the agent looked. TCP connections tell when they are made, so one that
/// did not is older; others stand in a list, and until it is complete each of them may be.
#[inline(always)]
fn is_older(sock: u64, transport: u8) -> bool {
    transport == transport::TCP
        || EXISTING.get_ptr_mut(&0).is_none()
        || EXISTING.get_ptr_mut(&inode(sock)).is_some()
}

/// The socket's name in events.
#[inline(always)]
pub(crate) fn key(sock: u64, socket: *mut Socket) -> SocketKey {
    // SAFETY: a map's value, alive while the program runs.
    SocketKey { sock, generation: unsafe { (*socket).generation } }
}

/// How the socket is carried; `None` where we do not look.
#[inline(always)]
pub(crate) fn transport_of(sock: u64) -> Option<u8> {
    let family: u16 = read(sock + offset::SK_FAMILY() as u64).ok()?;
    if family != AF_UNIX && family != AF_INET && family != AF_INET6 {
        return None;
    }
    let kind: u16 = read(sock + offset::SK_TYPE() as u64).ok()?;
    if family == AF_UNIX {
        return Some(if kind == SOCK_STREAM { transport::UNIX_STREAM } else { transport::UNIX_DATAGRAM });
    }
    // The number decides, never the family alone: MPTCP and SMC sockets are no tcp_sock.
    match read::<u16>(sock + offset::SK_PROTOCOL() as u64).ok()? {
        IPPROTO_TCP if kind == SOCK_STREAM => Some(transport::TCP),
        IPPROTO_UDP => Some(transport::UDP),
        IPPROTO_MPTCP => Some(transport::MPTCP),
        _ => None,
    }
}

#[inline(always)]
pub(crate) fn inode(sock: u64) -> u64 {
    let socket: u64 = read(sock + offset::SK_SOCKET() as u64).unwrap_or(0);
    if socket == 0 {
        return 0;
    }
    // `struct socket` begins `struct socket_alloc`.
    read(socket + offset::SOCKET_INODE() as u64).unwrap_or(0)
}

/// Makes the entry of a socket; nothing is told yet.
#[inline(always)]
pub(crate) fn insert(sock: u64, transport: u8, role: u8, bits: u16, before: [u64; 2]) {
    let first = First { verdict: verdict(sock), state: bits, transport, role };
    enter(sock, first, before);
}

/// What is known of a socket before its entry is made. One register wide, so that it needs no stack.
#[repr(C)]
#[derive(Clone, Copy)]
struct First {
    verdict: u32,
    state: u16,
    transport: u8,
    role: u8,
}

/// What its addresses say. A function of its own, for its share of the stack.
#[inline(never)]
fn verdict(sock: u64) -> u32 {
    let (mut local, mut remote) = (Endpoint::default(), Endpoint::default());
    endpoints(sock, &mut local, &mut remote);
    rules::address_verdict(&local, &remote)
}

/// The entry itself. A function of its own, for its share of the stack.
#[inline(never)]
fn enter(sock: u64, first: First, before: [u64; 2]) -> u64 {
    let Some(shared) = shared() else { return 1 };
    // SAFETY: only the address of a member is taken.
    let generation = add(unsafe { &raw mut (*shared).generation }, 1) + 1;
    let net: u64 = read(sock + offset::SK_NET() as u64).unwrap_or(0);
    let First { verdict, state, transport, role } = first;
    let is_unix = transport == transport::UNIX_STREAM || transport == transport::UNIX_DATAGRAM;
    let mut socket = Socket {
        generation,
        inode: inode(sock),
        next: [0; 2],
        base: [0; 2],
        prot: read(sock + offset::SK_PROT() as u64).unwrap_or(0),
        mm: u64::MAX,
        rules_epoch: 0,
        address_verdict: verdict,
        task_verdict: 0,
        opener: TaskKey { start_ns: 0, pid: 0, tid: 0 },
        transport,
        role,
        state,
        end_sequence: 0,
        netns: if net == 0 { 0 } else { read(net + offset::NET_INUM() as u64).unwrap_or(0) },
        port: if is_unix { 0 } else { read(sock + offset::SK_NUM() as u64).unwrap_or(0) },
        reserved: 0,
        twin: NOBODY,
        first_ns: 0,
    };
    if transport == transport::TCP && state & state::CONNECTING == 0 {
        if place(sock, &mut socket, before).is_err() {
            return 1;
        }
    } else if transport == transport::UNIX_STREAM && role == role::UNKNOWN {
        socket.role = unix_role(sock);
    }
    let _ = SOCKETS.insert(&sock, &socket, u64::from(BPF_NOEXIST));
    0
}

/// Where a TCP socket stands in its streams: behind what the kernel has counted, less what is told from now on.
#[inline(always)]
fn place(sock: u64, socket: &mut Socket, before: [u64; 2]) -> Result<(), ()> {
    let (write_seq, copied_seq) = tcp_sequences(sock)?;
    let (egress, ingress) = tcp_positions(sock, write_seq, copied_seq)?;
    // The sums may lag behind for a moment; nothing that moved stands below zero.
    let egress = if egress < before[EGRESS] { before[EGRESS] } else { egress };
    let ingress = if ingress < before[INGRESS] { before[INGRESS] } else { ingress };
    socket.base = [copied_seq.wrapping_sub(ingress as u32), write_seq.wrapping_sub(egress as u32)];
    socket.next = [ingress - before[INGRESS], egress - before[EGRESS]];
    Ok(())
}

/// The answer to a connect came: from now on the sequences mean something, and the own address is known.
#[inline(always)]
pub(crate) fn connected(sock: u64, entry: *mut Socket) {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    socket.port = read(sock + offset::SK_NUM() as u64).unwrap_or(0);
    socket.address_verdict = verdict(sock);
    begin(sock, entry);
}

/// The streams of a connection that is made now. A function of its own, for its share of the stack.
#[inline(never)]
fn begin(sock: u64, entry: *mut Socket) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    socket.state &= !state::CONNECTING;
    u64::from(place(sock, socket, [0; 2]).is_err())
}

/// An accepted unix socket shares its listener's name; one that connected mostly has none.
#[inline(always)]
fn unix_role(sock: u64) -> u8 {
    let peer: u64 = read(sock + offset::UNIX_PEER() as u64).unwrap_or(0);
    if peer == 0 {
        return role::UNKNOWN;
    }
    let own: u64 = read(sock + offset::UNIX_ADDR() as u64).unwrap_or(0);
    let other: u64 = read(peer + offset::UNIX_ADDR() as u64).unwrap_or(0);
    match (own != 0, other != 0) {
        (true, false) => role::SERVER,
        (false, true) => role::CLIENT,
        _ => role::UNKNOWN,
    }
}

/// Own and peer's address. Unix sockets have none that fits; their peer is named by its `struct sock`.
#[inline(always)]
pub(crate) fn endpoints(sock: u64, local: &mut Endpoint, remote: &mut Endpoint) {
    let family: u16 = read(sock + offset::SK_FAMILY() as u64).unwrap_or(0);
    (local.family, remote.family) = (family, family);
    if family == AF_UNIX {
        return;
    }
    local.port = read(sock + offset::SK_NUM() as u64).unwrap_or(0);
    remote.port = u16::from_be(read(sock + offset::SK_DPORT() as u64).unwrap_or(0));
    if family == AF_INET6 {
        read_to(sock + offset::SK_V6_RCV_SADDR() as u64, &mut local.address);
        read_to(sock + offset::SK_V6_DADDR() as u64, &mut remote.address);
    } else {
        let own: [u8; 4] = read(sock + offset::SK_RCV_SADDR() as u64).unwrap_or_default();
        let other: [u8; 4] = read(sock + offset::SK_DADDR() as u64).unwrap_or_default();
        [local.address[0], local.address[1], local.address[2], local.address[3]] = own;
        [remote.address[0], remote.address[1], remote.address[2], remote.address[3]] = other;
    }
}

pub(crate) const NOBODY: SocketKey = SocketKey { sock: 0, generation: 0 };
