//! The first back-end: raw tracepoints on the socket layer. They give the true `struct sock`, fire for every
//! way into it, and cost calls on other files nothing.

use crate::kernel::{current, current_key, load, offset, read};
use crate::maps::{SENDS, SOCKETS, Send, Socket};
use crate::payload::{self, Moved, Origin, form};
use crate::rings::now;
use crate::sockets::{self, EGRESS, INGRESS, state};
use crate::{kernel, rules, syscalls};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use custody_abi::{TaskKey, cause, direction, flag, role, transport};

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_LAST_ACK: i32 = 9;

#[inline(always)]
fn thread() -> u32 {
    load(current(), offset::TASK_PID())
}

/// `sock_recv_length(sk, ret, flags)`: bytes were received, or a call failed.
#[raw_tracepoint]
pub fn sock_recv_length(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    let flags: i32 = ctx.arg(2);
    if result < 0 {
        syscalls::failed(thread());
    }
    if result <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        // Looking does not move anything, and the error queue is no traffic.
        return 0;
    }
    let Some(socket) = sockets::find(sock) else { return 0 };
    received(sock, socket, result as u64, flags);
    0
}

#[inline(always)]
fn received(sock: u64, socket: *mut Socket, length: u64, flags: i32) {
    // SAFETY: a map's value, alive while the program runs.
    let transport = unsafe { (*socket).transport };
    let mut moved = moved(sock, socket, length, direction::INGRESS);
    let out_of_band = flags & MSG_OOB != 0;
    if out_of_band {
        moved.flags |= flag::OUT_OF_BAND;
        // SAFETY: as above.
        moved.position = unsafe { (*socket).next[INGRESS] };
    } else {
        place_received(sock, socket, &mut moved);
    }
    if let Some(rule) = rules::excluded(socket) {
        rules::skipped(rule, length);
        return;
    }
    moved.task = current_key();
    let discarded = transport == transport::TCP && flags & MSG_TRUNC != 0;
    let origin = if discarded || upper_layer(sock, socket) {
        // The buffer holds what was there before, or the upper layer's bytes: neither is this socket's.
        Origin::NONE
    } else {
        syscalls::origin(&syscalls::entered(), false, moved.task.tid)
    };
    payload::offer_to_tls(&moved, origin);
    payload::copy(moved, origin);
}

#[inline(always)]
fn moved(sock: u64, socket: *mut Socket, length: u64, direction: u8) -> Moved {
    Moved {
        socket: sockets::key(sock, socket),
        task: TaskKey::default(),
        position: 0,
        length,
        time_ns: now(),
        flags: 0,
        direction,
        reserved: [0; 5],
    }
}

/// Sets the position of received bytes, and tells of bytes that passed unseen before them.
#[inline(always)]
fn place_received(sock: u64, entry: *mut Socket, moved: &mut Moved) {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.transport != transport::TCP {
        place_counted(entry, moved, INGRESS);
        return;
    }
    let copied: u32 = read(sock + offset::TCP_COPIED_SEQ() as u64).unwrap_or(0);
    let next = socket.next[INGRESS];
    let mut end = sockets::position(next, socket.base[INGRESS], copied);
    if end == next + moved.length + 1 && sockets::fin_received(sock) {
        // The read took the FIN too, which has a number of its own.
        end -= 1;
    }
    moved.position = end.wrapping_sub(moved.length);
    if end == next + moved.length {
        moved.flags |= flag::POSITION_EXACT;
    } else if end > next + moved.length {
        // Splice, an urgent byte that was jumped over, or another thread's read that is told in a moment.
        let mut unseen = Moved { position: next, ..*moved };
        unseen.length = end - moved.length - next;
        unseen.task = current_key();
        if rules::excluded(entry).is_none() {
            payload::missing(&unseen, 0, unseen.length, cause::NO_PAYLOAD);
        }
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
fn upper_layer(sock: u64, entry: *mut Socket) -> bool {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &*entry };
    socket.transport == transport::TCP
        && read::<u64>(sock + offset::SK_PROT() as u64) != Ok(socket.prot)
        && read::<u64>(sock + offset::ICSK_ULP_OPS() as u64) != Ok(0)
}

/// `tcp_sendmsg_locked(sk, msg, skb, size_goal)`: under the socket's lock, before each segment of a send.
/// What was taken since the last hit of the call stands at exactly the sequence of that hit.
#[raw_tracepoint]
pub fn tcp_sendmsg_locked(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let message: u64 = ctx.arg(1);
    let _ = sending(sock, message);
    0
}

#[inline(always)]
fn sending(sock: u64, message: u64) -> Result<(), ()> {
    let entry = sockets::find(sock).ok_or(())?;
    if rules::excluded(entry).is_some() {
        return Ok(());
    }
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    let sequence: u32 = read(sock + offset::TCP_WRITE_SEQ() as u64)?;
    let position = sockets::position(socket.next[EGRESS], socket.base[EGRESS], sequence);
    let thread = thread();
    let mut send = iterator(message + offset::MSG_ITER() as u64)?;
    (send.sock, send.position, send.time_ns) = (sock, position, now());
    if let Some(before) = SENDS.get_ptr_mut(&thread) {
        // SAFETY: as above; only this thread uses its entry.
        let before = unsafe { &mut *before };
        if before.sock == sock && before.rest >= send.rest && before.rest != 0 {
            let taken = before.rest - send.rest;
            if taken != 0 {
                tell_sent(sock, entry, before, taken);
                socket.next[EGRESS] = before.position + taken;
            }
            send.time_ns = before.time_ns;
            send.told = before.told + taken;
        }
        *before = send;
        return Ok(());
    }
    SENDS.insert(&thread, &send, 0).map_err(drop)
}

/// The rest of a `struct iov_iter`.
#[inline(always)]
fn iterator(iter: u64) -> Result<Send, ()> {
    let kind: u8 = read(iter + offset::ITER_TYPE() as u64)?;
    let skip: u64 = read(iter + offset::ITER_OFFSET() as u64)?;
    let rest: u64 = read(iter + offset::ITER_COUNT() as u64)?;
    let source: u64 = read(iter + offset::ITER_IOV() as u64)?;
    let segments: u64 = read(iter + offset::ITER_SEGMENTS() as u64)?;
    let form = if u32::from(kind) == kernel::iter_ubuf() {
        form::BUFFER
    } else if u32::from(kind) == kernel::iter_iovec() {
        form::IOVEC_KERNEL
    } else {
        form::NONE
    };
    Ok(Send {
        sock: 0,
        position: 0,
        time_ns: 0,
        rest,
        told: 0,
        source,
        offset: skip,
        segments: segments as u32,
        form,
    })
}

/// Tells `length` bytes of a send that stand at its position.
#[inline(always)]
fn tell_sent(sock: u64, entry: *mut Socket, send: &Send, length: u64) {
    let moved = Moved {
        socket: sockets::key(sock, entry),
        task: current_key(),
        position: send.position,
        length,
        time_ns: send.time_ns,
        flags: flag::POSITION_EXACT,
        direction: direction::EGRESS,
        reserved: [0; 5],
    };
    let count = if send.form == form::BUFFER { send.rest } else { u64::from(send.segments) };
    let origin = if upper_layer(sock, entry) {
        Origin::NONE
    } else {
        Origin { form: send.form, count, address: send.source, offset: send.offset }
    };
    payload::offer_to_tls(&moved, origin);
    payload::copy(moved, origin);
}

/// `sock_send_length(sk, ret, flags)`: a send is over.
#[raw_tracepoint]
pub fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    let thread = thread();
    if result < 0 {
        syscalls::failed(thread);
    }
    if result <= 0 {
        let _ = SENDS.remove(&thread);
        return 0;
    }
    let Some(socket) = sockets::find(sock) else { return 0 };
    sent(sock, socket, result as u64, thread);
    0
}

#[inline(always)]
fn sent(sock: u64, entry: *mut Socket, length: u64, thread: u32) {
    if let Some(send) = SENDS.get_ptr_mut(&thread) {
        // SAFETY: a map's value, alive while the program runs; only this thread uses its entry.
        let send = unsafe { &mut *send };
        if send.sock == sock && send.rest != 0 && length >= send.told {
            let last = length - send.told;
            if last != 0 {
                tell_sent(sock, entry, send, last);
            }
            // SAFETY: as above.
            unsafe { (*entry).next[EGRESS] = send.position + last };
            (send.rest, send.sock) = (0, 0);
            return;
        }
    }
    let mut moved = moved(sock, entry, length, direction::EGRESS);
    place_sent(sock, entry, &mut moved);
    if let Some(rule) = rules::excluded(entry) {
        rules::skipped(rule, length);
        return;
    }
    moved.task = current_key();
    let origin = if upper_layer(sock, entry) {
        Origin::NONE
    } else {
        syscalls::origin(&syscalls::entered(), true, moved.task.tid)
    };
    payload::offer_to_tls(&moved, origin);
    payload::copy(moved, origin);
}

/// Sets the position of sent bytes where no hook under the lock told it.
#[inline(always)]
fn place_sent(sock: u64, entry: *mut Socket, moved: &mut Moved) {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.transport != transport::TCP {
        place_counted(entry, moved, EGRESS);
        return;
    }
    let sequence: u32 = read(sock + offset::TCP_WRITE_SEQ() as u64).unwrap_or(0);
    let end = sockets::position(socket.next[EGRESS], socket.base[EGRESS], sequence);
    moved.position = end.wrapping_sub(moved.length);
    if moved.position == socket.next[EGRESS] {
        moved.flags |= flag::POSITION_EXACT;
    }
    socket.next[EGRESS] = end;
}

/// `inet_sock_set_state(sk, old, new)`: a TCP socket connects, is accepted, or sends its FIN. Runs in
/// softirq too, so the current task means something only for the start of a connect.
#[raw_tracepoint]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    if new == TCP_ESTABLISHED {
        established(sock, old);
        return 0;
    }
    if new != TCP_FIN_WAIT1 && new != TCP_LAST_ACK {
        return 0;
    }
    if let Some(socket) = SOCKETS.get_ptr_mut(&sock) {
        // SAFETY: a map's value, alive while the program runs.
        unsafe { (*socket).state |= state::FIN_SENT };
    }
    0
}

#[inline(always)]
fn established(sock: u64, old: i32) {
    if sockets::transport_of(sock) != Some(transport::TCP)
        || read::<u8>(sock + offset::TCP_IS_MPTCP() as u64).unwrap_or(0) != 0
    {
        return;
    }
    if let Some(stale) = SOCKETS.get_ptr_mut(&sock) {
        sockets::close(sock, stale);
    }
    let role = match old {
        TCP_SYN_SENT => role::CLIENT,
        TCP_SYN_RECV => role::SERVER,
        _ => role::UNKNOWN,
    };
    sockets::insert(sock, transport::TCP, role, 0);
}

/// `tcp_destroy_sock(sk)`: the end of a TCP socket, after which its address may serve another.
#[raw_tracepoint]
pub fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    if let Some(socket) = SOCKETS.get_ptr_mut(&sock) {
        sockets::close(sock, socket);
    }
    0
}
