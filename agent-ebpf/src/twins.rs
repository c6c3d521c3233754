//! Connections whose two ends are both on this host. Each byte is recorded once, from the accepting end, so what the
//! connecting end moves is counted and not copied: half the price of such a connection, for the program and for us.
//!
//! Must not: spare an end before the reader of the rings is sure to read the other one. It reads from the end that it
//! hears of first, and prefers the accepting one within [`custody_abi::ACCEPTING_END_WAIT_NS`] and
//! [`custody_abi::ACCEPTING_END_WAIT_BYTES`]: only where the accepting end told its first bytes well within both, the
//! other is spared. And no longer than the accepting end's bytes can be read there: from the first that cannot
//! (sendfile, a page that is not there) both ends are told again.

use crate::maps::{PAIRS, SOCKETS};
use crate::payload::Moved;
use crate::sockets::{self, AF_INET, AF_INET6, EGRESS, INGRESS, NOBODY, state};
use custody_abi::{ACCEPTING_END_WAIT_BYTES, ACCEPTING_END_WAIT_NS, Endpoint, Pair, Socket, SocketKey, role};

/// Bytes of a connection from which on an end is spared: its beginning (a handshake that names who speaks TLS) is
/// told by both.
const BOTH_TOLD_BYTES: u64 = 8192;

/// A connection to this host itself is made: who accepts it will look for it. A function of its own, for its share
/// of the stack.
#[inline(never)]
pub(crate) fn connected(sock: u64, entry: *mut Socket) -> u64 {
    // SAFETY: a map's value, alive while the program runs.
    let mut pair = Pair { netns: unsafe { (*entry).netns }, ..Default::default() };
    sockets::endpoints(sock, &mut pair.client, &mut pair.server);
    plain(&mut pair.client);
    plain(&mut pair.server);
    let loopback = |endpoint: &Endpoint| endpoint.family == AF_INET && endpoint.address[0] == 127;
    if pair.client.address != pair.server.address && !(loopback(&pair.client) && loopback(&pair.server)) {
        return 0;
    }
    let _ = PAIRS.insert(&pair, &sockets::key(sock, entry), 0);
    0
}

/// IPv4 that is carried as IPv6 is IPv4: a server of both families mostly accepts clients of one.
#[inline(always)]
fn plain(endpoint: &mut Endpoint) {
    let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = endpoint.address else { return };
    if endpoint.family == AF_INET6 {
        endpoint.family = AF_INET;
        endpoint.address = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    }
}

/// A connection is accepted: the two ends get to know each other.
#[inline(never)]
pub(crate) fn accepted(sock: u64) -> u64 {
    let Some(entry) = SOCKETS.get_ptr_mut(&sock) else { return 0 };
    // SAFETY: a map's value, alive while the program runs.
    let server = unsafe { &mut *entry };
    let mut pair = Pair { netns: server.netns, ..Default::default() };
    sockets::endpoints(sock, &mut pair.server, &mut pair.client);
    plain(&mut pair.client);
    plain(&mut pair.server);
    // SAFETY: the value is copied at once.
    let Some(name) = (unsafe { PAIRS.get(&pair) }).copied() else { return 0 };
    let _ = PAIRS.remove(&pair);
    let Some(entry) = find(name) else { return 0 };
    // SAFETY: as above.
    unsafe { (*entry).twin = SocketKey { sock, generation: server.generation } };
    server.twin = name;
    0
}

/// Bytes passed this end that cannot be read here.
#[inline(always)]
pub(crate) fn holed(socket: &mut Socket) {
    socket.state |= state::HOLED;
}

/// The same of a socket by its name; where this is asked, something is missing already, so it is rare.
#[inline(always)]
pub(crate) fn holed_by_name(name: SocketKey) {
    if let Some(entry) = find(name) {
        // SAFETY: a map's value, alive while the program runs.
        holed(unsafe { &mut *entry });
    }
}

/// Whether the other end tells what this one moves now.
#[inline(always)]
pub(crate) fn told_by_other_end(moved: &Moved, unreadable: bool, socket: *mut Socket) -> bool {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *socket };
    if socket.twin.generation == NOBODY.generation {
        return false;
    }
    if unreadable {
        holed(socket);
    }
    if socket.role == role::SERVER {
        if socket.state & state::MET == 0 {
            socket.state |= state::MET;
            meet(socket.twin, moved.time_ns);
        }
        return false;
    }
    if socket.first_ns == 0 {
        socket.first_ns = moved.time_ns;
    }
    if socket.state & state::SPARED == 0 || socket.next[INGRESS] + socket.next[EGRESS] < BOTH_TOLD_BYTES {
        return false;
    }
    // SAFETY: as above.
    find(socket.twin).is_some_and(|twin| unsafe { (*twin).state } & (state::HOLED | state::LEFT_OUT) == 0)
}

/// The accepting end's first bytes are told: whether the connecting end can be spared from now on.
#[inline(always)]
fn meet(client: SocketKey, now_ns: u64) {
    let Some(entry) = find(client) else { return };
    // SAFETY: a map's value, alive while the program runs.
    let client = unsafe { &mut *entry };
    let bytes = client.next[INGRESS] + client.next[EGRESS];
    let waited_ns = if client.first_ns == 0 { 0 } else { now_ns.saturating_sub(client.first_ns) };
    // Half of what the reader waits: the events themselves take their time.
    if waited_ns < ACCEPTING_END_WAIT_NS / 2 && bytes < ACCEPTING_END_WAIT_BYTES / 2 {
        client.state |= state::SPARED;
    }
}

#[inline(always)]
fn find(name: SocketKey) -> Option<*mut Socket> {
    let entry = SOCKETS.get_ptr_mut(&name.sock)?;
    // SAFETY: a map's value, alive while the program runs.
    (unsafe { (*entry).generation } == name.generation).then_some(entry)
}
