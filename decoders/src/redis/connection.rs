//! One connection: commands up, replies down, holes and the end. What a command or reply means is said in other
//! modules; here it is joined.

use custody_record::names;

use super::command::{self, Act, Described, Plan};
use super::early::Early;
use super::lane::{Grammar, Lane, Lines};
use super::pairing::{Pairing, Pending};
use super::probe;
use super::table::{self, Holds};
use super::tree::Tree;
use super::unasked::Subscriptions;
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};

/// The state of one connection.
pub(super) struct Connection {
    pub(super) limits: Limits,
    pub(super) lanes: [Lane; 2],
    pub(super) pairing: Pairing,
    pub(super) subscriptions: Subscriptions,
    /// The server tells all commands of all clients.
    pub(super) monitors: bool,
    /// A snapshot that comes: its exchange, and its bytes so far.
    pub(super) snapshot: Option<(ExchangeId, u64)>,
    /// The server may speak unasked: RESP3 is spoken.
    pub(super) pushes: bool,
    /// Replies that are seen before their command.
    pub(super) early: Early,
    /// What is odd about the value that comes, by direction.
    odd: [Option<&'static str>; 2],
    last_id: ExchangeId,
    /// Replies without a command since the last command.
    pub(super) unmatched: u32,
    introduced: bool,
}

impl Connection {
    pub(super) fn new(limits: Limits, middle: bool) -> Self {
        let up = if middle { Lines::Known } else { Lines::Any };
        Connection {
            limits,
            lanes: [
                Lane::new(Grammar::Commands, &limits, up),
                Lane::new(Grammar::Replies, &limits, Lines::Empty),
            ],
            pairing: Pairing::new(limits.pending_max, !middle),
            subscriptions: Subscriptions::default(),
            monitors: false,
            snapshot: None,
            pushes: false,
            early: Early::default(),
            odd: [None; 2],
            last_id: 0,
            unmatched: 0,
            introduced: false,
        }
    }

    pub(super) fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }

    pub(super) fn number(&mut self, out: &mut dyn Out) -> ExchangeId {
        if !std::mem::replace(&mut self.introduced, true) {
            out.session(vec![Field::structure(names::DB_SYSTEM, "redis")]);
        }
        self.last_id += 1;
        self.last_id
    }

    /// A new exchange.
    pub(super) fn begin(&mut self, time_ns: u64, fields: Vec<Field>, out: &mut dyn Out) -> ExchangeId {
        let id = self.number(out);
        out.request(id, time_ns, fields);
        id
    }

    /// Something whole by itself that the server said unasked.
    pub(super) fn tell(
        &mut self,
        message: &'static str,
        mut fields: Vec<Field>,
        time_ns: u64,
        out: &mut dyn Out,
    ) {
        fields.push(Field::structure(names::REDIS_MESSAGE, message));
        let id = self.begin(time_ns, fields, out);
        self.note_odd(Direction::Down, id, out);
        out.response(id, time_ns, Outcome::Ok, Vec::new());
    }

    pub(super) fn set_odd(&mut self, direction: Direction, code: &'static str) {
        self.odd[direction as usize] = Some(code);
    }

    pub(super) fn take_odd(&mut self, direction: Direction) -> Option<&'static str> {
        self.odd[direction as usize].take()
    }

    pub(super) fn note_odd(&mut self, direction: Direction, id: ExchangeId, out: &mut dyn Out) {
        if let Some(code) = self.odd[direction as usize].take() {
            out.anomaly(Some(id), code);
        }
    }

    /// What stood where nothing of the protocol can, since the last frame.
    fn settle(&mut self, time_ns: u64, out: &mut dyn Out) {
        if let Some(code) = self.lanes[Direction::Up as usize].odd.take() {
            if self.pairing.is_certain() {
                // The server answers it by an error, and closes.
                let message = Field::structure(names::REDIS_MESSAGE, "malformed");
                let id = self.begin(time_ns, vec![message], out);
                out.anomaly(Some(id), code);
                let plan = Plan { holds: Some(Holds::Text), ..Plan::default() };
                let act = Act::Plain;
                self.wait(Pending { id, time_ns, name: "", plan, act, certain: true, confirmed: 0 }, out);
            } else {
                out.anomaly(None, code);
            }
            self.doubt();
        }
        if let Some(code) = self.lanes[Direction::Down as usize].odd.take() {
            out.anomaly(None, code);
            self.release_early(u64::MAX, out);
            self.lose_replies(out);
        }
    }

    fn doubt(&mut self) {
        self.pairing.doubt();
        self.lane(Direction::Up).lines = Lines::Known;
    }

    fn lose_replies(&mut self, out: &mut dyn Out) {
        for pending in self.pairing.lose() {
            out.anomaly(Some(pending.id), anomaly::ANSWER_LOST);
        }
        if let Some((id, _)) = self.snapshot.take() {
            out.anomaly(Some(id), anomaly::ANSWER_LOST);
        }
        self.odd[Direction::Down as usize] = None;
    }

    /// A command is whole.
    fn on_command(&mut self, tree: &Tree, frame: Frame<'_>, out: &mut dyn Out) {
        let first_ns = self.lanes[Direction::Up as usize].first_ns;
        // What was said before it cannot be its reply.
        self.release_early(first_ns, out);
        let between = self.lanes[Direction::Down as usize].is_between();
        self.pairing.begins(first_ns, between && self.early.is_empty());
        self.unmatched = 0;
        let certain = self.pairing.is_certain();
        self.lane(Direction::Up).lines = if certain { Lines::Any } else { Lines::Known };
        let Described { mut fields, plan, act } = command::describe(tree);
        let name = table::find(command::Arguments::of(tree).get(0)).name;
        let silent = self.pairing.no_reply(&act);
        if let Some(why) = silent {
            fields.push(Field::structure(names::REDIS_NO_REPLY, why));
        }
        let id = self.begin(first_ns, fields, out);
        self.note_odd(Direction::Up, id, out);
        if silent.is_none() {
            let pending = Pending { id, time_ns: first_ns, name, plan, act, certain, confirmed: 0 };
            self.wait(pending, out);
            return self.answer_early(out);
        }
        if !certain {
            out.anomaly(Some(id), anomaly::PAIRING_UNCERTAIN);
        }
        out.response(id, frame.time_ns, Outcome::Ok, Vec::new());
        let down = &mut self.lanes[Direction::Down as usize];
        if act == Act::Acknowledge && !certain && self.snapshot.is_none() && (down.is_between() || down.lost)
        {
            // Only a replica says so, while its primary sends it commands.
            down.grammar = Grammar::Commands;
        }
    }

    fn wait(&mut self, pending: Pending, out: &mut dyn Out) {
        let id = pending.id;
        if !self.pairing.push(pending) {
            out.anomaly(Some(id), anomaly::PENDING_LIMIT);
        }
    }

    fn on_whole(&mut self, frame: Frame<'_>, out: &mut dyn Out) {
        let lane = self.lane(frame.direction);
        let grammar = lane.grammar;
        let mut tree = std::mem::take(&mut lane.tree);
        match (frame.direction, grammar) {
            (Direction::Up, _) => self.on_command(&tree, frame, out),
            (Direction::Down, Grammar::Commands) => self.on_replicated(&tree, frame.time_ns, out),
            (Direction::Down, _) => self.on_reply(&tree, frame.time_ns, out),
        }
        tree.clear();
        self.lane(frame.direction).tree = tree;
    }
}

impl Decoder for Connection {
    fn expects(&self, direction: Direction) -> bool {
        let [up, down] = &self.lanes;
        match direction {
            Direction::Up => self.pairing.has_room(),
            Direction::Down => {
                self.pairing.waits()
                    || self.may_speak_unasked()
                    || down.grammar != Grammar::Replies
                    || up.odd.is_some()
                    || !down.is_between()
            }
        }
    }

    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        if direction == Direction::Down && self.lanes[1].is_between() && self.awaits_snapshot() {
            self.lanes[1].grammar = Grammar::SnapshotHead;
        }
        self.lane(direction).framing(bytes)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _cut: u64, out: &mut dyn Out) {
        self.settle(frame.time_ns, out);
        if self.on_snapshot_frame(frame, out) {
            return;
        }
        let progress = self.lane(frame.direction).feed(frame.bytes, frame.time_ns);
        let odd = &mut self.odd[frame.direction as usize];
        *odd = odd.or(progress.odd);
        if progress.whole {
            self.on_whole(frame, out);
        }
        if frame.direction == Direction::Down || progress.whole {
            self.pairing.saw(frame.time_ns);
        }
        self.settle(frame.time_ns, out);
    }

    fn on_body(&mut self, body: Body<'_>, out: &mut dyn Out) {
        if body.direction == Direction::Down {
            self.pairing.saw(body.time_ns);
        }
        self.lane(body.direction).body(body.bytes, body.last);
        if self.snapshot.is_some() && body.direction == Direction::Down {
            self.on_snapshot_bytes(body.bytes.len() as u64, out);
            self.end_snapshot_if_whole(body.time_ns, out);
        }
    }

    fn on_gap(&mut self, direction: Direction, lost: u64, out: &mut dyn Out) {
        self.settle(0, out);
        if self.lane(direction).gap(lost) {
            if self.snapshot.is_some() && direction == Direction::Down {
                self.on_snapshot_bytes(lost, out);
                self.end_snapshot_if_whole(0, out);
            }
            return;
        }
        self.lane(direction).lose();
        match direction {
            Direction::Up => self.doubt(),
            Direction::Down => {
                self.release_early(u64::MAX, out);
                self.lose_replies(out);
            }
        }
    }

    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        let lane = self.lane(direction);
        let found = probe::resync(lane.grammar, bytes)?;
        lane.lost = false;
        Some(found)
    }

    fn on_end(&mut self, direction: Direction, out: &mut dyn Out) {
        self.settle(0, out);
        self.release_early(u64::MAX, out);
        let lane = self.lane(direction);
        if !lane.is_between() && !lane.lost {
            lane.lose();
            let head =
                if direction == Direction::Down { self.pairing.head().map(|head| head.id) } else { None };
            out.anomaly(head, anomaly::REDIS_TRUNCATED);
        }
    }

    fn held_bytes(&self) -> usize {
        let trees: usize = self.lanes.iter().map(|lane| lane.tree.held_bytes()).sum();
        size_of::<Self>() + trees + self.pairing.held_bytes() + self.early.held_bytes()
    }
}
