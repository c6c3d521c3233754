//! Reserving in the rings, numbering what is offered, counting what is not taken, and waking the reader
//! only when much is pending: the wake-up is the cost, not the copy.

use crate::kernel::setting;
use crate::maps::{CONTROL, COUNTERS, DATA, SHARED, Shared};
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::maps::RingBuf;
use custody_abi::{Gap, Header, SourceCounters, kind, source};

setting!(/// Bytes pending in the data ring from which its reader is woken.
    DATA_WAKE_BYTES: u64 = 1 << 20, data_wake_bytes);
setting!(/// Bytes pending in the control ring from which its reader is woken.
    CONTROL_WAKE_BYTES: u64 = 1 << 18, control_wake_bytes);

/// Nanoseconds of CLOCK_BOOTTIME.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes nothing, never fails.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Adds to a word that other CPUs, or a program that preempts this one, may add to as well.
#[inline(always)]
pub(crate) fn add(word: *mut u64, value: u64) -> u64 {
    let mut old = value;
    // SAFETY: every caller passes an aligned word of a map's value, alive while the program runs. In assembly,
    // because `core` has no atomic arithmetic for this target.
    unsafe {
        core::arch::asm!("{old} = atomic_fetch_add((u64 *)({word} + 0), {old})", old = inout(reg) old, word = in(reg) word);
    }
    old
}

#[inline(always)]
pub(crate) fn shared() -> Option<*mut Shared> {
    SHARED.get_ptr_mut(0)
}

/// Number of the next event of the data ring.
#[inline(always)]
pub(crate) fn next_data_seq() -> u64 {
    // SAFETY: only the address of a member is taken.
    shared().map_or(0, |shared| add(unsafe { &raw mut (*shared).data_seq }, 1))
}

/// Number of the next event of the control ring.
#[inline(always)]
pub(crate) fn next_control_seq() -> u64 {
    // SAFETY: only the address of a member is taken.
    shared().map_or(0, |shared| add(unsafe { &raw mut (*shared).control_seq }, 1))
}

/// Wakes when `threshold` bytes are pending, and then once per `threshold` bytes produced: a reader that is behind
/// is awake already, and each further wake-up (an interrupt to this CPU itself) would cost the observed program
/// more than everything else here together.
#[inline(always)]
fn wake_flags(ring: &RingBuf, woken: *mut u64, threshold: u64) -> u64 {
    if ring.query(u64::from(BPF_RB_AVAIL_DATA)) < threshold {
        return u64::from(BPF_RB_NO_WAKEUP);
    }
    let produced = ring.query(u64::from(BPF_RB_PROD_POS));
    // SAFETY: a word of a map's value, alive while the program runs. Two CPUs may both wake: once too often.
    unsafe {
        if produced.wrapping_sub(*woken) < threshold {
            return u64::from(BPF_RB_NO_WAKEUP);
        }
        *woken = produced;
    }
    u64::from(BPF_RB_FORCE_WAKEUP)
}

/// Flags to submit to the data ring with.
#[inline(always)]
pub(crate) fn data_flags() -> u64 {
    let Some(shared) = shared() else { return 0 };
    // SAFETY: only the address of a member is taken.
    wake_flags(&DATA, unsafe { &raw mut (*shared).data_woken }, data_wake_bytes())
}

/// Flags to submit to the control ring with.
#[inline(always)]
pub(crate) fn control_flags() -> u64 {
    let Some(shared) = shared() else { return 0 };
    // SAFETY: only the address of a member is taken.
    wake_flags(&CONTROL, unsafe { &raw mut (*shared).control_woken }, control_wake_bytes())
}

/// Whether the agent's log should hear of a lack of room: once in a while, however often it is felt.
#[inline(always)]
pub(crate) fn may_complain() -> bool {
    const PAUSE_NS: u64 = 10_000_000_000;
    let Some(shared) = shared() else { return false };
    let now_ns = now();
    // SAFETY: a word of a map's value, alive while the program runs. Two CPUs may both complain: once too often.
    unsafe {
        let may = now_ns.saturating_sub((*shared).complained_ns) > PAUSE_NS;
        if may {
            (*shared).complained_ns = now_ns;
        }
        may
    }
}

/// What happened to an event of `bytes` payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Submitted,
    Lost,
    Cut,
}

/// Counts an event as wanted and as what became of it.
#[inline(always)]
pub(crate) fn count(source: u32, fate: Fate, bytes: u64) {
    let Some(counters) = COUNTERS.get_ptr_mut(source) else { return };
    let counters: *mut SourceCounters = counters;
    // SAFETY: only addresses of members of a map's value are taken.
    unsafe {
        add(&raw mut (*counters).produced_events, 1);
        add(&raw mut (*counters).produced_bytes, bytes);
        let (events, sum) = match fate {
            Fate::Submitted => (&raw mut (*counters).submitted_events, &raw mut (*counters).submitted_bytes),
            Fate::Lost => (&raw mut (*counters).lost_events, &raw mut (*counters).lost_bytes),
            Fate::Cut => (&raw mut (*counters).cut_events, &raw mut (*counters).cut_bytes),
        };
        add(events, 1);
        add(sum, bytes);
    }
}

/// A fixed-size event of the control ring; `event` makes it, with this header, and is asked only when there is room:
/// so it is made where it goes, not on the stack, which is scarce.
#[inline(always)]
pub(crate) fn control<T: 'static>(
    event_kind: u16,
    flags: u16,
    time_ns: u64,
    source: u32,
    event: impl FnOnce(Header) -> T,
) -> bool {
    let seq = next_control_seq();
    let Some(mut slot) = CONTROL.reserve::<T>(0) else {
        count(source, Fate::Lost, 0);
        return false;
    };
    // SAFETY: the slot has room for a T.
    unsafe { slot.as_mut_ptr().write(event(Header { kind: event_kind, flags, len: 0, time_ns, seq })) };
    slot.submit(control_flags());
    count(source, Fate::Submitted, 0);
    true
}

/// Tells of bytes that moved and were not captured.
#[inline(always)]
pub(crate) fn gap(flags: u16, time_ns: u64, gap: impl FnOnce(Header) -> Gap) {
    control(kind::GAP, flags, time_ns, source::CONTROL, gap);
}
