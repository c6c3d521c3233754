//! All maps of sockets and processes. Sizes are defaults; the loader sets those that are configured.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use custody_abi::{
    Endpoint, Executable, Pair, RuleCounters, Socket, SocketKey, SourceCounters, rule, shape, source,
};

/// Payload.
#[map]
pub(crate) static DATA: RingBuf = RingBuf::with_byte_size(8 << 20, 0);
/// Everything else, apart, so that a flood of payload cannot starve it.
#[map]
pub(crate) static CONTROL: RingBuf = RingBuf::with_byte_size(4 << 20, 0);
/// Sums of what was done, by [`source`].
#[map]
pub(crate) static COUNTERS: PerCpuArray<SourceCounters> = PerCpuArray::with_max_entries(source::COUNT, 0);
/// Sums of what was left out, by rule.
#[map]
pub(crate) static RULE_COUNTERS: PerCpuArray<RuleCounters> = PerCpuArray::with_max_entries(rule::COUNT, 0);
/// The few words that all CPUs share.
#[map]
pub(crate) static SHARED: Array<Shared> = Array::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    /// Events offered to the data ring.
    pub data_seq: u64,
    /// Events offered to the control ring.
    pub control_seq: u64,
    /// Last generation given to a socket.
    pub generation: u64,
    /// Producer's position of the data ring at its last wake-up.
    pub data_woken: u64,
    /// The same of the control ring.
    pub control_woken: u64,
    /// When the agent's log was last told that there is no room.
    pub complained_ns: u64,
    /// 1 once a TLS library wrote its records into memory.
    pub tls_over_memory: u64,
}

/// Raised by the agent whenever a rule changed: cached verdicts of older epochs are void.
#[map]
pub(crate) static RULES_EPOCH: Array<u64> = Array::with_max_entries(1, 0);

/// Known sockets by address of `struct sock`.
#[map]
pub(crate) static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(65536, 0);

/// Connections within this host that are not accepted yet. One that never is gives way to newer ones.
#[map]
pub(crate) static PAIRS: LruHashMap<Pair, SocketKey> = LruHashMap::with_max_entries(4096, 0);

/// Inodes of the sockets without handshake (unix, UDP) that were there when the agent began to look. The agent
/// fills it once everything is attached, and inode 0 says that it is complete.
#[map]
pub(crate) static EXISTING: HashMap<u64, u8> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

/// TCP sends that a thread is inside of, by thread.
#[map]
pub(crate) static SENDS: HashMap<u32, Send> = HashMap::with_max_entries(32768, BPF_F_NO_PREALLOC);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Send {
    pub sock: u64,
    /// Stream position of the first byte not told yet.
    pub position: u64,
    pub time_ns: u64,
    /// Bytes that the iterator still had when `position` was the next.
    pub rest: u64,
    /// Bytes of the call told before `position`.
    pub told: u64,
    /// First byte of the rest: a buffer, or the kernel's array of iovec and the offset in its first.
    pub source: u64,
    pub offset: u64,
    pub segments: u32,
    /// One of `payload::form`.
    pub form: u32,
}

/// Calls that a thread is inside of: the message of a `*mmsg` call (socket back-end), or the whole call
/// (system call back-end).
#[map]
pub(crate) static CALLS: HashMap<u32, Call> = HashMap::with_max_entries(32768, BPF_F_NO_PREALLOC);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// The socket, as the descriptor named it when the call began.
    pub sock: u64,
    /// When it began.
    pub time_ns: u64,
    /// First message of a `*mmsg` call, and which one is told next.
    pub messages: u64,
    pub index: u32,
    /// Form of the call, see [`shape`].
    pub shape: u32,
}

/// How each system call names its buffers: [`shape`], 64-bit numbers first, then those of 32-bit programs.
#[map]
pub(crate) static SHAPES: Array<u8> = Array::with_max_entries(2 * shape::TABLE, 0);

/// Rules; values are those of [`rule`].
#[map]
pub(crate) static RULE_CGROUP: HashMap<u64, u32> = HashMap::with_max_entries(rule::COUNT, 0);
#[map]
pub(crate) static RULE_EXECUTABLE: HashMap<Executable, u32> = HashMap::with_max_entries(rule::COUNT, 0);
#[map]
pub(crate) static RULE_PORT: HashMap<u32, u32> = HashMap::with_max_entries(rule::COUNT, 0);
#[map]
pub(crate) static RULE_ENDPOINT: HashMap<Endpoint, u32> = HashMap::with_max_entries(rule::COUNT, 0);
#[map]
pub(crate) static RULE_CIDR: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(rule::COUNT, BPF_F_NO_PREALLOC);
