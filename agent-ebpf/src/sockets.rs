//! What is known of a socket, from its first sight to its end: name, addresses, role, and where in its two
//! streams it stands.
//!
//! Must not: name a socket by its file descriptor, or trust an address of `struct sock` without its
//! generation: the kernel reuses both.

use crate::kernel::{current, current_key, load, offset, read};
use crate::maps::{SOCKETS, Socket};
use crate::rings::{add, control, now, shared};
use crate::rules;
use aya_ebpf::bindings::BPF_NOEXIST;
use custody_abi::{
    Endpoint, SocketClose, SocketKey, SocketOpen, TaskKey, flag, kind, role, source, transport,
};

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
}

/// The entry of a socket that moves data now, made and told at its first sight. `None` for families that are
/// not observed, and when the table is full.
#[inline(always)]
pub(crate) fn find(sock: u64) -> Option<*mut Socket> {
    let mut entry = SOCKETS.get_ptr_mut(&sock);
    if let Some(socket) = entry {
        // SAFETY: a map's value, alive while the program runs.
        let known = unsafe { &*socket };
        // TCP tells its end; of others only the inode tells that the address serves another socket now.
        if known.transport != transport::TCP && inode(sock) != known.inode {
            close(sock, socket);
            entry = None;
        }
    }
    let socket = match entry {
        Some(socket) => socket,
        None => first_sight(sock)?,
    };
    // SAFETY: as above.
    if unsafe { (*socket).state } & state::ANNOUNCED == 0 {
        announce(sock, socket, &current_key());
    }
    Some(socket)
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

/// The entry of a socket that was there before us.
#[inline(always)]
fn first_sight(sock: u64) -> Option<*mut Socket> {
    insert(sock, transport_of(sock)?, role::UNKNOWN, state::EXISTING);
    // Another CPU may have been first; then its entry holds.
    SOCKETS.get_ptr_mut(&sock)
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
fn inode(sock: u64) -> u64 {
    let socket: u64 = read(sock + offset::SK_SOCKET() as u64).unwrap_or(0);
    if socket == 0 {
        return 0;
    }
    // `struct socket` begins `struct socket_alloc`.
    read(socket + offset::SOCKET_INODE() as u64).unwrap_or(0)
}

/// Makes the entry of a socket; nothing is told yet. A function of its own, for its share of the stack.
#[inline(never)]
pub(crate) fn insert(sock: u64, transport: u8, role: u8, bits: u16) -> u64 {
    let Some(shared) = shared() else { return 1 };
    // SAFETY: only the address of a member is taken.
    let generation = add(unsafe { &raw mut (*shared).generation }, 1) + 1;
    let mut socket = Socket {
        generation,
        inode: inode(sock),
        next: [0; 2],
        base: [0; 2],
        prot: read(sock + offset::SK_PROT() as u64).unwrap_or(0),
        mm: u64::MAX,
        rules_epoch: 0,
        address_verdict: 0,
        task_verdict: 0,
        opener: TaskKey::default(),
        transport,
        role,
        state: bits,
        reserved: 0,
    };
    if transport == transport::TCP {
        let Ok((egress, ingress)) = tcp_positions(sock) else { return 1 };
        let Ok((write_seq, copied_seq)) = tcp_sequences(sock) else { return 1 };
        socket.next = [ingress, egress];
        socket.base = [copied_seq.wrapping_sub(ingress as u32), write_seq.wrapping_sub(egress as u32)];
    } else if transport == transport::UNIX_STREAM && role == role::UNKNOWN {
        socket.role = unix_role(sock);
    }
    let (local, remote) = endpoints(sock);
    socket.address_verdict = rules::address_verdict(&local, &remote);
    let _ = SOCKETS.insert(&sock, &socket, u64::from(BPF_NOEXIST));
    0
}

/// Whether the peer's FIN came: `SOCK_DONE`, which TCP sets for nothing else. The state does not tell: from
/// FIN_WAIT2 a socket goes to CLOSE by a FIN as by a reset.
#[inline(always)]
pub(crate) fn fin_received(sock: u64) -> bool {
    const SOCK_DONE: u64 = 1 << 1;
    read::<u64>(sock + offset::SK_FLAGS() as u64).unwrap_or(0) & SOCK_DONE != 0
}

/// `write_seq` and `copied_seq`.
#[inline(always)]
pub(crate) fn tcp_sequences(sock: u64) -> Result<(u32, u32), ()> {
    Ok((read(sock + offset::TCP_WRITE_SEQ() as u64)?, read(sock + offset::TCP_COPIED_SEQ() as u64)?))
}

/// Stream positions of `write_seq` and `copied_seq`, from the kernel's own 64-bit sums, which know neither
/// SYN nor a FIN that is not sent yet. Right for connections that are older than the agent, too.
#[inline(always)]
fn tcp_positions(sock: u64) -> Result<(u64, u64), ()> {
    let (write_seq, copied_seq) = tcp_sequences(sock)?;
    let sent: u64 = read(sock + offset::TCP_BYTES_SENT() as u64)?;
    let again: u64 = read(sock + offset::TCP_BYTES_RETRANS() as u64)?;
    let snd_nxt: u32 = read(sock + offset::TCP_SND_NXT() as u64)?;
    let received: u64 = read(sock + offset::TCP_BYTES_RECEIVED() as u64)?;
    let rcv_nxt: u32 = read(sock + offset::TCP_RCV_NXT() as u64)?;
    let unsent = u64::from(write_seq.wrapping_sub(snd_nxt));
    let unread = u64::from(rcv_nxt.wrapping_sub(copied_seq));
    Ok((sent.wrapping_sub(again).wrapping_add(unsent), received.saturating_sub(unread)))
}

/// Stream position of a TCP sequence near the last known one.
#[inline(always)]
pub(crate) fn position(next: u64, base: u32, sequence: u32) -> u64 {
    let low = sequence.wrapping_sub(base);
    next.wrapping_add((low.wrapping_sub(next as u32) as i32) as i64 as u64)
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
fn endpoints(sock: u64) -> (Endpoint, Endpoint) {
    let family: u16 = read(sock + offset::SK_FAMILY() as u64).unwrap_or(0);
    let mut local = Endpoint { family, ..Default::default() };
    let mut remote = local;
    if family == AF_UNIX {
        return (local, remote);
    }
    local.port = read(sock + offset::SK_NUM() as u64).unwrap_or(0);
    remote.port = u16::from_be(read(sock + offset::SK_DPORT() as u64).unwrap_or(0));
    if family == AF_INET6 {
        local.address = read(sock + offset::SK_V6_RCV_SADDR() as u64).unwrap_or_default();
        remote.address = read(sock + offset::SK_V6_DADDR() as u64).unwrap_or_default();
    } else {
        let own: [u8; 4] = read(sock + offset::SK_RCV_SADDR() as u64).unwrap_or_default();
        let other: [u8; 4] = read(sock + offset::SK_DADDR() as u64).unwrap_or_default();
        local.address = [own[0], own[1], own[2], own[3], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        remote.address = [other[0], other[1], other[2], other[3], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    }
    (local, remote)
}

/// Tells of the socket, before anything is told on it.
#[inline(never)]
pub(crate) fn announce(sock: u64, entry: *mut Socket, task: &TaskKey) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    socket.state |= state::ANNOUNCED;
    if socket.inode == 0 {
        // An accepted socket has its inode only since accept(2).
        socket.inode = inode(sock);
    }
    let (local, remote) = endpoints(sock);
    let is_unix = socket.transport == transport::UNIX_STREAM || socket.transport == transport::UNIX_DATAGRAM;
    let net: u64 = read(sock + offset::SK_NET() as u64).unwrap_or(0);
    let open = SocketOpen {
        header: Default::default(),
        socket: key(sock, entry),
        peer_sock: if is_unix { read(sock + offset::UNIX_PEER() as u64).unwrap_or(0) } else { 0 },
        task: *task,
        local,
        remote,
        netns: if net == 0 { 0 } else { read(net + offset::NET_INUM() as u64).unwrap_or(0) },
        transport: socket.transport,
        role: socket.role,
        reserved: [0; 2],
        inode: socket.inode,
        ingress_position: socket.next[INGRESS],
        egress_position: socket.next[EGRESS],
    };
    let flags = if socket.state & state::EXISTING != 0 { flag::EXISTING } else { 0 };
    u64::from(control(kind::SOCKET_OPEN, flags, now(), source::CONTROL, open))
}

/// The socket is gone; an entry that was never told is told now, by who connected it.
#[inline(never)]
pub(crate) fn close(sock: u64, entry: *mut Socket) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.state & state::ANNOUNCED == 0 {
        let opener = socket.opener;
        announce(sock, entry, &opener);
    }
    let mut ends = [u64::MAX; 2];
    if socket.transport != transport::TCP {
        ends = socket.next;
    } else if let Ok((write_seq, copied_seq)) = tcp_sequences(sock) {
        let received: u32 = read(sock + offset::TCP_RCV_NXT() as u64).unwrap_or(copied_seq.wrapping_add(1));
        let sent_fin = u64::from(socket.state & state::FIN_SENT != 0);
        let read_fin = u64::from(fin_received(sock) && received == copied_seq);
        ends[INGRESS] =
            position(socket.next[INGRESS], socket.base[INGRESS], copied_seq).wrapping_sub(read_fin);
        ends[EGRESS] = position(socket.next[EGRESS], socket.base[EGRESS], write_seq).wrapping_sub(sent_fin);
    }
    let close = SocketClose {
        header: Default::default(),
        socket: key(sock, entry),
        ingress_position: ends[INGRESS],
        egress_position: ends[EGRESS],
    };
    let _ = SOCKETS.remove(&sock);
    u64::from(control(kind::SOCKET_CLOSE, 0, now(), source::CONTROL, close))
}
