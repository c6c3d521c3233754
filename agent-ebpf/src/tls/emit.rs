//! How the TLS probes hand over: everything into the data ring, so that a settle, a binding and a close stand
//! behind the plaintext that they speak of. Payload goes from the caller's buffer straight into the ring, in
//! three sizes of slot.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use custody_abi::{Data, Gap, Header, cause, flag, kind, source};

use crate::maps::DATA;
use crate::rings::{self, Fate};

/// Pieces of one call at most, 1 MiB; the rest is a gap.
const PIECES_MAX: usize = 64;
/// With event and ring header 256 bytes: most queries and acknowledgements.
const TINY: usize = 160;
/// With both headers 1 KiB: most requests and small answers.
const SMALL: usize = 928;
/// A TLS record's plaintext (RFC 8446 5.1).
const LARGE: usize = 16 << 10;

#[repr(C)]
struct Slot<const BYTES: usize> {
    data: Data,
    bytes: [u8; BYTES],
}

/// An event without payload.
#[inline(always)]
pub(super) fn record<T: 'static>(event_kind: u16, flags: u16, event: T) {
    let seq = rings::next_data_seq();
    let Some(mut slot) = DATA.reserve::<T>(0) else {
        rings::count(source::CONTROL, Fate::Lost, 0);
        return;
    };
    let pointer = slot.as_mut_ptr();
    // SAFETY: the slot has room for a T, and each T begins with a Header.
    unsafe {
        pointer.write(event);
        pointer.cast::<Header>().write(Header {
            kind: event_kind,
            flags,
            len: 0,
            time_ns: rings::now(),
            seq,
        });
    }
    slot.submit(rings::data_flags());
    rings::count(source::CONTROL, Fate::Submitted, 0);
}

/// One call's plaintext on its way into the ring. Integers only: the verifier admits nothing else behind the
/// pointer of a function that it checks apart.
#[repr(C)]
pub struct Plaintext {
    data: Data,
    buffer: u64,
    length: u64,
    done: u64,
}

/// `length` bytes at `buffer` of the current process, as pieces of `data`.
#[inline(always)]
pub(super) fn user_bytes(data: Data, buffer: u64, length: u64) {
    let mut whole = Plaintext { data, buffer, length, done: 0 };
    for _ in 0..PIECES_MAX {
        if custody_tls_piece(&raw mut whole) == 0 {
            return;
        }
    }
    let (captured, cut) = (whole.done, length - whole.done);
    rings::count(source::PLAINTEXT, Fate::Cut, cut);
    gap(&whole.data, captured, cut, cause::CALL_LIMIT);
}

/// Copies the next piece; 0 when it was the last. Exported, because the verifier checks an exported function
/// once and by itself, where it would otherwise walk all ways through each piece of each call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_tls_piece(whole: *mut Plaintext) -> u32 {
    if whole.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Plaintext.
    let whole = unsafe { &mut *whole };
    let rest = whole.length - whole.done;
    let length = if rest > LARGE as u64 { LARGE as u64 } else { rest };
    if length <= TINY as u64 {
        piece::<TINY>(whole, length);
    } else if length <= SMALL as u64 {
        piece::<SMALL>(whole, length);
    } else {
        piece::<LARGE>(whole, length);
    }
    whole.done += length;
    u32::from(rest > length)
}

#[inline(always)]
fn piece<const BYTES: usize>(whole: &Plaintext, length: u64) {
    let (data, done) = (&whole.data, whole.done);
    let seq = rings::next_data_seq();
    let Some(mut slot) = DATA.reserve::<Slot<BYTES>>(0) else {
        // Where the next event of this object stands tells what is missing.
        rings::count(source::PLAINTEXT, Fate::Lost, length);
        return;
    };
    let pointer = slot.as_mut_ptr();
    let bounded = bounded::<BYTES>(length);
    // SAFETY: the slot has room for the head and for `bounded` bytes behind it.
    let failed = unsafe {
        let target = (&raw mut (*pointer).bytes).cast();
        bpf_probe_read_user(target, bounded, (whole.buffer + done) as *const _)
    };
    if failed != 0 {
        slot.discard(rings::data_flags());
        rings::count(source::PLAINTEXT, Fate::Lost, length);
        gap(data, done, length, cause::PAGE_FAULT);
        return;
    }
    // SAFETY: as above.
    unsafe {
        (&raw mut (*pointer).data).write(Data { position: data.position + done, ..*data });
        (&raw mut (*pointer).data.header).write(Header { len: bounded, seq, ..data.header });
    }
    slot.submit(rings::data_flags());
    rings::count(source::PLAINTEXT, Fate::Submitted, length);
}

#[inline(always)]
pub(super) fn gap(data: &Data, offset: u64, length: u64, cause: u8) {
    let gap = Gap {
        header: Header::default(),
        socket: data.socket,
        task: data.task,
        tls: data.tls,
        position: data.position + offset,
        call: data.call,
        length,
        direction: data.direction,
        layer: data.layer,
        cause,
        reserved: 0,
        padding: 0,
    };
    record(kind::GAP, data.header.flags & (flag::TENTATIVE | flag::EXISTING), gap);
}

/// `length` in bounds that the verifier sees; LLVM would drop a check that it can prove needless.
#[inline(always)]
fn bounded<const BYTES: usize>(length: u64) -> u32 {
    let mut bounded = length;
    // SAFETY: plain arithmetic on a register.
    unsafe {
        core::arch::asm!(
            "if {0} <= {1} goto +1",
            "{0} = {1}",
            inout(reg) bounded,
            const BYTES,
        );
    }
    bounded as u32
}
