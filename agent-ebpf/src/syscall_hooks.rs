//! The second back-end, for kernels without the socket tracepoints: raw tracepoints at the entry and exit of
//! every system call. The descriptor is resolved at the entry, because it may name another file at the exit;
//! the arguments are read at the exit, from the registers of the entry.

use crate::kernel::{current, load, offset, read_user};
use crate::maps::{CALLS, Call};
use crate::payload::Origin;
use crate::rings::{self, Fate, now};
use crate::sockets;
use crate::syscalls::{self, Entered};
use crate::transfer::{self, Transfer};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use custody_abi::{shape, source};

/// Messages of one `*mmsg` call that are told; the kernel takes 1024 at most (`UIO_MAXIOV`).
const MESSAGES_MAX: u32 = 1024;

#[inline(always)]
fn thread() -> u32 {
    load(current(), offset::TASK_PID())
}

/// `sys_enter(regs, number)`.
#[raw_tracepoint]
pub fn sys_enter(_ctx: RawTracePointContext) -> i32 {
    let call = syscalls::entered();
    if call.form == shape::NONE {
        return 0;
    }
    let Some((sock, form)) = socket_of(&call) else { return 0 };
    if !sockets::is_observed(sock) {
        return 0;
    }
    let state = Call { sock, time_ns: now(), messages: 0, index: 0, shape: u32::from(form) };
    if CALLS.insert(&thread(), &state, 0).is_err() {
        // What the call will move is not known yet; that one was missed is.
        rings::count(source::WIRE, Fate::Lost, 0);
    }
    0
}

/// The socket that the call moves bytes on, and the call's form with its direction.
#[inline(always)]
fn socket_of(call: &Entered) -> Option<(u64, u8)> {
    if call.form == shape::SPLICE
        && let Ok(sock) = sockets::sock_of_fd(call.arguments[2] as i32)
    {
        return Some((sock, shape::SPLICE | shape::SENDS));
    }
    sockets::sock_of_fd(call.arguments[0] as i32).ok().map(|sock| (sock, call.form))
}

/// `sys_exit(regs, result)`.
#[raw_tracepoint]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let call = syscalls::entered();
    if call.form == shape::NONE {
        return 0;
    }
    let thread = thread();
    // SAFETY: the value is copied at once.
    let Some(begun) = (unsafe { CALLS.get(&thread) }).copied() else { return 0 };
    let _ = CALLS.remove(&thread);
    let result: i64 = ctx.arg(1);
    if result <= 0 {
        return 0;
    }
    let sends = begun.shape as u8 & shape::SENDS != 0;
    let flags = flags_of(&call);
    // What is sent was there when the call began; what is received, when it ends.
    let time_ns = if sends { begun.time_ns } else { now() };
    if call.form & shape::FORM == shape::MESSAGES {
        messages(&call, begun.sock, result as u64, time_ns, flags, sends);
        return 0;
    }
    let origin = syscalls::origin(&call, sends, result as u64, thread);
    let mut transfer = Transfer {
        sock: begun.sock,
        length: result as u64,
        after: 0,
        time_ns,
        origin,
        flags,
        sends: u32::from(sends),
    };
    transfer::tell(&mut transfer);
    0
}

/// `MSG_*` of the call.
#[inline(always)]
fn flags_of(call: &Entered) -> u32 {
    match call.form & shape::FORM {
        // `read` and `write` have three arguments: what the fourth register holds is not theirs.
        shape::BUFFER if call.takes_flags => call.arguments[3] as u32,
        shape::MESSAGE => call.arguments[2] as u32,
        shape::MESSAGES => call.arguments[3] as u32,
        _ => 0,
    }
}

/// Each message of a `*mmsg` call, with the length that the kernel wrote beside it.
#[inline(always)]
fn messages(call: &Entered, sock: u64, count: u64, time_ns: u64, flags: u32, sends: bool) {
    let mut walk = Messages {
        transfer: Transfer {
            sock,
            length: 0,
            after: 0,
            time_ns,
            origin: Origin::NONE,
            flags,
            sends: u32::from(sends),
        },
        next: call.arguments[1],
        left: count,
        compat: u64::from(call.compat),
        tells: 0,
    };
    // The sequence stands behind the last message already, so the sum is needed before the first is told.
    for _ in 0..MESSAGES_MAX {
        if custody_message_step(&raw mut walk) == 0 {
            break;
        }
    }
    (walk.next, walk.left, walk.tells) = (call.arguments[1], count, 1);
    for _ in 0..MESSAGES_MAX {
        if custody_message_step(&raw mut walk) == 0 {
            break;
        }
        if walk.transfer.length != 0 {
            transfer::tell(&mut walk.transfer);
        }
    }
}

/// How far a `*mmsg` call is told. Integers only, as in `payload::Cursor`.
#[repr(C)]
pub struct Messages {
    transfer: Transfer,
    next: u64,
    left: u64,
    compat: u64,
    /// 0 while the lengths are summed into `transfer.after`.
    tells: u64,
}

/// Sums one message, or makes it the transfer; 0 when there is no further one. Exported for the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_message_step(walk: *mut Messages) -> u32 {
    if walk.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Messages.
    let walk = unsafe { &mut *walk };
    if walk.left == 0 {
        return 0;
    }
    // `msg_len` stands behind the `struct msghdr`.
    let (stride, length_at) = if walk.compat != 0 { (32, 28) } else { (64, 56) };
    let length = u64::from(read_user::<u32>(walk.next + length_at).unwrap_or(0));
    let message = walk.next;
    walk.next += stride;
    walk.left -= 1;
    if walk.tells == 0 {
        walk.transfer.after += length;
        return 1;
    }
    walk.transfer.after = walk.transfer.after.saturating_sub(length);
    walk.transfer.length = length;
    walk.transfer.origin = syscalls::message(walk.compat != 0, message);
    1
}
