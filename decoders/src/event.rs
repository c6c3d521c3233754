//! What comes in: connections, chunks at positions, gaps, ends. The live path and capture files both speak
//! this.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// Names a socket of the host (one end of a connection) for as long as the caller lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// Which way the bytes go, seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Received by this socket.
    Ingress,
    /// Sent by this socket.
    Egress,
}

/// Whether bytes are as the socket carries them or as a TLS library's caller sees them. Each layer has
/// positions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// As the socket carries them.
    Wire,
    /// Inside TLS.
    Plaintext,
}

/// How the socket came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It connected.
    Client,
    /// It was accepted.
    Server,
    /// Not known.
    Unknown,
}

/// How it is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Unix stream.
    Unix,
    /// Unix datagrams.
    UnixDatagram,
}

/// An address with its port. A unix socket has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// Two numbers: connections are looked up by their ends for each packet, and a hash costs by the pieces that it is given.
impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.address {
            IpAddr::V4(address) => state.write_u64(u64::from(address.to_bits()) << 16 | u64::from(self.port)),
            IpAddr::V6(address) => {
                state.write_u128(address.to_bits());
                state.write_u16(self.port);
            }
        }
    }
}

/// Who holds an end: filled from the kernel's exec events or from procfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Pid in the host's namespace.
    pub pid: u32,
    /// Start, boottime ns.
    pub start_ns: u64,
    /// Pid of the parent.
    pub parent_pid: u32,
    /// Executable.
    pub executable: String,
    /// Arguments as they stand in memory: secrets included, so only masking may look at them.
    pub arguments: Vec<Vec<u8>>,
    /// Working directory.
    pub working_directory: String,
    /// Real user id.
    pub user_id: u32,
    /// Name of that user; empty when unknown.
    pub user_name: String,
    /// Login uid, `None` when unset.
    pub login_uid: Option<u32>,
    /// Name of the login uid; empty when unknown.
    pub login_name: String,
    /// Audit session, `None` when unset.
    pub audit_session: Option<u32>,
    /// Controlling terminal, such as `pts/2`; empty without.
    pub tty: String,
    /// Control group's path.
    pub cgroup: String,
    /// Bytes of arguments over the limit.
    pub arguments_cut: u64,
}

/// A socket at its first sight.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Its name from now on.
    pub id: SocketId,
    /// When, boottime ns.
    pub time_ns: u64,
    /// How it is carried.
    pub transport: Transport,
    /// How it came to be.
    pub role: Role,
    /// Own address; `None` for unix.
    pub local: Option<Endpoint>,
    /// Peer's address; `None` for unix.
    pub remote: Option<Endpoint>,
    /// The other end when it is a socket of this host and the kernel says so (unix).
    pub peer: Option<SocketId>,
    /// Network namespace's inode.
    pub netns: u32,
    /// It tells both directions of its connection, as a capture does: there is no other end to look or wait for.
    pub whole: bool,
    /// It was open before the agent looked: the stream begins in the middle.
    pub existing: bool,
    /// Wire positions of the next bytes, ingress and egress; `None` where nobody knows.
    pub positions: [Option<u64>; 2],
    /// Who caused the first sight.
    pub process: Arc<Process>,
}

/// Bytes at a position.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Which socket.
    pub socket: SocketId,
    /// Which way.
    pub flow: Flow,
    /// Which layer.
    pub layer: Layer,
    /// Offset of the first byte in its flow and layer.
    pub position: u64,
    /// When the call returned (or was made, for writes), boottime ns.
    pub time_ns: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Lost: a ring was full.
    RingFull,
    /// Lost: the page could not be read.
    PageFault,
    /// Lost: the kernel moved them past the process (sendfile, splice).
    NoPayload,
    /// Lost: a table was full.
    TableFull,
    /// Lost: never seen, for a reason that is not known (a hole between positions).
    Unseen,
    /// Cut: over a limit.
    Limit,
    /// Skipped: ciphertext whose plaintext is read elsewhere, or nowhere.
    Ciphertext,
    /// Skipped: by a rule.
    Rule,
}

/// Bytes that moved and were not captured.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// Which socket.
    pub socket: SocketId,
    /// Which way.
    pub flow: Flow,
    /// Which layer.
    pub layer: Layer,
    /// Where they begin.
    pub position: u64,
    /// How many.
    pub length: u64,
    /// Why.
    pub cause: Cause,
    /// When, boottime ns.
    pub time_ns: u64,
}

/// How plaintext was bound to its socket. Stored with the record, so a guess is never shown as a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `SSL_set_fd` and its family.
    Fd,
    /// `SSL_set_bio` with a socket BIO.
    Bio,
    /// A TLS record on the socket inside a call of the library.
    Nested,
    /// A TLS record that the library wrote into memory and its process sent on the socket.
    Ciphertext,
    /// Not bound: the plaintext is a session of its own, without addresses.
    Unknown,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// First sight of a socket.
    Open(Socket),
    /// Bytes.
    Chunk(Chunk<'a>),
    /// Missing bytes.
    Hole(Hole),
    /// The plaintext layer of this socket exists.
    Bound {
        /// Which socket.
        socket: SocketId,
        /// How it is known.
        binding: Binding,
        /// What the library moved before it was looked at is not told.
        existing: bool,
        /// When, boottime ns.
        time_ns: u64,
    },
    /// The socket is gone; end positions of the wire layer, ingress and egress, where known.
    Close(SocketId, [Option<u64>; 2], u64),
    /// The connection of this socket was broken off by a reset that it sent (egress) or received (ingress); its
    /// close follows.
    Reset(SocketId, Flow),
    /// Something about this socket is odd, by its code in [`crate::anomaly`]: it stands at the session's end.
    Odd(SocketId, &'static str),
    /// A program started.
    Exec(Arc<Process>, u64),
    /// A program ended: who, wait status.
    Exit(Arc<Process>, u32, u64),
    /// Events of a ring are missing: how many, when it was noticed. Which sockets is not known.
    Lost(u64, u64),
    /// Bytes moved on sockets that there was no room to know: how many, when.
    NoRoom(u64, u64),
    /// Time passes: everything of before this boottime ns has been told.
    Tick(u64),
}
