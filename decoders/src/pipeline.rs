//! All of it behind one call: events in, masked records out.
//!
//! Pure: time comes with the events, and [`Event::Tick`] alone lets waits end. Holds the sessions, finds the
//! two ends of one connection, bounds the memory of all, and counts each limit that was hit.

mod bounds;
mod no_room;
mod orphans;
mod unread;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use custody_record::{Kind, Record, names};

use crate::driver::Driver;
use crate::event::{Cause, Chunk, Event, Flow, Hole, Layer, Process, Socket, SocketId};
use crate::item::Field;
use crate::level::{Level, Reducer, Told};
use crate::mask::{Draft, Masked};
use crate::related::{Related, Relation};
use crate::session::{PairKey, Place, Session, What, cause_name, draft, process_fields};
use no_room::{NO_ROOM_WAIT_NS, NoRoom};
use orphans::{Orphan, orphan_weight};

pub use crate::session::{LATCH_BYTES, LATCH_WAIT_NS, Unread};
pub use bounds::{Counters, PipelineOptions};

/// How long bytes wait for the first sight of their socket, which travels another ring.
const ORPHAN_WAIT_NS: u64 = 200_000_000;

/// Events in, masked records out.
pub struct Pipeline {
    options: PipelineOptions,
    sockets: HashMap<SocketId, (u64, usize)>,
    sessions: HashMap<u64, Session>,
    pairs: HashMap<PairKey, u64>,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    orphans: VecDeque<Orphan>,
    orphan_bytes: usize,
    held_bytes: usize,
    sessions_begun: u64,
    now_ns: u64,
    no_room: NoRoom,
    related: Related,
    unread: HashMap<(u32, u64), Unread>,
    reducer: Reducer,
    counters: Counters,
}

impl Pipeline {
    /// An empty one.
    pub fn new(options: PipelineOptions) -> Self {
        Pipeline {
            sessions_begun: options.sessions_before,
            reducer: Reducer::new(options.level),
            options,
            sockets: HashMap::new(),
            sessions: HashMap::new(),
            pairs: HashMap::new(),
            timers: BinaryHeap::new(),
            orphans: VecDeque::new(),
            orphan_bytes: 0,
            held_bytes: 0,
            now_ns: 0,
            no_room: NoRoom::default(),
            related: Related::default(),
            unread: HashMap::new(),
            counters: Counters::default(),
        }
    }

    /// From now on this much is told.
    pub fn set_level(&mut self, level: Level) {
        self.reducer.level = level;
    }

    /// How much is told now.
    pub fn level(&self) -> Level {
        self.reducer.level
    }

    /// What the level let through and left out.
    pub fn told(&self) -> Told {
        self.reducer.told
    }

    /// Cumulative counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sessions that are open now.
    pub fn sessions_open(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes that all sessions hold, as far as it was measured.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.orphan_bytes
    }

    /// One event; the records that follow from it go to `out` at once.
    pub fn feed(&mut self, event: Event<'_>, out: &mut impl FnMut(Masked<Record>)) {
        self.counters.events += 1;
        self.telling(out, |pipeline, sink| pipeline.take(event, sink));
    }

    /// Runs `work`; its drafts are reduced to the level, masked and handed out.
    fn telling(
        &mut self,
        out: &mut impl FnMut(Masked<Record>),
        work: impl FnOnce(&mut Self, &mut dyn FnMut(Draft)),
    ) {
        let masker = self.options.masker.clone();
        let mut reducer = std::mem::take(&mut self.reducer);
        let mut records = 0;
        work(self, &mut |draft| {
            if let Some(draft) = reducer.reduce(draft) {
                records += 1;
                out(masker.mask(draft));
            }
        });
        self.reducer = reducer;
        self.counters.records += records;
    }

    fn take(&mut self, event: Event<'_>, sink: &mut dyn FnMut(Draft)) {
        match event {
            Event::Open(socket) => self.open(socket, sink),
            Event::Chunk(chunk) => self.chunk(chunk, sink),
            Event::Hole(hole) => self.hole(hole, sink),
            Event::Bound { socket, binding, existing, .. } => {
                if let Some((session, end)) = self.find(socket) {
                    session.bound(end, binding, existing);
                }
            }
            Event::Reset(socket, flow) => {
                if let Some((session, end)) = self.find(socket) {
                    session.reset(end, flow);
                }
            }
            Event::Odd(socket, code) => {
                if let Some((session, _)) = self.find(socket) {
                    session.note(code);
                }
            }
            Event::Close(socket, positions, time_ns) => self.close(socket, positions, time_ns),
            Event::Exec(process, time_ns) => tell_process(Kind::Exec, &process, None, time_ns, sink),
            Event::Exit(process, status, time_ns) => {
                tell_process(Kind::Exit, &process, Some(status), time_ns, sink);
            }
            Event::Lost(events, time_ns) => {
                self.counters.events_lost = self.counters.events_lost.saturating_add(events);
                let fields = vec![
                    Field::structure(names::GAP_EVENTS, events),
                    Field::structure(names::GAP_CAUSE, cause_name(Cause::RingFull)),
                ];
                sink(draft(Kind::Gap, time_ns, time_ns, fields));
            }
            Event::NoRoom(bytes, time_ns) => self.no_room.missed(bytes, time_ns),
            Event::Tick(now_ns) => self.tick(now_ns, sink),
        }
    }

    /// No more events: everything that is held is told, open exchanges are closed, sessions end.
    pub fn finish(&mut self, out: &mut impl FnMut(Masked<Record>)) {
        self.telling(out, Self::end);
    }

    fn end(&mut self, sink: &mut dyn FnMut(Draft)) {
        self.drop_orphans(u64::MAX, sink);
        if let Some(gap) = self.no_room.due(u64::MAX) {
            sink(gap);
        }
        let mut numbers: Vec<u64> = self.sessions.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(session) = self.sessions.get_mut(&number) {
                session.finish(sink);
            }
            self.forget(number);
        }
    }

    fn find(&mut self, socket: SocketId) -> Option<(&mut Session, usize)> {
        let (number, end) = *self.sockets.get(&socket)?;
        self.sessions.get_mut(&number).map(|session| (session, end))
    }

    fn open(&mut self, socket: Socket, sink: &mut dyn FnMut(Draft)) {
        let id = socket.id;
        if self.sockets.contains_key(&id) {
            return;
        }
        let key = PairKey::of(&socket);
        let by_address = key.and_then(|key| self.pairs.get(&key).copied());
        let by_peer = socket.peer.and_then(|peer| self.sockets.get(&peer)).map(|(number, _)| *number);
        let joined = by_peer
            .or(by_address)
            .filter(|number| self.sessions.get(number).is_some_and(|session| session.awaits(&socket)));
        let full = self.sessions.len() >= self.options.sessions_max;
        let place = match joined.and_then(|number| self.sessions.get_mut(&number)) {
            Some(session) => (session.number, session.join(socket)),
            None if full => {
                self.counters.sessions_refused += 1;
                let mut fields = vec![Field::structure(names::GAP_CAUSE, cause_name(Cause::TableFull))];
                process_fields(&socket.process, &mut fields);
                return sink(draft(Kind::Gap, socket.time_ns, socket.time_ns, fields));
            }
            None => {
                self.sessions_begun += 1;
                self.counters.sessions += 1;
                let number = self.sessions_begun;
                self.sessions.insert(number, Session::new(number, socket, self.options.limits));
                if let Some(key) = key {
                    self.pairs.insert(key, number);
                }
                (number, 0)
            }
        };
        self.sockets.insert(id, place);
        self.adopt_orphans(id, sink);
    }

    fn close(&mut self, socket: SocketId, positions: [Option<u64>; 2], time_ns: u64) {
        let Some((number, end)) = self.sockets.get(&socket).copied() else { return };
        if let Some(session) = self.sessions.get_mut(&number) {
            session.close(end, positions, time_ns);
            arm(session, 0, &mut self.timers);
        }
    }

    fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut dyn FnMut(Draft)) {
        self.counters.bytes += chunk.bytes.len() as u64;
        let Chunk { socket, flow, layer, position, time_ns, bytes } = chunk;
        self.input(socket, layer, flow, position, time_ns, What::Bytes(bytes), sink);
    }

    fn hole(&mut self, hole: Hole, sink: &mut dyn FnMut(Draft)) {
        let Hole { socket, flow, layer, position, length, cause, time_ns } = hole;
        self.input(socket, layer, flow, position, time_ns, What::Hole(length, cause), sink);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an event, taken apart once")]
    fn input(
        &mut self,
        socket: SocketId,
        layer: Layer,
        flow: Flow,
        position: u64,
        time_ns: u64,
        what: What<&[u8]>,
        sink: &mut dyn FnMut(Draft),
    ) {
        let Some((session, end)) = self.find(socket) else {
            let what = match what {
                What::Bytes(bytes) => What::Bytes(bytes.to_vec()),
                What::Hole(length, cause) => What::Hole(length, cause),
            };
            self.orphan_bytes += orphan_weight(&what);
            self.orphans.push_back(Orphan { socket, layer, flow, position, time_ns, what });
            if self.orphan_bytes > self.options.orphan_bytes_max {
                self.drop_orphans(u64::MAX, sink);
            }
            return;
        };
        session.input(Place { end, layer, flow, position, time_ns }, what, sink);
        let (number, relations) = (session.number, session.take_relations());
        self.relate(number, relations);
        self.follow(number, 0, sink);
    }

    /// Resolves what a session said of itself and others.
    fn relate(&mut self, number: u64, relations: Vec<Relation>) {
        for relation in relations {
            match relation {
                Relation::GoesBy(secret) => self.related.goes_by(number, secret),
                Relation::Names(exchange, secret, field) => {
                    let Some(other) = self.related.find(secret).filter(|other| *other != number) else {
                        continue;
                    };
                    let mut tell = |session: u64, say: &mut dyn FnMut(&mut Driver)| {
                        if let Some(driver) = self.sessions.get_mut(&session).and_then(Session::driver) {
                            say(driver);
                        }
                    };
                    tell(number, &mut |driver| driver.names_session(exchange, field, other));
                    tell(other, &mut |driver| driver.named_by(number));
                }
            }
        }
    }

    fn tick(&mut self, now_ns: u64, sink: &mut dyn FnMut(Draft)) {
        self.now_ns = self.now_ns.max(now_ns);
        self.drop_orphans(now_ns.saturating_sub(ORPHAN_WAIT_NS), sink);
        if let Some(gap) = self.no_room.due(now_ns.saturating_sub(NO_ROOM_WAIT_NS)) {
            sink(gap);
        }
        while self.timers.peek().is_some_and(|Reverse((due, _))| *due <= now_ns) {
            let Some(Reverse((due, number))) = self.timers.pop() else { break };
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            if session.armed_ns != due {
                continue;
            }
            session.armed_ns = u64::MAX;
            if session.tick(now_ns, sink) {
                self.forget(number);
            } else {
                let relations = session.take_relations();
                self.relate(number, relations);
                self.note_unread(number);
                self.follow(number, now_ns.saturating_add(1), sink);
            }
        }
    }

    /// Follows the memory of a session, and sets its timer if it should ring earlier than it does. The session that
    /// grows over the limit of all pays.
    fn follow(&mut self, number: u64, earliest_ns: u64, sink: &mut dyn FnMut(Draft)) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let before = session.held_bytes;
        session.held_bytes = session.measure();
        self.held_bytes = self.held_bytes + session.held_bytes - before;
        if self.held_bytes > self.options.held_bytes_max && session.held_bytes > before {
            self.counters.sheds += 1;
            session.shed(sink);
            let shrunk = session.measure();
            self.held_bytes = self.held_bytes + shrunk - session.held_bytes;
            session.held_bytes = shrunk;
        }
        arm(session, earliest_ns, &mut self.timers);
    }

    fn forget(&mut self, number: u64) {
        self.note_unread(number);
        let Some(session) = self.sessions.remove(&number) else { return };
        self.related.forget(number);
        self.held_bytes -= session.held_bytes;
        for socket in session.sockets() {
            self.sockets.remove(&socket.id);
            if let Some(key) = PairKey::of(socket)
                && self.pairs.get(&key) == Some(&number)
            {
                self.pairs.remove(&key);
            }
        }
    }
}

/// Sets the session's timer if it should ring earlier than it does, but not before `earliest_ns`.
fn arm(session: &mut Session, earliest_ns: u64, timers: &mut BinaryHeap<Reverse<(u64, u64)>>) {
    let deadline_ns = session.deadline_ns().max(earliest_ns);
    if deadline_ns < session.armed_ns {
        session.armed_ns = deadline_ns;
        timers.push(Reverse((deadline_ns, session.number)));
    }
}

fn tell_process(
    kind: Kind,
    process: &Arc<Process>,
    status: Option<u32>,
    time_ns: u64,
    sink: &mut dyn FnMut(Draft),
) {
    let mut fields = Vec::new();
    process_fields(process, &mut fields);
    if let Some(status) = status {
        fields.retain(|field| field.name != names::PROCESS_ARGS);
        fields.push(Field::structure(names::PROCESS_EXIT_STATUS, u64::from(status)));
    }
    sink(draft(kind, time_ns, time_ns, fields));
}

#[cfg(test)]
pub(crate) mod tests;
