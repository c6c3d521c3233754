//! The binder: turns what the TLS probes tell into confirmed plaintext of a socket.
//!
//! A write is copied at the entry of the library's call and is *tentative* until the call returns: only then
//! is known how much of it was taken. A TLS object is bound to its socket by what the kernel side saw
//! ([`Binder::on_bind`]); what comes before the binding waits, for a bounded time and in bounded memory. What
//! stays without one is told as [`Owner::Unbound`], never guessed; a binding that comes late holds from there on.
//!
//! Pure: no clock, no I/O, no kernel structures. It decodes nothing and orders nothing but the plaintext of
//! one TLS object; positions of one socket's plaintext go on over all TLS objects that it carries in turn.

mod object;
mod owner;
#[cfg(test)]
mod tests;
mod told;

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;
use custody_abi as abi;
use custody_decoders::event::{Cause, Flow};

pub use told::{Counters, Extent, Limits, Output, Owner, TlsId};

use super::codes;
use object::{Content, Held, Object};

/// What every piece of plaintext says of itself, be its bytes here or missing.
struct Piece {
    tls: TlsId,
    task: abi::TaskKey,
    flow: Flow,
    position: u64,
    call: u64,
    tentative: bool,
    existing: bool,
    time_ns: u64,
}

/// What is known of a socket that carries plaintext.
struct Carrier {
    /// Ends of what was told, by flow.
    ends: [u64; 2],
    /// Live TLS objects that are bound to it.
    objects: Vec<TlsId>,
    /// Whose plaintext was told last.
    last: TlsId,
}

/// See the module. `S` names a socket.
pub struct Binder<S> {
    limits: Limits,
    counters: Counters,
    objects: HashMap<TlsId, Object<S>>,
    sockets: HashMap<S, Carrier>,
    processes: HashMap<(u64, u32), Vec<TlsId>>,
    waiting: Vec<TlsId>,
    held_bytes: usize,
}

impl<S: Copy + Eq + Hash> Binder<S> {
    /// An empty binder.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            objects: HashMap::new(),
            sockets: HashMap::new(),
            processes: HashMap::new(),
            waiting: Vec::new(),
            held_bytes: 0,
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes that wait for a settle or a binding.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether this socket carries plaintext that is told, so that its ciphertext is not missed.
    pub fn has_plaintext(&self, socket: S) -> bool {
        self.sockets.contains_key(&socket)
    }

    /// A `Data` event of the plaintext layer, with the name of its socket if it has one (generation not 0).
    pub fn on_data(&mut self, event: &abi::Data, socket: Option<S>, bytes: Bytes, out: &mut Vec<Output<S>>) {
        let piece = Piece {
            tls: TlsId(event.tls),
            task: event.task,
            flow: codes::flow(event.direction),
            position: event.position,
            call: event.call,
            tentative: event.header.flags & abi::flag::TENTATIVE != 0,
            existing: event.header.flags & abi::flag::EXISTING != 0,
            time_ns: event.header.time_ns,
        };
        if let Some(socket) = socket {
            self.bind(&piece, socket, event.provenance, out);
        }
        self.piece(&piece, Content::Bytes(bytes), out);
    }

    /// A `Gap` event of the plaintext layer.
    pub fn on_gap(&mut self, event: &abi::Gap, out: &mut Vec<Output<S>>) {
        let piece = Piece {
            tls: TlsId(event.tls),
            task: event.task,
            flow: codes::flow(event.direction),
            position: event.position,
            call: event.call,
            tentative: event.header.flags & abi::flag::TENTATIVE != 0,
            existing: event.header.flags & abi::flag::EXISTING != 0,
            time_ns: event.header.time_ns,
        };
        let content = Content::Missing { length: event.length, cause: codes::cause(event.cause) };
        self.piece(&piece, content, out);
    }

    /// A TLS object was bound to this socket. Harmless when said again.
    pub fn on_bind(&mut self, event: &abi::TlsBind, socket: S, out: &mut Vec<Output<S>>) {
        let piece = Piece {
            tls: TlsId(event.tls),
            task: event.task,
            flow: Flow::Egress,
            position: 0,
            call: 0,
            tentative: false,
            existing: event.header.flags & abi::flag::EXISTING != 0,
            time_ns: event.header.time_ns,
        };
        self.bind(&piece, socket, event.provenance, out);
    }

    /// A write returned.
    pub fn on_settle(&mut self, event: &abi::TlsSettle, out: &mut Vec<Output<S>>) {
        let tls = TlsId(event.tls);
        let Some(object) = self.objects.get_mut(&tls) else { return };
        let confirmed = object.settle(event.call, event.position, event.accepted, event.header.time_ns);
        self.recount(tls);
        self.tell(tls, confirmed, out);
    }

    /// The TLS object is gone.
    pub fn on_close(&mut self, event: &abi::TlsClose, out: &mut Vec<Output<S>>) {
        let ends = [event.ingress_position, event.egress_position];
        self.close(TlsId(event.tls), Some(ends), event.header.time_ns, out);
    }

    /// The socket is destroyed, and everything of before has been told (all rings have passed this time).
    pub fn socket_closed(&mut self, socket: S, time_ns: u64, out: &mut Vec<Output<S>>) {
        let Some(carrier) = self.sockets.get(&socket) else { return };
        for tls in carrier.objects.clone() {
            self.close(tls, None, time_ns, out);
        }
        self.sockets.remove(&socket);
    }

    /// The process ended: its TLS objects are gone.
    pub fn exited(&mut self, task: abi::TaskKey, time_ns: u64, out: &mut Vec<Output<S>>) {
        for tls in self.processes.remove(&(task.start_ns, task.pid)).unwrap_or_default() {
            self.close(tls, None, time_ns, out);
        }
    }

    /// Everything of before this boottime ns has been told: what waited too long for a binding is unbound.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Output<S>>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|tls| {
            let Some(object) = self.objects.get(tls) else { return false };
            if object.owner.is_some() || object.held.is_empty() {
                return false;
            }
            let since = object.held.first().map_or(now_ns, |held| held.time_ns);
            if now_ns.saturating_sub(since) < self.limits.binding_wait_ns {
                return true;
            }
            self.disown(*tls, now_ns, out);
            false
        });
        waiting.append(&mut self.waiting);
        self.waiting = waiting;
    }

    fn bind(&mut self, piece: &Piece, socket: S, provenance: u8, out: &mut Vec<Output<S>>) {
        let tls = piece.tls;
        let Some(object) = self.open(piece) else { return };
        match object.owner {
            Some(Owner::Unbound(_)) if object.disputed => {}
            Some(Owner::Unbound(_)) => {
                // What was told keeps its name; from here on the socket is known.
                object.binding = codes::binding(provenance);
                self.counters.late_bindings += 1;
                out.push(Output::Ended { tls, time_ns: piece.time_ns });
                self.own(tls, Owner::Socket(socket), piece.time_ns, out);
            }
            Some(Owner::Socket(bound)) if bound == socket => {}
            Some(Owner::Socket(_)) => {
                object.disputed = true;
                self.counters.disagreements += 1;
                self.disown(tls, piece.time_ns, out);
            }
            None => {
                object.binding = codes::binding(provenance);
                self.own(tls, Owner::Socket(socket), piece.time_ns, out);
            }
        }
    }

    fn close(&mut self, tls: TlsId, ends: Option<[u64; 2]>, time_ns: u64, out: &mut Vec<Output<S>>) {
        let Some(object) = self.objects.get_mut(&tls) else { return };
        let mut confirmed = Vec::new();
        if let Some([ingress, egress]) = ends {
            confirmed.extend(object.confirm(egress, time_ns));
            confirmed.extend(object.reach(Flow::Ingress, ingress, time_ns));
        }
        confirmed.extend(object.abandon());
        self.recount(tls);
        self.tell(tls, confirmed, out);
        if self.objects.get(&tls).is_some_and(|object| object.owner.is_none() && !object.held.is_empty()) {
            self.disown(tls, time_ns, out);
        }
        self.remove(tls, time_ns, out);
    }

    fn piece(&mut self, piece: &Piece, content: Content, out: &mut Vec<Output<S>>) {
        let Some(object) = self.open(piece) else {
            told::add(&mut self.counters.over_objects_bytes, content.length());
            return;
        };
        let mut held = Held {
            flow: piece.flow,
            position: piece.position,
            time_ns: piece.time_ns,
            content,
            extent: Extent::Confirmed,
        };
        if !piece.tentative {
            let confirmed = object.take(held);
            self.tell(piece.tls, confirmed, out);
            return;
        }
        if piece.call != object.pending_call {
            // A settle that was lost is told by where the next call begins.
            let confirmed = object.confirm(piece.position, piece.time_ns);
            let again = object.supersede(piece.call);
            self.counters.retries += u64::from(again);
            self.recount(piece.tls);
            self.tell(piece.tls, confirmed, out);
        }
        if held.cost() > self.room(piece.tls) {
            told::add(&mut self.counters.over_held_bytes, held.content.length());
            held.content = Content::Missing { length: held.content.length(), cause: Cause::Limit };
        }
        let Some(object) = self.objects.get_mut(&piece.tls) else { return };
        self.counters.retries_differ += u64::from(object.differs(&held));
        self.held_bytes += object.await_settle(held);
    }

    fn open(&mut self, piece: &Piece) -> Option<&mut Object<S>> {
        if !self.objects.contains_key(&piece.tls) {
            if self.objects.len() >= self.limits.objects_max {
                return None;
            }
            self.objects.insert(piece.tls, Object::new(piece.task, piece.existing));
            self.processes.entry((piece.task.start_ns, piece.task.pid)).or_default().push(piece.tls);
        }
        self.objects.get_mut(&piece.tls)
    }

    /// Bytes that this object may still hold.
    fn room(&self, tls: TlsId) -> usize {
        let own = self.objects.get(&tls).map_or(0, |object| object.counted);
        let of_object = self.limits.object_held_bytes_max.saturating_sub(own);
        of_object.min(self.limits.held_bytes_max.saturating_sub(self.held_bytes))
    }

    fn recount(&mut self, tls: TlsId) {
        let Some(object) = self.objects.get_mut(&tls) else { return };
        let now = object.cost();
        self.held_bytes = self.held_bytes + now - object.counted;
        object.counted = now;
    }

    fn remove(&mut self, tls: TlsId, time_ns: u64, out: &mut Vec<Output<S>>) {
        self.release_carrier(tls);
        let Some(object) = self.objects.remove(&tls) else { return };
        self.held_bytes -= object.counted;
        if matches!(object.owner, Some(Owner::Unbound(_))) {
            out.push(Output::Ended { tls, time_ns });
        }
        let process = (object.task.start_ns, object.task.pid);
        if let Some(list) = self.processes.get_mut(&process) {
            list.retain(|other| *other != tls);
            if list.is_empty() {
                self.processes.remove(&process);
            }
        }
    }
}
