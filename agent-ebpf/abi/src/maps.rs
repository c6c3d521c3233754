//! Keys and values of the kernel side's maps. Layout as [the crate](crate) lays down: nothing here is an event.

use crate::{Endpoint, SocketKey, TaskKey};

/// What the kernel side keeps of a socket, the value of its map `SOCKETS`. One entry serves all processes that
/// have the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Socket {
    /// See [`SocketKey::generation`].
    pub generation: u64,
    /// Inode of the socket, 0 while it is not accepted.
    pub inode: u64,
    /// Stream positions of the next bytes, by direction.
    pub next: [u64; 2],
    /// TCP sequence of stream position 0 (modulo 2^32), by direction.
    pub base: [u32; 2],
    /// `sk_prot` at first sight: another one later means that an upper layer (kTLS) took over.
    pub prot: u64,
    /// `mm` of the process that `task_verdict` was found for.
    pub mm: u64,
    /// State of the rules when `task_verdict` was found.
    pub rules_epoch: u64,
    /// Rule that leaves this socket out because of its addresses; 0 none.
    pub address_verdict: u32,
    /// Rule that leaves it out because of the process `mm`.
    pub task_verdict: u32,
    /// Who connected.
    pub opener: TaskKey,
    /// One of [`crate::transport`].
    pub transport: u8,
    /// One of [`crate::role`].
    pub role: u8,
    /// Bits that the kernel side alone knows.
    pub state: u16,
    /// TCP: `write_seq` when the state became CLOSE; what changes it later is no data.
    pub end_sequence: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Own port; the kernel takes it away before it tells the end.
    pub port: u16,
    /// Padding.
    pub reserved: u16,
    /// The other end, where it is on this host and both were seen to begin; else 0.
    pub twin: SocketKey,
    /// When the first of its bytes were offered to be told, boottime ns.
    pub first_ns: u64,
}

/// A TCP connection that an end on this host began, by its addresses: who accepts it finds it so.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Who connected.
    pub client: Endpoint,
    /// Who accepts.
    pub server: Endpoint,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Padding.
    pub reserved: u32,
}

/// Index of a [`SourceCounters`].
pub mod source {
    /// Payload as sockets carry it.
    pub const WIRE: u32 = 0;
    /// Payload as TLS libraries see it.
    pub const PLAINTEXT: u32 = 1;
    /// exec, fork and exit.
    pub const PROCESS: u32 = 2;
    /// Socket opens and closes, gaps, TLS control events.
    pub const CONTROL: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

/// What one source did since the agent's start, per CPU; the agent sums. Of payload
/// `produced = submitted + lost + cut`; what a rule left out is in none of them, but in its rule's counter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Events wanted.
    pub produced_events: u64,
    /// Payload bytes wanted.
    pub produced_bytes: u64,
    /// Events in the ring.
    pub submitted_events: u64,
    /// Payload bytes in the ring.
    pub submitted_bytes: u64,
    /// Events that found no room, or no readable page.
    pub lost_events: u64,
    /// Payload bytes of these.
    pub lost_bytes: u64,
    /// Calls over their limit.
    pub cut_events: u64,
    /// Payload bytes over the limit.
    pub cut_bytes: u64,
}

/// What one rule left out, per CPU; the agent sums.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounters {
    /// Calls.
    pub events: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Values of the rule maps: index of the rule's counter, and [`rule::INCLUDE`].
pub mod rule {
    /// The rule includes; without it, it excludes.
    pub const INCLUDE: u32 = 1 << 31;
    /// Index of the counter of what no include rule names, where there are include rules.
    pub const NOT_INCLUDED: u32 = 0;
    /// Index of the counter of ciphertext whose plaintext is told.
    pub const CIPHERTEXT: u32 = 1;
    /// Index of the counter of what one end of a connection moved whose other end, on this host too, is told.
    pub const OTHER_END: u32 = 2;
    /// Index of the first rule.
    pub const FIRST: u32 = 3;
    /// Counters at most, those before the first rule included.
    pub const COUNT: u32 = 1024;
}

/// An executable, as the kernel names it: `s_dev` (not `st_dev`) and inode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Executable {
    /// `super_block.s_dev`.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// How a system call names its buffers; values of the table by call number.
pub mod shape {
    /// Moves no payload that a program sees.
    pub const NONE: u8 = 0;
    /// `(fd, buffer, length)`.
    pub const BUFFER: u8 = 1;
    /// `(fd, iovec, count)`.
    pub const IOVEC: u8 = 2;
    /// `(fd, msghdr)`.
    pub const MESSAGE: u8 = 3;
    /// `(fd, mmsghdr, count)`.
    pub const MESSAGES: u8 = 4;
    /// `socketcall(number, arguments)` of 32-bit programs.
    pub const SOCKETCALL: u8 = 5;
    /// `(to, from, …)`, from a file: bytes that no program's memory holds.
    pub const SENDFILE: u8 = 6;
    /// `(from, position, to, …)`, between a pipe and a socket.
    pub const SPLICE: u8 = 7;
    /// Set where the call sends; the raw system call back-end needs it.
    pub const SENDS: u8 = 0x80;
    /// Set where a fourth argument holds `MSG_*`.
    pub const FLAGS: u8 = 0x40;
    /// The part that tells the form.
    pub const FORM: u8 = 0x3f;
    /// Numbers in each table: 64-bit calls first, those of 32-bit programs behind them.
    pub const TABLE: u32 = 512;
}

const _: () = {
    assert!(size_of::<Socket>() == 128);
    assert!(size_of::<Pair>() == 56);
    assert!(size_of::<SourceCounters>() == 64);
    assert!(size_of::<RuleCounters>() == 16);
    assert!(size_of::<Executable>() == 16);
};
