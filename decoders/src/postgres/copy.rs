//! The data of one COPY: counted, kept within the limit of a body, and told in parts while it goes on. What
//! replication and base backups carry is no text and may never end: their messages are named and counted alone.

use custody_record::{Value, names};

use crate::item::{Class, Field, text};
use crate::protocol::{Body, Direction, Limits};

use super::early::EarlyCopy;

/// A COPY that goes on is told each time so many bytes of it have passed.
const PART_BYTES: u64 = 32 << 10;

/// Which way the data of a COPY go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyDirection {
    In,
    Out,
    /// Out of a base backup.
    Backup,
    /// Replication.
    Both,
}

impl CopyDirection {
    /// Data of this direction belong to it.
    pub(super) fn carries(self, direction: Direction) -> bool {
        match self {
            CopyDirection::In => direction == Direction::Up,
            CopyDirection::Out | CopyDirection::Backup => direction == Direction::Down,
            CopyDirection::Both => true,
        }
    }
    fn name(self) -> &'static str {
        match self {
            CopyDirection::In => "in",
            CopyDirection::Out | CopyDirection::Backup => "out",
            CopyDirection::Both => "both",
        }
    }
    /// Its data are told, and not only counted.
    fn is_told(self) -> bool {
        matches!(self, CopyDirection::In | CopyDirection::Out)
    }
    /// The message of replication that begins with this byte (documentation, "Streaming Replication Protocol").
    fn message(self, direction: Direction, kind: u8) -> Option<&'static str> {
        Some(match (self, direction, kind) {
            (CopyDirection::In | CopyDirection::Out, ..) => return None,
            (CopyDirection::Both, Direction::Down, b'w') => "xlog_data",
            (CopyDirection::Both, Direction::Down, b'k') => "keepalive",
            (CopyDirection::Both, Direction::Down, b's') => "primary_status",
            (CopyDirection::Both, Direction::Up, b'r') => "standby_status",
            (CopyDirection::Both, Direction::Up, b'h') => "hot_standby_feedback",
            (CopyDirection::Both, Direction::Up, b'p') => "primary_status_request",
            (CopyDirection::Backup, _, b'n') => "new_archive",
            (CopyDirection::Backup, _, b'm') => "manifest",
            (CopyDirection::Backup, _, b'd') => "archive_data",
            (CopyDirection::Backup, _, b'p') => "progress",
            _ => "other",
        })
    }
}

/// A COPY.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) direction: CopyDirection,
    binary: bool,
    /// The statement that asked for it: repeated beside each part of the data, whose columns it tells.
    statement: Option<Box<Field>>,
    messages: u64,
    bytes: u64,
    /// Of these, told while it goes on.
    told: u64,
    /// Messages of replication by their names.
    named: Vec<(&'static str, u64)>,
    /// Which ways a message has begun of which nothing was seen yet.
    fresh: [bool; 2],
    data: Vec<u8>,
    /// Bytes of data that were kept and are told.
    kept: usize,
    /// Bytes of data over the limit, or behind a hole.
    cut: u64,
    /// Bytes are missing: what follows is counted and not joined to what came before.
    torn: bool,
}

impl Copy {
    pub(super) fn new(direction: CopyDirection, binary: bool, statement: Option<Box<Field>>) -> Self {
        Copy {
            direction,
            binary,
            statement,
            messages: 0,
            bytes: 0,
            told: 0,
            named: Vec::new(),
            fresh: [false; 2],
            data: Vec::new(),
            kept: 0,
            cut: 0,
            torn: false,
        }
    }

    /// One message begins, with this many bytes of data.
    pub(super) fn message(&mut self, direction: Direction, bytes: u64) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.fresh[direction as usize] = true;
    }

    /// A piece of the data.
    pub(super) fn data(&mut self, body: Body<'_>, limits: &Limits) {
        if let (true, [kind, ..]) = (self.fresh[body.direction as usize], body.bytes) {
            self.fresh[body.direction as usize] = false;
            self.count(body.direction, *kind, 1);
        }
        self.keep(body.bytes, limits);
    }

    /// So many more messages of replication that begin with this byte.
    fn count(&mut self, direction: Direction, kind: u8, more: u64) {
        let Some(name) = self.direction.message(direction, kind) else { return };
        match self.named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += more,
            None => self.named.push((name, more)),
        }
    }

    fn keep(&mut self, bytes: &[u8], limits: &Limits) {
        if self.direction.is_told() {
            let room = limits.body_bytes_max.saturating_sub(self.kept + self.data.len());
            let kept = if self.torn { 0 } else { bytes.len().min(room) };
            self.data.extend_from_slice(&bytes[..kept]);
            self.cut += (bytes.len() - kept) as u64;
        }
    }

    /// So many bytes are missing.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.torn = true;
        self.cut = self.cut.saturating_add(bytes);
    }

    /// Data that came before the COPY was known to begin.
    pub(super) fn early(&mut self, early: &EarlyCopy, limits: &Limits) {
        self.messages += early.messages;
        self.bytes = self.bytes.saturating_add(early.bytes);
        if self.direction.is_told() {
            self.cut += early.cut;
        }
        for (kind, more) in &early.first_bytes {
            self.count(Direction::Up, *kind, *more);
        }
        self.keep(&early.data, limits);
    }

    /// A long COPY is told while it goes on: whole lines of text, and the counts. Nothing when it is too soon.
    pub(super) fn part(&mut self) -> Option<Vec<Field>> {
        if self.bytes - self.told < PART_BYTES {
            return None;
        }
        self.told = self.bytes;
        let mut fields = self.counts();
        let lines = memchr::memrchr(b'\n', &self.data).map_or(0, |end| end + 1);
        if !self.binary && lines > 0 {
            fields.extend(self.statement.as_deref().cloned());
            fields.push(lines_of(self.data.drain(..lines).collect()));
            self.kept += lines;
        }
        Some(fields)
    }

    /// All that was not told yet.
    pub(super) fn end(self) -> Vec<Field> {
        let mut fields = self.counts();
        if !self.data.is_empty() {
            fields.extend(self.statement.as_deref().cloned());
            fields.push(match self.binary {
                false => lines_of(self.data).cut_by(self.cut),
                true => Field::new(names::DB_COPY_DATA, Value::Bytes(self.data), Class::Opaque),
            });
        }
        fields
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.data.capacity()
    }

    fn counts(&self) -> Vec<Field> {
        let mut fields = vec![
            Field::structure(names::DB_COPY_DIRECTION, self.direction.name()),
            Field::structure(names::DB_COPY_MESSAGES, self.messages),
            Field::structure(names::DB_COPY_BYTES, self.bytes),
        ];
        fields.extend(self.named.iter().map(|(name, count)| {
            Field::structure(format!("{}{name}", names::DB_REPLICATION_MESSAGES), *count)
        }));
        fields
    }
}

/// Rows in the text format or as CSV; a piece that ends in the middle of a character is replaced there.
fn lines_of(data: Vec<u8>) -> Field {
    let class = Class::Body { media_type: "text/tab-separated-values".to_owned(), coding: String::new() };
    Field::new(names::DB_COPY_DATA, text(&data), class)
}
