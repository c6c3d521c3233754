//! The way of masked records from the worker to the agent: one frame per record over their socket.
//!
//! The agent appends the body's bytes as they are: it never parses or re-serialises them, because what is
//! hashed must be what is stored. Reading a frame makes a [`Masked`] out of bytes, which no other place can: it
//! takes a [`WorkerReader`], which only the reader of the worker's socket makes (`cargo xtask check` knows that
//! one place). What the worker puts there has been through [`Masker::mask`](super::Masker::mask), since [`encode`]
//! takes nothing else.

use custody_record::{Kind, Record, Times};

use super::Masked;

/// Longest frame in bytes, its length field included. The masker keeps records far below it.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

const VERSION: u8 = 1;
const LENGTH_BYTES: usize = 4;
/// Version, kind, flags, padding; session, exchange, first, last.
const HEADER_BYTES: usize = 4 + 4 * 8;
const HAS_SESSION: u8 = 1;
const HAS_EXCHANGE: u8 = 2;

/// A record in its stored form, with what the agent needs to know of it without parsing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What kind of fact.
    pub kind: Kind,
    /// The session's number.
    pub session: Option<u64>,
    /// The exchange's number.
    pub exchange: Option<u64>,
    /// When.
    pub times: Times,
    /// The record as it is stored: MessagePack with field names.
    pub bytes: Vec<u8>,
}

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The record does not fit.
    #[error("a masked record of {bytes} bytes is longer than a frame may be ({FRAME_BYTES_MAX})")]
    TooLong {
        /// Its length with the header.
        bytes: usize,
    },
    /// It cannot be written as MessagePack.
    #[error("a masked record could not be serialised")]
    Serialise(#[from] rmp_serde::encode::Error),
    /// The other side speaks another version: agent and worker are not of one build.
    #[error("the worker speaks version {found} of the link, this agent speaks {VERSION}")]
    Version {
        /// What it spoke.
        found: u8,
    },
    /// The header makes no sense.
    #[error("a frame of the worker is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}

/// Appends the frame of this record to `out`. On an error `out` is as before.
pub fn encode(record: &Masked<Record>, out: &mut Vec<u8>) -> Result<(), LinkError> {
    let start = out.len();
    let result = append(record.get(), out, start);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append(record: &Record, out: &mut Vec<u8>, start: usize) -> Result<(), LinkError> {
    let flags = record.session.map_or(0, |_| HAS_SESSION) | record.exchange.map_or(0, |_| HAS_EXCHANGE);
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.extend_from_slice(&[VERSION, kind_code(record.kind), flags, 0]);
    for number in [
        record.session.unwrap_or(0),
        record.exchange.unwrap_or(0),
        record.times.first_ns,
        record.times.last_ns,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    rmp_serde::encode::write_named(out, record)?;
    let bytes = out.len() - start;
    match u32::try_from(bytes - LENGTH_BYTES) {
        Ok(length) if bytes <= FRAME_BYTES_MAX => {
            out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        _ => Err(LinkError::TooLong { bytes }),
    }
}

/// The right to take bytes for masked records. Whoever holds it vouches that its bytes come over the socket of a
/// worker that this process started, and from nowhere else.
#[derive(Debug)]
pub struct WorkerReader(());

impl WorkerReader {
    /// For the one place that reads the worker's socket. `cargo xtask check` refuses any other.
    pub fn at_the_socket() -> Self {
        WorkerReader(())
    }

    /// Reads the frame at the head of `bytes`: the body and how many bytes the frame took, or `None` when more
    /// bytes are needed. After an error the stream is useless: the worker must be started anew.
    pub fn decode(&self, bytes: &[u8]) -> Result<Option<(Masked<Body>, usize)>, LinkError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length < HEADER_BYTES {
            return Err(LinkError::Damaged { what: "its length is shorter than its header" });
        }
        if length > FRAME_BYTES_MAX - LENGTH_BYTES {
            return Err(LinkError::Damaged { what: "its length is over the limit" });
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let (header, body) = frame.split_at(HEADER_BYTES);
        if header[0] != VERSION {
            return Err(LinkError::Version { found: header[0] });
        }
        let kind = kind_of(header[1]).ok_or(LinkError::Damaged { what: "its kind is not known" })?;
        let flags = header[2];
        if flags & !(HAS_SESSION | HAS_EXCHANGE) != 0 || header[3] != 0 {
            return Err(LinkError::Damaged { what: "reserved bits are set" });
        }
        let number = |index: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&header[4 + index * 8..12 + index * 8]);
            u64::from_le_bytes(eight)
        };
        let body = Body {
            kind,
            session: (flags & HAS_SESSION != 0).then(|| number(0)),
            exchange: (flags & HAS_EXCHANGE != 0).then(|| number(1)),
            times: Times { first_ns: number(2), last_ns: number(3) },
            bytes: body.to_vec(),
        };
        Ok(Some((Masked::new(body), LENGTH_BYTES + length)))
    }
}

/// Each kind with its code on the link. The stored form has names; these codes live no longer than a worker.
const KINDS: [Kind; 10] = [
    Kind::SessionOpen,
    Kind::SessionClose,
    Kind::ExchangeOpen,
    Kind::ExchangePart,
    Kind::ExchangeClose,
    Kind::Exchange,
    Kind::Exec,
    Kind::Exit,
    Kind::Gap,
    Kind::Agent,
];

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::SessionOpen => 0,
        Kind::SessionClose => 1,
        Kind::ExchangeOpen => 2,
        Kind::ExchangePart => 3,
        Kind::ExchangeClose => 4,
        Kind::Exchange => 5,
        Kind::Exec => 6,
        Kind::Exit => 7,
        Kind::Gap => 8,
        Kind::Agent => 9,
    }
}

fn kind_of(code: u8) -> Option<Kind> {
    KINDS.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Class, Field};
    use crate::mask::{Draft, Masker};

    fn record(kind: Kind, session: Option<u64>) -> Masked<Record> {
        Masker::default().mask(Draft {
            kind,
            session,
            exchange: session.map(|id| id + 1),
            times: Times { first_ns: 7, last_ns: u64::MAX },
            fields: vec![Field::structure("http.request.method", "GET"), Field::new("x", "y", Class::Opaque)],
            rows: None,
            anomalies: vec!["mask_test".into()],
        })
    }

    #[test]
    fn each_kind_survives_the_link_and_the_body_is_the_stored_form() {
        for (code, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(usize::from(kind_code(kind)), code);
            let record = record(kind, (code % 2 == 0).then_some(41));
            let mut frames = vec![0xAA];
            encode(&record, &mut frames).unwrap();
            let (body, taken) = WorkerReader::at_the_socket().decode(&frames[1..]).unwrap().unwrap();
            assert_eq!(taken, frames.len() - 1);
            assert_eq!(body.get().kind, kind);
            assert_eq!(body.get().session, record.get().session);
            assert_eq!(body.get().exchange, record.get().exchange);
            assert_eq!(body.get().times, record.get().times);
            assert_eq!(body.get().bytes, rmp_serde::to_vec_named(record.get()).unwrap());
            assert_eq!(&rmp_serde::from_slice::<Record>(&body.get().bytes).unwrap(), record.get());
        }
    }

    #[test]
    fn a_frame_in_pieces_is_read_when_it_is_whole() {
        let mut frames = Vec::new();
        encode(&record(Kind::Exec, None), &mut frames).unwrap();
        for end in 0..frames.len() {
            assert!(WorkerReader::at_the_socket().decode(&frames[..end]).unwrap().is_none(), "{end} bytes");
        }
        assert!(WorkerReader::at_the_socket().decode(&frames).unwrap().is_some());
    }

    #[test]
    fn damaged_frames_are_refused_by_their_cause() {
        let mut good = Vec::new();
        encode(&record(Kind::Exec, None), &mut good).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            WorkerReader::at_the_socket().decode(&bad).unwrap_err().to_string()
        };
        assert!(with(4, 9).contains("version 9"));
        assert!(with(5, 200).contains("kind"));
        assert!(with(6, 0x80).contains("reserved"));
        assert!(with(7, 1).contains("reserved"));
        assert!(with(3, 0xFF).contains("over the limit"));
        assert!(
            WorkerReader::at_the_socket().decode(&[1, 0, 0, 0]).unwrap_err().to_string().contains("shorter")
        );
    }
}
