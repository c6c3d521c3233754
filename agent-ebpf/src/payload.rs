//! Copying what a call moved from the program's memory straight into the data ring, in size classes.
//!
//! Must not: stage payload in a map (programs are preemptible, two processes' bytes would mix), or leave out
//! a byte without saying how many, where and why.

use crate::kernel::{read, read_user, setting};
use crate::maps::DATA;
use crate::rings::{Fate, count, data_flags, gap, next_data_seq};
use crate::twins;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use custody_abi::{Data, Gap, Header, Socket, SocketKey, TaskKey, cause, flag, kind, layer, source};

setting!(/// Payload bytes of one call that are captured; the rest is cut, and said.
    CALL_BYTES_MAX: u64 = 1 << 20, call_bytes_max);

setting!(/// Whether TLS libraries may be probed, so that socket calls inside them are looked at.
    TLS_PROBES: u32 = 1, tls_probes);

/// Payload of the classes: with event and ring header they fill 256 B, 1, 4, 16 and 64 KiB.
const CLASSES: [usize; 5] = [160, 928, 4000, 16288, 65440];
const CHUNK_BYTES_MAX: u64 = CLASSES[4] as u64;
/// Chunks and empty segments that one call may have; a constant, so that the verifier sees an end.
const STEPS: u32 = 1024;
const PAGE: u64 = 4096;

/// One call's bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Moved {
    pub socket: SocketKey,
    pub task: TaskKey,
    pub position: u64,
    pub length: u64,
    pub time_ns: u64,
    pub flags: u16,
    pub direction: u8,
    pub reserved: u8,
    /// Padding.
    pub padding: u32,
}

/// Forms of [`Origin`].
pub(crate) mod form {
    /// No memory of the program holds the bytes.
    pub(crate) const NONE: u32 = 0;
    /// One buffer of `count` bytes.
    pub(crate) const BUFFER: u32 = 1;
    /// `count` iovecs in the kernel's memory.
    pub(crate) const IOVEC_KERNEL: u32 = 2;
    /// `count` iovecs in the program's memory.
    pub(crate) const IOVEC_USER: u32 = 3;
    /// The same of a 32-bit program.
    pub(crate) const IOVEC_COMPAT: u32 = 4;
}

/// Where the bytes lie in the program's memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Origin {
    pub form: u32,
    pub reserved: u32,
    pub count: u64,
    pub address: u64,
    /// Bytes of the first segment that do not belong to it any more.
    pub offset: u64,
}

impl Origin {
    pub(crate) const NONE: Self = Self { form: form::NONE, reserved: 0, count: 0, address: 0, offset: 0 };
}

#[repr(C)]
struct Slot<const N: usize> {
    data: Data,
    bytes: [u8; N],
}

/// What became of one chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Copied,
    RingFull,
    Unreadable,
}

/// How far the copying of a call is. Integers only: the verifier admits nothing else behind the pointer of
/// a function that it checks apart.
#[repr(C)]
pub struct Cursor {
    pub(crate) moved: Moved,
    wanted: u64,
    done: u64,
    /// Current segment.
    address: u64,
    left: u64,
    /// The segments after it.
    next_segment: u64,
    segments: u64,
    skip: u64,
    form: u32,
    /// Page by page, because one page of a larger piece could not be read.
    careful: u32,
}

impl Cursor {
    /// Of a call whose copying has not begun, and whose memory is not known.
    #[inline(always)]
    pub(crate) fn of(moved: Moved) -> Self {
        Cursor {
            moved,
            wanted: 0,
            done: 0,
            address: 0,
            left: 0,
            next_segment: 0,
            segments: 0,
            skip: 0,
            form: form::NONE,
            careful: 0,
        }
    }

    /// Says where the bytes lie.
    #[inline(always)]
    pub(crate) fn lie_at(&mut self, origin: &Origin) {
        self.form = origin.form;
        self.skip = origin.offset;
        if origin.form == form::BUFFER {
            (self.address, self.left) = (origin.address, origin.count);
        } else if origin.form != form::NONE {
            (self.next_segment, self.segments) = (origin.address, origin.count);
        }
    }
}

/// Where the first byte of an [`Origin`] lies in the program's memory.
#[inline(always)]
pub(crate) fn first_address(form: u32, address: u64, offset: u64) -> Option<u64> {
    let base = match form {
        form::NONE => return None,
        form::BUFFER => address,
        _ => segment(form, address).ok()?.0,
    };
    Some(base + offset)
}

/// Shows what was sent to the TLS library: its ciphertext may be sent by the program itself. Not part of [`tell`], so
/// that the two need the stack one after the other.
#[inline(always)]
pub(crate) fn show_to_tls(sock: u64, origin: &Origin, length: u64) {
    if tls_probes() != 0 && crate::tls::is_over_memory() && !crate::tls::is_inside() {
        crate::tls::custody_tls_sent(sock, origin.form, origin.address, origin.offset, length);
    }
}

/// Copies the call, and says what of it is missing.
#[inline(always)]
fn copy(cursor: &mut Cursor) {
    let whole = cursor.moved.length;
    cursor.wanted = if whole > call_bytes_max() { call_bytes_max() } else { whole };
    if cursor.form == form::BUFFER {
        (cursor.address, cursor.skip) = (cursor.address + cursor.skip, 0);
    }
    for _ in 0..STEPS {
        if custody_copy_step(cursor) == 0 {
            break;
        }
    }
    if cursor.done < whole {
        // More bytes than the buffers hold: a truncated datagram, or bytes that no buffer holds at all.
        let no_payload = cursor.left == 0 && cursor.segments == 0;
        let why = if no_payload { cause::NO_PAYLOAD } else { cause::CALL_LIMIT };
        missing(&cursor.moved, cursor.done, whole - cursor.done, why);
    }
}

/// One step of the copying: enters the next segment, or copies a chunk; 0 when there is no further one.
/// Exported, because the verifier checks an exported function once and by itself, where it would otherwise
/// walk all ways through each step of each call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_copy_step(cursor: *mut Cursor) -> u32 {
    if cursor.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Cursor.
    let cursor = unsafe { &mut *cursor };
    if cursor.done >= cursor.wanted {
        return 0;
    }
    if cursor.left == 0 {
        return enter_segment(cursor);
    }
    let mut size = cursor.wanted - cursor.done;
    if size > cursor.left {
        size = cursor.left;
    }
    if size > CHUNK_BYTES_MAX {
        size = CHUNK_BYTES_MAX;
    }
    let in_page = PAGE - (cursor.address & (PAGE - 1));
    if cursor.careful != 0 && size > in_page {
        size = in_page;
    }
    match chunk(cursor, size) {
        Outcome::Copied => count(source::WIRE, Fate::Submitted, size),
        Outcome::Unreadable if cursor.careful == 0 && size > in_page => {
            // One page is missing, not all: take the rest page by page.
            cursor.careful = 1;
            return 1;
        }
        outcome => {
            let why = if outcome == Outcome::RingFull { cause::RING_FULL } else { cause::PAGE_FAULT };
            missing(&cursor.moved, cursor.done, size, why);
        }
    }
    cursor.done += size;
    cursor.address += size;
    cursor.left -= size;
    1
}

#[inline(always)]
fn enter_segment(cursor: &mut Cursor) -> u32 {
    if cursor.segments == 0 {
        return 0;
    }
    cursor.segments -= 1;
    let Ok((base, length, stride)) = segment(cursor.form, cursor.next_segment) else {
        // The list of segments itself cannot be read: what is left is one gap.
        cursor.segments = 0;
        missing(&cursor.moved, cursor.done, cursor.wanted - cursor.done, cause::PAGE_FAULT);
        cursor.done = cursor.wanted;
        return 0;
    };
    cursor.next_segment += stride;
    if cursor.skip <= length {
        (cursor.address, cursor.left, cursor.skip) = (base + cursor.skip, length - cursor.skip, 0);
    }
    1
}

/// Says that `length` bytes of the call, from its byte `from` on, were not captured.
#[inline(always)]
pub(crate) fn missing(moved: &Moved, from: u64, length: u64, why: u8) {
    count(source::WIRE, if why == cause::CALL_LIMIT { Fate::Cut } else { Fate::Lost }, length);
    if why == cause::NO_PAYLOAD || why == cause::PAGE_FAULT {
        twins::holed_by_name(moved.socket);
    }
    // A datagram's position is its number, which its parts share.
    let position = if moved.flags & flag::DATAGRAM != 0 { moved.position } else { moved.position + from };
    gap(moved.flags, moved.time_ns, |header| Gap {
        header,
        socket: moved.socket,
        task: moved.task,
        tls: 0,
        position,
        call: 0,
        length,
        direction: moved.direction,
        layer: layer::WIRE,
        cause: why,
        reserved: 0,
        padding: 0,
    });
}

/// Tells what moved. What a TLS library moves for an object whose plaintext is read is left out, and counted; so is
/// what the other end of the connection tells.
#[inline(always)]
pub(crate) fn tell(cursor: &mut Cursor, socket: *mut Socket) {
    if tls_probes() != 0 && crate::tls::is_inside() {
        if crate::tls::is_read(&cursor.moved.task, cursor.moved.socket) {
            return crate::rules::skipped(custody_abi::rule::CIPHERTEXT, cursor.moved.length);
        }
        offer_to_tls(cursor);
    }
    if twins::told_by_other_end(&cursor.moved, cursor.form == form::NONE, socket) {
        return crate::rules::skipped(custody_abi::rule::OTHER_END, cursor.moved.length);
    }
    copy(cursor);
}

/// Shows the head of the bytes that a TLS library moves: a record tells whose plaintext it is.
#[inline(always)]
fn offer_to_tls(cursor: &Cursor) {
    if cursor.moved.length < 5 {
        return;
    }
    let start = if cursor.form == form::BUFFER { cursor.address } else { cursor.next_segment };
    let Some(address) = first_address(cursor.form, start, cursor.skip) else { return };
    if let Ok(head) = read_user::<[u8; 5]>(address) {
        crate::tls::on_socket_bytes(&cursor.moved.task, cursor.moved.socket, &head);
    }
}

/// Base, length and own size of the iovec at `address`.
#[inline(always)]
fn segment(form: u32, address: u64) -> Result<(u64, u64, u64), ()> {
    if form == form::IOVEC_COMPAT {
        let [base, length]: [u32; 2] = read_user(address)?;
        return Ok((u64::from(base), u64::from(length), 8));
    }
    let [base, length]: [u64; 2] =
        if form == form::IOVEC_KERNEL { read(address)? } else { read_user(address)? };
    Ok((base, length, 16))
}

#[inline(always)]
fn chunk(cursor: &Cursor, size: u64) -> Outcome {
    if size <= CLASSES[0] as u64 {
        fill::<{ CLASSES[0] }>(cursor, size)
    } else if size <= CLASSES[1] as u64 {
        fill::<{ CLASSES[1] }>(cursor, size)
    } else if size <= CLASSES[2] as u64 {
        fill::<{ CLASSES[2] }>(cursor, size)
    } else if size <= CLASSES[3] as u64 {
        fill::<{ CLASSES[3] }>(cursor, size)
    } else {
        fill::<{ CLASSES[4] }>(cursor, size)
    }
}

#[inline(always)]
fn fill<const N: usize>(cursor: &Cursor, size: u64) -> Outcome {
    let Some(mut slot) = DATA.reserve::<Slot<N>>(0) else {
        let _ = next_data_seq();
        return Outcome::RingFull;
    };
    let (moved, done, address) = (&cursor.moved, cursor.done, cursor.address);
    let slot_pointer = slot.as_mut_ptr();
    let mut length = size;
    // SAFETY: the slot has room for N bytes, and the assembly keeps `length` there in the verifier's eyes, which
    // the optimiser would take out as proven. Every field is written before the slot is handed over.
    unsafe {
        core::arch::asm!("if {0} <= {1} goto +1", "{0} = {1}", inout(reg) length, const N);
        let bytes = (&raw mut (*slot_pointer).bytes).cast();
        if bpf_probe_read_user(bytes, length as u32, address as *const _) != 0 {
            slot.discard(0);
            return Outcome::Unreadable;
        }
        let seq = next_data_seq();
        let data = &raw mut (*slot_pointer).data;
        data.write(Data {
            header: Header {
                kind: kind::DATA,
                flags: moved.flags,
                len: size as u32,
                time_ns: moved.time_ns,
                seq,
            },
            socket: moved.socket,
            task: moved.task,
            tls: 0,
            position: if moved.flags & flag::DATAGRAM != 0 { moved.position } else { moved.position + done },
            call: 0,
            direction: moved.direction,
            layer: layer::WIRE,
            provenance: 0,
            reserved: 0,
            padding: 0,
        });
    }
    slot.submit(data_flags());
    Outcome::Copied
}
