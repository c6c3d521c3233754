//! What the kernel side and the agent share: the events in the rings and the keys of the maps.
//!
//! Every struct is `#[repr(C)]`, of fixed-width integers only, with explicit padding, so that the two
//! compilers cannot disagree; sizes are asserted below. No `bool`, `Option` or enum crosses this line:
//! codes are constants, and a reader treats an unknown one as such. All numbers are in host byte order,
//! but for ports and addresses, which are as the wire has them.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME`. Positions are absolute offsets in the byte stream of one
//! direction of one socket (0 = first payload byte after the handshake), so loss is a hole of known size.
//!
//! Here are the identities, and the events about sockets and TLS; processes and maps have files of their own.
#![no_std]
#![forbid(unsafe_code)]

mod maps;
pub mod offsets;
mod process;

pub use maps::*;
pub use process::*;

/// Raised whenever a struct below changes; the agent refuses an object of another version.
pub const ABI_VERSION: u32 = 4;

/// How long the reader of the rings waits for the accepting end of a connection within this host before it reads
/// the connecting one, ns. The kernel side counts on it.
pub const ACCEPTING_END_WAIT_NS: u64 = 100_000_000;
/// How many bytes of the connecting end the reader keeps meanwhile.
pub const ACCEPTING_END_WAIT_BYTES: u64 = 256 << 10;

/// Values of [`Header::kind`].
pub mod kind {
    /// [`crate::Data`], followed by `len` payload bytes.
    pub const DATA: u16 = 1;
    /// [`crate::SocketOpen`].
    pub const SOCKET_OPEN: u16 = 2;
    /// [`crate::SocketClose`].
    pub const SOCKET_CLOSE: u16 = 3;
    /// [`crate::Gap`].
    pub const GAP: u16 = 4;
    /// [`crate::Exec`], followed by `len` bytes of strings.
    pub const EXEC: u16 = 5;
    /// [`crate::Fork`].
    pub const FORK: u16 = 6;
    /// [`crate::Exit`].
    pub const EXIT: u16 = 7;
    /// [`crate::TlsBind`].
    pub const TLS_BIND: u16 = 8;
    /// [`crate::TlsSettle`].
    pub const TLS_SETTLE: u16 = 9;
    /// [`crate::TlsClose`].
    pub const TLS_CLOSE: u16 = 10;
}

/// Begins every event. `seq` counts the events offered to one ring, those that did not fit included, so a
/// reader sees loss as missing numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Bytes that follow the event's fixed part.
    pub len: u32,
    /// When, boottime ns.
    pub time_ns: u64,
    /// Number of this event in its ring, from 0.
    pub seq: u64,
}

/// A process, as nobody can reuse it: pid and its start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// `start_boottime` of the thread group's leader, ns.
    pub start_ns: u64,
    /// Thread group id, in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
}

/// A socket: kernel address and a generation of our own, since addresses are reused.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// `struct sock *`.
    pub sock: u64,
    /// Unique for one start of the agent; 0 means no socket is known (TLS before its binding).
    pub generation: u64,
}

/// One side of a connection's addresses. IPv4 in the first four bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address, network order.
    pub address: [u8; 16],
    /// Port, host order.
    pub port: u16,
    /// `AF_INET`, `AF_INET6`, `AF_UNIX` or 0.
    pub family: u16,
    /// Padding.
    pub reserved: u32,
}

/// Values of [`Data::direction`] and [`Gap::direction`].
pub mod direction {
    /// Received by this socket.
    pub const INGRESS: u8 = 0;
    /// Sent by this socket.
    pub const EGRESS: u8 = 1;
}

/// Values of [`Data::layer`].
pub mod layer {
    /// As the socket carries it.
    pub const WIRE: u8 = 0;
    /// As a TLS library's caller reads and writes it.
    pub const PLAINTEXT: u8 = 1;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The position is the kernel's sequence under the socket lock, or our own counter: exact.
    pub const POSITION_EXACT: u16 = 1 << 0;
    /// Out-of-band data (`MSG_OOB`): read beside the stream, so its position is no place in it.
    pub const OUT_OF_BAND: u16 = 1 << 1;
    /// Copied at entry; [`crate::TlsSettle`] says how much of it was sent.
    pub const TENTATIVE: u16 = 1 << 2;
    /// The socket could not be told for sure (see the traps in KERNEL): attributed to no session.
    pub const UNATTRIBUTED: u16 = 1 << 3;
    /// The socket existed before the agent.
    pub const EXISTING: u16 = 1 << 4;
    /// One datagram begins and ends here (UDP, unix datagrams): `position` is its number.
    pub const DATAGRAM: u16 = 1 << 5;
    /// Of a [`crate::SocketClose`]: the peer reset the connection.
    pub const RESET_RECEIVED: u16 = 1 << 7;
    /// Of a [`crate::SocketClose`]: this end reset the connection.
    pub const RESET_SENT: u16 = 1 << 8;
    /// Of a [`crate::TlsBind`]: data came before the handshake was done (0-RTT).
    pub const EARLY: u16 = 1 << 9;
    /// The event was cut at its limit; the rest is said by a [`crate::Gap`].
    pub const CUT: u16 = 1 << 6;
}

/// Payload of one call or a part of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Data {
    /// Kind [`kind::DATA`].
    pub header: Header,
    /// Which socket; generation 0 for plaintext not bound yet.
    pub socket: SocketKey,
    /// Who called.
    pub task: TaskKey,
    /// Number of the TLS object for plaintext (see [`TlsBind::tls`]), else 0.
    pub tls: u64,
    /// Offset of the first byte in its direction and layer; of plaintext: in its TLS object.
    pub position: u64,
    /// Number of the call on that thread, so that a settle names its tentative data.
    pub call: u64,
    /// One of [`direction`].
    pub direction: u8,
    /// One of [`layer`].
    pub layer: u8,
    /// How a TLS object was bound to `socket`: one of [`provenance`], or 0.
    pub provenance: u8,
    /// Padding.
    pub reserved: u8,
    /// Padding.
    pub padding: u32,
}

/// Values of [`SocketOpen::transport`].
pub mod transport {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// Unix stream.
    pub const UNIX_STREAM: u8 = 100;
    /// Unix datagram or seqpacket.
    pub const UNIX_DATAGRAM: u8 = 101;
    /// MPTCP.
    pub const MPTCP: u8 = 102;
}

/// Values of [`SocketOpen::role`].
pub mod role {
    /// Not known: the socket existed before, or is a datagram socket.
    pub const UNKNOWN: u8 = 0;
    /// It connected.
    pub const CLIENT: u8 = 1;
    /// It was accepted.
    pub const SERVER: u8 = 2;
}

/// First sight of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOpen {
    /// Kind [`kind::SOCKET_OPEN`].
    pub header: Header,
    /// The socket.
    pub socket: SocketKey,
    /// The other end of a unix stream, where it is known already; else generation 0.
    pub peer: SocketKey,
    /// Who caused the first sight.
    pub task: TaskKey,
    /// Own address.
    pub local: Endpoint,
    /// Peer's address.
    pub remote: Endpoint,
    /// Inode of the network namespace.
    pub netns: u32,
    /// One of [`transport`].
    pub transport: u8,
    /// One of [`role`].
    pub role: u8,
    /// Padding.
    pub reserved: [u8; 2],
    /// Inode of the socket.
    pub inode: u64,
    /// Position of the next byte to be received, before the call that brought it in sight; or
    /// [`POSITION_UNKNOWN`].
    pub ingress_position: u64,
    /// The same of the next byte to be sent.
    pub egress_position: u64,
}

/// Says that a position is not known.
pub const POSITION_UNKNOWN: u64 = u64::MAX;

/// A position of [`SocketOpen`] or [`SocketClose`], where it is known.
pub const fn known_position(position: u64) -> Option<u64> {
    if position == POSITION_UNKNOWN { None } else { Some(position) }
}

/// The socket is destroyed. Totals are stream positions of the end (SYN and FIN taken off), or
/// [`POSITION_UNKNOWN`] where the kernel could not tell.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketClose {
    /// Kind [`kind::SOCKET_CLOSE`].
    pub header: Header,
    /// The socket.
    pub socket: SocketKey,
    /// End of what was read by the program.
    pub ingress_position: u64,
    /// End of what was written by the program.
    pub egress_position: u64,
}

/// Values of [`Gap::cause`]. Those from 64 on are policy (`skipped`), 32 to 63 limits (`cut`), below
/// that loss.
pub mod cause {
    /// The ring was full.
    pub const RING_FULL: u8 = 1;
    /// The page was not resident or not readable.
    pub const PAGE_FAULT: u8 = 2;
    /// The kernel moved the bytes without the process seeing them (sendfile, splice, zero copy).
    pub const NO_PAYLOAD: u8 = 3;
    /// A map had no room for this socket's or this call's state.
    pub const MAP_FULL: u8 = 4;
    /// Longer than the level's limit for one call.
    pub const CALL_LIMIT: u8 = 32;
    /// Ciphertext of a TLS socket beyond what matching needs.
    pub const CIPHERTEXT: u8 = 64;
    /// Left out by a rule.
    pub const RULE: u8 = 65;
}

/// Bytes that moved and were not captured.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// Kind [`kind::GAP`].
    pub header: Header,
    /// The socket.
    pub socket: SocketKey,
    /// Who called.
    pub task: TaskKey,
    /// Number of the TLS object for plaintext (see [`TlsBind::tls`]), else 0.
    pub tls: u64,
    /// Where the missing bytes begin.
    pub position: u64,
    /// The call, as [`Data::call`]; a gap in a tentative write has [`flag::TENTATIVE`].
    pub call: u64,
    /// How many.
    pub length: u64,
    /// One of [`direction`].
    pub direction: u8,
    /// One of [`layer`].
    pub layer: u8,
    /// One of [`cause`].
    pub cause: u8,
    /// Padding.
    pub reserved: u8,
    /// Padding.
    pub padding: u32,
}

/// Values of [`TlsBind::provenance`].
pub mod provenance {
    /// `SSL_set_fd` and its family.
    pub const FD: u8 = 1;
    /// `SSL_set_bio` with a socket BIO.
    pub const BIO: u8 = 2;
    /// A socket call with a TLS record inside a call of the library.
    pub const NESTED: u8 = 3;
    /// The process sent a record that the object had written into memory.
    pub const CIPHERTEXT: u8 = 4;
}

/// A TLS object belongs to this socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsBind {
    /// Kind [`kind::TLS_BIND`].
    pub header: Header,
    /// The socket.
    pub socket: SocketKey,
    /// The process.
    pub task: TaskKey,
    /// Number of the TLS object, from 1, unique for one start of the agent. The library's own pointer is
    /// no name: it is reused after `SSL_free`, and a forked child has the same one.
    pub tls: u64,
    /// One of [`provenance`].
    pub provenance: u8,
    /// Padding.
    pub reserved: [u8; 7],
}

/// How a tentative write ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsSettle {
    /// Kind [`kind::TLS_SETTLE`].
    pub header: Header,
    /// The process.
    pub task: TaskKey,
    /// Number of the TLS object, as [`TlsBind::tls`].
    pub tls: u64,
    /// The call that wrote, as [`Data::call`].
    pub call: u64,
    /// Where the call's first byte stands, as [`Data::position`].
    pub position: u64,
    /// Bytes that the library took; 0 when it must be tried again or failed.
    pub accepted: u64,
}

/// `SSL_free`, `SSL_clear`, or a new socket for a used object: the number is not used again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsClose {
    /// Kind [`kind::TLS_CLOSE`].
    pub header: Header,
    /// The process.
    pub task: TaskKey,
    /// Number of the TLS object, as [`TlsBind::tls`].
    pub tls: u64,
    /// End of the plaintext that was read.
    pub ingress_position: u64,
    /// End of the plaintext that was accepted for sending.
    pub egress_position: u64,
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<TaskKey>() == 16);
    assert!(size_of::<SocketKey>() == 16);
    assert!(size_of::<Endpoint>() == 24);
    assert!(size_of::<Data>() == 88);
    assert!(size_of::<SocketOpen>() == 152);
    assert!(size_of::<SocketClose>() == 56);
    assert!(size_of::<Gap>() == 96);
    assert!(size_of::<TlsBind>() == 72);
    assert!(size_of::<TlsSettle>() == 72);
    assert!(size_of::<TlsClose>() == 64);
};
