//! Where the system call that the current thread is in keeps its buffers: read from the registers with which
//! it entered the kernel, so that no hook at its entry is needed.
//!
//! Must not: look at the file descriptor; it may name another file by now.

use crate::kernel::{current, load, offset, read_user};
use crate::maps::{CALLS, Call, SHAPES};
use crate::payload::{Origin, form};
use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use custody_abi::{offsets::ABSENT, shape};

/// `TS_COMPAT` of x86: the thread is in a 32-bit system call (`int 0x80` too).
const COMPAT: u32 = 2;

/// Beside the form in [`Call::shape`]: the `recvmmsg` call has a time limit, which may end it unseen.
const LIMITED: u32 = 1 << 8;
/// Beside it too: the call may have ended with this message, or not.
const UNSURE: u32 = 1 << 9;

/// A call as its registers tell it.
pub(crate) struct Entered {
    /// One of [`shape`].
    pub form: u8,
    /// First argument is 0.
    pub arguments: [u64; 5],
    pub compat: bool,
    /// Whether the fourth argument of a [`shape::BUFFER`] call is `MSG_*`.
    pub takes_flags: bool,
}

/// The system call by which this thread entered the kernel, or form NONE where it moves no payload that we know how to find.
#[inline(always)]
pub(crate) fn entered() -> Entered {
    let task = current();
    // SAFETY: takes the typed pointer, never fails.
    let regs = unsafe { bpf_task_pt_regs(task as *mut _) } as *const u8;
    let number: u64 = load(regs, offset::REGS_NUMBER());
    let compat = offset::TASK_COMPAT_STATUS() != ABSENT as usize
        && load::<u32>(task, offset::TASK_COMPAT_STATUS()) & COMPAT != 0;
    let mut index = number as u32 & (shape::TABLE - 1);
    if number >= u64::from(shape::TABLE) {
        index = 0;
    }
    let arguments: [u64; 5] = if compat {
        // 32-bit order: bx cx dx si di.
        [
            load::<u32>(regs, offset::REGS_BX()) as u64,
            load::<u32>(regs, offset::REGS_CX()) as u64,
            load::<u32>(regs, offset::REGS_ARG2()) as u64,
            load::<u32>(regs, offset::REGS_ARG1()) as u64,
            load::<u32>(regs, offset::REGS_ARG0()) as u64,
        ]
    } else {
        [
            load(regs, offset::REGS_ARG0()),
            load(regs, offset::REGS_ARG1()),
            load(regs, offset::REGS_ARG2()),
            load(regs, offset::REGS_ARG3()),
            load(regs, offset::REGS_ARG4()),
        ]
    };
    let index = if compat { index + shape::TABLE } else { index };
    let entry = SHAPES.get(index).copied().unwrap_or(shape::NONE);
    let form = entry & !shape::FLAGS;
    if form & shape::FORM == shape::SOCKETCALL {
        return socketcall(arguments);
    }
    Entered { form, arguments, compat, takes_flags: entry & shape::FLAGS != 0 }
}

/// The system call inside which a hook on sockets runs now; form NONE where it runs outside of any. io_uring
/// finishes what had to wait when a thread leaves whatever it is in (a system call, an interrupt), and its worker
/// threads begin with a copy of such registers: the buffers that they name are another call's.
#[inline(always)]
pub(crate) fn running() -> Entered {
    // What the entry stores as the result, until the call's own is known.
    const ENOSYS: i64 = 38;
    if offset::REGS_RESULT() != ABSENT as usize {
        // SAFETY: takes the typed pointer, never fails.
        let regs = unsafe { bpf_task_pt_regs(current() as *mut _) } as *const u8;
        if load::<i64>(regs, offset::REGS_RESULT()) != -ENOSYS {
            return Entered { form: shape::NONE, arguments: [0; 5], compat: false, takes_flags: false };
        }
    }
    entered()
}

/// `socketcall(2)`: which call, and the address of its arguments as 32-bit words.
#[inline(always)]
fn socketcall(outer: [u64; 5]) -> Entered {
    const SEND: u64 = 9;
    const RECVFROM: u64 = 12;
    const SENDMSG: u64 = 16;
    const RECVMSG: u64 = 17;
    let none = Entered { form: shape::NONE, arguments: [0; 5], compat: true, takes_flags: true };
    let Ok([fd, first, second, third]) = read_user::<[u32; 4]>(outer[1]) else { return none };
    let arguments = [u64::from(fd), u64::from(first), u64::from(second), u64::from(third), 0];
    // 9 send, 10 recv, 11 sendto, 12 recvfrom; sends have odd numbers among these, even ones above.
    let form = match outer[0] {
        SEND..=RECVFROM if outer[0] & 1 == 1 => shape::BUFFER | shape::SENDS,
        SEND..=RECVFROM => shape::BUFFER,
        SENDMSG => shape::MESSAGE | shape::SENDS,
        RECVMSG => shape::MESSAGE,
        _ => shape::NONE,
    };
    Entered { form, arguments, compat: true, takes_flags: true }
}

/// The buffers of the call, which moved `length` bytes. For `*mmsg` calls those of the message that is told now.
#[inline(always)]
pub(crate) fn origin(call: &Entered, sends: bool, length: u64, thread: u32) -> Origin {
    if (call.form & shape::SENDS != 0) != sends {
        // A call that moves both ways inside the kernel, such as splice: the buffers are not this socket's.
        return Origin::NONE;
    }
    match call.form & shape::FORM {
        shape::BUFFER => Origin {
            form: form::BUFFER,
            reserved: 0,
            count: call.arguments[2],
            address: call.arguments[1],
            offset: 0,
        },
        shape::IOVEC => iovec(call.compat, call.arguments[1], call.arguments[2]),
        shape::MESSAGE => message(call.compat, call.arguments[1]),
        shape::MESSAGES => {
            let Some(index) = next_message(call, length, thread) else { return Origin::NONE };
            let stride = if call.compat { 32 } else { 64 };
            message(call.compat, call.arguments[1] + u64::from(index) * stride)
        }
        _ => Origin::NONE,
    }
}

#[inline(always)]
fn iovec(compat: bool, address: u64, count: u64) -> Origin {
    Origin {
        form: if compat { form::IOVEC_COMPAT } else { form::IOVEC_USER },
        reserved: 0,
        count,
        address,
        offset: 0,
    }
}

/// `struct user_msghdr`: name, its length, iovecs, how many.
#[inline(always)]
pub(crate) fn message(compat: bool, address: u64) -> Origin {
    if compat {
        let Ok([iov, count]) = read_user::<[u32; 2]>(address + 8) else { return Origin::NONE };
        return iovec(true, u64::from(iov), u64::from(count));
    }
    let Ok([iov, count]) = read_user::<[u64; 2]>(address + 16) else { return Origin::NONE };
    iovec(false, iov, count)
}

/// Which message of a `*mmsg` call this is: the kernel tells each one's length in turn, and an error, the last one,
/// an urgent byte or a message that was sent in part ends the call. `None` where the call before this one may have
/// ended unseen, by a time limit or by a message of too many segments to be summed.
#[inline(always)]
fn next_message(call: &Entered, length: u64, thread: u32) -> Option<u32> {
    const MSG_OOB: u64 = 1;
    let limited = call.form & shape::SENDS == 0 && call.arguments[4] != 0;
    // What a limited call left behind says nothing of the next one.
    let shape = u32::from(call.form) | if limited { LIMITED } else { 0 };
    // SAFETY: the value is copied at once.
    let before = unsafe { CALLS.get(&thread) }.copied();
    let same = before.filter(|b| b.messages == call.arguments[1] && b.shape & !UNSURE == shape);
    let index = same.map_or(0, |b| b.index + 1);
    let mut unsure = same.map_or(0, |b| b.shape & UNSURE);
    let sure = unsure == 0 && !limited || index == 0;
    let mut over = u64::from(index) + 1 >= call.arguments[2];
    if call.form & shape::SENDS == 0 {
        over |= call.arguments[3] & MSG_OOB != 0;
    } else if !over {
        let stride = if call.compat { 32 } else { 64 };
        let all = message_bytes(u64::from(call.compat), call.arguments[1] + u64::from(index) * stride);
        over = all & !UNKNOWN > length;
        if all & UNKNOWN != 0 {
            unsure = UNSURE;
        }
    }
    if over {
        let _ = CALLS.remove(&thread);
    } else {
        let state = Call { sock: 0, time_ns: 0, messages: call.arguments[1], index, shape: shape | unsure };
        let _ = CALLS.insert(&thread, &state, 0);
    }
    sure.then_some(index)
}

/// Set in the sum of [`message_bytes`] where there is more than was summed.
const UNKNOWN: u64 = 1 << 63;

/// Bytes of a message that is to be sent, as far as its first segments tell. A function of its own, for its share
/// of the stack.
#[inline(never)]
fn message_bytes(compat: u64, address: u64) -> u64 {
    const SEGMENTS_MAX: u64 = 16;
    let list = message(compat != 0, address);
    let mut sum = 0_u64;
    for index in 0..SEGMENTS_MAX {
        if index >= list.count {
            break;
        }
        let length = if compat != 0 {
            read_user::<u32>(list.address + index * 8 + 4).map(u64::from)
        } else {
            read_user::<u64>(list.address + index * 16 + 8)
        };
        let Ok(length) = length else { return sum | UNKNOWN };
        // The kernel moves 2 GiB at most in one call.
        sum += if length > 1 << 31 { 1 << 31 } else { length };
    }
    if list.count > SEGMENTS_MAX { sum | UNKNOWN } else { sum }
}

/// An error ends a `*mmsg` call.
#[inline(always)]
pub(crate) fn failed(thread: u32) {
    let call = running();
    if call.form & shape::FORM == shape::MESSAGES {
        let _ = CALLS.remove(&thread);
    }
}
