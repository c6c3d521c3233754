//! The TCP connections of a capture: which segment belongs to which, and bounds for all of them. The one that was
//! quiet for longest is closed first, and counted.

use std::collections::{HashMap, VecDeque};

use super::connection::{Belongs, Connection, Context, is_due};
use super::segment::Segment;
use super::tags::Tags;
use super::{Counts, Listener};
use crate::event::Endpoint;

/// Connections that were active since they were queued are queued anew so often before one is closed anyway.
const ATTEMPTS_MAX: usize = 64;

type Ends = [Endpoint; 2];
/// A network, and two ends in it.
type Key = (Tags, Ends);

/// All connections.
pub(super) struct Table {
    connections: HashMap<Key, Connection>,
    /// The network in which a connection of these ends began last.
    networks: HashMap<Ends, Tags>,
    /// By when they were last looked at: ends, number, time.
    order: VecDeque<(Key, u64, u64)>,
    connections_max: usize,
    held: Held,
}

/// What all connections hold, and until when.
struct Held {
    bytes: usize,
    bytes_max: usize,
    /// Those whose waits end by time: when, ends, number.
    due: VecDeque<(u64, Key, u64)>,
}

impl Table {
    pub(super) fn new(connections_max: usize, held_bytes_max: usize) -> Self {
        Table {
            connections: HashMap::new(),
            networks: HashMap::new(),
            order: VecDeque::new(),
            connections_max: connections_max.max(1),
            held: Held { bytes: 0, bytes_max: held_bytes_max, due: VecDeque::new() },
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// A segment of this network.
    pub(super) fn segment(&mut self, network: Tags, segment: &Segment<'_>, context: &mut Context<'_>) {
        let (from, to) = (segment.from, segment.to);
        let ordered = (from.address, from.port) <= (to.address, to.port);
        let mut key = (network, if ordered { [from, to] } else { [to, from] });
        let known = match self.connections.get_mut(&key) {
            Some(known) => known,
            None => {
                key = self.elsewhere(key, segment, context);
                let Some(known) = self.connections.get_mut(&key) else { return };
                known
            }
        };
        let before = known.held_bytes();
        let mut belongs = known.segment(segment, context);
        if let Belongs::Anew | Belongs::AnewAfter(..) = belongs {
            known.end(None, context);
            self.held.bytes = self.held.bytes.saturating_sub(before);
            belongs = self.anew(key, belongs, segment, context);
        } else {
            self.held.follow(known, &key, before, context);
        }
        if belongs == Belongs::Nowhere {
            context.counts.implausible_segments += 1;
            context.counts.implausible_bytes += segment.length as u64;
        }
    }

    /// A segment that begins another connection between the same ends.
    fn anew(
        &mut self,
        key: Key,
        belongs: Belongs,
        segment: &Segment<'_>,
        context: &mut Context<'_>,
    ) -> Belongs {
        self.begin(key, context);
        let Some(connection) = self.connections.get_mut(&key) else { return belongs };
        if let Belongs::AnewAfter(lane, sequence) = belongs {
            connection.asked(lane, sequence);
        }
        let before = connection.held_bytes();
        let belongs = connection.segment(segment, context);
        self.held.bytes += before;
        self.held.follow(connection, &key, before, context);
        belongs
    }

    /// The connection of a segment whose own network has none; it begins when there is no other. Tags may differ by
    /// direction, and a routed packet may be captured in two networks: a segment whose numbers go on with a connection of
    /// its ends is of that one, in whichever network it comes.
    fn elsewhere(&mut self, key: Key, segment: &Segment<'_>, context: &mut Context<'_>) -> Key {
        let other = self.networks.get(&key.1).map(|network| (*network, key.1));
        let goes_on = |key: &Key| self.connections.get(key).is_some_and(|known| known.goes_on_with(segment));
        if let Some(other) = other.filter(goes_on) {
            return other;
        }
        self.make_room(context);
        self.begin(key, context);
        key
    }

    fn begin(&mut self, key: Key, context: &mut Context<'_>) {
        context.counts.connections += 1;
        let number = context.counts.connections;
        self.order.push_back((key, number, context.time_ns));
        self.networks.insert(key.1, key.0);
        self.connections.insert(key, Connection::new(number, key.1, context.time_ns));
    }

    /// Time passed: what was acknowledged long enough ago and has not come is missing.
    pub(super) fn expire(&mut self, now_ns: u64, counts: &mut Counts, listener: &mut dyn Listener) {
        while self.held.due.front().is_some_and(|(due_ns, ..)| is_due(*due_ns, now_ns)) {
            let Some((_, key, number)) = self.held.due.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(&key).filter(|known| known.number == number)
            else {
                continue;
            };
            connection.due = false;
            let before = connection.held_bytes();
            let mut context = Context { listener, counts, packet: 0, time_ns: now_ns, now_ns };
            connection.settle(&mut context);
            self.held.follow(connection, &key, before, &mut context);
        }
    }

    /// Closes connections until there is room for one more.
    fn make_room(&mut self, context: &mut Context<'_>) {
        let mut attempts = 0;
        while self.connections.len() >= self.connections_max {
            let Some((key, number, seen_ns)) = self.order.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(&key).filter(|known| known.number == number)
            else {
                continue;
            };
            attempts += 1;
            if connection.last_ns > seen_ns && !connection.over && attempts < ATTEMPTS_MAX {
                self.order.push_back((key, number, connection.last_ns));
                continue;
            }
            if !connection.over {
                context.counts.forgotten += 1;
            }
            let before = connection.held_bytes();
            connection.end(None, context);
            self.held.bytes = self.held.bytes.saturating_sub(before);
            self.connections.remove(&key);
            if self.networks.get(&key.1) == Some(&key.0) {
                self.networks.remove(&key.1);
            }
        }
    }

    /// The capture is over: what is held or missing is told. Connections that go on are left open.
    pub(super) fn finish(&mut self, time_ns: u64, counts: &mut Counts, listener: &mut dyn Listener) {
        let mut context = Context { listener, counts, packet: 0, time_ns, now_ns: time_ns };
        let mut connections: Vec<Connection> = self.connections.drain().map(|(_, known)| known).collect();
        connections.sort_unstable_by_key(|connection| connection.number);
        for mut connection in connections.into_iter().filter(|connection| !connection.over) {
            connection.flush(&mut context);
        }
        self.order.clear();
        self.held.due.clear();
        self.held.bytes = 0;
    }
}

impl Held {
    /// Follows what a connection holds; the one that grows over the limit of all pays.
    fn follow(&mut self, connection: &mut Connection, key: &Key, before: usize, context: &mut Context<'_>) {
        let mut held = connection.held_bytes();
        if (self.bytes + held).saturating_sub(before) > self.bytes_max && held > before {
            connection.shed(context);
            held = connection.held_bytes();
        }
        self.bytes = (self.bytes + held).saturating_sub(before);
        if let Some(due_ns) = connection.due_ns()
            && !std::mem::replace(&mut connection.due, true)
        {
            self.due.push_back((due_ns, *key, connection.number));
        }
    }
}
