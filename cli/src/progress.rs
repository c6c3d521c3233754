//! How far long work is, on a terminal's standard error; nothing where that is none.

use std::io::{IsTerminal, Read, Write, stderr};

use custody_record::text::count;

/// Between two signs, bytes.
const STEP_BYTES: u64 = 4 << 20;

/// See the module.
pub(crate) struct Progress {
    what: &'static str,
    total: Option<u64>,
    shown: bool,
    next: u64,
}

impl Progress {
    /// `what` is a word such as "verifying"; `total` in bytes, where it is known.
    pub(crate) fn new(what: &'static str, total: Option<u64>) -> Self {
        Progress { what, total, shown: stderr().is_terminal(), next: STEP_BYTES }
    }

    /// So many bytes are done.
    pub(crate) fn at(&mut self, bytes: u64) {
        if !self.shown || bytes < self.next {
            return;
        }
        self.next = bytes + STEP_BYTES;
        let part = match self.total {
            Some(total) => format!("{:3} %", (bytes.saturating_mul(100) / total.max(1)).min(99)),
            None => format!("{} MiB", count(bytes >> 20)),
        };
        eprint!("\r{}… {part} ", self.what);
        // A sign of progress that cannot be shown costs nothing.
        let _ = stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.next > STEP_BYTES {
            eprint!("\r{:60}\r", "");
        }
    }
}

/// A source that tells how far it was read.
pub(crate) struct Told<R> {
    source: R,
    bytes: u64,
    progress: Progress,
}

impl<R> Told<R> {
    pub(crate) fn new(source: R, progress: Progress) -> Self {
        Told { source, bytes: 0, progress }
    }
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes += read as u64;
        self.progress.at(self.bytes);
        Ok(read)
    }
}
