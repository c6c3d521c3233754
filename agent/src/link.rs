//! The one socket between agent and worker. Down: facts and orders. Up: masked records in the frames of
//! [`custody_decoders::mask::link`], and short messages. Both sides are of one build; a frame that makes no
//! sense ends the worker, never the agent.
//!
//! ```text
//! down = len32 ‖ message                     little-endian lengths, MessagePack
//! up   = 0x00 ‖ record frame | 0x01 ‖ len32 ‖ message
//! ```

use custody_decoders::event::Process;
use custody_decoders::level::Level;
use custody_decoders::mask::link::{self as records, Body, WorkerReader};
use custody_decoders::mask::{MaskRules, Masked};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attribution::users::Users;
use crate::config;

/// Longest message, bytes: a snapshot of processes is sent in portions far below it.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

const RECORD: u8 = 0;
const MESSAGE: u8 = 1;

/// What the worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// How to work; first of all.
    Setup {
        /// Bounds of decoding.
        limits: config::Limits,
        /// What is masked.
        masking: Box<MaskRules>,
        /// How much is told.
        level: Level,
        /// Session numbers that workers before it used.
        sessions_before: u64,
        /// The agent's own exchange, whose sight is reported and not recorded.
        canary: Canary,
        /// Plaintext whose connection is not known is left out, for rules go by addresses.
        leaves_out_unbound: bool,
    },
    /// Names of user ids, as they are now.
    Users(Users),
    /// Processes that were there before.
    Processes(Vec<Process>),
    /// From now on this much is told.
    Level(Level),
    /// Facts are told: read the rings.
    Begin,
    /// Tell each stage of the connections with this port, or of this process.
    Trace {
        /// Port of either end; 0 for none.
        port: u16,
        /// Process; 0 for none.
        pid: u32,
    },
    /// Sockets whose end no hook tells are gone; everything that they moved stands in the rings.
    Gone(Vec<GoneSocket>),
    /// Read what is there, end all sessions, say [`FromWorker::Finished`].
    Finish,
}

/// How the agent's own exchange is known: a connection of loopback with this port at one end, used by this
/// process. The port alone would hide whoever has it elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Where it listens; 0 for none.
    pub port: u16,
    /// The agent.
    pub pid: u32,
}

/// A socket that is gone: its name in events, and where its streams ended, ingress and egress.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GoneSocket {
    /// `struct sock *`.
    pub sock: u64,
    /// Its generation.
    pub generation: u64,
    /// Ends.
    pub ends: [u64; 2],
}

/// What the worker tells beside records.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// It has no rights any more and waits for its setup.
    Isolated,
    /// The agent's own exchange came out of the rings.
    CanarySeen,
    /// How it stands; once a second while it works.
    Figures(Figures),
    /// A process speaks TLS: its libraries must be probed.
    TlsSeen {
        /// Pid.
        pid: u32,
    },
    /// TLS that was not read since this was told last, by process.
    TlsUnread(Vec<UnreadTls>),
    /// A program started: its libraries are about to be mapped.
    Started {
        /// Pid.
        pid: u32,
    },
    /// One line of a trace. No payload.
    Trace(String),
    /// Everything was told.
    Finished,
}

/// TLS of one process that was not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnreadTls {
    /// Pid.
    pub pid: u32,
    /// Its executable.
    pub executable: String,
    /// Connections that were not told before.
    pub connections: u64,
    /// Bytes on the wire.
    pub bytes: u64,
}

/// How the worker stands; sums since it began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Events read from the rings.
    pub events: u64,
    /// Payload bytes read from the rings.
    pub bytes: u64,
    /// Events whose numbers are missing.
    pub events_lost: u64,
    /// Ring records that were no events.
    pub malformed: u64,
    /// Payload bytes that no stage could use: of sockets beyond the table, not attributed, or urgent.
    pub bytes_unused: u64,
    /// Records handed over.
    pub records: u64,
    /// The level that it tells now.
    pub level: Level,
    /// Records that the level left out.
    pub records_left_out: u64,
    /// Sessions open.
    pub sessions: u64,
    /// Payload bytes held.
    pub held_bytes: u64,
    /// Payload bytes of TLS that no socket is known for.
    pub tls_unbound_bytes: u64,
    /// Among those, which were left out because rules go by addresses.
    pub tls_left_out_bytes: u64,
    /// Records that could not be framed.
    pub records_failed: u64,
}

/// Why the link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A length over the limit.
    #[error("a message of {bytes} bytes is over the limit of {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A tag of neither kind.
    #[error("a frame begins with {tag}, which is neither record nor message")]
    Tag {
        /// The byte.
        tag: u8,
    },
    /// A message that cannot be read.
    #[error("a message cannot be read")]
    Decode(#[from] rmp_serde::decode::Error),
    /// A message that cannot be written.
    #[error("a message cannot be written")]
    Encode(#[from] rmp_serde::encode::Error),
    /// A record frame that makes no sense.
    #[error(transparent)]
    Record(#[from] records::LinkError),
}

/// A frame from the worker.
#[derive(Debug)]
pub enum Up {
    /// A record.
    Record(Masked<Body>),
    /// A message.
    Message(FromWorker),
}

/// Appends a message to the worker.
pub fn put_down(out: &mut Vec<u8>, message: &ToWorker) -> Result<(), LinkError> {
    put(out, message)
}

/// The message at the head of `bytes` and its length; `None` when more bytes are needed.
pub fn take_down(bytes: &[u8]) -> Result<Option<(ToWorker, usize)>, LinkError> {
    take(bytes)
}

/// Appends a message to the agent.
pub fn put_up(out: &mut Vec<u8>, message: &FromWorker) -> Result<(), LinkError> {
    out.push(MESSAGE);
    put(out, message)
}

/// Appends a record to the agent. On an error `out` is as before.
pub fn put_record(out: &mut Vec<u8>, record: &Masked<custody_record::Record>) -> Result<(), LinkError> {
    out.push(RECORD);
    let result = records::encode(record, out);
    if result.is_err() {
        out.pop();
    }
    Ok(result?)
}

/// The frame at the head of `bytes`, which came over the worker's socket, and its length; `None` when more bytes
/// are needed.
pub fn take_up(reader: &WorkerReader, bytes: &[u8]) -> Result<Option<(Up, usize)>, LinkError> {
    let Some((&tag, rest)) = bytes.split_first() else { return Ok(None) };
    let taken = match tag {
        RECORD => reader.decode(rest)?.map(|(body, length)| (Up::Record(body), length)),
        MESSAGE => take(rest)?.map(|(message, length)| (Up::Message(message), length)),
        tag => return Err(LinkError::Tag { tag }),
    };
    Ok(taken.map(|(up, length)| (up, length + 1)))
}

fn put(out: &mut Vec<u8>, message: &impl Serialize) -> Result<(), LinkError> {
    let bytes = rmp_serde::to_vec_named(message)?;
    match u32::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= MESSAGE_BYTES_MAX => out.extend_from_slice(&length.to_le_bytes()),
        _ => return Err(LinkError::TooLong { bytes: bytes.len() }),
    }
    out.extend_from_slice(&bytes);
    Ok(())
}

fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, LinkError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(LinkError::TooLong { bytes: length });
    }
    let Some(message) = rest.get(..length) else { return Ok(None) };
    Ok(Some((rmp_serde::from_slice(message)?, length + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_only_when_they_are_whole() {
        let mut bytes = Vec::new();
        put_up(&mut bytes, &FromWorker::TlsSeen { pid: 7 }).unwrap();
        for end in 0..bytes.len() {
            assert!(take_up(&WorkerReader::at_the_socket(), &bytes[..end]).unwrap().is_none());
        }
        let (up, length) = take_up(&WorkerReader::at_the_socket(), &bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        assert!(matches!(up, Up::Message(FromWorker::TlsSeen { pid: 7 })));
    }

    #[test]
    fn a_worker_that_lies_about_lengths_is_refused() {
        assert!(matches!(
            take_up(&WorkerReader::at_the_socket(), &[1, 255, 255, 255, 255]),
            Err(LinkError::TooLong { .. })
        ));
        assert!(matches!(take_up(&WorkerReader::at_the_socket(), &[9]), Err(LinkError::Tag { tag: 9 })));
        assert!(matches!(
            take_up(&WorkerReader::at_the_socket(), &[1, 1, 0, 0, 0, 0xc1]),
            Err(LinkError::Decode(_))
        ));
    }

    #[test]
    fn a_setup_survives_the_way() {
        let mut bytes = Vec::new();
        let setup = ToWorker::Setup {
            limits: config::Limits::default(),
            masking: Box::default(),
            level: Level::Summary,
            sessions_before: 3,
            canary: Canary { port: 9, pid: 7 },
            leaves_out_unbound: true,
        };
        put_down(&mut bytes, &setup).unwrap();
        let (back, _) = take_down(&bytes).unwrap().unwrap();
        assert_eq!(format!("{back:?}"), format!("{setup:?}"));
    }
}
