//! One call's bytes on one socket, whichever hook told of them: where they stand in the stream, whether they
//! are wanted, and the copying.
//!
//! Must not: look at system call numbers or descriptors; the hooks say which socket and which memory.

use crate::kernel::{current_key, offset, read};
use crate::payload::{self, Cursor, Moved, Origin};
use crate::sockets::{self, EGRESS, INGRESS};
use crate::{rules, sequences};
use custody_abi::{Socket, SocketKey, cause, direction, flag, transport};

const MSG_OOB: u32 = 0x1;
const MSG_PEEK: u32 = 0x2;
const MSG_TRUNC: u32 = 0x20;
const MSG_ERRQUEUE: u32 = 0x2000;

/// What [`tell`] says of bytes that are wanted.
const TOLD: u32 = 1;
/// What [`tell`] says of a socket that there was no room for.
pub(crate) const NO_ROOM: u32 = 2;
/// What [`custody_transfer`] says of a socket that has no entry yet, or was not told of.
const UNKNOWN: u32 = 3;

/// What a hook saw. Integers only, as in `payload::Cursor`.
#[repr(C)]
pub struct Transfer {
    pub sock: u64,
    pub length: u64,
    /// Bytes that the same call moved after these, which the kernel's sequence has counted already.
    pub after: u64,
    pub time_ns: u64,
    pub origin: Origin,
    /// `MSG_*` of the call.
    pub flags: u32,
    /// 1 for bytes sent, 0 for bytes received.
    pub sends: u32,
}

/// Tells of a transfer, and of its socket before, at its first sight.
#[inline(always)]
pub(crate) fn tell(transfer: &mut Transfer) -> u32 {
    let mut told = custody_transfer(transfer);
    if told == UNKNOWN {
        if custody_meet(transfer) != NO_ROOM {
            told = custody_transfer(transfer);
        }
        if told == UNKNOWN {
            return custody_no_room(transfer);
        }
    }
    if told == TOLD && transfer.sends != 0 {
        payload::show_to_tls(transfer.sock, &transfer.origin, transfer.length);
    }
    told
}

/// First sight of the transfer's socket. Apart from the telling, so that the two need the stack one after the other;
/// exported for the verifier, as `payload::custody_copy_step`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_meet(transfer: *mut Transfer) -> u32 {
    if transfer.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Transfer.
    let transfer = unsafe { &*transfer };
    let counted = transfer.length + transfer.after;
    let before = if transfer.sends != 0 { [0, counted] } else { [counted, 0] };
    let Some(socket) = sockets::find(transfer.sock, before) else { return NO_ROOM };
    if rules::excluded(socket).is_none() {
        sockets::tell(transfer.sock, socket);
    }
    0
}

/// Tells of a transfer on a socket that is known. Exported for the verifier, as `payload::custody_copy_step`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_transfer(transfer: *mut Transfer) -> u32 {
    if transfer.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Transfer.
    let transfer = unsafe { &*transfer };
    if transfer.sends == 0 && transfer.flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        // Looking does not move anything, and the error queue is no traffic.
        return 0;
    }
    let Some(socket) = sockets::known(transfer.sock) else { return UNKNOWN };
    let left_out = rules::excluded(socket);
    if left_out.is_none() && !sockets::is_told(socket) {
        return UNKNOWN;
    }
    let mut cursor = Cursor::of(moved(transfer, sockets::key(transfer.sock, socket)));
    let moved = &mut cursor.moved;
    if transfer.sends != 0 {
        place_sent(transfer, socket, moved);
    } else if transfer.flags & MSG_OOB != 0 {
        moved.flags |= flag::OUT_OF_BAND;
        // SAFETY: a map's value, alive while the program runs.
        moved.position = unsafe { (*socket).next[INGRESS] };
    } else {
        place_received(transfer, socket, moved, left_out.is_none());
    }
    if let Some(rule) = left_out {
        sockets::leave_out(socket);
        rules::skipped(rule, transfer.length);
        return 0;
    }
    // SAFETY: as above.
    let stream = unsafe { (*socket).transport } == transport::TCP;
    let discarded = transfer.sends == 0 && stream && transfer.flags & MSG_TRUNC != 0;
    // Otherwise the buffer holds what was there before, or the upper layer's bytes: neither is this socket's.
    if !discarded && !upper_layer(transfer.sock, socket) {
        cursor.lie_at(&transfer.origin);
    }
    payload::tell(&mut cursor, socket);
    TOLD
}

/// The table of sockets is full: what moves on this one is told as lost, and on which socket is not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_no_room(transfer: *mut Transfer) -> u32 {
    if transfer.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Transfer.
    let transfer = unsafe { &*transfer };
    if sockets::transport_of(transfer.sock).is_none() || !rules::is_wanted() {
        return 0;
    }
    payload::missing(&moved(transfer, sockets::NOBODY), 0, transfer.length, cause::MAP_FULL);
    NO_ROOM
}

#[inline(always)]
fn moved(transfer: &Transfer, socket: SocketKey) -> Moved {
    Moved {
        socket,
        task: current_key(),
        position: 0,
        length: transfer.length,
        time_ns: transfer.time_ns,
        flags: 0,
        direction: if transfer.sends != 0 { direction::EGRESS } else { direction::INGRESS },
        reserved: 0,
        padding: 0,
    }
}

/// Sets the position of received bytes, and tells of bytes that passed unseen before them.
#[inline(always)]
fn place_received(transfer: &Transfer, entry: *mut Socket, moved: &mut Moved, wanted: bool) {
    let sock = transfer.sock;
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.transport != transport::TCP {
        place_counted(entry, moved, INGRESS);
        return;
    }
    let copied: u32 = read(sock + offset::TCP_COPIED_SEQ() as u64).unwrap_or(0);
    let next = socket.next[INGRESS];
    let mut end = sequences::position(next, socket.base[INGRESS], copied).saturating_sub(transfer.after);
    if end == next + moved.length + 1 && sequences::fin_received(sock) {
        // The read took the FIN too, which has a number of its own.
        end -= 1;
    }
    if wanted && end > next + moved.length {
        // Splice, an urgent byte that was jumped over, or another thread's read that is told in a moment.
        moved.position = next;
        payload::missing(moved, 0, end - moved.length - next, cause::NO_PAYLOAD);
    }
    moved.position = end.saturating_sub(moved.length);
    if end == next + moved.length {
        moved.flags |= flag::POSITION_EXACT;
    }
    if end > next {
        socket.next[INGRESS] = end;
    }
}

/// Positions of sockets whose kernel side has no sequence: our own count of bytes, or of datagrams.
#[inline(always)]
fn place_counted(entry: *mut Socket, moved: &mut Moved, side: usize) {
    // SAFETY: a map's value, alive while the program runs; only the address of a member is taken.
    let (transport, word) = unsafe { ((*entry).transport, &raw mut (*entry).next[side]) };
    let datagram = transport == transport::UDP || transport == transport::UNIX_DATAGRAM;
    moved.position = crate::rings::add(word, if datagram { 1 } else { moved.length });
    moved.flags |= if datagram { flag::DATAGRAM | flag::POSITION_EXACT } else { flag::POSITION_EXACT };
}

/// Whether kTLS or another layer took over since the first sight: then calls and sequence differ.
#[inline(always)]
pub(crate) fn upper_layer(sock: u64, entry: *mut Socket) -> bool {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &*entry };
    socket.transport == transport::TCP
        && read::<u64>(sock + offset::SK_PROT() as u64) != Ok(socket.prot)
        && read::<u64>(sock + offset::ICSK_ULP_OPS() as u64) != Ok(0)
}

/// Sets the position of sent bytes where no hook under the lock told it.
#[inline(always)]
fn place_sent(transfer: &Transfer, entry: *mut Socket, moved: &mut Moved) {
    let sock = transfer.sock;
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.transport != transport::TCP {
        place_counted(entry, moved, EGRESS);
        return;
    }
    let sequence: u32 = read(sock + offset::TCP_WRITE_SEQ() as u64).unwrap_or(0);
    let end = sequences::position(socket.next[EGRESS], socket.base[EGRESS], sequence)
        .saturating_sub(transfer.after);
    moved.position = end.saturating_sub(moved.length);
    if moved.position == socket.next[EGRESS] {
        moved.flags |= flag::POSITION_EXACT;
    }
    socket.next[EGRESS] = end;
}
