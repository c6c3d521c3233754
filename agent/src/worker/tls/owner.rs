//! Whose plaintext it is: binds a TLS object to its socket or to none, keeps the positions of each socket's plaintext over
//! all objects that it carries in turn, and tells what was confirmed under that name. Decides no binding itself.

use std::hash::Hash;

use custody_decoders::event::{Binding, Cause};

use super::object::{Content, Held};
use super::told::{self, Extent, Output, Owner, TlsId};
use super::{Binder, Carrier};

impl<S: Copy + Eq + Hash> Binder<S> {
    /// Tells confirmed pieces, or holds them until the owner is known.
    pub(super) fn tell(&mut self, tls: TlsId, confirmed: Vec<Held>, out: &mut Vec<Output<S>>) {
        if confirmed.is_empty() {
            return;
        }
        let Some(object) = self.objects.get_mut(&tls) else { return };
        if let Some(owner) = object.owner {
            for piece in confirmed {
                self.emit(tls, owner, piece, out);
            }
            return;
        }
        if object.held.is_empty() {
            self.waiting.push(tls);
        }
        let time_ns = confirmed.last().map_or(0, |held| held.time_ns);
        self.held_bytes += object.await_owner(confirmed);
        let counted = object.counted;
        // Nothing needs to be lost for want of room: it only waits for a name.
        if counted > self.limits.object_held_bytes_max || self.held_bytes > self.limits.held_bytes_max {
            self.disown(tls, time_ns, out);
        }
    }

    /// No socket for this object, now or later.
    pub(super) fn disown(&mut self, tls: TlsId, time_ns: u64, out: &mut Vec<Output<S>>) {
        self.counters.unbound_objects += 1;
        self.release_carrier(tls);
        if let Some(object) = self.objects.get_mut(&tls) {
            object.binding = Binding::Unknown;
        }
        self.own(tls, Owner::Unbound(tls), time_ns, out);
    }

    pub(super) fn own(&mut self, tls: TlsId, owner: Owner<S>, time_ns: u64, out: &mut Vec<Output<S>>) {
        let Some(object) = self.objects.get_mut(&tls) else { return };
        object.owner = Some(owner);
        out.push(Output::Bound {
            owner,
            binding: object.binding,
            task: object.task,
            existing: object.existing,
            time_ns,
        });
        let held = std::mem::take(&mut object.held);
        if let Owner::Socket(socket) = owner {
            self.carry(tls, socket);
        }
        self.recount(tls);
        for piece in held {
            self.emit(tls, owner, piece, out);
        }
    }

    fn carry(&mut self, tls: TlsId, socket: S) {
        if self.sockets.len() >= self.limits.sockets_max && !self.sockets.contains_key(&socket) {
            let before = self.sockets.len();
            self.sockets.retain(|_, carrier| !carrier.objects.is_empty());
            self.counters.over_sockets += (before - self.sockets.len()) as u64;
        }
        let carrier =
            self.sockets.entry(socket).or_insert(Carrier { ends: [0; 2], objects: Vec::new(), last: tls });
        carrier.objects.push(tls);
    }

    pub(super) fn release_carrier(&mut self, tls: TlsId) {
        if let Some(Owner::Socket(socket)) = self.objects.get(&tls).and_then(|object| object.owner)
            && let Some(carrier) = self.sockets.get_mut(&socket)
        {
            carrier.objects.retain(|other| *other != tls);
        }
    }

    fn emit(&mut self, tls: TlsId, owner: Owner<S>, piece: Held, out: &mut Vec<Output<S>>) {
        let (flow, time_ns, length) = (piece.flow, piece.time_ns, piece.content.length());
        let end = match owner {
            Owner::Socket(socket) => {
                let Some(carrier) = self.sockets.get_mut(&socket) else { return };
                if carrier.last != tls {
                    self.counters.shared_sockets += u64::from(carrier.objects.len() > 1);
                    carrier.last = tls;
                }
                &mut carrier.ends[flow as usize]
            }
            Owner::Unbound(_) => {
                let Some(object) = self.objects.get_mut(&tls) else { return };
                &mut object.told[flow as usize]
            }
        };
        let position = *end;
        *end = position.saturating_add(length);
        match piece.content {
            Content::Bytes(bytes) => {
                match owner {
                    Owner::Socket(_) => told::add(&mut self.counters.bound_bytes, length),
                    Owner::Unbound(_) => told::add(&mut self.counters.unbound_bytes, length),
                }
                if piece.extent == Extent::Unknown {
                    told::add(&mut self.counters.extent_unknown_bytes, length);
                }
                out.push(Output::Chunk { owner, flow, position, time_ns, extent: piece.extent, bytes });
            }
            Content::Missing { length, cause } => {
                if cause == Cause::Unseen {
                    told::add(&mut self.counters.unseen_bytes, length);
                }
                out.push(Output::Hole { owner, flow, position, length, cause, time_ns });
            }
        }
    }
}
