//! What a pipeline may hold, and what it counts.

use crate::level::Level;
use crate::mask::Masker;
use crate::protocol::Limits;

/// What a pipeline may hold and how it masks.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Bounds of one connection.
    pub limits: Limits,
    /// The masking stage.
    pub masker: Masker,
    /// How much is told, until [`super::Pipeline::set_level`].
    pub level: Level,
    /// Numbers of sessions that were used before: those of this pipeline follow.
    pub sessions_before: u64,
    /// Sessions held at once; sockets beyond are counted as lost.
    pub sessions_max: usize,
    /// Bytes that all sessions may hold.
    pub held_bytes_max: usize,
    /// Bytes of sockets whose first sight has not come yet.
    pub orphan_bytes_max: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        PipelineOptions {
            limits: Limits::default(),
            masker: Masker::default(),
            level: Level::default(),
            sessions_before: 0,
            sessions_max: 65_536,
            held_bytes_max: 96 << 20,
            orphan_bytes_max: 4 << 20,
        }
    }
}

/// Cumulative counters, in their units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events fed.
    pub events: u64,
    /// Bytes of chunks fed.
    pub bytes: u64,
    /// Records handed out.
    pub records: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Sockets refused over `sessions_max`.
    pub sessions_refused: u64,
    /// Bytes of sockets that were never seen, or refused.
    pub orphan_bytes: u64,
    /// Times that a session gave up what it had buffered over `held_bytes_max`.
    pub sheds: u64,
    /// Events that the rings lost.
    pub events_lost: u64,
    /// Reports of unread TLS that found no room; the sessions' own gaps stand in the record.
    pub unread_over_limit: u64,
}
