//! One connection: commands up, replies down, holes and the end. What a command or reply means is said in other
//! modules; here it is joined.

use custody_record::names;

use super::answer::Reply;
use super::command::{self, Act, Described, Plan};
use super::early::{Early, Waiting};
use super::lane::{Grammar, Lane, Lines};
use super::pairing::{Pairing, Pending};
use super::probe;
use super::table::{self, Holds};
use super::tree::Tree;
use super::unasked::Subscriptions;
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Body, Decoder, Direction, ExchangeId, Frame, Framing, Limits, Out, Outcome};

/// Replies without a command that are told one by one; more in a row are counted.
const UNMATCHED_MAX: u32 = 16;

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
    unmatched: u32,
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

    /// A new exchange.
    pub(super) fn begin(&mut self, time_ns: u64, fields: Vec<Field>, out: &mut dyn Out) -> ExchangeId {
        if !std::mem::replace(&mut self.introduced, true) {
            out.session(vec![Field::structure(names::DB_SYSTEM, "redis")]);
        }
        self.last_id += 1;
        out.request(self.last_id, time_ns, fields);
        self.last_id
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

    pub(super) fn note_odd(&mut self, direction: Direction, id: ExchangeId, out: &mut dyn Out) {
        if let Some(code) = self.odd[direction as usize].take() {
            out.anomaly(Some(id), code);
        }
    }

    /// What stood where nothing of the protocol can, since the last frame.
    fn settle(&mut self, time_ns: u64, out: &mut dyn Out) {
        if let Some(code) = self.lanes[Direction::Up as usize].odd.take() {
            self.lane(Direction::Up).lose();
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
            self.lose_replies(out);
            self.lane(Direction::Down).lose();
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

    /// A reply is whole.
    pub(super) fn on_reply(&mut self, tree: &Tree, time_ns: u64, out: &mut dyn Out) {
        let reply = Reply::of(tree);
        self.pushes |= matches!(reply.kind(), b'>' | b'%' | b'~');
        // What waits for its command comes first.
        if !self.early.is_empty() || !self.pairing.waits() && self.may_speak_unasked() {
            if self.on_unasked(reply, time_ns, out) {
                return;
            }
            if self.early.has_room() {
                let odd = self.odd[Direction::Down as usize].take();
                return self.early.push(Waiting { tree: tree.clone(), time_ns, odd });
            }
        } else if self.on_unasked(reply, time_ns, out) {
            return;
        }
        let certain = self.pairing.is_certain();
        if !certain && self.pairing.head().is_some_and(|head| time_ns < head.time_ns) {
            return self.on_unmatched(reply, time_ns, out);
        }
        let Some(pending) = self.pairing.pop() else {
            if !self.pairing.pop_beyond() {
                self.on_unmatched(reply, time_ns, out);
            }
            return;
        };
        self.note_odd(Direction::Down, pending.id, out);
        let queued = reply.kind() == b'+' && reply.bytes() == b"QUEUED" && self.pairing.in_transaction();
        if queued && !matches!(pending.act, Act::Exec | Act::Discard) {
            out.fields(pending.id, vec![Field::structure(names::REDIS_QUEUED, true)]);
            if let Some(pending) = self.pairing.queue(pending) {
                self.answer(pending, reply, time_ns, out);
            }
            return;
        }
        self.answer(pending, reply, time_ns, out);
    }

    /// The server may say something now that is no reply, or what its commands are is not known: nothing is waited for.
    pub(super) fn may_speak_unasked(&self) -> bool {
        self.pushes || self.monitors || self.subscriptions.any() || !self.pairing.is_certain()
    }

    /// A reply that no command waits for.
    pub(super) fn on_unmatched(&mut self, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) {
        self.pairing.speaks();
        self.on_unmatched_confirmation(reply);
        self.unmatched += 1;
        if self.unmatched > UNMATCHED_MAX {
            return out.anomaly(None, anomaly::REDIS_UNMATCHED);
        }
        let answer = reply.answer(&Plan::default(), false);
        self.last_id += 1;
        let id = self.last_id;
        self.note_odd(Direction::Down, id, out);
        out.response(id, time_ns, answer.outcome, answer.fields);
    }

    /// An exchange is over.
    pub(super) fn conclude(
        &mut self,
        pending: &Pending,
        time_ns: u64,
        outcome: Outcome,
        fields: Vec<Field>,
        out: &mut dyn Out,
    ) {
        if !pending.certain {
            out.anomaly(Some(pending.id), anomaly::PAIRING_UNCERTAIN);
        }
        out.response(pending.id, time_ns, outcome, fields);
    }

    /// The reply to this command, with all that follows from it.
    fn answer(&mut self, mut pending: Pending, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) {
        let mut outcome = None;
        if !pending.certain {
            // What ends a transaction, if this is it, may be another one's end.
            self.pairing.doubt_transaction();
        }
        match std::mem::replace(&mut pending.act, Act::Plain) {
            Act::Exec if reply.is_error() => self.cancel_transaction(time_ns, out),
            _ if reply.is_error() => {}
            Act::Multi => {
                for lost in self.pairing.begin_transaction().into_iter().flatten() {
                    out.anomaly(Some(lost.id), anomaly::ANSWER_LOST);
                }
            }
            Act::Discard => self.cancel_transaction(time_ns, out),
            Act::Exec if self.pairing.in_transaction() => {
                outcome = Some(self.on_executed(pending.id, reply, time_ns, out));
            }
            Act::Reset => {
                self.cancel_transaction(time_ns, out);
                (self.monitors, self.pushes, self.subscriptions) = (false, false, Subscriptions::default());
                out.session(vec![Field::structure(names::DB_NAMESPACE, "0")]);
            }
            Act::Monitor => self.monitors = true,
            Act::Replicate => self.on_replication(reply),
            Act::Facts(facts) => out.session(facts),
            _ => {}
        }
        let mut answer = reply.answer(&pending.plan, pending.certain);
        if outcome.is_some() {
            // Its values stand in the exchanges of the commands.
            answer.fields.retain(|field| field.name != names::REDIS_REPLY);
        }
        self.conclude(&pending, time_ns, outcome.unwrap_or(answer.outcome), answer.fields, out);
    }

    fn cancel_transaction(&mut self, time_ns: u64, out: &mut dyn Out) {
        for pending in self.pairing.end_transaction().into_iter().flatten() {
            self.conclude(&pending, time_ns, Outcome::Cancelled, Vec::new(), out);
        }
    }

    /// EXEC was answered: each element is the reply to a command that was queued.
    fn on_executed(&mut self, id: ExchangeId, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) -> Outcome {
        if !reply.is_aggregate() {
            // A key that was watched has changed: nothing ran.
            self.cancel_transaction(time_ns, out);
            return Outcome::Cancelled;
        }
        let queued = self.pairing.end_transaction();
        out.fields(id, vec![Field::structure(names::DB_BATCH_SIZE, queued.len() as u64)]);
        let fits = reply.node().elements == queued.len() as u64;
        let mut replies = reply.children();
        let mut short = !fits;
        for pending in queued {
            let element = replies.next();
            let Some(pending) = pending else { continue };
            match element {
                Some(element) if fits => self.answer(pending, element, time_ns, out),
                Some(_) => out.anomaly(Some(pending.id), anomaly::ANSWER_LOST),
                // It ran, and what it replied is over the limit.
                None => {
                    short = true;
                    self.conclude(&pending, time_ns, Outcome::Ok, Vec::new(), out);
                }
            }
        }
        if short {
            out.anomaly(Some(id), anomaly::REDIS_TRANSACTION);
        }
        Outcome::Ok
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
        if direction == Direction::Up {
            self.release_early(u64::MAX, out);
        }
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
