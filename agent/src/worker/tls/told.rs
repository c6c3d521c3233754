//! What the binder is asked and tells: names, limits, outputs, counters. Data only.

use bytes::Bytes;
use custody_abi as abi;
use custody_decoders::event::{Binding, Cause, Flow};

/// A TLS object's number, as the kernel side gave it ([`abi::TlsBind::tls`]). Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsId(pub u64);

/// Bounds of the binder's memory and patience.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TLS objects known at one time. Plaintext of further ones is counted and dropped.
    pub objects_max: usize,
    /// Sockets with plaintext known at one time.
    pub sockets_max: usize,
    /// Bytes of one object that wait for a settle or a binding.
    pub object_held_bytes_max: usize,
    /// Bytes of all objects that wait.
    pub held_bytes_max: usize,
    /// How long settled plaintext waits for its binding, ns. An object over memory that was there before the agent is
    /// bound by the next record that it sends, so a server has this long to answer.
    pub binding_wait_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            objects_max: 65_536,
            sockets_max: 65_536,
            object_held_bytes_max: 4 << 20,
            held_bytes_max: 32 << 20,
            binding_wait_ns: 5_000_000_000,
        }
    }
}

/// Whose stream a piece of plaintext belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner<S> {
    /// This socket's plaintext layer.
    Socket(S),
    /// No socket is known, and none is guessed: a stream of its own, without addresses.
    Unbound(TlsId),
}

/// How sure it is that plaintext went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The library said that it took (or gave) exactly these bytes.
    Confirmed,
    /// The library was handed these bytes and the object, socket or process ended before it said how many
    /// it took: all, some or none of them left.
    Unknown,
}

/// What the binder tells. Positions count from 0 per owner and flow, without overlaps: what is missing is
/// told as [`Output::Hole`] and counts as a part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<S> {
    /// From here on, this owner has plaintext; told before its first piece, once per TLS object.
    Bound {
        /// The stream.
        owner: Owner<S>,
        /// How it is known.
        binding: Binding,
        /// The process whose library it is: pid and start.
        task: abi::TaskKey,
        /// The object was in use before its probes were: its plaintext begins in the middle.
        existing: bool,
        /// When, boottime ns.
        time_ns: u64,
    },
    /// Plaintext.
    Chunk {
        /// The stream.
        owner: Owner<S>,
        /// Which way.
        flow: Flow,
        /// Offset of the first byte.
        position: u64,
        /// Entry of a write, return of a read; boottime ns.
        time_ns: u64,
        /// How sure.
        extent: Extent,
        /// The bytes.
        bytes: Bytes,
    },
    /// Plaintext that moved and is not here.
    Hole {
        /// The stream.
        owner: Owner<S>,
        /// Which way.
        flow: Flow,
        /// Where it begins.
        position: u64,
        /// How many bytes.
        length: u64,
        /// Why.
        cause: Cause,
        /// When, boottime ns.
        time_ns: u64,
    },
    /// An unbound stream ended. (A socket's end is told by the kernel.)
    Ended {
        /// Which.
        tls: TlsId,
        /// When, boottime ns.
        time_ns: u64,
    },
}

impl<S> Output<S> {
    /// Whether no socket is known for it.
    pub fn is_unbound(&self) -> bool {
        match self {
            Output::Bound { owner, .. } | Output::Chunk { owner, .. } | Output::Hole { owner, .. } => {
                matches!(owner, Owner::Unbound(_))
            }
            Output::Ended { .. } => true,
        }
    }

    /// Bytes of plaintext, here or missing.
    pub fn length(&self) -> u64 {
        match self {
            Output::Chunk { bytes, .. } => bytes.len() as u64,
            Output::Hole { length, .. } => *length,
            Output::Bound { .. } | Output::Ended { .. } => 0,
        }
    }
}

/// What happened, since the start. Each limit that was hit is among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes told under a socket.
    pub bound_bytes: u64,
    /// Bytes told as [`Owner::Unbound`].
    pub unbound_bytes: u64,
    /// TLS objects that found no socket in time.
    pub unbound_objects: u64,
    /// Among those, which found it later: what was told before stays unbound.
    pub late_bindings: u64,
    /// TLS objects for which the kernel saw two sockets; their plaintext is unbound.
    pub disagreements: u64,
    /// Sockets with plaintext of two live TLS objects at once (a forked child, a bug): told in order seen.
    pub shared_sockets: u64,
    /// Writes tried again, their first copy dropped.
    pub retries: u64,
    /// Among those, whose bytes were not those of the first try.
    pub retries_differ: u64,
    /// Bytes with [`Extent::Unknown`].
    pub extent_unknown_bytes: u64,
    /// Bytes missing between two positions (events lost in a ring).
    pub unseen_bytes: u64,
    /// Bytes dropped because too many waited.
    pub over_held_bytes: u64,
    /// Bytes dropped because there were too many TLS objects.
    pub over_objects_bytes: u64,
    /// Sockets forgotten because there were too many.
    pub over_sockets: u64,
}

/// Lengths come from another process's memory: a counter at its end stays there.
pub(super) fn add(counter: &mut u64, bytes: u64) {
    *counter = counter.saturating_add(bytes);
}
