//! COPY data that are seen before the server's wish for them: the two directions of a connection are captured
//! apart, so the client's data may overtake the CopyInResponse that they follow. They wait here, within the
//! limit of a body, until the answer says what they are, or the server shows that it ignored them.

use crate::protocol::Limits;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct EarlyCopy {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) data: Vec<u8>,
    /// Bytes of data over the limit.
    pub(super) cut: u64,
    /// First bytes of the messages, which name those of replication, each with how many there were.
    pub(super) first_bytes: Vec<(u8, u64)>,
    fresh: bool,
    /// CopyDone or CopyFail came too.
    pub(super) done: bool,
    /// Why the client gave up.
    pub(super) failure: Option<String>,
}

impl EarlyCopy {
    /// A message of so many bytes begins.
    pub(super) fn message(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.fresh = true;
    }

    /// A piece of its data.
    pub(super) fn data(&mut self, bytes: &[u8], limits: &Limits) {
        if let (true, [first, ..]) = (self.fresh, bytes) {
            self.fresh = false;
            match self.first_bytes.iter_mut().find(|(known, _)| known == first) {
                Some((_, count)) => *count += 1,
                None => self.first_bytes.push((*first, 1)),
            }
        }
        let kept = bytes.len().min(limits.body_bytes_max.saturating_sub(self.data.len()));
        self.data.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }
}
