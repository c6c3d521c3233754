//! An answer that a thread of its own writes, as long as it likes: pieces for the connection, which wait for a slow
//! reader. Knows nothing of what is written.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// A reader that takes nothing for so long is cut.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Pieces that wait for the reader.
const PIECES_MAX: usize = 16;
/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Where to write, and the body of the answer.
pub(super) fn answer(runtime: Handle) -> (Pieces, Body) {
    let (sender, body) = mpsc::channel(PIECES_MAX);
    (Pieces { sender, pending: Vec::new(), runtime }, Body::new(Answer(body)))
}

/// What is written goes to the connection in pieces. Waits for a slow reader, not for ever.
pub(super) struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    pending: Vec<u8>,
    runtime: Handle,
}

impl Pieces {
    fn send(&mut self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sent = async { tokio::time::timeout(STALL_MAX, self.sender.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the reader took nothing for too long")),
        }
    }

    /// Ends the answer so that nobody takes it for whole.
    pub(super) fn cut(&mut self) {
        // A reader that is gone needs no telling.
        let _ = self.send(Err(io::Error::other("it failed inside the sink, whose log says why")));
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = Bytes::from(std::mem::take(&mut self.pending));
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            self.send(Ok(piece))?;
        }
        Ok(())
    }
}

/// The pieces as the body of an answer.
struct Answer(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
