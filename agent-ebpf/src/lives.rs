//! The beginning and the end of a socket, as they are told: once each, and nothing is told on a socket before its
//! beginning is.
//!
//! Must not: tell of a socket that rules leave out.

use crate::kernel::{offset, read};
use crate::maps::SOCKETS;
use crate::rings::{control, now};
use crate::rules;
use crate::sequences::{fin_received, position, tcp_sequences};
use crate::sockets::{EGRESS, INGRESS, NOBODY, endpoints, inode, key, state};
use custody_abi::{
    Endpoint, POSITION_UNKNOWN, Socket, SocketClose, SocketKey, SocketOpen, TaskKey, flag, kind, source,
    transport,
};

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
    let peer = if socket.transport == transport::UNIX_STREAM { unix_peer(sock) } else { NOBODY };
    let (mut local, mut remote) = (Endpoint::default(), Endpoint::default());
    endpoints(sock, &mut local, &mut remote);
    if local.port == 0 {
        local.port = socket.port;
    }
    let flags = if socket.state & state::EXISTING != 0 { flag::EXISTING } else { 0 };
    let told = control(kind::SOCKET_OPEN, flags, now(), source::CONTROL, |header| SocketOpen {
        header,
        socket: key(sock, entry),
        peer,
        task: *task,
        local,
        remote,
        netns: socket.netns,
        transport: socket.transport,
        role: socket.role,
        reserved: [0; 2],
        inode: socket.inode,
        ingress_position: socket.next[INGRESS],
        egress_position: socket.next[EGRESS],
    });
    u64::from(told)
}

/// The other end, if it was seen: an entry of another inode is of a socket that is gone.
#[inline(always)]
fn unix_peer(sock: u64) -> SocketKey {
    let peer: u64 = read(sock + offset::UNIX_PEER() as u64).unwrap_or(0);
    let Some(entry) = SOCKETS.get_ptr_mut(&peer) else { return NOBODY };
    // SAFETY: a map's value, alive while the program runs.
    if unsafe { (*entry).inode } != inode(peer) { NOBODY } else { key(peer, entry) }
}

/// The socket is gone; an entry that was never told is told now, by who connected it, unless it is unwanted.
pub(crate) fn close(sock: u64, entry: *mut Socket) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.state & state::ANNOUNCED == 0 {
        let silent = state::CONNECTING | state::LEFT_OUT | state::EXISTING;
        if socket.state & silent != 0 || rules::unwanted(socket) {
            let _ = SOCKETS.remove(&sock);
            return 0;
        }
        let opener = socket.opener;
        announce(sock, entry, &opener);
    }
    let ends = if socket.transport == transport::TCP { tcp_ends(sock, socket) } else { socket.next };
    tell_close(sock, entry, ends)
}

/// Another socket stands at this address, whose sequences say nothing of where this one ended.
pub(crate) fn forget(sock: u64, entry: *mut Socket) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    if unsafe { (*entry).state } & state::ANNOUNCED == 0 {
        let _ = SOCKETS.remove(&sock);
        return 0;
    }
    tell_close(sock, entry, [POSITION_UNKNOWN; 2])
}

/// Where the streams of a TCP socket ended, FIN taken off.
#[inline(always)]
fn tcp_ends(sock: u64, socket: &Socket) -> [u64; 2] {
    let Ok((write_seq, copied_seq)) = tcp_sequences(sock) else { return [POSITION_UNKNOWN; 2] };
    let over = socket.state & state::OVER != 0;
    let write_end = if over { socket.end_sequence } else { write_seq };
    let fin = u64::from(socket.state & state::FIN_SENT != 0);
    let egress = position(socket.next[EGRESS], socket.base[EGRESS], write_end).saturating_sub(fin);
    if write_end != write_seq {
        // Disconnected after its end (close with SO_LINGER 0): `copied_seq` jumped over what nobody read.
        return [POSITION_UNKNOWN, egress];
    }
    let received: u32 = read(sock + offset::TCP_RCV_NXT() as u64).unwrap_or(copied_seq.wrapping_add(1));
    let fin = u64::from(fin_received(sock) && received == copied_seq);
    [position(socket.next[INGRESS], socket.base[INGRESS], copied_seq).saturating_sub(fin), egress]
}

#[inline(never)]
fn tell_close(sock: u64, entry: *mut Socket, ends: [u64; 2]) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let state = unsafe { (*entry).state };
    let mut flags = if state & state::RESET_RECEIVED != 0 { flag::RESET_RECEIVED } else { 0 };
    if state & state::RESET_SENT != 0 {
        flags |= flag::RESET_SENT;
    }
    let socket = key(sock, entry);
    let _ = SOCKETS.remove(&sock);
    let told = control(kind::SOCKET_CLOSE, flags, now(), source::CONTROL, |header| SocketClose {
        header,
        socket,
        ingress_position: ends[INGRESS],
        egress_position: ends[EGRESS],
    });
    u64::from(told)
}
