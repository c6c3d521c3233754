//! What the server says without being asked: messages of channels, pushes, what MONITOR shows, and replication, where
//! it sends a snapshot and then commands.

use custody_record::{Value, names};

use super::answer::Reply;
use super::command::{self, Act};
use super::connection::Connection;
use super::lane::{Grammar, Snapshot};
use super::tree::Tree;
use super::words;
use crate::item::{Class, Field, text};
use crate::protocol::{Direction, Frame, Out, Outcome};

/// Channels, patterns and shard channels that this connection listens to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subscriptions {
    channels: u64,
    patterns: u64,
    shards: u64,
}

/// What subscribing is confirmed by.
const CONFIRMATIONS: [&str; 6] =
    ["subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"];

impl Subscriptions {
    pub(super) fn any(&self) -> bool {
        self.channels + self.patterns + self.shards > 0
    }

    /// How many the kind that a confirmation names has.
    fn of(&mut self, confirmation: &str) -> &mut u64 {
        match confirmation {
            "psubscribe" | "punsubscribe" => &mut self.patterns,
            "ssubscribe" | "sunsubscribe" => &mut self.shards,
            _ => &mut self.channels,
        }
    }

    /// A confirmation tells how many there are now; channels and patterns are counted together.
    fn confirm(&mut self, confirmation: &str, count: u64) {
        let others = match confirmation {
            "ssubscribe" | "sunsubscribe" => 0,
            "psubscribe" | "punsubscribe" => self.channels,
            _ => self.patterns,
        };
        *self.of(confirmation) = count.saturating_sub(others);
    }
}

impl Connection {
    /// Takes what no command asked for. Says whether it was that.
    pub(super) fn on_unasked(&mut self, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) -> bool {
        if self.monitors && reply.kind() == b'+' && self.on_monitored(reply, time_ns, out) {
            return true;
        }
        let push = reply.kind() == b'>';
        if !push && reply.kind() != b'*' {
            return false;
        }
        let Some(kind) = reply.children().next().filter(|kind| matches!(kind.kind(), b'$' | b'+')) else {
            return push && self.on_push(reply, time_ns, out);
        };
        if let Some((confirmation, count)) = confirmation(reply) {
            // Without its command it is no message either.
            return self.on_confirmed(confirmation, count, reply, time_ns, out);
        }
        // Without RESP3 a message looks like any array; who listens gets no others.
        let listens = self.subscriptions.any() || !self.pairing.is_certain() && !self.pairing.waits();
        if push || listens {
            return self.on_message(kind.bytes(), reply, time_ns, out)
                || push && self.on_push(reply, time_ns, out);
        }
        false
    }

    /// A confirmation that nobody waits for tells what is listened to all the same.
    pub(super) fn on_unmatched_confirmation(&mut self, reply: Reply<'_>) {
        if let Some((confirmation, count)) = confirmation(reply) {
            self.subscriptions.confirm(confirmation, count);
        }
    }

    fn on_confirmed(
        &mut self,
        confirmation: &'static str,
        count: u64,
        reply: Reply<'_>,
        time_ns: u64,
        out: &mut dyn Out,
    ) -> bool {
        let before = (*self.subscriptions.of(confirmation)).max(1);
        let head = self.pairing.head().filter(|head| head.name.eq_ignore_ascii_case(confirmation));
        let Some(head) = head else { return false };
        self.subscriptions.confirm(confirmation, count);
        if let Act::Subscribe(channels) = &mut head.act
            && *channels == 0
        {
            // All of them are given up.
            *channels = before;
        }
        head.confirmed += 1;
        let (id, confirmed) = (head.id, head.confirmed);
        let done = !matches!(head.act, Act::Subscribe(channels) if confirmed < channels);
        if !done {
            out.fields(id, Vec::new());
            return true;
        }
        let Some(pending) = self.pairing.pop() else { return true };
        self.note_odd(Direction::Down, id, out);
        let fields = vec![
            Field::structure(names::REDIS_REPLY_TYPE, super::answer::type_name(reply.kind())),
            Field::structure(names::DB_RETURNED_ROWS, confirmed),
            Field::structure(names::REDIS_REPLY, count),
        ];
        self.conclude(&pending, time_ns, Outcome::Ok, fields, out);
        true
    }

    fn on_message(&mut self, kind: &[u8], reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) -> bool {
        let mut parts = reply.children().skip(1);
        let (message, pattern) = match (kind, reply.node().elements) {
            (b"message", 3) => ("message", None),
            (b"smessage", 3) => ("smessage", None),
            (b"pmessage", 4) => ("pmessage", parts.next()),
            _ => return false,
        };
        let (Some(channel), Some(payload)) = (parts.next(), parts.next()) else { return false };
        let mut fields = vec![channel_field(names::REDIS_CHANNEL, channel)];
        fields.extend(pattern.map(|pattern| channel_field(names::REDIS_PATTERN, pattern)));
        let class = Class::Keyed { key: text(channel.bytes()), field: String::new() };
        let (value, cut) = payload.value();
        fields.extend(value.map(|value| Field::new(names::REDIS_REPLY, value, class).cut_by(cut)));
        self.tell(message, fields, time_ns, out);
        true
    }

    /// A push of another kind: keys that are no longer valid, or what a later version says.
    fn on_push(&mut self, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) -> bool {
        let invalid = reply.children().next().is_some_and(|kind| kind.bytes() == b"invalidate");
        let (value, cut) = reply.value();
        let fields = value.map(|value| Field::new(names::REDIS_REPLY, value, Class::Text).cut_by(cut));
        self.tell(if invalid { "invalidate" } else { "push" }, fields.into_iter().collect(), time_ns, out);
        true
    }

    /// `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`: a command of some client.
    fn on_monitored(&mut self, reply: Reply<'_>, time_ns: u64, out: &mut dyn Out) -> bool {
        let line = reply.bytes();
        let Some(begin) = memchr::memmem::find(line, b" [") else { return false };
        let Some(end) = memchr::memmem::find(&line[begin..], b"] \"") else { return false };
        let time = &line[..begin];
        if time.is_empty() || !time.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return false;
        }
        let Some(arguments) = words::split(&line[begin + end + 1..]) else { return false };
        let mut tree = Tree::new(&self.limits);
        let count = arguments.len() as u64;
        let built = tree.open(b'*', Some(count));
        if built.is_err() || arguments.iter().any(|word| tree.leaf(b'$', word).is_err()) {
            return false;
        }
        let database = line[begin + 2..].split(|byte| *byte == b' ').next().unwrap_or_default();
        let mut fields = command::describe(&tree).fields;
        fields.push(Field::structure(names::DB_NAMESPACE, text(database)));
        self.tell("monitor", fields, time_ns, out);
        true
    }

    /// What the primary answered to a wish for replication.
    pub(super) fn on_replication(&mut self, reply: Reply<'_>) {
        let line = reply.bytes();
        self.lane(Direction::Down).grammar = if line.starts_with(b"FULLRESYNC") {
            Grammar::SnapshotHead
        } else if line.starts_with(b"CONTINUE") {
            Grammar::Commands
        } else {
            return;
        };
    }

    /// SYNC is answered by the snapshot itself.
    pub(super) fn awaits_snapshot(&mut self) -> bool {
        self.lanes[Direction::Down as usize].grammar == Grammar::Replies
            && self.pairing.head().is_some_and(|head| head.name == "SYNC")
    }

    /// A command that the primary sends its replica.
    pub(super) fn on_replicated(&mut self, tree: &Tree, time_ns: u64, out: &mut dyn Out) {
        let fields = command::describe(tree).fields;
        self.tell("replication", fields, time_ns, out);
    }

    /// A frame of a snapshot. Says whether it was one.
    pub(super) fn on_snapshot_frame(&mut self, frame: Frame<'_>, out: &mut dyn Out) -> bool {
        if frame.direction == Direction::Up {
            return false;
        }
        self.pairing.saw(frame.time_ns);
        match self.lanes[Direction::Down as usize].grammar {
            Grammar::SnapshotHead => {
                if frame.bytes.first() == Some(&b'-') {
                    self.lane(Direction::Down).grammar = Grammar::Replies;
                    return false;
                }
                if let Some(head) = self.lane(Direction::Down).snapshot_head(frame.bytes) {
                    self.begin_snapshot(head, frame.time_ns, out);
                }
                true
            }
            Grammar::SnapshotToMark(mark) => {
                let whole = frame.bytes.ends_with(&mark);
                self.on_snapshot_bytes(frame.bytes.len() as u64, out);
                if whole {
                    self.end_snapshot(frame.time_ns, mark.len() as u64, out);
                }
                true
            }
            _ => false,
        }
    }

    fn begin_snapshot(&mut self, head: Snapshot, time_ns: u64, out: &mut dyn Out) {
        if self.pairing.head().is_some_and(|head| head.name == "SYNC")
            && let Some(sync) = self.pairing.pop()
        {
            let fields = vec![Field::structure(names::REDIS_REPLY_TYPE, "snapshot")];
            out.response(sync.id, time_ns, Outcome::Ok, fields);
        }
        let how = if matches!(head, Snapshot::Length(_)) { "length" } else { "mark" };
        let fields = vec![
            Field::structure(names::REDIS_MESSAGE, "snapshot"),
            Field::structure(names::REDIS_REPLY_TYPE, how),
        ];
        let id = self.begin(time_ns, fields, out);
        self.snapshot = Some((id, 0));
    }

    pub(super) fn on_snapshot_bytes(&mut self, bytes: u64, out: &mut dyn Out) {
        if let Some((id, sum)) = &mut self.snapshot {
            *sum = sum.saturating_add(bytes);
            out.fields(*id, Vec::new());
        }
    }

    pub(super) fn end_snapshot_if_whole(&mut self, time_ns: u64, out: &mut dyn Out) {
        if self.lanes[Direction::Down as usize].snapshot_ended() {
            self.end_snapshot(time_ns, 0, out);
        }
    }

    /// The snapshot is here; what follows are commands.
    fn end_snapshot(&mut self, time_ns: u64, mark_bytes: u64, out: &mut dyn Out) {
        self.lane(Direction::Down).grammar = Grammar::Commands;
        if let Some((id, bytes)) = self.snapshot.take() {
            let bytes = Field::structure(names::REDIS_SNAPSHOT_BYTES, bytes - mark_bytes);
            out.response(id, time_ns, Outcome::Ok, vec![bytes]);
        }
    }
}

/// What is confirmed, and how many there are now.
fn confirmation(reply: Reply<'_>) -> Option<(&'static str, u64)> {
    let mut parts = reply.children();
    let (kind, _, count) = (parts.next()?, parts.next()?, parts.next()?);
    let known = CONFIRMATIONS.iter().find(|known| known.as_bytes() == kind.bytes())?;
    let count = std::str::from_utf8(count.bytes()).ok()?.parse().ok()?;
    (reply.node().elements == 3).then_some((*known, count))
}

fn channel_field(name: &'static str, channel: Reply<'_>) -> Field {
    let (value, cut) = channel.value();
    Field::new(name, value.unwrap_or_else(|| Value::Text(String::new())), Class::Text).cut_by(cut)
}
