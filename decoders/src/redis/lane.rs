//! One direction: which grammar its bytes follow now, where the next piece ends, and what came of the value so far.
//!
//! A frame is a run of whole pieces of one command or reply, so that neither a long one nor one that comes byte by
//! byte is buffered or looked at again. Bulks over a limit are streamed.

use memchr::memmem;

use super::token::{self, LINE_END_BYTES, Scan, Token};
use super::tree::Tree;
use super::words;
use crate::protocol::{Framing, Limits};
use crate::work;

/// Bulks up to this are buffered whole, bytes; longer ones are streamed.
const BULK_BUFFERED_MAX: usize = 8 << 10;
/// The mark that ends a snapshot of unknown length, bytes.
const MARK_BYTES: usize = 40;
/// Longest header of a snapshot: `$EOF:`, its mark, CRLF.
const SNAPSHOT_HEADER_MAX: usize = 64;

/// What the bytes of a direction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Commands: arrays of bulks, and inline ones.
    Commands,
    /// Values of RESP2 and RESP3.
    Replies,
    /// The header of a snapshot: `$LENGTH` or `$EOF:MARK`, empty lines before it.
    SnapshotHead,
    /// A snapshot whose length was told.
    Snapshot,
    /// A snapshot up to its mark.
    SnapshotToMark([u8; MARK_BYTES]),
}

/// Which lines are inline commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// Any, as for the server.
    Any,
    /// Those that begin with a known name: bytes are missing somewhere before.
    Known,
    /// None but empty ones: a primary sends no others.
    Empty,
}

/// One direction.
pub(super) struct Lane {
    pub(super) grammar: Grammar,
    pub(super) tree: Tree,
    /// When the first bytes of the value came, boottime ns.
    pub(super) first_ns: u64,
    /// Where a value begins is not known.
    pub(super) lost: bool,
    /// What cannot be stood here, and nobody was told yet.
    pub(super) odd: Option<&'static str>,
    /// Which lines are commands.
    pub(super) lines: Lines,
    /// Bytes of a streamed bulk or snapshot that are still to come.
    left: u64,
    /// It is a part of a streamed string.
    is_part: bool,
    /// CRLF follows, which ends a streamed bulk.
    end_due: bool,
    searched: usize,
    bulk_bytes_max: usize,
    frame_bytes_max: usize,
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The command or reply is whole.
    pub(super) whole: bool,
    /// What is odd about it, though its end is known.
    pub(super) odd: Option<&'static str>,
}

impl Lane {
    pub(super) fn new(grammar: Grammar, limits: &Limits, lines: Lines) -> Self {
        Lane {
            grammar,
            tree: Tree::new(limits),
            first_ns: 0,
            lost: false,
            odd: None,
            lines,
            left: 0,
            is_part: false,
            end_due: false,
            searched: 0,
            bulk_bytes_max: BULK_BUFFERED_MAX.min(limits.frame_bytes_max / 4),
            frame_bytes_max: limits.frame_bytes_max,
        }
    }

    /// No value has begun.
    pub(super) fn is_between(&self) -> bool {
        self.tree.is_empty() && self.left == 0 && !self.lost
    }

    /// Nothing is known of what follows but its grammar.
    pub(super) fn lose(&mut self) {
        self.tree.clear();
        (self.left, self.end_due, self.searched, self.lost) = (0, false, 0, true);
        if self.grammar != Grammar::Replies {
            self.grammar = Grammar::Commands;
        }
    }

    pub(super) fn framing(&mut self, bytes: &[u8]) -> Framing {
        if self.lost {
            return Framing::Unframed;
        }
        let bytes = &bytes[..bytes.len().min(self.frame_bytes_max)];
        let framing = match self.grammar {
            Grammar::Commands | Grammar::Replies => self.frame_pieces(bytes),
            Grammar::SnapshotHead => self.frame_snapshot_head(bytes),
            Grammar::Snapshot => Framing::Unframed,
            Grammar::SnapshotToMark(mark) => return frame_to_mark(bytes, &mark),
        };
        if matches!(framing, Framing::NeedMore(_)) && bytes.len() >= self.frame_bytes_max {
            return self.unframed(crate::anomaly::REDIS_BAD_LENGTH);
        }
        framing
    }

    fn unframed(&mut self, code: &'static str) -> Framing {
        (self.lost, self.odd) = (true, Some(code));
        Framing::Unframed
    }

    fn scan<'a>(&self, bytes: &'a [u8], searched: usize, within: bool) -> Scan<'a> {
        if self.grammar == Grammar::Replies {
            return token::reply(bytes, searched, self.bulk_bytes_max);
        }
        match token::command(bytes, searched, self.bulk_bytes_max, within) {
            Scan::Token(Token::Inline(line), _) if !self.takes(line) => {
                Scan::Odd(crate::anomaly::REDIS_UNKNOWN_TYPE)
            }
            scan => scan,
        }
    }

    fn takes(&self, line: &[u8]) -> bool {
        match self.lines {
            Lines::Any => true,
            Lines::Known => line.trim_ascii().is_empty() || super::table::begins_with_known(line),
            Lines::Empty => line.trim_ascii().is_empty(),
        }
    }

    fn frame_pieces(&mut self, bytes: &[u8]) -> Framing {
        if self.end_due {
            return if bytes.len() < LINE_END_BYTES {
                Framing::NeedMore(LINE_END_BYTES)
            } else {
                Framing::Frame(LINE_END_BYTES)
            };
        }
        let mut at = 0;
        let mut due = self.tree.due();
        while at < bytes.len() {
            let searched = if at == 0 { self.searched } else { 0 };
            match self.scan(&bytes[at..], searched, due > 0) {
                Scan::Token(Token::Large(_, body), head) if at == 0 => {
                    return Framing::Streamed { head, body };
                }
                Scan::Token(Token::Large(..), _) => break,
                Scan::Token(token, length) => {
                    at += length;
                    if !goes_on(&mut due, token) {
                        break;
                    }
                }
                Scan::More(wanted) if at == 0 => {
                    self.searched = bytes.len();
                    return Framing::NeedMore(wanted);
                }
                Scan::Odd(code) if at == 0 => return self.unframed(code),
                Scan::More(_) | Scan::Odd(_) => break,
            }
        }
        if at == 0 { Framing::NeedMore(1) } else { Framing::Frame(at) }
    }

    fn frame_snapshot_head(&mut self, bytes: &[u8]) -> Framing {
        // While a snapshot is made, empty lines keep the connection alive.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        if blank > 0 {
            return Framing::Frame(blank);
        }
        let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(SNAPSHOT_HEADER_MAX)]) else {
            let plausible =
                bytes.len() < SNAPSHOT_HEADER_MAX && matches!(bytes.first(), None | Some(b'$' | b'-'));
            let code = crate::anomaly::REDIS_BAD_LENGTH;
            return if plausible { Framing::NeedMore(bytes.len() + 1) } else { self.unframed(code) };
        };
        match snapshot_head(&bytes[..end]) {
            Some(Snapshot::Length(body)) => Framing::Streamed { head: end + 1, body },
            Some(Snapshot::Mark(_)) => Framing::Frame(end + 1),
            // An error in its place.
            None if bytes.first() == Some(&b'-') => Framing::Frame(end + 1),
            None => self.unframed(crate::anomaly::REDIS_BAD_LENGTH),
        }
    }

    /// Takes in a frame of pieces.
    pub(super) fn feed(&mut self, mut bytes: &[u8], time_ns: u64) -> Progress {
        self.searched = 0;
        let mut progress = Progress::default();
        if self.tree.is_empty() {
            self.first_ns = time_ns;
        }
        if std::mem::take(&mut self.end_due) {
            if bytes != b"\r\n" {
                progress.odd = Some(crate::anomaly::REDIS_BULK_END);
            }
            let fed = if self.is_part { Ok(false) } else { self.tree.close_string() };
            return self.fed(fed, progress);
        }
        while !bytes.is_empty() && !progress.whole && !self.lost {
            let Scan::Token(token, length) = self.scan(bytes, 0, !self.tree.is_empty()) else { break };
            bytes = &bytes[length.min(bytes.len())..];
            if matches!(token, Token::Bulk(_, _, false)) {
                progress.odd = Some(crate::anomaly::REDIS_BULK_END);
            }
            let fed = self.token(token);
            progress = self.fed(fed, progress);
        }
        progress
    }

    fn fed(&mut self, fed: super::tree::Fed, progress: Progress) -> Progress {
        match fed {
            Ok(whole) => Progress { whole, ..progress },
            Err(code) => {
                (self.lost, self.odd) = (true, Some(code));
                progress
            }
        }
    }

    fn token(&mut self, token: Token<'_>) -> super::tree::Fed {
        let tree = &mut self.tree;
        match token {
            Token::Bulk(b';', part, _) => tree.part(part),
            Token::CloseString => tree.close_string(),
            Token::Large(b';', length) if tree.in_string() => {
                (self.left, self.is_part) = (length, true);
                Ok(false)
            }
            _ if tree.in_string() => Err(crate::anomaly::REDIS_BAD_VALUE),
            Token::Line(kind, text) => tree.leaf(kind, text),
            Token::Bulk(kind, text, _) => tree.leaf(kind, text),
            Token::Null => tree.leaf(b'_', b""),
            Token::Open(kind, count) => tree.open(kind, count),
            Token::OpenString => tree.open_string(b'$'),
            Token::Close => tree.close(),
            Token::Large(b';', _) => Err(crate::anomaly::REDIS_BAD_VALUE),
            Token::Large(kind, length) => {
                (self.left, self.is_part) = (length, false);
                tree.open_string(kind)
            }
            Token::Inline(line) => self.inline(line),
            Token::Nothing => Ok(false),
        }
    }

    /// An inline command as if it had come as an array.
    fn inline(&mut self, line: &[u8]) -> super::tree::Fed {
        work::looked_at(line.len());
        let words = words::split(line).unwrap_or_else(|| vec![line.to_vec()]);
        if words.is_empty() {
            return Ok(false);
        }
        self.tree.open(b'*', Some(words.len() as u64))?;
        for word in &words[..words.len() - 1] {
            self.tree.leaf(b'$', word)?;
        }
        self.tree.leaf(b'$', &words[words.len() - 1])
    }

    /// A piece of what is streamed.
    pub(super) fn body(&mut self, bytes: &[u8], last: bool) {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.grammar != Grammar::Snapshot {
            // Only what is kept is looked at.
            let _ = self.tree.part(bytes);
        }
        if last {
            self.body_ended();
        }
    }

    fn body_ended(&mut self) {
        self.left = 0;
        self.end_due = self.grammar != Grammar::Snapshot;
    }

    /// Bytes are missing. Whether they all stood within what is streamed, so that its end is still known.
    pub(super) fn gap(&mut self, lost: u64) -> bool {
        self.searched = 0;
        if self.left < lost || self.left == 0 {
            return false;
        }
        self.left -= lost;
        self.tree.lose(lost);
        if self.left == 0 {
            self.body_ended();
        }
        true
    }

    /// The snapshot that is streamed is here.
    pub(super) fn snapshot_ended(&self) -> bool {
        self.grammar == Grammar::Snapshot && self.left == 0
    }

    /// The header of a snapshot came: its length, or `None` when a mark ends it or nothing was said yet.
    pub(super) fn snapshot_head(&mut self, line: &[u8]) -> Option<Snapshot> {
        let head = snapshot_head(line.strip_suffix(b"\n")?)?;
        match head {
            Snapshot::Length(length) => (self.grammar, self.left) = (Grammar::Snapshot, length),
            Snapshot::Mark(mark) => self.grammar = Grammar::SnapshotToMark(mark),
        }
        Some(head)
    }
}

/// How the end of a snapshot is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Length(u64),
    Mark([u8; MARK_BYTES]),
}

fn snapshot_head(line: &[u8]) -> Option<Snapshot> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"$")?;
    match line.strip_prefix(b"EOF:") {
        Some(mark) => Some(Snapshot::Mark(mark.try_into().ok()?)),
        None => Some(Snapshot::Length(std::str::from_utf8(line).ok()?.parse().ok()?)),
    }
}

/// As much of a snapshot as surely is none of its mark, or all with it.
fn frame_to_mark(bytes: &[u8], mark: &[u8; MARK_BYTES]) -> Framing {
    work::looked_at(bytes.len());
    if let Some(at) = memmem::find(bytes, mark) {
        return Framing::Frame(at + MARK_BYTES);
    }
    // The mark may begin at the end of what is here.
    let begun = (1..MARK_BYTES).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0);
    if begun == bytes.len() { Framing::NeedMore(begun + 1) } else { Framing::Frame(bytes.len() - begun) }
}

/// Whether more pieces of the same value may follow in one frame: not where only its end tells how many there are.
fn goes_on(due: &mut u64, token: Token<'_>) -> bool {
    let before = (*due).max(1);
    *due = match token {
        Token::Open(b'|', Some(count)) => before.saturating_add(count),
        Token::Open(_, Some(count)) => (before - 1).saturating_add(count),
        Token::Line(..) | Token::Bulk(..) | Token::Null => before - 1,
        _ => 0,
    };
    *due > 0
}
