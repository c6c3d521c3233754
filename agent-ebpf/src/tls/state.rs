//! What the TLS probes remember: the calls that each thread is in, and the TLS objects of each process.
//!
//! Frames are told apart by the stack pointer, so a call that never returns (longjmp, an exception) and a
//! function that was probed twice (one file under two names) leave nothing wrong behind.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use core::ffi::c_void;
use custody_abi::{SocketKey, TaskKey, flag, source};

use crate::maps::Shared;
use crate::rings::{self, Fate};

/// Values of [`Frame::kind`].
pub mod call {
    pub const WRITE: u32 = 1;
    pub const WRITE_EX: u32 = 2;
    pub const READ: u32 = 3;
    pub const READ_EX: u32 = 4;
    pub const WRITE_EARLY: u32 = 5;
    pub const READ_EARLY: u32 = 6;
    /// The last of those that move the bytes of a buffer.
    pub const OF_BUFFERS: u32 = READ_EARLY;
    pub const HANDSHAKE: u32 = 7;
    pub const SENDFILE: u32 = 8;
    /// A function of the library that another one of the above calls for the same bytes.
    pub const INNER: u32 = 9;
}

/// The object's whole life was seen, so its plaintext begins at its beginning.
pub const FRESH: u32 = 1;
/// Two sockets were seen; both were told.
pub const DISPUTED: u32 = 2;

/// Calls within calls that are told apart (TLS inside TLS is two).
const DEPTH_MAX: usize = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frame {
    pub ssl: u64,
    pub buffer: u64,
    pub length: u64,
    pub out: u64,
    pub stack: u64,
    pub position: u64,
    pub call: u64,
    pub id: u64,
    pub kind: u32,
    pub reserved: u32,
}

impl Frame {
    pub const NONE: Self = Self {
        ssl: 0,
        buffer: 0,
        length: 0,
        out: 0,
        stack: 0,
        position: 0,
        call: 0,
        id: 0,
        kind: 0,
        reserved: 0,
    };
}

#[repr(C)]
pub struct Calls {
    depth: u64,
    frames: [Frame; DEPTH_MAX],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ObjectKey {
    pub start_ns: u64,
    pub ssl: u64,
    pub pid: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Object {
    pub id: u64,
    pub positions: [u64; 2],
    pub socket: SocketKey,
    pub calls: u64,
    pub flags: u32,
    pub provenance: u32,
}

impl Object {
    #[inline(always)]
    pub fn header_flags(&self) -> u16 {
        if self.flags & FRESH == 0 { flag::EXISTING } else { 0 }
    }
}

#[map]
static TLS_CALLS: HashMap<u64, Calls> = HashMap::with_max_entries(8_192, 0);

/// Entries of processes that died without `SSL_free` are swept by the agent.
#[map]
static TLS_OBJECTS: HashMap<ObjectKey, Object> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

static NO_CALLS: Calls = Calls { depth: 0, frames: [Frame::NONE; DEPTH_MAX] };

/// The TLS object of the innermost call that this thread is in.
#[inline(always)]
pub fn inside(thread: u64) -> Option<u64> {
    let calls = calls(thread)?;
    let depth = calls.depth;
    if depth == 0 {
        return None;
    }
    Some(calls.frames[index(depth - 1)].ssl)
}

/// The same, unless that call was left without a return: its frame then lies deeper than `stack`.
#[inline(always)]
pub fn inside_above(thread: u64, stack: u64) -> Option<u64> {
    let calls = calls(thread)?;
    let depth = calls.depth;
    if depth == 0 {
        return None;
    }
    let top = &calls.frames[index(depth - 1)];
    (top.stack > stack).then_some(top.ssl)
}

/// Puts a frame on the thread's stack. 0 when the call is no traffic of its own: the function was probed
/// twice, it is a part of the call around it, or there is no room. Exported, so that the verifier checks its
/// ways once and not once for each way before it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_tls_push(thread: u64, frame: *const Frame) -> u32 {
    if frame.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Frame.
    u32::from(push(thread, unsafe { &*frame }))
}

#[inline(always)]
fn push(thread: u64, frame: &Frame) -> bool {
    let calls = match calls(thread) {
        Some(calls) => calls,
        None => {
            if TLS_CALLS.insert(thread, &NO_CALLS, 0).is_err() {
                rings::count(source::PLAINTEXT, Fate::Lost, 0);
                return false;
            }
            let Some(calls) = self::calls(thread) else { return false };
            calls
        }
    };
    let mut depth = calls.depth;
    let mut kind = frame.kind;
    for _ in 0..DEPTH_MAX {
        if depth == 0 {
            break;
        }
        let top = &calls.frames[index(depth - 1)];
        if top.stack > frame.stack {
            // The call around this one. If it moves the same bytes, this one is a part of it.
            if top.ssl == frame.ssl && top.buffer == frame.buffer && top.kind <= call::OF_BUFFERS {
                kind = call::INNER;
            }
            break;
        }
        if top.stack == frame.stack
            && top.ssl == frame.ssl
            && top.kind == frame.kind
            && top.buffer == frame.buffer
        {
            return false;
        }
        depth -= 1;
    }
    if depth as usize >= DEPTH_MAX {
        rings::count(source::PLAINTEXT, Fate::Lost, 0);
        return false;
    }
    calls.frames[index(depth)] = Frame { kind, ..*frame };
    calls.depth = depth + 1;
    kind != call::INNER
}

/// Takes the frame of the call that returns now off the thread's stack, and those that never returned. 0 when
/// there is none. Exported for the reason of [`custody_tls_push`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_tls_pop(thread: u64, stack: u64, kind: u32, frame: *mut Frame) -> u32 {
    if frame.is_null() {
        return 0;
    }
    let Some(found) = pop(thread, stack, kind) else { return 0 };
    // SAFETY: not null, and the verifier holds every caller to a whole Frame.
    unsafe { *frame = found };
    1
}

#[inline(always)]
fn pop(thread: u64, stack: u64, kind: u32) -> Option<Frame> {
    let calls = calls(thread)?;
    let mut depth = calls.depth;
    for _ in 0..DEPTH_MAX {
        if depth == 0 {
            break;
        }
        let top = &calls.frames[index(depth - 1)];
        let at_return = top.stack + RETURN_POPS;
        if at_return > stack {
            break;
        }
        depth -= 1;
        if at_return == stack {
            calls.depth = depth;
            return if top.kind == kind { Some(*top) } else { None };
        }
    }
    calls.depth = depth;
    None
}

/// The thread is gone.
#[inline(always)]
pub fn on_thread_exit(thread: u64) {
    let _ = TLS_CALLS.remove(thread);
}

#[inline(always)]
pub fn object<'a>(task: &TaskKey, ssl: u64) -> Option<&'a mut Object> {
    let pointer = TLS_OBJECTS.get_ptr_mut(key(task, ssl))?;
    // SAFETY: a live map value. OpenSSL forbids two threads in one object, so nothing else writes it.
    Some(unsafe { &mut *pointer })
}

#[inline(always)]
pub fn object_or_new<'a>(task: &TaskKey, ssl: u64, flags: u32) -> Option<&'a mut Object> {
    if let Some(object) = object(task, ssl) {
        return Some(object);
    }
    let new = Object {
        id: next_number()?,
        positions: [0; 2],
        socket: SocketKey { sock: 0, generation: 0 },
        calls: 0,
        flags,
        provenance: 0,
    };
    let _ = TLS_OBJECTS.insert(key(task, ssl), &new, 0);
    object(task, ssl)
}

/// A number never used before, from the same source as the generations of sockets.
#[inline(always)]
fn next_number() -> Option<u64> {
    let shared: *mut Shared = rings::shared()?;
    // SAFETY: only the address of a member is taken.
    Some(rings::add(unsafe { &raw mut (*shared).generation }, 1) + 1)
}

#[inline(always)]
pub fn forget(task: &TaskKey, ssl: u64) {
    let _ = TLS_OBJECTS.remove(key(task, ssl));
}

#[inline(always)]
fn key(task: &TaskKey, ssl: u64) -> ObjectKey {
    ObjectKey { start_ns: task.start_ns, ssl, pid: task.pid, reserved: 0 }
}

#[inline(always)]
fn calls<'a>(thread: u64) -> Option<&'a mut Calls> {
    let pointer = TLS_CALLS.get_ptr_mut(thread)?;
    // SAFETY: a live map value; only this thread reads or writes its own.
    Some(unsafe { &mut *pointer })
}

/// `depth` as an index that the verifier can see the bounds of: LLVM would drop a mask that it can prove.
#[inline(always)]
fn index(depth: u64) -> usize {
    let mut index = depth;
    // SAFETY: plain arithmetic on a register.
    unsafe { core::arch::asm!("{0} &= 3", inout(reg) index) };
    (index & 3) as usize
}

#[cfg(bpf_target_arch = "x86_64")]
const RETURN_POPS: u64 = 8;
#[cfg(not(bpf_target_arch = "x86_64"))]
const RETURN_POPS: u64 = 0;

#[inline(always)]
pub fn stack_pointer(ctx: *mut c_void) -> u64 {
    let regs = ctx as *const aya_ebpf::bindings::pt_regs;
    // SAFETY: the context of a uprobe is its registers.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        (*regs).rsp
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        (*regs).sp
    }
}
