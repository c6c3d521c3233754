//! The contract of a protocol: one folder, one registry line.
//!
//! There is no `Result`: hostile bytes are data. A decoder emits items and coded anomalies.

use crate::item::{Field, Rows};

/// Which way, seen from the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

impl Direction {
    /// The other way.
    pub fn reverse(self) -> Self {
        match self {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }
}

/// First bytes of both directions, as far as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads<'a> {
    /// From the end that connected (or is taken for it).
    pub up: &'a [u8],
    /// From the other.
    pub down: &'a [u8],
    /// Port of the end that accepted, 0 when unknown: a hint, never proof.
    pub port: u16,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It is this protocol.
    Yes,
    /// It is, but up and down are the other way round.
    Reversed,
    /// More bytes are needed to tell.
    More,
    /// It is not.
    No,
}

/// Where the next frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// At least this many bytes are needed before anything can be said.
    NeedMore(usize),
    /// A frame of this many bytes, whole.
    Frame(usize),
    /// A head of `head` bytes goes to `on_frame`, then `body` bytes to `on_body` in pieces.
    Streamed {
        /// Bytes of the head.
        head: usize,
        /// Bytes of the body that follow; `u64::MAX` when only the end of the stream ends it. The last piece is
        /// told as such, an empty one if need be (at once for a body of 0), unless a gap swallowed the end.
        body: u64,
    },
    /// A frame of this many bytes whose type nobody knows: the driver counts it as unparsed and goes on behind it.
    Foreign(usize),
    /// What stands here is no frame: the driver counts it as unparsed and asks for a resync.
    Unframed,
}

/// One frame, complete.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Which way.
    pub direction: Direction,
    /// Offset of its first byte.
    pub position: u64,
    /// When its last byte was seen, boottime ns.
    pub time_ns: u64,
    /// Its bytes, or its head's when streamed.
    pub bytes: &'a [u8],
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Which way.
    pub direction: Direction,
    /// When, boottime ns.
    pub time_ns: u64,
    /// Its bytes; may be empty when only `last` is to be told.
    pub bytes: &'a [u8],
    /// Nothing follows.
    pub last: bool,
}

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Ok,
    /// The server said no.
    Error,
    /// Cancelled on request.
    Cancelled,
}

/// Names an exchange within its connection: the decoder counts them from 1 in the order of requests. The
/// driver pairs by it, so the protocol's own rule (order, correlation id) decides.
pub type ExchangeId = u64;

/// What a decoder says. Each call is cheap; the driver joins request, parts and response of one exchange.
pub trait Out {
    /// A request began (its first byte seen at `time_ns`). `fields` are all that is known of it.
    fn request(&mut self, id: ExchangeId, time_ns: u64, fields: Vec<Field>);
    /// More of a request or its answer that belongs to it, before its response: merged into the exchange.
    fn fields(&mut self, id: ExchangeId, fields: Vec<Field>);
    /// Rows of the answer, in as many pieces as they come; limits are the driver's.
    fn rows(&mut self, id: ExchangeId, rows: Rows);
    /// The answer is complete.
    fn response(&mut self, id: ExchangeId, time_ns: u64, outcome: Outcome, fields: Vec<Field>);
    /// Facts of the whole session (database, user, server version): part of each later record's session.
    fn session(&mut self, fields: Vec<Field>);
    /// Something odd, by its stable code; `None` when it belongs to no exchange.
    fn anomaly(&mut self, id: Option<ExchangeId>, code: &'static str);
    /// Another connection may name this session by this secret (the key that a cancel request carries). It is
    /// kept as a hash, and never told.
    fn goes_by(&mut self, _secret: &[u8]) {}
    /// Exchange `id` names another session by its secret: that one's number is told as `field` of it, where the
    /// session is known, and its decoder hears of it by [`Decoder::on_named`].
    fn names_other(&mut self, _id: ExchangeId, _secret: &[u8], _field: &'static str) {}
    /// From the next byte after the frame being told, both directions carry TLS: the wire is ciphertext, the
    /// plaintext layer goes on with this decoder.
    fn switch_tls(&mut self);
    /// From the next byte after the frame being told, both directions speak what nobody decodes here.
    fn switch_unknown(&mut self);
    /// From the next byte after the frame being told, another protocol begins: its first bytes tell which.
    fn switch_probed(&mut self);
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest frame that is buffered; longer ones arrive cut.
    pub frame_bytes_max: usize,
    /// Bytes of one body that are kept.
    pub body_bytes_max: usize,
    /// Rows of one answer that are kept.
    pub rows_max: usize,
    /// Exchanges without an answer that are remembered.
    pub pending_max: usize,
    /// Named things (statements, portals) that are remembered.
    pub names_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: 256 << 10,
            body_bytes_max: 64 << 10,
            rows_max: 1000,
            pending_max: 4096,
            names_max: 4096,
        }
    }
}

/// A protocol.
pub trait Protocol: Sync {
    /// Its name in records.
    fn name(&self) -> &'static str;
    /// Where it usually listens.
    fn ports(&self) -> &'static [u16];
    /// Is it this one?
    fn probe(&self, heads: Heads<'_>) -> Probe;
    /// A decoder for one connection. `middle` when its beginning was not seen.
    fn open(&self, limits: &Limits, middle: bool) -> Box<dyn Decoder>;
}

/// The state of one connection.
pub trait Decoder: Send {
    /// Whether something may come from this direction now. While it says no (an answer before its request was
    /// seen), the driver keeps the bytes back until the other direction has gone on, at most 100 ms.
    fn expects(&self, _direction: Direction) -> bool {
        true
    }
    /// Where the frame at the head of `bytes` ends.
    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing;
    /// Exactly one frame. `cut` bytes of it are missing at its end (over a limit).
    fn on_frame(&mut self, frame: Frame<'_>, cut: u64, out: &mut dyn Out);
    /// A piece of a streamed body.
    fn on_body(&mut self, body: Body<'_>, out: &mut dyn Out);
    /// The beginning of a frame, whose rest is missing or never came: that is told next. Whether these bytes made sense;
    /// else they are counted as unparsed.
    fn on_torn(&mut self, _torn: Frame<'_>, _out: &mut dyn Out) -> bool {
        false
    }
    /// Bytes are missing here; `lost` is how many.
    fn on_gap(&mut self, direction: Direction, lost: u64, out: &mut dyn Out);
    /// Where in `bytes` a frame surely begins, after a gap: two consistent headers, not one plausible byte.
    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize>;
    /// The stream of this direction ended in order.
    fn on_end(&mut self, direction: Direction, out: &mut dyn Out);
    /// The session of this number has named this one by its secret.
    fn on_named(&mut self, _by_session: u64) {}
    /// Bytes of memory held for this connection.
    fn held_bytes(&self) -> usize;
}
