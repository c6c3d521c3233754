//! A reply is whole: whose it is, and what follows from it for transactions, facts of the session and the mode.

use custody_record::names;

use super::answer::Reply;
use super::command::{Act, Plan};
use super::connection::Connection;
use super::early::Waiting;
use super::pairing::Pending;
use super::tree::Tree;
use super::unasked::Subscriptions;
use crate::anomaly;
use crate::item::Field;
use crate::protocol::{Direction, ExchangeId, Out, Outcome};

/// Replies without a command that are told one by one; more in a row are counted.
const UNMATCHED_MAX: u32 = 16;

impl Connection {
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
                let odd = self.take_odd(Direction::Down);
                return self.early.push(Waiting { tree: tree.clone(), time_ns, odd });
            }
        } else if self.on_unasked(reply, time_ns, out) {
            return;
        }
        if self.pairing.is_stale(time_ns) {
            return self.on_unmatched(reply, time_ns, out);
        }
        let Some(pending) = self.pairing.pop() else {
            if !self.pairing.pop_beyond() {
                self.on_unmatched(reply, time_ns, out);
            }
            return;
        };
        self.pairing.answered();
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
        self.pairing.surprised();
        self.on_unmatched_confirmation(reply);
        self.unmatched += 1;
        if self.unmatched > UNMATCHED_MAX {
            return out.anomaly(None, anomaly::REDIS_UNMATCHED);
        }
        let answer = reply.answer(&Plan::default(), false);
        let id = self.number(out);
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
}
