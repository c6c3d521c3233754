//! Who talks: the one or two ends of a session on this host, how they find each other, and which of them is
//! the client.

use std::net::IpAddr;

use crate::event::{Binding, Endpoint, Flow, Layer, Role, Socket, Transport};
use crate::registry;
use crate::streams::Stream;

/// One end that is a socket of this host.
pub(crate) struct End {
    pub(crate) socket: Socket,
    /// The socket's own address and its peer's, as they stand in each record.
    pub(crate) addresses: [Option<String>; 2],
    /// It asks; a guess while the role is unknown.
    pub(crate) client: bool,
    pub(crate) wire: [Stream; 2],
    pub(crate) plaintext: [Stream; 2],
    /// Bytes told of it: by layer, then by flow.
    pub(crate) bytes: [[u64; 2]; 2],
    pub(crate) binding: Option<Binding>,
    /// Its plaintext was not read from the beginning of its TLS.
    pub(crate) bound_late: bool,
    /// When it was closed and where its flows ended.
    pub(crate) closed: Option<(u64, [Option<u64>; 2])>,
    /// What its streams held was flushed and told.
    pub(crate) ended: bool,
}

impl End {
    pub(crate) fn new(socket: Socket, client: bool) -> Self {
        let shown = |endpoint: Endpoint| endpoint.address.to_canonical().to_string();
        End {
            client,
            addresses: [socket.local.map(shown), socket.remote.map(shown)],
            wire: socket.positions.map(Stream::starting_at),
            plaintext: [Stream::default(), Stream::default()],
            bytes: [[0; 2]; 2],
            binding: None,
            bound_late: false,
            closed: None,
            ended: false,
            socket,
        }
    }

    pub(crate) fn stream(&mut self, layer: Layer, flow: Flow) -> &mut Stream {
        match layer {
            Layer::Wire => &mut self.wire[flow as usize],
            Layer::Plaintext => &mut self.plaintext[flow as usize],
        }
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.wire.iter().chain(&self.plaintext)
    }
}

/// What both ends of one connection have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PairKey {
    netns: u32,
    transport: Transport,
    low: (IpAddr, u16),
    high: (IpAddr, u16),
}

impl PairKey {
    /// `None` when the addresses are not known, or there is no other end.
    pub(crate) fn of(socket: &Socket) -> Option<PairKey> {
        if socket.whole {
            return None;
        }
        let local = plain(socket.local?);
        let remote = plain(socket.remote?);
        Some(PairKey {
            netns: socket.netns,
            transport: socket.transport,
            low: local.min(remote),
            high: local.max(remote),
        })
    }
}

/// IPv4 that is carried as IPv6 is IPv4.
fn plain(endpoint: Endpoint) -> (IpAddr, u16) {
    (endpoint.address.to_canonical(), endpoint.port)
}

/// The two see each other: same transport, each one's own address is the other's peer.
pub(crate) fn face_each_other(one: &Socket, other: &Socket) -> bool {
    match (one.local, one.remote, other.local, other.remote) {
        (Some(local), Some(remote), Some(other_local), Some(other_remote)) => {
            plain(local) == plain(other_remote) && plain(remote) == plain(other_local)
        }
        _ => one.peer == Some(other.id) || other.peer == Some(one.id),
    }
}

/// The other end is a socket of this host too, as far as the addresses tell.
pub(crate) fn expects_peer(socket: &Socket) -> bool {
    if socket.whole {
        return false;
    }
    if socket.peer.is_some() || socket.transport == Transport::Unix {
        return true;
    }
    let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return false };
    let (local, remote) = (plain(local), plain(remote));
    local != remote && (remote.0.is_loopback() || local.0 == remote.0)
}

/// Whether this end asks. Known from its role, or from the other's; else guessed by the ports, and the first
/// bytes decide later.
pub(crate) fn is_client(socket: &Socket, other: Option<&End>) -> bool {
    match (socket.role, other) {
        (Role::Client, _) => true,
        (Role::Server, _) => false,
        (Role::Unknown, Some(other)) => !other.client,
        (Role::Unknown, None) => match (socket.local, socket.remote) {
            (Some(local), Some(remote)) => {
                match (registry::is_known_port(local.port), registry::is_known_port(remote.port)) {
                    (true, false) => false,
                    (false, true) => true,
                    _ => local.port > remote.port,
                }
            }
            _ => true,
        },
    }
}
