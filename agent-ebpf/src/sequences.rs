//! TCP sequences → stream positions: 64 bits from the connection's first payload byte.
//!
//! Must not: give a position below the beginning. What the kernel changes while it is read may shift where a
//! connection that is older than the agent is counted from, and never by more than what arrived meanwhile.

use crate::kernel::{offset, read};

/// Attempts to read counters that belong together while the kernel does not change them.
const ATTEMPTS: u32 = 3;

/// Whether the peer's FIN came: `SOCK_DONE`, which TCP sets for nothing else. The state does not tell: from
/// FIN_WAIT2 a socket goes to CLOSE by a FIN as by a reset.
#[inline(always)]
pub(crate) fn fin_received(sock: u64) -> bool {
    const SOCK_DONE: u64 = 1 << 1;
    read::<u64>(sock + offset::SK_FLAGS() as u64).unwrap_or(0) & SOCK_DONE != 0
}

/// `write_seq` and `copied_seq`.
#[inline(always)]
pub(crate) fn tcp_sequences(sock: u64) -> Result<(u32, u32), ()> {
    Ok((read(sock + offset::TCP_WRITE_SEQ() as u64)?, read(sock + offset::TCP_COPIED_SEQ() as u64)?))
}

/// Stream positions of these two sequences, from the kernel's own 64-bit sums, which know neither SYN nor a FIN
/// that is not sent yet. Right for connections that are older than the agent, too.
#[inline(always)]
pub(crate) fn tcp_positions(sock: u64, write_seq: u32, copied_seq: u32) -> Result<(u64, u64), ()> {
    let mut received = 0;
    let mut rcv_nxt = 0;
    for _ in 0..ATTEMPTS {
        // Segments arrive while this is read: the sum is taken only if it did not change around `rcv_nxt`.
        received = read::<u64>(sock + offset::TCP_BYTES_RECEIVED() as u64)?;
        rcv_nxt = read(sock + offset::TCP_RCV_NXT() as u64)?;
        if read(sock + offset::TCP_BYTES_RECEIVED() as u64) == Ok(received) {
            break;
        }
    }
    let mut sent = 0;
    let mut snd_nxt = 0;
    for _ in 0..ATTEMPTS {
        let all: u64 = read(sock + offset::TCP_BYTES_SENT() as u64)?;
        let again: u64 = read(sock + offset::TCP_BYTES_RETRANS() as u64)?;
        sent = all.saturating_sub(again);
        snd_nxt = read(sock + offset::TCP_SND_NXT() as u64)?;
        if read(sock + offset::TCP_BYTES_SENT() as u64) == Ok(all) {
            break;
        }
    }
    Ok((sent + ahead(write_seq, snd_nxt), received.saturating_sub(ahead(rcv_nxt, copied_seq))))
}

/// How far one sequence is ahead of another; 0 where it is behind.
#[inline(always)]
fn ahead(one: u32, other: u32) -> u64 {
    let difference = one.wrapping_sub(other) as i32;
    if difference > 0 { difference as u64 } else { 0 }
}

/// Stream position of a TCP sequence near the last known one.
#[inline(always)]
pub(crate) fn position(next: u64, base: u32, sequence: u32) -> u64 {
    let step = sequence.wrapping_sub(base).wrapping_sub(next as u32) as i32;
    if step < 0 { next.saturating_sub(u64::from(step.unsigned_abs())) } else { next + step as u64 }
}
