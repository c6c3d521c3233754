//! The first back-end: raw tracepoints on the socket layer. They give the true `struct sock`, fire for every
//! way into it, and cost calls on other files nothing.

use crate::kernel::{current, current_key, load, offset, read};
use crate::maps::{SENDS, SOCKETS, Send};
use crate::payload::{self, Cursor, Moved, Origin, form};
use crate::rings::{self, now};
use crate::sockets::{self, EGRESS, state};
use crate::transfer::{self, NO_ROOM, Transfer};
use crate::{kernel, lives, rules, sequences, syscalls, twins};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::warn;
use custody_abi::{Socket, direction, flag, role, transport};

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
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
    if result <= 0 {
        return 0;
    }
    if !sockets::is_observed(sock) {
        return 0;
    }
    let call = syscalls::running();
    let origin = syscalls::origin(&call, false, result as u64, thread());
    let mut transfer = Transfer {
        sock,
        length: result as u64,
        after: 0,
        time_ns: now(),
        origin,
        flags: flags as u32,
        sends: 0,
    };
    if transfer::tell(&mut transfer) == NO_ROOM {
        complain(&ctx);
    }
    0
}

/// The loss itself stands in the record; the log tells who runs the agent what to do.
#[inline(always)]
fn complain(ctx: &RawTracePointContext) {
    if rings::may_complain() {
        warn!(ctx, "the table of sockets is full: what further ones move is lost, and counted as table_full");
    }
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
    let entry = sockets::find(sock, [0; 2]).ok_or(())?;
    if rules::excluded(entry).is_some() {
        return Ok(());
    }
    sockets::tell(sock, entry);
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    let sequence: u32 = read(sock + offset::TCP_WRITE_SEQ() as u64)?;
    let position = sequences::position(socket.next[EGRESS], socket.base[EGRESS], sequence);
    let thread = thread();
    let mut send = iterator(message + offset::MSG_ITER() as u64)?;
    (send.sock, send.position, send.time_ns) = (sock, position, now());
    if send.form == form::NONE {
        // The other end may read them before this call is over, so it must know before they leave.
        twins::holed(socket);
    }
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
    copy_sent(sock, entry, send, length);
    payload::show_to_tls(sock, &origin_of(send), length);
}

#[inline(always)]
fn origin_of(send: &Send) -> Origin {
    let count = if send.form == form::BUFFER { send.rest } else { u64::from(send.segments) };
    Origin { form: send.form, reserved: 0, count, address: send.source, offset: send.offset }
}

/// A function of its own, for its share of the stack.
#[inline(never)]
fn copy_sent(sock: u64, entry: *mut Socket, send: &Send, length: u64) -> u64 {
    let mut cursor = Cursor::of(Moved {
        socket: sockets::key(sock, entry),
        task: current_key(),
        position: send.position,
        length,
        time_ns: send.time_ns,
        flags: flag::POSITION_EXACT,
        direction: direction::EGRESS,
        reserved: 0,
        padding: 0,
    });
    if !transfer::upper_layer(sock, entry) {
        cursor.lie_at(&origin_of(send));
    }
    payload::tell(&mut cursor, entry);
    0
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
    if !sockets::is_observed(sock) {
        return 0;
    }
    if sent(sock, result as u64, thread) == NO_ROOM {
        complain(&ctx);
    }
    0
}

#[inline(always)]
fn sent(sock: u64, length: u64, thread: u32) -> u32 {
    if let Some(send) = SENDS.get_ptr_mut(&thread) {
        // SAFETY: a map's value, alive while the program runs; only this thread uses its entry.
        let send = unsafe { &mut *send };
        if send.sock == sock && send.rest != 0 && length >= send.told {
            let last = length - send.told;
            let Some(entry) = SOCKETS.get_ptr_mut(&sock) else { return 0 };
            if last != 0 {
                tell_sent(sock, entry, send, last);
            }
            // SAFETY: as above.
            unsafe { (*entry).next[EGRESS] = send.position + last };
            (send.rest, send.sock) = (0, 0);
            return 0;
        }
    }
    let call = syscalls::running();
    let origin = syscalls::origin(&call, true, length, thread);
    let mut transfer = Transfer { sock, length, after: 0, time_ns: now(), origin, flags: 0, sends: 1 };
    transfer::tell(&mut transfer)
}

/// `inet_sock_set_state(sk, old, new)`: a TCP socket connects, is accepted, sends its FIN, or is over. Runs in
/// softirq too, so the current task means something only for the start of a connect.
#[raw_tracepoint]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    match new {
        TCP_SYN_SENT => connecting(sock),
        TCP_ESTABLISHED => established(sock, old),
        TCP_FIN_WAIT1 | TCP_LAST_ACK => mark(sock, state::FIN_SENT),
        TCP_CLOSE => over(sock),
        _ => {}
    }
    0
}

#[inline(always)]
fn over(sock: u64) {
    let Some(entry) = SOCKETS.get_ptr_mut(&sock) else { return };
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *entry };
    if socket.transport != transport::TCP {
        // MPTCP: no other hook tells its end, and no list of the kernel's has it for the sweep.
        lives::close(sock, entry);
        return;
    }
    // A disconnect that follows moves the sequences away from the data.
    if let Ok(sequence) = read(sock + offset::TCP_WRITE_SEQ() as u64) {
        socket.end_sequence = sequence;
        socket.state |= state::OVER;
    }
}

#[inline(always)]
fn mark(sock: u64, bit: u16) {
    if let Some(socket) = SOCKETS.get_ptr_mut(&sock) {
        // SAFETY: a map's value, alive while the program runs.
        unsafe { (*socket).state |= bit };
    }
}

#[inline(always)]
fn is_plain_tcp(sock: u64) -> bool {
    sockets::transport_of(sock) == Some(transport::TCP)
        && read::<u8>(sock + offset::TCP_IS_MPTCP() as u64).unwrap_or(0) == 0
}

/// The one moment at which the current task is who connects.
#[inline(always)]
fn connecting(sock: u64) {
    if !is_plain_tcp(sock) {
        return;
    }
    if let Some(stale) = SOCKETS.get_ptr_mut(&sock) {
        lives::forget(sock, stale);
    }
    sockets::insert(sock, transport::TCP, role::CLIENT, state::CONNECTING, [0; 2]);
    if let Some(entry) = SOCKETS.get_ptr_mut(&sock) {
        // SAFETY: a map's value, alive while the program runs.
        unsafe { (*entry).opener = current_key() };
        let _ = rules::excluded(entry);
    }
}

#[inline(always)]
fn established(sock: u64, old: i32) {
    if !is_plain_tcp(sock) {
        return;
    }
    if let Some(entry) = SOCKETS.get_ptr_mut(&sock) {
        // SAFETY: a map's value, alive while the program runs.
        if unsafe { (*entry).state } & state::CONNECTING != 0 {
            sockets::connected(sock, entry);
            twins::connected(sock, entry);
            return;
        }
        lives::forget(sock, entry);
    }
    let role = match old {
        TCP_SYN_SENT => role::CLIENT,
        TCP_SYN_RECV => role::SERVER,
        _ => role::UNKNOWN,
    };
    sockets::insert(sock, transport::TCP, role, 0, [0; 2]);
    if role == role::SERVER {
        twins::accepted(sock);
    }
}

/// `tcp_receive_reset(sk)`: the peer broke the connection off.
#[raw_tracepoint]
pub fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    mark(ctx.arg(0), state::RESET_RECEIVED);
    0
}

/// `tcp_send_reset(sk, skb, ...)`: this end broke it off; `sk` is null where no connection was.
#[raw_tracepoint]
pub fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    mark(ctx.arg(0), state::RESET_SENT);
    0
}

/// `tcp_destroy_sock(sk)`: the end of a TCP socket, after which its address may serve another.
#[raw_tracepoint]
pub fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    if let Some(socket) = SOCKETS.get_ptr_mut(&sock) {
        lives::close(sock, socket);
    }
    0
}
